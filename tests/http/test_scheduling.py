"""Messages are scheduled, moved, limited to a time in which they are useful, and cancelled."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from uuid import UUID

import pytest
from sqlalchemy import update

from mailbbgun.deliver.context import WorkerContext
from mailbbgun.deliver.deliver import take
from mailbbgun.events.kinds import Kind
from mailbbgun.messages.models import Delivery, Message
from mailbbgun.sweep.hints import hint_again, scheduled
from tests.flow.service import until
from tests.http.outcomes import claim, end, ids
from tests.http.posting import ANOTHER_WAY, GOOD, wrong
from tests.http.test_retrying import delivery, hints


def later(**span):
    """Return a time so much later, to the second."""
    return datetime.now(UTC).replace(microsecond=0) + timedelta(**span)


def as_shown(moment):
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")


def kinds(door, identifier):
    return [one["kind"] for one in door.get(f"/messages/{identifier}/events")["events"]]


@pytest.fixture
def taken(door, tmp_path):
    """Return what a worker claims of a message now: the recipients. Its claims are not given back."""
    context = WorkerContext.open(door.services)

    def take_it(identifier):
        return [one.address for found in take(context, [UUID(identifier)]) for one in found.claims]

    yield take_it
    context.close(5.0)


@pytest.mark.parametrize("headers", [{}, ANOTHER_WAY])
def test_a_scheduled_message_is_shown_with_its_time_and_is_not_hinted(door, headers, taken):
    moment = later(hours=1)
    forms = (moment.isoformat(), format_datetime(moment), int(moment.timestamp()), str(int(moment.timestamp())))
    for form in forms:
        answer = door.post(GOOD | {"send_at": form}, **headers)
        assert answer.status_code == 201, answer.text
        identifier = answer.json()["id"]
        shown = door.get(f"/messages/{identifier}")
        assert (shown["send_at"], shown["status"], shown["useful_until"]) == (as_shown(moment), "PENDING", None)
        assert shown["deliveries"][0]["next_attempt_at"] == as_shown(moment)
        assert kinds(door, identifier) == ["scheduled", "accepted"]
        assert taken(identifier) == []
    assert {one["send_at"] for one in door.get("/messages", limit=4)["messages"]} == {as_shown(moment)}
    door.send()  # whose hint comes after those of the messages before it
    assert not hints(door, identifier)


def test_a_time_in_the_past_is_now(door):
    identifier = door.send(send_at="2001-01-01T00:00:00Z")
    assert door.get(f"/messages/{identifier}")["send_at"] is None
    until(lambda: hints(door, identifier), what="the hint")


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"send_at": "soon"}, "send_at"),
        ({"send_at": 1_798_099_200_000}, "send_at"),  # milliseconds
        ({"send_at": True}, "send_at"),
        ({"useful_until": "2020-01-01"}, "useful_until"),
        ({"ttl": 0}, "ttl"),
        ({"ttl": "60"}, "ttl"),
        ({"ttl": 10**12}, "ttl"),
        ({"ttl": 60, "useful_until": "2090-01-01"}, "ttl"),
    ],
)
def test_a_wrong_time_is_refused_and_named(door, given, field):
    for method, path in (("POST", "/messages"), ("PATCH", f"/messages/{door.send()}")):
        wrong(door.call(method, path, json=(GOOD if method == "POST" else {}) | given), field)


def test_nothing_is_scheduled_further_ahead_than_the_setting_allows(door):
    wrong(door.post(GOOD | {"send_at": later(days=31).isoformat()}), "send_at")
    identifier = door.send(send_at=later(days=29).isoformat())
    wrong(door.call("PATCH", f"/messages/{identifier}", json={"send_at": later(days=31).isoformat()}), "send_at")


def test_a_moved_message_is_due_at_its_new_time_only(door, taken):
    identifier = door.send(send_at=later(hours=1).isoformat())
    moment = later(hours=2)
    answer = door.call("PATCH", f"/messages/{identifier}", json={"send_at": moment.isoformat()})
    assert (answer.status_code, answer.json()["send_at"]) == (200, as_shown(moment))
    assert answer.json()["deliveries"][0]["next_attempt_at"] == as_shown(moment)
    assert kinds(door, identifier) == ["rescheduled", "scheduled", "accepted"]
    (event, *_) = door.get(f"/messages/{identifier}/events")["events"]
    assert event["data"] == {"send_at": as_shown(moment)}
    assert taken(identifier) == []
    answer = door.call("PATCH", f"/messages/{identifier}", json={"send_at": None})
    assert (answer.status_code, answer.json()["send_at"]) == (200, None)
    until(lambda: hints(door, identifier), what="the hint")
    assert taken(identifier) == ["ann@example.com"]
    assert taken(identifier) == []  # it is in hand, so it leaves once
    answer = door.call("PATCH", f"/messages/{identifier}", json={"send_at": moment.isoformat()})
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "conflict")
    assert "being sent at this moment" in answer.json()["error"]["message"]


def test_a_message_that_waits_at_the_queue_can_be_moved_and_the_old_hint_does_no_harm(door, taken):
    identifier = door.send()
    until(lambda: hints(door, identifier), what="the hint")
    assert door.call("PATCH", f"/messages/{identifier}", json={"send_at": later(hours=1).isoformat()}).ok
    assert taken(identifier) == []
    assert delivery(door, identifier).published_at is None


def test_a_cancelled_message_never_leaves_and_cannot_be_moved(door, taken):
    identifier = door.send(send_at=later(hours=1).isoformat())
    assert door.call("DELETE", f"/messages/{identifier}").json()["status"] == "CANCELLED"
    answer = door.call("PATCH", f"/messages/{identifier}", json={"send_at": None})
    assert (answer.status_code, "ended as CANCELLED" in answer.json()["error"]["message"]) == (409, True)
    assert taken(identifier) == []


def test_a_scheduled_message_is_hinted_once_it_is_due_and_not_before(door):
    soon, far = door.send(send_at=later(hours=1).isoformat(), priority=9), door.send(send_at=later(days=1).isoformat())
    with door.services.db.write() as session:
        session.execute(
            update(Delivery).where(Delivery.message_id == UUID(soon)).values(next_attempt_at=later(seconds=-1))
        )
    hint_again(door.services.db, door.services.queue, scheduled())
    assert (hints(door, soon), hints(door, far)) == (["high"], [])
    hint_again(door.services.db, door.services.queue, scheduled())
    assert hints(door, soon) == ["high"]


def test_a_message_that_is_useful_no_more_ends_as_expired_at_its_claim(door, taken):
    identifier = door.send(to=["ann@example.com", "ben@example.com"], ttl=3600)
    assert door.get(f"/messages/{identifier}")["useful_until"] is not None
    with door.services.db.write() as session:
        session.execute(update(Message).where(Message.id == UUID(identifier)).values(useful_until=later(seconds=-1)))
    assert taken(identifier) == []
    until(lambda: door.get(f"/messages/{identifier}")["status"] == "ERROR", what="the end")
    shown = door.get(f"/messages/{identifier}")
    assert [(one["reason"], one["attempts"]) for one in shown["deliveries"]] == [("expired", 0)] * 2
    assert kinds(door, identifier) == ["expired", "expired", "accepted"]


def test_a_message_is_claimed_while_it_is_useful(door, taken):
    identifier = door.send(useful_until=later(hours=1).isoformat())
    assert taken(identifier) == ["ann@example.com"]


def test_useful_until_can_be_moved_and_lifted_and_never_before_the_sending_time(door):
    identifier = door.send(send_at=later(hours=2).isoformat(), ttl=60)
    path = f"/messages/{identifier}"
    wrong(door.call("PATCH", path, json={"useful_until": later(hours=1).isoformat()}), "useful_until")
    wrong(door.call("PATCH", path, json={"send_at": later(hours=3).isoformat()}), "useful_until")
    moment = later(hours=4)
    assert door.call("PATCH", path, json={"useful_until": moment.isoformat()}).json()["useful_until"] == as_shown(
        moment
    )
    assert door.call("PATCH", path, json={"useful_until": None}).json()["useful_until"] is None


def test_priority_tags_and_metadata_of_a_pending_message_can_be_changed(door, tag):
    identifier = door.send(tags=["old"], metadata={"a": 1}, send_at=later(hours=1).isoformat())
    answer = door.call(
        "PATCH", f"/messages/{identifier}", json={"priority": 9, "tags": [tag, tag, "b"], "metadata": {"b": 2}}
    )
    shown = answer.json()
    assert (shown["priority"], shown["tags"], shown["metadata"]) == (9, [tag, "b"], {"b": 2})
    assert ids(door.get("/messages", tag=tag)) == [identifier]
    assert identifier not in ids(door.get("/messages", tag="old", limit=1000))
    assert delivery(door, identifier).lane == "high"


@pytest.mark.parametrize(
    ("given", "field"),
    [({"priority": 10}, "priority"), ({"tags": ["x" * 200]}, "tags"), ({"to": "a@b.test"}, "to")],
)
def test_a_wrong_change_is_refused(door, given, field):
    wrong(door.call("PATCH", f"/messages/{door.send()}", json=given), field)


def test_an_unknown_message_cannot_be_changed(door):
    path = "/messages/019aca00-0000-7000-8000-000000000000"
    assert door.call("PATCH", path, json={"send_at": None}).status_code == 404


def test_of_several_deliveries_those_in_hand_are_not_moved(door):
    identifier = door.send(to=["ann@example.com", "ben@example.com"])
    held, _ = claim(door, identifier)
    with door.services.db.write() as session:
        session.execute(
            update(Delivery)
            .where(Delivery.message_id == UUID(identifier), Delivery.id != held)
            .values(lease_owner=None)
        )
    moment = later(hours=1)
    answer = door.call("PATCH", f"/messages/{identifier}", json={"send_at": moment.isoformat()})
    assert answer.status_code == 200
    due = {one["address"]: one["next_attempt_at"] for one in answer.json()["deliveries"]}
    assert due["ben@example.com"] == as_shown(moment) != due["ann@example.com"]


def test_a_retry_can_be_moved_and_stays_on_its_schedule(door):
    identifier = door.send()
    end(door, identifier, Kind.DEFERRED, "PENDING", code=451, reply="4.7.1 greylisted", wait=600, hinted=600)
    moment = later(hours=1)
    assert door.call("PATCH", f"/messages/{identifier}", json={"send_at": moment.isoformat()}).ok
    found = delivery(door, identifier)
    assert (found.tries, found.next_attempt_at, found.published_at) == (1, moment, None)


def test_the_same_key_gives_the_scheduled_message_again(door, tag):
    body = GOOD | {"send_at": later(hours=1).isoformat()}
    first, again = (door.post(body, **{"Idempotency-Key": tag}).json()["id"] for _ in range(2))
    assert first == again
    assert door.post(GOOD | {"send_at": later(hours=2).isoformat()}, **{"Idempotency-Key": tag}).status_code == 422


def test_no_statement_of_the_scheduler_reads_what_is_not_due(door):
    """PostgreSQL must take the partial index; SQLite cannot for values that are bound later."""
    if door.services.db.dialect == "sqlite":
        return
    statement = scheduled()[0].statement.statement.compile(
        dialect=door.services.db.engine.dialect, compile_kwargs={"literal_binds": True}
    )
    with door.services.db.read() as session:
        connection = session.connection()
        connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
        plan = "\n".join(row[0] for row in connection.exec_driver_sql(f"EXPLAIN {statement}"))
    assert "ix_deliveries_scheduled" in plan, plan
    assert "next_attempt_at <=" in plan.split("Index Cond")[1]
