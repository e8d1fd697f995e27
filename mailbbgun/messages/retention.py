"""Retention: deletes the bodies of old messages, and later all that is known of them.

Pending messages stay, however old they are. Each batch is a commit of its own, and then others have
their turn. Events stay until EVENT_DAYS. Contents go with the last message that is made of them;
``attachments/expire.py`` then deletes their files.
"""

import logging
import threading
import time
from collections.abc import Collection
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import ColumnElement, delete, exists, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from mailbbgun.core.clock import rest_after
from mailbbgun.core.ids import first_id_at
from mailbbgun.database.db import Database, db_now
from mailbbgun.messages.models import CONTENTS, MESSAGES
from mailbbgun.messages.status import PENDING

#: Messages of one commit.
BATCH = 200

#: Seconds until messages are looked at again that were pending when they were old enough.
AGAIN_SECONDS = 86_400.0

_M = MESSAGES.c
_NOWHERE = UUID(int=0)
_HAS_BODY = or_(_M.raw.is_not(None), _M.content_id.is_not(None))

log = logging.getLogger("mailbbgun.messages")


class Retention:
    """Deletes what is too old, for one process. The days are counted from when a message was accepted.

    ``body_days``: for bodies; ``metadata_days``: for messages with their deliveries. 0: for ever.
    """

    def __init__(self, database: Database, body_days: int, metadata_days: int) -> None:
        self._database = database
        self.body_days, self.metadata_days = body_days, metadata_days
        self._looked_at = _NOWHERE  # bodies of messages up to this id were looked at
        self._again_at = 0.0  # monotonic seconds

    def run(self, stop: threading.Event) -> None:
        """Delete all that is too old, batch after batch, until ``stop`` is set.

        Raises :class:`DatabaseUnavailable`.
        """
        for step, days in ((self._bodies, self.body_days), (self._messages, self.metadata_days)):
            more = bool(days)
            while more and not stop.is_set():
                began = time.monotonic()
                try:
                    with self._database.write() as session:
                        more = step(session, _oldest(session, days))
                except IntegrityError as error:  # a message just began to share a content; the next time it is seen
                    log.info("content_needed", extra={"error": str(error.orig)})
                    more = False
                stop.wait(rest_after(time.monotonic() - began))

    def _bodies(self, session: Session, before: UUID) -> bool:
        """Delete the bodies of the next batch. Return whether there may be more."""
        if time.monotonic() >= self._again_at:
            self._looked_at, self._again_at = _NOWHERE, time.monotonic() + AGAIN_SECONDS
        old = select(_M.id, _M.content_id).where(_M.id > self._looked_at, _M.id < before).order_by(_M.id).limit(BATCH)
        found = session.execute(old).all()
        if not found:
            return False
        emptied = _emptied(session, [one.id for one in found])
        _forget_contents(session, {one.content_id for one in found if one.id in emptied and one.content_id})
        self._looked_at = found[-1].id
        if emptied:
            log.info("bodies_deleted", extra={"messages": len(emptied)})
        return len(found) == BATCH

    def _messages(self, session: Session, before: UUID) -> bool:
        """Delete a batch of messages. Return whether there may be more."""
        old = select(_M.id, _M.content_id).where(_M.id < before, _M.status != PENDING).order_by(_M.id).limit(BATCH)
        found = session.execute(old.with_for_update(skip_locked=True)).all()
        if not found:
            return False
        session.execute(delete(MESSAGES).where(_M.id.in_([one.id for one in found])))
        _forget_contents(session, {one.content_id for one in found if one.content_id})
        log.info("messages_deleted", extra={"messages": len(found)})
        return len(found) == BATCH


def _oldest(session: Session, days: int) -> UUID:
    """Return the smallest id of a message that was accepted within so many days, by the database's clock."""
    now: datetime = session.execute(select(db_now())).scalar_one()
    return first_id_at(now - timedelta(days=days))


def _emptied(session: Session, ids: Collection[UUID]) -> set[UUID]:
    """Delete the bodies of those of these messages that are not pending; return the ids of these."""
    finished: tuple[ColumnElement[bool], ...] = (_M.id.in_(ids), _M.status != PENDING, _HAS_BODY)
    statement = update(MESSAGES).where(*finished).values(raw=None, content_id=None, personal=None).returning(_M.id)
    return set(session.scalars(statement))


def _forget_contents(session: Session, ids: Collection[UUID]) -> None:
    """Delete those of these contents that no message is made of."""
    if ids:
        unused = ~exists().where(_M.content_id == CONTENTS.c.id)
        session.execute(delete(CONTENTS).where(CONTENTS.c.id.in_(ids), unused))
