"""Only hosts that are ours are served, and repeated in responses.

So no web page reaches the service under a name of its own. No page of another site changes
anything.
"""

import json
import re
import socket
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from flask import Flask

from mailbbgun.core.ids import DEFAULT_TENANT
from mailbbgun.http.provided import provided
from mailbbgun.services import Services
from mailbbgun.settings.load import load
from mailbbgun.settings.settings import Settings
from mailbbgun.tenants import keys
from tests.conftest import application
from tests.http.conftest import Door
from tests.waiting import PATIENCE

HELLO = {"to": "ann@example.com", "subject": "Hello", "text": "Hi"}
MISSING = "00000000-0000-7000-8000-00000000000f"
EVIL = "evil.example:5000"


def raw(
    door: Door, *lines: str, body: bytes = b"", source: str = "127.0.0.1"
) -> tuple[int, dict[str, Any], dict[str, str]]:
    """Send a request as it is written, from ``source``. Return status, body and headers."""
    head = [*lines, "Connection: close", *([f"Content-Length: {len(body)}"] if body else [])]
    with socket.create_connection(
        ("127.0.0.1", int(door.url.rpartition(":")[2])), timeout=PATIENCE, source_address=(source, 0)
    ) as link:
        link.sendall("\r\n".join([*head, "", ""]).encode() + body)
        answer = b"".join(iter(lambda: link.recv(65_536), b""))
    start, _, rest = answer.partition(b"\r\n\r\n")
    status, *headers = start.decode().split("\r\n")
    shown = dict(line.split(": ", 1) for line in headers)
    return int(status.split()[1]), json.loads(rest) if "json" in shown["Content-Type"] else {}, shown


def paths(door: Door) -> list[tuple[str, str]]:
    documented = door.get("/openapi.json")["paths"]
    listed = [
        (method.upper(), path) for path, methods in documented.items() for method in methods if method != "parameters"
    ]
    extra = [("GET", path) for path in ("/docs", "/redoc", "/openapi.json", "/nothing", "/docs/assets/x.js")]
    named = [(method, re.sub(r"\{\w+\}", MISSING, path)) for method, path in listed + extra]
    return [*named, ("OPTIONS", "/messages"), ("HEAD", "/messages")]


def test_no_route_answers_for_a_host_that_is_not_ours(door: Door) -> None:
    for method, path in paths(door):
        answer = door.call(method, path, headers={"Host": EVIL}, json={} if method in ("POST", "PATCH") else None)
        assert answer.status_code == 421, (method, path)
        if method != "HEAD":
            error = answer.json()["error"]
            assert error["code"] == "host_not_allowed"
            assert EVIL in error["message"]
            assert "ALLOWED_HOSTS" in error["message"]
    log = (door.var / "api.out").read_text()
    assert "code=host_not_allowed" in log
    assert f"host={EVIL}" in log


@pytest.mark.parametrize("more", [[], ["X-Unknown: so the framework has it"]])
def test_a_message_for_a_host_that_is_not_ours_is_not_accepted_whichever_way_it_takes(
    door: Door, more: list[str]
) -> None:
    body = json.dumps(HELLO).encode()
    head = ["Content-Type: application/json", *more]
    for host, status in (
        ("localhost", 201),
        ("evil.example", 421),
        ("localhost.evil.example", 421),
        ("0.0.0.0:5000", 421),
        ("a..b", 400),
    ):
        assert raw(door, "POST /messages HTTP/1.1", f"Host: {host}", *head, body=body)[0] == status, host


def test_an_absolute_target_counts_and_so_does_the_header_beside_it(door: Door) -> None:
    for target, host, status in (
        ("http://localhost:5000/messages", "localhost", 200), ("http://evil.example/messages", "localhost", 421),
        ("http://localhost/messages", "evil.example", 421), ("HTTP://evil.example/messages", "localhost", 421),
        ("ws://evil.example/messages", "localhost", 421), ("a+b.c-1://evil.example/messages", "localhost", 421),
        ("//evil.example/messages", "localhost", 404),
    ):  # fmt: skip
        assert raw(door, f"GET {target} HTTP/1.1", f"Host: {host}")[0] == status, (target, host)


def test_a_target_without_a_path_is_the_root_and_redirects_nowhere(door: Door) -> None:
    for target in ("http://localhost:5000", "http://localhost?a=b"):
        status, answer, headers = raw(door, f"GET {target} HTTP/1.1", "Host: localhost")
        assert (status, "documentation" in answer, "Location" in headers) == (200, True, False), target


