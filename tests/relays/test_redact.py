"""A password is removed from a server's words, in whatever form the server writes it."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailbbgun.relays.redact import MARK, Redactor
from mailbbgun.smtp.reply import parse_reply

SECRET = "s3cr\u00e9t+/ pass'word\\"


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    "said",
    [
        SECRET,
        SECRET.upper(),
        f"<<{SECRET}>>",
        b64(SECRET),
        b64(SECRET).rstrip("="),
        base64.urlsafe_b64encode(SECRET.encode()).decode(),
        b64(f"\0user\0{SECRET}"),
        b64(f"\0another user\0{SECRET}"),
        b64(f"x{SECRET}y"),
        " ".join(b64(SECRET)),
        SECRET.encode().hex(),
        "s3cr%C3%A9t%2B%2F%20pass%27word%5C",
        repr(SECRET),
        repr(SECRET + '"'),
    ],
)
def test_a_form_of_the_secret_is_replaced_and_the_rest_stays(said: str) -> None:
    shown = Redactor(SECRET)(f"denied: {said} (try again)")
    assert MARK in shown
    assert shown.startswith("denied: ")
    assert shown.endswith(" (try again)")
    assert not [
        form
        for form in (SECRET, SECRET.upper(), b64(SECRET)[:8], SECRET.encode().hex())
        if form in shown.replace(" ", "")
    ]


def test_a_secret_spread_over_the_lines_of_a_reply_is_found() -> None:
    line = b64("\0user\0correct horse")
    lines = [f"535-5.7.8 {line[:9]}".encode(), f"535-5.7.8 {line[9:15]}".encode(), f"535 5.7.8 {line[15:]}".encode()]
    assert MARK in Redactor("correct horse")(parse_reply(535, lines).text)


def test_what_was_sent_is_found_where_the_secret_alone_is_too_short() -> None:
    sent = b64("\0user\0p").rstrip("=")
    assert Redactor("p", sent)(f"no: {sent}==") == f"no: {MARK}=="


def test_no_secret_is_in_no_text() -> None:
    assert Redactor("")("535 5.7.8 no") == "535 5.7.8 no"
    assert Redactor(" ")("a b") == "a b"


@given(st.text(min_size=1), st.text(), st.text())
def test_whatever_the_secret_it_is_not_in_the_text_any_more(secret: str, before: str, after: str) -> None:
    if secret.isspace() or secret.casefold() in MARK:
        return
    shown = Redactor(secret)(f"{before}{secret}{after}")
    # The text on both sides of a mark may form a short secret anew.
    assert shown.count(secret) <= shown.count(MARK)


CHARACTERS = st.characters(codec="utf-8")  # no lone surrogates: they have no octets


@given(st.text(CHARACTERS, min_size=3), st.text(CHARACTERS, max_size=4), st.text(CHARACTERS, max_size=4))
def test_base64_around_a_secret_is_found_at_every_place(secret: str, before: str, after: str) -> None:
    assert MARK in Redactor(secret)(b64(before + secret + after))
