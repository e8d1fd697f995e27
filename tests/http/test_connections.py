"""Connections with many requests: each request gets its response, in whatever pieces it comes."""

import json
import re
import socket
import threading
from contextlib import ExitStack, contextmanager

import pytest
from sqlalchemy import text

from mailbbgun.accept.store import PATIENCE_FOR_ALL
from mailbbgun.core.ids import new_id
from mailbbgun.database import idempotency
from mailbbgun.database.idempotency import KeyClaim
from mailbbgun.server.client_limits import SMALL
from tests import waiting
from tests.flow.service import until
from tests.http.conftest import ROOT, Door
from tests.servers.process import free_port
from tests.waiting import PATIENCE

BODY = json.dumps({"to": "ann@example.com", "subject": "Hello", "text": "Hi"}).encode()
HEALTH = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"


@contextmanager
def connected(door):
    with (
        socket.create_connection(("127.0.0.1", int(door.url.rpartition(":")[2])), timeout=PATIENCE) as line,
        line.makefile("rb") as answers,
    ):
        yield line, answers


def post(body=BODY, *more):
    head = [
        b"POST /messages HTTP/1.1",
        b"Host: localhost",
        b"Content-Type: application/json",
        b"Content-Length: %d" % len(body),
        *more,
    ]
    return b"\r\n".join([*head, b"", body])


def heard(answers):
    """Read one response. Return its status and its body."""
    return answered(answers)[::2]


def answered(answers):
    """Read one response. Return its status, its headers and its body."""
    status, headers = int(answers.readline().split()[1]), {}
    while (header := answers.readline()) != b"\r\n":
        name, _, value = header.decode().partition(":")
        headers[name.lower()] = value.strip()
    return status, headers, json.loads(answers.read(int(headers["content-length"])))


POST = post()


@pytest.mark.parametrize("pause", [0, 0.002, 0.02, 0.3])
def test_requests_come_one_after_the_other_at_any_pace(door, pause):
    with connected(door) as (line, answers):
        seen = set()
        for _ in range(8):
            line.sendall(POST)
            status, message = heard(answers)
            assert status == 201
            seen.add(message["id"])
            waiting.pause(pause)
        assert len(seen) == 8


@pytest.mark.parametrize("pause", [0.001, 0.01])
def test_a_request_that_drips_is_whole_in_the_end(door, pause):
    with connected(door) as (line, answers):
        line.sendall(HEALTH)
        assert heard(answers)[0] == 200
        for start in range(0, len(POST), 9):
            line.sendall(POST[start : start + 9])
            waiting.pause(pause)
        assert heard(answers)[0] == 201
        line.sendall(HEALTH)
        assert heard(answers)[0] == 200


def test_pipelined_requests_are_answered_in_their_order(door):
    with connected(door) as (line, answers):
        line.sendall(HEALTH + POST + HEALTH + POST[:50])
        assert [heard(answers)[0] for _ in range(3)] == [200, 201, 200]
        line.sendall(POST[50:] + HEALTH)
        assert [heard(answers)[0] for _ in range(2)] == [201, 200]


def test_more_connections_than_threads_are_all_served_while_busy_ones_never_pause(door):
    served, stop = [], threading.Event()

    def busy():
        with connected(door) as (line, answers):
            while not stop.is_set():
                line.sendall(HEALTH)
                heard(answers)

    threads = [threading.Thread(target=busy) for _ in range(24)]  # API_THREADS is 16
    for one in threads:
        one.start()
    try:
        for _ in range(10):
            with connected(door) as (line, answers):
                line.sendall(POST)
                served.append(heard(answers)[0])
    finally:
        stop.set()
        for one in threads:
            one.join(PATIENCE)
    assert served == [201] * 10


def test_a_connection_that_was_idle_is_served_again(door):
    with connected(door) as (line, answers):
        for pause in (0, 1.2):
            waiting.pause(pause)
            line.sendall(POST)
            assert heard(answers)[0] == 201