def test_a_request_without_a_host_is_refused_but_probes_are_answered(door: Door) -> None:
    status, answer, _ = raw(door, "GET /messages HTTP/1.0")
    assert (status, answer["error"]["code"]) == (421, "host_not_allowed")
    assert "names no host" in answer["error"]["message"]
    for line in ([], ["Host: 10.1.2.3:5000"], ["Host: [2001:db8::1]:5000"]):
        assert raw(door, "GET /health HTTP/1.0", *line)[0] == 200
        assert raw(door, "GET /ready HTTP/1.0", *line)[0] in (200, 503)
    assert raw(door, "GET /health HTTP/1.1", "Host: evil.example")[0] == 421
    assert raw(door, "GET / HTTP/1.1", "Host: 10.1.2.3:5000")[0] == 421


def statuses(door: Door, **headers: str) -> set[int]:
    """Send a request by each method that changes something. Return the statuses."""
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    asked = [
        ("POST", "/messages"), ("DELETE", f"/messages/{MISSING}"), ("POST", f"/messages/{MISSING}/retry"),
        ("POST", "/tenants"), ("PATCH", f"/smtp-accounts/{MISSING}"), ("POST", "/smtp-accounts/test"),
        ("PUT", "/messages"), ("POST", "/nothing"),
    ]  # fmt: skip
    return {
        door.call(method, path, headers=given, json=None if method == "DELETE" else {}).status_code
        for method, path in asked
    }


