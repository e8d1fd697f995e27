"""Slow clients do not delay others: a real API with two threads, and clients slow in every way."""

import json
import select
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from tests.flow.service import until
from tests.http.conftest import ROOT, Door
from tests.servers.process import free_port
from tests.waiting import PATIENCE

THREADS = 2
MANY = 8 * THREADS
PER_ADDRESS = 40
MAX_BODY_SIZE = 300_000
BODY = json.dumps({"to": "ann@example.com", "subject": "Hello", "text": "Hi"}).encode()
JSON = b"Content-Type: application/json\r\n"


def get(path: bytes) -> bytes:
    return b"GET " + path + b" HTTP/1.1\r\nHost: localhost\r\n\r\n"


def post(body: bytes, more: bytes = b"") -> bytes:
    return (
        b"POST /messages HTTP/1.1\r\nHost: localhost\r\n"
        + JSON
        + more
        + b"Content-Length: %d\r\n\r\n" % len(body)
        + body
    )


def half(method: bytes, length: int) -> bytes:
    head = method + b" /messages HTTP/1.1\r\nHost: localhost\r\n" + JSON + b"Content-Length: %d\r\n\r\n" % length
    return head + b"x" * (length // 2)


CHUNKED = b"POST /messages HTTP/1.1\r\nHost: localhost\r\n" + JSON + b"Transfer-Encoding: chunked\r\n\r\n"
UPLOAD = (
    b"POST /attachments HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=X\r\n"
    b"Content-Length: 200000\r\n"
)

KINDS = {
    "silent": b"",
    "half a head": b"GET /health HTTP/1.1\r\nX",
    "half a head after a request": get(b"/health") + b"GET /health HTTP/1.1\r\nX",
    "half a request line": b"DELETE /mess",
    "half a head of a POST": b"POST /messages HTTP/1.1\r\nHost: localhost\r\nContent-Le",
    "half a small body": half(b"POST", 1000),
    "half a large body": half(b"POST", 100_000),
    "half a body where none is wanted": half(b"GET", 100_000),
    "half a chunk": CHUNKED + b"ffff\r\nxx",
    "half a line before a chunk": CHUNKED + b"1\r\nx\r\n1",
    "no trailers": CHUNKED + b"0\r\n",
    "half an upload": UPLOAD + b"\r\n" + b"x" * 100_000,
    "half a message with files": UPLOAD.replace(b"/attachments", b"/messages") + b"\r\n--X\r\n",
    "a body that it was told to upload": UPLOAD + b"Expect: 100-continue\r\n\r\n",
    "a body that it was told to go on with": post(b"", b"Expect: 100-continue\r\n").replace(
        b"Length: 0", b"Length: 10"
    ),
    "tiny chunks": CHUNKED + b"1\r\n{\r\n" * 9000,
    "pipelined requests": get(b"/health") * 1000 + get(b"/ready") * 200,
    "an unread answer": get(b"/openapi.json") * 200,
    "an unread refusal": b"GET / HTTP/1.9\r\n\r\n" + b"x" * 100_000,
    "an unread refusal of a body": half(b"POST", 1_000_000),
}


@contextmanager
def api(
    var: Path, command: Sequence[str] = (str(ROOT / "api.py"),), max_requests: int = 0, **settings: str
) -> Iterator[Door]:
    """An API of one process."""
    environment = {
        "VAR": str(var), "PORT": str(free_port()), "HOSTNAME": "mail.example.com", "ALLOW_WEAK_DURABILITY": "true",
        "API_PROCESSES": "1", "API_THREADS": str(THREADS), "API_CONNECTIONS_PER_ADDRESS": str(PER_ADDRESS),
        "MAX_BODY_SIZE": str(MAX_BODY_SIZE),
    } | settings  # fmt: skip
    given = {f"MAILBBGUN_{name}": value for name, value in environment.items()} | {"PYTHONPATH": str(ROOT)}
    door = Door(var, given | {"GUNICORN_CMD_ARGS": f"--max-requests {max_requests}"}, command)
    try:
        yield door
    finally:
        door.close()


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory, postgresql: Any) -> Iterator[Door]:
    """An API with two threads and long deadlines, on PostgreSQL, where a reader can be blocked."""
    with api(tmp_path_factory.mktemp("slow"), DATABASE_URL=postgresql.url(postgresql.create_database())) as opened:
        yield opened


@pytest.fixture(scope="module")
def hasty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    """An API that gives its clients one second."""
    with api(tmp_path_factory.mktemp("hasty"), API_HEAD_SECONDS="1", API_STALL_SECONDS="1") as opened:
        yield opened


