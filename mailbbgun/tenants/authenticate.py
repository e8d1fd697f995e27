"""From what a request shows to who asks. Keys in use are looked at anew by a thread of each process, twice a second.

So what is revoked, expired or suspended counts within a second everywhere, and a request whose key is known asks nobody. A key that was not
seen for a while is looked up by the request itself.
"""

import base64
import ipaddress
import logging
import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from mailbbgun.base.caller import ANYBODY, ANYONE, Caller, Identity, KeyKind, Scope
from mailbbgun.base.crypto import Vault, keyed_hash, same
from mailbbgun.base.db import Database
from mailbbgun.base.errors import DatabaseUnavailable, Forbidden, Unauthorized
from mailbbgun.base.ids import DEFAULT_TENANT
from mailbbgun.tenants import keys, repo
from mailbbgun.tenants.models import SUSPENDED, ApiKey, Tenant

LOOK_SECONDS = 0.4  # between looks at the keys in use
FRESH_SECONDS = 0.9  # how old what we know of a key may be
LEEWAY = 0.05  # seconds between being told that it is at hand and asking for it
IDLE_SECONDS = 30.0  # a key that was not used for so long is no longer looked at
WRITE_SECONDS = 5.0  # between notes of when keys were used last
MOST_KNOWN = 10_000  # keys in use at once that one process looks after
NOBODY = ""  # in the place of a prefix: the tenant default, for who shows no key

log = logging.getLogger("mailbbgun.auth")

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Identities = Callable[[Session, Collection[UUID]], Mapping[UUID, Identity]]
"""As whom each of these tenants sends, of those of which there is something to say."""


@dataclass(slots=True)
class _Known:
    hash: str
    caller: Caller
    networks: tuple[Network, ...]
    ended: bool
    seen: float  # monotonic seconds: when the database said so
    used: float


