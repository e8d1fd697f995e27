"""The verb: count the log of a tenant again.

It deletes figures and moves the cursor back to the beginning, in one commit; then the events are counted
as always. If it is killed, workers go on. Figures of times whose events or messages may have been
deleted stay as they are.
"""

import time
from collections.abc import Callable
from uuid import UUID

from sqlalchemy import update

from mailbbgun.database.db import Database, db_now
from mailbbgun.events import cursors, reading
from mailbbgun.events.reading import START
from mailbbgun.settings.settings import Settings
from mailbbgun.statistics import repo
from mailbbgun.statistics.counting import DAY
from mailbbgun.statistics.follow import CURSOR, LEASE_SECONDS, Follower, lease, locked
from mailbbgun.statistics.models import READERS


def rebuild(
    database: Database,
    settings: Settings,
    tenant_id: UUID,
    owner: UUID,
    rest: Callable[[float], object] = time.sleep,
) -> int | None:
    """Count all events of a tenant again, and return when they are counted.

    Returns the start of the first day that was counted anew, in seconds since 1970; None: all were.
    Raises :class:`DatabaseUnavailable`.
    """
    since = first_whole_day(settings, time.time())
    with database.write() as session:
        lease(session, tenant_id, owner)  # this makes the row, if there is none
        locked(session, tenant_id)
        repo.forget(session, tenant_id, since)
        # A worker that has the lease loses it. What it has read by now does not count any more.
        ours = {"since": since, "owner": owner, "lease_until": db_now(LEASE_SECONDS)}
        session.execute(update(READERS).where(READERS.c.tenant_id == tenant_id).values(ours))
        cursors.move(session, tenant_id, CURSOR, START)
    with database.read(tenant_id) as session:
        end = reading.end(session, tenant_id)
    follower = Follower(database, settings, owner)
    while True:
        if not follower.turn(tenant_id):
            with database.read(tenant_id) as session:
                if (cursors.place(session, tenant_id, CURSOR) or START) >= end:
                    return since
            rest(0.2)  # a worker counts it


def first_whole_day(settings: Settings, now: float) -> int | None:
    """Return the start of the first day whose events and messages are all there; None: no day lacks any."""
    days = [one for one in (settings.EVENT_DAYS, settings.METADATA_DAYS) if one]
    if not days:
        return None
    oldest = int(now) - min(days) * DAY
    return -(-oldest // DAY) * DAY
