"""What a mail may be searched for: bounded, whatever its bytes are."""

import pytest

from mailbbgun.mime_reading.mail import SEARCHED_BYTES
from mailbbgun.mime_reading.read import searchable
from mailbbgun.mime_reading.safe_html import plain


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("<p>One</p><p>two</p>", " One  two "),
        ("in<b>voice</b> &amp; <SPAN class='a'>more</SPAN>", "invoice & more"),
        ("<style>p {}</style>a<script>b < c</script>d", "ad"),
        ("a<!-- hidden -->b", "a b"),
        ("a < b", "a < b"),
        ("<script>never closed", ""),
        ("", ""),
    ],
)
def test_html_becomes_text(html, text):
    assert plain(html) == text


def test_text_html_names_and_correspondents_can_be_searched_and_files_cannot():
    raw = (
        b"From: Ann <a@a.test>\r\nCc: =?utf-8?b?w4lyaWM=?= <e@a.test>\r\nSubject: =?utf-8?q?caf=C3=A9?=\r\n"
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n"
        b"--b\r\nContent-Type: multipart/alternative; boundary=c\r\n\r\n"
        b"--c\r\n\r\nplainword\r\n--c\r\nContent-Type: text/html\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"
        b"<td>html=\r\nword</td>\r\n--c--\r\n--b\r\nContent-Type: text/csv\r\n"
        b"Content-Disposition: attachment; filename=list.csv\r\n\r\nsecretword\r\n--b--\r\n"
    )
    found = searchable(raw)
    assert {"a@a.test", "Éric", "café", "plainword", "htmlword", "list.csv"} <= {
        one.strip("<>") for one in found.split()
    }
    assert "secretword" not in found


@pytest.mark.parametrize("body", [b"x " * 5_000_000, b"=C3=A9 " * 1_000_000, b"<" * 1_000_000, b"&" * 1_000_000])
@pytest.mark.parametrize("kind", ["plain", "html"])
def test_only_the_beginning_of_a_text_is_read(kind, body):
    head = f"Content-Type: text/{kind}; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"
    assert len(searchable(head.encode() + body)) <= 2 * SEARCHED_BYTES


@pytest.mark.parametrize(
    "raw", [b"", b"\x00\xff", b"Content-Type: multipart/mixed\r\n\r\n", b"Subject: \xff\r\n\r\n\xff"]
)
def test_bytes_that_are_no_mail_are_no_error(raw):
    assert isinstance(searchable(raw), str)
