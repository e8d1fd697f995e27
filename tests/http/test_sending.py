"""``POST /messages``: what is accepted, and what becomes of its fields."""

import json
from email import message_from_bytes
from email.utils import getaddresses
from uuid import UUID

import pytest
import requests

from tests.http.posting import ANOTHER_WAY, GOOD, parsed, wrong
from tests.waiting import PATIENCE

pytestmark = pytest.mark.both


def test_the_original_request_gets_the_original_answer(door):
    answer = door.post(GOOD)
    assert answer.status_code == 201
    body = answer.json()
    assert body == {"id": str(UUID(body["id"])), "status": "PENDING", "subject": "Hello"}
    assert answer.headers["Location"] == f"{door.url}/messages/{body['id']}"
    assert door.call("GET", answer.headers["Location"].removeprefix(door.url)).json()["id"] == body["id"]
    assert answer.headers["Content-Type"] == "application/json"


def test_everything_that_may_be_given_arrives_in_the_mime(door):
    identifier = door.send(
        to=["Ann Lee <ann@example.com>", '"Lee, Ben" <ben@example.com>'],
        cc="Cis <cis@example.com>, dot@example.com",
        bcc="eve@example.com",
        reply_to="Help <help@example.com>",
        subject="Grüße 😀",
        text="Text ü",
        html="<p>HTML ü",
        headers={"X-Order": "1234", "In-Reply-To": "<0@example.com>"},
        tags=["invoice", "march", "invoice"],
        metadata={"order": 1234, "paid": True, "note": None},
        message_id="order-1234@example.com",
        priority=9,
        **{"from": "Shop <shop@example.com>"},
    )
    message = parsed(door, identifier)
    headers = {
        "From": "Shop <shop@example.com>",
        "To": 'Ann Lee <ann@example.com>, "Lee, Ben" <ben@example.com>',
        "Cc": "Cis <cis@example.com>, dot@example.com",
        "Reply-To": "Help <help@example.com>",
        "Subject": "Grüße 😀",
        "X-Order": "1234",
        "In-Reply-To": "<0@example.com>",
        "Message-ID": "<order-1234@example.com>",
        "Bcc": None,
    }
    assert {name: message[name] for name in headers} == headers
    assert [part.get_content().strip() for part in message.iter_parts()] == ["Text ü", "<p>HTML ü"]
    shown = door.get(f"/messages/{identifier}")
    assert (shown["tags"], shown["priority"]) == (["invoice", "march"], 9)
    assert shown["metadata"] == {"order": 1234, "paid": True, "note": None}
    assert {one["address"]: one["kind"] for one in shown["deliveries"]} == {
        "ann@example.com": "to",
        "ben@example.com": "to",
        "cis@example.com": "cc",
        "dot@example.com": "cc",
        "eve@example.com": "bcc",
    }


def test_message_id_and_from_are_on_our_host_name_by_default(door):
    identifier = door.send()
    message = parsed(door, identifier)
    assert message["Message-ID"] == f"<{identifier}@mail.example.com>"
    assert message["From"] == "Mail BB Gun <noreply@mail.example.com>"
    assert door.get(f"/messages/{identifier}")["mail_from"] == "noreply@mail.example.com"


def test_the_message_id_header_has_an_old_name_in_requests_and_is_the_same_request_by_either(door, tag):
    names = ("message_id_header", "message_id")
    bodies = [
        GOOD | {"message_id_header": None} | dict.fromkeys(given, f"<{tag}@example.com>")
        for given in (names, names[:1], names[1:])
    ]
    # By the quick way, and with a header that makes it leave the request to Flask.
    for quick in ({}, {"X-Slow": "1"}):
        for body in bodies:
            answer = door.post(
                {name: value for name, value in body.items() if value}, **{"Idempotency-Key": tag} | quick
            )
            assert answer.status_code == 201, answer.text
            assert door.post(body, **{"Idempotency-Key": tag}).json() == answer.json()
    assert door.get("/messages", message_id_header=tag + "@example.com")["count"] == 1
    shown = door.get(f"/messages/{answer.json()['id']}")
    assert (shown["message_id_header"], "message_id" in shown) == (f"<{tag}@example.com>", False)
    differ = door.post(GOOD | {"message_id_header": "<1@b.test>", "message_id": "<2@b.test>"}).json()["error"]
    assert differ["fields"] == {
        "message_id_header": [
            '"<1@b.test>": `message_id` is its old name, and says otherwise; give `message_id_header` alone.'
        ]
    }


