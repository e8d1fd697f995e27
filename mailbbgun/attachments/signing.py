"""Signs URLs that are all the permission a request needs, and checks them."""

from datetime import UTC, datetime

from mailbbgun.core.errors import Forbidden
from mailbbgun.database.crypto import Vault, keyed_hash, same
from mailbbgun.database.db import Database
from mailbbgun.tenants import keys


def signature(pepper: str, path: str, size: int, ends: int) -> str:
    """Return what proves that we made a URL: HMAC-SHA256 (RFC 2104), in hex.

    ``path`` says what the URL is for: no two kinds of URLs may have the same. ``size``: the bytes that an
    upload has, or may have. ``ends``: in seconds since 1970.
    """
    return keyed_hash(pepper, f"upload\n{path}\n{size}\n{ends}")


class Signing:
    """Signs with the secret of this installation."""

    def __init__(self, db: Database, vault: Vault) -> None:
        self._db, self._vault = db, vault

    def sign(self, path: str, size: int, ends: int) -> str:
        """Return the signature of a URL: see :func:`signature`."""
        with self._db.read() as session:
            return signature(keys.pepper(session, self._vault), path, size, ends)

    def check(self, path: str, size: int, ends: int, given: str, maker: str) -> None:
        """Raise :class:`Forbidden` unless the URL is ours, and valid now. ``maker``: the request for another one."""
        if not given.isascii() or not same(self.sign(path, size, ends), given):
            raise Forbidden(f"This URL is not one that {maker} has made.")
        if datetime.now(UTC).timestamp() > ends:
            raise Forbidden(f"This URL has ended; ask {maker} for another.")
