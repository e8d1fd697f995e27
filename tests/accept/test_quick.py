"""The short cut of ``POST /messages``: which requests it takes, that it answers as Flask does, and that it leaves
all others to Flask.
"""

import http.client
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from marshmallow import ValidationError

from mailbbgun.accept import quick as quick_module
from mailbbgun.accept.accept import asked_for
from mailbbgun.accept.fields import Fields, Options
from mailbbgun.accept.quick import Quick, submission_of
from mailbbgun.accept.schema import NewMessage
from mailbbgun.app import close, create_app
from mailbbgun.core.caller import ANYBODY, Caller
from mailbbgun.database.idempotency import claim_of
from mailbbgun.http.provided import EXTENSION, provided
from mailbbgun.install import install
from mailbbgun.limits.request_rates import Rates
from mailbbgun.services import Services
from mailbbgun.settings.load import load
from tests.flow.service import ROOT, until
from tests.tenants.conftest import Locked, opened
from tests.waiting import PATIENCE

HELLO = {"to": "ann@example.com", "from": "shop@example.com", "subject": "Hello", "text": "Hi"}
HEADERS = {"Host": "127.0.0.1:8000", "User-Agent": "curl/8", "Accept": "*/*", "Content-Type": "application/json"}
ANOTHER_WAY = {"X-Unknown": "so the framework has it"}

_texts = st.text(max_size=5)
_values = (
    _texts | st.none() | st.integers(-2, 12) | st.booleans() | st.lists(_texts | st.none() | st.integers(), max_size=3)
)
_values |= st.dictionaries(_texts, _texts | st.integers(), max_size=2)
_names = st.sampled_from([field.data_key or name for name, field in NewMessage().fields.items()] + ["sender", "other"])
_usual = st.fixed_dictionaries({"to": _texts | st.lists(_texts, max_size=3), "subject": _texts})


def loaded(load: Any, body: Mapping[str, Any]) -> tuple[Fields, Options] | dict[str, Any]:
    try:
        return load(body)  # type: ignore[no-any-return]  # a schema returns anything
    except ValidationError as error:
        return dict(error.normalized_messages())


@given(st.dictionaries(_names, _values, max_size=5), _usual | st.just({}))
def test_a_body_becomes_what_the_schema_makes_of_it(body: dict[str, Any], usual: dict[str, Any]) -> None:
    assert loaded(submission_of, body | usual) == loaded(NewMessage().load, body | usual)


def test_a_request_has_the_fingerprint_it_had_before_its_message_id_got_another_name() -> None:
    body = {
        "to": ["Ann <ann@example.com>"], "cc": "cis@example.com", "from": "shop@example.com", "subject": "s",
        "text": "t", "tags": ["orders"],
        "metadata": {"order": 17}, "priority": 8,
    }  # fmt: skip
    for name in ("message_id", "message_id_header"):
        submission = submission_of(body | {name: "<order-17@example.com>"})
        fingerprint = claim_of(ANYBODY, "k", asked_for(*submission)).fingerprint
        assert fingerprint == "a3435cb047a5eb06bf9cbf2334bf58a14d505765b446bfa0941d7a76d04aed32"  # of 2026-11-27


@pytest.mark.parametrize("name", ["message_id", "message_id_header"])
def test_the_short_cut_knows_both_names_of_the_message_id_without_the_schema(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(quick_module, "_SCHEMA")
    assert submission_of(HELLO | {name: "<1@example.com>"})[0].message_id_header == "<1@example.com>"


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Quick]:
    app = create_app(
        load({"MAILBBGUN_VAR": str(tmp_path_factory.mktemp("quick")), "MAILBBGUN_HOSTNAME": "mail.example.com"})
    )
    with app.app_context():
        install(provided(Services))
    client = app.test_client()
    client.get("/messages")  # from here on it is looked at again and again who shows no key
    yield app.extensions[EXTENSION][Quick]
    close(app)


