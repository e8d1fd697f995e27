"""Links by which recipients unsubscribe. Each names a tenant, an address and a message, and is signed.

The token in a link is URL-safe base64 of: a version, whether it is about test messages, the ids of
tenant and message, the address, and an HMAC-SHA256 of all that. Its key is a secret in the database
that no rotation of ENCRYPTION_KEYS changes, so links in old mail go on working.
"""

import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error
from collections.abc import Iterable, Iterator
from functools import cached_property
from hashlib import sha256
from typing import NamedTuple
from uuid import UUID

from mailbbgun.database.crypto import Vault, new_pepper
from mailbbgun.database.db import Database
from mailbbgun.tenants import repo

#: The path of the page, before the token.
PATH = "/unsubscribe/"
#: The secret's name in the database.
SECRET = "unsubscribe"
#: Characters of a token, at most: that of the longest address.
LONGEST = 500

# The first byte: version 1 of a live or a test message.
_LIVE, _TEST = b"\x01", b"\x81"
#: Octets of the signature: half of HMAC-SHA256 (RFC 2104 §5).
_SIGNED = 16
_IDS = 16
#: What is signed begins with this, so that no other signature by the same key can be taken for one of these.
_PURPOSE = b"unsubscribe\0"


class UnsubscribeLink(NamedTuple):
    """What a link says. ``test``: its message is a test message."""

    tenant_id: UUID
    message_id: UUID
    address: str
    test: bool


def token_of(key: bytes, link: UnsubscribeLink) -> str:
    """Return the token of a link."""
    said = (_TEST if link.test else _LIVE) + link.tenant_id.bytes + link.message_id.bytes + link.address.encode()
    return urlsafe_b64encode(said + _signature(key, said)).rstrip(b"=").decode()


def link_of(key: bytes, token: str) -> UnsubscribeLink | None:
    """Return the link of a token; None unless it is exactly what :func:`token_of` made with this key."""
    if len(token) > LONGEST or not token.isascii():
        return None
    try:
        whole = urlsafe_b64decode(token + "=" * (-len(token) % 4))
    except (Error, ValueError):
        return None
    # The last character may have bits that decoding ignores, and others may be skipped: no two tokens are one.
    if urlsafe_b64encode(whole).rstrip(b"=").decode() != token:
        return None
    said, signature = whole[:-_SIGNED], whole[-_SIGNED:]
    if not hmac.compare_digest(signature, _signature(key, said)):
        return None
    kind, tenant, message = said[:1], said[1 : 1 + _IDS], said[1 + _IDS : 1 + 2 * _IDS]
    return UnsubscribeLink(UUID(bytes=tenant), UUID(bytes=message), said[1 + 2 * _IDS :].decode(), kind == _TEST)


def faults(headers: Iterable[str], recipients: int, *, possible: bool) -> Iterator[str]:
    """Yield why a mail with these headers, to so many recipients, cannot have a link.

    ``possible``: links lead somewhere.
    """
    if not possible:
        yield "The setting PUBLIC_URL is empty, so a link would lead nowhere: ask who runs this service."
    if recipients > 1:
        yield "Needs one recipient: a link that several get cannot tell who unsubscribes. Send one message to each."
    if {"list-unsubscribe", "list-unsubscribe-post"} & {name.lower() for name in headers}:
        yield "The headers have List-Unsubscribe already: leave out one of the two."


def _signature(key: bytes, said: bytes) -> bytes:
    return hmac.digest(key, _PURPOSE + said, sha256)[:_SIGNED]


class UnsubscribeLinks:
    """Makes and reads the links of this installation. Thread-safe."""

    def __init__(self, database: Database, vault: Vault, public_url: str) -> None:
        """``public_url``: where recipients reach the service; empty: nowhere, and there are no links."""
        self._database, self._vault = database, vault
        self._base = public_url.rstrip("/")

    @property
    def possible(self) -> bool:
        """Whether links lead anywhere."""
        return bool(self._base)

    def url(self, link: UnsubscribeLink) -> str:
        """Return the URL of a link.

        The first call reads the key, or makes it. Raises :class:`DatabaseUnavailable`,
        :class:`SecretUnreadable`.
        """
        return f"{self._base}{PATH}{token_of(self._key, link)}"

    def read(self, token: str) -> UnsubscribeLink | None:
        """Return what a token says; None if it is not ours. Raises what :meth:`url` does."""
        return link_of(self._key, token)

    @cached_property
    def _key(self) -> bytes:
        with self._database.read() as session:
            kept = repo.secret(session, SECRET)
        if kept is None:
            with self._database.write() as session:
                kept = repo.add_secret(session, SECRET, self._vault.encrypt(new_pepper()))
        return self._vault.decrypt(kept).encode()
