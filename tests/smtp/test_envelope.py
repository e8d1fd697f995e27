"""Nothing in an envelope or message can become a command or a second message."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailbbgun.smtp.envelope import EnvelopeError, content, path
from mailbbgun.smtp.outcome import Phase


@pytest.mark.parametrize(
    "address",
    [
        "a@b.test",
        "first.last+tag@sub.example.test",
        "o'brien@x.test",
        "a..b.@docomo.test",
        '"quoted"@x.test',
        '"a\\"b"@x.test',
        '"a@b"@x.test',
        "a@[192.0.2.1]",
        "a@[IPv6:2001:db8::1]",
        "a@localhost",
        "a@a_b.test",
        "a" * 70 + "@x.test",
    ],
)
def test_a_sound_address_passes_as_it_is(address: str) -> None:
    assert path(address, False, Phase.RCPT) == address.encode()


@pytest.mark.parametrize(
    "address",
    [
        "",
        "a",
        "@b.test",
        "a@",
        "a b@c.test",
        "a@b.test ",
        " a@b.test",
        "<a@b.test>",
        "a@b.test>",
        "a@b>\r\nRCPT TO:<e@x",
        "a@b.test\r\n",
        "a@b.test\n",
        "a@b.test\r",
        "a@b.test\0",
        "a@b.test> SIZE=1",
        "a@b.test NOTIFY=NEVER",
        "a@b\tc",
        '"a b"@c.test',
        '"a>b"@c.test',
        '"a\\>b"@c.test',
        '"a\\ b"@c.test',
        "a,b@c.test",
        "@a:b@c.test",
        "a@b@c.test",
        "a@[x]",
        "a@-b.test",
        "a@b-.test",
        "a@b..test",
        "a@b.test.",
        "a@\x7f.test",
        "x" * 250 + "@y.test",
    ],
)
@pytest.mark.parametrize("smtputf8", [False, True])
def test_an_address_that_is_no_address_is_bounced(address: str, smtputf8: bool) -> None:
    with pytest.raises(EnvelopeError) as caught:
        path(address, smtputf8, Phase.RCPT)
    assert caught.value.outcome.reply.enhanced == "5.1.3"


@pytest.mark.parametrize("address", ["j\u00fcrgen@x.test", "a@b\u00fccher.test", "\u7528\u6237@\u4f8b\u3048.test"])
def test_an_address_outside_ascii_needs_smtputf8(address: str) -> None:
    assert path(address, True, Phase.RCPT) == address.encode()
    with pytest.raises(EnvelopeError) as caught:
        path(address, False, Phase.RCPT)
    assert caught.value.outcome.reply.enhanced == "5.6.7"


@pytest.mark.parametrize("char", ["\u0085", "\u2028", "\u202e", "\u00a0", "\u200b", "\ud800", "\ufeff", "\u3000"])
def test_invisible_characters_do_not_pass_even_with_smtputf8(char: str) -> None:
    for address in (f"a{char}b@x.test", f"a@x{char}y.test"):
        with pytest.raises(EnvelopeError):
            path(address, True, Phase.RCPT)


def test_the_null_sender_is_an_address_and_the_null_recipient_is_not() -> None:
    assert path("", False, Phase.MAIL) == b""
    with pytest.raises(EnvelopeError):
        path("", False, Phase.RCPT)


@given(st.text() | st.from_regex(r"[\s\S]{0,5}a@b\.test[\s\S]{0,5}", fullmatch=True), st.booleans())
def test_no_address_that_passes_can_leave_its_brackets(address: str, smtputf8: bool) -> None:
    try:
        octets = path(address, smtputf8, Phase.RCPT)
    except EnvelopeError:
        return
    assert not re.search(rb"[\x00-\x20<>\x7f]", octets)


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
