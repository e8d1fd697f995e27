"""Hostile requests take linear time, and refusals repeat nothing of them but names of headers."""

import random
from typing import Any

import pytest
from gunicorn.config import Config  # type: ignore[import-untyped]  # it has no types
from gunicorn.http.body import ChunkedReader  # type: ignore[import-untyped]  # nor has this
from gunicorn.http.errors import InvalidHeader, ParseException  # type: ignore[import-untyped]  # nor this
from gunicorn.http.message import Request  # type: ignore[import-untyped]  # nor this
from gunicorn.http.unreader import IterUnreader  # type: ignore[import-untyped]  # nor this
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mailbbgun.http.error_responses import BodyLimit
from mailbbgun.server.bodies.chunked import FEW, FREE_FRAMING, LONGEST_LINE, LONGEST_TRAILERS, ChunkedBody
from mailbbgun.server.client_limits import SMALL
from mailbbgun.server.incoming import Incoming
from mailbbgun.server.refusal import Refusal, refusal_of
from tests.server.harness import Harness, answer
from tests.waiting import cpu_of, growth

LIMIT = 10_000_000
FIRST = b"GET / HTTP/1.1\r\nHost: localhost\r\n"
CHUNKED = b"POST /x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
CANARY = "mbg_Canary7x"
KEY = CANARY.encode()


def reader() -> Any:
    return Request(Config(), IterUnreader([CHUNKED]), ("192.0.2.1", 1)).body.reader


def body() -> ChunkedBody:
    return ChunkedBody(reader(), BodyLimit(LIMIT))


def incoming() -> Incoming:
    return Incoming(Config(), ("192.0.2.1", 1), LIMIT)


def refused(sent: bytes) -> Refusal:
    one = incoming()
    with pytest.raises(Refusal) as found:  # noqa: PT012 - any turn may raise it
        request = one.take(sent)
        while request is None and one.has_more:
            request = one.next()
    return found.value


def cut(sent: bytes, step: int) -> list[bytes]:
    return [sent[at : at + step] for at in range(0, len(sent), step)]


