"""``GET /statistics`` and ``GET /exports/…`` through the front door."""

import csv
import json
import threading
from datetime import UTC, datetime, timedelta
from io import StringIO
from uuid import UUID, uuid4

import pytest
from sqlalchemy import select

from mailbbgun.core.errors import RateLimited
from mailbbgun.core.ids import DEFAULT_TENANT, new_id
from mailbbgun.events import log
from mailbbgun.events.kinds import Kind
from mailbbgun.exports.running import MOST, MOST_COLLECTED, MOST_OF_TENANT, RunningExports
from mailbbgun.messages.models import DELIVERIES
from mailbbgun.statistics.follow import Follower
from tests.waiting import wait_until


def happens(door, message, kind, data=None, seconds=0.0):
    """Write an event of each delivery of a message, at so many seconds from now."""
    at = datetime.now(UTC) + timedelta(seconds=seconds)
    with door.services.db.write() as session:
        its = session.scalars(select(DELIVERIES.c.id).where(DELIVERIES.c.message_id == UUID(message))).all()
        events = [log.event(DEFAULT_TENANT, UUID(message), one, kind, data or {}) for one in its]
        log.append(session, [{**one, "at": at} for one in events])


def counts(door):
    """Count all events, as a worker does."""
    follower = Follower(door.services.db, door.services.settings, new_id())

    def done():
        follower.run(threading.Event())
        return not follower._behind()

    wait_until(done, "the end of the log")


def span():
    """Return the parameters of a period that has all events of a test, also if midnight passes."""
    day = timedelta(days=1)
    today = datetime.now(UTC).date()
    return {"from": str(today - day), "to": str(today + 2 * day), "interval": "hour"}


def test_figures_of_a_tag_are_shown_by_interval_domain_account_and_status_and_as_csv(door, tag):
    first = door.send(to=["ann@one.example", "ben@two.example"], tags=[tag], subject="=1+1")
    second = door.send(to=["eva@one.example"], tags=[tag, f"{tag}2"])
    account = f"main {tag}"
    happens(door, first, Kind.DELIVERED, {"account": account}, seconds=2)
    happens(door, second, Kind.DEFERRED, {"account": account, "retry_in": 5})
    happens(door, second, Kind.BOUNCED, {"account": account, "reason": "bounced"}, seconds=1)
    counts(door)

    period = span()
    query = "&".join(f"{name}={value}" for name, value in period.items())
    found = door.get("/statistics", **period, tag=tag, group_by="status")
    assert (found["interval"], len(found["points"])) == ("hour", 72)
    total = found["total"]
    assert [total[name] for name in ("messages", "accepted", "delivered", "failed", "deferred")] == [2, 3, 2, 1, 1]
    assert total["rates"] == {"delivered": 0.6667, "failed": 0.3333, "deferred": 0.3333}
    assert total["reasons"] == {"bounced": 1}
    assert total["time_to_deliver"]["p50"] == pytest.approx(2, rel=0.5)
    assert sum(point["delivered"] for point in found["points"]) == 2
    assert found["groups"] == [
        {"name": "DELIVERED", "reason": None, "deliveries": 2, "rate": 0.6667},
        {"name": "ERROR", "reason": "bounced", "deliveries": 1, "rate": 0.3333},
    ]
    assert found["queue"]["pending"] >= 2
    by_tag = {one["name"]: one for one in door.get("/statistics", **period, group_by="tag")["groups"]}
    assert (by_tag[tag]["accepted"], by_tag[f"{tag}2"]["failed"], by_tag[tag]["rest"]) == (3, 1, False)
    by_domain = {one["name"]: one["accepted"] for one in door.get("/statistics", **period, group_by="domain")["groups"]}
    assert by_domain["one.example"] >= 2
    its = next(one for one in door.get("/statistics", **period, group_by="account")["groups"] if one["name"] == account)
    assert (its["delivered"], its["rates"]["delivered"]) == (2, 0.6667)
    assert door.get("/statistics", account=account, **period | {"interval": "minute"})["total"]["failed"] == 1
    assert door.get("/statistics", **period, tag=tag, test="true")["total"]["accepted"] == 0

    table = door.call("GET", f"/statistics?tag={tag}&{query}", headers={"Accept": "text/csv"})
    assert table.headers["Content-Type"].startswith("text/csv")
    rows = list(csv.DictReader(StringIO(table.text)))
    assert sum(int(row["accepted"]) for row in rows) == 3
    groups = door.call("GET", f"/statistics?group_by=tag&format=csv&{query}").text
    assert [row["failed"] for row in csv.DictReader(StringIO(groups)) if row["name"] == tag] == ["1"]

    exported = door.call("GET", f"/exports/statistics?tag={tag}&{query}")
    lines = [json.loads(line) for line in exported.text.splitlines()]
    assert sum(line["delivered"] for line in lines) == 2
    by_label = door.call("GET", f"/exports/statistics?group_by=tag&format=csv&{query}").text
    assert sum(int(row["messages"]) for row in csv.DictReader(StringIO(by_label)) if row["name"] == tag) == 2
    status = door.call("GET", f"/exports/statistics?group_by=status&tag={tag}&{query}").text.splitlines()
    assert {json.loads(line)["name"] for line in status} == {"DELIVERED", "ERROR"}


