"""Nothing in a message can become a command or a second message."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailbbgun.smtp.content import EnvelopeError, content


@pytest.mark.parametrize(
    ("raw", "written"),
    [
        (b"", b""),
        (b"a\r\n", b"a\r\n"),
        (b"a", b"a\r\n"),
        (b".a\r\n", b"..a\r\n"),
        (b".\r\n", b"..\r\n"),
        (b"a\r\n.\r\nb\r\n", b"a\r\n..\r\nb\r\n"),
        (b"a\r\n.\r\n.\r\n..\r\n", b"a\r\n..\r\n..\r\n...\r\n"),
        (b"a" * 998 + b"\r\n" + b"b" * 998 + b"\r\n", b"a" * 998 + b"\r\n" + b"b" * 998 + b"\r\n"),
    ],
)
def test_a_message_is_dot_stuffed_and_ends_in_crlf(raw: bytes, written: bytes) -> None:
    assert content(raw) == written


# The eleven sequences of SMTP smuggling, and similar ones: for each there is a server that takes it
# for the end of the message.
SMUGGLING = [
    b"\n.\n",
    b"\n.\r\n",
    b"\r.\r\n",
    b"\r.\r",
    b"\n.\r",
    b"\r.\n",
    b"\r\n.\n",
    b"\r\n.\r",
    b"\r\n\0.\r\n",
    b"\r\n.\0\r\n",
    b"\r\r\n.\r\r\n",
    b"\n\n.\n\n",
    b"\r",
    b"\n",
    b"\0",
    b"\r\n\r",
    b"\n\r\n",
]


@pytest.mark.parametrize("sequence", SMUGGLING)
def test_a_message_that_could_smuggle_another_is_not_written(sequence: bytes) -> None:
    for raw in (b"S: a\r\n\r\nx" + sequence + b"MAIL FROM:<e@x>\r\n", sequence + b"x\r\n", b"x\r\n" + sequence):
        with pytest.raises(EnvelopeError) as caught:
            content(raw)
        assert caught.value.outcome.reply.enhanced == "5.6.0"


@pytest.mark.parametrize("raw", [b"a" * 999 + b"\r\n", b"x\r\n" * 700 + b"a" * 999, b"a" * 5000])
def test_a_line_longer_than_998_octets_is_not_written(raw: bytes) -> None:
    with pytest.raises(EnvelopeError):
        content(raw)


@given(st.lists(st.sampled_from([b"\r\n", b"\r", b"\n", b".", b"a", b"a" * 500, b"\0"])).map(b"".join))
def test_what_is_written_reads_back_as_what_was_given(raw: bytes) -> None:
    sound = not re.search(rb"\r(?!\n)|(?<!\r)\n|\0|[^\r\n]{999}", raw)
    try:
        written = content(raw)
    except EnvelopeError:
        assert not sound
        return
    assert sound
    assert b"\r\n.\r\n" not in b"\r\n" + written
    unstuffed = re.sub(rb"(?m)^\.", b"", written)
    assert unstuffed == raw + (b"" if raw.endswith(b"\r\n") or not raw else b"\r\n")