def connect(door: Door, sent: bytes = b"", source: str = "127.0.0.1") -> socket.socket:
    """Return a connection of a client that reads nothing, and has sent as much as fits."""
    line = socket.socket()
    line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    line.bind((source, 0))
    line.connect(("127.0.0.1", int(door.url.rpartition(":")[2])))
    line.setblocking(False)
    with suppress(BlockingIOError, ConnectionError):
        line.send(sent)
    line.settimeout(PATIENCE)
    return line


def answer(answers: Any) -> tuple[int, dict[str, str], Any]:
    status, headers = int(answers.readline().split()[1]), {}
    while (header := answers.readline()) != b"\r\n":
        name, _, value = header.decode().partition(":")
        headers[name.lower()] = value.strip()
    return status, headers, json.loads(answers.read(int(headers["content-length"])) or b"null")


def served(door: Door, source: str = "127.0.0.1") -> list[int]:
    """Return the statuses that a new client gets: of health, a list, and a message."""
    statuses = []
    for request in (get(b"/health"), get(b"/messages?limit=1"), post(BODY)):
        with connect(door, source=source) as line, line.makefile("rb") as answers:
            line.sendall(request)
            statuses.append(answer(answers)[0])
    return statuses


@pytest.mark.parametrize("kind", KINDS)
def test_slow_clients_hold_no_thread_and_keep_nobody_out(door: Door, kind: str) -> None:
    with ExitStack() as stack:
        for _ in range(MANY):
            stack.enter_context(connect(door, KINDS[kind]))
        assert served(door) == [200, 200, 201]


def test_more_slow_clients_of_every_kind_than_an_address_may_have_keep_nobody_out(door: Door) -> None:
    with ExitStack() as stack:
        for number in range(4 * PER_ADDRESS):
            stack.enter_context(connect(door, list(KINDS.values())[number % len(KINDS)]))
            if number % 40 == 0:
                assert served(door) == [200, 200, 201]
        assert served(door) == [200, 200, 201]
        assert served(door, "127.0.0.9") == [200, 200, 201]
        assert door.files() < 2 * PER_ADDRESS + 60


def test_health_is_answered_while_every_thread_waits_for_the_database(door: Door) -> None:
    with ExitStack() as stack, door.services.db.engine.connect() as rival:
        rival.execute(text("LOCK TABLE messages IN ACCESS EXCLUSIVE MODE"))
        waiting = [stack.enter_context(connect(door, get(b"/messages?limit=1"))) for _ in range(MANY)]
        for method in (b"GET", b"HEAD", b"GET"):
            with (
                connect(door, method + b" /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n") as line,
                line.makefile("rb") as answers,
            ):
                head, _, body = answers.read().partition(b"\r\n\r\n")
                assert head.startswith(b"HTTP/1.1 200")
                assert bool(body) is (method == b"GET")
        assert not select.select(waiting, [], [], 0)[0]
        rival.rollback()
        assert {answer(stack.enter_context(line.makefile("rb")))[0] for line in waiting} == {200}


def test_connections_whose_request_is_being_served_are_never_closed(door: Door) -> None:
    with ExitStack() as stack:
        with door.services.db.engine.connect() as rival:
            rival.execute(text("LOCK TABLE messages IN ACCESS EXCLUSIVE MODE"))
            waiting = [
                stack.enter_context(connect(door, request))
                for request in (post(BODY), get(b"/messages?limit=1"))
                for _ in range(4)
            ]
            for _ in range(2 * PER_ADDRESS):
                stack.enter_context(connect(door))
            rival.rollback()
        assert [answer(stack.enter_context(line.makefile("rb")))[0] for line in waiting] == [201] * 4 + [200] * 4


@pytest.mark.parametrize("kind", [kind for kind, sent in KINDS.items() if kind.startswith(("half", "no ", "a body"))])
def test_late_requests_get_408_and_their_connections_are_closed(hasty: Door, kind: str) -> None:
    with connect(hasty, KINDS[kind]) as line, line.makefile("rb") as answers:
        if "after a request" in kind:
            assert answer(answers)[0] == 200
        if "told to" in kind:
            assert [answers.readline(), answers.readline()] == [b"HTTP/1.1 100 Continue\r\n", b"\r\n"]
        status, headers, told = answer(answers)
        assert (status, told["error"]["status"], told["error"]["code"]) == (408, 408, "request_timeout")
        assert told["error"]["message"] in (
            "The request's head did not come within 1 s.",
            "The body came too slowly: less than 4096 bytes in 1 s.",
        )
        assert headers["connection"] == "close"
        assert answers.read() == b""


