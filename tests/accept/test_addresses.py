"""Addresses: one parser, linear, that agrees with itself in header and envelope."""

import re
from collections.abc import Callable
from email import message_from_bytes, policy
from email.utils import getaddresses

import pytest
from email_validator import EmailNotValidError, validate_email
from hypothesis import given
from hypothesis import strategies as st

from mailbbgun.accept.addresses import mailbox, mailboxes
from mailbbgun.messages.mime import Mailbox, compose
from tests.messages.test_mime import DATE
from tests.waiting import cpu_of, growth


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ann@example.com", [("", "ann@example.com")]),
        ("  ann@example.com ", [("", "ann@example.com")]),
        ("<ann@example.com>", [("", "ann@example.com")]),
        ("Ann <ann@example.com>", [("Ann", "ann@example.com")]),
        ("Ann Lee<ann@EXAMPLE.com>", [("Ann Lee", "ann@example.com")]),
        ("Ann.Lee@Example.COM", [("", "Ann.Lee@example.com")]),
        ('"Lee, Ann" <ann@example.com>', [("Lee, Ann", "ann@example.com")]),
        ('"Ann \\"the <cat>\\", Lee" <ann@example.com>', [('Ann "the <cat>", Lee', "ann@example.com")]),
        ("Ann (sales) <ann@example.com>", [("Ann (sales)", "ann@example.com")]),
        ("Änn 😀 <ann@bücher.example>", [("Änn 😀", "ann@xn--bcher-kva.example")]),
        ("jörg@BÜCHER.example", [("", "jörg@xn--bcher-kva.example")]),
        ('a@b.cd, "C, D" <e@f.gh>,I <j@k.lm>', [("", "a@b.cd"), ("C, D", "e@f.gh"), ("I", "j@k.lm")]),
        ("ann+tag@example.com", [("", "ann+tag@example.com")]),
        ("root@localhost", [("", "root@localhost")]),
    ],
)
def test_addresses_are_read_as_people_write_them(text, expected):
    found, wrong = mailboxes([text], 256)
    assert ([(box.name, box.address) for box in found], wrong) == (expected, [])


@pytest.mark.parametrize(
    "text",
    [
        "", " ", ",", "a@b.cd,", ",a@b.cd", "a", "@", "a@", "@b.cd", "a@@b.cd", "a@b..cd", ".a@b.cd", "a.@b.cd", "a b@c.de", "a@b.cd c@d.ef",
        "Ann a@b.cd",
        "a@b.cd <", "<a@b.cd", "a@b.cd>", "<<a@b.cd>>", "Ann <a@b.cd> x", '"Ann <a@b.cd>', 'Ann" <a@b.cd>', '"a"b" <a@b.cd>', "A <x@y.zz> <a@b.cd>",
        "a@[127.0.0.1]", "a@127.0.0.1", '"a b"@c.de', "a@b_c.de", "a@-b.de", "a\n@b.cd", "a@b.cd\r\nBcc: x@y.zz",
        "Ann\n <a@b.cd>", "a@b.cd\n", "<a@b.cd>\r\n", "\na@b.cd",
        "A\0 <a@b.cd>",
        "A\u2028 <a@b.cd>", "N" * 257 + " <a@b.cd>", "a" * 300 + "@b.cd", "a@" + "b" * 64 + ".cd", "a@b.cd;c@d.ef", "undisclosed-recipients:;",
        "a(comment)@b.cd",
        "alice@example.org]<bob@example.org>\\", "a@b.cd ORCPT=x", "a%00@b.cd\x00", "a@ex\u00adample\u200d.com",
    ],
)  # fmt: skip
def test_what_is_no_address_is_refused(text):
    _, wrong = mailboxes([text], 256)
    assert wrong
    assert all(sentence.isprintable() for sentence in wrong)


@given(
    st.text(max_size=60)
    | st.lists(st.sampled_from(["a@b.cd", "<", ">", '"', "\\", ",", " ", "Ann", "ü", "\r\n", "@", ".", "xn--"]), max_size=12).map("".join)
)
def test_an_address_taken_is_the_same_to_a_reader_of_the_header(text):
    try:
        box = mailbox(text, 256)
    except ValueError:
        return
    raw = compose(sender=Mailbox("", "x@y.zz"), to=[box], subject="", text="", message_id="<1@x>", date=DATE)
    if box.address.isascii():
        assert [address for _, address in getaddresses([message_from_bytes(raw, policy=policy.compat32)["To"].replace("\r\n", "")])] == [box.address]
    assert box.address.count("@") == 1
    assert not any(c in box.address for c in ' <>"\r\n\t,;()[]\\')


def test_hostile_lists_take_linear_time():
    shapes: list[Callable[[int], str]] = [
        lambda n: '"' * n + ",",
        lambda n: '"\\' * (n // 2) + ",",
        lambda n: "<" * n + ">",
        lambda n: " " * n + ",>",
        lambda n: '"' + "\\" * n + '" <a@b.cd>',
        lambda n: "a." * (n // 2) + "@b.cd",
    ]

    def cost(length: int) -> float:
        lists = [shape(length) for shape in shapes]
        return cpu_of(lambda: [mailboxes([text], 256) for text in lists])

    assert all(mailboxes([shape(50_000)], 256)[1] for shape in shapes)
    assert growth(cost, 20_000, 320_000) < 64  # 16, were it linear; 256, if each character looked at every other


LOCALS = st.from_regex(r"[a-zA-Z0-9.!#+_'-]{1,70}|[^@ ]{1,8}", fullmatch=True)
DOMAINS = st.from_regex(r"([a-zA-Z0-9-]{1,64}\.){0,5}[a-zA-Z0-9-]{1,12}|[^@ ]{1,8}", fullmatch=True)


@given(LOCALS, DOMAINS)
def test_an_address_is_what_the_library_says_of_the_whole_of_it(local, domain):
    text = f"{local}@{domain}"
    if any(special in text for special in ' <>,\t'):
        return  # a name or a list of addresses, which we split ourselves
    try:
        parsed = validate_email(text, check_deliverability=False, globally_deliverable=False)
        expected = None if re.fullmatch(r"\d+(\.\d+){3}", parsed.ascii_domain) else f"{parsed.local_part}@{parsed.ascii_domain}"
    except EmailNotValidError:
        expected = None
    try:
        found = mailbox(text, 1000).address
    except ValueError:
        found = None
    assert found == expected
