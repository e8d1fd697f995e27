"""Knows the domains whose mail is delivered here: for doors at RCPT, and for workers that choose a route."""

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import select, true

from mailbbgun.core.errors import DatabaseUnavailable
from mailbbgun.database.compiled import CompiledStatement
from mailbbgun.database.db import Database
from mailbbgun.domains.models import Policy, SendingDomain

#: Seconds after which the domains are read again.
FRESH_SECONDS = 0.25

#: Seconds after a change until which a process may not know it. Who makes one waits for them, so that mail that
#: is sent after its answer already takes the new way.
SETTLING_SECONDS = 2 * FRESH_SECONDS


@dataclass(frozen=True, slots=True)
class LocalDomain:
    """A domain whose mail is delivered here: to mailboxes of its tenant.

    ``for_all``: also mail that other tenants submit. Otherwise that leaves as any other, and comes back
    by the MX port if the DNS says so: nobody gets others' mail by calling a domain his own. ``policy`` is for
    mail that comes by that port.
    """

    name: str
    tenant_id: UUID
    for_all: bool
    policy: Policy = "none"

    def takes_from(self, tenant_id: UUID) -> bool:
        """Return whether mail that this tenant submits is delivered here."""
        return self.for_all or self.tenant_id == tenant_id


_ALL = CompiledStatement(
    select(SendingDomain.name, SendingDomain.tenant_id, SendingDomain.local_for_all, SendingDomain.policy).where(
        SendingDomain.local == true()
    ),
    of_all_tenants=True,
)


class _Known(NamedTuple):
    """The domains as the database had them at ``asked`` (monotonic seconds), or after it."""

    domains: Mapping[str, LocalDomain]
    asked: float


class LocalDomains:
    """The local domains of all tenants, as they were a moment ago (``SETTLING_SECONDS``). Thread-safe.

    While the database is away they stay as they were.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._reading = threading.Lock()
        self._known: _Known | None = None

    def of(self, domain: str) -> LocalDomain | None:
        """Return the local domain of this name, which is in A-labels and lower case; None: it is not local.

        Raises :class:`DatabaseUnavailable` if the domains have never been read.
        """
        known, now = self._known, time.monotonic()
        if known is None or now - known.asked >= FRESH_SECONDS:
            known = self._read(known, now)
        return known.domains.get(domain)

    def _read(self, known: _Known | None, now: float) -> _Known:
        """Read the domains, unless another thread does so now, and those that are known are not too old."""
        usable = known is not None and now - known.asked < SETTLING_SECONDS
        if not self._reading.acquire(blocking=not usable):
            assert known is not None  # else it would have waited
            return known
        try:
            if self._known is not None and self._known.asked >= now:
                return self._known  # another thread has read them while this one waited
            asked = time.monotonic()
            self._known = _Known({row[0]: LocalDomain(*row) for row in self._database.find(_ALL, {})}, asked)
        except DatabaseUnavailable:
            if self._known is None:
                raise
            self._known = self._known._replace(asked=time.monotonic())
        finally:
            self._reading.release()
        return self._known