def request(body: bytes | None = None, path: str = "/messages", version: str = "1.1", **headers: str) -> bytes:
    body = json.dumps(HELLO).encode() if body is None else body
    given_headers = (
        HEADERS
        | {"Content-Length": str(len(body))}
        | {name.replace("_", "-"): value for name, value in headers.items()}
    )
    lines = "".join(f"{name}: {value}\r\n" for name, value in given_headers.items())
    return f"POST {path} HTTP/{version}\r\n{lines}\r\n".encode("latin-1") + body


@pytest.mark.parametrize("usual", [
    request(), request(Content_Type="application/json; charset=utf-8"), request(Connection="keep-alive"),
    request(Idempotency_Key="order 1"),
    request(Host="localhost"), request(Host="[::1]:8000"), request(Host="127.0.0.1:80"),
    request(Host="a.localhost:99"), request(Accept_Encoding="gzip, deflate"),
    request(json.dumps(HELLO | {"tags": ["a"], "priority": 9, "cc": ["b@example.com"]}).encode()),
    request(json.dumps(HELLO | {"html": "", "cc": [""], "to": None, "bcc": ["jörg@bücher.example"] * 20}).encode()),
    request(b"\xef\xbb\xbf" + json.dumps(HELLO).encode()),
    request().replace(b"User-Agent: curl/8", b"user-agent:curl/8"),
])  # fmt: skip
def test_a_usual_request_is_begun(quick: Quick, usual: bytes) -> None:
    begun = until(lambda: quick.begin(usual, "127.0.0.1"), what="who shows no key")
    assert begun
    assert begun.address.startswith("http://")


@pytest.mark.parametrize("unusual", [
    request(path="/messages/"), request(path="/messages?x=1"), request(path="/v1/messages"), request(version="1.0"),
    request().replace(b"POST", b"PUT"), request(X_Forwarded_For="192.0.2.1"), request(Expect="100-continue"),
    request(Connection="close"),
    request(Transfer_Encoding="chunked"), request(Content_Encoding="gzip"), request(Content_Type="text/plain"),
    request(Content_Type="application/json; charset=latin-1"), request(Host=""), request(Host="a b"),
    request(Host="mail.example.com:80"),
    request(Host="mail.example.com"), request(Origin="http://127.0.0.1:8000"), request(Sec_Fetch_Site="same-origin"),
    request(Host="localhost.evil.test"),
    request(User_Agent="\xe9"), request(User_Agent="a\x00b"), request(User_Agent="a\nb: c"),
    request(User_Agent="x" * 5000),
    request().replace(b"Host: 127.0.0.1:8000\r\n", b""),
    request().replace(b"Accept: */*\r\n", b"Accept: */*\r\nAccept: text/html\r\n"),
    request().replace(b"Accept:", b" Accept:"), request().replace(b"Accept:", b"Accept :"),
    request().replace(b"Accept: */*\r\n", b"Accept: */*\n"),
    request(Authorization="Bearer mbg_abcdefghijkl_" + "x" * 43), request(Authorization="Bearer nonsense"),
    request(b"{}"), request(b"{"), request(b"[]"), request(b'{"to": "x", "to": "y", "subject": "s"}'),
    request(json.dumps(HELLO | {"to": "no"}).encode()),
    request(json.dumps(HELLO | {"other": 1}).encode()), request(json.dumps(HELLO | {"text": " "}).encode()),
    # Checking these addresses would keep the poller too long.
    request(json.dumps(HELLO | {"to": [f"jörg@bücher{n}.example" for n in range(60)]}).encode()),
    request(Idempotency_Key="x" * 300), request() + b"POST", request(Host="a..b"),
    request(Host="."), request(Host=f"{'x' * 64}.example.com"), request(Host="a:0"), request(Host="a:99999"),
    request(Host="a:08000"),
    request(Host="[1]"), request(Host="[::1"), request(Host="-a"), request(Host="x." * 150 + "x"),
    request(X_B3_TraceId="1"),
])  # fmt: skip
def test_an_unusual_or_wrong_request_is_left_to_flask(quick: Quick, unusual: bytes) -> None:
    assert quick.begin(unusual, "127.0.0.1") is None


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Locked]:
    with opened(tmp_path_factory.mktemp("quickly"), 1, MAX_BODY_SIZE="16384") as door:
        yield door


