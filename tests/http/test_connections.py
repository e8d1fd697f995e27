"""Connections that stay: whatever the pieces in which requests come, each gets its answer."""

import json
import socket
import threading
import time
from contextlib import contextmanager

import pytest

BODY = json.dumps({"to": "ann@example.com", "subject": "Hello", "text": "Hi"}).encode()
POST = b"POST /messages HTTP/1.1\r\nHost: t\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(BODY), BODY)
HEALTH = b"GET /health HTTP/1.1\r\nHost: t\r\n\r\n"


@contextmanager
def connected(door):
    with socket.create_connection(("127.0.0.1", int(door.url.rpartition(":")[2])), timeout=10) as line, line.makefile("rb") as answers:
        yield line, answers


def heard(answers):
    """Read one answer; return its status and its body."""
    status = int(answers.readline().split()[1])
    length = 0
    while (header := answers.readline()) != b"\r\n":
        name, _, value = header.partition(b":")
        length = int(value) if name.lower() == b"content-length" else length
    return status, json.loads(answers.read(length))


@pytest.mark.parametrize("pause", [0, 0.002, 0.02, 0.3])
def test_requests_come_one_after_the_other_at_any_pace(door, pause):
    with connected(door) as (line, answers):
        seen = set()
        for _ in range(8):
            line.sendall(POST)
            status, message = heard(answers)
            assert status == 201
            seen.add(message["id"])
            time.sleep(pause)
        assert len(seen) == 8


@pytest.mark.parametrize("pause", [0.001, 0.01])
def test_a_request_that_drips_is_whole_in_the_end(door, pause):
    with connected(door) as (line, answers):
        line.sendall(HEALTH)
        assert heard(answers)[0] == 200
        for start in range(0, len(POST), 9):
            line.sendall(POST[start : start + 9])
            time.sleep(pause)
        assert heard(answers)[0] == 201
        line.sendall(HEALTH)
        assert heard(answers)[0] == 200


def test_requests_sent_ahead_are_answered_in_their_order(door):
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
            one.join(20)
    assert served == [201] * 10


def test_a_connection_that_was_idle_is_served_again(door):
    with connected(door) as (line, answers):
        for pause in (0, 1.2):
            time.sleep(pause)
            line.sendall(POST)
            assert heard(answers)[0] == 201
