"""Deletes the bytes of mail that is in no mailbox any more. A worker does this, a few at a time."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

from sqlalchemy import and_, delete, exists, select

from mailbbgun.database.db import Database
from mailbbgun.mailboxes.models import MAILBOX_CONTENTS, MAILBOX_MESSAGES, MAILBOX_WORDS
from mailbbgun.messages.models import DELIVERIES
from mailbbgun.messages.status import PENDING

#: Contents that one turn looks at. It reads no mail.
LOOKED_AT = 1000
#: So long a content stays in any case: the result that needs it may not be committed yet.
KEPT = timedelta(days=1)

_FIRST = UUID(int=0)


class UnusedContents:
    """Goes through all contents in the order of their ids, again and again."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._after = _FIRST

    def forget(self) -> int:
        """Delete, of the next contents, those that no mail needs and no pending delivery; return how many.

        Raises :class:`DatabaseUnavailable`.
        """
        contents, mail, deliveries = MAILBOX_CONTENTS.c, MAILBOX_MESSAGES.c, DELIVERIES.c
        old = contents.created_at < datetime.now(UTC) - KEPT
        next_ones = select(contents.id).where(contents.id > self._after, old).order_by(contents.id).limit(LOOKED_AT)
        needed = exists().where(mail.content_id == contents.id)
        coming = exists().where(and_(deliveries.id == contents.delivery_id, deliveries.status == PENDING))
        with self._database.write() as session:
            found = session.scalars(next_ones).all()
            gone = delete(MAILBOX_CONTENTS).where(contents.id.in_(found), ~needed, ~coming).returning(contents.id)
            forgotten = session.scalars(gone).all()
            # They go with them, but where the database does not see to it.
            session.execute(delete(MAILBOX_WORDS).where(MAILBOX_WORDS.c.content_id.in_(forgotten)))
        self._after = found[-1] if len(found) == LOOKED_AT else _FIRST
        return len(forgotten)
