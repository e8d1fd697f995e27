"""Lists, details, timeline, cancel and retry."""

import re
from datetime import UTC, datetime, timedelta
from urllib.parse import quote
from uuid import UUID, uuid4

import pytest
from sqlalchemy import event, insert, select, text, update
from sqlalchemy.orm import Session

from mailbbgun.core.ids import DEFAULT_TENANT, new_id
from mailbbgun.database.db import db_now
from mailbbgun.events import record
from mailbbgun.events.kinds import Kind, Reason
from mailbbgun.messages import repo
from mailbbgun.messages.models import DELIVERIES, MESSAGES, Delivery
from mailbbgun.queues.models import QueuedHint
from tests.flow.service import until

OWNER = uuid4()


def ids(answer):
    return [message["id"] for message in answer["messages"]]


def claim(door, identifier):
    """Put a message's deliveries into a worker's hands; return them."""
    with door.services.db.write() as session:
        session.execute(
            update(Delivery).where(Delivery.message_id == UUID(identifier)).values(lease_owner=OWNER, attempt=1)
        )
    return [UUID(one["id"]) for one in door.get(f"/messages/{identifier}")["deliveries"]]


def end(door, identifier, kind, status, **more):
    """Let a try of a message's deliveries end."""
    ended = {"counted": True, "attempted": True} | more
    results = [
        record.Result(one, UUID(identifier), DEFAULT_TENANT, 1, kind, status, **ended)
        for one in claim(door, identifier)
    ]
    with door.services.db.write() as session:
        assert len(record.write_results(session, OWNER, results)) == len(results)


def fail(door, identifier):
    """Let a message's deliveries bounce."""
    end(door, identifier, Kind.BOUNCED, "ERROR", reason=Reason.BOUNCED, code=550, reply="5.1.1 no such user")


def delivery(door, identifier):
    """Read a message's only delivery."""
    with door.services.db.read() as session:
        return session.scalars(select(Delivery).where(Delivery.message_id == UUID(identifier))).one()


def soon(door, identifier):
    """Return in how many seconds a message's only delivery is due."""
    return (delivery(door, identifier).next_attempt_at - datetime.now(UTC)).total_seconds()


def hints(door, identifier):
    """Return the lanes of a message's hints on the queue."""
    with door.services.db.read() as session:
        return list(session.scalars(select(QueuedHint.lane).where(QueuedHint.message_id == UUID(identifier))))


def marked(found):
    """Return whether a delivery is marked as hinted since it became due."""
    return found.published_at is not None and found.published_at >= found.next_attempt_at


def test_a_list_is_newest_first_with_its_count(door, tag):
    sent = [door.send(tags=[tag], subject=f"{n}") for n in range(12)]
    answer = door.get("/messages", tag=tag)
    assert (ids(answer), answer["count"]) == (sent[:1:-1], 12)
    shown = answer["messages"][0]
    assert {name: value for name, value in shown.items() if name not in ("id", "created_at")} == {
        "status": "PENDING",
        "reason": None,
        "subject": "11",
        "from": "Mail BB Gun <noreply@mail.example.com>",
        "to": ["ann@example.com"],
        "tags": [tag],
        "priority": 5,
        "test": False,
    }
    assert abs(datetime.now(UTC) - datetime.fromisoformat(shown["created_at"])) < timedelta(minutes=1)
    assert shown["created_at"].endswith("Z")


def test_limit_and_offset_walk_a_list(door, tag):
    sent = [door.send(tags=[tag]) for _ in range(5)][::-1]
    assert ids(door.get("/messages", tag=tag, limit=2, offset=1)) == sent[1:3]
    assert ids(door.get("/messages", tag=tag, limit=1000, offset=4)) == sent[4:]
    assert door.get("/messages", tag=tag, offset=5) == {"messages": [], "count": 5}
    assert door.get("/messages", tag=tag, limit=0) == {"messages": [], "count": 5}


