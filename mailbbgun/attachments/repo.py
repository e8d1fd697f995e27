"""Queries about blobs and attachments. They take a session and never commit.

Statements on blobs need a session without ``tests_only``: a tenant's test and live data share them.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, delete, func, select, true, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from mailbbgun.attachments.models import Attachment, Blob
from mailbbgun.core.ids import first_id_at, new_id
from mailbbgun.database.db import db_now, dialect_of
from mailbbgun.tenants import storage

#: Seconds that a blob is kept after each use, so that it is still there when what names it is committed.
GRACE = 3600

_UNSYNCHRONIZED = {"synchronize_session": False}


@dataclass(frozen=True, slots=True)
class WantedAttachments:
    """Which attachments to list."""

    tenant_id: UUID
    tests_only: bool = False
    filename: str | None = None
    sha256: str | None = None
    md5: str | None = None
    test: bool | None = None
    since: datetime | None = None
    until: datetime | None = None
    limit: int = 10
    offset: int = 0
    after: UUID | None = None


def record_blob(session: Session, tenant_id: UUID, sha256: str, values: Mapping[str, Any]) -> UUID:
    """Store a blob's row, unless there is one. Return the ``object_id`` of the row that is there now.

    ``values``: ``md5``, ``size`` and ``object_id``.
    """
    dialect = postgresql if dialect_of(session) == "postgresql" else sqlite
    row = {"tenant_id": tenant_id, "sha256": sha256, **values}
    statement = dialect.insert(Blob).values(**row, created_at=db_now(), kept_until=db_now(GRACE))
    statement = statement.on_conflict_do_update(
        index_elements=["tenant_id", "sha256"], set_={"kept_until": statement.excluded.kept_until}
    )
    object_id: UUID = session.execute(statement.returning(Blob.object_id)).scalar_one()
    return object_id


def replace_object(session: Session, tenant_id: UUID, sha256: str, lost: UUID, found: UUID) -> bool:
    """Let a blob have another file, because its own is lost. Return whether it still had that one."""
    its = (Blob.tenant_id == tenant_id, Blob.sha256 == sha256, Blob.object_id == lost)
    statement = update(Blob).where(*its).values(object_id=found).returning(Blob.sha256)
    return session.scalar(statement.execution_options(**_UNSYNCHRONIZED)) is not None


def blob(session: Session, tenant_id: UUID, sha256: str) -> Blob | None:
    """Return a blob of a tenant; None if it has no such content."""
    return session.scalar(select(Blob).where(Blob.tenant_id == tenant_id, Blob.sha256 == sha256))


def blobs(session: Session, tenant_id: UUID, sha256s: Collection[str], md5s: Collection[str] = ()) -> Sequence[Blob]:
    """Return those blobs of a tenant that have one of these digests, the newest first."""
    named = Blob.sha256.in_(sha256s) | Blob.md5.in_(md5s)
    return session.scalars(select(Blob).where(Blob.tenant_id == tenant_id, named).order_by(Blob.object_id.desc())).all()


def tenants_with_blobs(session: Session) -> Sequence[UUID]:
    """Return all tenants that have files."""
    return session.scalars(select(Blob.tenant_id).distinct()).all()


def all_blobs(session: Session, tenant_id: UUID, *, after: str, limit: int = 1000) -> Sequence[Blob]:
    """Return the next blobs of a tenant, by their SHA-256, behind the one with the SHA-256 ``after``."""
    its = (Blob.tenant_id == tenant_id, Blob.sha256 > after)
    return session.scalars(select(Blob).where(*its).order_by(Blob.sha256).limit(limit)).all()


def known_objects(session: Session, object_ids: Collection[UUID]) -> set[UUID]:
    """Return those of these files' ids that blobs of any tenant have."""
    return set(session.scalars(select(Blob.object_id).where(Blob.object_id.in_(object_ids))))


def count_storage(session: Session, tenant_id: UUID) -> None:
    """Count anew how many bytes a tenant's blobs have."""
    its = select(func.coalesce(func.sum(Blob.size), 0)).where(Blob.tenant_id == tenant_id)
    storage.correct(session, tenant_id, lambda: int(session.scalars(its).one()))


def kept(session: Session, tenant_id: UUID, sha256s: Collection[str]) -> set[str]:
    """Return those of these blobs of a tenant that are kept for most of :data:`GRACE`."""
    its = (Blob.tenant_id == tenant_id, Blob.sha256.in_(sha256s), Blob.kept_until >= db_now(GRACE * 0.75))
    return set(session.scalars(select(Blob.sha256).where(*its)))


def scanned(session: Session, tenant_id: UUID, sha256: str, state: str, words: str) -> None:
    """Note what the virus scanner said of a blob."""
    its = (Blob.tenant_id == tenant_id, Blob.sha256 == sha256)
    values = {"scan": state, "scan_result": words or None, "scanned_at": db_now()}
    session.execute(update(Blob).where(*its).values(**values).execution_options(**_UNSYNCHRONIZED))


def keep(session: Session, tenant_id: UUID, sha256s: Collection[str]) -> set[str]:
    """Keep blobs of a tenant for another :data:`GRACE`, and return which of them there are."""
    its = (Blob.tenant_id == tenant_id, Blob.sha256.in_(sha256s))
    later = func.greatest if dialect_of(session) == "postgresql" else func.max
    statement = update(Blob).where(*its).values(kept_until=later(Blob.kept_until, db_now(GRACE)))
    return set(session.scalars(statement.returning(Blob.sha256).execution_options(**_UNSYNCHRONIZED)))


