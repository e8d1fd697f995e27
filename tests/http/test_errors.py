"""Whatever goes wrong, the response has the one error shape. It is never a traceback or HTML."""

import json
import re
import socket

import pytest
import requests

from mailbbgun.accept.checks import NEEDS_RECIPIENT
from mailbbgun.core.ids import DEFAULT_TENANT
from tests.http.conftest import MAX_BODY_SIZE
from tests.http.test_strict_json import BAD
from tests.waiting import PATIENCE

JSON = {"Content-Type": "application/json"}


def error_of(answer, status, code):
    error = answer.json()["error"]
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert (answer.status_code, error["status"], error["code"]) == (status, status, code), answer.text
    assert error["message"]
    assert "Traceback" not in answer.text
    return error


NO_BODY = {"content": []}
#: The ends of the paths of routes that need no body, or need one only for a rule of several fields.
VERBS = ("activate", "batch", "cancel", "check", "link", "render", "renew", "replays", "retry", "revoke", "rotate")
BODILESS = (*VERBS, "accounts", "ack", "aliases", "redeliver", "silence", "slack/messages", "suppressions", "test")


def post_routes(door):
    """Return the path of every route that takes JSON by POST, and whether it works without a body."""
    ids = {"message_id": door.send(), "called": "welcome", "number": "1"}
    posts = {path: methods["post"] for path, methods in door.get("/openapi.json")["paths"].items() if "post" in methods}
    found = [path for path, post in posts.items() if "application/json" in post.get("requestBody", NO_BODY)["content"]]
    assert len(found) >= 8
    filled = [re.sub(r"\{(\w+)\}", lambda name: ids.get(name[1], str(DEFAULT_TENANT)), path) for path in found]
    return [(path, path.endswith(BODILESS)) for path in filled]


@pytest.mark.parametrize("raw", BAD.values(), ids=BAD.keys())
def test_bad_json_is_400_on_every_route_that_takes_a_post(door, raw):
    for path, bodiless in post_routes(door):
        if raw or not bodiless:
            error_of(door.call("POST", path, data=raw, headers=JSON), 400, "malformed_json")


@pytest.mark.parametrize(
    "kind",
    [
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/json; charset=latin-1",
        "application/xml",
        "multipart/mixed; boundary=x",
        "application/jsonx",
        "",
        None,
    ],
)
def test_what_is_not_declared_as_json_is_415_on_every_route_that_takes_a_post(door, kind):
    for path, _ in post_routes(door):
        assert (
            "Content-Type: application/json"
            in error_of(
                door.call("POST", path, data=b"{}", headers={"Content-Type": kind}), 415, "unsupported_media_type"
            )["message"]
        )
    error_of(
        door.call("POST", "/messages", data=b"{}", headers=JSON | {"Content-Encoding": "gzip"}),
        415,
        "unsupported_media_type",
    )
    error_of(door.call("POST", "/messages", headers={"Content-Type": kind}), 415, "unsupported_media_type")


def test_only_a_message_may_be_a_form_instead(door):
    for path, _ in post_routes(door):
        refusal = (400, "malformed_form") if path == "/messages" else (415, "unsupported_media_type")
        error_of(
            door.call("POST", path, data=b"{}", headers={"Content-Type": "multipart/form-data; boundary=x"}), *refusal
        )


def test_a_body_over_the_limit_is_413_with_and_without_its_length_told(door):
    body = json.dumps({"to": "ann@example.com", "subject": "x", "text": "x" * MAX_BODY_SIZE}).encode()
    for path, _ in post_routes(door):
        error_of(requests.post(door.url + path, data=body, headers=JSON, timeout=PATIENCE), 413, "too_large")
        error_of(
            requests.post(door.url + path, data=iter([body[:100_000], body[100_000:]]), headers=JSON, timeout=PATIENCE),
            413,
            "too_large",
        )


def test_a_chunked_body_within_the_limit_is_taken(door):
    chunks = iter([b'{"to":"ann@example.com",', b'"subject":"x","text":"y"}'])
    assert requests.post(f"{door.url}/messages", data=chunks, headers=JSON, timeout=PATIENCE).status_code == 201


def test_a_connection_goes_on_after_an_error(door):
    with requests.Session() as http:
        for _ in range(3):
            assert http.post(f"{door.url}/messages", data="x", timeout=PATIENCE).status_code == 415
            assert http.get(f"{door.url}/messages?limit=0", timeout=PATIENCE).status_code == 200


