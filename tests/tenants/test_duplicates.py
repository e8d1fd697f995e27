"""The guard against duplicates: a key's mail is not sent again within ``duplicate_seconds``."""

import base64
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from threading import Barrier
from uuid import UUID, uuid4

import pytest
import requests
from sqlalchemy import update

from mailbbgun.core.ids import DEFAULT_TENANT
from mailbbgun.limits.duplicates import forget_expired
from mailbbgun.messages.models import Message
from tests.tenants.conftest import HELLO, Locked, code
from tests.tenants.test_key_limits import sent
from tests.waiting import PATIENCE, wait_until

HOUR = {"duplicate_seconds": 3600}
THREADS = 20


def guarded(locked: Locked, tenant: str = str(DEFAULT_TENANT), **values) -> str:
    return locked.key(tenant, **HOUR | values)["key"]


def post(locked: Locked, key: str, **values) -> dict:
    headers = {"Idempotency-Key": idempotency} if (idempotency := values.pop("idempotency", None)) else {}
    answer = locked.ask("POST", "/messages", key, json=HELLO | values, headers=headers)
    assert answer.status_code == 201, answer.text
    return answer.json()


def count(locked: Locked, key: str, tag: str) -> int:
    return locked.ask("GET", "/messages", key, params={"tag": tag}).json()["count"]


def test_the_same_mail_again_is_answered_with_the_id_of_the_first(locked):
    key, tag = guarded(locked), uuid4().hex
    first = post(locked, key, tags=[tag])
    answer = locked.ask("POST", "/messages", key, json=HELLO | {"tags": [tag, "again"], "metadata": {"n": 2}})
    assert answer.json() == first | {"duplicate_of": first["id"]}
    assert "duplicate_of" not in first
    assert answer.headers["Location"].endswith(first["id"])
    assert "Idempotent-Replayed" not in answer.headers
    assert count(locked, key, tag) == 1


OTHER = [
    {"to": "bob@example.com"}, {"to": "ann@example.com, bob@example.com"}, {"cc": "bob@example.com"},
    {"bcc": "bob@example.com"}, {"from": "Shop <shop@example.com>"}, {"subject": "Hello "}, {"text": "Hi!"},
    {"html": "<p>Hi</p>"}, {"html": "<p>Ho</p>"}, {"headers": {"X-Order": "1"}}, {"reply_to": "help@example.com"},
    {"envelope_from": "bounces@example.com"},
    {"attachments": [{"filename": "a.txt", "content": "YQ=="}]},
    {"attachments": [{"filename": "a.txt", "content": "Yg=="}]},
    {"attachments": [{"filename": "b.txt", "content": "YQ=="}]},
]  # fmt: skip


def test_another_recipient_another_content_and_another_time_are_no_duplicates(locked):
    key = guarded(locked)
    other = [*OTHER, {"send_at": (datetime.now(UTC) + timedelta(hours=1)).isoformat()}]
    answers = [post(locked, key, **one) for one in ({}, *other)]
    assert not [one for one in answers if "duplicate_of" in one]
    again = [post(locked, key, **one) for one in ({}, *other)]
    assert [one["duplicate_of"] for one in again] == [one["id"] for one in answers]


def test_what_a_mail_is_named_and_filed_by_makes_no_difference(locked):
    key = guarded(locked)
    uploaded = locked.call(
        "POST",
        "/attachments",
        headers={"Authorization": f"Bearer {key}"},
        files={"file": ("a.txt", b"a", "text/plain")},
    )
    assert uploaded.status_code == 201, uploaded.text
    (file,) = uploaded.json()["attachments"]
    content = {"filename": "a.txt", "content": base64.b64encode(b"a").decode(), "content_type": "text/plain"}
    first = post(locked, key, attachments=[{"id": file["id"]}], message_id_header="<1@example.com>")
    for given in (content, {"sha256": file["sha256"], "filename": "a.txt", "content_type": "text/plain"}):
        again = post(locked, key, attachments=[given], message_id_header="<2@example.com>", priority=9, tags=["x"])
        assert again.get("duplicate_of") == first["id"], given
    plain = post(locked, key, message_id_header="<1@example.com>")
    assert post(locked, key, message_id_header="<2@example.com>")["duplicate_of"] == plain["id"]


def test_mail_of_a_template_is_the_same_if_its_variables_are(locked):
    key = guarded(locked, scopes=["messages:write", "messages:read", "templates"])
    template = {"name": f"t{uuid4().hex}", "subject": "Hello {{ name }}", "text": "{{ name }}, {{ order.id }}"}
    made = locked.ask("POST", "/templates", key, json=template)
    assert made.status_code == 201, made.text

    def templated(**variables) -> dict:
        body = {"to": HELLO["to"], "from": HELLO["from"], "template": template["name"], "variables": variables}
        answer = locked.ask("POST", "/messages", key, json=body)
        assert answer.status_code == 201, answer.text
        return answer.json()

    first, other = templated(name="Ann", order={"id": 1}), templated(name="Ann", order={"id": 2})
    assert "duplicate_of" not in other
    assert templated(order={"id": 1}, name="Ann") == first | {"duplicate_of": first["id"]}