def lines(line: bytes, size: int) -> bytes:
    return (line + b"\r\n") * (size // (len(line) + 2))


# Each is repeated to the wanted length.
@pytest.mark.parametrize(
    ("first", "line"),
    [
        (b"", b"A0: " + b"y" * 7000),
        (b"", b"y" * 7000),
        (b"", b"\ty"),
        (b"", b"content-length:"),
        (b"content-length: 1\r\n", b"transfer-encoding"),
        (b"transfer-encoding: chunked\r\n", b"content-length"),
        (b"", b"host:"),
        (b"content-type: a\r\n", b"y:" + b" " * 3000),
        (b"", b" " * 7000),
        (b"", b"a" * 30 + b" " * 30),
        (b"", b""),
        (b"", b"\r"),
        (b"", b":" * 7000),
    ],
)
def test_a_refused_head_is_explained_in_linear_time(first: bytes, line: bytes) -> None:
    def cost(size: int) -> float:
        head = FIRST + first + lines(line, size) + b"bad header\r\n\r\n"
        return cpu_of(lambda: refusal_of(InvalidHeader("x"), head))

    assert growth(cost, SMALL // 8, SMALL) < 32  # quadratic time would be 64


def test_refusing_a_large_head_takes_linear_time() -> None:
    def cost(size: int) -> float:
        head = FIRST + b"".join(b"A%d: %b\r\n" % (n, b"y" * 7000) for n in range(size // 7007)) + b"bad header\r\n\r\n"
        return cpu_of(lambda: refused(head))

    assert growth(cost, 8000, 64_000) < 32


@pytest.mark.parametrize(
    "chunk", [b"1\r\n \r\n", b"1;a\r\n \r\n", b'1 ; a="b;c" \r\n \r\n'.replace(b" \r\n ", b"\r\n ")]
)
def test_tiny_chunks_behind_a_head_are_taken_in_turns(chunk: bytes) -> None:
    one = incoming()
    sent = chunk * (SMALL // len(chunk))
    assert one.take(CHUNKED + sent) is None
    turns = [one.held]
    while one.has_more:
        assert one.next() is None
        turns.append(one.held)
    assert len(turns) == -(-len(sent) // FEW)
    request: Any = one.take(b"0\r\n\r\n")
    assert request.body.read() == b" " * (SMALL // len(chunk))


def test_a_large_chunk_behind_a_head_is_taken_at_once() -> None:
    one = incoming()
    assert one.take(CHUNKED + b"f000\r\n" + b"x" * 0xF000 + b"\r\n0\r\n\r\n" + FIRST) is None
    request: Any = one.next()
    assert request.body.read() == b"x" * 0xF000
    assert one.held == len(FIRST)


def test_tiny_chunks_of_one_client_do_not_keep_others_waiting() -> None:
    with Harness() as harness:
        greedy, modest = harness.connect(), harness.connect()
        greedy.sendall(CHUNKED + b"1\r\n \r\n" * 12_000 + b"0\r\n\r\n" + FIRST + b"\r\n")
        modest.sendall(FIRST + b"\r\n")
        while len(harness.server.served) < 3:
            harness.poller.turn(0.01)
        assert modest.recv(100).startswith(b"HTTP/1.1 200")
        clients = [connection.client for connection in harness.server.served]
        assert clients == [modest.getsockname(), greedy.getsockname(), greedy.getsockname()]


def test_a_body_in_tiny_chunks_that_is_late_between_two_turns_gets_408() -> None:
    with Harness() as harness:
        line = harness.connect(CHUNKED + b"1\r\n \r\n" * 2000)
        harness.now += 10_000
        harness.clients.end_late()
        assert answer(line)[0] == 408
        for _ in range(5):
            harness.poller.turn(0.01)
        assert not harness.server.served


@pytest.mark.parametrize("extension", [b";" + b"a" * 8000, b';a="' + b"b" * 300 + b'"', b";a" * 20, b" " * 100 + b";a"])
def test_a_body_of_more_framing_than_content_is_refused(extension: bytes) -> None:
    chunk = b"1" + extension + b"\r\n \r\n"
    assert body().feed(chunk * (FREE_FRAMING // len(chunk) // 2)) is None
    error = refused(CHUNKED + chunk * (4 * FREE_FRAMING // len(chunk) + 4))
    assert error.status == 400
    assert "larger chunks" in error.message


def test_a_body_with_signed_chunks_of_the_usual_size_is_taken() -> None:
    one, chunk = body(), b"2000;chunk-signature=" + b"f" * 64 + b"\r\n" + b"x" * 8192 + b"\r\n"
    for _ in range(500):
        assert one.feed(chunk) is None
    assert one.feed(b"0;chunk-signature=" + b"f" * 64 + b"\r\n\r\n") == b""
    assert one.content.tell() == 500 * 8192


@pytest.mark.parametrize("start", [b"0\r\nX: ", b"0\r\nX: y\r\nZ: ", b"1;a=", b'1;a="', b"0;a="])
def test_lines_that_drip_are_searched_in_linear_time(start: bytes) -> None:
    def cost(size: int) -> float:
        one = body()
        one.feed(start)
        return cpu_of(lambda: [one.feed(b"y") for _ in range(size)])

    assert growth(cost, 1000, 8000) < 32


@pytest.mark.parametrize(
    "line", [b"1" + b" " * 8000 + b"x", b"1;" + b"a" * 8000 + b"=;", b"1" + b";a" * 4000 + b'="', b"1" * 8000 + b" "]
)
def test_a_chunk_line_without_a_size_is_refused_in_linear_time(line: bytes) -> None:
    assert "chunk" in refused(CHUNKED + line + b"\r\n").message

    def cost(size: int) -> float:
        part = line[: size // 2] + line[-size // 2 :]
        return cpu_of(lambda: [refused(CHUNKED + part + b"\r\n") for _ in range(20)])

    assert growth(cost, 1000, 8000) < 32


@pytest.mark.parametrize(
    ("sent", "status"),
    [(b"1;" + b"a" * LONGEST_LINE + b"\r\n", 400), (b"0\r\nX: " + b"y" * LONGEST_TRAILERS + b"\r\n\r\n", 431)],
)
def test_the_longest_lines_are_the_same_in_whatever_pieces_they_come(sent: bytes, status: int) -> None:
    for step in (len(sent), 1000, 1):
        one = body()
        with pytest.raises(Refusal) as found:
            list(map(one.feed, cut(sent, step)))
        assert found.value.status == status


def read_by_gunicorn(sent: bytes) -> bytes | None:
    """Return the content of a whole body; None if it is refused, or not complete."""
    one = ChunkedReader(reader().req, IterUnreader([sent]))
    try:
        return bytes(one.read(LIMIT))
    except (ParseException, OSError):
        return None


def read_by_us(pieces: list[bytes]) -> bytes | None:
    one = body()
    try:
        for piece in pieces:
            if one.feed(piece) is not None:
                return one.content.getvalue()
    except Refusal:
        pass
    return None


PARTS = st.sampled_from(
    [
        *(
            b"1",
            b"0",
            b"3",
            b"a",
            b"A",
            b"00",
            b"\r\n",
            b"\r",
            b"\n",
            b";",
            b"=",
            b'"',
            b"\\",
            b" ",
            b"\t",
            b"x",
            b"abc",
            b"\xff",
            b"\0",
            b":",
        ),
        *(
            b"1\r\nx\r\n",
            b"3;a=b\r\nabc\r\n",
            b"0\r\n",
            b"\r\n\r\n",
            b"0\r\n\r\n",
            b"X: y\r\n",
            b' ; a="b;\\"c"',
            b"0;a\r\n",
            b"Host: a\r\n",
        ),
    ]
)


@settings(max_examples=500, deadline=None)
@given(st.lists(PARTS, max_size=12).map(b"".join), st.integers(1, 5))
@example(b"1 \r\nx\r\n0\r\n\r\n", 1)
@example(b"10\r\n0123456789abcdef\r\n\r\n0\r\n\r\n", 1)
@example(b"01;a\r\nx\r\n000 ;b\r\nX: y\r\n\r\n", 1)
def test_chunks_are_decoded_as_gunicorn_decodes_them(sent: bytes, step: int) -> None:
    assert read_by_us(cut(sent, step)) == read_by_us([sent]) == read_by_gunicorn(sent)


RIGHT = b"POST /messages HTTP/1.1\r\nHost: localhost\r\n"


@pytest.mark.parametrize(
    "sent",
    [
        KEY + b" / HTTP/1.1\r\n\r\n",
        KEY * 500 + b" / HTTP/1.1\r\n\r\n",
        KEY + b"\r\n\r\n",
        b"GET " + KEY + b" HTTP/1.1\r\n\r\n",
        b"GET /\xff" + KEY + b" HTTP/1.1\r\n\r\n",
        b"GET / " + KEY + b"\r\n\r\n",
        b"GET / HTTP/1.1 " + KEY + b"\r\n\r\n",
        RIGHT + b"Authorization Bearer " + KEY + b"\r\n\r\n",
        RIGHT + KEY + b"\r\n\r\n",
        RIGHT + KEY + b" x\r\n\r\n",
        RIGHT + KEY + b"\xff: x\r\n\r\n",
        RIGHT + KEY + b" : x\r\n\r\n",
        RIGHT + b": " + KEY + b"\r\n\r\n",
        RIGHT + b"X: " + KEY + b"\0\r\n\r\n",
        RIGHT + b"X: y\r\n " + KEY + b"\r\n\r\n",
        RIGHT + b"Expect: " + KEY + b"\r\n\r\n",
        RIGHT + b"Transfer-Encoding: " + KEY + b"\r\n\r\n",
        RIGHT + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: " + KEY + b"\r\n\r\n",
        RIGHT + b"Content-Length: " + KEY + b"\r\n\r\n",
        RIGHT + b"Content-Type: " + KEY + b"\r\nContent-Type: " + KEY + b"\r\n\r\n",
        RIGHT + b"Host: " + KEY + b"\r\n\r\n",
        RIGHT + b"X: " + KEY + b"y" * 9000 + b"\r\n\r\n",
        RIGHT + b"X: " + KEY + b"\n\r\n\r\n",
        RIGHT + b"A: " + b"y" * 8000 + b"\r\nB: " + b"y" * 8000 + b"\r\nAuthorization Bearer " + KEY + b"\r\n\r\n",
        CHUNKED + KEY + b"\r\n",
        CHUNKED + b"1;" + KEY + b"=\xff\r\n",
        CHUNKED + KEY * 1000,
        CHUNKED + b"1\r\nx" + KEY,
        CHUNKED + b"1\r\nx" + KEY[:2],
        CHUNKED + b"0\r\n" + KEY + b" is a piece of a body\r\n\r\n",
        CHUNKED + b"0\r\n" + KEY + b"\xff: x\r\n\r\n",
        CHUNKED + b"0\r\nX: " + KEY + b"\0\r\n\r\n",
        CHUNKED + b"0\r\nX: " + KEY + b"\n",
        CHUNKED + b"0\r\nHost: " + KEY + b"\r\n\r\n",
        CHUNKED + b"0\r\nX: " + KEY * 1000,
        b"\x16" + KEY,
        b"\0" + KEY,
    ],
)  # fmt: skip
def test_a_refusal_repeats_nothing_that_was_sent_and_is_short(sent: bytes) -> None:
    message = refused(sent).message
    assert not any(CANARY[at : at + 5].lower() in message.lower() for at in range(len(CANARY) - 4))
    assert 20 < len(message) <= 200


def test_any_head_with_a_wrong_byte_in_it_gets_a_short_refusal_or_none() -> None:
    """Replace every byte of a right head by others, with a fixed seed."""
    dice = random.Random(9)
    right = (
        RIGHT + b"Authorization: Bearer " + KEY + b"\r\nContent-Type: application/json\r\nExpect: 100-continue\r\n\r\n"
    )
    messages = set()
    for at in range(len(right)):
        for byte in (0, 10, 32, 58, 255, dice.randrange(256)):
            try:
                incoming().take(right[:at] + bytes([byte]) + right[at + 1 :])
            except Refusal as error:
                messages.add(error.message)
    assert len(messages) > 5
    assert not [message for message in messages if len(message) > 200 or "mbg" in message or "Canary" in message]


@pytest.mark.parametrize(
    ("sent", "why"),
    [
        (RIGHT + b"Authorization Bearer x\r\n\r\n", "The header Authorization has no colon"),
        (RIGHT + b"X-Tag: a\0\r\n\r\n", "The header X-Tag has a control character"),
        (RIGHT + b"Content-Type: a\r\nContent-Type: b\r\n\r\n", "The header Content-Type is given twice"),
        (RIGHT + b"X" * 70 + b" y\r\n\r\n", "A header has no colon"),
        (RIGHT + b"X@Y: a\r\n\r\n", "A header has a name with other characters"),
        (RIGHT + b"Transfer-Encoding: chunked\r\nX y\r\n\r\n", "The header X has no colon"),
        (CHUNKED + b"0\r\nHost: a\r\n\r\n", "HOST must not be a trailer"),
    ],
)
def test_a_refusal_names_the_header_that_is_wrong(sent: bytes, why: str) -> None:
    assert why in refused(sent).message