@contextmanager
def stalled(door):
    """Let no message be stored until the block ends."""
    with door.services.db.engine.connect() as connection:
        if door.services.db.dialect == "postgresql":
            connection.execute(text("LOCK TABLE messages IN EXCLUSIVE MODE"))
        yield  # on SQLite, a transaction that has begun is the only writer
        connection.rollback()


def test_requests_that_wait_for_the_database_do_not_delay_others(door):
    with ExitStack() as stack:
        lines = [stack.enter_context(connected(door)) for _ in range(80)]  # more than there are threads
        with stalled(door):
            for line, _ in lines:
                line.sendall(POST)
            with connected(door) as (line, answers):
                for _ in range(20):
                    line.sendall(HEALTH)
                    assert heard(answers)[0] == 200
            if door.services.db.dialect == "postgresql":
                lines[0][0].settimeout(0.5)
                with pytest.raises(TimeoutError):
                    lines[0][0].recv(1)
                lines[0][0].settimeout(PATIENCE)
        assert {heard(answers)[0] for _, answers in lines[1:]} == {201}


def test_requests_that_wait_for_locked_idempotency_keys_do_not_delay_others(door, tag):
    keys = [f"{tag}-{number}" for number in range(40)]  # more than there are threads
    with ExitStack() as stack:
        lines = [stack.enter_context(connected(door)) for _ in keys]
        with door.services.db.write() as rival:  # on SQLite, it locks the whole database
            if door.services.db.dialect == "postgresql":
                idempotency.take(rival, {KeyClaim(key, "same"): (new_id(), {}) for key in keys}, 86_400)
            for (line, _), key in zip(lines, keys, strict=True):
                line.sendall(post(BODY, b"Idempotency-Key: " + key.encode()))
            waiting.pause(5 * PATIENCE_FOR_ALL)  # the first key alone, then all others
            with connected(door) as (line, answers):
                for _ in range(20):
                    line.sendall(HEALTH)
                    assert heard(answers)[0] == 200
            rival.rollback()
        assert {heard(answers)[0] for _, answers in lines} == {201}


def test_clients_that_do_not_hang_up_hold_no_thread(door):
    with ExitStack() as stack:
        for _ in range(48):
            line, answers = stack.enter_context(connected(door))
            line.sendall(post(BODY, b"Connection: close"))
            assert heard(answers)[0] == 201
        with connected(door) as (line, answers):
            line.sendall(HEALTH)
            assert heard(answers)[0] == 200


def test_clients_that_drip_hold_no_thread(door):
    with ExitStack() as stack:
        slow = [stack.enter_context(connected(door)) for _ in range(64)]
        for line, _ in slow:
            line.sendall(POST[:30])
        for line, _ in slow:
            line.sendall(POST[30:-1])
        with connected(door) as (line, answers):
            line.sendall(POST + HEALTH)
            assert [heard(answers)[0], heard(answers)[0]] == [201, 200]
        for line, _ in slow:
            line.sendall(POST[-1:])
        assert {heard(answers)[0] for _, answers in slow} == {201}


def test_a_request_is_answered_alike_however_it_is_served(door):
    wrong = json.dumps({"to": "nobody", "subject": "Hello", "text": "Hi"}).encode()
    large = json.dumps({"to": "ann@example.com", "subject": "Hello", "text": "x" * SMALL}).encode()
    head = b"POST /messages HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    chunked = head + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n"
    with connected(door) as (line, answers):
        told = []
        for request in (
            POST,
            post(large),
            chunked % (len(BODY), BODY),
            post(wrong),
            chunked % (len(wrong), wrong),
            post(b"{"),
            post(b""),
        ):
            line.sendall(request)
            told.append(answered(answers))
    assert [status for status, *_ in told] == [201, 201, 201, 400, 400, 400, 400]
    small, big, in_chunks = (headers for _, headers, _ in told[:3])
    assert small.keys() == big.keys() == in_chunks.keys()
    assert told[3][2] == told[4][2]


