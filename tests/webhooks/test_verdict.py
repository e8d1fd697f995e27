"""What answers mean, as tables."""

import base64
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any
from uuid import UUID

import pytest
from standardwebhooks.webhooks import Webhook

from mailbbgun.events.kinds import Kind
from mailbbgun.events.reading import START, LoggedEvent, Position
from mailbbgun.outgoing.signing import key_of, new_secret, signature, why_no_secret
from mailbbgun.webhooks.sending import SentRequest, SharedEvent, WebhookTarget, payload, type_of, webhook_id
from mailbbgun.webhooks.serving.served import PROBES, Served
from mailbbgun.webhooks.serving.track import EventState, Item, Track
from mailbbgun.webhooks.verdict import LONGEST_PAUSE, WebhookVerdict, error, pause_seconds, retry_seconds, verdict

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
ENDPOINT = UUID(int=7)


def tried(status: int | None, why: str | None = None, **headers: str) -> SentRequest:
    return SentRequest(NOW, 0.01, {}, status, headers, b"", why, why)


def test_what_each_answer_means() -> None:
    table: dict[WebhookVerdict, list[SentRequest]] = {
        WebhookVerdict.DONE: [tried(status) for status in (200, 201, 202, 204, 299)],
        WebhookVerdict.STOP: [tried(410), tried(406)],
        WebhookVerdict.PAUSE: [
            *(tried(None, why) for why in ("dns", "connect", "tls", "not_permitted")),
            tried(429),
            tried(503, **{"retry-after": "5"}),
        ],
        WebhookVerdict.FAILED: [
            *(tried(status) for status in (301, 302, 307, 400, 401, 403, 404, 422, 500, 502, 503, 504)),
            *(tried(None, why) for why in ("timeout", "broken")),
        ],
    }
    for meant, answers in table.items():
        for one in answers:
            assert verdict(one) is meant, one
            assert (error(one) is None) == (meant is WebhookVerdict.DONE)


def test_pauses_grow_and_obey_the_receiver_but_not_for_ever() -> None:
    pauses = [pause_seconds(number, tried(500), NOW) for number in (0, 1, 2, 3, 20, 10**6)]
    for one, seconds in zip(pauses, (5, 10, 20, 40), strict=False):
        assert 0.9 * seconds <= one <= 1.1 * seconds
    assert all(0.9 * LONGEST_PAUSE <= one <= 1.1 * LONGEST_PAUSE for one in pauses[4:])
    date = format_datetime(NOW + timedelta(seconds=100), usegmt=True)
    for text, least, most in (("60", 60, 60), (date, 100, 100), ("999999", 3600, 3600), ("soon", 4, 6), ("-1", 4, 6)):
        assert least <= pause_seconds(0, tried(429, **{"retry-after": text}), NOW) <= most, text
    for text in ("Mon, 01 Jan 2026 00:00:00 +" + "9" * 30, "Mon, 01 Jan 99999999999 00:00:00 GMT", "soon"):
        assert pause_seconds(0, tried(429, **{"retry-after": text}), NOW) < 6, text
    assert [round(retry_seconds(n) or 0, -1) > 0 for n in range(1, 7)] == [True] * 6
    assert retry_seconds(7) is None


