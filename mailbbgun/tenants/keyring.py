"""Caches API keys in each process: the keys in use, and for a while the prefixes that no key has.

A thread checks twice a second whether any key, tenant or SMTP account has changed. The check is one
small statement; only after a change does the thread read the keys in use again. So a revoked key
is refused in each process within a second. A key that expires ends on time, without a check. While
the database cannot be read, cached keys become stale and requests must ask the database themselves.

Requests with keys that are not cached share a look-up: one statement at a time, for all that wait.
However many clients guess keys, they use one connection.
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

from mailbbgun.core.caller import ANYBODY, ANYONE, Caller, DuplicatePolicy, Identity, KeyKind, known_scopes
from mailbbgun.core.errors import DatabaseUnavailable, MailBBGunError
from mailbbgun.core.ids import DEFAULT_TENANT
from mailbbgun.core.outages import Outages
from mailbbgun.database.db import Database
from mailbbgun.tenants import repo
from mailbbgun.tenants.models import SUSPENDED, Tenant
from mailbbgun.tenants.repo import Found

#: Seconds between two checks for changes.
CHECK_SECONDS = 0.4
#: Seconds for which a cached key is fresh after it was read or confirmed.
FRESH_SECONDS = 0.9
#: Seconds that may pass between ``Authenticator.at_hand`` and the use of the key.
LEEWAY = 0.05
#: Seconds after which the keys in use are read again even if nothing has changed.
READ_SECONDS = 30.0
#: Seconds after which a key without requests leaves the cache.
IDLE_SECONDS = 30.0
#: Seconds between two writes of when keys were last used.
WRITE_SECONDS = 5.0
#: Seconds for which the process remembers that no key has a prefix.
MISSING_SECONDS = 10.0
#: Most keys in the cache, and most prefixes remembered as missing.
MOST_KNOWN = 10_000
#: Rows of the count of changes above which they are summed up.
MOST_ROWS = 100
#: The prefix under which the caller without a key is cached: the tenant ``default``.
NOBODY = ""

log = logging.getLogger("mailbbgun.auth")

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Identities = Callable[[Session, Collection[UUID]], Mapping[UUID, Identity]]
"""Returns the sender identity of each of these tenants that has SMTP accounts."""


@dataclass(slots=True)
class KnownKey:
    """A cached key. Times are monotonic seconds."""

    hash: str
    caller: Caller
    networks: tuple[Network, ...]
    ends: float  # when the key expires; in the past if it has ended
    seen: float  # start of the statement that read it
    used: float

    @property
    def over(self) -> bool:
        """Whether the key has expired or was revoked."""
        return time.monotonic() >= self.ends


class _Check(NamedTuple):
    """The thread's last check: keys read at ``read`` or later had not changed at ``confirmed``."""

    read: float
    confirmed: float


class _Batch:
    """One look-up of the prefixes of several requests."""

    def __init__(self) -> None:
        self.prefixes: set[str] = set()
        self.over = threading.Event()
        self.found: Mapping[str, KnownKey] = {}
        self.error: Exception | None = DatabaseUnavailable("the look-up was broken off")


