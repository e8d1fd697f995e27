"""The verb: note that somebody opened a mail or followed a link in it."""

from typing import NamedTuple

from sqlalchemy.exc import IntegrityError

from mailbbgun.composing.tracking import TrackedURL
from mailbbgun.database.db import Database
from mailbbgun.events import log
from mailbbgun.events.kinds import Kind
from mailbbgun.tracking import repo

#: Events of a kind by one sort of visitor that a message gets, at most: whoever has a link could fill the log.
MOST_EVENTS = 100


class Visit(NamedTuple):
    """Who asked: one of ``visitors.VISITORS``, the User-Agent, and the IP address."""

    by: str
    agent: str | None
    address: str | None


def record(database: Database, url: TrackedURL, visit: Visit, *, keep_address: bool) -> bool:
    """Append an event, ``opened`` or ``clicked``; return whether there is one.

    There is none if retention has deleted the message, or it has :data:`MOST_EVENTS` already. Raises
    :class:`DatabaseUnavailable`.
    """
    kind = Kind.OPENED if url.target is None else Kind.CLICKED
    with database.read() as session:
        found = repo.find(session, url.message_id)
        if found is None:
            return False
        if repo.counted(session, found.tenant_id, url.message_id, kind.value, visit.by) >= MOST_EVENTS:
            return False
    try:
        return _append(database, url, visit, found, keep_address)
    except IntegrityError:  # the message has just been deleted
        return False


def _append(database: Database, url: TrackedURL, visit: Visit, its: repo.Tracked, keep_address: bool) -> bool:
    kind = Kind.OPENED if url.target is None else Kind.CLICKED
    with database.write(its.tenant_id, tests_only=its.test) as session:
        n = repo.count(session, its.tenant_id, url.message_id, kind.value, visit.by)
        if n > MOST_EVENTS:
            return False
        data = {"by": visit.by, "first": n == 1, "url": url.target, "user_agent": visit.agent}
        event = log.event(its.tenant_id, url.message_id, its.delivery_id, kind, data)
        log.append(session, [event])
        if keep_address and visit.address:
            repo.keep_address(session, event, visit.address)
        log.log_after_commit(session, [event], [None])
    return True
