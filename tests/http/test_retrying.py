"""Messages are cancelled, and tried again."""

from datetime import UTC, datetime
from uuid import UUID

import pytest
from sqlalchemy import select, update

from mailbbgun.database.db import db_now
from mailbbgun.events.kinds import Kind
from mailbbgun.messages.models import Delivery
from mailbbgun.queues.models import QueuedHint
from tests.flow.service import until
from tests.http.outcomes import OWNER, claim, end, fail


def delivery(door, identifier):
    """Read a message's only delivery."""
    with door.services.db.read() as session:
        return session.scalars(select(Delivery).where(Delivery.message_id == UUID(identifier))).one()


def soon(door, identifier):
    """Return the seconds until a message's only delivery is due."""
    return (delivery(door, identifier).next_attempt_at - datetime.now(UTC)).total_seconds()


def hints(door, identifier):
    """Return the lanes of a message's hints on the queue."""
    with door.services.db.read() as session:
        return list(session.scalars(select(QueuedHint.lane).where(QueuedHint.message_id == UUID(identifier))))


def marked(found):
    """Return whether a delivery is marked as hinted since it became due."""
    return found.published_at is not None and found.published_at >= found.next_attempt_at


def test_a_message_that_has_not_left_can_be_cancelled_once(door):
    identifier = door.send(to=["ann@example.com", "ben@example.com"])
    answer = door.call("DELETE", f"/messages/{identifier}")
    assert answer.status_code == 200
    assert answer.json() == door.get(f"/messages/{identifier}")
    assert {answer.json()["status"], *(one["status"] for one in answer.json()["deliveries"])} == {"CANCELLED"}
    again = door.call("DELETE", f"/messages/{identifier}")
    assert (again.status_code, again.json()["error"]["code"]) == (409, "conflict")


def test_a_message_that_a_worker_has_claimed_cannot_be_cancelled(door):
    identifier = door.send()
    claim(door, identifier)
    answer = door.call("DELETE", f"/messages/{identifier}")
    assert answer.status_code == 409
    assert "being sent at this moment" in answer.json()["error"]["message"]
    assert door.get(f"/messages/{identifier}")["status"] == "PENDING"


def test_a_failed_message_can_be_made_due_again_with_a_fresh_schedule(door):
    identifier = door.send()
    fail(door, identifier)
    failed = door.get(f"/messages/{identifier}")["deliveries"][0]
    assert (failed["status"], failed["reason"], failed["last_reply"], failed["attempts"]) == (
        "ERROR",
        "bounced",
        "550 5.1.1 no such user",
        1,
    )
    assert failed["finished_at"].endswith("Z")
    answer = door.call("POST", f"/messages/{identifier}/retry", json={})
    shown = answer.json()["deliveries"][0]
    # The retry schedule begins again; the number of attempts does not.
    assert (answer.status_code, answer.json()["status"], shown["finished_at"], shown["attempts"]) == (
        200,
        "PENDING",
        None,
        1,
    )
    assert delivery(door, identifier).tries == 0
    assert [one["kind"] for one in door.get(f"/messages/{identifier}/events")["events"]] == [
        "retried",
        "bounced",
        "accepted",
    ]


def test_a_delivery_that_waits_is_made_due_now_keeps_its_schedule_and_is_hinted_on_its_lane(door):
    identifier = door.send(priority=9)
    end(door, identifier, Kind.DEFERRED, "PENDING", code=451, reply="4.7.1 greylisted", wait=600, hinted=600)
    assert soon(door, identifier) > 590
    answer = door.call("POST", f"/messages/{identifier}/retry")
    (shown,) = answer.json()["deliveries"]
    assert (answer.status_code, answer.json()["status"]) == (200, "PENDING")
    assert (shown["attempts"], shown["last_reply"]) == (1, "451 4.7.1 greylisted")
    assert soon(door, identifier) < 1
    assert [one["kind"] for one in door.get(f"/messages/{identifier}/events")["events"]] == [
        "retried",
        "deferred",
        "accepted",
    ]
    # The first hint, and that of the retry.
    until(lambda: hints(door, identifier) == ["high", "high"], what="the hint")
    until(lambda: marked(delivery(door, identifier)), what="the mark of it")


def test_a_retry_takes_those_of_several_deliveries_that_can_be_tried_again(door):
    identifier = door.send(to=["ann@example.com", "ben@example.com", "cis@example.com", "dot@example.com"])
    held, waiting, failed, _ = claim(door, identifier)
    with door.services.db.write() as session:
        session.execute(
            update(Delivery)
            .where(Delivery.message_id == UUID(identifier), Delivery.id != held)
            .values(lease_owner=None)
        )
        session.execute(
            update(Delivery)
            .where(Delivery.id == waiting)
            .values(next_attempt_at=db_now(600), tries=2, crashes=1, unknowns=1)
        )
        session.execute(
            update(Delivery).where(Delivery.id == failed).values(status="ERROR", tries=2, crashes=1, unknowns=1)
        )
    assert door.call("POST", f"/messages/{identifier}/retry").status_code == 200
    retried = [
        one["address"] for one in door.get(f"/messages/{identifier}/events")["events"] if one["kind"] == "retried"
    ]
    assert sorted(retried) == ["ben@example.com", "cis@example.com"]
    with door.services.db.read() as session:
        rows = session.scalars(
            select(Delivery).where(Delivery.message_id == UUID(identifier)).order_by(Delivery.id)
        ).all()
    assert [(one.tries, one.crashes, one.unknowns) for one in rows] == [(0, 0, 0), (2, 1, 1), (0, 0, 0), (0, 0, 0)]
    assert rows[0].lease_owner == OWNER


@pytest.mark.parametrize(
    ("prepare", "why"),
    [
        (claim, "being sent at this moment"),
        (lambda *_: None, "due already"),
        (
            lambda door, identifier: end(door, identifier, Kind.DELIVERED, "DELIVERED", code=250, reply="2.0.0 ok"),
            "ended as DELIVERED",
        ),
        (lambda door, identifier: door.call("DELETE", f"/messages/{identifier}"), "ended as CANCELLED"),
    ],
    ids=["being sent", "due", "delivered", "cancelled"],
)
def test_what_cannot_be_tried_again_is_409_and_says_why(door, prepare, why):
    identifier = door.send()
    prepare(door, identifier)
    before = door.get(f"/messages/{identifier}")
    answer = door.call("POST", f"/messages/{identifier}/retry")
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "conflict")
    assert why in answer.json()["error"]["message"]
    assert door.get(f"/messages/{identifier}") == before
    assert "retried" not in [one["kind"] for one in door.get(f"/messages/{identifier}/events")["events"]]
