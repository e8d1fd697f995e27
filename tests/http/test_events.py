"""The log of events by HTTP: lists, filters, waiting for events, and cursors."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from mailbbgun.events.following.watch import MOST_OF_KEY
from tests.http.outcomes import fail
from tests.waiting import PATIENCE, wait_until


def followed(door, **query) -> list[dict]:
    """Return all events after a place, page by page."""
    found, place = [], query.pop("after", "start")
    while page := door.get("/events", after=place, limit=7, **query):
        if not page["events"]:
            return found
        found += page["events"]
        place = page["next"]
    return found


def test_the_log_is_listed_newest_first_and_followed_oldest_first(door, tag):
    here = door.get("/events", after="end")
    assert here["events"] == []
    first, second = door.send(tags=[tag], to="Ann+a@example.com"), door.send(tags=[tag], subject="Twice")
    batch = {"subject": "Many", "text": "Hi", "from": "a@example.com", "tags": [tag]}
    batch["recipients"] = [{"to": f"r{number}@example.com"} for number in range(9)]
    ids = door.call("POST", "/messages/batch", json=batch).json()["ids"]
    fail(door, first)
    expected = [("accepted", one) for one in (first, second, *ids)] + [("bounced", first)]
    found = followed(door, after=here["next"])
    assert [(one["kind"], one["message_id"]) for one in found] == expected
    assert [(one["kind"], one["message_id"]) for one in followed(door, tag=tag)] == expected
    newest = door.get("/events", tag=tag, limit=5)
    assert newest["events"] == found[:-6:-1]
    rest = door.get("/events", tag=tag, before=newest["next"])
    assert newest["events"] + rest["events"] == found[::-1]
    assert rest["next"] is None
    bounced = found[-1]
    assert (bounced["final"], bounced["recipient"], bounced["data"]["code"]) == (True, "Ann+a@example.com", 550)
    assert (bounced["subject"], bounced["tags"], bounced["account"]) == ("Hello", [tag], None)
    assert found[1]["final"] is False
    for query, events in (
        ({"kind": "bounced,Expired"}, [bounced]),
        ({"kind": "attempted"}, [bounced]),
        ({"message": first}, [found[0], bounced]),
        ({"message": ids[4]}, [found[6]]),
        ({"recipient": "ann+A@example.com"}, [found[0], bounced]),
        ({"text": "NO SUCH user"}, [bounced]),
        ({"text": "twice"}, [found[1]]),
        ({"since": bounced["at"]}, [bounced]),
        ({"until": "2020-01-01"}, []),
        ({"account": "main"}, []),
    ):
        assert door.get("/events", after=here["next"], tag=tag, **query)["events"] == events, query
    timeline = door.get(f"/messages/{ids[-1]}/events")
    assert (timeline["count"], [one["kind"] for one in timeline["events"]]) == (1, ["accepted"])


@pytest.mark.parametrize(
    ("query", "field", "says"),
    [
        ({"kind": "bounce"}, "kind", "'bounce' is not a kind of event; these are: accepted, "),
        ({"after": "5"}, "after", "give `position` of an event"),
        ({"after": "start", "before": "start"}, "before", "together with after"),
        ({"wait": 5}, "wait", "Needs after or cursor"),
        ({"wait": 31, "after": "start"}, "wait", "30"),
        ({"limit": 0}, "limit", "1"),
        ({"since": "yesterday"}, "since", "RFC 3339"),
    ],
)
def test_a_wrong_query_is_told_what_would_be_right(door, query, field, says):
    answer = door.call("GET", "/events", params=query)
    assert answer.status_code == 400
    assert says in str(answer.json()["error"]["fields"][field])


def test_a_request_waits_for_events_without_a_thread_and_within_a_limit(door, tag):
    place = door.get("/events", after="end")["next"]

    def ask(seconds, **query):
        return requests.get(f"{door.url}/events", params={"after": place, "wait": seconds, **query}, timeout=PATIENCE)

    nothing = ask(1, tag=tag).json()
    assert nothing["events"] == []
    assert ask(1, tag=tag, after=nothing["next"]).json() == nothing
    with ThreadPoolExecutor(3 * MOST_OF_KEY) as threads:
        waiting = [threads.submit(ask, 30, tag=tag) for _ in range(3 * MOST_OF_KEY)]
        # Each process of the API has a limit, and there are up to two.
        wait_until(lambda: sum(one.done() for one in waiting) >= MOST_OF_KEY, "the refusal of those beyond the limit")
        refused = [one.result() for one in waiting if one.done()]
        assert {(one.status_code, one.headers["Retry-After"]) for one in refused} == {(429, "1")}
        assert "At most 10 requests" in refused[0].json()["error"]["message"]
        door.send()  # which does not match
        message = door.send(tags=[tag])
        answers = [one.result().json() for one in waiting if one.result().status_code == 200]
    assert MOST_OF_KEY <= len(answers) <= 2 * MOST_OF_KEY
    assert {one["events"][0]["message_id"] for one in answers} == {message}
    assert door.get("/events", after=answers[0]["next"], tag=tag)["events"] == []


def test_a_cursor_keeps_a_place_until_events_are_acknowledged(door, tag):
    path = f"/cursors/{tag}"

    def call(method, way="", position=None):
        answer = door.call(method, path + way, json={"position": position} if position else None)
        return answer.status_code, answer.json() if answer.content else None

    assert (call("GET")[0], call("POST", "/ack", "start")[0], call("DELETE")[0]) == (404, 404, 404)
    assert door.call("GET", "/events", params={"cursor": tag}).status_code == 404
    assert call("PUT", position="end")[0] == 200
    sent = [door.send() for _ in range(3)]
    page = door.get("/events", cursor=tag)
    assert [one["message_id"] for one in page["events"]] == sent
    assert door.get("/events", cursor=tag) == page
    places = [one["position"] for one in page["events"]]
    assert call("POST", "/ack", places[1])[1]["position"] == places[1]
    assert call("POST", "/ack", places[0])[1]["position"] == places[1]
    assert [one["message_id"] for one in door.get("/events", cursor=tag)["events"]] == sent[2:]
    assert call("PUT", position=places[0])[1]["position"] == places[0]
    waiting: list[dict] = []
    call("POST", "/ack", "end")
    thread = threading.Thread(target=lambda: waiting.append(door.get("/events", cursor=tag, wait=30)))
    thread.start()
    later = door.send()
    thread.join()
    assert [one["message_id"] for one in waiting[0]["events"]] == [later]
    assert tag in [one["name"] for one in door.get("/cursors")["cursors"]]
    status, error = call("POST", "/ack", "7fffffffffffffff-" + "f" * 32)
    assert (status, list(error["error"]["fields"])) == (400, ["position"])
    assert door.call("PUT", "/cursors/.ours", json={"position": "start"}).status_code == 400
    assert door.call("GET", "/cursors/.ours").status_code == 404
    assert (call("DELETE")[0], call("GET")[0]) == (204, 404)
