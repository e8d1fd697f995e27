"""No address in an envelope can become a command."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailbbgun.smtp.content import EnvelopeError
from mailbbgun.smtp.envelope import path
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
