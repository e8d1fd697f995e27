"""Bodies: for every text the bytes of the standard library, and a boundary that no part contains."""

from email import message_from_bytes, policy
from email.message import EmailMessage

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mailbbgun.composing import body as bodies
from mailbbgun.composing.body import body, encoded

POLICY = policy.SMTP.clone(cte_type="7bit", max_line_length=76)
BOUNDARY = "=_0123456789abcdef01234567"

atoms = st.sampled_from(
    [
        *"aä日😀=.\t \n\r\x0b\x0c\x1c\x1e\x7f\x01\x85\u2028\u2029\ufeff",
        "word ", "\r\n", "\n\n", " \n", "\t\r\n", "\n.", "\n.\n", "From ", "\nFrom ", "e\u0301",
        "=20", "=2E", "=\n", "=3D", "Grüße ", "日本語のメール。", '<a href="x">',
        "--" + BOUNDARY, "x" * 73, "x" * 75, "x" * 76, "x" * 77, "y" * 300, "ü" * 40,
    ]
)  # fmt: skip
texts = (
    st.lists(atoms, max_size=60).map("".join)
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=300)
    | st.builds(lambda text, times: text * times, st.lists(atoms, max_size=6).map("".join), st.integers(1, 60))
)


def by_the_library(text: str | None, html: str | None, boundary: str = BOUNDARY) -> bytes:
    message = EmailMessage(policy=POLICY)
    if text is not None:
        message.set_content(normal(text))
    if html is not None and text is not None:
        message.add_alternative(normal(html), subtype="html")
        message.set_boundary(boundary)
    elif html is not None:
        message.set_content(normal(html), subtype="html")
    return bytes(message)


def normal(text: str) -> str:
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return text if text.endswith("\n") else text + "\n"


@given(texts, texts)
@example("", "")
@example("a\r\rb\n\n", "." * 80)
@example("x" * 76 + " ", "x" * 75 + "\t\n")
@example("Grüße\n" * 30, "日本\n" * 30)
@example("ascii line\n" * 12 + "ü" * 100, "ü" * 100 + "\nascii line" * 12)
@settings(max_examples=200, deadline=None)
def test_a_body_is_byte_for_byte_that_of_the_library(text: str, html: str) -> None:
    assert body(text, None) == by_the_library(text, None)
    assert body(None, html) == by_the_library(None, html)
    assert body(text, html, BOUNDARY) == by_the_library(text, html)


@given(st.lists(st.sampled_from([*"ab=ü \t.\n", "ab " * 12]), max_size=300).map("".join), st.integers(0, 80))
@settings(max_examples=120, deadline=None)
def test_soft_line_breaks_are_where_the_library_has_them(text: str, before: int) -> None:
    assert body("x" * before + text, None) == by_the_library("x" * before + text, None)


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("short lines\n" * 50, b"7bit"), ("x" * 76, b"7bit"), ("x" * 77, b"quoted-printable"),
        ("Grüße aus Köln und viele Wörter", b"quoted-printable"),
        ("日本語", b"base64"), ("<p>" + "word " * 2000, b"quoted-printable"), ("\x0cform feed", b"7bit"),
    ],
)  # fmt: skip
def test_the_encoding_is_the_shorter_one(text: str, encoding: bytes) -> None:
    assert encoded(text)[0] == encoding


def test_a_boundary_that_a_part_contains_is_made_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    made = iter([b"\1" * 12, b"\2" * 12, b"\3" * 12])
    monkeypatch.setattr(bodies.os, "urandom", lambda size: next(made))
    raw = body("text --=_" + "01" * 12 + "\n", "html =_" + "02" * 12)
    parsed = message_from_bytes(raw, policy=policy.default)
    assert parsed.get_boundary() == "=_" + "03" * 12
    contents = [part.get_content().strip() for part in parsed.iter_parts()]
    assert contents == ["text --=_" + "01" * 12, "html =_" + "02" * 12]


def test_each_message_has_a_boundary_of_its_own() -> None:
    assert len({message_from_bytes(body("a", "b")).get_boundary() for _ in range(20)}) == 20
