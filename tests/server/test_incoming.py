"""Bytes become the same requests in whatever pieces they come. Refusals say the reason."""

import json
from typing import Any

import pytest
from gunicorn.config import Config  # type: ignore[import-untyped]  # it has no types
from hypothesis import given, settings
from hypothesis import strategies as st

from mailbbgun.server.client_limits import LONGEST_HEAD, SMALL
from mailbbgun.server.incoming import Incoming, size_of_small_post
from mailbbgun.server.refusal import Refusal

LIMIT = 200_000
BODY = b'{"to": "ann@example.com"}'


def post(body: bytes = BODY, *more: bytes, path: bytes = b"/messages") -> bytes:
    head = [
        b"POST " + path + b" HTTP/1.1",
        b"Host: t",
        b"Content-Type: application/json",
        b"Content-Length: %d" % len(body),
        *more,
    ]
    return b"\r\n".join([*head, b"", body])


POST = post()
GET = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
CHUNKED = b"POST /x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"


def incoming() -> Incoming:
    return Incoming(Config(), ("192.0.2.1", 1), LIMIT)


def read(pieces: list[bytes]) -> list[tuple[str, bytes]]:
    """Return path and body of each request in these pieces, without the quick way."""
    one, found = incoming(), []
    for piece in pieces:
        request = one.take(piece)
        while request is not None or one.has_more:
            if isinstance(request, bytes):
                request = one.parse(request)
            if request is not None:
                found.append((request.path, request.body.read()))
            request = one.next()
    return found


def cut(data: bytes, at: list[int]) -> list[bytes]:
    places = sorted({place % (len(data) + 1) for place in at})
    return [piece for start, end in zip([0, *places], [*places, len(data)], strict=True) if (piece := data[start:end])]


STREAM = (
    GET
    + POST
    + GET
    + post(b"x" * 300, path=b"/other")
    + CHUNKED
    + b"3\r\nabc\r\n1;a=b\r\nd\r\n0\r\nX-Sum: 7\r\n\r\n"
    + POST
    + b"\r\n"
    + GET
)
REQUESTS = [
    ("/health", b""),
    ("/messages", BODY),
    ("/health", b""),
    ("/other", b"x" * 300),
    ("/x", b"abcd"),
    ("/messages", BODY),
    ("/health", b""),
]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.integers(0, len(STREAM)), max_size=30))
def test_requests_are_the_same_in_whatever_pieces_they_come(at: list[int]) -> None:
    assert read(cut(STREAM, at)) == REQUESTS


def test_requests_in_single_bytes_are_whole_in_the_end() -> None:
    assert read([STREAM[at : at + 1] for at in range(len(STREAM))]) == REQUESTS


def test_a_thousand_chunks_of_one_byte_are_a_body() -> None:
    assert read([CHUNKED + b"1\r\nx\r\n" * 1000 + b"0\r\n\r\n"]) == [("/x", b"x" * 1000)]


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.binary(min_size=1, max_size=40), max_size=8), st.lists(st.integers(0, 500), max_size=8), st.booleans()
)
def test_a_chunked_body_is_what_was_cut_into_chunks(chunks: list[bytes], at: list[int], extended: bool) -> None:
    extension = b' ; name="a;b"' if extended else b""
    sent = (
        b"".join(b"%x%b\r\n%b\r\n" % (len(chunk), extension, chunk) for chunk in chunks) + b"00%b\r\n\r\n" % extension
    )
    assert read([CHUNKED, *cut(sent + GET, at)]) == [("/x", b"".join(chunks)), ("/health", b"")]


HEAD = b"POST /x HTTP/1.1\r\nHost: localhost\r\n"


