"""Deletes shared files whose time has come. ``attachments/expire.py`` then deletes what nothing else needs."""

from sqlalchemy import delete, select

from mailbbgun.attachments import repo as contents
from mailbbgun.database.db import Database, db_now
from mailbbgun.files.models import NamedFile

#: Files of one commit.
BATCH = 500


def expire(db: Database) -> bool:
    """Delete a batch of files whose time has come. Return whether there may be more.

    Raises :class:`DatabaseUnavailable`.
    """
    with db.write() as session:
        oldest = (
            select(NamedFile.id).where(NamedFile.expires_at <= db_now()).order_by(NamedFile.expires_at).limit(BATCH)
        )
        doomed = delete(NamedFile).where(NamedFile.id.in_(oldest.with_for_update(skip_locked=True)))
        gone = session.execute(
            doomed.returning(NamedFile.tenant_id, NamedFile.sha256).execution_options(synchronize_session=False)
        ).all()
        for tenant_id, sha256 in gone:
            contents.look_soon(session, tenant_id, sha256)
    return len(gone) == BATCH