def test_a_recipient_named_twice_gets_one_delivery_of_the_most_visible_kind(door):
    identifier = door.send(
        to=["ann@example.com", "Ann <ann@EXAMPLE.com>"],
        cc="ann@example.com",
        bcc=["ann@example.com", "ben@example.com"],
    )
    deliveries = door.get(f"/messages/{identifier}")["deliveries"]
    assert [(one["address"], one["kind"]) for one in deliveries] == [
        ("ann@example.com", "to"),
        ("ben@example.com", "bcc"),
    ]


def test_international_domains_become_a_labels_and_international_local_parts_need_smtputf8(door):
    shown = door.get(f"/messages/{door.send(to='ann@bücher.example')}")
    assert (shown["to"], shown["smtputf8"]) == (["ann@xn--bcher-kva.example"], False)
    identifier = door.send(to="Jörg <jörg@bücher.example>")
    shown = door.get(f"/messages/{identifier}")
    assert (shown["to"], shown["smtputf8"]) == (["jörg@xn--bcher-kva.example"], True)
    assert "<jörg@xn--bcher-kva.example>".encode() in door.call("GET", f"/messages/{identifier}/raw").content


@pytest.mark.parametrize("address", ["ann@localhost", "ann@example.test", "ann@printer.local", "ann@box"])
def test_addresses_of_tests_and_local_networks_are_taken(door, address):
    assert door.get(f"/messages/{door.send(to=address)}")["to"] == [address]


def test_a_byte_order_mark_before_the_json_is_ignored(door):
    for more in ({}, ANOTHER_WAY):
        headers = {"Content-Type": "application/json"} | more
        answer = door.call("POST", "/messages", data=b"\xef\xbb\xbf" + json.dumps(GOOD).encode(), headers=headers)
        assert answer.status_code == 201, answer.text
        for body in (b"\xef\xbb\xbf", b"\xef\xbb\xbf\xef\xbb\xbf{}", b"\xff\xfe{\0}\0"):
            wrong(door.call("POST", "/messages", data=body, headers=headers), code="malformed_json")


@pytest.mark.parametrize(
    "to", ["ann@example.com,", ", ann@example.com ,, ", "ann@example.com;", "Ann@Example.com; ann@example.com,"]
)
def test_a_comma_or_semicolon_too_many_is_harmless(door, to):
    identifier = door.send(to=to, cc=",ben@example.com;; cis@example.com,", **{"from": "shop@example.com,"})
    shown = door.get(f"/messages/{identifier}")
    assert [one["address"].lower() for one in shown["deliveries"]] == [
        "ann@example.com",
        "ben@example.com",
        "cis@example.com",
    ]


def test_a_mailbox_gets_one_copy_whatever_the_case_and_the_spelling(door):
    identifier = door.send(
        to=["Ann@Example.com", "Lee <ann@example.com>", "ben@bücher.example"],
        cc='ANN@EXAMPLE.COM, "ann"@example.com, ben@XN--bcher-kva.example, "C..c"@example.com',
        bcc=["Ben@BÜCHER.example", '"c..C"@example.com', "dot@example.com"],
    )
    deliveries = door.get(f"/messages/{identifier}")["deliveries"]
    assert [(one["address"], one["kind"]) for one in deliveries] == [
        ("Ann@example.com", "to"), ("ben@xn--bcher-kva.example", "to"), ('"C..c"@example.com', "cc"),
        ("dot@example.com", "bcc"),
    ]  # fmt: skip
    assert parsed(door, identifier)["To"] == "Ann@example.com, ben@xn--bcher-kva.example"


def test_local_parts_in_quotes_are_stored_shown_and_found(door):
    identifier = door.send(to=['Ann <"a..b"@docomo.ne.jp>', '"ann.lee"@example.com'], reply_to='"x@y"@example.com')
    shown = door.get(f"/messages/{identifier}")
    assert (shown["to"], shown["smtputf8"]) == (['"a..b"@docomo.ne.jp', "ann.lee@example.com"], False)
    raw = door.call("GET", f"/messages/{identifier}/raw").content
    assert b'To: Ann <"a..b"@docomo.ne.jp>, ann.lee@example.com\r\nReply-To: "x@y"@example.com\r\n' in raw
    assert getaddresses([message_from_bytes(raw)["To"]]) == [
        ("Ann", '"a..b"@docomo.ne.jp'),
        ("", "ann.lee@example.com"),
    ]
    assert identifier in [one["id"] for one in door.get("/messages", to='"A..b"@docomo.ne.jp')["messages"]]


