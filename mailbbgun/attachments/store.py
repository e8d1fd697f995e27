"""The verb: take the blocks of an upload, and have them stored once for the tenant."""

import hashlib
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from uuid import UUID

from mailbbgun.attachments import repo
from mailbbgun.attachments.models import key_of
from mailbbgun.blobs.base import BlobStore
from mailbbgun.core.errors import BlobStoreUnavailable, StorageFull, TooLarge
from mailbbgun.core.ids import new_id
from mailbbgun.database.db import Database
from mailbbgun.tenants import storage

#: Bytes of an upload that are read before the store is asked for anything. A file that ends within them
#: is not stored again if the tenant has it.
AHEAD = 262_144

log = logging.getLogger("mailbbgun.attachments")


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A content that is durable, and has its row. ``size`` is in bytes, digests are in hex."""

    tenant_id: UUID
    sha256: str
    md5: str
    size: int
    object_id: UUID


class _Measured:
    """Passes blocks on, and computes their digests and their size."""

    def __init__(self, blocks: Iterable[bytes], most: int, name: str) -> None:
        self._blocks, self._most, self._name = blocks, most, name
        self._sha256, self._md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
        self.size = 0

    def __iter__(self) -> Iterator[bytes]:
        for block in self._blocks:
            self.size += len(block)
            if self.size > self._most:
                raise TooLarge(f"The file {self._name!r} is larger than {self._most} bytes (MAX_FILE_SIZE).")
            self._sha256.update(block)
            self._md5.update(block)
            yield block

    def stored(self, tenant_id: UUID, object_id: UUID) -> StoredFile:
        """Return what is known when all blocks have passed."""
        return StoredFile(tenant_id, self._sha256.hexdigest(), self._md5.hexdigest(), self.size, object_id)


def take(
    db: Database,
    blobs: BlobStore,
    tenant_id: UUID,
    blocks: Iterable[bytes],
    *,
    most: int,
    size: int | None = None,
    name: str = "",
) -> StoredFile:
    """Store an upload of a tenant. Its content is durable, and has its row, when this returns.

    Memory is bounded, whatever the size. ``most``: the bytes that a file may have. ``size``: the bytes
    that will come, if that is known. ``name``: for the sentence if it is too large. The content is kept
    for :data:`repo.GRACE` seconds, and longer if a row refers to it by then.

    Raises :class:`TooLarge`; :class:`StorageFull`; what ``blocks`` raises; :class:`BlobStoreUnavailable`; and
    :class:`DatabaseUnavailable`. Then there is no row. There may be a file without one, which
    ``bin/mailbbgun blobs check`` finds: whether a commit that broke off was carried out is not known.
    """
    measured = _Measured(blocks, most, name)
    rest = iter(measured)
    first, ended = _read_ahead(rest)
    if ended:
        whole = measured.stored(tenant_id, new_id())
        if (known := _known(db, blobs, whole)) is not None:
            return known
        size = whole.size
    object_id = new_id()
    blobs.put(key_of(tenant_id, object_id), chain(first, rest), size)
    return record(db, blobs, measured.stored(tenant_id, object_id))


def measure(blocks: Iterable[bytes], tenant_id: UUID, *, most: int, name: str) -> StoredFile:
    """Read a file as :func:`take` does, and store nothing: the ``object_id`` of what this returns names no object.

    Raises :class:`TooLarge`.
    """
    measured = _Measured(blocks, most, name)
    for _ in measured:
        pass
    return measured.stored(tenant_id, new_id())


def record(db: Database, blobs: BlobStore, fresh: StoredFile) -> StoredFile:
    """Give a content that is durable its row. If the tenant had it already, delete the fresh copy.

    If the file of that row is lost, the fresh copy takes its place. Raises :class:`StorageFull`; then the
    fresh copy is deleted, too.
    """
    values = {"md5": fresh.md5, "size": fresh.size, "object_id": fresh.object_id}
    try:
        with db.write(fresh.tenant_id) as session:
            object_id = repo.record_blob(session, fresh.tenant_id, fresh.sha256, values)
            if object_id == fresh.object_id:
                storage.add(session, fresh.tenant_id, fresh.size)
    except StorageFull:
        _discard(blobs, fresh)
        raise
    if object_id == fresh.object_id:
        return fresh
    if blobs.size(key_of(fresh.tenant_id, object_id)) != fresh.size:
        with db.write(fresh.tenant_id) as session:
            healed = repo.replace_object(session, fresh.tenant_id, fresh.sha256, object_id, fresh.object_id)
        if healed:
            log.warning("content_restored", extra={"tenant_id": fresh.tenant_id, "sha256": fresh.sha256})
            return fresh
    _discard(blobs, fresh)
    with db.read(fresh.tenant_id) as session:
        kept = repo.blob(session, fresh.tenant_id, fresh.sha256)
    assert kept is not None  # it is kept for GRACE
    return StoredFile(fresh.tenant_id, kept.sha256, kept.md5, kept.size, kept.object_id)


def _discard(blobs: BlobStore, fresh: StoredFile) -> None:
    """Delete a copy that gets no row. If that fails, ``sweep/orphans.py`` finds the copy."""
    try:
        blobs.delete([key_of(fresh.tenant_id, fresh.object_id)])
    except BlobStoreUnavailable as error:
        log.warning("copy_left", extra={"object_id": fresh.object_id, "error": str(error)})


def _read_ahead(blocks: Iterator[bytes]) -> tuple[list[bytes], bool]:
    """Return the first blocks, and whether these are all."""
    first, size = [], 0
    for block in blocks:
        first.append(block)
        size += len(block)
        if size > AHEAD:
            return first, False
    return first, True


def _known(db: Database, blobs: BlobStore, whole: StoredFile) -> StoredFile | None:
    """Return the tenant's blob with this content, kept for a while longer; None if it must be stored."""
    with db.read(whole.tenant_id) as session:
        found = repo.blob(session, whole.tenant_id, whole.sha256)
    if found is None:
        return None
    with db.write(whole.tenant_id) as session:
        if not repo.keep(session, whole.tenant_id, [whole.sha256]):
            return None  # it was just deleted
    if blobs.size(key_of(whole.tenant_id, found.object_id)) != found.size:
        return None  # its file is lost; the upload brings it back
    return StoredFile(whole.tenant_id, found.sha256, found.md5, found.size, found.object_id)
