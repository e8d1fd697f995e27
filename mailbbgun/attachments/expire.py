"""Deletes files that nobody needs: unused attachments, then contents that no row refers to.

Rows go first, and are committed; then the files go. A process that dies in between leaves files
without rows, which ``bin/mailbbgun blobs check --repair`` finds. An upload of the same content
meanwhile has a file of its own: see :class:`Blob`.
"""

import logging
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, ForeignKeyConstraint, and_, delete, exists, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from mailbbgun.attachments import uploads
from mailbbgun.attachments.models import ATTACHMENTS, BLOBS, key_of
from mailbbgun.blobs.base import BlobStore
from mailbbgun.database.db import Base, Database, db_now
from mailbbgun.tenants import storage

#: Rows of one commit. Others wait for a transaction no longer than it takes to delete so many.
BATCH = 500

#: Seconds until a blob that a row refers to is looked at again.
USED_SECONDS = 86_400

#: Seconds that an attachment waits for its file, and that an upload waits to be named.
AWAITED_SECONDS = 2 * 86_400

log = logging.getLogger("mailbbgun.attachments")


def expire(db: Database, blobs: BlobStore, days: int) -> bool:
    """Delete a batch of unused attachments, and look at a batch of contents. Return whether there may be more.

    ``days``: how long an attachment is kept after its last use; 0: for
    ever. Raises :class:`DatabaseUnavailable`, :class:`BlobStoreUnavailable`.
    """
    with db.write() as session:
        gone = _attachments(session, days)
    try:
        with db.write() as session:
            looked_at, unused = _contents(session)
    except IntegrityError as error:  # a message just began to need one of them; the next time it is seen
        log.info("content_needed", extra={"error": str(error.orig)})
        return gone == BATCH
    blobs.delete(unused)
    if gone or unused:
        log.info("files_expired", extra={"attachments": gone, "contents": len(unused)})
    return gone == BATCH or looked_at == BATCH


def forget_uploads(blobs: BlobStore) -> None:
    """Delete what was uploaded straight to the store and named by nobody, and what killed uploads left."""
    before = datetime.now(UTC) - timedelta(seconds=AWAITED_SECONDS)
    blobs.delete([found.key for found in blobs.keys(f"{uploads.FOLDER}/") if found.modified < before])
    blobs.clean(before)


def _attachments(session: Session, days: int) -> int:
    """Delete attachments that are unused, or whose file never came."""
    late = [and_(ATTACHMENTS.c.awaited.is_not(None), ATTACHMENTS.c.last_used_at < db_now(-AWAITED_SECONDS))]
    if days:
        late.append(ATTACHMENTS.c.last_used_at < db_now(-days * 86_400))
    oldest = select(ATTACHMENTS.c.id).where(or_(*late)).order_by(ATTACHMENTS.c.last_used_at).limit(BATCH)
    doomed = oldest.with_for_update(skip_locked=True)
    statement = delete(ATTACHMENTS).where(ATTACHMENTS.c.id.in_(doomed)).returning(ATTACHMENTS.c.id)
    return len(session.execute(statement).all())


def _contents(session: Session) -> tuple[int, list[str]]:
    """Delete blobs to which no row refers. Return how many were looked at, and the keys of their files."""
    due = BLOBS.c.kept_until < db_now()
    looked_at = select(BLOBS.c.object_id).where(due).order_by(BLOBS.c.kept_until).limit(BATCH)
    ids = session.scalars(looked_at.with_for_update(skip_locked=True)).all()
    if not ids:
        return 0, []
    these = BLOBS.c.object_id.in_(ids)
    unused = [~exists().where(referring) for referring in _references()]
    doomed = delete(BLOBS).where(these, due, *unused)
    gone = session.execute(doomed.returning(BLOBS.c.tenant_id, BLOBS.c.object_id, BLOBS.c.size)).all()
    session.execute(update(BLOBS).where(these).values(kept_until=db_now(USED_SECONDS)))
    freed = Counter[UUID]()
    for tenant_id, _, size in gone:
        freed[tenant_id] += size
    storage.subtract(session, freed)
    return len(ids), [key_of(tenant_id, object_id) for tenant_id, object_id, _ in gone]


def _references() -> Iterator[ColumnElement[bool]]:
    """Yield, for each foreign key to blobs, the condition that a row refers to a blob by it."""
    for table in Base.metadata.tables.values():
        for constraint in table.constraints:
            if isinstance(constraint, ForeignKeyConstraint) and constraint.referred_table is BLOBS:
                pairs: Any = [(one.parent, one.column) for one in constraint.elements]
                yield and_(*(own == other for own, other in pairs))