def test_a_key_is_replayed_and_refused_on_connections_that_stay(door, tag):
    other = json.dumps({"to": "bob@example.com", "subject": "Hello", "text": "Hi"}).encode()
    with connected(door) as (line, answers):
        told = []
        for body in (BODY, BODY, other):
            line.sendall(post(body, b"Idempotency-Key: " + tag.encode()))
            told.append(answered(answers))
    assert [status for status, *_ in told] == [201, 201, 422]
    assert told[0][2]["id"] == told[1][2]["id"]
    assert [headers.get("idempotent-replayed") for _, headers, _ in told] == [None, "true", None]
    assert told[2][2]["error"]["code"] == "idempotency_mismatch"
    assert told[2][1]["cache-control"] == "no-store"


def test_a_client_that_expects_100_continue_gets_it(door):
    with connected(door) as (line, answers):
        head, _, body = post(BODY, b"Expect: 100-continue").partition(b"\r\n\r\n")
        line.sendall(head + b"\r\n\r\n")
        assert answers.readline() == b"HTTP/1.1 100 Continue\r\n"
        assert answers.readline() == b"\r\n"
        line.sendall(body)
        assert heard(answers)[0] == 201


@pytest.mark.parametrize("request_", [post(BODY, b"Connection: close"), POST.replace(b"HTTP/1.1", b"HTTP/1.0")])
def test_a_connection_is_closed_when_the_client_wants_that(door, request_):
    with connected(door) as (line, answers):
        line.sendall(request_)
        status, headers, _ = answered(answers)
        assert (status, headers["connection"]) == (201, "close")
        assert answers.read() == b""


def test_a_client_that_closes_only_its_own_side_is_answered(door):
    with connected(door) as (line, answers):
        line.sendall(POST)
        line.shutdown(socket.SHUT_WR)
        assert heard(answers)[0] == 201


@pytest.mark.parametrize("sent", [b"", b"POST /mess", POST[:-5], b"\x16\x03\x01", b"GET /health HT"])
def test_clients_that_leave_are_forgotten(door, sent):
    before = door.files()
    for _ in range(10):
        with connected(door) as (line, _):
            line.sendall(sent)
    until(lambda: door.files() <= before, what="closing")


def test_a_client_that_reads_no_answers_keeps_nobody_waiting(door):
    with connected(door) as (deaf, _):
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.settimeout(0.2)
        with pytest.raises(TimeoutError):
            deaf.sendall(HEALTH * 1_000_000)
        with connected(door) as (line, answers):
            for _ in range(10):
                line.sendall(POST)
                assert heard(answers)[0] == 201


def test_a_hook_that_fails_ends_no_process(tmp_path):
    # An operator's gunicorn settings, with a hook that has an error.
    settings = tmp_path / "gunicorn.conf.py"
    ours = f"globals().update(__import__('runpy').run_path({str(ROOT / 'gunicorn.conf.py')!r}))"
    settings.write_text(f"{ours}\ndef post_request(worker, req, environ, resp):\n    raise ValueError(worker.pid)\n")
    environment = {"MAILBBGUN_VAR": str(tmp_path), "MAILBBGUN_PORT": str(free_port()), "PYTHONPATH": str(ROOT)}
    door = Door(tmp_path, environment, ["-m", "gunicorn", "-c", str(settings), "api:app"])
    try:
        # Some errors come from the requests that checked whether the API is up.
        before = (tmp_path / "api.out").read_text().count("Error after a request")
        for _ in range(3):
            with connected(door) as (line, answers):
                line.sendall(POST)
                assert heard(answers)[0] == 201
                assert answers.read() == b"", "its connection is closed"
        log = (tmp_path / "api.out").read_text()
        assert log.count("Error after a request") == before + 3
        assert len(set(re.findall(r"ValueError: ([0-9]+)", log))) == 1
    finally:
        door.close()
