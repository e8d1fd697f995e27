"""``Idempotency-Key``: one key makes one message, even if requests are repeated or come at once."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from threading import Barrier
from uuid import uuid4

import pytest
import requests

from tests.waiting import PATIENCE, wait_until

GOOD = {"to": "ann@example.com", "subject": "Hello", "text": "It works."}
THREADS = 50


def test_a_repeated_request_gets_its_first_answer_and_makes_no_second_message(door, tag):
    key, body = uuid4().hex, GOOD | {"tags": [tag], "metadata": {"a": 1, "b": 2}}
    first = door.post(body, **{"Idempotency-Key": key})
    again = door.post(
        {name: body[name] for name in reversed(body)} | {"metadata": {"b": 2, "a": 1}}, **{"Idempotency-Key": key}
    )
    assert (first.status_code, again.status_code) == (201, 201)
    assert (again.json(), again.headers["Location"]) == (first.json(), first.headers["Location"])
    assert "Idempotent-Replayed" not in first.headers
    assert again.headers["Idempotent-Replayed"] == "true"
    assert door.get("/messages", tag=tag)["count"] == 1


def test_the_answer_is_the_first_one_even_when_the_message_has_moved_on(door):
    key = {"Idempotency-Key": uuid4().hex}
    first = door.post(GOOD, **key)
    door.call("DELETE", f"/messages/{first.json()['id']}")
    assert door.post(GOOD, **key).json() == first.json()


def test_the_same_key_with_another_body_is_422(door):
    key = {"Idempotency-Key": uuid4().hex}
    door.post(GOOD, **key)
    answer = door.post(GOOD | {"text": "Other."}, **key)
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "idempotency_mismatch")


def test_a_request_that_was_refused_leaves_its_key_free(door):
    key = {"Idempotency-Key": uuid4().hex}
    assert door.post(GOOD | {"to": "x"}, **key).status_code == 400
    assert door.post(GOOD, **key).status_code == 201


@pytest.mark.parametrize("key", ["k", "x" * 255, "a key with spaces", "~!@#$%^&*()"])
def test_a_good_key_is_taken(door, key):
    assert door.post(GOOD, **{"Idempotency-Key": key}).status_code == 201


@pytest.mark.parametrize("key", ["", "x" * 256, "a\tb", "ü"])
def test_a_bad_key_is_400(door, key):
    answer = door.call("POST", "/messages", json=GOOD, headers={"Idempotency-Key": key.encode()})
    assert (answer.status_code, list(answer.json()["error"]["fields"])) == (400, ["Idempotency-Key"])


def test_fifty_at_once_with_one_key_make_one_message_and_no_error(door, tag):
    for _ in range(4):
        key, start = uuid4().hex, Barrier(THREADS)

        def post(_, key=key, start=start):
            start.wait()
            return requests.post(
                f"{door.url}/messages",
                json=GOOD | {"tags": [tag, key]},
                headers={"Idempotency-Key": key},
                timeout=PATIENCE,
            )

        with ThreadPoolExecutor(THREADS) as threads:
            answers = list(threads.map(post, range(THREADS)))
        assert {answer.status_code for answer in answers} == {201}
        assert len({answer.json()["id"] for answer in answers}) == 1
        assert sum("Idempotent-Replayed" not in answer.headers for answer in answers) == 1
        assert door.get("/messages", tag=key)["count"] == 1


def test_two_bodies_at_once_with_one_key_make_one_message_and_the_others_are_422(door, tag):
    key, start = uuid4().hex, Barrier(20)

    def post(n):
        start.wait()
        body = GOOD | {"tags": [tag], "subject": f"{n % 2}"}
        return requests.post(f"{door.url}/messages", json=body, headers={"Idempotency-Key": key}, timeout=PATIENCE)

    with ThreadPoolExecutor(20) as threads:
        answers = list(threads.map(post, range(20)))
    assert sorted(answer.status_code for answer in answers) == [201] * 10 + [422] * 10
    assert door.get("/messages", tag=tag)["count"] == 1


def test_a_repeated_request_gets_its_first_answer_though_useful_until_has_passed(door, tag):
    several = {"subject": "s", "text": "t", "recipients": [{"to": "ann@example.com"}]}
    for path, body in (("/messages", GOOD), ("/messages/batch", several)):
        first, seconds = None, 1
        while first is None or first.status_code == 400:  # it came too late: the machine is slow
            seconds *= 2
            key = {"Idempotency-Key": uuid4().hex}
            until = (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()
            wanted = body | {"useful_until": until, "tags": [tag]}
            first = door.call("POST", path, json=wanted, headers=key)
        assert first.status_code in (201, 202), first.text
        another = wanted | {"subject": "Other"}
        wait_until(lambda p=path, b=another: door.call("POST", p, json=b).status_code == 400, "the end of its use")
        again = door.call("POST", path, json=wanted, headers=key)
        assert (again.status_code, again.json()) == (first.status_code, first.json())
        assert again.headers["Idempotent-Replayed"] == "true"
        assert door.call("POST", path, json=another, headers=key).status_code == 400
