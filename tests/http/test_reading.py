"""Lists of messages, a message's details, and its timeline."""

from datetime import UTC, datetime, timedelta
from urllib.parse import quote
from uuid import UUID

import pytest

from tests.http.outcomes import fail, ids


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
        "send_at": None,
        "medium": "mail",
        "received": False,
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
        "limit=-1", "limit=1001", "limit=x", "limit=", "limit=1.5", "limit=1e3", "limit=١", "limit=1_0", "limit=%201",
        "limit=" + "9" * 5000, "offset=-1", "offset=x", "offset=99999999999999999999", "status=NOPE", "status=pendin",
        "after=x", "after=1", "since=yesterday", "since=2026-1-1", "since=20260101", "since=2026-02-30",
        "since=2026-01-01T00:00:00", "since=2026-02-30T00:00:00Z", "since=2026-01-01Z",
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
        "class": None,
        "cause": None,
        "attempts": 0,
        "last_reply": None,
        "finished_at": None,
        "in_hand": False,
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


@pytest.mark.parametrize("to", ["ann", "", "@", "ü", "Ann <ann@example.com>", "ann@example.com,ben@example.com@"])
def test_a_recipient_that_is_no_bare_address_is_an_error_and_not_an_empty_list(door, to):
    # Not by params: requests would write a blank as +, which is a plus in this parameter.
    answer = door.call("GET", f"/messages?to={quote(to)}")
    assert answer.status_code == 400
    assert answer.json()["error"]["fields"] == {"to": [f'"{to}": Not a bare e-mail address, like ann@example.com.']}
