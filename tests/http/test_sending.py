"""``POST /messages`` at the front door."""

import json
from email import message_from_bytes, policy
from email.utils import getaddresses
from uuid import UUID

import pytest
import requests

from bench.processes import cpu
from tests.waiting import PATIENCE, growth

ANOTHER_WAY = {"X-Unknown": "so the framework has it"}
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
    assert {
        name: message[name]
        for name in ("From", "To", "Cc", "Reply-To", "Subject", "X-Order", "In-Reply-To", "Message-ID", "Bcc")
    } == {
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
    assert (shown["tags"], shown["metadata"], shown["priority"]) == (
        ["invoice", "march"],
        {"order": 1234, "paid": True, "note": None},
        9,
    )
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
    # As nearly every client writes it, and with a header that the quick way leaves to the framework.
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


def test_null_stands_for_what_is_not_given(door):
    optional = (
        "html", "cc", "bcc", "from", "reply_to", "envelope_from", "headers", "tags", "metadata", "message_id", "message_id_header", "priority",
    )  # fmt: skip
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
    assert {name for name, one in properties.items() if not one.get("nullable")} == {"subject"}
    assert set(properties) == {*GOOD, *optional}


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


WAYS = [{}, {"X-Unknown": "so the framework has it"}]  # without the framework, and with it


@pytest.mark.parametrize("way", WAYS, ids=["quick", "whole"])
@pytest.mark.parametrize("subject", ["", " ", "  \u3000"])
def test_an_empty_or_blank_subject_is_one(door, subject, way):
    sent = door.post(GOOD | {"subject": subject}, **way)
    assert (sent.status_code, sent.json()["subject"]) == (201, subject)
    assert door.get(f"/messages/{sent.json()['id']}")["subject"] == subject
    raw = door.call("GET", f"/messages/{sent.json()['id']}/raw").content
    assert raw.lower().count(b"\r\nsubject:") == 1
    assert parsed(door, sent.json()["id"])["Subject"] == subject


@pytest.mark.parametrize("way", WAYS, ids=["quick", "whole"])
def test_a_subject_that_is_null_or_not_given_is_asked_for(door, way):
    without = {name: value for name, value in GOOD.items() if name != "subject"}
    for body, why in (
        (GOOD | {"subject": None}, "must not be null"),
        (without, "is required"),
        (without | {"html": "", "cc": []}, "is required"),
    ):
        answer = door.post(body, **way)
        wrong(answer, "subject")
        assert why in answer.json()["error"]["message"]
    shape = door.get("/openapi.json")["components"]["schemas"]["NewMessage"]
    assert "subject" in shape["required"]
    assert not shape["properties"]["subject"].keys() & {"minLength", "nullable"}
    assert "may be empty" in shape["properties"]["subject"]["description"]


@pytest.mark.parametrize("way", WAYS, ids=["quick", "whole"])
@pytest.mark.parametrize(
    ("fields", "names"),
    [
        ({"to": ""}, {"to"}),
        ({"to": " "}, {"to"}),
        ({"to": []}, {"to"}),
        ({"to": [""]}, {"to"}),
        ({"to": ["", " "]}, {"to"}),
        ({"to": ","}, {"to"}),
        ({"text": ""}, {"text"}),
        ({"text": " \n", "html": ""}, {"text"}),
        ({"to": "", "text": ""}, {"to", "text"}),
        ({"to": "", "cc": "ann@example.com"}, {"to"}),
    ],
)
def test_other_needed_fields_that_are_blank_are_asked_for_whichever_way_a_request_takes(door, fields, names, way):
    answer = door.post(GOOD | fields, **way)
    assert (answer.status_code, set(answer.json()["error"]["fields"])) == (400, names)


BLANKS = [
    dict.fromkeys(
        (
            "html",
            "cc",
            "bcc",
            "from",
            "reply_to",
            "envelope_from",
            "message_id",
            "priority",
            "tags",
            "headers",
            "metadata",
        ),
        value,
    )
    for value in ("", " \t\n", [], [""], ["", " "])
]


@pytest.mark.parametrize(
    "blanks", [*BLANKS, {"headers": {"X-A": "", "X-B": None}, "metadata": {}, "tags": [" "]}], ids=repr
)
@pytest.mark.parametrize("way", [{}, ANOTHER_WAY], ids=["quick", "framework"])
def test_what_is_blank_stands_for_what_is_not_given(door, blanks, way):
    key = {"Idempotency-Key": f"{hash(door.url)}{hash(repr(blanks))}{len(way)}"}
    answer = door.post(GOOD | blanks, **key, **way)
    assert answer.status_code == 201, answer.text
    assert door.post(GOOD, **key, **way).json() == answer.json()  # the same request
    message = parsed(door, answer.json()["id"])
    assert (message.get_content_type(), message["X-A"], message["Cc"], message["Reply-To"]) == (
        "text/plain",
        None,
        None,
        None,
    )


def test_blank_parts_are_left_out_and_one_that_is_not_is_needed(door):
    for given, kind in (
        ({"html": ""}, "text/plain"),
        ({"text": "", "html": "<p>Hi"}, "text/html"),
        ({"text": " \n", "html": "<p>Hi"}, "text/html"),
    ):
        message = parsed(door, door.send(**given))
        assert (message.get_content_type(), message.is_multipart()) == (kind, False)
    for given in (
        {"text": ""},
        {"text": "", "html": ""},
        {"text": " \n", "html": "\t"},
        {"text": None, "html": "\u00a0"},
    ):
        answer = door.post(GOOD | given)
        wrong(answer, "text")
        assert answer.json()["error"]["fields"]["text"] == ["text or html is needed, with more in it than white space."]


def test_blanks_among_others_are_left_out(door):
    identifier = door.send(
        to=["ann@example.com", ""], cc=["", "cis@example.com"], tags=["", "a"], headers={"X-A": "", "X-B": "b"}
    )
    shown = door.get(f"/messages/{identifier}")
    assert ([one["address"] for one in shown["deliveries"]], shown["tags"]) == (
        ["ann@example.com", "cis@example.com"],
        ["a"],
    )


@pytest.mark.parametrize("to", ["", " ", ",", [""], ["", " "], [","], None, []], ids=repr)
def test_a_blank_to_is_told_of(door, to):
    for more in ({}, ANOTHER_WAY):
        answer = door.post(GOOD | {"to": to}, **more)
        wrong(answer, "to")
        assert answer.json()["error"]["fields"]["to"][0].startswith("`to` is required")
    if to not in (None, []):  # somebody wanted to fill it in
        wrong(door.post(GOOD | {"to": to, "bcc": "archive@example.com"}), "to")


@pytest.mark.parametrize("to", [{}, {"to": None}, {"to": []}], ids=repr)
def test_a_message_may_be_all_bcc_or_all_cc(door, to):
    body = {"subject": "Hello", "text": "Hi"} | to
    for more in ({}, ANOTHER_WAY):
        hidden, shown = (
            door.post(body | {kind: "Ann <ann@example.com>, ben@example.com"}, **more).json()["id"]
            for kind in ("bcc", "cc")
        )
        assert b"\r\nTo: undisclosed-recipients:;\r\n" in door.call("GET", f"/messages/{hidden}/raw").content
        assert [one["kind"] for one in door.get(f"/messages/{hidden}")["deliveries"]] == ["bcc", "bcc"]
        assert (parsed(door, shown)["To"], parsed(door, shown)["Cc"]) == (
            None,
            "Ann <ann@example.com>, ben@example.com",
        )
        assert (parsed(door, hidden)["Bcc"], b"ann" in door.call("GET", f"/messages/{hidden}/raw").content) == (
            None,
            False,
        )


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
        ("Ann@example.com", "to"), ("ben@xn--bcher-kva.example", "to"), ('"C..c"@example.com', "cc"), ("dot@example.com", "bcc"),
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
    assert raw.isascii()  # what no header names needs no header in UTF-8
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


def test_sizes_are_taken_to_the_limit_and_refused_beyond_it(door):
    door.send(subject="ü" * 256, text="x" * 1_048_576)
    wrong(door.post(GOOD | {"subject": "x" * 257}), "subject")
    wrong(door.post(GOOD | {"text": "x" * 1_048_577}), "text")
    wrong(door.post(GOOD | {"html": "ü" * 524_289}), "html")
    wrong(door.post(GOOD | {"to": "a" * 60 + "@" + "b." * 97 + "example"}), "to")
    assert len(door.get(f"/messages/{door.send(to=[f'a{n}@example.com' for n in range(100)])}")["deliveries"]) == 100
    wrong(door.post(GOOD | {"to": [f"a{n}@example.com" for n in range(101)]}), "to")
    wrong(
        door.post(
            GOOD | {"to": [f"a{n}@example.com" for n in range(60)], "bcc": [f"b{n}@example.com" for n in range(60)]}
        ),
        "to",
    )


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"to": None}, "to"),
        ({"to": 5}, "to"),
        ({"to": []}, "to"),
        ({"to": ""}, "to"),
        ({"to": "not_an_email"}, "to"),
        ({"to": ["ann@example.com", None]}, "to"),
        ({"to": "Lee, Ann <ann@example.com>"}, "to"),
        ({"to": "a..b@docomo.ne.jp"}, "to"),
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
        ({"tags": ["x" * 129]}, "tags"),
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
    body = {"to": "x", "cc": "y", "subject": "a\nb", "tags": ["a\nb"], "message_id": "x", "envelope_from": "z"}
    wrong(door.post(body), "to", "cc", "subject", "text", "tags", "message_id", "envelope_from")
    wrong(door.post({"text": "x"}), "to", "subject")


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
    assert [sentence.partition(":")[0] for sentence in answer.json()["error"]["fields"]["to"]] == [
        f"'x{number}'" for number in range(10)
    ]


def test_a_megabyte_of_commas_and_quotes_is_refused(door):
    for text in (
        '"' * 1_000_000,
        '"\\' * 500_000,
        "," * 1_000_000,
        "<" * 1_000_000,
        "a@b.c," * 9000,
        " " * 1_000_000 + ">",
    ):
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

    assert (
        growth(cost, 30_000, 480_000, turns=3, least=0.03) < 64
    )  # where each character looked at every other it would be 256


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
