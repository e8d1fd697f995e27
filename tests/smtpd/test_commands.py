"""Command lines: what is parsed, and what is refused with which reply."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailbbgun.smtpd.conversation.commands import WrongCommand, helo_name, mail_path, split_line

TAKES = ("SIZE", "BODY", "SMTPUTF8", "AUTH")


@pytest.mark.parametrize(
    ("line", "parsed"),
    [
        (b"NOOP", ("NOOP", "")),
        (b"noop  now ", ("NOOP", "now")),
        (b"MAIL FROM:<a@b.test> SIZE=1", ("MAIL", "FROM:<a@b.test> SIZE=1")),
        ("RCPT TO:<jörg@b.test>".encode(), ("RCPT", "TO:<jörg@b.test>")),
    ],
)
def test_a_line_is_a_verb_and_an_argument(line, parsed):
    assert split_line(line) == parsed


@pytest.mark.parametrize(
    "line", [b"", b" NOOP", b"NO\rOP", b"NOOP\r", b"NOOP\n", b"NO\0OP", b"NOOP\x7f", b"\xff", b"A-B", b"X" * 21, b"1"]
)
def test_a_line_that_is_no_command_is_refused(line):
    with pytest.raises(WrongCommand) as caught:
        split_line(line)
    assert caught.value.reply.startswith("500 5.5.2 ")


@pytest.mark.parametrize(
    ("argument", "address", "parameters"),
    [
        ("FROM:<a@b.test>", "a@b.test", {}),
        ("from: <A@B.test> size=12 BODY=8bitmime", "A@b.test", {"SIZE": "12", "BODY": "8bitmime"}),
        ("FROM:<>", "", {}),
        ("FROM:<> AUTH=<>", "", {"AUTH": "<>"}),  # RFC 4954 §5
        ("FROM:<@r.test,@s.test:a@b.test>", "a@b.test", {}),
        ('FROM:<"a b"@b.test>', None, None),
        ('FROM:<"a>b"@b.test>', None, None),
        ('FROM:<"a..b"@b.test> SMTPUTF8', '"a..b"@b.test', {"SMTPUTF8": None}),
        ("FROM:<jörg@bücher.test> SMTPUTF8", "jörg@xn--bcher-kva.test", {"SMTPUTF8": None}),
        ("FROM:<jörg@b.test>", None, None),
        ("FROM <a@b.test>", None, None),
        ("TO:<a@b.test>", None, None),
        ("FROM:<a@b.test>,<c@d.test>", None, None),
        ("FROM:<a@b.test>SIZE=1", None, None),
        ("FROM:<a@b.test> SIZE=", None, None),
        ("FROM:<a@b.test> =1", None, None),
        ("FROM:<a@b.test> SIZE=1 size=2", None, None),
        ("FROM:<a@b.test> X=1", None, None),
        ("FROM:<postmaster>", None, None),
        ("FROM:<" + "@r.test," * 100 + "@s.test:a@b.test>", "a@b.test", {}),
        ("FROM:<" + "@r.test," * 200 + "@s.test:a@b.test>", None, None),
    ],
)
def test_the_argument_of_mail_is_a_path_and_parameters(argument, address, parameters):
    if address is None:
        with pytest.raises(WrongCommand) as caught:
            mail_path(argument, "FROM", TAKES, smtputf8=None)
        assert caught.value.reply[:3] in ("501", "553", "555")
    else:
        found = mail_path(argument, "FROM", TAKES, smtputf8=None)
        assert (found.address, found.parameters) == (address, parameters)


@pytest.mark.parametrize(
    ("argument", "address"),
    [("TO:<Postmaster>", "postmaster"), ("to:<a@b.test>", "a@b.test"), ("TO:<>", None), ("TO:<nouser>", None)],
)
def test_the_argument_of_rcpt_has_an_address(argument, address):
    if address is None:
        with pytest.raises(WrongCommand) as caught:
            mail_path(argument, "TO", (), smtputf8=True)
        assert caught.value.reply.startswith("553 5.1.3 ")
    else:
        assert mail_path(argument, "TO", (), smtputf8=True).address == address


@pytest.mark.parametrize("name", ["client.test", "[192.0.2.1]", "[IPv6:2001:db8::1]", "my_laptop", "x" * 255])
def test_clients_say_their_name(name):
    assert helo_name(name) == name


@pytest.mark.parametrize("name", ["", "a b", "a(b)", "a;b", "jörg", "x" * 256, "<a>"])
def test_what_would_not_stand_in_a_received_field_is_no_name(name):
    with pytest.raises(WrongCommand):
        helo_name(name)


@given(st.binary(max_size=200))
def test_any_line_is_parsed_or_refused(line):
    with suppress(WrongCommand):
        verb, argument = split_line(line)
        assert verb.isalpha()
        mail_path(argument, "FROM", TAKES, smtputf8=None)


@given(st.text(max_size=100), st.sampled_from(["FROM", "TO"]), st.booleans())
def test_any_path_is_parsed_or_refused(text, keyword, smtputf8):
    with suppress(WrongCommand):
        found = mail_path(f"{keyword}:<{text}>", keyword, TAKES, smtputf8=smtputf8)
        assert not any(one in found.address for one in "\r\n\0")
