"""Cancels the deliveries of a message, tries them again, or changes when they are tried, as a person asks.

The API and the command line both use this.
"""

import time
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy.orm import Session

from mailbbgun.core.errors import Conflict
from mailbbgun.database.db import Database
from mailbbgun.events import causes
from mailbbgun.events.changes import record, rescheduling
from mailbbgun.messages import repo
from mailbbgun.messages.status import PENDING
from mailbbgun.queues.lanes import lane_of

#: Seconds to wait for deliveries that a worker is sending, at most, and between two looks at them.
PATIENCE, LOOK_SECONDS = 2.0, 0.05

#: Hands a message's id to the queue, on a lane.
Offer = Callable[[str, UUID], None]

#: Raises an error if a message to these recipients may not be changed; nothing is changed then.
Permit = Callable[[Session, Collection[str]], None]


class Changed(NamedTuple):
    """A message after the change, and how many of its deliveries changed.

    ``message`` is what ``messages.schemas.Details`` shows.
    """

    message: dict[str, Any]
    deliveries: int


def cancel(
    db: Database,
    tenant_id: UUID,
    message_id: UUID,
    *,
    tests_only: bool = False,
    permit: Permit | None = None,
    patience: float = PATIENCE,
) -> Changed:
    """Cancel the deliveries that have not left yet and that no worker is sending.

    Waits up to ``patience`` seconds for those that a worker is sending, and cancels those that come
    back unsent. Those that are still in hand after that may be sent, now or later: the message shows
    them as such. Calls ``permit``, if there is one, before this is committed. Raises what ``permit`` does,
    :class:`NotFound`, or :class:`Conflict` if there is no such delivery.
    """
    until, cancelled = time.monotonic() + patience, 0
    while True:
        with db.write(tenant_id, tests_only=tests_only) as session:
            found = record.cancel(session, tenant_id, message_id, tests_only=tests_only)
            if found and permit:
                permit(session, found)
        cancelled += len(found)
        message = _shown(db, tenant_id, message_id, tests_only)
        if not any(one.in_hand for one in message["deliveries"]) or time.monotonic() >= until:
            break
        time.sleep(LOOK_SECONDS)
    if not cancelled:
        raise Conflict(f"Nothing left to cancel: {_standing(message)}.")
    return Changed(message, cancelled)


def retry(
    db: Database,
    offer: Offer,
    tenant_id: UUID,
    message_id: UUID,
    *,
    tests_only: bool = False,
    permit: Permit | None = None,
) -> Changed:
    """Make deliveries due now.

    Failed deliveries begin a fresh schedule; those that wait for their next try stay on theirs.
    Calls ``permit``, if there is one, before this is committed, and ``offer`` after that. Raises
    what ``permit`` does, :class:`NotFound`, or :class:`Conflict` if no delivery has failed or
    waits.
    """
    with db.write(tenant_id, tests_only=tests_only) as session:
        if not repo.has_body(session, tenant_id, message_id, tests_only=tests_only):
            raise Conflict("It cannot be sent again: its body was deleted, as RETENTION_DAYS says.")
        retried = record.retry(session, tenant_id, message_id, tests_only=tests_only)
        if retried and permit:
            permit(session, retried)
        lane = repo.lane(session, tenant_id, message_id, tests_only=tests_only) if retried else ""
    message = _shown(db, tenant_id, message_id, tests_only)
    if not retried:
        raise Conflict(f"Nothing to try again: {_standing(message)}.")
    offer(lane, message_id)
    return Changed(message, len(retried))


def change(
    db: Database,
    offer: Offer,
    tenant_id: UUID,
    message_id: UUID,
    values: Mapping[str, Any],
    *,
    tests_only: bool = False,
    permit: Permit | None = None,
) -> Changed:
    """Change a pending message: its ``send_at`` (None: now), ``useful_until``, ``priority``, ``tags``, ``metadata``.

    Calls ``permit``, if there is one, before this is committed, and ``offer`` after that. Raises
    what ``permit`` does, :class:`NotFound`, or :class:`Conflict` if the message has ended, or a worker
    is sending all that would be moved.
    """
    if not values:
        return Changed(_shown(db, tenant_id, message_id, tests_only), 0)
    whose: tuple[UUID, UUID] = (tenant_id, message_id)
    with db.write(tenant_id, tests_only=tests_only) as session:
        moved: Collection[str] = ()
        if "priority" in values:
            moved = rescheduling.change_lane(session, *whose, lane_of(values["priority"]), tests_only=tests_only)
        if "send_at" in values:
            moved = rescheduling.move(session, *whose, values["send_at"], tests_only=tests_only)
        changed = bool(moved or not values.keys() & {"priority", "send_at"}) and rescheduling.change(
            session, *whose, values, tests_only=tests_only
        )
        if changed and permit:
            permit(session, moved)
        lane = repo.lane(session, *whose, tests_only=tests_only) if moved else ""
    message = _shown(db, tenant_id, message_id, tests_only)
    if not changed:
        raise Conflict(f"Nothing to change: {_standing(message)}.")
    if moved:
        offer(lane, message_id)
    return Changed(message, len(moved))


def _shown(db: Database, tenant_id: UUID, message_id: UUID, tests_only: bool) -> dict[str, Any]:
    return causes.details(db, tenant_id, message_id, tests_only=tests_only)


def _standing(message: dict[str, Any]) -> str:
    """Return why nothing of a message can be changed."""
    pending = [one for one in message["deliveries"] if one.status == PENDING]
    if any(one.in_hand for one in pending):
        return "it is being sent at this moment"
    if any(one.next_attempt_at is None for one in pending):
        return "it is held until its tenant is active again"
    return "it is due already, and waits for a worker" if pending else f"it has ended as {message['status']}"