def test_links_lead_through_all_pages_and_end(door, tag):
    sent = [door.send(tags=[tag]) for _ in range(6)][::-1]
    found, path = [], f"/messages?tag={tag}&limit=2&status=PENDING"
    while path:
        answer = door.call("GET", path)
        found.append(ids(answer.json()))
        assert answer.json()["count"] == 6
        path = answer.links["next"]["url"].removeprefix(door.url) if answer.links else None
    assert found == [sent[:2], sent[2:4], sent[4:]]


def test_after_goes_on_where_a_page_ended(door, tag):
    sent = [door.send(tags=[tag]) for _ in range(3)][::-1]
    assert ids(door.get("/messages", tag=tag, after=sent[0])) == sent[1:]
    assert ids(door.get("/messages", tag=tag, after=sent[2])) == []


def test_filters_choose_by_status_recipient_and_time(door, tag):
    plain = door.send(tags=[tag])
    hidden = door.send(tags=[tag], bcc="Eve.Adams@bücher.example")
    failed = door.send(tags=[tag])
    fail(door, failed)
    assert (
        ids(door.get("/messages", tag=tag, status="ERROR"))
        == ids(door.get("/messages", tag=tag, status="error"))
        == [failed]
    )
    assert ids(door.get("/messages", tag=tag, status="PENDING")) == [hidden, plain]
    for to in (
        "Eve.Adams@bücher.example",
        "eve.ADAMS@BÜCHER.example",
        "Eve.Adams@xn--bcher-kva.example",
        "EVE.ADAMS@XN--BCHER-KVA.EXAMPLE",
    ):
        assert ids(door.get("/messages", tag=tag, to=to)) == [hidden]
    sharp = door.send(to="ann@straße.example")
    assert door.get("/messages", to="ann@STRAßE.example")["messages"][0]["id"] == sharp
    for nobody in ("nobody@example.com", "ann@\u200d.example", "ü@x"):
        assert ids(door.get("/messages", tag=tag, to=nobody)) == []
    moment = datetime.now(UTC) + timedelta(milliseconds=2)
    since, until = {"since": moment.isoformat()}, {"until": moment.isoformat().replace("+00:00", "Z")}
    assert ids(door.get("/messages", tag=tag, **since)) == []
    assert ids(door.get("/messages", tag=tag, **until)) == [failed, hidden, plain]
    assert ids(
        door.get("/messages", tag=tag, since="2000-01-01T00:00:00+02:00", until="9999-12-31T23:59:59-12:00")
    ) == [failed, hidden, plain]
    assert ids(door.get("/messages", tag=tag, until="0001-01-01T00:00:00+14:00")) == []


def test_a_date_alone_is_its_midnight_in_utc(door, tag):
    sent = door.send(tags=[tag])
    today = datetime.fromisoformat(door.get(f"/messages/{sent}")["created_at"]).date()
    tomorrow = today + timedelta(days=1)
    assert ids(door.get("/messages", tag=tag, since=today, until=tomorrow)) == [sent]
    assert ids(door.get("/messages", tag=tag, until=today)) == ids(door.get("/messages", tag=tag, since=tomorrow)) == []
    midnight = {"since": f"{today}T00:00:00Z", "until": f"{tomorrow}T00:00:00Z"}
    assert door.get("/messages", since=today, until=tomorrow, limit=1000) == door.get(
        "/messages", limit=1000, **midnight
    )


@pytest.mark.parametrize(
    "query",
    [
        "limit=-1", "limit=1001", "limit=x", "limit=", "limit=1.5", "limit=1e3", "limit=١", "limit=1_0", "limit=%201", "limit=" + "9" * 5000,
        "offset=-1", "offset=x", "offset=99999999999999999999", "status=NOPE", "status=pendin", "after=x", "after=1", "since=yesterday",
        "since=2026-1-1", "since=20260101", "since=2026-02-30", "since=2026-01-01T00:00:00", "since=2026-02-30T00:00:00Z", "since=2026-01-01Z",
        "until=2026-W01-1T00:00:00Z", "to=%00", "tag=a%00b",
        "limit=1&limit=2", "unknown=1", "%00=1",
    ],
)  # fmt: skip
def test_a_bad_query_is_400_in_the_one_shape(door, query):
    for path in ("/messages", f"/messages/{door.send()}/events"):
        answer = door.call("GET", f"{path}?{query}")
        assert answer.status_code == 400, answer.text
        assert answer.json()["error"]["code"] == "validation_error"
        assert list(answer.json()["error"]["fields"])


