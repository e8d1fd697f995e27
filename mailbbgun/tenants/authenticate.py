"""From what a request shows to who asks."""

import base64
import ipaddress
from typing import TypeVar

from mailbbgun.core.caller import Caller
from mailbbgun.core.errors import Forbidden, Unauthorized
from mailbbgun.core.outages import Outages
from mailbbgun.database.crypto import Vault, keyed_hash, same
from mailbbgun.database.db import Database
from mailbbgun.tenants import keys
from mailbbgun.tenants.keyring import LEEWAY, NOBODY, Identities, Keyring, KnownKey, Network


class Authenticator:
    """Knows keys again. Thread-safe."""

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
        """Ask for a key if it is ``required``; keys without a limit of their own may ask ``per_minute`` times a minute (0: without limit)."""
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

    def caller(self, header: str | None, address: str | None) -> Caller:
        """Return who asks, by the ``Authorization`` header (Bearer, or Basic with the key as password) and the client's IP address.

        Raises :class:`Unauthorized`, :class:`Forbidden` if the key may not be used from there, :class:`DatabaseUnavailable`.
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
        # Hashed whether or not there is such a key, so that the time tells nothing.
        if not same(known.hash, keyed_hash(self._peppered(), secret)):
            raise Unauthorized("This is no API key.")
        if known.over:
            raise _about(known, Unauthorized("This API key has expired or was revoked."))
        if known.networks and not _inside(address, known.networks):
            raise _about(known, Forbidden("This API key may not be used from your address."))
        if known.caller.key_id:
            self._ring.note_use(known.caller.key_id)
        return known.caller

    def close(self) -> None:
        """Stop looking at keys in use, and note when they were used."""
        self._ring.close()

    def _peppered(self) -> str:
        if self._pepper is None:
            with self._db.write() as session:
                self._pepper = keys.pepper(session, self._vault)
        return self._pepper


Refused = TypeVar("Refused", Unauthorized, Forbidden)


def _about(known: KnownKey, error: Refused) -> Refused:
    """Return an error of which the log line says whose key it was."""
    error.told = {"tenant_id": known.caller.tenant_id, "key_id": known.caller.key_id}
    return error


def _token_of(header: str) -> str:
    """Return the key a header shows (RFC 6750 §2.1, RFC 7617); something that is no key if it shows none."""
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
