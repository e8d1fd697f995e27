"""Addresses: one parser, linear, that agrees with itself in header and envelope."""

import re
from email import message_from_bytes, policy
from email.utils import getaddresses

import pytest
from email_validator import EmailNotValidError, validate_email
from email_validator.rfc_constants import CASE_INSENSITIVE_MAILBOX_NAMES
from hypothesis import given, settings
from hypothesis import strategies as st

from mailbbgun.accept.address_lists import mailbox, mailboxes
from mailbbgun.composing.mime import Mailbox, compose
from mailbbgun.core.addresses import address, domain, mailbox_key
from tests.composing.test_mime import DATE
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
        ("a@b.cd,", [("", "a@b.cd")]),
        (" ,;a@b.cd,, e@f.gh ; ", [("", "a@b.cd"), ("", "e@f.gh")]),
        ('A <a@b.cd>; "B; C" <e@f.gh>', [("A", "a@b.cd"), ("B; C", "e@f.gh")]),
        ("Ann @ Work: (sales) <ann@example.com>", [("Ann @ Work: (sales)", "ann@example.com")]),
        ('"a..b"@docomo.ne.jp', [("", '"a..b"@docomo.ne.jp')]),
        ('Ann <"a..b"@DOCOMO.ne.jp>', [("Ann", '"a..b"@docomo.ne.jp')]),
        ('"ann"@example.com, "a\\n\\n.b"@example.com', [("", "ann@example.com"), ("", "ann.b@example.com")]),
        ('"a,b;c@d"@example.com, x@y.zz', [("", '"a,b;c@d"@example.com'), ("", "x@y.zz")]),
        ('"a\\"b\\\\c"@example.com', [("", '"a\\"b\\\\c"@example.com')]),
        ('"jörg"@example.com', [("", "jörg@example.com")]),
        ('"jörg..x"@example.com', [("", '"jörg..x"@example.com')]),
        ("jo\u0308rg@bu\u0308cher.example", [("", "jörg@xn--bcher-kva.example")]),
        ("", []),
        (" \t", []),
        (",", []),
        (" , ;, ", []),
    ],
)
def test_addresses_are_read_as_people_write_them(text, expected):
    found, wrong = mailboxes([text], 256)
    assert ([(box.name, box.address) for box in found], wrong) == (expected, [])


@pytest.mark.parametrize(
    "text",
    [
        "a", "@", "a@", "@b.cd", "a@@b.cd", "a@b..cd", ".a@b.cd", "a.@b.cd", "a b@c.de", "a@b.cd c@d.ef",
        "Ann a@b.cd",
        "a@b.cd <", "<a@b.cd", "a@b.cd>", "<<a@b.cd>>", "Ann <a@b.cd> x", '"Ann <a@b.cd>', 'Ann" <a@b.cd>',
        '"a"b" <a@b.cd>', "A <x@y.zz> <a@b.cd>",
        "a@[127.0.0.1]", "a@127.0.0.1", '"a b"@c.de', "a@b_c.de", "a@-b.de", "a\n@b.cd", "a@b.cd\r\nBcc: x@y.zz",
        "Ann\n <a@b.cd>", "a@b.cd\n", "<a@b.cd>\r\n", "\na@b.cd",
        "A\0 <a@b.cd>",
        "A\u2028 <a@b.cd>", "N" * 257 + " <a@b.cd>", "a" * 300 + "@b.cd", "a@" + "b" * 64 + ".cd",
        "undisclosed-recipients:;",
        '"a<b"@c.de', '""@b.cd', '"a@b.cd', '"a"b@c.de', 'a"b"@c.de', '"a\x07b"@c.de', "a\u3000b@c.de", "\u0308a@b.cd",
        "a@b.cd,\n", "a@\u0308b.cd",
        "a(comment)@b.cd",
        "alice@example.org]<bob@example.org>\\", "a@b.cd ORCPT=x", "a%00@b.cd\x00", "a@ex\u00adample\u200d.com",
    ],
)  # fmt: skip
def test_a_text_that_is_no_address_is_refused(text):
    _, wrong = mailboxes([text], 256)
    assert wrong
    assert all(sentence.isprintable() for sentence in wrong)


