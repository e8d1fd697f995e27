"""Finds the keys that sign a message, and signs it between reading and sending.

A worker keeps keys in memory, and so does the API, for ``/raw``.

Which keys sign a message depends on when it was accepted, not on when it is sent: if the keys are
replaced between two attempts, both still make the same signature, as long as the old key is kept.
"""

import logging
import math
import threading
import time
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from hashlib import sha256
from uuid import UUID

from mailbbgun.core import addresses
from mailbbgun.core.errors import SecretUnreadable
from mailbbgun.database.crypto import Vault
from mailbbgun.database.db import Database
from mailbbgun.domains import repo
from mailbbgun.domains.dkim import ALGORITHMS, SigningKey, body_digest, domains_of_signatures, signature_fields, split
from mailbbgun.domains.keys import private_key
from mailbbgun.domains.repo import KeyRow
from mailbbgun.drivers.operations import InThread
from mailbbgun.smtp.content import EnvelopeError
from mailbbgun.smtp.envelope import Envelope
from mailbbgun.smtp.spooled import body_of, header_of

#: Seconds for which the keys of a tenant are fresh.
FRESH_SECONDS = 0.9

#: Seconds after which a tenant that sends nothing is forgotten.
IDLE_SECONDS = 60.0

#: Private keys in memory, at most. One takes some kilobytes.
MOST_KEYS = 10_000

#: Messages of which the signature is kept, for their other recipients.
MOST_SIGNERS = 500

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

log = logging.getLogger("mailbbgun.domains")


class Signer:
    """Signs one message: called with its header, it returns the fields to put before that.

    It remembers what it made for each header. There may be several: a header is rewritten for servers
    without SMTPUTF8. A body that was rewritten, for one without 8BITMIME, is given with its header.
    """

    __slots__ = ("_body", "_keys", "_made", "_signed_at")

    def __init__(self, keys: Sequence[SigningKey], signed_at: int, body: bytes) -> None:
        """``body`` is :func:`body_digest` of the message, ``signed_at`` is in Unix seconds."""
        self._keys, self._signed_at, self._body = keys, signed_at, body
        self._made: dict[bytes, bytes] = {}  # the fields, by the SHA-256 of the header

    def __call__(self, header: bytes, body: Iterable[bytes] | None = None) -> bytes:
        if body is not None:
            return signature_fields(header, body_digest(body), self._keys, self._signed_at)
        name = sha256(header).digest()
        made = self._made.get(name)
        if made is None:
            made = self._made[name] = signature_fields(header, self._body, self._keys, self._signed_at)
        return made

    def selectors(self, header: bytes) -> list[str]:
        """Return the selectors of the keys that sign a message with this header."""
        signers = domains_of_signatures(split(header))
        return [key.selector for key in self._keys if key.domain not in signers]


