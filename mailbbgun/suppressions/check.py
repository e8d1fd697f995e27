"""The check: which of these recipients are suppressed?

A tenant without suppressions costs nothing: ``tenants.has_suppressions`` says so to accept (through
the caller) and to the statement that claims, and then nobody asks here.
"""

from collections.abc import Collection
from functools import cache
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import String, Uuid, or_, select

from mailbbgun.database.compiled import CompiledStatement
from mailbbgun.database.db import Database, db_now
from mailbbgun.database.sql import recordset, rows
from mailbbgun.suppressions.models import SUPPRESSIONS
from mailbbgun.suppressions.targets import concerning


class TenantRecipient(NamedTuple):
    """A recipient of a tenant's message. ``test``: it is a test message."""

    tenant_id: UUID
    test: bool
    address: str


def suppressed(database: Database, recipients: Collection[TenantRecipient]) -> set[TenantRecipient]:
    """Return the suppressed ones among recipients, of any tenants, by one statement.

    Raises :class:`DatabaseUnavailable`.
    """
    wanted = {(one.tenant_id, target) for one in recipients for target in concerning(one.address)}
    given = {"targets": rows([{"tenant": tenant.hex, "target": target} for tenant, target in sorted(wanted)])}
    found = {(tenant, bool(test), target) for tenant, test, target in database.find(_find(database.dialect), given)}
    return {
        one
        for one in recipients
        if any((one.tenant_id, one.test, target) in found for target in concerning(one.address))
    }


@cache
def _find(dialect: str) -> CompiledStatement:
    its = SUPPRESSIONS.c
    given = recordset(dialect, "targets", {"tenant": Uuid(), "target": String()})
    same = (its.tenant_id == given.c.tenant, its.target == given.c.target)
    standing = or_(its.expires_at.is_(None), its.expires_at > db_now())
    return CompiledStatement(select(its.tenant_id, its.test, its.target).where(*same, standing), of_all_tenants=True)
