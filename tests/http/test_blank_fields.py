"""``POST /messages`` with fields that are blank, null or missing."""

import pytest

from tests.http.posting import ANOTHER_WAY, GOOD, parsed, wrong


def test_null_means_not_given(door):
    properties = door.get("/openapi.json")["components"]["schemas"]["NewMessage"]["properties"]
    optional = properties.keys() - GOOD.keys()
    assert {"html", "cc", "from", "headers", "attachments", "template", "send_at", "priority"} <= optional
    answer = door.post(GOOD | dict.fromkeys(optional), **{"Idempotency-Key": f"null-{door.url}"})
    assert answer.status_code == 201, answer.text
    same = door.post(GOOD, **{"Idempotency-Key": f"null-{door.url}"})  # the same request, so the same response
    assert (same.json(), same.headers["Idempotent-Replayed"]) == (answer.json(), "true")
    shown, plain = (door.get(f"/messages/{identifier}") for identifier in (answer.json()["id"], door.send(**GOOD)))
    for name in ("from", "to", "cc", "bcc", "tags", "metadata", "priority", "mail_from", "smtputf8"):
        assert shown[name] == plain[name]
    assert parsed(door, answer.json()["id"]).get_content().strip() == "It works."
    assert door.post(GOOD | {"text": None, "html": "<p>It works."}).status_code == 201
    wrong(door.post(GOOD | {"text": None, "html": None}), "text")
    assert {name for name, one in properties.items() if not one.get("nullable")} == {"subject"}


WAYS = [{}, ANOTHER_WAY]  # without Flask, and with it


@pytest.mark.parametrize("way", WAYS, ids=["quick", "whole"])
@pytest.mark.parametrize("subject", ["", " ", "  \u3000"])
def test_an_empty_or_blank_subject_is_accepted(door, subject, way):
    sent = door.post(GOOD | {"subject": subject}, **way)
    assert (sent.status_code, sent.json()["subject"]) == (201, subject)
    assert door.get(f"/messages/{sent.json()['id']}")["subject"] == subject
    raw = door.call("GET", f"/messages/{sent.json()['id']}/raw").content
    assert raw.lower().count(b"\r\nsubject:") == 1
    assert parsed(door, sent.json()["id"])["Subject"] == subject


@pytest.mark.parametrize("way", WAYS, ids=["quick", "whole"])
def test_a_subject_that_is_null_or_missing_is_an_error(door, way):
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
    assert "required" not in shape  # a template has the subject, cc or bcc the recipients
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
def test_other_required_fields_that_are_blank_are_errors(door, fields, names, way):
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
def test_blank_means_not_given(door, blanks, way):
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


def test_blank_parts_are_left_out_and_one_part_must_not_be_blank(door):
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
def test_a_blank_to_is_an_error(door, to):
    for more in ({}, ANOTHER_WAY):
        answer = door.post(GOOD | {"to": to}, **more)
        wrong(answer, "to")
        assert answer.json()["error"]["fields"]["to"][0].startswith("`to` is required")
    if to not in (None, []):  # a client tried to fill it in
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
