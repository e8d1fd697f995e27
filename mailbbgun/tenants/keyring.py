"""What one process knows of API keys: those in use, and for a while prefixes of which there is no key.

A thread looks twice a second whether any key, tenant or SMTP account has changed, which is one small statement, and only then reads the keys in use
again. So what is revoked or suspended counts within a second; a key that expires does so by its own time. While the database cannot be read, what is
known grows old, and requests must ask themselves.

Requests that show a key that is not known look it up together: one statement at a time, for all of them. However many guess, they use one connection.
"""

import ipaddress
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy.orm import Session

from mailbbgun.core.caller import ANYBODY, ANYONE, Caller, Identity, KeyKind, known_scopes
from mailbbgun.core.errors import DatabaseUnavailable, MailBBGunError
from mailbbgun.core.ids import DEFAULT_TENANT
from mailbbgun.core.outages import Outages
from mailbbgun.database.db import Database
from mailbbgun.tenants import repo
from mailbbgun.tenants.models import SUSPENDED, Tenant
from mailbbgun.tenants.repo import Found

LOOK_SECONDS = 0.4  # between looks whether something has changed
FRESH_SECONDS = 0.9  # how old what we know of a key may be
LEEWAY = 0.05  # seconds between being told that it is at hand and asking for it
READ_SECONDS = 30.0  # after which the keys in use are read again although nothing has changed
IDLE_SECONDS = 30.0  # a key that was not used for so long is no longer looked at
WRITE_SECONDS = 5.0  # between notes of when keys were used last
MISSING_SECONDS = 10.0  # how long it is remembered that there is no key of a prefix
MOST_KNOWN = 10_000  # keys in use at once that one process looks after; and prefixes without a key that it remembers
MOST_ROWS = 100  # of the count of changes, before they are summed up
NOBODY = ""  # in the place of a prefix: the tenant default, for who shows no key

log = logging.getLogger("mailbbgun.auth")

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Identities = Callable[[Session, Collection[UUID]], Mapping[UUID, Identity]]
"""As whom each of these tenants sends, of those of which there is something to say."""


@dataclass(slots=True)
class KnownKey:
    """A key as this process knows it. Moments are monotonic seconds."""

    hash: str
    caller: Caller
    networks: tuple[Network, ...]
    ends: float  # when it expires; it is over if that was before
    seen: float  # when the database began to be asked
    used: float

    @property
    def over(self) -> bool:
        """Whether it has expired or was revoked."""
        return time.monotonic() >= self.ends


class _Look(NamedTuple):
    """What the thread has seen last. Keys read at ``read`` or later were still as they are at ``confirmed``."""

    read: float
    confirmed: float


class _KeyLookUp:
    """Prefixes that several requests ask for together."""

    def __init__(self) -> None:
        self.prefixes: set[str] = set()
        self.over = threading.Event()
        self.found: Mapping[str, KnownKey] = {}
        self.error: Exception | None = DatabaseUnavailable("the look-up was broken off")


