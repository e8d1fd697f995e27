"""Uploads go to disk while they come: admitted by their head, bounded, without a thread, and gone in the end."""

import json
import os
import socket
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mailbbgun.server.bodies.answers import FiledResponse
from mailbbgun.server.bodies.spool import BLOCK
from mailbbgun.server.client_limits import Stage
from tests.server.harness import LIMITS, UPLOAD_LIMIT, Harness, answer, closed
from tests.waiting import PATIENCE, wait_until

HEAD = b"POST /upload HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n"
BIG = os.urandom(5 * BLOCK + 17)


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[Harness]:
    with Harness(folder=tmp_path / "spool") as made:
        yield made


def begun(harness: Harness, head: bytes, sent: bytes = b"") -> socket.socket:
    """Return a connection that has sent the head of an upload, and perhaps a part of the body."""
    line = harness.connect(head + b"\r\n" + sent)
    wait_until(lambda: harness.settle() or harness.server.admitting, "the head")
    return line


def admit(harness: Harness) -> None:
    harness.clients.take_body(harness.server.admitting.pop())


def send(harness: Harness, line: socket.socket, data: bytes) -> None:
    """Send bytes while the poller takes them."""
    rest = memoryview(data)
    line.setblocking(False)

    def all_sent() -> bool:
        nonlocal rest
        harness.settle()
        with suppress(BlockingIOError):
            rest = rest[line.send(rest) :]
        return not rest

    wait_until(all_sent, "the end of the body", look=0)
    line.settimeout(PATIENCE)


def body_of_the_next(harness: Harness) -> bytes:
    """Return the body of the next request that is complete."""
    wait_until(lambda: harness.settle() or harness.server.requests, "a whole request")
    spool = harness.server.requests.pop().body
    content = spool.reader().read()
    spool.close()
    return bytes(content)