class DomainKeys:
    """The keys of tenants in use. Thread-safe.

    ``none`` says that no tenant has a key that signs. While it is True nothing else need be asked.
    """

    def __init__(self, vault: Vault) -> None:
        self._vault = vault
        self._lock = threading.Lock()
        self._rows: dict[UUID, Mapping[str, Sequence[KeyRow]]] = {}  # tenant → domain → its keys
        self._read_at: dict[UUID, float] = {}  # tenant → when it was read; monotonic seconds
        self._used: dict[UUID, float] = {}
        self._private: dict[UUID, SigningKey] = {}  # by the key's id
        self._signers: OrderedDict[tuple[UUID, tuple[UUID, ...]], Signer] = OrderedDict()
        self.none = False

    def load(self, database: Database, tenant_ids: Collection[UUID]) -> None:
        """Read which keys these tenants have, in one statement, unless that is fresh.

        Raises :class:`DatabaseUnavailable`.
        """
        if self.none:
            return
        now = time.monotonic()
        with self._lock:
            self._used |= dict.fromkeys(tenant_ids, now)
            if stale := [one for one in tenant_ids if now - self._read_at.get(one, -math.inf) >= FRESH_SECONDS]:
                self._forget_idle(now)
                self._read(database, stale, now)

    def refresh(self, database: Database, waiting: Collection[UUID]) -> None:
        """Read again which keys the tenants in use have.

        ``waiting`` are tenants with pending mail; they count as in use. Raises
        :class:`DatabaseUnavailable`.
        """
        now = time.monotonic()
        none = not repo.any_key(database)
        with self._lock:
            self._used |= dict.fromkeys(waiting, now)
            if none:
                self._used.clear()
                self._rows.clear()
                self._read_at.clear()
            self._forget_idle(now)
            self._read(database, list(self._used), now)
            self.none = none

    def _forget_idle(self, now: float) -> None:
        for one in [one for one, used in self._used.items() if now - used > IDLE_SECONDS]:
            del self._used[one]
            self._read_at.pop(one, None)
            self._rows.pop(one, None)
        if len(self._private) > MOST_KEYS:
            self._private.clear()

    def _read(self, database: Database, tenant_ids: Sequence[UUID], now: float) -> None:
        if not tenant_ids:
            return
        with database.read() as session:
            rows = repo.signing_keys(session, tenant_ids)
        found: dict[UUID, dict[str, list[KeyRow]]] = {one: defaultdict(list) for one in tenant_ids}
        for row in rows:
            found[row.tenant_id][row.domain].append(row)
        self._rows |= {one: dict(domains) for one, domains in found.items()}
        self._read_at |= dict.fromkeys(tenant_ids, now)

    def knows(self, tenant_id: UUID) -> bool:
        """Return whether the keys of a tenant are in memory."""
        return self.none or tenant_id in self._rows

    def keys_for(self, tenant_id: UUID, author: str, message_id: UUID) -> list[KeyRow]:
        """Return the keys that sign a message: those of its From's domain, or of the nearest parent that has keys.

        A subdomain's mail is signed by its parent's key, which DMARC accepts unless the parent asks
        for strict alignment (RFC 7489 §3.1.1). ``author`` is the address in From.
        """
        domains = self._rows.get(tenant_id)
        if not domains:
            return []
        name, accepted = _domain_of(author), accepted_at(message_id)
        while name:
            if keys := chosen(domains.get(name, ()), accepted):
                return keys
            name = name.partition(".")[2]
        return []

    def signer(
        self, database: Database, message_id: UUID, rows: Sequence[KeyRow], body: Callable[[], Iterable[bytes]]
    ) -> Signer | None:
        """Return what signs a message with these keys; None if all of them have just been deleted.

        ``body`` returns what follows the message's header, in blocks. Reads the database and computes:
        call it in a thread. Raises :class:`SecretUnreadable` if none of the keys can be decrypted,
        :class:`DatabaseUnavailable`, and what ``body`` does.
        """
        keys = self._signing_keys(database, rows)
        if not keys:
            return None
        name = (message_id, tuple(row.id for row in rows))
        with self._lock:
            if found := self._signers.get(name):
                return found
        made = Signer(keys, accepted_at(message_id) // 1000, body_digest(body()))
        with self._lock:
            self._signers[name] = made
            while len(self._signers) > MOST_SIGNERS:
                self._signers.popitem(last=False)
        return made

    async def signed(
        self, database: Database, tenant_id: UUID, author: str, message_id: UUID, envelope: Envelope
    ) -> tuple[Envelope, list[str]]:
        """Return the envelope with what signs its message, and the selectors of the keys that do.

        ``author`` is the address in From. The message is signed in a thread: an RSA signature takes half
        a millisecond, a large body more. Raises what :meth:`signer` does.
        """
        if not self.knows(tenant_id):
            await InThread(lambda: self.load(database, {tenant_id}), reads=True)
        rows = self.keys_for(tenant_id, author, message_id)
        if not rows:
            return envelope, []
        signer, selectors = await InThread(lambda: self._signed(database, message_id, rows, envelope), reads=True)
        return replace(envelope, sign=signer), selectors

    def _signed(
        self, database: Database, message_id: UUID, rows: Sequence[KeyRow], envelope: Envelope
    ) -> tuple[Signer | None, list[str]]:
        """Sign the message as it is; the signer remembers that."""
        try:
            header = header_of(envelope.raw)
        except EnvelopeError:  # too long to be signed
            return None, []
        signer = self.signer(database, message_id, rows, lambda: body_of(envelope.raw))
        if signer is None:
            return None, []
        signer(header)
        return signer, signer.selectors(header)

    def signature(
        self,
        database: Database,
        tenant_id: UUID,
        author: str,
        message_id: UUID,
        header: bytes,
        body: Callable[[], Iterable[bytes]],
    ) -> bytes:
        """Return the fields that a message gets before its header when it is sent; empty if none.

        ``author`` is the address in From. Raises what :meth:`signer` and ``body`` do.
        """
        self.load(database, {tenant_id})
        rows = self.keys_for(tenant_id, author, message_id)
        signer = self.signer(database, message_id, rows, body) if rows else None
        return signer(header) if signer else b""

    def _signing_keys(self, database: Database, rows: Sequence[KeyRow]) -> list[SigningKey]:
        known = {row.id: key for row in rows if (key := self._private.get(row.id))}
        if unread := [row for row in rows if row.id not in known]:
            known |= self._decrypted(database, unread, needed=not known)
        self._private |= known
        return [known[row.id] for row in rows if row.id in known]

    def _decrypted(self, database: Database, rows: Sequence[KeyRow], *, needed: bool) -> dict[UUID, SigningKey]:
        """Return those of these keys that are still there and can be decrypted.

        Raises :class:`SecretUnreadable` if none can and one is ``needed``.
        """
        with database.read() as session:
            tokens = repo.private_keys(session, [row.id for row in rows])
        found: dict[UUID, SigningKey] = {}
        failure: SecretUnreadable | None = None
        for row in rows:
            try:
                if row.id in tokens:
                    private = private_key(self._vault.decrypt(tokens[row.id]))
                    found[row.id] = SigningKey(row.domain, row.selector, private)
            except SecretUnreadable as error:
                told = {"domain": row.domain, "selector": row.selector, "tenant_id": row.tenant_id}
                log.error("dkim_key_unreadable", extra={**told, "error": str(error)})
                failure = error
        if failure and needed and not found:
            raise failure
        return found


def accepted_at(message_id: UUID) -> int:
    """Return when a message was accepted, in Unix milliseconds: its id is a UUIDv7 (RFC 9562 §5.7)."""
    return message_id.int >> 80


def chosen(keys: Sequence[KeyRow], accepted: int) -> list[KeyRow]:
    """Return, of each algorithm, the key that signed when a message was accepted, if it is still there.

    Otherwise the one that signs now. ``accepted`` is in Unix milliseconds.
    """
    found = []
    for algorithm in ALGORITHMS:
        its = [key for key in keys if key.algorithm == algorithm]
        then = [key for key in its if _milliseconds(key.active_from) <= accepted < _milliseconds(key.retired_at)]
        now = [key for key in its if key.retired_at is None]
        if one := next(iter(then or now), None):
            found.append(one)
    return found


def _milliseconds(moment: datetime | None) -> float:
    return math.inf if moment is None else (moment - _EPOCH) // timedelta(milliseconds=1)


@lru_cache(maxsize=8192)
def _domain_of(author: str) -> str:
    """Return the domain of an address in A-labels; empty if it is none."""
    try:
        return addresses.domain(author.rpartition("@")[2])
    except ValueError:
        return ""