class Keyring:
    """Thread-safe; its thread starts with the first request, so it belongs to the process that serves."""

    def __init__(
        self, db: Database, identities: Identities, per_minute: int | None, outages: Outages | None = None
    ) -> None:
        """Keys without a limit of their own may ask ``per_minute`` times a minute."""
        self._outages = outages or Outages()
        self._db = db
        self._identities = identities
        self._per_minute = per_minute
        self._lock = threading.Lock()
        self._known: dict[str, KnownKey] = {}
        self._missing: OrderedDict[str, float] = OrderedDict()  # prefixes without a key → when that was so
        self._look = _Look(float("inf"), float("-inf"))
        self._changes: int | None = None  # the count of changes at the last look; None: it is not known
        self._read_at = float("-inf")
        self._gathering = _KeyLookUp()
        self._asking = threading.Lock()
        self._used: dict[UUID, datetime] = {}
        self._thread: threading.Thread | None = None
        self._closed = threading.Event()

    def get(self, prefix: str, leeway: float = 0.0) -> KnownKey | None:
        """Return what is known of a key and will be fresh for ``leeway`` seconds more; None if the database must be asked. Waits for nobody."""
        known, now = self._known.get(prefix), time.monotonic() + leeway
        if known is None:
            return _none(now) if now - self._missing.get(prefix, float("-inf")) < MISSING_SECONDS else None
        look = self._look
        return known if now - (look.confirmed if known.seen >= look.read else known.seen) < FRESH_SECONDS else None

    def look_up(self, prefix: str) -> KnownKey:
        """Return what is known of a key, asking the database if need be. Raises :class:`DatabaseUnavailable`."""
        known = self.get(prefix) or self._ask(prefix).get(prefix) or _none(time.monotonic())
        known.used = time.monotonic()
        return known

    def note_use(self, key_id: UUID) -> None:
        """Remember that a key was used just now."""
        with self._lock:
            self._used[key_id] = datetime.now(UTC)

    def close(self) -> None:
        """Stop looking, and note what was used."""
        self._closed.set()
        if self._thread is not None:
            self._thread.join(5.0)

    def _ask(self, prefix: str) -> Mapping[str, KnownKey]:
        """Ask the database together with who else asks: the first of them waits for the statement before, and asks for all."""
        with self._lock:
            batch, first = self._gathering, not self._gathering.prefixes
            batch.prefixes.add(prefix)
        if not first:
            batch.over.wait()
        else:
            with self._asking:
                with self._lock:
                    self._gathering = _KeyLookUp()
                try:
                    batch.found, batch.error = self._load(sorted(batch.prefixes)), None
                except Exception as error:  # noqa: BLE001 - raised below, in each of them
                    batch.error = error
                finally:
                    batch.over.set()
        if isinstance(batch.error, MailBBGunError):
            raise DatabaseUnavailable(batch.error.message) from batch.error
        if batch.error is not None:
            raise batch.error
        return batch.found

    def _load(self, prefixes: list[str]) -> Mapping[str, KnownKey]:
        now = time.monotonic()
        with self._db.read() as session:
            found = self._read(session, prefixes, now)
        with self._lock:
            self._keep(prefixes, found)
            for prefix in set(prefixes) - found.keys():
                self._missing[prefix] = now
                self._missing.move_to_end(prefix)
                if len(self._missing) > MOST_KNOWN:
                    self._missing.popitem(last=False)
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="keys", daemon=True)
                thread.start()
                self._thread = thread  # not before: one that could not start would never look
        return found

    def _keep(self, prefixes: Collection[str], found: Mapping[str, KnownKey]) -> None:
        """Put what was read in the place of what was known. The caller holds the lock; others look without it, so each key changes in one step."""
        for prefix in prefixes:
            before, new = self._known.get(prefix), found.get(prefix)
            if new is None:
                self._known.pop(prefix, None)
            elif before is None:
                if len(self._known) < MOST_KNOWN:
                    self._known[prefix] = new
            elif before.seen <= new.seen:
                new.used = before.used
                self._known[prefix] = new

    def _read(self, session: Session, prefixes: Collection[str], now: float) -> dict[str, KnownKey]:
        rows = repo.lookup(session, prefixes)
        tenants = {row.tenant.id for row in rows} | ({DEFAULT_TENANT} if NOBODY in prefixes else set())
        identities = self._identities(session, tenants)
        found = {row.key.prefix: self._known_by(row, identities, now) for row in rows}
        if NOBODY in prefixes:
            found[NOBODY] = self._nobody(session, identities, now)
        return found

    def _known_by(self, found: Found, identities: Mapping[UUID, Identity], now: float) -> KnownKey:
        key, tenant = found.key, found.tenant
        caller = Caller(
            tenant_id=tenant.id,
            key_id=key.id,
            kind=KeyKind(key.kind),
            scopes=known_scopes(key.scopes),
            senders=frozenset(key.senders),
            guests=frozenset(key.guests),
            requests_per_minute=key.max_requests_per_minute or self._per_minute,
            identity=identities.get(tenant.id, ANYONE),
            **_of_tenant(tenant),
        )
        networks = tuple(ipaddress.ip_network(network) for network in key.networks)
        ends = float("-inf") if found.ended else now + found.left if found.left is not None else float("inf")
        return KnownKey(key.hash, caller, networks, ends, seen=now, used=now)

    def _nobody(self, session: Session, identities: Mapping[UUID, Identity], now: float) -> KnownKey:
        tenant = repo.tenant(session, DEFAULT_TENANT)
        its = _of_tenant(tenant) if tenant else {}
        caller = replace(
            ANYBODY, requests_per_minute=self._per_minute, identity=identities.get(DEFAULT_TENANT, ANYONE), **its
        )
        return KnownKey("", caller, (), float("inf"), seen=now, used=now)

    def _run(self) -> None:
        written = time.monotonic()
        while not self._closed.wait(LOOK_SECONDS):
            try:
                self._look_again()
                self._outages.worked("database", "keys")
                if time.monotonic() - written >= WRITE_SECONDS:
                    self._forget_idle()
                    self._note_uses()
                    written = time.monotonic()
            except DatabaseUnavailable as error:  # what we know grows old, and requests find out by themselves
                self._changes = None
                self._outages.failed("keys", error)
            except Exception:  # a standby that cannot be written, a bug of ours: without this thread each request would ask the database
                self._changes = None
                log.exception("keys_thread_failed")
        try:
            self._note_uses()
        except DatabaseUnavailable as error:
            log.warning("uses_not_noted", extra={"error": str(error)})

    def _look_again(self) -> None:
        """Read the keys in use if something has changed, or has not been read for long; else note that they are as they were."""
        if not self._known:
            return
        now = time.monotonic()
        with self._db.read() as session:
            # The count first: what is committed between the two statements is counted at the next look.
            counted = repo.changes(session, sure=self._changes is not None)
            changes = counted.n if counted else None
            if changes is not None and changes == self._changes and now - self._read_at < READ_SECONDS:
                self._look = _Look(self._look.read, now)
                return
            with self._lock:
                prefixes = list(self._known)
                self._missing.clear()
                # After the count: what a request reads from here on is as new as that. What one has read before, and keeps later, is not
                # among these, and may be older than what was counted.
                now = time.monotonic()
            found = self._read(session, prefixes, now)
        with self._lock:
            self._keep(prefixes, found)
        self._look, self._changes, self._read_at = _Look(now, now), changes, now
        if counted and counted.rows > MOST_ROWS:
            with self._db.write() as session:
                repo.sum_up_changes(session)

    def _forget_idle(self) -> None:
        with self._lock:
            now = time.monotonic()
            for prefix in [prefix for prefix, known in self._known.items() if now - known.used > IDLE_SECONDS]:
                del self._known[prefix]

    def _note_uses(self) -> None:
        with self._lock:
            noted, self._used = self._used, {}
        try:
            if noted:
                with self._db.write() as session:
                    repo.used(session, noted)
        except DatabaseUnavailable:
            with self._lock:
                self._used = noted | self._used
            raise


def _none(now: float) -> KnownKey:
    """Return what is known of a key that is not there."""
    return KnownKey("", Caller(DEFAULT_TENANT), (), float("-inf"), seen=now, used=now)


def _of_tenant(tenant: Tenant) -> dict[str, Any]:
    return {
        "suspended": tenant.status == SUSPENDED,
        "tenant_requests_per_minute": tenant.max_requests_per_minute,
        "messages_per_day": tenant.max_messages_per_day,
    }
