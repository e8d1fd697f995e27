"""Ends deliveries as a worker would, for tests without a worker."""

from uuid import UUID, uuid4

from sqlalchemy import update

from mailbbgun.core.ids import DEFAULT_TENANT
from mailbbgun.events.changes import record
from mailbbgun.events.kinds import Kind, Reason
from mailbbgun.messages.models import Delivery

OWNER = uuid4()


def ids(answer):
    """Return the ids of the messages in a list."""
    return [message["id"] for message in answer["messages"]]


def claim(door, identifier):
    """Claim a message's deliveries, as a worker does. Return their ids."""
    with door.services.db.write() as session:
        session.execute(
            update(Delivery).where(Delivery.message_id == UUID(identifier)).values(lease_owner=OWNER, attempt=1)
        )
    return [UUID(one["id"]) for one in door.get(f"/messages/{identifier}")["deliveries"]]


def end(door, identifier, kind, status, **more):
    """End an attempt of each of a message's deliveries."""
    ended = {"counted": True, "attempted": True} | more
    results = [
        record.Result(one, UUID(identifier), DEFAULT_TENANT, 1, kind, status, **ended)
        for one in claim(door, identifier)
    ]
    with door.services.db.write() as session:
        assert len(record.write_results(session, OWNER, results)) == len(results)


def fail(door, identifier):
    """Let all of a message's deliveries bounce."""
    end(door, identifier, Kind.BOUNCED, "ERROR", reason=Reason.BOUNCED, code=550, reply="5.1.1 no such user")
