"""Shows messages with the causes of their failures, which the log has."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from sqlalchemy import select

from mailbbgun.database.db import Database
from mailbbgun.events.kinds import Kind
from mailbbgun.events.models import Event
from mailbbgun.messages import find
from mailbbgun.messages.api import DetailsDoor
from mailbbgun.messages.models import Delivery
from mailbbgun.messages.repo import of_test_messages
from mailbbgun.messages.status import Reason

#: Events that are looked at, at most: the newest.
MOST_EVENTS = 2_000

_KINDS = tuple(kind.value for kind in (Kind.BOUNCED, Kind.DEFERRED, Kind.EXPIRED))


def details(database: Database, tenant_id: UUID, message_id: UUID, *, tests_only: bool = False) -> dict[str, Any]:
    """Do what :func:`find.details` does, and add ``causes``: what each delivery's last reply means.

    Raises what that does.
    """
    found = find.details(database, tenant_id, message_id, tests_only=tests_only)
    replied = {one.id: one for one in found["deliveries"] if one.finished_at is None or one.reason is not None}
    # A report of a bounce may have a status code and no words.
    if not any(one.reply or one.reason == Reason.BOUNCED for one in replied.values()):
        return found | {"causes": {}}
    its = (Event.tenant_id == tenant_id, Event.message_id == message_id, Event.kind.in_(_KINDS))
    tests = of_test_messages(Event.message_id, tenant_id, tests_only)
    statement = select(Event.delivery_id, Event.data).where(*its, *tests).order_by(Event.id.desc()).limit(MOST_EVENTS)
    with database.read(tenant_id, tests_only=tests_only) as session:
        events = session.execute(statement).all()
    causes: dict[UUID, Mapping[str, str]] = {}
    for delivery_id, data in events:  # newest first
        if delivery_id in replied and _is_about(data, replied[delivery_id]):
            causes.setdefault(delivery_id, {"cause": data["cause"], "class": data["class"]})
    return found | {"causes": causes}


def door(database: Database) -> DetailsDoor:
    """Return what answers ``GET /messages/{id}``."""
    return DetailsDoor(lambda tenant_id, message_id, tests: details(database, tenant_id, message_id, tests_only=tests))


def _is_about(data: Mapping[str, Any], delivery: Delivery) -> bool:
    """Return whether an event is about a delivery's last reply, and names its cause."""
    return "cause" in data and (data.get("code"), data.get("reply")) == (delivery.reply_code, delivery.reply)