def test_a_request_that_does_not_match_is_recognised_in_linear_time(quick: Quick) -> None:
    many = "".join(f"Accept-{'a' * n}: x\r\n" for n in range(2000))
    # Before it was linear the age of the universe was not enough.
    assert quick.begin(request().replace(b"Accept:", f"{many}Accept_:".encode()), "127.0.0.1") is None


WHICH_WAY = """
import sys
sys.argv = ["gunicorn", "api:app"]
from gunicorn.app.wsgiapp import WSGIApplication
from mailbbgun.exposure import check_exposure
from mailbbgun.settings.load import load
application = WSGIApplication()
settings = application.cfg
worker = settings.worker_class(1, 0, [], application, 30, settings, settings.logger_class(settings))
check_exposure([], load())  # as on_starting does
worker.load_wsgi()
print("quick" if worker.quick else "slow")
"""


@pytest.mark.parametrize(("options", "way"), [
    ("", "quick"), ("--access-logfile -", "slow"), pytest.param("--log-syslog", "slow", marks=pytest.mark.long),
    pytest.param("--statsd-host localhost:8125", "slow", marks=pytest.mark.long),
])  # fmt: skip
def test_the_server_takes_the_short_cut_unless_somebody_wants_to_see_each_request(
    tmp_path: Path, options: str, way: str
) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAILBBGUN_")}
    environment |= {"MAILBBGUN_VAR": str(tmp_path), "GUNICORN_CMD_ARGS": options}
    done = subprocess.run(
        [sys.executable, "-c", WHICH_WAY], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == way


def answer(door: Locked, body: bytes, headers: Mapping[str, str]) -> tuple[int, dict[str, str], Any]:
    line = http.client.HTTPConnection("127.0.0.1", int(door.url.rpartition(":")[2]), timeout=PATIENCE)
    line.request("POST", "/messages", body, {"Content-Type": "application/json"} | dict(headers))
    got = line.getresponse()
    told = {
        name: value
        for name, value in got.getheaders()
        if name not in ("Date", "Location", "Content-Length", "RateLimit-Reset")
    }
    shown = json.loads(got.read())
    line.close()
    shown.pop("id", None)
    return got.status, told, shown


@pytest.mark.parametrize(("body", "more", "status"), [
    (HELLO, {}, 201), (HELLO | {"subject": "Ä"}, {"Idempotency-Key": "once"}, 201),
    (HELLO | {"to": "nobody"}, {}, 400), ({}, {}, 400),
    (HELLO, {"Authorization": "Bearer nonsense"}, 401), (HELLO, {"Content-Type": "text/plain"}, 415),
    (HELLO | {"text": "x" * 9_000}, {}, 201),
    (HELLO | {"text": "x" * 20_000}, {}, 413), (HELLO, {"Host": "a..b"}, 400),
    (HELLO, {"Host": "mail.example.com"}, 201),
])  # fmt: skip
def test_both_ways_give_the_same_answer(door: Locked, body: dict[str, Any], more: dict[str, str], status: int) -> None:
    both_ways(door, door.key(door.tenant(uuid4().hex), max_requests_per_minute=100)["key"], body, more, status)


@pytest.mark.parametrize(("tenant", "wish", "status"), [
    ({}, {"scopes": ["messages:read"]}, 403), ({}, {"networks": ["192.0.2.0/24"]}, 403),
    ({}, {"senders": ["other.test"]}, 400),
    ({}, {"kind": "team", "guests": ["b@example.com"]}, 400), ({"max_messages_per_day": 1}, {}, 429),
    ({}, {"kind": "test"}, 201),
])  # fmt: skip
def test_both_ways_permit_the_same(door: Locked, tenant: dict[str, Any], wish: dict[str, Any], status: int) -> None:
    both_ways(door, door.key(door.tenant(uuid4().hex, **tenant), **wish)["key"], HELLO, {}, status)


@pytest.mark.parametrize(
    ("address", "status"), [("bounces@example.com", 201), ("bounces@EXAMPLE.com", 201), ("bounces@other.test", 400)]
)
def test_both_ways_send_bounces_only_where_the_key_may_send_as(door: Locked, address: str, status: int) -> None:
    key = door.key(door.tenant(uuid4().hex), senders=["example.com"])["key"]
    both_ways(door, key, HELLO | {"envelope_from": address}, {}, status)


def test_both_ways_refuse_a_suspended_tenant(door: Locked) -> None:
    tenant = door.tenant(uuid4().hex)
    key = door.key(tenant)["key"]
    both_ways(door, key, HELLO, {}, 201)
    door.ask("PATCH", f"/tenants/{tenant}", door.admin, json={"status": "suspended"})
    until(lambda: door.ask("POST", "/messages", key, json=HELLO).status_code == 403)
    both_ways(door, key, HELLO, {}, 403)


def test_a_key_is_counted_once_when_its_tenant_has_too_many(door: Locked) -> None:
    key = door.key(door.tenant(uuid4().hex, max_requests_per_minute=3), max_requests_per_minute=100)["key"]
    octets = json.dumps(HELLO).encode()
    statuses = [answer(door, octets, {"Authorization": f"Bearer {key}"})[0] for _ in range(8)]
    assert statuses == [201] * 3 + [429] * 5
    rates = Rates(processes=1, unauthorized=0)
    caller = Caller(uuid4(), uuid4(), requests_per_minute=100, tenant_requests_per_minute=2)
    for allowed in (True, True, False, False):
        assert rates.allows(caller) is rates.allows(caller) is allowed  # which counts none
        standing = rates.taken(caller)
        assert standing is not None
        assert standing.allowed is allowed


def both_ways(door: Locked, key: str, body: dict[str, Any], more: dict[str, str], status: int) -> None:
    headers = {"Authorization": f"Bearer {key}"} | more
    octets = json.dumps(body).encode()
    answer(door, octets, headers | {"Idempotency-Key": "first"})  # looks the key up
    candidates = [answer(door, octets, headers | one) for one in ({}, ANOTHER_WAY)]
    told = [
        (code, {name: value for name, value in shown.items() if name != "RateLimit-Remaining"}, body)
        for code, shown, body in candidates
    ]
    if "Idempotency-Key" in more:
        assert told[1][1].pop("Idempotent-Replayed") == "true"
    assert told[0] == told[1]
    assert told[0][0] == status
    left = [int(shown["RateLimit-Remaining"]) for _, shown, _ in candidates if "RateLimit-Remaining" in shown]
    assert status == 429 or not left or left[0] - left[1] == 1  # each is counted once


def test_replays_mismatches_and_limits_are_answered_as_by_flask(door: Locked) -> None:
    key = door.key(door.tenant("as ever"), max_requests_per_minute=6)["key"]
    headers = {"Authorization": f"Bearer {key}", "Idempotency-Key": "order 7"}
    octets, other = (json.dumps(HELLO | {"text": text}).encode() for text in ("one", "two"))
    answers = [answer(door, one, headers) for one in (octets, octets, other)]
    assert [status for status, _, _ in answers] == [201, 201, 422]
    assert answers[1][1]["Idempotent-Replayed"] == "true"
    assert answers[0][2] == answers[1][2]
    statuses = [answer(door, octets, {"Authorization": f"Bearer {key}"})[0] for _ in range(5)]
    assert statuses == [201, 201, 201, 429, 429]
