"""The contract of the stores for files. ``tests/contract/test_blobs.py`` tests it on each driver."""

import re
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from datetime import datetime
from typing import NamedTuple, Protocol

#: Bytes of a block that a store yields, at most.
BLOCK = 65_536

_KEY = re.compile(r"[a-z0-9][a-z0-9-]*(/[a-z0-9][a-z0-9-]*)*", re.ASCII)


class StoredObject(NamedTuple):
    """A file of a list: its key, its size in bytes, and when it was stored."""

    key: str
    size: int
    modified: datetime


class BlobStore(Protocol):
    """Keeps files under keys. Thread-safe.

    A key has lower-case ASCII letters, digits, ``-`` and ``/``: see :func:`checked`. All methods but
    ``close`` raise :class:`BlobStoreUnavailable`, within a bounded time, if the store does not answer,
    refuses us, or has no room.
    """

    def prepare(self) -> None:
        """Make the folder or bucket if it does not exist. Safe to repeat."""

    def check(self) -> None:
        """Check that the store is there and lets us in."""

    def put(self, key: str, blocks: Iterable[bytes], size: int | None = None) -> int:
        """Store a file; it is durable when this returns. Return its size in bytes.

        A file that was stored under the key before is replaced, whole or not at all. ``size``: how
        many bytes will come, if that is known; it saves memory. What ``blocks`` raises is passed on,
        and nothing is stored. Raises ``ValueError`` if another number of bytes comes; then the file may
        be gone that was stored before.
        """

    def open(self, key: str) -> AbstractContextManager[Iterator[bytes]]:
        """Open a file: the context's value yields blocks of at most :data:`BLOCK` bytes.

        Raises :class:`BlobMissing` if there is none.
        """

    def size(self, key: str) -> int | None:
        """Return a file's size in bytes; None if there is no such file."""

    def copy(self, source: str, target: str) -> None:
        """Store a file under another key, too. What happens to the first does not change the second.

        Raises :class:`BlobMissing` if there is no such file.
        """

    def delete(self, keys: Iterable[str]) -> None:
        """Delete files. Those that do not exist are no error."""

    def keys(self, prefix: str) -> Iterator[StoredObject]:
        """List the files whose keys begin with ``prefix``, which is empty or ends with ``/``."""

    def clean(self, before: datetime) -> None:
        """Remove what was left by a ``put`` that began before that moment and was killed."""

    def presigned_get(self, key: str, seconds: int, disposition: str, content_type: str) -> str | None:
        """Return a URL where anybody may download the file for so many seconds.

        The answer there has this ``Content-Disposition`` and this ``Content-Type``. None: this driver
        has no such URLs.
        """

    def presigned_put(self, key: str, seconds: int) -> str | None:
        """Return a URL where anybody may store the file by PUT for so many seconds.

        None: this driver has no such URLs.
        """

    def close(self) -> None:
        """Close every connection."""


def check_size(size: int, said: int | None) -> None:
    """Raise ``ValueError`` if a file has another size than was said."""
    if said is not None and size != said:
        raise ValueError(f"a file of {said} bytes was announced, and {size} or more have come")


def checked(key: str) -> str:
    """Return a key. Raises ``ValueError`` if it could leave the store's folder or needs quoting."""
    if not _KEY.fullmatch(key) or len(key) > 500:
        raise ValueError(f"{key!r} is no key of a file")
    return key
