"""Webhooks from the door to a receiver that checks them with ``standardwebhooks``."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import requests
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from tests.flow.service import Service, until
from tests.metrics.scraped import scrape
from tests.outgoing.receiver import Receiver
from tests.waiting import PATIENCE
from tests.webhooks.receiver import WebhookReceiver


def call(service: Service, method: str, path: str, body: Any = None, **options: Any) -> requests.Response:
    return service.http.request(method, service.url + path, json=body, timeout=PATIENCE, **options)


@contextmanager
def webhook(service: Service, receiver: WebhookReceiver, **wanted: Any) -> Iterator[str]:
    """A webhook that leads to the receiver; yields its id."""
    made = call(service, "POST", "/webhooks", {"url": receiver.url, **wanted})
    assert made.status_code == 201, made.text
    receiver.secret = made.json()["secret"]
    yield made.json()["id"]
    assert call(service, "DELETE", f"/webhooks/{made.json()['id']}").status_code == 204


def shown(service: Service, identifier: str) -> dict[str, Any]:
    return dict(call(service, "GET", f"/webhooks/{identifier}").json())


def attempts(service: Service, identifier: str) -> list[dict[str, Any]]:
    return list(call(service, "GET", f"/webhooks/{identifier}/attempts?limit=1000").json()["attempts"])


def send(service: Service, to: str, number: int = 1) -> list[str]:
    return [service.post(to=to, subject=f"n {n}", text="x", tags=["hook"])["id"] for n in range(number)]


def test_a_receiver_gets_signed_events_and_a_person_may_send_them_again(
    running: Service, receiver: WebhookReceiver
) -> None:
    begun = datetime.now(UTC) - timedelta(seconds=1)
    with webhook(running, receiver, description="mine") as identifier:
        first = receiver.secret
        sent = send(running, "story@example.test", 3)
        until(lambda: receiver.acknowledged("message.delivered") == 3 and receiver.acknowledged() == 6)
        events = list(receiver.events.values())
        assert {one["data"]["message_id"] for one in events} == set(sent)
        one = next(one for one in events if one["type"] == "message.delivered")
        assert (one["data"]["recipient"], one["data"]["final"], one["data"]["tags"]) == (
            *("story@example.test", True),
            ["hook"],
        )
        assert one["timestamp"] == one["data"]["at"]
        # A request may not be changed, nor come late.
        headers, body = receiver.requests[0]
        for wrong in ({"webhook-id": "x"}, {"webhook-timestamp": "1"}, {"webhook-signature": "v1,AAAA"}):
            with pytest.raises(WebhookVerificationError):
                Webhook(first).verify(body, {**headers, **wrong})
        # What went well leaves no rows; what a person asks for does.
        assert attempts(running, identifier) == []
        tried = call(running, "POST", f"/webhooks/{identifier}/test").json()
        assert (tried["status"], tried["error"], tried["cause"], tried["position"]) == (204, None, "test", None)
        assert receiver.acknowledged("webhook.test") == 1
        position = one["data"]["position"]
        again = call(running, "POST", f"/webhooks/{identifier}/redeliver", {"position": position})
        assert (again.status_code, again.json()["status"], again.json()["cause"]) == (200, 204, "redelivery")
        assert sorted(receiver.times.values()) == [1] * 6 + [2]
        assert len(attempts(running, identifier)) == 2
        # A window is sent again with the ids from before.
        window = {"from": begun.isoformat(), "to": (datetime.now(UTC) + timedelta(hours=1)).isoformat()}
        started = call(running, "POST", f"/webhooks/{identifier}/replays", window)
        assert started.status_code == 202, started.text
        until(lambda: call(running, "GET", f"/webhooks/{identifier}/replays").json()["replays"][0]["finished_at"])
        assert sorted(receiver.times.values()) == [1] + [2] * 5 + [3]
        assert receiver.acknowledged() == 7
        # Two secrets are valid for a while, then one.
        rotated = call(running, "POST", f"/webhooks/{identifier}/rotate", {"keep_hours": 1}).json()
        assert rotated["secret"] != first
        until(lambda: send(running, "story@example.test") and len(receiver.requests[-1][0]["webhook-signature"]) > 80)
        headers, body = receiver.requests[-1]
        assert Webhook(first).verify(body, dict(headers)) == Webhook(rotated["secret"]).verify(body, dict(headers))
        assert "secret" not in shown(running, identifier)
        # Disabled, it keeps its place and misses nothing.
        call(running, "PATCH", f"/webhooks/{identifier}", {"enabled": False})
        until(lambda: shown(running, identifier)["state"] == "disabled")
        receiver.secret = rotated["secret"]
        later = send(running, "story@example.test", 2)
        for message in later:
            running.ended(message, "DELIVERED")
        call(running, "PATCH", f"/webhooks/{identifier}", {"enabled": True, "kinds": ["delivered"]})
        until(lambda: {e["data"].get("message_id") for e in list(receiver.events.values())} >= set(later))
    assert call(running, "GET", f"/webhooks/{identifier}").status_code == 404


def a_day_passes(service: Service, identifier: str) -> None:
    """Row R35: let an endpoint have failed for 24 hours. A worker that starts then knows it from the row alone."""
    service.kill("worker")
    offset = "+00" if "MAILBBGUN_DATABASE_URL" in service.environment else ""  # PostgreSQL's
    past = [f"{datetime.now(UTC) - timedelta(hours=ago):%Y-%m-%d %H:%M:%S.%f}{offset}" for ago in (24, 1)]
    times = "UPDATE webhook_endpoints SET failing_since = :since, paused_until = :until WHERE failing_since IS NOT NULL"
    service.sql(times, since=past[0], until=past[1])
    assert shown(service, identifier)["failing_since"] < past[1]
    service.start_worker()


def somebody_mends_it(service: Service, identifier: str) -> None:
    call(service, "PATCH", f"/webhooks/{identifier}", {"description": "mended"})  # it is tried at once


@pytest.mark.parametrize("then", [somebody_mends_it, pytest.param(a_day_passes, marks=pytest.mark.long)])
def test_a_dead_receiver_costs_no_rows_and_gets_all_events_once_it_is_back(
    running: Service, receiver: WebhookReceiver, then: Callable[[Service, str], None]
) -> None:
    with webhook(running, receiver) as identifier:
        receiver.stop()
        sent = send(running, "dead@example.test", 30)
        for message in sent:
            running.ended(message, "DELIVERED")
        until(lambda: shown(running, identifier)["state"] == "paused")
        assert running.sql("SELECT count(*) FROM webhook_retries") == [(0,)]
        until(lambda: len(attempts(running, identifier)) >= 2)  # it is tried again, with longer pauses
        assert len(attempts(running, identifier)) < 20
        assert "cannot be connected to" in attempts(running, identifier)[0]["error"]
        receiver.start()
        then(running, identifier)
        until(lambda: receiver.acknowledged() == 60)
        assert set(receiver.times.values()) == {1}
        until(lambda: shown(running, identifier)["failing_since"] is None)


def test_an_event_of_a_batch_that_fails_by_itself_is_sent_again(running: Service, receiver: WebhookReceiver) -> None:
    refused: set[str] = set()

    def answer(payload: dict[str, Any]) -> int:
        """Refuse once the first event that comes: of a message in the midst of the batch."""
        if refused:
            return 204
        refused.add(payload["data"]["id"])
        return 400

    receiver.answers = answer
    with webhook(running, receiver, kinds=["accepted"]):
        people = [{"to": f"b{number}@example.test"} for number in range(20)]
        batch = {"subject": "n", "text": "x", "recipients": people}
        assert call(running, "POST", "/messages/batch", batch).status_code == 202
        until(lambda: receiver.acknowledged() == 20)
        assert len(refused) == 1
        assert refused <= {one["data"]["id"] for one in receiver.events.values()}


def test_an_event_that_fails_by_itself_waits_alone_and_an_endpoint_that_wants_no_more_is_disabled(
    running: Service, receiver: WebhookReceiver
) -> None:
    poison = "poison@example.test"
    receiver.answers = lambda payload: 400 if payload["data"]["recipient"] == poison else 204
    with webhook(running, receiver, kinds=["delivered", "webhook_disabled"]) as identifier:
        send(running, poison)
        until(lambda: running.sql("SELECT count(*) FROM webhook_retries") == [(1,)])
        send(running, "fine@example.test", 20)
        until(lambda: receiver.acknowledged() == 20)
        assert shown(running, identifier)["retries"] == 1
        assert [(one["status"], one["cause"]) for one in attempts(running, identifier)][-1] == (400, "event")
        receiver.answers = lambda _: 204
        until(lambda: receiver.acknowledged() == 21)
        assert len(receiver.refused) == 1
        assert set(receiver.times.values()) == {1}
        until(lambda: shown(running, identifier)["retries"] == 0)
        # All events fail: the endpoint is paused, and no event waits apart but those that came before that was known.
        receiver.answers = lambda _: 500
        send(running, "fine@example.test", 20)
        until(lambda: shown(running, identifier)["state"] == "paused")
        assert running.sql("SELECT count(*) FROM webhook_retries")[0][0] < 5
        # It asks for no more.
        receiver.answers = lambda _: 410
        call(running, "PATCH", f"/webhooks/{identifier}", {"description": "x"})
        until(lambda: shown(running, identifier)["state"] == "disabled")
        assert "410 Gone" in shown(running, identifier)["disabled_reason"]
        assert running.sql("SELECT count(*) FROM events WHERE kind = 'webhook_disabled'") == [(1,)]
        receiver.answers = lambda _: 204
        call(running, "PATCH", f"/webhooks/{identifier}", {"enabled": True})
        until(lambda: receiver.acknowledged() == 42)
        assert receiver.acknowledged("webhook.disabled") == 1
        assert set(receiver.times.values()) == {1}
        least = {"ok": 42, "gone": 1, "failed": 2}
        until(lambda: all(counted(running, result) >= n for result, n in least.items()), what="metrics")


@pytest.mark.parametrize("failure", [410, 429])
def test_a_failure_of_what_a_person_has_changed_meanwhile_neither_disables_nor_pauses_it(
    running: Service, receiver: WebhookReceiver, failure: int
) -> None:
    receiver.headers["Retry-After"] = "3600"
    mended = threading.Event()

    def answer(_: dict[str, Any]) -> int:
        """Fail the first time, only after a person has changed the webhook."""
        if mended.is_set():
            return 204
        mended.set()
        assert call(running, "PATCH", f"/webhooks/{identifier}", {"description": "mended"}).status_code == 200
        return failure

    with webhook(running, receiver, kinds=["delivered"]) as identifier:
        receiver.answers = answer
        send(running, "mended@example.test")
        until(lambda: receiver.acknowledged() == 1, what="the event again")
        its = shown(running, identifier)
        assert (its["enabled"], its["disabled_reason"], its["next_try_at"]) == (True, None, None)
        assert [one["status"] for one in attempts(running, identifier)] in ([], [failure])


def counted(service: Service, result: str) -> float:
    """Return how many requests to webhooks had this result, for Prometheus."""
    return scrape(service.url).sum("mailbbgun_webhooks_total", result=result)


def test_wrong_webhooks_are_refused_with_a_sentence_about_the_field(running: Service) -> None:
    url = "https://app.example.com/x"
    for wanted, field, words in (
        ({"url": "http://10.0.0.1/"}, "url", "no public"),
        ({"url": "ftp://a.example/"}, "url", "does not begin with https://"),
        ({"url": "https://u:p@a.example/"}, "url", "user name"),
        ({"url": "https://a.example:70000/"}, "url", "70000 is not a port"),
        ({"url": url, "kinds": ["read"]}, "kinds.0", "Must be accepted"),
        ({"url": url, "secret": "abc"}, "secret", "whsec_"),
        ({"url": url, "secret": "whsec_AAAA"}, "secret", "3 bytes"),
        ({"url": url, "secret": "whsec_*"}, "secret", "base64"),
    ):
        answer = call(running, "POST", "/webhooks", wanted)
        assert answer.status_code == 400, answer.text
        assert field in answer.json()["error"]["fields"]
        assert words in answer.text
    key = {"Idempotency-Key": "webhook-1"}
    made = [call(running, "POST", "/webhooks", {"url": url}, headers=key) for _ in range(2)]
    assert made[0].json()["id"] == made[1].json()["id"]
    assert [("secret" in one.json()) for one in made] == [True, False]
    path = f"/webhooks/{made[0].json()['id']}"
    for wrong in ({}, {"position": "x"}):
        refused = call(running, "POST", f"{path}/redeliver", wrong)
        assert refused.status_code == 400
        assert "give the position of an event" in refused.json()["error"]["fields"]["position"][0]
    assert call(running, "POST", f"{path}/redeliver", {"position": "1-" + "0" * 32}).status_code == 404
    window = {"from": "2026-01-02", "to": "2026-01-01"}
    assert call(running, "POST", f"{path}/replays", window).json()["error"]["fields"].keys() == {"to"}
    assert call(running, "DELETE", path).status_code == 204


def test_endpoints_that_never_answer_do_not_delay_another(running: Service, receiver: WebhookReceiver) -> None:
    asked, lock = threading.Event(), threading.Lock()
    waiting: set[socket.socket] = set()
    most = [0]

    def silence(silent: Receiver, connection: socket.socket) -> None:
        silent.read(connection)
        asked.set()
        with lock:
            waiting.add(connection)
            most.append(len(waiting))
        connection.recv(1)  # until the request is given up
        with lock:
            waiting.remove(connection)

    with Receiver(silence) as silent, webhook(running, receiver, kinds=["delivered"]):
        slow = [call(running, "POST", "/webhooks", {"url": silent.url()}).json()["id"] for _ in range(3)]
        send(running, "quick@example.test", 5)
        until(asked.is_set)
        send(running, "quick@example.test", 20)
        until(lambda: receiver.acknowledged() == 25)
        # Two requests at once go to each that is silent. Twice as many are seen while the ends of some are not.
        assert max(most) <= 2 * 2 * len(slow)
        for identifier in slow:
            assert call(running, "DELETE", f"/webhooks/{identifier}").status_code == 204
