"""The verb: find the files that a message names, by the id of an attachment or by a digest."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from sqlalchemy.orm import Session

from mailbbgun.attachments import repo, uploads
from mailbbgun.attachments.models import Attachment, Blob, key_of
from mailbbgun.blobs.base import BlobStore
from mailbbgun.core.caller import Caller
from mailbbgun.core.errors import Conflict, NotFound, VirusFound
from mailbbgun.database.db import Database

#: Said of an id in a message.
NO_ATTACHMENT = "There is no attachment with this id. `GET /attachments` lists yours; test keys have others."
#: Time after which the use of an attachment is noted again. Attachments are kept for days.
NOTED_AGAIN = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Reference:
    """How a message names a file: by ``id``, ``sha256`` or ``md5``, exactly one of them.

    Digests are in lower-case hex. ``filename`` and ``content_type`` replace those of the attachment; a
    digest needs a ``filename``.
    """

    id: UUID | None = None
    sha256: str | None = None
    md5: str | None = None
    filename: str | None = None
    content_type: str | None = None

    @property
    def field(self) -> str:
        """The name of the field that names the file."""
        return "id" if self.id is not None else "sha256" if self.sha256 is not None else "md5"


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file that was found: its blob, and the name it has here. ``content_type``: None if unknown."""

    sha256: str
    md5: str
    size: int
    object_id: UUID
    filename: str
    content_type: str | None
    scan: str
    attachment_id: UUID | None = None


class Digest(NamedTuple):
    """A digest to look for: ``kind`` is ``sha256`` or ``md5``.

    ``test``: the attachment of a test key, or of another key, awaits it; None: the client named it.
    """

    kind: str
    hex: str
    test: bool | None = None

    @property
    def is_awaited(self) -> bool:
        """Whether an attachment awaits it: then its upload is looked for before anything else."""
        return self.test is not None


class Missing(NamedTuple):
    """Why a file was not found: the field of the reference, and a sentence about it."""

    field: str
    sentence: str


def files(
    db: Database, blobs: BlobStore, who: Caller, references: Sequence[Reference], *, most: int
) -> list[FoundFile | Missing]:
    """Return the file of each reference, or why there is none. Use the files within an hour.

    A file that was uploaded straight to the store is checked first: see ``uploads.py``. ``most``: the
    bytes that a file may have. Raises :class:`BlobStoreUnavailable`, :class:`DatabaseUnavailable`.
    """
    with db.read(who.tenant_id, tests_only=who.tests_only) as session:
        named = _attachments(session, who, references)
    digests = [_digest(one, named) for one in references]
    wanted = {one for one in digests if isinstance(one, Digest)}
    found: dict[Digest, Blob | Missing] = {**_visible(db, who, {one for one in wanted if not one.is_awaited})}
    for one in wanted - found.keys():
        found[one] = _uploaded(db, blobs, who, one, most)
    made = [_file(*pair, found, named) for pair in zip(references, digests, strict=True)]
    return _kept(db, who, made, named)


def attachment(session: Session, who: Caller, attachment_id: UUID) -> Attachment:
    """Return an attachment of the caller's tenant; for a test key, test data. Raises :class:`NotFound`."""
    found = repo.attachment(session, who.tenant_id, attachment_id, tests_only=who.tests_only)
    if found is None:
        raise missing()
    return found


def known(db: Database, blobs: BlobStore, who: Caller, kind: str, digest: str) -> Blob | None:
    """Return the caller's blob with a digest (``kind``: ``sha256`` or ``md5``), kept for an hour; or None.

    None, too, if its file is lost: the next upload brings it back. A test key finds only what test keys
    have uploaded. Raises :class:`BlobStoreUnavailable`.
    """
    blob = _visible(db, who, [one := Digest(kind, digest)]).get(one)
    if blob is None or blobs.size(key_of(who.tenant_id, blob.object_id)) != blob.size:
        return None
    with db.write(who.tenant_id) as session:
        there = repo.keep(session, who.tenant_id, [blob.sha256])
    return blob if there else None


def content_of(
    db: Database, blobs: BlobStore, who: Caller, attachment_id: UUID, *, most: int
) -> tuple[Attachment, Blob]:
    """Return an attachment of the caller's tenant with its blob. Its upload is checked first.

    Raises :class:`NotFound`, :class:`Conflict` if its file has not come or is wrong,
    :class:`VirusFound`, and :class:`BlobStoreUnavailable`.
    """
    with db.read(who.tenant_id, tests_only=who.tests_only) as session:
        its = attachment(session, who, attachment_id)
    digest = _digest(Reference(id=its.id), {its.id: its})
    assert isinstance(digest, Digest)
    found: Blob | Missing | None = None if digest.is_awaited else _visible(db, who, [digest]).get(digest)
    found = found or _uploaded(db, blobs, who, digest, most)
    if isinstance(found, Missing):
        raise Conflict(found.sentence)
    refuse_infected(found, its.filename)
    return its, found


