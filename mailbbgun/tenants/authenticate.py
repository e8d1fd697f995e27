"""Authenticates a request: turns its ``Authorization`` header into a caller."""

import base64
import ipaddress
from typing import TypeVar
from uuid import UUID

from mailbbgun.core.caller import Caller
from mailbbgun.core.errors import Forbidden, Unauthorized
from mailbbgun.core.outages import Outages
from mailbbgun.database.crypto import Vault, keyed_hash, same
from mailbbgun.database.db import Database
from mailbbgun.tenants import keys
from mailbbgun.tenants.keyring import LEEWAY, NOBODY, Identities, Keyring, KnownKey, Network


class Authenticator:
    """Recognises API keys. Thread-safe."""

    def __init__(
        self,
        db: Database,
        vault: Vault,
        identities: Identities,
        *,
        required: bool,
        per_minute: int = 0,
        outages: Outages | None = None,
    ) -> None:
        """Create an authenticator.

        ``required``: refuse requests without a key. ``per_minute``: requests a minute for keys
        without a limit of their own (0: no limit).
        """
        self._db = db
        self._vault = vault
        self._required = required
        self._ring = Keyring(db, identities, per_minute or None, outages)
        self._pepper: str | None = None

    def at_hand(self, header: str | None) -> bool:
        """Say whether :meth:`caller` can answer without asking the database."""
        if header is None:
            return self._required or self._ring.get(NOBODY, LEEWAY) is not None
        parts = keys.split(_token_of(header))
        if parts is None:
            return True
        return self._pepper is not None and self._ring.get(parts[0], LEEWAY) is not None

    def recognises(self, header: str | None) -> bool:
        """Say whether the key was valid when it was last looked up. Does not ask the database.

        Whether it may be used from an address is not looked at.
        """
        if header is None:
            return not self._required
        parts = keys.split(_token_of(header))
        if parts is None or self._pepper is None:
            return False
        known = self._ring.remembered(parts[0])
        return known is not None and not known.over and same(known.hash, keyed_hash(self._pepper, parts[1]))

    def limit(self, per_minute: int) -> None:
        """Let keys without a limit of their own make so many requests a minute; 0: no limit."""
        self._ring.limit(per_minute or None)

    def forget(self, tenant_id: UUID) -> None:
        """Read the keys of a tenant again with their next requests, for this process has changed it."""
        self._ring.forget(tenant_id)

    def look_up(self, header: str) -> None:
        """Look the key up in the database, so that :meth:`caller` and :meth:`recognises` know it.

        Does nothing if it is no key. Raises :class:`DatabaseUnavailable`.
        """
        if (parts := keys.split(_token_of(header))) is not None:
            self._ring.look_up(parts[0])
            self._read_pepper()

    def caller(self, header: str | None, address: str | None) -> Caller:
        """Return the caller with this ``Authorization`` header and IP address.

        The header is Bearer, or Basic with the key as password. Raises :class:`Unauthorized`,
        :class:`Forbidden` if the key may not be used from that address,
        :class:`DatabaseUnavailable`.
        """
        if header is None:
            if self._required:
                raise Unauthorized("An API key is needed: Authorization: Bearer mbg_…")
            return self._ring.look_up(NOBODY).caller
        parts = keys.split(_token_of(header))
        if parts is None:
            raise Unauthorized("This is no API key.")
        prefix, secret = parts
        known = self._ring.look_up(prefix)
        # The secret is hashed even if no such key exists, so that the time taken reveals nothing.
        if not same(known.hash, keyed_hash(self._read_pepper(), secret)):
            raise Unauthorized("This is no API key.")
        if known.over:
            raise _with_ids(known, Unauthorized("This API key has expired or was revoked."))
        if known.networks and not _inside(address, known.networks):
            raise _with_ids(known, Forbidden("This API key may not be used from your address."))
        if known.caller.key_id:
            self._ring.note_use(known.caller.key_id)
        return known.caller

    def close(self) -> None:
        """Stop watching the keys in use, and write down when they were last used."""
        self._ring.close()

    def _read_pepper(self) -> str:
        if self._pepper is None:
            with self._db.write() as session:
                self._pepper = keys.pepper(session, self._vault)
        return self._pepper


Refused = TypeVar("Refused", Unauthorized, Forbidden)


def _with_ids(known: KnownKey, error: Refused) -> Refused:
    """Return the error with the ids of tenant and key, which the log line then shows."""
    error.told = {"tenant_id": known.caller.tenant_id, "key_id": known.caller.key_id}
    return error


def _token_of(header: str) -> str:
    """Return the key in a header (RFC 6750 §2.1, RFC 7617); the empty string if it has none."""
    scheme, _, rest = header.partition(" ")
    if scheme.lower() == "bearer":
        return rest.strip()
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(rest.strip(), validate=True).decode().partition(":")[2]
        except ValueError:  # not Base64 (binascii.Error), not UTF-8 (UnicodeDecodeError), or not ASCII
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