@given(
    st.text(max_size=60)
    | st.lists(
        st.sampled_from(["a@b.cd", "<", ">", '"', "\\", ",", " ", "Ann", "ü", "\r\n", "@", ".", "xn--"]), max_size=12
    ).map("".join)
)
def test_a_reader_of_the_header_sees_the_address_that_was_taken(text):
    try:
        box = mailbox(text, 256)
    except ValueError:
        return
    raw = compose(sender=Mailbox("", "x@y.zz"), to=[box], subject="", text="", message_id_header="<1@x>", date=DATE)
    if box.address.isascii():
        assert [
            address
            for _, address in getaddresses([message_from_bytes(raw, policy=policy.compat32)["To"].replace("\r\n", "")])
        ] == [box.address]
    local, _, domain = box.address.rpartition("@")
    assert not any(c in box.address for c in " <>\r\n\t\x0b")
    assert local.startswith('"') or not any(c in local for c in '@",;()[]\\')
    assert not any(c in domain for c in '@",;:()[]\\')


@pytest.mark.parametrize("text", [
    '"', '"\\', "<", ">", " ,", ", ;", "a.", "\\", '"a"<', 'a"', "a, ", "x, y <a@b.cd>,", "ü@", "a ", "漢@漢,", "-a",
], ids=repr)  # fmt: skip
def test_hostile_lists_take_linear_time(text):
    def cost(length: int) -> float:
        whole = (text * length)[:length]
        return cpu_of(lambda: [mailboxes([whole + ending], 256) for ending in ("", ",>", '" <a@b.cd>', "@b.cd")])

    assert growth(cost, 15_000, 120_000) < 32  # 8, were it linear; 64, if each character looked at every other


LOCALS = st.from_regex(r"[a-zA-Z0-9.!#+_'-]{1,70}|[^@ ]{1,8}", fullmatch=True)
DOMAINS = st.from_regex(r"([a-zA-Z0-9-]{1,64}\.){0,5}[a-zA-Z0-9-]{1,12}|[^@ ]{1,8}", fullmatch=True)
LETTERS = st.text(st.sampled_from("aZ19.-ß") | st.characters(categories=["L", "N", "M"]), min_size=1, max_size=8)


@given(LOCALS | LETTERS, DOMAINS | LETTERS | LETTERS.map(lambda text: f"{text}.xn--p1ai"))
@settings(max_examples=250, deadline=None)
def test_an_address_is_valid_if_the_library_says_so_of_all_of_it(local, domain):
    text = f"{local}@{domain}"
    if any(special in text for special in " <>,\t"):
        return  # a name or a list of addresses, which we split ourselves
    try:
        parsed = validate_email(text, check_deliverability=False, globally_deliverable=False, allow_quoted_local=True)
        expected = (
            None
            if re.fullmatch(r"\d+(\.\d+){3}", parsed.ascii_domain)
            else f"{parsed.local_part}@{parsed.ascii_domain}"
        )
    except (EmailNotValidError, UnicodeError):
        expected = None
    if expected is not None and parsed.local_part.lower() in CASE_INSENSITIVE_MAILBOX_NAMES:
        return  # of which the library changes the case
    try:
        found = mailbox(text, 1000).address
    except ValueError:
        found = None
    assert found == expected


