"""Files that clients upload straight to the store, under a digest that they name before.

``awaited`` here and in :class:`Attachment` is ``sha256-`` or ``md5-`` and the digest in hex. The upload
has a key of its own. Before it is first used it is copied, and the copy is checked: a client may
replace its upload at any moment, but not the copy.
"""

import hashlib
import hmac
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from mailbbgun.attachments import repo
from mailbbgun.attachments.models import Blob, key_of
from mailbbgun.attachments.store import StoredFile, record
from mailbbgun.blobs.base import BlobStore
from mailbbgun.core.errors import BlobMissing
from mailbbgun.core.ids import new_id
from mailbbgun.database.db import Database

#: The folder of uploads in the store.
FOLDER = "uploads"

#: Seconds that a URL for an upload is valid.
SECONDS = 3600


class WrongUpload(NamedTuple):
    """Why an upload cannot be used: a sentence for the client."""

    sentence: str


def key(tenant_id: UUID, awaited: str, *, test: bool) -> str:
    """Return the key of an upload in the store."""
    return f"{FOLDER}/{tenant_id.hex}/{'test' if test else 'live'}/{awaited}"


def until(seconds: int = SECONDS) -> datetime:
    """Return when a URL that is made now ends."""
    return datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=seconds)


def arrive(
    db: Database, blobs: BlobStore, tenant_id: UUID, awaited: str, *, test: bool, most: int
) -> StoredFile | WrongUpload | None:
    """Check the upload under a digest, and make it a blob. None: nothing has been uploaded.

    All attachments that waited for it get its content. A wrong upload is deleted, and the right one may
    follow. ``most``: the bytes that a file may have. Raises :class:`BlobStoreUnavailable`.
    """
    with db.read(tenant_id, tests_only=test) as session:
        sizes = {one.size for one in repo.awaited(session, tenant_id, awaited, test=test)}
    upload, object_id = key(tenant_id, awaited, test=test), new_id()
    copy = key_of(tenant_id, object_id)
    if not sizes or blobs.size(upload) is None:
        return None
    try:
        blobs.copy(upload, copy)
    except BlobMissing:  # another request has just used it
        return None
    found = _measured(blobs, tenant_id, object_id)
    if wrong := _fault(found, awaited, sizes, most):
        blobs.delete([copy, upload])
        return wrong
    stored = record(db, blobs, found)
    settle(db, tenant_id, awaited, stored, test=test)
    blobs.delete([upload])  # after the commit: who finds no upload finds the blob
    return stored


def settle(db: Database, tenant_id: UUID, awaited: str, blob: StoredFile | Blob, *, test: bool) -> None:
    """Give all attachments that wait for a digest its content, which the tenant has."""
    with db.write(tenant_id, tests_only=test) as session:
        values = {"sha256": blob.sha256, "md5": blob.md5, "size": blob.size}
        repo.arrived(session, tenant_id, awaited, values, test=test)


def _measured(blobs: BlobStore, tenant_id: UUID, object_id: UUID) -> StoredFile:
    sha256, md5, size = hashlib.sha256(), hashlib.md5(usedforsecurity=False), 0
    with blobs.open(key_of(tenant_id, object_id)) as blocks:
        for block in blocks:
            sha256.update(block)
            md5.update(block)
            size += len(block)
    return StoredFile(tenant_id, sha256.hexdigest(), md5.hexdigest(), size, object_id)


def _fault(found: StoredFile, awaited: str, sizes: set[int], most: int) -> WrongUpload | None:
    kind, _, digest = awaited.partition("-")
    is_digest = found.sha256 if kind == "sha256" else found.md5
    if found.size > most:
        return WrongUpload(f"The uploaded file has {found.size} bytes; it may have at most {most} (MAX_FILE_SIZE).")
    if found.size not in sizes:
        told = " or ".join(map(str, sorted(sizes)))
        return WrongUpload(f"The uploaded file has {found.size} bytes and not {told}; upload it again.")
    if not hmac.compare_digest(is_digest, digest):
        name = "SHA-256" if kind == "sha256" else "MD5"
        return WrongUpload(f"The uploaded file has the {name} {is_digest} and not {digest}; upload it again.")
    return None
