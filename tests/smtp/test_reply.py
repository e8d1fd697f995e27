"""Replies are read within bounds and kept as safe text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailbbgun.smtp.reply import (
    MAX_LINE,
    MAX_LINES,
    MAX_REPLY,
    MAX_TEXT,
    ProtocolError,
    Reply,
    ReplyBuffer,
    parse_reply,
    safe,
)


def feed(buffer: ReplyBuffer, octets: bytes, step: int = 1 << 20) -> list[Reply]:
    replies = []
    while octets:
        part, octets = octets[:step], octets[step:]
        buffer.add(part)
        while taken := buffer.take():
            replies.append(parse_reply(*taken))
    return replies


def only(octets: bytes) -> Reply:
    (reply,) = feed(ReplyBuffer(), octets)
    return reply


@pytest.mark.parametrize(
    ("octets", "reply"),
    [
        (b"250 2.1.0 Ok\r\n", Reply(250, "2.1.0", "Ok")),
        (b"250 OK\r\n", Reply(250, None, "OK")),
        (b"250\r\n", Reply(250, None, "")),
        (b"250 \r\n", Reply(250, None, "")),
        (b"250 ok\n", Reply(250, None, "ok")),
        (b"550-5.1.1 no such\r\n550 5.1.1 user\r\n", Reply(550, "5.1.1", "no such user")),
        (b"550-first\r\n550 second\r\n", Reply(550, None, "first second")),
        (
            b"550 sorry, no mailbox here (#5.1.1 - chkusr)\r\n",
            Reply(550, "5.1.1", "sorry, no mailbox here (#5.1.1 - chkusr)"),
        ),
        (b"550 5.1.1.4 odd\r\n", Reply(550, None, "5.1.1.4 odd")),
        (b"550 5.7.509 DMARC\r\n", Reply(550, "5.7.509", "DMARC")),
        (b"550 5.1.1\r\n", Reply(550, "5.1.1", "")),
        ("550 f\u00fcr\r\n".encode(), Reply(550, None, "f\u00fcr")),
        (b"550 \xff\xfe\r\n", Reply(550, None, "\ufffd\ufffd")),
        (b"550 \x1b[31mred\x07\x00\r\n", Reply(550, None, "\ufffd[31mred\ufffd\ufffd")),
        ("550 a\u202eb\u2066c\u200fd\r\n".encode(), Reply(550, None, "a\ufffdb\ufffdc\ufffdd")),
        (b"550 a\rb\tc\r\n", Reply(550, None, "a b c")),
    ],
)
def test_a_reply_is_understood(octets: bytes, reply: Reply) -> None:
    assert only(octets) == reply


@pytest.mark.parametrize("step", [1, 2, 7, 4096])
def test_replies_may_arrive_in_any_pieces_and_several_at_once(step: int) -> None:
    octets = b"250 one\r\n550-two\r\n550 2\r\n354 three\r\n" * 500
    replies = feed(ReplyBuffer(), octets, step)
    assert [reply.code for reply in replies] == [250, 550, 354] * 500


@pytest.mark.parametrize(
    "octets",
    [
        b"\r\n",
        b"25\r\n",
        b"abc hello\r\n",
        b"2500 ok\r\n",
        b"250\tok\r\n",
        b"150 x\r\n",
        b"650 x\r\n",
        b"-50 x\r\n",
        b"250-a\r\n550 b\r\n",
        b"250-a\r\nHTTP/1.1\r\n",
        b"HTTP/1.1 400 Bad Request\r\n",
        b"-ERR unknown\r\n",
        "\u0662\u0665\u0660 ok\r\n".encode(),
    ],
)
def test_what_is_no_reply_is_a_protocol_error(octets: bytes) -> None:
    with pytest.raises(ProtocolError):
        feed(ReplyBuffer(), octets)


@pytest.mark.parametrize(
    "octets",
    [b"250 " + b"a" * 2 * MAX_LINE, b"250-a\r\n" * (MAX_LINES + 1), (b"250-" + b"a" * 4000 + b"\r\n") * 17],
    ids=["a long line", "many lines", "many octets"],
)
def test_a_reply_beyond_the_bounds_is_a_protocol_error(octets: bytes) -> None:
    with pytest.raises(ProtocolError):
        feed(ReplyBuffer(), octets)


def test_a_reply_at_the_bounds_is_understood_and_its_text_cut() -> None:
    line = b"550-" + b"a" * 500 + b"\r\n"
    octets = line * (MAX_LINES - 1) + b"550 end\r\n"
    assert len(octets) < MAX_REPLY
    assert only(octets).text == ("a" * 500 + " ") * 4 + "a" * (MAX_TEXT - 4 * 501)


@given(st.binary(max_size=300), st.integers(1, 50))
def test_any_octets_give_replies_or_a_protocol_error_whatever_the_pieces(octets: bytes, step: int) -> None:
    def outcome(size: int) -> list[Reply] | None:
        try:
            return feed(ReplyBuffer(), octets, size)
        except ProtocolError as error:
            return None if str(error).isprintable() else []

    assert outcome(step) == outcome(1 << 20)


@given(st.text())
def test_safe_text_is_printable_and_at_most_two_kilobytes(text: str) -> None:
    assert safe(text).isprintable()
    assert len(safe(text * 100).encode()) <= MAX_TEXT


def test_a_reply_reads_as_the_server_said_it() -> None:
    assert str(Reply(550, "5.1.1", "no such user")) == "550 5.1.1 no such user"
    assert str(Reply(0, "4.4.1", "refused")) == "4.4.1 refused"