class Authenticator:
    """Knows keys again. Thread-safe; its thread starts with the first request, so it belongs to the process that serves."""

    def __init__(self, db: Database, vault: Vault, identities: Identities, *, required: bool, per_minute: int = 0) -> None:
        """Ask for a key if it is ``required``; keys without a limit of their own may ask ``per_minute`` times a minute (0: without limit)."""
        self._db = db
        self._identities = identities
        self._vault = vault
        self._required = required
        self._per_minute = per_minute or None
        self._lock = threading.Lock()
        self._known: dict[str, _Known] = {}
        self._pepper: str | None = None
        self._used: dict[UUID, datetime] = {}
        self._thread: threading.Thread | None = None
        self._closed = threading.Event()

    def at_hand(self, header: str | None) -> bool:
        """Say whether :meth:`caller` can answer without asking the database."""
        if header is None and self._required:
            return True
        token = _token_of(header)
        parts = keys.split(token) if token else None
        known = self._known.get(NOBODY if token is None else parts[0] if parts else "?")
        if token is not None and (parts is None or self._pepper is None):
            return parts is None
        return known is not None and time.monotonic() - known.seen < FRESH_SECONDS - LEEWAY

    def caller(self, header: str | None, address: str | None) -> Caller:
        """Return who asks, by the ``Authorization`` header (Bearer, or Basic with the key as password) and the client's IP address.

        Raises :class:`Unauthorized`, :class:`Forbidden` if the key may not be used from there, :class:`DatabaseUnavailable`.
        """
        if header is None:
            if self._required:
                raise Unauthorized("An API key is needed: Authorization: Bearer mbg_…")
            return self._look_up(NOBODY).caller
        parts = keys.split(_token_of(header) or "")
        if parts is None:
            raise Unauthorized("This is no API key.")
        prefix, secret = parts
        known = self._look_up(prefix)
        # Hashed whether or not there is such a key, so that the time tells nothing.
        if not same(known.hash, keyed_hash(self._peppered(), secret)):
            raise Unauthorized("This is no API key.")
        if known.ended:
            raise Unauthorized("This API key has expired or was revoked.")
        if known.networks and not _inside(address, known.networks):
            raise Forbidden("This API key may not be used from your address.")
        if known.caller.key_id:
            self._used[known.caller.key_id] = datetime.now(UTC)
        return known.caller

    def close(self) -> None:
        """Stop looking, and note what was used."""
        self._closed.set()
        if self._thread is not None:
            self._thread.join(5.0)

    def _look_up(self, prefix: str) -> _Known:
        now = time.monotonic()
        known = self._known.get(prefix)
        if known is None or now - known.seen >= FRESH_SECONDS:
            known = self._load([prefix], now).get(prefix) or _Known("", Caller(DEFAULT_TENANT), (), ended=True, seen=now, used=now)
        known.used = now
        return known

    def _load(self, prefixes: list[str], now: float) -> dict[str, _Known]:
        with self._db.read() as session:
            rows = repo.lookup(session, prefixes)
            asking = {tenant.id for _, tenant, _ in rows.values()} | ({DEFAULT_TENANT} if NOBODY in prefixes else set())
            identities = self._identities(session, asking)
            found = {prefix: self._known_by(*row, identities, now) for prefix, row in rows.items()}
            if NOBODY in prefixes:
                found[NOBODY] = self._nobody(session, identities, now)
        with self._lock:
            for prefix in prefixes:
                before = self._known.get(prefix)
                if prefix not in found:
                    self._known.pop(prefix, None)
                elif before or len(self._known) < MOST_KNOWN:
                    found[prefix].used = before.used if before else now
                    self._known[prefix] = found[prefix]  # in one step: others look without the lock
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="keys", daemon=True)
                self._thread.start()
        return found

    def _known_by(self, key: ApiKey, tenant: Tenant, ended: bool, identities: Mapping[UUID, Identity], now: float) -> _Known:
        caller = Caller(
            tenant_id=tenant.id,
            key_id=key.id,
            kind=KeyKind(key.kind),
            scopes=frozenset(Scope(scope) for scope in key.scopes),
            senders=frozenset(key.senders),
            guests=frozenset(key.guests),
            requests_per_minute=key.max_requests_per_minute or self._per_minute,
            identity=identities.get(tenant.id, ANYONE),
            **_of_tenant(tenant),
        )
        networks = tuple(ipaddress.ip_network(network) for network in key.networks)
        return _Known(key.hash, caller, networks, ended, seen=now, used=now)

    def _nobody(self, session: Session, identities: Mapping[UUID, Identity], now: float) -> _Known:
        tenant = repo.tenant(session, DEFAULT_TENANT)
        its = _of_tenant(tenant) if tenant else {}
        caller = replace(ANYBODY, requests_per_minute=self._per_minute, identity=identities.get(DEFAULT_TENANT, ANYONE), **its)
        return _Known("", caller, (), ended=False, seen=now, used=now)

    def _peppered(self) -> str:
        if self._pepper is None:
            with self._db.write() as session:
                self._pepper = keys.pepper(session, self._vault)
        return self._pepper

    def _run(self) -> None:
        written = time.monotonic()
        while not self._closed.wait(LOOK_SECONDS):
            try:
                self._look_again()
                if time.monotonic() - written >= WRITE_SECONDS:
                    self._note_uses()
                    written = time.monotonic()
            except DatabaseUnavailable as error:  # what we know grows old, and requests find out by themselves
                log.warning("keys_not_seen", extra={"error": str(error)})
            except Exception:  # a standby that cannot be written, a bug of ours: without this thread each request would ask the database
                log.exception("keys_thread_failed")
        try:
            self._note_uses()
        except DatabaseUnavailable as error:
            log.warning("uses_not_noted", extra={"error": str(error)})

    def _look_again(self) -> None:
        now = time.monotonic()
        with self._lock:
            idle = [prefix for prefix, known in self._known.items() if now - known.used > IDLE_SECONDS]
            for prefix in idle:
                del self._known[prefix]
            prefixes = list(self._known)
        if prefixes:
            self._load(prefixes, now)

    def _note_uses(self) -> None:
        noted, self._used = self._used, {}
        if noted:
            with self._db.write() as session:
                repo.used(session, noted)


def _of_tenant(tenant: Tenant) -> dict[str, Any]:
    return {
        "suspended": tenant.status == SUSPENDED,
        "tenant_requests_per_minute": tenant.max_requests_per_minute,
        "messages_per_day": tenant.max_messages_per_day,
    }


def _token_of(header: str | None) -> str | None:
    """Return the key a header shows (RFC 6750 §2.1, RFC 7617); None without a header, something that is no key if it shows none."""
    if header is None:
        return None
    scheme, _, rest = header.partition(" ")
    if scheme.lower() == "bearer":
        return rest.strip()
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(rest.strip(), validate=True).decode().partition(":")[2]
        except ValueError:  # binascii.Error and UnicodeDecodeError are some; what is not ASCII is a plain one
            return ""
    return ""


def _inside(address: str | None, networks: tuple[Network, ...]) -> bool:
    try:
        ip = ipaddress.ip_address(address or "")
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped:
        ip = ip.ipv4_mapped
    return any(ip in network for network in networks)