def refuse_infected(blob: Blob, filename: str) -> None:
    """Raise :class:`VirusFound` for a content that may not be given out."""
    if blob.scan == "infected":
        raise VirusFound(f"{filename!r} is not given out: the virus scanner found {blob.scan_result}.")


def missing() -> NotFound:
    """Return the error for an attachment that does not exist or belongs to another tenant."""
    return NotFound("There is no such attachment.")


def _attachments(session: Session, who: Caller, references: Sequence[Reference]) -> dict[UUID, Attachment]:
    ids = {one.id for one in references if one.id is not None}
    if not ids:
        return {}
    return {one.id: one for one in repo.attachments(session, who.tenant_id, ids, tests_only=who.tests_only)}


def _digest(one: Reference, named: Mapping[UUID, Attachment]) -> Digest | Missing:
    """Return the digest of the file that a reference names."""
    if one.id is None:
        return Digest(one.field, one.sha256 or one.md5 or "")
    its = named.get(one.id)
    if its is None:
        return Missing("id", NO_ATTACHMENT)
    if its.awaited is None:
        return Digest("sha256", its.sha256 or "")
    kind, _, digest = its.awaited.partition("-")
    return Digest(kind, digest, test=its.test)


def _visible(db: Database, who: Caller, digests: Collection[Digest]) -> dict[Digest, Blob]:
    """Return those of these blobs that the tenant has. A test key finds only what test keys have uploaded."""
    if who.tests_only:
        with db.read(who.tenant_id, tests_only=True) as session:
            seen = repo.has_named(session, who.tenant_id, {one.hex for one in digests}, tests_only=True)
        digests = [one for one in digests if one.hex in seen]
    # Not a session for test data only: test and live data of a tenant share blobs.
    with db.read(who.tenant_id) as session:
        sha256s, md5s = ({one.hex for one in digests if one.kind == kind} for kind in ("sha256", "md5"))
        known = repo.blobs(session, who.tenant_id, sha256s, md5s) if digests else []
    # The newest come first, and must win if two contents have one MD5.
    blobs = {kind: {getattr(one, kind): one for one in reversed(known)} for kind in ("sha256", "md5")}
    return {one: blobs[one.kind][one.hex] for one in digests if one.hex in blobs[one.kind]}


def _uploaded(db: Database, blobs: BlobStore, who: Caller, one: Digest, most: int) -> Blob | Missing:
    """Check what was uploaded under a digest, and return its blob."""
    test = who.tests_only if one.test is None else one.test
    arrived = uploads.arrive(db, blobs, who.tenant_id, f"{one.kind}-{one.hex}", test=test, most=most)
    if isinstance(arrived, uploads.WrongUpload):
        return Missing(one.kind, arrived.sentence)
    # Look also if nothing came: another request may just have made a blob of the upload, or of the content.
    blob = _visible(db, who, [one]).get(one)
    if blob is None:
        name = "SHA-256" if one.kind == "sha256" else "MD5"
        return Missing(one.kind, f"No file with this {name} has been uploaded.")
    if arrived is None and one.is_awaited:
        uploads.settle(db, who.tenant_id, f"{one.kind}-{one.hex}", blob, test=test)
    return blob


def _file(
    one: Reference,
    digest: Digest | Missing,
    found: Mapping[Digest, Blob | Missing],
    named: Mapping[UUID, Attachment],
) -> FoundFile | Missing:
    blob = digest if isinstance(digest, Missing) else found[digest]
    if isinstance(blob, Missing):
        return Missing(one.field, blob.sentence)
    its = named[one.id] if one.id is not None else None
    filename = one.filename or (its.filename if its else "")
    if not filename:
        return Missing("filename", "A file that is named by its digest needs a filename.")
    return FoundFile(
        sha256=blob.sha256,
        md5=blob.md5,
        size=blob.size,
        object_id=blob.object_id,
        filename=filename,
        content_type=one.content_type or (its.content_type if its else None),
        scan=blob.scan,
        attachment_id=one.id,
    )


def _kept(
    db: Database, who: Caller, made: Sequence[FoundFile | Missing], named: Mapping[UUID, Attachment]
) -> list[FoundFile | Missing]:
    """Keep these files until the message that names them is committed. One may just have been deleted.

    A file that many messages name is written to rarely: its row would become the place where they wait.
    """
    wanted = {one.sha256 for one in made if isinstance(one, FoundFile)}
    if not wanted:
        return list(made)
    with db.read(who.tenant_id) as session:
        kept = repo.kept(session, who.tenant_id, wanted)
    if kept < wanted:
        with db.write(who.tenant_id) as session:
            kept |= repo.keep(session, who.tenant_id, wanted - kept)
    long_ago = datetime.now(UTC) - NOTED_AGAIN
    used = {one.id for one in named.values() if one.last_used_at < long_ago}
    if used:
        with db.write(who.tenant_id, tests_only=who.tests_only) as session:
            repo.use(session, who.tenant_id, used, tests_only=who.tests_only)
    gone = Missing("id", "This file has just been deleted; upload it again.")
    return [gone if isinstance(one, FoundFile) and one.sha256 not in kept else one for one in made]
