"""Batches from the HTTP door to an SMTP server: each recipient gets one mail with its own values."""

import hashlib

import pytest
import requests

from tests.flow.service import Service, until
from tests.waiting import PATIENCE


@pytest.fixture
def shared(running: Service) -> Service:
    """The service that the tests of this file share, without pending mail."""
    running.renew()
    return running


def post(service, **body):
    answer = service.http.post(f"{service.url}/messages/batch", json=body, timeout=PATIENCE)
    assert answer.status_code == 202, answer.text
    return answer.json()


def test_a_batch_arrives_and_each_mail_has_the_values_of_its_recipient(shared):
    people = [f"u{number}@example.test" for number in range(300)]
    body = post(
        shared,
        subject="For {{ who }}",
        text="Dear {{ who }}, {% if number > 10 %}many{% else %}few{% endif %}.",
        recipients=[{"to": one, "variables": {"who": one, "number": n}} for n, one in enumerate(people)],
    )
    path = f"/batches/{body['batch_id']}"
    shown = until(lambda: (found := shared.get(path))["progress"] == 1 and found, what="the end of the batch")
    assert shown["statuses"] == {"DELIVERED": 300}
    took = {message["to"][0]: message for message in shared.taken()}
    assert shared.copies() == dict.fromkeys(people, 1)
    for number, address in enumerate(people):
        assert took[address]["id"].startswith(f"<{body['ids'][number]}@")
    for number in (0, 11, 299):
        raw = requests.get(f"{shared.url}/messages/{body['ids'][number]}/raw", timeout=PATIENCE).content
        assert hashlib.sha256(raw).hexdigest() == took[people[number]]["sha"]
        assert f"Dear {people[number]}, {'many' if number > 10 else 'few'}.".encode() in raw
    assert shared.kinds(body["ids"][7]) == ["accepted", "delivered"]


def test_a_refused_mail_of_a_batch_is_retried_alone_and_a_bounced_one_counts_as_error(shared):
    people = ["later-1-ann@example.test", "never-ben@example.test", "cis@example.test"]
    body = post(
        shared, subject="s", text="Dear {{ n }}", recipients=[{"to": one, "variables": {"n": one}} for one in people]
    )
    path = f"/batches/{body['batch_id']}"
    shown = until(lambda: (found := shared.get(path))["progress"] == 1 and found, what="the end of the batch")
    assert shown["statuses"] == {"DELIVERED": 2, "ERROR": 1}
    assert shared.kinds(body["ids"][0]) == ["accepted", "deferred", "delivered"]
    assert shared.kinds(body["ids"][1]) == ["accepted", "bounced"]
    assert shared.copies() == {people[0]: 1, people[2]: 1}


def test_individual_mails_arrive_each_with_one_recipient(shared):
    answer = shared.http.post(
        f"{shared.url}/messages",
        json={"to": ["a@example.test", "b@example.test"], "subject": "s", "text": "t", "individual": True},
        timeout=PATIENCE,
    )
    assert answer.status_code == 202, answer.text
    until(lambda: len(shared.taken()) == 2, what="both mails")
    assert sorted(message["to"] for message in shared.taken()) == [["a@example.test"], ["b@example.test"]]


def test_a_single_mail_does_not_wait_behind_a_batch(shared):
    shared.kill("worker")
    people = [f"b{number}@example.test" for number in range(1000)]
    post(shared, subject="s", text="{{ n }}", recipients=[{"to": one, "variables": {"n": 1}} for one in people])
    urgent = [shared.post(to=f"single{number}@example.test", priority=number)["id"] for number in (5, 9)]
    shared.start_worker()
    until(lambda: len(shared.taken()) >= 1002, what="all mail")
    places = [place for place, message in enumerate(shared.taken()) if message["id"][1:37] in urgent]
    # A worker takes up to some hundred hints at once; without lanes of its own the batch would go first as a whole.
    assert max(places) < 700