@pytest.mark.parametrize(
    "path", ["/nope", "/messages/", "/messages//x", "/docs/assets/../../app.py", "/docs/assets/nope.js", "/%00"]
)
def test_an_unknown_path_is_404(door, path):
    error_of(door.call("GET", path, allow_redirects=False), 404, "not_found")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/messages", "POST"),
        ("DELETE", "/messages", "GET"),
        ("POST", "/health", "GET"),
        ("PATCH", "/openapi.json", "GET"),
    ],
)
def test_a_wrong_method_is_405_and_says_which_is_right(door, method, path, allowed):
    answer = door.call(method, path)
    error_of(answer, 405, "method_not_allowed")
    assert allowed in answer.headers["Allow"]


def test_a_body_with_a_million_unknown_fields_gets_a_short_answer(door):
    answer = door.call(
        "POST", "/messages", data=json.dumps({f"{'x' * 300}{n}": n for n in range(10_000)}), headers=JSON
    )
    error_of(answer, 400, "validation_error")
    assert len(answer.content) < 5000


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET /messages?tag=" + b"x" * 9000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX-A: " + b"x" * 9000 + b"\r\n\r\n", 431),
        (b"GARBAGE\r\n\r\n", 400),
        (
            b"POST /messages HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Transfer-Encoding: chunked\r\n\r\nzz\r\n\r\n",
            400,
        ),
        (
            b"POST /messages HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Content-Length: -1\r\n\r\n",
            400,
        ),
    ],
)
def test_malformed_http_is_refused_in_the_one_shape(door, request_bytes, status):
    with socket.create_connection(("127.0.0.1", int(door.url.rpartition(":")[2])), timeout=PATIENCE) as raw:
        raw.sendall(request_bytes)
        answer = b""
        while part := raw.recv(65536):
            answer += part
            if b"}}" in answer:
                break
    head, _, body = answer.partition(b"\r\n\r\n")
    assert int(head.split()[1]) == status
    assert json.loads(body)["error"]["status"] == status


@pytest.mark.parametrize(
    ("request_bytes", "why"),
    [
        (
            b"GET /messages HTTP/1.1\r\nHost: localhost\r\nAuthorization Bearer mbg_canary\r\n\r\n",
            b"The header Authorization has no colon",
        ),
        (b"mbg_canary /messages HTTP/1.1\r\nHost: localhost\r\n\r\n", b"begins with a method"),
        (
            b"POST /messages HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nmbg_canary\r\n",
            b"before a chunk",
        ),
        (
            b"POST /messages HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
            + (b"1;" + b"mbg_canary" * 400 + b"\r\n \r\n") * 20,
            b"send larger chunks",
        ),
    ],
)
def test_malformed_http_is_explained_without_a_word_of_it(door, request_bytes, why):
    with (
        socket.create_connection(("127.0.0.1", int(door.url.rpartition(":")[2])), timeout=PATIENCE) as raw,
        raw.makefile("rb") as answers,
    ):
        raw.sendall(request_bytes)
        answer = answers.read()
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert why in answer
    assert b"canary" not in answer


def test_a_client_that_breaks_off_does_no_harm(door):
    with socket.create_connection(("127.0.0.1", int(door.url.rpartition(":")[2])), timeout=PATIENCE) as raw:
        raw.sendall(
            b"POST /messages HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Content-Length: 1000\r\n\r\n{"
        )
    assert door.call("GET", "/health").ok


KEYS = f"/tenants/{DEFAULT_TENANT}/keys"
GOOD = {"to": "ann@example.com", "subject": "x", "text": "y"}
ACCOUNT = {"setting_name": "main", "smtp_host": "smtp.example.com"}
TIME = "a time as in RFC 3339, such as 2026-01-31T12:00:00Z, or a date"


