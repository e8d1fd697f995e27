"""``mailbbgun audit``: a timeline of what was done to tenants, API keys and SMTP accounts.

The table ``audit`` records who read which password. All other entries come from the timestamps that
tenants, keys and accounts keep of themselves. So of an account only the last change is known, of a
key only the last use, and of deleted things nothing.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import click
from sqlalchemy import select
from sqlalchemy.orm import Session

from mailbbgun.cli.terminal import (
    PAGE,
    all_pages,
    as_json,
    of_tenant,
    opened,
    print_json,
    print_table,
    tenant_called,
    typed_options,
)
from mailbbgun.core.clock import rfc3339
from mailbbgun.database.db import db_now
from mailbbgun.smtp_accounts import repo as accounts
from mailbbgun.smtp_accounts.models import SMTPAccount
from mailbbgun.tenants import repo
from mailbbgun.tenants.models import ApiKey, AuditEntry, Tenant

COLUMNS = ("at", "action", "tenant", "name", "by_key", "address", "id")
MOST = 100_000

Entry = dict[str, Any]


@click.command()
@of_tenant
@click.option("--all", "every", is_flag=True, help="Show all tenants.")
@click.option("--limit", type=click.IntRange(1, MOST), default=100, show_default=True, help="Most entries to show.")
@as_json
@click.pass_context
def audit(context: click.Context, /, tenant: str, every: bool, limit: int, as_json: bool) -> None:
    """Show what was done to a tenant, its keys and its accounts, and who read a password, newest
    first.

    Of an account only the last change is known, of a key only the last use, to within some seconds;
    of what was deleted nothing.
    """
    if every and "tenant" in typed_options(context):
        raise click.UsageError("--all is of every tenant, --tenant of one; give one or the other.")
    with opened() as services, services.db.read() as session:
        found, count = _timeline(session, None if every else tenant_called(session, tenant), limit)
    shown = [one | {"at": rfc3339(one["at"])} for one in found]
    if as_json:
        print_json({"audit": shown, "count": count})
        return
    print_table(shown, COLUMNS)
    if len(found) < count:
        click.echo(f"{len(found)} of {count}; --limit shows more", err=True)


def _timeline(session: Session, tenant: Tenant | None, limit: int) -> tuple[list[Entry], int]:
    """Return the newest entries about a tenant, or all tenants, newest first, and their total
    number.
    """
    its = tenant.id if tenant else None
    read, readings, _ = repo.audit(session, its, limit=limit, offset=0, after=None)
    keys = all_pages(lambda after: repo.keys(session, its, limit=PAGE, offset=0, after=after))
    # Read last: tenants are never deleted, so every tenant of the things above is found.
    tenants = [tenant] if tenant else all_pages(lambda after: repo.tenants(session, limit=PAGE, offset=0, after=after))
    names, prefixes = {one.id: one.name for one in tenants}, {one.id: one.prefix for one in keys}
    now = session.scalars(select(db_now())).one()
    owned = accounts.of_tenants(session, list(names))
    kept = [
        *(entry for one in tenants for entry in _of_tenant(one)),
        *(entry for one in keys for entry in _of_key(one, names, now)),
        *(entry for its_accounts in owned.values() for entry in _of_accounts(its_accounts, names)),
    ]
    found = kept + [_of_reading(one, names, prefixes) for one in read]
    found.sort(key=lambda one: (one["at"], str(one["id"])), reverse=True)
    return found[:limit], len(kept) + readings


def _of_tenant(tenant: Tenant) -> Iterator[Entry]:
    yield _entry(tenant.created_at, "tenant.created", tenant.name, tenant.name, tenant.id)


def _of_key(key: ApiKey, names: Mapping[UUID, str], now: datetime) -> Iterator[Entry]:
    moments = {
        "key.created": key.created_at,
        "key.rotated": key.rotated_at,
        "key.revoked": key.revoked_at,
        "key.expired": key.expires_at if _has_expired(key, now) else None,
        "key.last_used": key.last_used_at,
    }
    for action, at in moments.items():
        if at is not None:
            yield _entry(at, action, names[key.tenant_id], f"{key.prefix} {key.name}", key.id)


def _has_expired(key: ApiKey, now: datetime) -> bool:
    """Return whether a key reached its expiry without being revoked before."""
    if key.expires_at is None or key.expires_at > now:
        return False
    return key.revoked_at is None or key.expires_at < key.revoked_at


def _of_accounts(owned: Sequence[SMTPAccount], names: Mapping[UUID, str]) -> Iterator[Entry]:
    for account in owned:
        about = (names[account.tenant_id], account.setting_name, account.id)
        yield _entry(account.created_at, "account.created", *about)
        if account.updated_at != account.created_at:
            yield _entry(account.updated_at, "account.changed", *about)


def _of_reading(entry: AuditEntry, names: Mapping[UUID, str], prefixes: Mapping[UUID, str]) -> Entry:
    name, account_id = entry.data.get("setting_name") or entry.data.get("name"), entry.data.get("account_id")
    by_key = prefixes.get(entry.key_id, str(entry.key_id)) if entry.key_id else None
    who = {"by_key": by_key, "address": entry.address}
    return _entry(entry.at, entry.action, names[entry.tenant_id], name, account_id, **who)


def _entry(
    at: datetime, action: str, tenant: str, name: str | None, identifier: UUID | str | None, **who: str | None
) -> Entry:
    """Return an entry. ``who`` has ``by_key`` and the IP ``address``."""
    about = {"at": at, "action": action, "tenant": tenant, "name": name, "id": identifier}
    return about | {"by_key": None, "address": None} | who