@pytest.mark.parametrize("policy", ["answer", "hold"])
def test_many_equal_requests_at_once_send_one_mail(locked, policy):
    key, tag, start = guarded(locked, duplicate_policy=policy), uuid4().hex, Barrier(THREADS)

    def ask(n: int) -> dict:
        start.wait()
        headers = {"Authorization": f"Bearer {key}"} | ({"Idempotency-Key": f"{tag} {n}"} if n % 2 else {})
        answer = requests.post(
            f"{locked.url}/messages", json=HELLO | {"tags": [tag]}, headers=headers, timeout=PATIENCE
        )
        assert answer.status_code == 201, answer.text
        return answer.json()

    with ThreadPoolExecutor(THREADS) as threads:
        answers = list(threads.map(ask, range(THREADS)))
    (first,) = [one for one in answers if "duplicate_of" not in one]
    assert {one["duplicate_of"] for one in answers if one is not first} == {first["id"]}
    listed = locked.ask("GET", "/messages", key, params={"tag": tag, "status": "PENDING"}).json()
    assert [one["id"] for one in listed["messages"]] == [first["id"]]
    assert count(locked, key, tag) == (1 if policy == "answer" else THREADS)


def test_after_its_seconds_the_same_mail_is_sent_again(locked):
    key, tag = guarded(locked, duplicate_seconds=1), uuid4().hex
    answers = [post(locked, key, tags=[tag])]

    def sent_again() -> bool:
        answers.append(post(locked, key, tags=[tag]))
        return "duplicate_of" not in answers[-1]

    wait_until(sent_again, "the end of the seconds")
    assert {one["id"] for one in answers} == {answers[0]["id"], answers[-1]["id"]}
    assert count(locked, key, tag) == 2


def test_keys_without_a_guard_and_other_keys_send_the_same_mail_again(locked):
    for values in ({"duplicate_seconds": 0}, {"duplicate_seconds": None}):
        key = guarded(locked, **values)
        assert len({post(locked, key)["id"] for _ in range(2)}) == 2
    assert not any("duplicate_of" in post(locked, guarded(locked)) for _ in range(2))


def test_a_test_key_has_its_own_guard(locked):
    live, test = guarded(locked), guarded(locked, kind="test")
    first = post(locked, live)
    tested = post(locked, test)
    assert "duplicate_of" not in tested
    assert post(locked, test)["duplicate_of"] == tested["id"] != first["id"]


def test_an_answered_duplicate_is_not_counted_by_a_quota_also_when_it_is_used_up(locked):
    key = guarded(locked, locked.tenant("counted", max_messages_per_day=2))
    first = post(locked, key)
    for _ in range(3):
        assert post(locked, key)["duplicate_of"] == first["id"]
    post(locked, key, subject="Another")
    for _ in range(2):  # the second time the process knows that the quota is used up
        assert code(locked.ask("POST", "/messages", key, json=HELLO | {"subject": "Third"})) == (429, "quota_exceeded")
    assert post(locked, key)["duplicate_of"] == first["id"]


def test_mail_over_quota_leaves_nothing_to_be_a_duplicate_of(locked):
    tenant = locked.tenant("raised", max_messages_per_day=0)
    key = guarded(locked, tenant)
    assert locked.ask("POST", "/messages", key, json=HELLO).status_code == 429
    locked.ask("PATCH", f"/tenants/{tenant}", locked.admin, json={"max_messages_per_day": None})
    wait_until(lambda: locked.ask("POST", "/messages", key, json=HELLO).status_code == 201, "the new quota")
    with locked.services.db.write(None) as session:
        assert forget_expired(session) == 0


def test_an_idempotency_key_is_answered_first_and_keeps_the_answer_to_a_duplicate(locked):
    key, one, two = guarded(locked), uuid4().hex, uuid4().hex
    first = post(locked, key, idempotency=one)
    assert post(locked, key, idempotency=one) == first
    duplicate = post(locked, key, idempotency=two)
    assert duplicate == first | {"duplicate_of": first["id"]}
    locked.ask("DELETE", f"/messages/{first['id']}", key)
    headers = {"Idempotency-Key": two}
    again = locked.ask("POST", "/messages", key, json=HELLO, headers=headers)
    assert (again.json(), again.headers["Idempotent-Replayed"]) == (duplicate, "true")