@pytest.mark.parametrize(
    ("path", "body", "field", "sentence"),
    [
        ("/messages", {"subject": "x", "text": "y"}, "to", NEEDS_RECIPIENT),
        ("/messages", {"to": "ann@example.com", "text": "y"}, "subject", "`subject` is required."),
        ("/messages", GOOD | {"to": 5}, "to",
            'Must be a string or a list of strings, such as "Ann Lee <ann@example.com>"; 5 is a number.'),
        ("/messages", GOOD | {"cc": ["a", 5]}, "cc",
            'Must be a string or a list of strings, such as ["bob@example.com"], not ["a", 5].'),
        ("/messages", GOOD | {"to": None}, "to", NEEDS_RECIPIENT),
        ("/messages", GOOD | {"subject": None}, "subject",
            '`subject` must not be null. It must be a string, such as "Your invoice".'),
        ("/messages", GOOD | {"headers": 5}, "headers",
            'Must be an object, such as {"X-Order": "1234"}; 5 is a number.'),
        ("/messages", GOOD | {"headers": {"X-Order": 17}}, "headers.X-Order", "Must be a string; 17 is a number."),
        ("/messages", GOOD | {"htlm": "<p>"}, "htlm", "Unknown field `htlm`; did you mean `html`?"),
        ("/messages", GOOD | {"sender": "a@b.test"}, "sender", "Unknown field `sender`; did you mean `from`?"),
        ("/messages", GOOD | {"priority": "high"}, "priority", 'Must be an integer from 0 to 9; "high" is a string.'),
        ("/messages", GOOD | {"priority": 10}, "priority", "Must be an integer from 0 to 9, not 10."),
        ("/messages", GOOD | {"tags": "invoice"}, "tags",
            'Must be a list, such as ["invoice"]; "invoice" is a string.'),
        ("/messages", GOOD | {"metadata": [1]}, "metadata",
            'Must be an object, such as {"order": 1234}; [1] is a list.'),
        ("/messages", GOOD | {"subject": {"a": "x" * 100}}, "subject",
            f'Must be a string, such as "Your invoice"; {{"a": "{"x" * 52}… is an object.'),
        ("/tenants", {}, "name", "`name` is required."),
        ("/tenants", {"name": "no/slash"}, "name", '"no/slash": Must be 1 to 64 letters, digits, spaces and . _ -'),
        ("/tenants", {"name": "x", "max_messages_per_day": -1}, "max_messages_per_day",
            "Must be an integer from 0 to 1000000000, not -1."),
        (KEYS, {"name": ""}, "name", 'Must have 1 to 100 characters; "" has none.'),
        (KEYS, {"name": " \t"}, "name", '" \\t": Must have more in it than white space.'),
        (KEYS, {"name": "x", "kind": "dead"}, "kind", 'Must be live, test or team, not "dead".'),
        (KEYS, {"name": "x", "scopes": []}, "scopes", "Must have at least one entry, not none."),
        (KEYS, {"name": "x", "networks": ["10.0.0.0/33"]}, "networks.0",
            '"10.0.0.0/33": Not a network like 192.0.2.0/24 or 2001:db8::/32, nor an address.'),
        (KEYS, {"name": "x", "expires_at": "soon"}, "expires_at", f'Must be {TIME}, not "soon".'),
        (KEYS, {"name": "x", "expires_at": "2001-01-01"}, "expires_at", '"2001-01-01": Is in the past.'),
        (f"{KEYS}/{DEFAULT_TENANT}/rotate", {"hours": 9000}, "hours", "Must be an integer from 0 to 8760, not 9000."),
        ("/smtp-accounts", {"setting_name": "main"}, "smtp_host", "`smtp_host` is required unless a `preset` says it."),
        ("/smtp-accounts", ACCOUNT | {"smtp_port": 0}, "smtp_port", "Must be an integer from 1 to 65535, not 0."),
        ("/smtp-accounts", ACCOUNT | {"preset": "gmial"}, "preset",
            "Must be gmail, outlook, exmail, aliyun, ses, sendgrid, mailgun or postmark, "
            'not "gmial".'),
        ("/smtp-accounts", ACCOUNT | {"smtp_password": ["S3CRET"]}, "smtp_password",
            "Must be a string; what was given is a list."),
        ("/smtp-accounts", ACCOUNT | {"smtp_passwort": "S3CRET"}, "smtp_passwort",
            "Unknown field `smtp_passwort`; did you mean `smtp_password`?"),
        ("/smtp-accounts", ACCOUNT | {"smtp_username": "S3CRET\n"}, "smtp_username",
            "Must be one line without control characters, and without blanks at its ends."),
        ("/smtp-accounts/test", {"to": "ann", **ACCOUNT}, "to",
            '"ann": Not a valid e-mail address: it has no @-sign, as in ann@example.com.'),
        (f"/smtp-accounts/{DEFAULT_TENANT}/test", {"too": "x"}, "too", "Unknown field `too`; did you mean `to`?"),
    ],
)  # fmt: skip
def test_a_wrong_field_is_told_with_its_value_and_what_would_be_right(door, path, body, field, sentence):
    answer = door.call("POST", path, json=body)
    error = error_of(answer, 400, "validation_error")
    assert error["fields"] == {field: [sentence]}
    assert sentence in error["message"]
    assert "S3CRET" not in answer.text


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "The body is empty; it must be a JSON object."),
        (b'{"to": "a",\n "subject" "x"}', "The body is not valid JSON at line 2, column 12: Expecting ':' delimiter."),
        (b'{"to": 1, "to": 2}', "The body is not valid JSON: the key `to` is twice in one object."),
        (b"[1]", 'The body must be a JSON object, such as {"name": "value"}; it is a list.'),
        (b'"x"', 'The body must be a JSON object, such as {"name": "value"}; it is a string.'),
        (
            b'{"a": 99999999999999999999}',
            "The body is not valid JSON: 99999999999999999999 is an integer beyond 64 bits.",
        ),
        (b'{"a": NaN}', "The body is not valid JSON: NaN is no number, or one that is too large."),
        (b'{"a": "\xfc"}', "The body is not UTF-8: byte 8 begins no character. Send JSON in UTF-8."),
    ],
)
def test_a_body_that_is_no_json_object_is_told_where_and_why(door, raw, message):
    assert error_of(door.call("POST", "/messages", data=raw, headers=JSON), 400, "malformed_json")["message"] == message


