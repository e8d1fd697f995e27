"""Reads the content of a file, and verifies it on the way."""

import hashlib
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import quote
from uuid import UUID

from mailbbgun.attachments.models import key_of
from mailbbgun.blobs.base import BlobStore
from mailbbgun.core.errors import BlobMissing


def disposition(filename: str) -> str:
    """Return the ``Content-Disposition`` of a download (RFC 6266), never one that a browser would show.

    Browsers take ``filename*`` (RFC 8187); other clients get the name in ASCII.
    """
    plain = unicodedata.normalize("NFKD", filename).encode("ascii", "ignore").decode()
    plain = "".join("_" if character in '"\\/%' or not character.isprintable() else character for character in plain)
    coded = quote(filename.encode("utf-8", "replace"), safe="!#$&+-.^_`|~")
    return f"attachment; filename=\"{plain.strip() or 'file'}\"; filename*=UTF-8''{coded}"


@contextmanager
def opened(blobs: BlobStore, tenant_id: UUID, object_id: UUID, *, sha256: str, size: int) -> Iterator[Iterator[bytes]]:
    """Open the content of a blob: the context's value yields it in blocks of at most 64 KiB.

    Raises :class:`BlobMissing` if the store has no such file. If the content is not what was stored, that
    is raised in place of the last block, so that no reader gets a damaged file whole. Raises
    :class:`BlobStoreUnavailable`.
    """
    with blobs.open(key_of(tenant_id, object_id)) as blocks:
        yield _verified(blocks, sha256, size)


def _verified(blocks: Iterator[bytes], sha256: str, size: int) -> Iterator[bytes]:
    digest, left, held = hashlib.sha256(), size, b""
    for block in blocks:
        left -= len(block)
        if left < 0:
            break
        digest.update(block)
        if held:
            yield held
        held = block
    if left or digest.hexdigest() != sha256:
        raise BlobMissing(f"the stored file with the SHA-256 {sha256} is damaged")
    yield held