@pytest.mark.parametrize(
    "dripping",
    [b"GET /health HTTP/1.1\r\nX: " + b"x" * 5000, half(b"POST", 20_000), CHUNKED + b"1\r\nx\r\n" * 2000],
    ids=["head", "body", "chunks"],
)
def test_a_client_that_drips_is_late_however_often_something_comes(hasty: Door, dripping: bytes) -> None:
    with connect(hasty) as line:
        for byte in dripping:
            if select.select([line], [], [], 0.05)[0]:
                break
            line.sendall(bytes([byte]))
        assert line.recv(4096).startswith(b"HTTP/1.1 408")


def test_connections_of_clients_that_send_or_read_nothing_are_closed(hasty: Door) -> None:
    before = hasty.files()
    with ExitStack() as stack:
        for kind in ("silent", "an unread answer", "an unread refusal", "an unread refusal of a body"):
            for _ in range(4):
                stack.enter_context(connect(hasty, KINDS[kind]))
        until(lambda: hasty.files() <= before, what="closing")


def test_thousands_of_connections_that_close_at_once_leave_nothing(door: Door) -> None:
    before = door.files()
    for _ in range(2000):
        connect(door).close()
    assert served(door) == [200, 200, 201]
    until(lambda: door.files() <= before + 2, what="closing")


def test_a_head_in_single_bytes_and_a_body_in_a_thousand_chunks_are_taken(door: Door) -> None:
    with connect(door) as line, line.makefile("rb") as answers:
        for byte in get(b"/health").replace(b"Host", b"X: " + b"x" * 7900 + b"\r\nHost"):
            line.send(bytes([byte]))
        assert answer(answers)[0] == 200
        body = BODY.ljust(1000)
        line.sendall(CHUNKED + b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n")
        assert answer(answers)[0] == 201


def test_an_answer_larger_than_all_buffers_is_read_whole_by_a_slow_client(door: Door) -> None:
    written = "".join(f"{number:06}\n" for number in range(30_000))
    identifier = door.send(text=written)
    with (
        connect(door, get(f"/messages/{identifier}/raw".encode())) as line,
        line.makefile("rb", buffering=512) as answers,
    ):
        length = 0
        while (header := answers.readline()) != b"\r\n":
            if header.lower().startswith(b"content-length:"):
                length = int(header.split(b":")[1])
        received = b""
        while len(received) < length:
            received += answers.read1(777)
        assert received.replace(b"\r\n", b"\n").endswith(written[-5000:].encode())
        line.sendall(get(b"/health"))
        assert answer(answers)[0] == 200


def test_a_body_that_is_too_large_is_refused_with_the_limit_while_it_still_comes(door: Door) -> None:
    for start in (
        b"Content-Length: %d\r\n\r\n" % (2 * MAX_BODY_SIZE),
        b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % (2 * MAX_BODY_SIZE),
    ):
        with connect(door) as line, line.makefile("rb") as answers:
            line.sendall(b"POST /messages HTTP/1.1\r\nHost: localhost\r\n" + JSON + start)
            for _ in range(MAX_BODY_SIZE // 1000):
                line.sendall(b"x" * 1000)
            status, headers, told = answer(answers)
            assert (status, told["error"]["code"], headers["connection"]) == (413, "too_large", "close")
            assert str(MAX_BODY_SIZE) in told["error"]["message"]
            assert answers.read() == b""


def test_pipelined_requests_of_a_client_that_sends_no_more_are_all_answered(door: Door) -> None:
    with (
        connect(door, get(b"/health") + post(BODY) + get(b"/messages?limit=1") + get(b"/health")) as line,
        line.makefile("rb") as answers,
    ):
        line.shutdown(socket.SHUT_WR)
        assert [answer(answers)[0] for _ in range(4)] == [200, 201, 200, 200]
        assert answers.read() == b""


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
def test_both_versions_and_head_are_answered(door: Door, version: bytes) -> None:
    for path in (b"/health", b"/openapi.json"):
        head = b"HEAD %b HTTP/%b\r\nHost: localhost\r\nConnection: close\r\n\r\n" % (path, version)
        with connect(door, head) as line, line.makefile("rb") as answers:
            told = answers.read()
        assert told.startswith(b"HTTP/%b 200" % version)
        assert told.endswith(b"\r\n\r\n")
        assert b"Content-Length: " in told
