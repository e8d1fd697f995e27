"""Whatever goes wrong, the answer has the one shape and is never a stack trace or HTML."""

import json
import socket

import pytest
import requests

from mailbbgun.base.ids import DEFAULT_TENANT
from tests.base.test_web import BAD
from tests.http.conftest import MAX_BODY_SIZE

JSON = {"Content-Type": "application/json"}


def error_of(answer, status, code):
    error = answer.json()["error"]
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert (answer.status_code, error["status"], error["code"]) == (status, status, code), answer.text
    assert error["message"]
    assert "Traceback" not in answer.text
    return error


def post_routes(door):
    """Every route of the service that takes a POST, with a message and ids to fill in, and whether it can do without a body."""
    ids = {"message_id": door.send(), "tenant_id": DEFAULT_TENANT, "key_id": DEFAULT_TENANT, "account_id": DEFAULT_TENANT}
    found = {path: methods["post"] for path, methods in door.get("/openapi.json")["paths"].items() if "post" in methods}
    assert len(found) >= 8
    return [(path.format(**ids), path.endswith(("/retry", "/rotate", "/test", "/smtp-accounts"))) for path in found]


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
        "multipart/form-data; boundary=x",
        "application/jsonx",
        "",
        None,
    ],
)
def test_what_is_not_declared_as_json_is_415_on_every_route_that_takes_a_post(door, kind):
    for path, _ in post_routes(door):
        assert (
            "Content-Type: application/json"
            in error_of(door.call("POST", path, data=b"{}", headers={"Content-Type": kind}), 415, "unsupported_media_type")["message"]
        )
    error_of(door.call("POST", "/messages", data=b"{}", headers=JSON | {"Content-Encoding": "gzip"}), 415, "unsupported_media_type")
    error_of(door.call("POST", "/messages", headers={"Content-Type": kind}), 415, "unsupported_media_type")


def test_a_body_over_the_limit_is_413_with_and_without_its_length_told(door):
    body = json.dumps({"to": "ann@example.com", "subject": "x", "text": "x" * MAX_BODY_SIZE}).encode()
    for path, _ in post_routes(door):
        error_of(requests.post(door.url + path, data=body, headers=JSON, timeout=20), 413, "too_large")
        error_of(requests.post(door.url + path, data=iter([body[:100_000], body[100_000:]]), headers=JSON, timeout=20), 413, "too_large")


def test_a_chunked_body_within_the_limit_is_taken(door):
    chunks = iter([b'{"to":"ann@example.com",', b'"subject":"x","text":"y"}'])
    assert requests.post(f"{door.url}/messages", data=chunks, headers=JSON, timeout=20).status_code == 201


def test_a_connection_goes_on_after_an_error(door):
    with requests.Session() as http:
        for _ in range(3):
            assert http.post(f"{door.url}/messages", data="x", timeout=5).status_code == 415
            assert http.get(f"{door.url}/messages?limit=0", timeout=5).status_code == 200


@pytest.mark.parametrize("path", ["/nope", "/messages/", "/messages//x", "/docs/assets/../../app.py", "/docs/assets/nope.js", "/%00"])
def test_what_is_not_there_is_404(door, path):
    error_of(door.call("GET", path, allow_redirects=False), 404, "not_found")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [("PUT", "/messages", "POST"), ("DELETE", "/messages", "GET"), ("POST", "/health", "GET"), ("PATCH", "/openapi.json", "GET")],
)
def test_a_wrong_method_is_405_and_says_which_is_right(door, method, path, allowed):
    answer = door.call(method, path)
    error_of(answer, 405, "method_not_allowed")
    assert allowed in answer.headers["Allow"]


def test_a_body_with_a_million_unknown_fields_gets_a_short_answer(door):
    answer = door.call("POST", "/messages", data=json.dumps({f"{'x' * 300}{n}": n for n in range(10_000)}), headers=JSON)
    error_of(answer, 400, "validation_error")
    assert len(answer.content) < 5000


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET /messages?tag=" + b"x" * 9000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX-A: " + b"x" * 9000 + b"\r\n\r\n", 431),
        (b"GARBAGE\r\n\r\n", 400),
        (b"POST /messages HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n\r\n", 400),
        (b"POST /messages HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: -1\r\n\r\n", 400),
    ],
)
def test_malformed_http_is_refused_in_the_one_shape(door, request_bytes, status):
    with socket.create_connection(("127.0.0.1", int(door.url.rpartition(":")[2])), timeout=5) as raw:
        raw.sendall(request_bytes)
        answer = b""
        while part := raw.recv(65536):
            answer += part
            if b"}}" in answer:
                break
    head, _, body = answer.partition(b"\r\n\r\n")
    assert int(head.split()[1]) == status
    assert json.loads(body)["error"]["status"] == status


def test_a_client_that_breaks_off_does_no_harm(door):
    with socket.create_connection(("127.0.0.1", int(door.url.rpartition(":")[2])), timeout=5) as raw:
        raw.sendall(b"POST /messages HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{")
    assert door.call("GET", "/health").ok