def test_details_show_each_delivery(door):
    identifier = door.send(to="ann@example.com", cc="ben@example.com", text="Hi")
    shown = door.get(f"/messages/{identifier}")
    assert shown["size"] == len(door.call("GET", f"/messages/{identifier}/raw").content)
    assert (shown["to"], shown["cc"], shown["bcc"]) == (["ann@example.com"], ["ben@example.com"], [])
    first = shown["deliveries"][0]
    assert first.pop("next_attempt_at").endswith("Z")
    UUID(first.pop("id"))
    assert first == {
        "address": "ann@example.com",
        "kind": "to",
        "status": "PENDING",
        "reason": None,
        "attempts": 0,
        "last_reply": None,
        "finished_at": None,
    }


def test_the_raw_message_is_a_download_that_no_browser_runs(door):
    answer = door.call("GET", f"/messages/{door.send(html='<script>alert(1)</script>')}/raw")
    assert answer.headers["Content-Type"] == "message/rfc822"
    assert answer.headers["Content-Disposition"].startswith("attachment;")
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]


def test_the_timeline_tells_what_happened_newest_first(door):
    identifier = door.send(to=["ann@example.com", "ben@example.com"])
    fail(door, identifier)
    answer = door.get(f"/messages/{identifier}/events")
    assert [one["kind"] for one in answer["events"]] == ["bounced", "bounced", "accepted"]
    assert answer["count"] == 3
    assert sorted(one["address"] for one in answer["events"][:2]) == ["ann@example.com", "ben@example.com"]
    assert answer["events"][0]["data"] | {"code": 550, "reply": "5.1.1 no such user"} == answer["events"][0]["data"]
    assert answer["events"][2]["address"] is None
    page = door.call("GET", f"/messages/{identifier}/events?limit=2")
    assert door.call("GET", page.links["next"]["url"].removeprefix(door.url)).json()["events"] == answer["events"][2:]


def test_what_has_not_left_can_be_cancelled_once(door):
    identifier = door.send(to=["ann@example.com", "ben@example.com"])
    answer = door.call("DELETE", f"/messages/{identifier}")
    assert answer.status_code == 200
    assert answer.json() == door.get(f"/messages/{identifier}")
    assert {answer.json()["status"], *(one["status"] for one in answer.json()["deliveries"])} == {"CANCELLED"}
    again = door.call("DELETE", f"/messages/{identifier}")
    assert (again.status_code, again.json()["error"]["code"]) == (409, "conflict")


def test_what_is_in_a_workers_hands_cannot_be_cancelled(door):
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
    # The schedule begins anew; how often a server was asked does not.
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


def test_what_waits_for_its_next_try_is_made_due_now_on_its_schedule_and_hinted_on_its_lane(door):
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
    # Its first hint, and this one's.
    until(lambda: hints(door, identifier) == ["high", "high"], what="the hint")
    until(lambda: marked(delivery(door, identifier)), what="the mark of it")


def test_of_several_deliveries_those_are_tried_again_that_can_be(door):
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


@pytest.mark.parametrize(
    "identifier",
    ["019cdb4a-0000-7000-8000-000000000000", "x", "1", "%00", "00000000-0000-0000-0000-00000000000g", "..%2f..", "é"],
)
@pytest.mark.parametrize(
    ("method", "path"), [("GET", ""), ("GET", "/raw"), ("GET", "/events"), ("DELETE", ""), ("POST", "/retry")]
)
def test_what_does_not_exist_is_404_in_the_one_shape(door, method, path, identifier):
    answer = door.call(method, f"/messages/{identifier}{path}")
    assert (answer.status_code, answer.json()["error"]["status"], answer.json()["error"]["code"]) == (
        404,
        404,
        "not_found",
    )