def test_mail_that_was_cancelled_is_sent_when_it_is_asked_for_again(locked):
    key = guarded(locked)
    first = post(locked, key)
    assert locked.ask("DELETE", f"/messages/{first['id']}", key).status_code == 200
    second = post(locked, key)
    assert "duplicate_of" not in second
    assert post(locked, key)["duplicate_of"] == second["id"] != first["id"]


@pytest.mark.parametrize(("failed", "again"), [
    (["ann@example.com"], False), (["bob@example.com"], False), (["ann@example.com", "bob@example.com"], True),
])  # fmt: skip
def test_mail_is_sent_again_at_once_only_if_it_failed_for_all_recipients(locked, failed, again):
    key = guarded(locked)
    first = sent(locked, key, *failed, to="ann@example.com, bob@example.com", subject=f"To {len(failed)}")
    with locked.services.db.write() as session:
        session.execute(update(Message).where(Message.id == UUID(first)).values(status="ERROR"))
    second = post(locked, key, to="ann@example.com, bob@example.com", subject=f"To {len(failed)}")
    assert second.get("duplicate_of") == (None if again else first)


def test_a_held_duplicate_is_stored_says_why_and_leaves_when_somebody_retries_it(locked):
    key = guarded(locked, duplicate_policy="hold")
    first, held = post(locked, key), post(locked, key)
    assert (held["status"], held["duplicate_of"]) == ("ERROR", first["id"])
    assert held["id"] != first["id"]
    path = f"/messages/{held['id']}"
    shown = locked.ask("GET", path, key).json()
    assert (shown["status"], shown["reason"], shown["deliveries"][0]["reason"]) == ("ERROR", "duplicate", "duplicate")
    events = locked.ask("GET", f"{path}/events", key).json()["events"]
    assert [(one["kind"], one["data"].get("duplicate_of")) for one in events] == [
        ("duplicate", first["id"]), ("accepted", None),
    ]  # fmt: skip
    listed = locked.ask("GET", "/messages", key, params={"reason": "duplicate"}).json()["messages"]
    assert held["id"] in [one["id"] for one in listed]
    assert locked.ask("POST", f"{path}/retry", key).json()["status"] == "PENDING"
    assert post(locked, key)["duplicate_of"] == first["id"]


def test_mail_of_batches_is_not_compared(locked):
    key = guarded(locked)
    post(locked, key)
    batch = {"messages": [HELLO, HELLO]}
    answers = [locked.ask("POST", "/messages/batch", key, json=batch) for _ in range(2)]
    assert [(one.status_code, one.json()["accepted"]) for one in answers] == [(202, 2)] * 2


def test_a_key_tells_its_guard_and_its_copy_has_it_too(locked):
    made = locked.key(str(DEFAULT_TENANT), duplicate_seconds=60, duplicate_policy="hold")
    path = f"/tenants/{DEFAULT_TENANT}/keys/{made['id']}"
    copy = locked.ask("POST", f"{path}/rotate", locked.admin, json={"hours": 1}).json()
    for one in (made, copy, locked.ask("GET", path, locked.admin).json()):
        assert (one["duplicate_seconds"], one["duplicate_policy"]) == (60, "hold")
    assert locked.key(str(DEFAULT_TENANT))["duplicate_seconds"] is None


@pytest.mark.parametrize("values", [
    {"duplicate_seconds": -1}, {"duplicate_seconds": 86_401}, {"duplicate_seconds": "60"}, {"duplicate_policy": "hold"},
    {"duplicate_seconds": 0, "duplicate_policy": "hold"}, {"duplicate_seconds": 60, "duplicate_policy": "drop"},
])  # fmt: skip
def test_a_guard_that_makes_no_sense_is_400_and_the_field_is_named(locked, values):
    answer = locked.ask("POST", f"/tenants/{DEFAULT_TENANT}/keys", locked.admin, json={"name": "k"} | values)
    assert code(answer) == (400, "validation_error")
    assert list(answer.json()["error"]["fields"]) == [list(values)[-1]]


def test_a_key_with_a_guard_makes_no_key_with_a_weaker_one(locked):
    maker = locked.key(str(DEFAULT_TENANT), scopes=["admin"], duplicate_seconds=60)["key"]
    for seconds, status in ((None, 403), (0, 403), (59, 403), (60, 201), (61, 201)):
        body = {"name": "k", "scopes": ["admin"], "duplicate_seconds": seconds}
        answer = locked.ask("POST", f"/tenants/{DEFAULT_TENANT}/keys", maker, json=body)
        assert answer.status_code == status, answer.text
        if status == 403:
            assert "duplicate_seconds (at least 60)" in answer.json()["error"]["message"]