@pytest.mark.parametrize(
    ("sent", "status", "why"),
    [
        (b"GET / HTTP/1.1\nHost: t\n\n", 400, "bare LF"),
        (b"GET / HTTP/1.1\r\nHost: t\nX: y\r\n\r\n", 400, "bare LF"),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: y\n", 400, "bare LF"),
        (b"GET / HTTP/1.9\r\nHost: localhost\r\n\r\n", 505, "HTTP/1.1 and HTTP/1.0"),
        (b"GET / HTTP/2.0\r\nHost: localhost\r\n\r\n", 505, "HTTP/1.1 and HTTP/1.0"),
        (b"GET / HTTP/0.9\r\nHost: localhost\r\n\r\n", 505, "HTTP/1.1 and HTTP/1.0"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, ""),
        (b"GET / HTTP/x\r\nHost: localhost\r\n\r\n", 400, "HTTP Version"),
        (b"GARBAGE\r\n\r\n", 400, "a method, a path, and a version"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, "TLS"),
        (b"\x00\x00\x00\x01", 400, "not HTTP"),
        (HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", 400, "both given"),
        (HEAD + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n", 400, "both given"),
        (HEAD + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nabcde", 400, "given twice"),
        (HEAD + b"Content-Length: +5\r\n\r\nabcde", 400, "not a number"),
        (HEAD + b"Content-Length: 5, 5\r\n\r\nabcde", 400, "not a number"),
        (HEAD + b"Content-Length: -1\r\n\r\n", 400, "not a number"),
        (HEAD + b"Content-Length: \r\n\r\n", 400, "not a number"),
        (HEAD + b"Content-Length: 5\xb2\r\n\r\n", 400, "not a number"),
        (HEAD + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n", 400, ""),
        (HEAD + b"X: a\r\n b\r\n\r\n", 400, "obsolete folding"),
        (HEAD + b"X : a\r\n\r\n", 400, "space before the colon"),
        (HEAD + b"Content-Length : 5\r\n\r\nabcde", 400, "space before the colon"),
        (HEAD + b"Host: u\r\n\r\n", 400, "Host"),
        (HEAD + b"Transfer-Encoding: gzip\r\n\r\n", 400, "must be chunked"),
        (HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n", 501, "the only one is chunked"),
        (HEAD + b"Transfer-Encoding: Deflate,\tchunked\r\n\r\n", 501, "the only one is chunked"),
        (HEAD + b"Transfer-Encoding: identity, chunked\r\n\r\n", 501, "the only one is chunked"),
        (HEAD + b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n", 501, "the only one is chunked"),
        (HEAD + b"Transfer-Encoding: xchunked\r\n\r\n", 501, "the only one is chunked"),
        (HEAD + b"Transfer-Encoding: chunked, chunked\r\n\r\n", 400, "must be chunked"),
        (HEAD + b"Transfer-Encoding: nonsense\r\n\r\n", 501, "chunked"),
        (HEAD.replace(b"1.1", b"1.0") + b"Transfer-Encoding: chunked\r\n\r\n", 400, "HTTP/1.1"),
        (HEAD + b"Expect: nothing\r\n\r\n", 417, "100-continue"),
        (HEAD + b"Content-Length: 200001\r\n\r\n", 413, "200000 bytes"),
        (CHUNKED + b"30d41\r\n", 413, "200000 bytes"),
        (CHUNKED + b"ffffffffffffffffff\r\n", 413, "200000 bytes"),
        (CHUNKED + b"zz\r\n", 400, "chunk"),
        (CHUNKED + b"-1\r\n", 400, "chunk"),
        (CHUNKED + b"3\r\nabcd", 400, "chunk"),
        (CHUNKED + b"3\nabc\n0\n\n" + b"x" * 9000, 400, "chunk"),
        (CHUNKED + b"0\r\nX: y\nZ: a", 400, "bare LF"),
        (CHUNKED + b"0\r\nContent-Length: 5\r\n\r\n", 400, "CONTENT-LENGTH"),
        (CHUNKED + b"0\r\n" + b"X: y\r\n" * 2000, 431, "trailer"),
        (b"GET /" + b"x" * 9000, 414, "first line"),
        (b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\n\r\n", 414, "first line"),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 9000 + b"\r\n\r\n", 431, "header"),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: y\r\n" * 101 + b"\r\n", 431, "header"),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: " + b"x" * LONGEST_HEAD, 431, "head"),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n" + (b"X: " + b"x" * 8000 + b"\r\n") * 9 + b"\r\n", 431, "head"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_refused_with_a_reason(sent: bytes, status: int, why: str) -> None:
    for pieces in (
        [sent],
        [sent[at : at + 1000] for at in range(0, len(sent), 1000)],
        [sent[at : at + 7] for at in range(0, len(sent), 7)],
    ):
        with pytest.raises(Refusal) as refused:
            read(pieces)
        assert refused.value.status == status, refused.value.message
        assert why in refused.value.message
        head, _, body = refused.value.response().partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 %d " % status)
        assert json.loads(body)["error"]["status"] == status


@pytest.mark.parametrize(
    "started",
    [b"G", b"GET ", b"GET / HT", b"GET / HTTP/1.1\r\nX", b"\r\nGET", b"POST", POST[:-1], CHUNKED + b"3\r\nab"],
)
def test_a_part_of_a_request_is_waited_for(started: bytes) -> None:
    one = incoming()
    assert one.take(started) is None
    assert one.held > 0 or one.in_body


def test_100_continue_is_sent_once_and_only_if_the_client_waits() -> None:
    head, _, body = post(BODY, b"Expect: 100-continue").partition(BODY)[0], b"", BODY
    one = incoming()
    assert one.take(head) is None
    assert [one.expects_continue() for _ in range(2)] == [True, False]
    assert one.take(body).body.read() == BODY
    one = incoming()
    assert one.take(head + body[:3]) is None
    assert not one.expects_continue()


@pytest.mark.parametrize(
    ("sent", "size"),
    [
        (POST, len(POST)),
        (POST[:-1], len(POST)),
        (POST + b"G", len(POST)),
        (GET, 0),
        (POST.replace(b"/messages", b"/mail/messages"), len(POST) + 5),  # behind a proxy
        (POST.replace(b"/messages", b"/messages/x"), 0),
        (POST.replace(b"/messages", b"/messages?x=1"), 0),
        (POST.replace(b"Content-Length", b"content-length"), len(POST)),
        (POST.replace(b"Content-Length", b"X-Content-Length"), 0),
        (POST.replace(b"Host: t", b"Transfer-Encoding: chunked"), 0),
        (POST.replace(b"Host: t", b"Expect : 100-continue"), 0),
        (POST.replace(b"HTTP/1.1", b"HTTP/1.0"), 0),
        (post(b"x" * SMALL), 0),
    ],
)
def test_a_small_post_is_recognised(sent: bytes, size: int) -> None:
    assert size_of_small_post(sent, sent.index(b"\r\n\r\n") + 4) == size


def test_bytes_kept_are_counted() -> None:
    one: Any = incoming()
    one.take(HEAD + b"Content-Length: 100000\r\n\r\n" + b"x" * 50_000)
    assert one.held == 50_000
    one.take(b"x" * 50_000)
    assert one.held == 0
    one.take(GET[:10])
    assert one.held == 10
