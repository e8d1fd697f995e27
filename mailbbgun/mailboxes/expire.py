"""Deletes the bytes of mail that is in no mailbox any more: a worker does this now and then."""

from datetime import UTC, datetime, timedelta

from sqlalchemy import and_, delete, exists, select

from mailbbgun.database.db import Database
from mailbbgun.mailboxes.models import MAILBOX_CONTENTS, MAILBOX_MESSAGES
from mailbbgun.messages.models import DELIVERIES
from mailbbgun.messages.status import PENDING

#: Contents of one commit.
BATCH = 100
#: So long a content stays in any case: the result that needs it may not be committed yet.
KEPT = timedelta(days=1)


def forget_contents(database: Database) -> int:
    """Delete some contents that no mail needs, and no pending delivery; return how many.

    Raises :class:`DatabaseUnavailable`.
    """
    contents, mail, deliveries = MAILBOX_CONTENTS.c, MAILBOX_MESSAGES.c, DELIVERIES.c
    needed = exists().where(mail.content_id == contents.id)
    coming = exists().where(and_(deliveries.id == contents.delivery_id, deliveries.status == PENDING))
    old = contents.created_at < datetime.now(UTC) - KEPT
    found = select(contents.id).where(old, ~needed, ~coming).order_by(contents.created_at).limit(BATCH)
    with database.write() as session:
        gone = delete(MAILBOX_CONTENTS).where(contents.id.in_(found), ~needed).returning(contents.id)
        return len(session.scalars(gone).all())
