"""Bytes of attackers: each is read within bounds, and none raises."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailbbgun.bounces import delivery_status, mime
from mailbbgun.bounces.classify import LONGEST, classify_reply
from mailbbgun.bounces.patterns import PATTERNS
from mailbbgun.bounces.read import LONGEST_REASON, LONGEST_TEXT, read
from tests.bounces.letters import dsn, notice

HEAD = b"From: MAILER-DAEMON@x\nSubject: failure notice\n"
MIXED = b"Content-Type: multipart/mixed; boundary=b"

HOSTILE = {
    "50 MB of one letter": b"a" * 50_000_000,
    "50 MB of at signs": b"a@" * 25_000_000,
    "50 MB of line ends": b"\n" * 50_000_000,
    "a million header fields": b"".join(b"X-%d: a\n" % number for number in range(1_000_000)),
    "a field of a million lines": b"To: a@b.c\n" + b" x\n" * 1_000_000,
    "20,000 levels": b"".join(
        b"Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n" % (n, n) for n in range(20_000)
    ),
    "20,000 levels of one boundary": (MIXED + b"\n\n--b\n") * 20_000,
    "20,000 mails in mails": b"Content-Type: message/rfc822\n\n" * 20_000,
    "100,000 parts": MIXED + b"\n\n" + b"--b\n\nx\n" * 100_000,
    "100,000 parameters": MIXED + b"; a=b" * 100_000 + b"\n\nx",
    "a header of brackets": HEAD + b"To: " + b"<" * 500_000 + b"\n\nx",
    "tags that never end": HEAD + b"Content-Type: text/html\n\n" + b"<a" * 250_000,
    "styles that never end": HEAD + b"Content-Type: text/html\n\n" + b"<style" * 80_000,
    "headers without end": HEAD + b"\n" + b"with the following header fields\nReceived: from a\n\n" * 10_000,
    "addresses without end": HEAD + b"\n" + b"a@" * 250_000,
    "20,000 failed addresses": HEAD + b"\n" + b"".join(b"<u%d@example.com>: failed\n" % n for n in range(20_000)),
    "one word": HEAD + b"\n<a@b.c>: " + b"user unknown " * 40_000,
    "json of brackets": HEAD + b'\n{"notificationType":' + b"[" * 60_000,
    "64 attached mails of 64 parts": MIXED
    + b"\n\n"
    + (b"--b\nContent-Type: message/rfc822\n\nFrom: postmaster\n" + MIXED + b"2\n\n" + b"--b2\n\nx\n" * 64) * 64,
    "a mail forwarded 20,000 times": b"Subject: Fwd: x\n\n"
    + b"---- Forwarded message ----\nFrom: postmaster\n\n" * 20_000,
    "names without a domain": HEAD + b"\nthe following users failed:\n" + b"a\n" * 100_000,
    "an unknown charset": HEAD + b"Content-Type: text/plain; charset=zlib\n\nabc",
    "a charset with a NUL": HEAD + b'Content-Type: text/plain; charset="a\0b"\n\nabc\xff',
    "encoded words of nothing": b"Subject: " + b"=?utf-8?q?a?= " * 10_000 + b"\n\n",
    "an encoded word of no charset": b"From: mailer-daemon\nSubject: =?ut\xff-8?q?a?=\n\nx",
    "nothing": b"",
}


@pytest.mark.parametrize("raw", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_bytes_are_read_within_bounds(raw):
    told = read(raw)
    assert len(told.recipients) <= delivery_status.MOST_RECIPIENTS
    assert len(told.text) <= LONGEST_TEXT
    assert all(len(one.text) <= LONGEST_REASON and len(one.address) <= 320 for one in told.recipients)


def test_a_report_of_20_000_recipients_names_the_first():
    blocks = "".join(
        f"Final-Recipient: rfc822; u{n}@example.com\nAction: failed\nStatus: 5.1.1\n\n" for n in range(20_000)
    )
    raw = dsn().replace(b"Final-Recipient", blocks.encode() + b"Final-Recipient")
    assert len(read(raw).recipients) == delivery_status.MOST_RECIPIENTS


def test_what_stands_behind_the_bound_is_not_read():
    raw = notice("<ann@example.net>: 550 user unknown\n\n") + b"x" * mime.MOST_BYTES + b"\n<ben@example.net>: failed"
    assert [one.address for one in read(raw).recipients] == ["ann@example.net"]


def test_no_control_character_or_surrogate_gets_out():
    raw = dsn(said="smtp; 550 a\0b\x1b[31m", Final_Recipient=r"utf-8; a\x{D800}@example.net")
    told = read(raw)
    shown = told.text + "".join(one.address + one.text for one in told.recipients)
    assert shown.encode()
    assert all(one.isprintable() or one in "\n\t" for one in shown)


WORDS = [
    "mailbox ",
    "user ",
    "account",
    "address ",
    "exceed ",
    "a.",
    "the ",
    "is was ",
    "(",
    "unable to deliver ",
    "name",
]


@pytest.mark.parametrize("word", WORDS)
def test_no_reply_makes_a_pattern_slow(word):
    classify_reply(550, None, word * 2_000)
    classify_reply(550, None, (word * LONGEST)[: LONGEST - 1] + "!")
    assert len(PATTERNS) > 20


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=600), st.integers(0, 900), st.integers(0, 300))
def test_damaged_reports_never_raise(noise, at, cut):
    for raw in (dsn(), notice("<ann@example.net>: 550 user unknown")):
        told = read(raw[:at] + noise + raw[at + cut :])
        (told.text + "".join(one.address + one.text for one in told.recipients)).encode()
