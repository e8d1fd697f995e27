"""The token of a return path: it names a delivery and a day, and is signed (VERP, with a signature). Pure.

A token is 48 characters of base32 in lower case: the day (2 octets), the delivery's id (16), and the first
12 octets of an HMAC-SHA256. Some servers change the case of addresses, so case does not count.
"""

import hmac
from base64 import b32decode, b32encode
from binascii import Error
from collections.abc import Callable
from hashlib import sha256
from typing import NamedTuple
from uuid import UUID

#: Characters of a token.
LENGTH = 48
#: Days for which one key signs. Then another one does.
DAYS_PER_KEY = 32

_DAY, _ID, _SIGNED = 2, 16, 12
#: What is signed begins with this, so that no other signature by the same key can be taken for one of these.
_PURPOSE = b"return path\0"


class SignedPath(NamedTuple):
    """What a token says. ``day``: when it was made, in days since 1970."""

    day: int
    delivery_id: UUID

    @property
    def period(self) -> int:
        """The number of the period whose key signs it."""
        return self.day // DAYS_PER_KEY


def token_of(key: bytes, path: SignedPath) -> str:
    """Return the token of a path, signed by the key of its period."""
    said = path.day.to_bytes(_DAY) + path.delivery_id.bytes
    return b32encode(said + _signature(key, said)).decode().lower()


def path_of(key_of: Callable[[SignedPath], bytes | None], token: str) -> SignedPath | None:
    """Return what a token says; None unless :func:`token_of` made it with the key that ``key_of`` returns.

    ``key_of`` is given what the token claims, before anything proves it; None: there is no such key.
    """
    if len(token) != LENGTH or not token.isascii() or "=" in token:  # padding would make other tokens of it
        return None
    try:
        whole = b32decode(token, casefold=True)
    except (Error, ValueError):
        return None
    said, signature = whole[:-_SIGNED], whole[-_SIGNED:]
    path = SignedPath(int.from_bytes(said[:_DAY]), UUID(bytes=said[_DAY : _DAY + _ID]))
    key = key_of(path)
    return path if key is not None and hmac.compare_digest(signature, _signature(key, said)) else None


def _signature(key: bytes, said: bytes) -> bytes:
    return hmac.digest(key, _PURPOSE + said, sha256)[:_SIGNED]
