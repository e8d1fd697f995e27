"""Streams composed messages: their files are read from the blob store, verified, and encoded on the way."""

from collections.abc import Iterator, Mapping
from uuid import UUID

from mailbbgun.attachments import content, repo
from mailbbgun.attachments.models import Blob
from mailbbgun.blobs.base import BlobStore
from mailbbgun.composing.compose import Composed, base64_lines
from mailbbgun.composing.contents import File
from mailbbgun.database.db import Database

#: Octets that one line of base64 holds (RFC 2045 §6.8).
_LINE_OCTETS = 57


def octets(database: Database, blobs: BlobStore, tenant_id: UUID, composed: Composed) -> Iterator[bytes]:
    """Yield the bytes of a tenant's message, in blocks of about 64 KiB where they are of a file.

    Raises :class:`BlobStoreUnavailable`, :class:`DatabaseUnavailable`, and :class:`BlobMissing` for a
    file that is not there or is damaged, perhaps only at its end: then the message must not be used.
    """
    its = _blobs(database, tenant_id, composed) if composed.has_files else {}
    for piece in composed.pieces:
        if isinstance(piece, File):
            blob = its[piece.sha256]
            with content.opened(blobs, tenant_id, blob.object_id, sha256=piece.sha256, size=piece.size) as blocks:
                yield from _encoded(blocks)
        else:
            yield piece


def after(count: int, blocks: Iterator[bytes]) -> Iterator[bytes]:
    """Yield the blocks without their first ``count`` octets."""
    for block in blocks:
        rest = block[count:]
        count = max(0, count - len(block))
        if rest:
            yield rest


def _blobs(database: Database, tenant_id: UUID, composed: Composed) -> Mapping[str, Blob]:
    """Return the blobs of the files, by digest. All are there, since rows of contents refer to them."""
    digests = {piece.sha256 for piece in composed.pieces if isinstance(piece, File)}
    with database.read(tenant_id) as session:
        return {one.sha256: one for one in repo.blobs(session, tenant_id, digests)}


def _encoded(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """Yield a file as lines of base64."""
    held = b""
    for block in blocks:
        held += block
        whole = len(held) - len(held) % _LINE_OCTETS
        if whole:
            yield base64_lines(held[:whole])
            held = held[whole:]
    if held:
        yield base64_lines(held)