def look_soon(session: Session, tenant_id: UUID, sha256: str) -> None:
    """Let a blob be deleted after :data:`GRACE` if no row refers to it by then."""
    its = (Blob.tenant_id == tenant_id, Blob.sha256 == sha256, Blob.kept_until > db_now(GRACE))
    session.execute(update(Blob).where(*its).values(kept_until=db_now(GRACE)).execution_options(**_UNSYNCHRONIZED))


def _its(tenant_id: UUID, tests_only: bool) -> list[ColumnElement[bool]]:
    return [Attachment.tenant_id == tenant_id, *([Attachment.test == true()] if tests_only else [])]


def add(session: Session, tenant_id: UUID, attachments: Sequence[Mapping[str, Any]], *, test: bool) -> list[Attachment]:
    """Store names for contents, in that order: ``filename``, ``content_type``, ``size``, and ``sha256``
    with ``md5``, or ``awaited``; an ``id`` if they shall have a certain one.
    """
    now = session.scalars(select(db_now())).one()
    common = {"tenant_id": tenant_id, "test": test, "created_at": now, "last_used_at": now}
    made = [Attachment(**{"id": new_id(), **common, **attachment}) for attachment in attachments]
    session.add_all(made)
    session.flush()
    return made


def attachment(
    session: Session, tenant_id: UUID, attachment_id: UUID, *, tests_only: bool = False
) -> Attachment | None:
    """Return an attachment of a tenant; None if it has no such one."""
    return session.scalar(select(Attachment).where(*_its(tenant_id, tests_only), Attachment.id == attachment_id))


def attachments(
    session: Session, tenant_id: UUID, ids: Collection[UUID], *, tests_only: bool = False
) -> Sequence[Attachment]:
    """Return those of these attachments that a tenant has."""
    return session.scalars(select(Attachment).where(*_its(tenant_id, tests_only), Attachment.id.in_(ids))).all()


def awaited(session: Session, tenant_id: UUID, digest: str, *, test: bool) -> Sequence[Attachment]:
    """Return the attachments whose file a client was to upload under this digest, oldest first."""
    its = (*_its(tenant_id, tests_only=test), Attachment.awaited == digest)
    own_kind = () if test else (Attachment.test.is_(False),)
    return session.scalars(select(Attachment).where(*its, *own_kind).order_by(Attachment.id)).all()


def awaited_size(session: Session, tenant_id: UUID) -> int:
    """Return the bytes of all files that clients of a tenant may yet upload."""
    its = (Attachment.tenant_id == tenant_id, Attachment.awaited.is_not(None))
    return int(session.scalar(select(func.coalesce(func.sum(Attachment.size), 0)).where(*its)) or 0)


def arrived(session: Session, tenant_id: UUID, digest: str, values: Mapping[str, Any], *, test: bool) -> None:
    """Give all attachments that waited for this digest its content: ``sha256``, ``md5`` and ``size``."""
    its = (*_its(tenant_id, tests_only=test), Attachment.awaited == digest)
    own_kind = () if test else (Attachment.test.is_(False),)
    statement = update(Attachment).where(*its, *own_kind).values(awaited=None, **values)
    session.execute(statement.execution_options(**_UNSYNCHRONIZED))


def has_named(session: Session, tenant_id: UUID, digests: Collection[str], *, tests_only: bool) -> set[str]:
    """Return those of these SHA-256 and MD5 digests that attachments of a tenant have."""
    found = select(Attachment.sha256, Attachment.md5).where(
        *_its(tenant_id, tests_only), Attachment.sha256.in_(digests) | Attachment.md5.in_(digests)
    )
    return {digest for row in session.execute(found) for digest in row if digest in digests}


def use(session: Session, tenant_id: UUID, ids: Collection[UUID], *, tests_only: bool) -> None:
    """Note that attachments are used now."""
    its = (*_its(tenant_id, tests_only), Attachment.id.in_(ids))
    session.execute(update(Attachment).where(*its).values(last_used_at=db_now()).execution_options(**_UNSYNCHRONIZED))


def remove(session: Session, tenant_id: UUID, attachment_id: UUID, *, tests_only: bool = False) -> bool:
    """Delete an attachment; return whether it existed."""
    its = (*_its(tenant_id, tests_only), Attachment.id == attachment_id)
    statement = delete(Attachment).where(*its).returning(Attachment.id)
    return session.scalar(statement.execution_options(**_UNSYNCHRONIZED)) is not None


def page(session: Session, wanted: WantedAttachments) -> tuple[Sequence[Attachment], int, UUID | None]:
    """Return a page of attachments, newest first, how many there are, and the last id if there are more."""
    its = _matching(wanted)
    count = session.scalar(select(func.count()).select_from(Attachment).where(*its)) or 0
    if not wanted.limit:
        return [], count, None
    older = [] if wanted.after is None else [Attachment.id < wanted.after]
    statement = select(Attachment).where(*its, *older).order_by(Attachment.id.desc())
    found = session.scalars(statement.offset(wanted.offset).limit(wanted.limit + 1)).all()
    shown = found[: wanted.limit]
    return shown, count, shown[-1].id if len(found) > wanted.limit else None


def _matching(wanted: WantedAttachments) -> list[ColumnElement[bool]]:
    conditions = _its(wanted.tenant_id, wanted.tests_only)
    for name in ("filename", "sha256", "md5", "test"):
        if (value := getattr(wanted, name)) is not None:
            conditions.append(getattr(Attachment, name) == value)
    if wanted.since is not None:
        conditions.append(Attachment.id >= first_id_at(wanted.since))
    if wanted.until is not None:
        conditions.append(Attachment.id < first_id_at(wanted.until))
    return conditions