class Keyring:
    """The cache of keys. Thread-safe.

    Its thread starts with the first look-up, and so in the process that serves requests.
    """

    def __init__(
        self, db: Database, identities: Identities, per_minute: int | None, outages: Outages | None = None
    ) -> None:
        """Create an empty cache.

        ``per_minute``: requests a minute for keys without a limit of their own.
        """
        self._outages = outages or Outages()
        self._db = db
        self._identities = identities
        self._per_minute = per_minute
        self._read_again = False  # all keys, although the database has not changed
        self._lock = threading.Lock()
        self._known: dict[str, KnownKey] = {}
        self._missing: OrderedDict[str, float] = OrderedDict()  # prefixes without a key → when that was read
        self._last_check = _Check(float("inf"), float("-inf"))
        self._changes: int | None = None  # the count at the last check; None: not known
        self._read_at = float("-inf")
        self._next_batch = _Batch()  # new requests join it until its statement starts
        self._statement = threading.Lock()  # held while the statement of a batch runs
        self._used: dict[UUID, datetime] = {}
        self._thread: threading.Thread | None = None
        self._closed = threading.Event()

    def get(self, prefix: str, leeway: float = 0.0) -> KnownKey | None:
        """Return what the cache knows of a prefix; None if the database must be asked.

        The entry stays fresh for at least ``leeway`` seconds. Never waits.
        """
        known, now = self._known.get(prefix), time.monotonic() + leeway
        if known is None:
            return _missing_key(now) if now - self._missing.get(prefix, float("-inf")) < MISSING_SECONDS else None
        check = self._last_check
        return known if now - (check.confirmed if known.seen >= check.read else known.seen) < FRESH_SECONDS else None

    def remembered(self, prefix: str) -> KnownKey | None:
        """Return a key as it was when it was last looked up, however long ago. Never waits."""
        return self._known.get(prefix)

    def look_up(self, prefix: str) -> KnownKey:
        """Return a key, from the database if it is not cached.

        Raises :class:`DatabaseUnavailable`.
        """
        known = self.get(prefix) or self._look_up_in_batch(prefix).get(prefix) or _missing_key(time.monotonic())
        known.used = time.monotonic()
        return known

    def limit(self, per_minute: int | None) -> None:
        """Let keys without a limit of their own make so many requests a minute. All keys are soon read again."""
        self._per_minute, self._read_again = per_minute, True

    def forget(self, tenant_id: UUID) -> None:
        """Forget the keys of a tenant, which this process has changed: the next request reads them again."""
        with self._lock:
            for prefix in [one for one, known in self._known.items() if known.caller.tenant_id == tenant_id]:
                del self._known[prefix]

    def note_use(self, key_id: UUID) -> None:
        """Remember that a key was used now."""
        with self._lock:
            self._used[key_id] = datetime.now(UTC)

    def close(self) -> None:
        """Stop the thread, which first writes down when keys were last used."""
        self._closed.set()
        if self._thread is not None:
            self._thread.join(5.0)

    def _look_up_in_batch(self, prefix: str) -> Mapping[str, KnownKey]:
        """Read a key in one statement together with all requests that wait for one.

        The first request of a batch waits for the statement before, then reads for the batch.
        """
        with self._lock:
            batch, first = self._next_batch, not self._next_batch.prefixes
            batch.prefixes.add(prefix)
        if not first:
            batch.over.wait()
        else:
            with self._statement:
                with self._lock:
                    self._next_batch = _Batch()
                try:
                    batch.found, batch.error = self._load(sorted(batch.prefixes)), None
                except Exception as error:  # noqa: BLE001 - each request of the batch raises it below
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
            self._replace(prefixes, found)
            for prefix in set(prefixes) - found.keys():
                self._missing[prefix] = now
                self._missing.move_to_end(prefix)
                if len(self._missing) > MOST_KNOWN:
                    self._missing.popitem(last=False)
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="keys", daemon=True)
                thread.start()
                self._thread = thread  # set after start(): if it fails, the next look-up tries again
        return found

    def _replace(self, prefixes: Collection[str], found: Mapping[str, KnownKey]) -> None:
        """Replace cached keys by those that were read. The caller holds the lock.

        Readers do not take the lock, so each key is replaced in one step.
        """
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
            duplicate_seconds=key.duplicate_seconds,
            holds_duplicates=key.duplicate_policy == DuplicatePolicy.HOLD,
            identity=identities.get(tenant.id, ANYONE),
            **_tenant_values(tenant),
        )
        networks = tuple(ipaddress.ip_network(network) for network in key.networks)
        ends = float("-inf") if found.ended else now + found.left if found.left is not None else float("inf")
        return KnownKey(key.hash, caller, networks, ends, seen=now, used=now)

    def _nobody(self, session: Session, identities: Mapping[UUID, Identity], now: float) -> KnownKey:
        tenant = repo.tenant(session, DEFAULT_TENANT)
        its = _tenant_values(tenant) if tenant else {}
        caller = replace(
            ANYBODY, requests_per_minute=self._per_minute, identity=identities.get(DEFAULT_TENANT, ANYONE), **its
        )
        return KnownKey("", caller, (), float("inf"), seen=now, used=now)

    def _run(self) -> None:
        written = time.monotonic()
        while not self._closed.wait(CHECK_SECONDS):
            try:
                self._check_for_changes()
                self._outages.worked("database", "keys")
                if time.monotonic() - written >= WRITE_SECONDS:
                    self._forget_idle()
                    self._note_uses()
                    written = time.monotonic()
            except DatabaseUnavailable as error:  # the cache becomes stale, and requests meet the error themselves
                self._changes = None
                self._outages.failed("keys", error)
            except Exception:  # a read-only standby, or a bug; without the thread each request would ask the database
                self._changes = None
                log.exception("keys_thread_failed")
        try:
            self._note_uses()
        except DatabaseUnavailable as error:
            log.warning("uses_not_noted", extra={"error": str(error)})

    def _check_for_changes(self) -> None:
        """Check for changes; after one, or long after the last read, read the keys in use again."""
        if not self._known:
            return
        now = time.monotonic()
        with self._db.read() as session:
            # The count is read first: a commit between the two statements is found by the next
            # check.
            counted = repo.changes(session, sure=self._changes is not None)
            changes = counted.n if counted else None
            same = changes is not None and changes == self._changes and not self._read_again
            if same and now - self._read_at < READ_SECONDS:
                self._last_check = _Check(self._last_check.read, now)
                return
            self._read_again = False
            with self._lock:
                prefixes = list(self._known)
                self._missing.clear()
                # Taken after the count: a key that a request reads from now on is at least as new
                # as the count. A key that a request read earlier but caches later is not in
                # ``prefixes``, and may be older than the count.
                now = time.monotonic()
            found = self._read(session, prefixes, now)
        with self._lock:
            self._replace(prefixes, found)
        self._last_check, self._changes, self._read_at = _Check(now, now), changes, now
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
                    repo.record_uses(session, noted)
        except DatabaseUnavailable:
            with self._lock:
                self._used = noted | self._used
            raise


def _missing_key(now: float) -> KnownKey:
    """Return the entry of a key that does not exist: it has ended and matches no secret."""
    return KnownKey("", Caller(DEFAULT_TENANT), (), float("-inf"), seen=now, used=now)


def _tenant_values(tenant: Tenant) -> dict[str, Any]:
    return {
        "suspended": tenant.status == SUSPENDED,
        "tenant_requests_per_minute": tenant.max_requests_per_minute,
        "messages_per_day": tenant.max_messages_per_day,
        "has_suppressions": tenant.has_suppressions,
    }
