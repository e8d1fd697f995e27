"""Bytes of any kind are read: no error, bounded depth, number and size."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailbbgun.mime_reading.mail import PARTS
from mailbbgun.mime_reading.read import content, read

HTML = b"Content-Type: text/html\r\n\r\n"
MIXED = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n"


def nested(number):
    return b"".join(
        b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (one, one) for one in range(number)
    )


# Each of them costs minutes or gigabytes where a step grows with the square of the size.
@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(HTML + b"<div>" * 50_000, id="deep HTML"),
        pytest.param(HTML + b"".join(b"<p><font color=%d>" % one for one in range(10_000)), id="formatting"),
        pytest.param(HTML + b"<a " * 100_000, id="open tags"),
        pytest.param(HTML + b"&" * 500_000, id="ampersands"),
        pytest.param(HTML + b"<!--" * 200_000, id="open comments"),
        pytest.param(HTML + b"<a title=\"'" * 50_000, id="open quotes"),
        pytest.param(b"A: b\r\n" * 500_000, id="a million fields"),
        pytest.param(b"Subject: x" + b"\r\n x" * 1_000_000, id="folded"),
        pytest.param(b"To: " + b"(" * 90_000 + b"\r\nCc: " + b"=?a?q?" * 9_000, id="open addresses"),
        pytest.param(b"Content-Type: text/plain" + b";a=b" * 20_000, id="parameters"),
        pytest.param(b"Content-Type: text/plain; a=b" + b" " * 90_000 + b"c", id="blanks"),
        pytest.param(nested(10_000), id="deep parts"),
        pytest.param(MIXED + b"--b\r\n\r\n" * 500_000, id="many parts"),
        pytest.param(MIXED + b"--bx\r\n" * 500_000, id="almost parts"),
        pytest.param(b"Content-Type: text/plain; charset=punycode\r\n\r\n" + b"a-" * 500_000, id="punycode"),
        pytest.param(b"Content-Type: x/y\nContent-Transfer-Encoding: base64\n\n" + b"QQ==\n" * 500_000, id="padding"),
    ],
)
def test_hostile_mail_is_read_at_the_cost_of_its_size(raw):
    found = read(raw)
    assert len(found.attachments) <= PARTS
    assert len(found.headers) <= 1_000


def test_parts_that_are_nested_too_deep_are_one_file():
    found = read(nested(60))
    assert [one.content_type for one in found.attachments] == ["multipart/mixed"]
    assert "Parts are nested too deep: some are one attachment." in found.problems


def test_of_too_many_parts_the_last_has_the_rest():
    found = read(MIXED + b"--b\r\nContent-Type: x/y\r\n\r\nz\r\n" * 2_000)
    assert len(found.attachments) == PARTS - 1
    assert found.attachments[-1].size > 10_000


ATOMS = [
    b"\r\n",
    b"\n",
    b"\r",
    b" ",
    b"\t",
    b":",
    b";",
    b"=",
    b'"',
    b"--b",
    b"--",
    b"=?utf-8?q?",
    b"?=",
    b"=?gb18030?b?",
    b"<",
    b">",
    b"Content-Type: multipart/mixed; boundary=b\r\n",
    b"Content-Type: text/html; charset=",
    b"iso-2022-jp",
    b"utf-16",
    b"hz",
    b"Content-Disposition: attachment; filename*0*=utf-8''%ff",
    b"Content-Transfer-Encoding: base64\r\n",
    b"Subject: ",
    b"To: ",
    b"<table><td>",
    b"<b>",
    b"</b>",
    b"<!--",
    b"<script",
    b"&#x110000;",
    b"\xff\xfe",
    b"\xef\xbb\xbf",
    b"\x1b$B",
    b"\x00",
    b"(",
    b"Content-Type: message/rfc822\r\n\r\n",
    b"Date: Mon, 1 Jan 99999 99:99 +99999\r\n",
    b"\xd0\xb6",
    b"~{",
    b"+2AA-",
    b"a",
    b"%",
    b"Content-Type: text/plain; format=flowed; delsp=yes\r\n\r\n",
    b"multipart/alternative",
    b"multipart/related",
]


def assert_is_read(raw):
    found = read(raw)
    for one in found.attachments:
        assert content(raw, one.index).attachment == one
    texts = [found.subject, found.sender, *found.to, found.text or "", found.html_safe or "", *map(str, found.headers)]
    # What cannot be stored or sent as JSON would be found by the door, too late.
    "".join(texts).encode()
    assert "\x00" not in "".join(texts)


@settings(max_examples=100, deadline=None, database=None)
@given(st.one_of(st.binary(max_size=400), st.lists(st.sampled_from(ATOMS), max_size=60).map(b"".join)))
def test_any_bytes_are_read(raw):
    assert_is_read(raw)


@pytest.mark.long
def test_much_that_looks_like_mail_is_read():
    dice = random.Random(14)
    for _ in range(50_000):
        assert_is_read(b"".join(dice.choices(ATOMS, k=dice.randrange(120))))
