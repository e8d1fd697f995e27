"""``POST /messages`` at the front door."""

import json
from email import message_from_bytes, policy
from uuid import UUID

import pytest

from bench import cpu
from tests.waiting import growth

GOOD = {"to": "ann@example.com", "subject": "Hello", "text": "It works."}


def parsed(door, identifier):
    return message_from_bytes(door.call("GET", f"/messages/{identifier}/raw").content, policy=policy.default)


def wrong(answer, *fields, status=400, code="validation_error"):
    error = answer.json()["error"]
    assert (answer.status_code, error["status"], error["code"]) == (status, status, code), answer.text
    assert error["message"]
    assert sorted(error.get("fields", {})) == sorted(fields), error


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
    assert {name: message[name] for name in ("From", "To", "Cc", "Reply-To", "Subject", "X-Order", "In-Reply-To", "Message-ID", "Bcc")} == {
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
    assert [part.get_content().strip() for part in message.iter_parts()] == ["Text ü", "<p>HTML ü"]
    shown = door.get(f"/messages/{identifier}")
    assert (shown["tags"], shown["metadata"], shown["priority"]) == (["invoice", "march"], {"order": 1234, "paid": True, "note": None}, 9)
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
    bodies = [GOOD | {"message_id_header": None} | dict.fromkeys(given, f"<{tag}@example.com>") for given in (names, names[:1], names[1:])]
    # As nearly every client writes it, and with a header that the quick way leaves to the framework.
    for quick in ({}, {"X-Slow": "1"}):
        for body in bodies:
            answer = door.post({name: value for name, value in body.items() if value}, **{"Idempotency-Key": tag} | quick)
            assert answer.status_code == 201, answer.text
            assert door.post(body, **{"Idempotency-Key": tag}).json() == answer.json()
    assert door.get("/messages", message_id_header=tag + "@example.com")["count"] == 1
    shown = door.get(f"/messages/{answer.json()['id']}")
    assert (shown["message_id_header"], "message_id" in shown) == (f"<{tag}@example.com>", False)
    differ = door.post(GOOD | {"message_id_header": "<1@b.test>", "message_id": "<2@b.test>"}).json()["error"]
    assert differ["fields"] == {
        "message_id_header": ['"<1@b.test>": `message_id` is its old name, and says otherwise; give `message_id_header` alone.']
    }


def test_null_stands_for_what_is_not_given(door):
    optional = ("html", "cc", "bcc", "from", "reply_to", "headers", "tags", "metadata", "message_id", "message_id_header", "priority")
    answer = door.post(GOOD | dict.fromkeys(optional), **{"Idempotency-Key": f"null-{door.url}"})
    assert answer.status_code == 201, answer.text
    same = door.post(GOOD, **{"Idempotency-Key": f"null-{door.url}"})  # the same request, and so the same answer
    assert (same.json(), same.headers["Idempotent-Replayed"]) == (answer.json(), "true")
    shown, plain = (door.get(f"/messages/{identifier}") for identifier in (answer.json()["id"], door.send(**GOOD)))
    for name in ("from", "to", "cc", "bcc", "tags", "metadata", "priority", "mail_from", "smtputf8"):
        assert shown[name] == plain[name]
    assert parsed(door, answer.json()["id"]).get_content().strip() == "It works."
    assert door.post(GOOD | {"text": None, "html": "<p>It works."}).status_code == 201
    wrong(door.post(GOOD | {"text": None, "html": None}), "text")
    properties = door.get("/openapi.json")["components"]["schemas"]["NewMessage"]["properties"]
    assert {name for name, one in properties.items() if not one.get("nullable")} == {"to", "subject"}
    assert set(properties) == {*GOOD, *optional}


def test_a_recipient_named_twice_gets_one_delivery_of_the_most_visible_kind(door):
    identifier = door.send(to=["ann@example.com", "Ann <ann@EXAMPLE.com>"], cc="ann@example.com", bcc=["ann@example.com", "ben@example.com"])
    deliveries = door.get(f"/messages/{identifier}")["deliveries"]
    assert [(one["address"], one["kind"]) for one in deliveries] == [("ann@example.com", "to"), ("ben@example.com", "bcc")]


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


def test_empty_subject_and_empty_text_are_taken(door):
    message = parsed(door, door.send(subject="", text=""))
    assert (message["Subject"], message.get_content().strip()) == ("", "")


def test_sizes_are_taken_to_the_limit_and_refused_beyond_it(door):
    door.send(subject="ü" * 256, text="x" * 1_048_576)
    wrong(door.post(GOOD | {"subject": "x" * 257}), "subject")
    wrong(door.post(GOOD | {"text": "x" * 1_048_577}), "text")
    wrong(door.post(GOOD | {"html": "ü" * 524_289}), "html")
    wrong(door.post(GOOD | {"to": "a" * 60 + "@" + "b." * 97 + "example"}), "to")
    assert len(door.get(f"/messages/{door.send(to=[f'a{n}@example.com' for n in range(100)])}")["deliveries"]) == 100
    wrong(door.post(GOOD | {"to": [f"a{n}@example.com" for n in range(101)]}), "to")
    wrong(door.post(GOOD | {"to": [f"a{n}@example.com" for n in range(60)], "bcc": [f"b{n}@example.com" for n in range(60)]}), "to")


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"to": None}, "to"),
        ({"to": 5}, "to"),
        ({"to": []}, "to"),
        ({"to": ""}, "to"),
        ({"to": "not_an_email"}, "to"),
        ({"to": ["ann@example.com", None]}, "to"),
        ({"to": "ann@example.com,"}, "to"),
        ({"to": "Ann\r\nBcc: x@y.z <ann@example.com>"}, "to"),
        ({"to": "ann@example.com>\r\nRCPT TO:<eve@example.com"}, "to"),
        ({"to": "ann@example.com SIZE=1"}, "to"),
        ({"to": "ann@[127.0.0.1]"}, "to"),
        ({"cc": {"a": 1}}, "cc"),
        ({"bcc": "x"}, "bcc"),
        ({"from": "x"}, "from"),
        ({"from": "a@example.com, b@example.com"}, "from"),
        ({"from": ["a@example.com"]}, "from"),
        ({"reply_to": "x"}, "reply_to"),
        ({"subject": None}, "subject"),
        ({"subject": 5}, "subject"),
        ({"subject": "a\r\nBcc: x@y.z"}, "subject"),
        ({"subject": "a\x85b"}, "subject"),
        ({"text": ["x"]}, "text"),
        ({"headers": {"Bcc": "x@y.z"}}, "headers.Bcc"),
        ({"headers": {"content-type": "x"}}, "headers.content-type"),
        ({"headers": {"X-A": "a\nb"}}, "headers.X-A"),
        ({"headers": {"X A": "a"}}, "headers"),
        ({"headers": {"X-A": "a", "x-a": "b"}}, "headers"),
        ({"headers": {"X-A:b\r\nBcc": "a"}}, "headers"),
        ({"headers": {"X-A": 5}}, "headers.X-A"),
        ({"headers": "X-A: b"}, "headers"),
        ({"tags": [str(n) for n in range(11)]}, "tags"),
        ({"tags": [""]}, "tags"),
        ({"tags": "x"}, "tags"),
        ({"metadata": {"a": {"b": 1}}}, "metadata"),
        ({"metadata": {"a": "x" * 4096}}, "metadata"),
        ({"message_id": "x"}, "message_id"),
        ({"message_id": "<a@b>, <c@d>"}, "message_id"),
        ({"message_id_header": "x"}, "message_id_header"),
        ({"message_id_header": 5}, "message_id_header"),
        ({"message_id_header": "x", "message_id": "x"}, "message_id_header"),
        ({"message_id_header": "<1@b.test>", "message_id": "<2@b.test>"}, "message_id_header"),
        ({"priority": 10}, "priority"),
        ({"priority": -1}, "priority"),
        ({"priority": "5"}, "priority"),
        ({"priority": True}, "priority"),
        ({"priority": 5.5}, "priority"),
        ({"status": "DELIVERED"}, "status"),
        ({"id": "x"}, "id"),
        ({"unknown": 1}, "unknown"),
    ],
)
def test_what_is_wrong_is_refused_and_named(door, change, field):
    wrong(door.post(GOOD | change), field)