def test_signatures_are_those_of_the_standard_and_two_secrets_give_two() -> None:
    old, new = new_secret(), new_secret()
    body, at = b'{"a": "\xc3\xa9"}', int(datetime.now(UTC).timestamp())
    made = signature([key_of(new), key_of(old)], "evt_1", at, body)
    headers = {"webhook-id": "evt_1", "webhook-timestamp": str(at), "webhook-signature": made}
    for secret in (old, new):
        assert Webhook(secret).verify(body, headers) == {"a": "é"}
    vector = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    signed = signature([key_of(vector)], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert signed == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    for length, right in ((23, False), (24, True), (64, True), (65, False)):
        text = "whsec_" + base64.b64encode(b"x" * length).decode()
        assert (why_no_secret(text) is None) is right
    assert type_of(Kind.DELIVERED, of_message=True) == "message.delivered"
    assert type_of(Kind.CIRCUIT_OPENED, of_message=False) == "circuit.opened"


def event(number: int) -> SharedEvent:
    fields: dict[str, Any] = dict.fromkeys(LoggedEvent._fields)
    fields |= {"id": UUID(int=number), "position": Position(number, UUID(int=number)), "tenant_id": UUID(int=1)}
    fields |= {"at": NOW, "kind": Kind.DELIVERED, "final": True, "data": {}, "tags": [], "metadata": {}, "test": False}
    return SharedEvent(**fields)


def served(events: int) -> Served:
    one = Served(WebhookTarget(ENDPOINT, "https://a.example/", ()), UUID(int=1), 1, Track(START, "event"))
    found = [event(number) for number in range(1, events + 1)]
    one.add(one.main.add(found, [one.wants(each) for each in found], events + 1))
    return one


def give(one: Served, *answers: SentRequest) -> list[Item]:
    """Send the next events, one request each, which get these answers."""
    taken = [one.take(1)[0] for _ in answers]
    for item, answer in zip(taken, answers, strict=True):
        one.returned([(item, answer)], [], 5, one.to)
    return taken


def test_a_place_moves_over_what_is_done_and_an_event_that_fails_alone_becomes_a_retry() -> None:
    one = served(4)
    first, second = one.take(1)[0], one.take(1)[0]
    one.returned([(second, tried(204))], [], 5, one.to)
    assert one.main.place == START  # the first has no answer yet
    one.returned([(first, tried(400))], [], 5, one.to)
    assert (one.main.place, one.changes.retries) == (START, {})  # it may be the endpoint's fault
    give(one, tried(204))
    assert [item.event.id for item in one.changes.retries.values()] == [UUID(int=1)]
    assert one.main.place.number == 3
    give(one, tried(204))
    assert one.main.place.number == 4
    assert webhook_id(ENDPOINT, UUID(int=1)) == webhook_id(ENDPOINT, UUID(int=1)) != webhook_id(ENDPOINT, UUID(int=2))
    assert payload(first.event) == payload(event(1))


@pytest.mark.parametrize("answer", [tried(500), tried(404), tried(None, "timeout")])
def test_five_events_that_fail_in_a_row_pause_the_endpoint_and_cost_no_rows(answer: SentRequest) -> None:
    one = served(100)
    give(one, *[answer] * 4)
    assert not one.paused
    give(one, answer)
    assert (one.paused, one.changes.retries, one.main.place, one.slots(NOW)) == (True, {}, START, 0)
    assert len(one.waiting) == len(one.main.items) == 0  # a dead endpoint holds no events in memory
    again = [event(number) for number in range(1, 5)]
    one.add(one.main.add(again, [True] * 4, 4))
    assert one.paused_until is not None
    one.paused_until = NOW
    assert one.slots(NOW) == PROBES
    # One of the two that try it is what the receiver cannot take; the other shows that it works.
    poison, fine = one.take(1)[0], one.take(1)[0]
    one.returned([(poison, tried(400))], [], 5, one.to)
    assert one.paused
    one.returned([(fine, tried(204))], [], 5, one.to)
    assert not one.paused
    assert (one.pauses, one.failing_since) == (0, None)
    assert poison in one.waiting
    assert poison.state is EventState.WAITING


def test_an_endpoint_that_acknowledges_nothing_for_days_or_wants_no_more_is_stopped() -> None:
    one = served(10)
    give(one, tried(500))
    assert one.stopped is None
    one.failing_since = datetime.now(UTC) - timedelta(days=6)
    give(one, tried(500))
    assert one.stopped == "it has acknowledged nothing for 5 days"
    other = served(2)
    give(other, tried(410))
    assert other.stopped is not None
    assert other.main.place == START


def test_what_is_done_beyond_the_place_is_not_sent_again_after_a_stop() -> None:
    one = served(5)
    items = [one.take(1)[0] for _ in range(3)]
    one.returned([(items[2], tried(204))], [], 5, one.to)
    one.end()
    assert [item.event.id.int for item in one.changes.retries.values()] == [1, 2]
    assert one.main.place.number == 3