def test_a_recipient_is_found_however_the_ascii_letters_of_the_address_are_spelt(door, tag):
    sent = [door.send(tags=[tag], to="Ann.ÄRGER@example.com"), door.send(tags=[tag], to="aNN.Ärger@example.com")][::-1]
    other = door.send(tags=[tag], to="ann.ärger@example.com")
    for to in ("ann.Ärger@example.com", "ANN.ÄRGER@EXAMPLE.COM", "Ann.A\u0308rgEr@example.com"):
        assert (ids(door.get("/messages", tag=tag, to=to)), door.get("/messages", tag=tag, to=to)["count"]) == (sent, 2)
    assert ids(door.get("/messages", tag=tag, to="ANN.äRGER@example.com")) == [other]
    assert door.get(f"/messages/{sent[0]}")["to"] == ["aNN.Ärger@example.com"]  # kept as given


def test_a_list_by_recipient_walks_an_index(door):
    messages = [new_id() for _ in range(3000)]
    message = {
        "created_at": datetime.now(UTC), "status": "PENDING", "subject": "s", "sender": "a@b.test", "mail_from": "a@b.test",
        "message_id": "<1@b>", "priority": 5, "smtputf8": False, "size": 1, "tags": [], "metadata": {}, "raw": b"x",
    }  # fmt: skip
    delivery = {"kind": "to", "lane": "normal", "status": "PENDING"}
    asked = []
    with Session(door.services.db.engine) as session:  # nothing of this is committed
        session.execute(insert(MESSAGES), [message | {"id": one} for one in messages])
        rows = [
            delivery | {"id": new_id(), "message_id": one, "address": f"User{n}@walk.example"}
            for n, one in enumerate(messages)
        ]
        session.execute(insert(DELIVERIES), rows)
        session.execute(text("ANALYZE"))
        event.listen(session.connection(), "before_cursor_execute", lambda *arguments: asked.append(arguments[2:4]))
        found, count, _ = repo.page(
            session, repo.Wanted(tenant_id=DEFAULT_TENANT, limit=10, offset=0, after=None, to="uSER7@Walk.Example")
        )
        assert ([one["id"] for one in found], count) == ([messages[7]], 1)
        explain = "EXPLAIN" if door.services.db.dialect == "postgresql" else "EXPLAIN QUERY PLAN"
        for statement, parameters in asked[:2]:  # the count and the page
            plan = str(session.connection().exec_driver_sql(f"{explain} {statement}", parameters).all())
            assert "ix_deliveries_tenant_id_domain_address_message_id" in plan
            assert not re.search(r"Seq Scan|\bSCAN\b", plan), plan


def test_a_list_costs_the_same_statements_whatever_its_length(door, tag):
    for _ in range(20):
        door.send(tags=[tag], to=["ann@example.com", "ben@example.com"])
    statements = []
    event.listen(door.services.db.engine, "before_cursor_execute", lambda *arguments: statements.append(arguments[2]))
    with door.services.db.read() as session:
        messages, _, _ = repo.page(
            session, repo.Wanted(tenant_id=DEFAULT_TENANT, limit=20, offset=0, after=None, tag=tag)
        )
    assert (len(messages), sum(one.startswith("SELECT") for one in statements)) == (20, 3)


@pytest.mark.parametrize("to", ["ann", "", "@", "ü", "Ann <ann@example.com>", "ann@example.com,ben@example.com@"])
def test_a_recipient_that_is_no_bare_address_is_an_error_and_not_an_empty_list(door, to):
    answer = door.call(
        "GET", f"/messages?to={quote(to)}"
    )  # requests' own params have + for a blank, which here is a plus
    assert answer.status_code == 400
    assert answer.json()["error"]["fields"] == {"to": [f'"{to}": Not a bare e-mail address, like ann@example.com.']}