@pytest.mark.parametrize(("text", "sentences"), [
    ("Lee, Ann <ann@x.com>", [
        "'Lee, Ann <ann@x.com>': Has a comma or semicolon outside quotes. If it is one address, "
        "put its display name in quotes: "
        '"Lee, Ann" <ann@x.com>; else \'Lee\' is no address.']),
    ("a@x.com, Lee; Ann, Dr. <ann@x.com>, b@x.com", [
        "'Lee, Ann, Dr. <ann@x.com>': Has a comma or semicolon outside quotes. If it is one address, "
        "put its display name in quotes: "
        '"Lee, Ann, Dr." <ann@x.com>; else \'Lee\' is no address.']),
    ('Ann "the cat" Lee <ann@x.com>', [
        """'Ann "the cat" Lee <ann@x.com>': Put the display name in quotes, and a backslash before each quote in it: """
        '"Ann \\"the cat\\" Lee" <ann@x.com>.']),
    ('"Ann <ann@x.com>', [
        """'"Ann <ann@x.com>': Put the display name in quotes, and a backslash before each quote in it: """
        '"Ann" <ann@x.com>.']),
    ("Ann Lee ann@x.com", [
        "'Ann Lee ann@x.com': Not a valid e-mail address: after a display name it stands in angle brackets: "
        "Ann Lee <ann@x.com>."]),
    ("Ann (sales) ann@x.com", [
        "'Ann (sales) ann@x.com': Not a valid e-mail address: after a display name it stands in angle brackets: "
        '"Ann (sales)" <ann@x.com>.']),
    ("a..b@docomo.ne.jp", [
        "'a..b@docomo.ne.jp': Not a valid e-mail address: a dot that is first, last or beside another "
        'needs quotes (RFC 5321 §4.1.2): "a..b"@docomo.ne.jp.']),
    ("ab.@docomo.ne.jp", [
        "'ab.@docomo.ne.jp': Not a valid e-mail address: a dot that is first, last or beside another "
        'needs quotes (RFC 5321 §4.1.2): "ab."@docomo.ne.jp.']),
    ("a(b)@c.de", [
        "'a(b)@c.de': Not a valid e-mail address: ( before the @-sign needs quotes (RFC 5321 §4.1.2): "
        '"a(b)"@c.de.']),
    ('"a b"@c.de', [
        """'"a b"@c.de': Not a valid e-mail address: " " is not taken before the @-sign, not even in quotes: """
        "not every server reads it so."]),
    ("ann＠example.com", ["'ann＠example.com': Not a valid e-mail address: its @-sign is a full-width one."]),
    ("a@b.cd x", [
        "'a@b.cd x': Not a valid e-mail address: The part after the @-sign contains invalid characters: SPACE."]),
    (f"{'x' * 250}@b.cd", [
        f"'{'x' * 59}…': Not a valid e-mail address: it has 255 octets, and 254 are the most "
        "(RFC 5321 §4.5.3.1.3)."]),
    ("undisclosed-recipients:;", [
        "'undisclosed-recipients:': Not an address: leave to out where all are cc or bcc; "
        "the header is written for you."]),
])  # fmt: skip
def test_a_sentence_says_what_is_wrong_with_which_address_and_what_would_be_right(text, sentences):
    assert mailboxes([text], 256)[1] == sentences


def test_what_an_error_says_would_be_right_is_taken():
    named = ("Lee, Ann <ann@x.com>", 'Ann "the cat" Lee <ann@x.com>', "Ann Lee ann@x.com", "Ann (sales) ann@x.com")
    for text in (*named, "a..b@docomo.ne.jp", "a(b)@c.de"):
        [sentence] = mailboxes([text], 256)[1]
        advice = re.sub(r"; else .*|\.$", "", sentence.rpartition(": ")[2])
        assert mailboxes([advice], 256)[1] == []


def test_addresses_beyond_the_most_are_not_looked_at():
    found, wrong = mailboxes(["a@b.cd," * 1000 + "wrong"], 256, 100)
    assert (len(found), wrong) == (101, [])


@pytest.mark.parametrize(("one", "other", "insensitive", "sensitive"), [
    ("Ann@EXAMPLE.com", "ann@example.com", True, False), ("ann@EXAMPLE.com", "ann@example.com", True, True),
    ("ann@b.cd", "ben@b.cd", False, False),
    ("JÖRG@bücher.example", "jörg@xn--BCHER-kva.example", True, False),
    ('"ann"@b.cd', "ann@b.cd", True, True), ('"A..b"@b.cd', '"a..b"@b.cd', True, False),
    ("straße@b.cd", "strasse@b.cd", False, False),
])  # fmt: skip
def test_addresses_are_of_one_mailbox_in_any_case_unless_local_parts_are_case_sensitive(
    one, other, insensitive, sensitive
):
    def same(case_sensitive: bool) -> bool:
        first, second = (mailbox_key(address(text), case_sensitive=case_sensitive) for text in (one, other))
        return first == second

    assert (same(False), same(True)) == (insensitive, sensitive)


@pytest.mark.parametrize(
    ("check", "part", "end"),
    [(address, "a.", "@b.cd"), (address, "a@b.", "é"), (domain, "é.", "é"), (domain, "a.", "")],
)
def test_an_address_of_megabytes_is_refused_as_fast_as_one_a_little_too_long(check, part, end):
    def cost(parts):
        def refused():
            with pytest.raises(ValueError, match=r"25[34] are the most"):
                check(part * parts + end)

        return cpu_of(refused)

    assert growth(cost, 300, 2_000_000, turns=3) < 100  # in linear time it was some thousands