def test_exports_have_all_that_matches_and_no_formula(door, tag, monkeypatch):
    sent = [door.send(tags=[tag], subject=subject) for subject in ("=HYPERLINK(1)", "plain", "+1", "@x", "-2")]
    happens(door, sent[0], Kind.BOUNCED, {"reason": "bounced", "reply": "=cmd()"})
    door.send(subject="another")
    answer = door.call("GET", f"/exports/messages?tag={tag}")
    assert answer.headers["Content-Type"].startswith("application/x-ndjson")
    assert answer.headers["Content-Disposition"] == 'attachment; filename="messages.ndjson"'
    listed = door.get("/messages", tag=tag)["messages"]
    assert [json.loads(line) for line in answer.text.splitlines()] == listed
    table = door.call("GET", f"/exports/messages?tag={tag}", headers={"Accept": "text/csv"})
    rows = list(csv.DictReader(StringIO(table.text)))
    assert [row["id"] for row in rows] == sent[::-1]
    assert [row["subject"] for row in rows] == ["'-2", "'@x", "'+1", "plain", "'=HYPERLINK(1)"]

    events = [json.loads(line) for line in door.call("GET", f"/exports/events?tag={tag}").text.splitlines()]
    assert [one["kind"] for one in events] == ["accepted"] * 5 + ["bounced"]
    assert [one["message_id"] for one in events] == [*sent, sent[0]]
    bounced = door.call("GET", f"/exports/events?kind=bounced,expired&tag={tag}&format=csv").text
    assert [json.loads(row["data"])["reply"] for row in csv.DictReader(StringIO(bounced))] == ["=cmd()"]
    assert door.call("GET", f"/exports/messages?tag={tag}none&format=csv").text.count("\n") == 1
    assert door.call("GET", f"/exports/messages?tag={tag}none").text == ""


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("/statistics?days=0", "days"),
        ("/statistics?days=90&interval=minute", "intervals, at most 5000 are answered"),
        ("/statistics?from=2026-02-01&to=2026-01-01", "is not before 2026-01-01T00:00:00Z"),
        ("/statistics?group_by=color", "tag, domain, account"),
        ("/statistics?tag=a&domain=b.example", "one label at a time"),
        ("/statistics?tag=a&group_by=domain", "one label at a time"),
        ("/exports/messages?limit=3", "limit"),
        ("/exports/events?kind=flown", "flown"),
        ("/exports/events?wait=3", "wait"),
        ("/exports/messages?format=xml", "csv"),
    ],
)
def test_a_wrong_question_is_refused_with_what_would_be_right(door, query, sentence):
    answer = door.call("GET", query)
    assert answer.status_code == 400, answer.text
    assert sentence in answer.text


def test_only_a_few_exports_run_at_once_and_each_is_counted_until_it_is_closed():
    exports = RunningExports()
    tenants = [uuid4() for _ in range(MOST // MOST_OF_TENANT)]
    running = [exports.begin(one, iter([b"a", b"b"])) for one in tenants for _ in range(MOST_OF_TENANT)]
    with pytest.raises(RateLimited, match=f"^{MOST} exports are running here"):
        exports.begin(uuid4(), iter([]))
    with pytest.raises(RateLimited, match=f"^{MOST_OF_TENANT} of your exports are running here"):
        exports.begin(tenants[0], iter([]))
    assert list(running[0]) == [b"a", b"b"]
    running[0].close()
    running[0].close()
    exports.begin(uuid4(), iter([])).close()
    with pytest.raises(ZeroDivisionError):  # an export that cannot begin does not count
        exports.begin(tenants[0], (1 // 0 for _ in "x"))
    exports.begin(tenants[0], iter([]))
    with pytest.raises(RateLimited):
        exports.begin(uuid4(), iter([]))


def test_exports_that_keep_a_thread_are_fewer():
    exports = RunningExports()
    running = [exports.begin(uuid4(), iter([]), collected=True) for _ in range(MOST_COLLECTED)]
    with pytest.raises(RateLimited, match=f"^{MOST_COLLECTED} exports over HTTP/1.0 are running here"):
        exports.begin(uuid4(), iter([]), collected=True)
    exports.begin(uuid4(), iter([]))
    running[0].close()
    exports.begin(uuid4(), iter([]), collected=True)
