"""Reads the content of a file, and verifies it on the way."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

from mailbbgun.attachments.models import key_of
from mailbbgun.blobs.base import BlobStore
from mailbbgun.core.errors import BlobMissing


@contextmanager
def opened(blobs: BlobStore, tenant_id: UUID, object_id: UUID, *, sha256: str, size: int) -> Iterator[Iterator[bytes]]:
    """Open the content of a blob: the context's value yields it in blocks of at most 64 KiB.

    Raises :class:`BlobMissing` if the store has no such file. If the content is not what was stored, it
    is raised after the last block, or before a byte too many: use nothing that was read then. Raises
    :class:`BlobStoreUnavailable`.
    """
    with blobs.open(key_of(tenant_id, object_id)) as blocks:
        yield _verified(blocks, sha256, size)


def _verified(blocks: Iterator[bytes], sha256: str, size: int) -> Iterator[bytes]:
    digest, left = hashlib.sha256(), size
    for block in blocks:
        left -= len(block)
        if left < 0:
            break
        digest.update(block)
        yield block
    if left or digest.hexdigest() != sha256:
        raise BlobMissing(f"the stored file with the SHA-256 {sha256} is damaged")