@pytest.mark.parametrize("size", [1, BLOCK - 1, BLOCK, BLOCK + 1, len(BIG)])
def test_an_upload_is_whole_whatever_its_size(harness, size):
    line = begun(harness, HEAD % size, BIG[: size // 2])
    admit(harness)
    send(harness, line, BIG[size // 2 : size])
    assert body_of_the_next(harness) == BIG[:size]


def test_an_upload_in_chunks_is_whole(harness):
    head = b"POST /upload HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n"
    line = begun(harness, head)
    admit(harness)
    for at in range(0, len(BIG), 100_000):
        piece = BIG[at : at + 100_000]
        send(harness, line, b"%x\r\n%b\r\n" % (len(piece), piece))
    send(harness, line, b"0\r\n\r\n")
    assert body_of_the_next(harness) == BIG


def test_a_request_that_follows_an_upload_at_once_is_answered(harness):
    line = begun(harness, HEAD % 3)
    admit(harness)
    send(harness, line, b"abcGET /x HTTP/1.1\r\nHost: localhost\r\n\r\n")
    wait_until(lambda: harness.settle() or len(harness.server.requests) == 2, "both requests")
    assert harness.server.requests[1].path == "/x"


def test_nothing_of_a_body_is_taken_before_it_is_admitted(harness):
    line = begun(harness, HEAD % len(BIG))
    line.setblocking(False)
    with suppress(BlockingIOError):
        while line.send(bytes(65_536)):  # until the kernel's buffers are full
            harness.settle()
    [connection] = harness.server.admitting
    assert (connection.stage, connection.held <= 2 * BLOCK) == (Stage.SERVED, True)
    assert not harness.folder.exists()


def test_the_client_is_told_to_go_on_only_once_it_is_admitted(harness):
    line = begun(harness, HEAD % 3 + b"Expect: 100-continue\r\n")
    line.setblocking(False)
    with pytest.raises(BlockingIOError):
        line.recv(1)
    admit(harness)
    line.settimeout(PATIENCE)
    assert line.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
    send(harness, line, b"abc")
    assert body_of_the_next(harness) == b"abc"


def test_an_upload_takes_little_memory_and_a_file_without_a_name(harness):
    line = begun(harness, HEAD % (100 * BLOCK))
    [connection] = harness.server.admitting
    admit(harness)
    most = 0
    for _ in range(99):
        send(harness, line, bytes(BLOCK))
        most = max(most, connection.held)
    assert most <= 3 * BLOCK
    assert os.listdir(harness.folder) == []
    wait_until(lambda: harness.settle() or room_taken(harness) > 90 * BLOCK, "most of it on disk")


def refusal(harness: Harness, line: socket.socket) -> tuple[int, str, Any]:
    """Return the status, the head and the error of the response that is about to come."""
    line.setblocking(False)
    received = b""

    def has_come() -> bool:
        nonlocal received
        harness.settle()
        with suppress(BlockingIOError):
            received += line.recv(65_536)
        return received.endswith(b"}\n")

    wait_until(has_come, "a response", look=0)
    head, _, body = received.partition(b"\r\n\r\n")
    return int(head.split()[1]), head.decode(), json.loads(body)["error"]


def room_taken(harness: Harness) -> int:
    return harness.room._bytes


def test_a_client_that_leaves_or_is_late_leaves_nothing_behind(harness):
    for leave in (True, False):
        line = begun(harness, HEAD % len(BIG))
        [connection] = harness.server.admitting
        admit(harness)
        send(harness, line, BIG[:-1])
        wait_until(lambda: harness.settle() or room_taken(harness) > 4 * BLOCK, "a file")
        wait_until(lambda c=connection: harness.settle() or not c.flushing, "the disk")
        if leave:
            line.close()
        else:
            harness.later(LIMITS.seconds[Stage.BODY] + 1)
            assert answer(line)[0] == 408
        wait_until(lambda: harness.settle() or room_taken(harness) == 0, "the end of the file")


def test_a_declared_size_over_the_limit_is_refused_before_anything_is_asked(harness):
    line = harness.connect(HEAD % (UPLOAD_LIMIT.bytes + 1) + b"\r\n")
    status, error = answer(line)
    assert (status, error["message"]) == (
        413,
        f"The request's body is larger than {UPLOAD_LIMIT.bytes} bytes, the limit ({UPLOAD_LIMIT.settings}).",
    )
    assert not harness.server.admitting


def test_uploads_beyond_the_room_on_disk_get_503_and_give_their_room_back(tmp_path):
    with Harness(replace(LIMITS, spools=3 * BLOCK), folder=tmp_path / "spool") as harness:
        line = begun(harness, HEAD % len(BIG))
        admit(harness)
        send(harness, line, BIG)
        status, head, error = refusal(harness, line)
        wait_until(lambda: harness.settle() or not room_taken(harness), "room")
    assert (status, error["code"]) == (503, "unavailable")
    assert head.endswith("\r\nRetry-After: 10")


def test_a_folder_that_cannot_be_written_is_503_and_says_why(tmp_path):
    (tmp_path / "spool").write_text("no folder")
    with Harness(folder=tmp_path / "spool") as harness:
        line = begun(harness, HEAD % len(BIG))
        admit(harness)
        send(harness, line, BIG)
        status, _, error = refusal(harness, line)
    assert (status, error["message"]) == (503, "The upload cannot be kept: File exists.")


def test_a_slow_disk_is_no_reason_to_end_an_upload(harness):
    line = begun(harness, HEAD % len(BIG))
    [connection] = harness.server.admitting
    admit(harness)
    connection.flushing = True  # as while a thread waits for the disk
    harness.later(10 * LIMITS.seconds[Stage.BODY])
    connection.flushing = False
    assert not closed(line)
    send(harness, line, BIG)
    assert body_of_the_next(harness) == BIG


@pytest.mark.parametrize("size", [1, 300_000, 3_000_000])
def test_a_large_response_comes_whole_from_a_file(harness, size):
    content = os.urandom(size)
    harness.server.answer = None
    line = harness.connect(b"GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n")
    spool = harness.spools.spool()
    spool.write(content)
    spool.flush()
    harness.clients.send(harness.server.served[-1], FiledResponse("GET /x", spool, harness.spools), keep_alive=True)
    received = b""
    line.setblocking(False)

    def all_received() -> bool:
        nonlocal received
        harness.settle()
        with suppress(BlockingIOError):
            received += line.recv(65_536)
        return len(received) >= size

    wait_until(all_received, "the whole response", look=0)
    wait_until(lambda: harness.settle() or room_taken(harness) == 0, "the end of the file")
    assert received == content
    assert harness.server.served[-1].stage is Stage.IDLE


def test_a_client_that_reads_no_response_is_closed_and_its_file_is_gone(harness):
    harness.server.answer = None
    line = harness.connect(b"GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n", receive=4096)
    spool = harness.spools.spool()
    spool.write(bytes(20_000_000))
    spool.flush()
    connection = harness.server.served[-1]
    harness.clients.send(connection, FiledResponse("GET /x", spool, harness.spools), keep_alive=True)
    wait_until(lambda: harness.settle() or (connection.unsent and not connection.flushing), "a full socket")
    harness.later(LIMITS.seconds[Stage.ANSWER] + 1)
    assert (connection.stage, room_taken(harness)) == (Stage.CLOSED, 0)
    line.close()