@pytest.mark.parametrize("field", ["to", "subject", "text"])
def test_what_is_needed_must_be_given(door, field):
    wrong(door.post({name: value for name, value in GOOD.items() if name != field}), field)


def test_all_that_is_wrong_is_told_at_once(door):
    wrong(door.post({"to": "x", "cc": "y", "subject": "a\nb", "tags": [""], "message_id": ""}), "to", "cc", "subject", "text", "tags", "message_id")


def test_of_several_addresses_each_that_is_wrong_is_named(door):
    long = "x" * 300 + "@example.com"
    to = ["ann@example.com, ben", "Cis\u202e\x07 <cis@example.com>", f"dot@example.com,{long}"]
    answer = door.post(GOOD | {"to": to, "bcc": "eve@example.com, @"})
    wrong(answer, "to", "bcc")
    told = answer.json()["error"]["fields"]
    ben, cis, longest = told["to"]
    assert ben.startswith("'ben': Not a valid e-mail address: ")
    assert cis == r"'Cis\u202e\x07 <cis@example.com>': The display name must be one line without control characters."
    assert longest == f"'{'x' * 59}…': Longer than 256 characters."
    assert told["bcc"][0].startswith("'@': ")
    answer = door.post(GOOD | {"to": ["ann@example.com", *(f"x{number}" for number in range(50))]})
    assert [sentence.partition(":")[0] for sentence in answer.json()["error"]["fields"]["to"]] == [f"'x{number}'" for number in range(10)]