def test_headers_that_programs_read_are_sent_as_they_are_or_refused_with_the_reason(door):
    identifiers = [f"<{n}.{'x' * 60}@mail.example.com>" for n in range(50)]
    url = f"<https://example.com/u?t={'x' * 900}>"
    headers = {"References": " \t ".join(identifiers), "In-Reply-To": identifiers[-1], "List-Unsubscribe": url}
    for more in ({}, ANOTHER_WAY):
        raw = door.call("GET", f"/messages/{door.post(GOOD | {'headers': headers}, **more).json()['id']}/raw").content
        head = raw.partition(b"\r\n\r\n")[0].replace(b"\r\n ", b" ").decode()
        for name, value in (headers | {"References": " ".join(identifiers)}).items():
            assert f"\r\n{name}: {value}\r\n" in head + "\r\n"
    for name, value, why in (
        (
            "References",
            "<grün@example.com>",
            "References is read by programs, so it takes ASCII only (RFC 2047 §5): 'ü' cannot be sent in it.",
        ),
        (
            "List-Unsubscribe",
            f"<https://example.com/{'x' * 1000}>",
            "Has 1022 octets without a space, and a line takes 998",
        ),
        ("X-Token", "x" * 1500, "Has 1500 octets without a space, and a line takes 998"),
        ("References", "<a@b> " * 2000, "Has 12000 characters, and 10000 are the most."),
        ("Date", "x", "Reserved: the service or a mail server on the way sets it, or it has a field of its own."),
        ("dkim-signature", "v=1", "Reserved: "),
    ):
        answer = door.post(GOOD | {"headers": {name: value}})
        wrong(answer, f"headers.{name}")
        assert answer.json()["error"]["fields"][f"headers.{name}"][0].startswith(why)


def test_bounces_go_where_envelope_from_says(door):
    shown = door.get(
        f"/messages/{door.send(envelope_from=' <bounces@BÜCHER.example> ', **{'from': 'Shop <shop@example.com>'})}"
    )
    assert (shown["mail_from"], shown["from"], shown["smtputf8"]) == (
        "bounces@xn--bcher-kva.example",
        "Shop <shop@example.com>",
        False,
    )
    shown = door.get(f"/messages/{door.send(envelope_from='rückläufer@example.com')}")
    assert (shown["mail_from"], shown["smtputf8"]) == ("rückläufer@example.com", True)
    raw = door.call("GET", f"/messages/{shown['id']}/raw").content
    assert raw.isascii()  # no header has the address, so none needs UTF-8
    for given in ("x", "<>", "a@example.com, b@example.com", "Ann <ann@example.com>", 5, ["a@example.com"]):
        wrong(door.post(GOOD | {"envelope_from": given}), "envelope_from")


def test_headers_that_name_no_international_address_stay_ascii(door):
    identifier = door.send(
        bcc="jörg@example.com",
        to="Jörg <joerg@bücher.example>",
        subject="Grüße",
        text="Grüße",
        headers={"X-Note": "Grüße"},
    )
    assert door.get(f"/messages/{identifier}")["smtputf8"] is True
    assert door.call("GET", f"/messages/{identifier}/raw").content.isascii()


def test_a_priority_decides_the_lane(door):
    from sqlalchemy import select

    from mailbbgun.messages.models import Delivery

    ids = {priority: UUID(door.send(priority=priority)) for priority in (0, 3, 4, 6, 7, 9)}
    with door.services.db.read() as session:
        lanes = {
            priority: session.scalar(select(Delivery.lane).where(Delivery.message_id == identifier))
            for priority, identifier in ids.items()
        }
    assert lanes == {0: "bulk", 3: "bulk", 4: "normal", 6: "normal", 7: "high", 9: "high"}


def test_raw_bytes_of_utf8_are_taken_as_they_are(door):
    answer = door.call(
        "POST",
        "/messages",
        data=json.dumps(GOOD | {"subject": "Grüße"}, ensure_ascii=False).encode(),
        headers={"Content-Type": "application/json; charset=UTF-8"},
    )
    assert answer.json()["subject"] == "Grüße"


def test_many_international_recipients_are_taken_by_another_thread_with_the_same_answers(door):
    to = [f"jörg{number}@bücher{number}.example" for number in range(100)]
    with requests.Session() as http:
        taken = http.post(f"{door.url}/messages", json={"to": to, "subject": "s", "text": "t"}, timeout=PATIENCE)
        wrong = http.post(
            f"{door.url}/messages", json={"to": to, "subject": "s", "text": "t", "message_id": "no"}, timeout=PATIENCE
        )
    assert taken.status_code == 201
    assert len(door.get(f"/messages/{taken.json()['id']}")["deliveries"]) == 100
    assert (wrong.status_code, list(wrong.json()["error"]["fields"])) == (400, ["message_id"])