def test_a_page_of_another_site_may_change_nothing(door: Door) -> None:
    for headers in (
        {"Origin": "https://evil.example"}, {"Origin": "null"}, {"Origin": "http://127.0.0.1:1"},
        {"Origin": "https://evil.example", "X_Other": "1"},
        {"Sec_Fetch_Site": "cross-site"}, {"Sec_Fetch_Site": "same-site"},
        {"Origin": door.url, "Sec_Fetch_Site": "cross-site"},
    ):  # fmt: skip
        assert statuses(door, **headers) == {403}, headers
    answer = door.post(HELLO, Origin="https://evil.example")
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "cross_site")
    assert "https://evil.example" in answer.json()["error"]["message"]
    assert (
        door.call(
            "GET", "/messages", headers={"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}
        ).status_code
        == 200
    )


LOGIN = "user:secr3t@evil.example"


def test_no_refusal_repeats_a_password_or_more_than_the_host(door: Door) -> None:
    before, long = (door.var / "api.out").stat().st_size, "x" * 1500
    head = ["Content-Type: application/json", "X-Unknown: so the framework has it"]
    cases = (
        ("/messages", "localhost", f"Origin: http://{LOGIN}", 403),
        ("/messages", "localhost", f"Origin: https://{LOGIN}:1/secr3t", 403),
        ("/messages", "localhost", "Origin: http://user:secr3t", 403),
        ("/messages", "localhost", f"Origin: https://evil.example/{long}secr3t", 403),
        ("/messages", "localhost", f"Sec-Fetch-Site: http://{LOGIN}", 403),
        ("/messages", "localhost", f"Origin: https://evil.example{long}secr3t", 403),
        ("/messages", LOGIN, "X-A: b", 400),
        ("/messages", f"http://{LOGIN}/", "X-A: b", 400),
        (f"http://{LOGIN}/messages", "localhost", "X-A: b", 400),
        ("/messages", f"evil.example/?secr3t{long}", "X-A: b", 400),
    )
    for number, (target, host, more, status) in enumerate(cases, 2):
        for path in (head, head[:1]):
            lines = (f"POST {target} HTTP/1.1", f"Host: {host}", *path, more)
            source = f"127.0.1.{number}"  # another client each time: the log has only a few lines for each
            found, answer, _ = raw(door, *lines, body=json.dumps(HELLO).encode(), source=source)
            said = answer["error"]["message"]
            assert (found, "secr3t" in said, "evil.example" in said or "user" in more, len(said) < 300) == (
                status,
                False,
                True,
                True,
            ), (said, more)
    log = (door.var / "api.out").read_bytes()[before:].decode()
    assert log.count("code=cross_site") == 12
    assert "secr3t" not in log


def test_our_own_pages_and_programs_go_on_working(door: Door) -> None:
    for headers in (
        {},
        {"Origin": door.url},
        {"Origin": door.url, "Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Site": "none"},
    ):
        assert door.post(HELLO, **headers).status_code == 201, headers


@pytest.fixture
def app(embedded_settings: Settings, request: pytest.FixtureRequest) -> Iterator[Flask]:
    given: Mapping[str, str] = request.param
    settings = load({"MAILBBGUN_VAR": embedded_settings.VAR, "MAILBBGUN_HOSTNAME": "mail.example.com"} | dict(given))
    with application(settings) as made:
        yield made


def key(app: Flask) -> dict[str, str]:
    with app.app_context():
        services = provided(Services)
        with services.db.write() as session:
            token = keys.create(session, services.vault, DEFAULT_TENANT, keys.ADMIN).token
    return {"Authorization": f"Bearer {token}"}


def addresses(app: Flask, host: str, **headers: str) -> set[str]:
    """Return the beginnings of the addresses in responses, of every kind of address."""
    client, given = (
        app.test_client(),
        key(app) | {"Host": host} | {name.replace("_", "-"): value for name, value in headers.items()},
    )
    for _ in range(2):
        sent = client.post("/messages", json=HELLO, headers=given)
        assert sent.status_code == 201, sent.text
    made = client.post(
        "/tenants", json={"name": f"t{len(client.get('/tenants', headers=given).json['tenants'])}"}, headers=given
    )
    minted = client.post(f"/tenants/{DEFAULT_TENANT}/keys", json={"name": "k"}, headers=given)
    account = {"setting_name": sent.json["id"][:36], "smtp_host": "smtp.example.com", "security_protocol": "STARTTLS"}
    saved = client.post("/smtp-accounts", json=account, headers=given)
    page = client.get("/messages?limit=1&status=PENDING", headers=given)
    found = [answer.headers["Location"] for answer in (sent, made, minted, saved)]
    found += [
        page.headers["Link"].partition(">")[0].removeprefix("<"),
        client.get("/", headers=given).json["documentation"],
    ]
    assert "status=PENDING&after=" in found[4]
    return {
        address[: -len(address.partition("://")[2].partition("/")[2]) - 1] if "://" in address else ""
        for address in found
    }


LISTED = {"MAILBBGUN_AUTH_REQUIRED": "1", "MAILBBGUN_ALLOWED_HOSTS": "mail.example.com", "MAILBBGUN_PROXIES": "1"}


@pytest.mark.parametrize("app", [LISTED], indirect=True)
def test_with_keys_any_host_is_served_but_only_one_that_is_ours_is_repeated(app: Flask) -> None:
    assert addresses(app, "evil.example") == {""}
    assert addresses(app, "mail.example.com", X_Forwarded_Proto="https") == {"https://mail.example.com"}
    assert addresses(app, "localhost:5000", X_Forwarded_Host="evil.example") == {"http://localhost:5000"}
    relative = app.test_client().post("/messages", json=HELLO, headers=key(app) | {"Host": "evil.example"})
    assert relative.headers["Location"] == f"/messages/{relative.json['id']}"


@pytest.mark.parametrize("app", [{"MAILBBGUN_PUBLIC_URL": "https://mail.example.com/api/"}], indirect=True)
def test_with_a_public_url_addresses_begin_with_it_and_its_host_is_served(app: Flask) -> None:
    assert app.test_client().get("/messages", headers={"Host": "mail.example.com"}).status_code == 200
    assert app.test_client().get("/messages", headers={"Host": "evil.example"}).status_code == 421
    sent = app.test_client().post("/messages", json=HELLO, headers={"Host": "localhost"})
    assert sent.headers["Location"] == f"https://mail.example.com/api/messages/{sent.json['id']}"
    assert app.test_client().get("/").json["documentation"] == "https://mail.example.com/api/docs"


@pytest.mark.parametrize("app", [{"MAILBBGUN_AUTH_REQUIRED": "1"}], indirect=True)
def test_the_documentation_page_sends_mail_behind_a_proxy_that_takes_care_of_tls(app: Flask) -> None:
    browser = {"Host": "mail.example.com", "Origin": "https://mail.example.com", "Sec-Fetch-Site": "same-origin"}
    assert app.test_client().post("/messages", json=HELLO, headers=key(app) | browser).status_code == 201
    other = app.test_client().post(
        "/messages", json=HELLO, headers=key(app) | browser | {"Origin": "https://evil.example"}
    )
    assert (other.status_code, other.json["error"]["code"]) == (403, "cross_site")