def test_every_refusal_of_a_request_says_what_would_be_right(door):
    def message(method, path, status, code, **options):
        return error_of(requests.request(method, door.url + path, timeout=PATIENCE, **options), status, code)["message"]

    too_large = f"The request's body is larger than {MAX_BODY_SIZE} bytes, the limit (MAX_BODY_SIZE)."
    assert message("POST", "/messages", 413, "too_large", data=b"x" * (MAX_BODY_SIZE + 1), headers=JSON) == too_large
    assert (
        message("POST", "/messages", 413, "too_large", data=iter([b"x" * MAX_BODY_SIZE, b"y"]), headers=JSON)
        == too_large
    )
    says = message(
        "POST", "/messages", 415, "unsupported_media_type", data=b"{}", headers={"Content-Type": "text/plain"}
    )
    assert says == (
        "Send JSON in UTF-8 and say so: -H 'Content-Type: application/json', or a form as multipart/form-data: "
        '-F to=ann@example.com; Content-Type is "text/plain".'
    )
    says = message(
        "POST", "/messages", 415, "unsupported_media_type", data=b"{}", headers=JSON | {"Content-Encoding": "gzip"}
    )
    assert says == 'Send the body without Content-Encoding, not as "gzip".'
    assert (
        message("PUT", "/messages", 405, "method_not_allowed") == "PUT is not possible at /messages; GET and POST are."
    )
    example = "019cdb4a-7c00-7000-8000-00000000002a"
    for path, template in {
        "/messages/123": "/messages/{message_id}",
        "/messages/123/raw": "/messages/{message_id}/raw",
    }.items():
        assert (
            message("GET", path, 404, "not_found")
            == f'"123" is no UUID: in {template}, message_id is one, such as {example}.'
        )
    assert message("DELETE", "/smtp-accounts/main", 404, "not_found").startswith(
        '"main" is no UUID: in /smtp-accounts/{account_id}, '
    )
    assert message("GET", "/mesages", 404, "not_found") == "There is nothing at /mesages; did you mean /messages?"
    assert message("GET", f"/messages/{example}", 404, "not_found") == "There is no such message."


def test_a_secret_in_a_body_that_is_wrong_as_a_whole_is_not_repeated(door):
    for raw in (
        b'{"smtp_password": "S3CRET\\u0000"}',
        b'{"smtp_password": "S3CRET',
        b'{"smtp_password": S3CRET}',
        b'["S3CRET"]',
        b'"S3CRET"',
    ):
        assert "S3CRET" not in door.call("POST", "/smtp-accounts", data=raw, headers=JSON).text