def test_a_megabyte_of_commas_and_quotes_is_refused(door):
    for text in ('"' * 1_000_000, '"\\' * 500_000, "," * 1_000_000, "<" * 1_000_000, "a@b.c," * 9000, " " * 1_000_000 + ">"):
        answer = door.post(GOOD | {"to": text})
        wrong(answer, "to")


@pytest.mark.parametrize("text", ["a@", "@", "a", "<"], ids=["pairs", "at signs", "letters", "brackets"])
def test_a_message_id_is_looked_at_in_linear_time(door, text):
    def cost(length: int) -> float:
        """CPU seconds of all the API's processes for a few such requests."""
        body = GOOD | {"message_id": (text * length)[:length] + " "}  # the end that fits nothing is found last
        before = cpu.of(door.process.pid)
        for _ in range(5):
            wrong(door.post(body), "message_id")
        return cpu.of(door.process.pid) - before

    assert growth(cost, 30_000, 480_000, turns=3, least=0.03) < 64  # where each character looked at every other it would be 256


def test_a_priority_decides_the_lane(door):
    from sqlalchemy import select

    from mailbbgun.messages.models import Delivery

    ids = {priority: UUID(door.send(priority=priority)) for priority in (0, 3, 4, 6, 7, 9)}
    with door.services.db.read() as session:
        lanes = {priority: session.scalar(select(Delivery.lane).where(Delivery.message_id == identifier)) for priority, identifier in ids.items()}
    assert lanes == {0: "bulk", 3: "bulk", 4: "normal", 6: "normal", 7: "high", 9: "high"}


def test_a_refused_message_leaves_nothing_behind(door, tag):
    door.post(GOOD | {"tags": [tag], "to": "x"})
    assert door.get("/messages", tag=tag)["count"] == 0


def test_raw_bytes_of_utf8_are_taken_as_they_are(door):
    answer = door.call(
        "POST",
        "/messages",
        data=json.dumps(GOOD | {"subject": "Grüße"}, ensure_ascii=False).encode(),
        headers={"Content-Type": "application/json; charset=UTF-8"},
    )
    assert answer.json()["subject"] == "Grüße"
