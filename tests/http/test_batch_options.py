"""What a batch may ask for besides: individual mails, times, files, templates; and who is suppressed."""

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from sqlalchemy import select

from mailbbgun.app import close, create_app
from mailbbgun.install import install
from mailbbgun.messages.models import Message
from mailbbgun.services import build
from mailbbgun.settings.load import load
from tests.http.test_batches import COMMON, accepted, mail, people, post, refused
from tests.waiting import wait_until

GOOD = {"to": "ann@example.com", "subject": "Hello", "text": "Hi"}


def test_individual_sends_each_recipient_a_mail_that_shows_no_other(door):
    answer = door.post(
        {
            "to": ['"Lee, Ann" <ann@example.com>', "ben@example.com, ANN@example.com"],
            "subject": "{{ same }}",
            "text": "Hello.",
            "individual": True,
        }
    )
    assert answer.status_code == 202, answer.text
    body = answer.json()
    first, second = (mail(door, one) for one in body["ids"])
    assert (first["To"], second["To"]) == ('"Lee, Ann" <ann@example.com>', "ben@example.com")
    assert first["Subject"] == second["Subject"] == "{{ same }}"
    assert door.get(f"/batches/{body['batch_id']}")["messages"] == 2


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"cc": "b@example.com"}, "cc"),
        ({"bcc": "b@example.com"}, "bcc"),
        ({"to": ["nobody", "b@example.com"]}, "to"),
        ({"to": ["x@simulator", "b@example.com"]}, "to"),
        ({"individual": "yes"}, "individual"),
        ({"text": None}, "text"),
    ],
)
def test_a_fault_of_individual_mails_names_the_field_of_the_message(door, more, field):
    answer = door.post({"to": "a@example.com", "subject": "s", "text": "t", "individual": True} | more)
    assert answer.status_code == 400
    assert field in answer.json()["error"]["fields"]


def test_individual_that_is_false_or_null_changes_nothing(door):
    for value in (False, None):
        assert door.send(to=["a@example.com", "b@example.com"], individual=value)


def test_a_scheduled_batch_is_not_due_before_its_time(door):
    later = (datetime.now(UTC) + timedelta(days=1)).replace(microsecond=0)
    for body in (
        accepted(door, recipients=people(2), send_at=later.isoformat()),
        post(door, {"send_at": later.isoformat(), "messages": [GOOD, GOOD]}).json(),
    ):
        for identifier in body["ids"]:
            shown = door.get(f"/messages/{identifier}")
            due = datetime.fromisoformat(shown["deliveries"][0]["next_attempt_at"])
            assert due == later
            assert datetime.fromisoformat(shown["send_at"]) == later
    assert "send_at" in refused(door, COMMON | {"recipients": people(1), "send_at": "2099-01-01T00:00:00Z"})["fields"]


def test_suppressed_recipients_of_a_batch_are_reported(door):
    door.call("POST", "/suppressions", json={"address": "gone@example.com"})
    try:
        wait_until(lambda: "suppressed" in door.post(GOOD | {"to": "gone@example.com"}).json(), "the suppression")
        items = [*people(1), {"to": "gone@example.com", "variables": {"name": "x", "order": 1}}]
        assert accepted(door, recipients=items)["suppressed"] == ["gone@example.com"]
        body = post(door, {"messages": [GOOD, GOOD | {"to": "gone@example.com"}]}).json()
        assert body["suppressed"] == ["gone@example.com"]
        assert door.get(f"/batches/{body['batch_id']}")["statuses"] == {"PENDING": 1, "ERROR": 1}
        kinds = [one["kind"] for one in door.get(f"/messages/{body['ids'][1]}/events")["events"]]
        assert kinds == ["suppressed", "accepted"]
    finally:
        found = door.get("/suppressions")["suppressions"]
        for one in found:
            door.call("DELETE", f"/suppressions/{one['id']}")


def test_files_of_a_batch_are_stored_once_and_each_mail_has_them(door):
    files = [{"filename": "a.txt", "content": "SGVsbG8=", "content_type": "text/plain"}]
    body = accepted(door, recipients=people(2), attachments=files)
    for identifier in body["ids"]:
        (attached,) = mail(door, identifier).iter_attachments()
        assert (attached.get_filename(), attached.get_payload(decode=True)) == ("a.txt", b"Hello")


def test_a_template_is_filled_in_for_each_recipient(door):
    name = f"t{uuid4().hex[:8]}"
    saved = {"name": name, "subject": "Order {{ order }}", "html": "<p>Dear {{ name }}</p>"}
    assert door.call("POST", "/templates", json=saved).status_code == 201
    answer = post(door, {"template": name, "recipients": people(2)})
    assert answer.status_code == 202, answer.text
    first, second = (mail(door, one) for one in answer.json()["ids"])
    assert (first["Subject"], second["Subject"]) == ("Order 0", "Order 1")
    assert "<p>Dear A&lt;1&gt;</p>" in second.get_body(("html",)).get_content()
    assert (
        "order"
        in refused(door, {"template": name, "recipients": [{"to": "a@example.com"}]})["fields"]["recipients.0.subject"][
            0
        ]
    )
    assert "template" in refused(door, {"template": "gone", "recipients": people(1)})["fields"]
    assert "text" in refused(door, {"template": name, "text": "t", "recipients": people(1)})["fields"]


def test_a_batch_has_limits_of_its_own(tmp_path):
    given = {"VAR": str(tmp_path), "HOSTNAME": "mail.example.com", "MAX_BATCH_SIZE": "20000", "MAX_BULK_EMAILS": "3"}
    settings = load({f"MAILBBGUN_{name}": value for name, value in given.items()})
    services = build(settings)
    install(services)
    app = create_app(settings, services)
    client = app.test_client()
    try:
        large = COMMON | {"text": "x" * 21_000}
        answer = client.post("/messages/batch", json=large | {"recipients": people(1)})
        assert (answer.status_code, answer.json["error"]["code"]) == (413, "too_large")
        assert "20000 bytes, the limit (MAX_BATCH_SIZE)" in answer.json["error"]["message"]
        assert client.post("/messages", json=GOOD | {"text": "x" * 21_000}).status_code == 201
        answer = client.post("/messages/batch", json=COMMON | {"recipients": people(4)})
        assert "3 are the most (MAX_BULK_EMAILS)" in answer.json["error"]["fields"]["recipients"][0]
        assert client.post("/messages/batch", json=COMMON | {"recipients": people(3)}).status_code == 202
    finally:
        close(app)


def test_a_batch_may_have_more_values_than_a_message_but_not_any_number(door):
    values = {f"v{number}": number for number in range(150)}
    items = [{**one, "variables": one["variables"] | values} for one in people(200)]
    assert accepted(door, recipients=items)["accepted"] == 200
    many = [[1] * 1000] * 600
    answer = post(door, COMMON | {"recipients": [{"to": "a@example.com", "variables": {"many": many}}]})
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too_large")


def test_only_those_mails_of_a_batch_need_smtputf8_whose_addresses_do(door):
    items = [{"to": address} for address in ("müller@example.com", "ann@example.com", "jörg@example.com")]
    body = accepted(door, subject="s", text="t", html=None, recipients=items)
    with door.services.db.read() as session:
        found = session.execute(
            select(Message.id, Message.smtputf8).where(Message.id.in_(map(UUID, body["ids"])))
        ).all()
    assert [needs for _, needs in sorted(found)] == [True, False, True]
