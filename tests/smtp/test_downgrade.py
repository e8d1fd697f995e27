"""A header outside ASCII is rewritten for a server without SMTPUTF8."""

from email import message_from_bytes, policy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailbbgun.smtp.adapting.downgrade import downgraded
from mailbbgun.smtp.content import EnvelopeError

BODY = b"MIME-Version: 1.0\r\n\r\ntext\r\n"


def header(text: str) -> bytes:
    return downgraded(text.encode() + BODY)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("To: üser@example.com", "To: =?utf-8?b?w7xzZXJAZXhhbXBsZS5jb20=?= :;"),
        ("To: ann@example.com, üser@example.com", "To: ann@example.com, =?utf-8?b?w7xzZXJAZXhhbXBsZS5jb20=?= :;"),
        (
            'Cc: "Lee, Ann" <ann@example.com>,\r\n Üser <üser@example.com>',
            'Cc: "Lee, Ann" <ann@example.com>, =?utf-8?b?w5xzZXIg?=\r\n =?utf-8?b?w7xzZXJAZXhhbXBsZS5jb20=?= :;',
        ),
        ("Reply-To: Team <üser@example.com>", "Reply-To: Team =?utf-8?b?w7xzZXJAZXhhbXBsZS5jb20=?= :;"),
        (
            "To: =?utf-8?b?w5w=?= <ann@example.com>, ü@a.b",
            "To: =?utf-8?b?w5w=?= <ann@example.com>, =?utf-8?b?w7xAYS5i?= :;",
        ),
        ('To: "Ü, b" <ann@example.com>', "To: =?utf-8?b?w5wsIGI=?= <ann@example.com>"),
        ('To: "ü a"@example.com', "To: =?utf-8?b?IsO8IGEiQGV4YW1wbGUuY29t?= :;"),
        ("From: Ü <ann@example.com>", "From: =?utf-8?b?w5w=?= <ann@example.com>"),
        ("Subject: Grüße", "Subject: =?utf-8?b?R3LDvMOfZQ==?="),
        ("References: <ü@example.com>", "Downgraded-References: =?utf-8?b?PMO8QGV4YW1wbGUuY29tPg==?="),
    ],
)
def test_each_field_is_downgraded_as_its_kind_wants(before: str, after: str) -> None:
    assert header(before + "\r\nX: a\r\n b\r\n") == (after + "\r\nX: a\r\n b\r\n").encode() + BODY


@pytest.mark.parametrize("field", ["From: üser@example.com", "From: Ann <üser@example.com>", "Sender: ü@a.b"])
def test_an_authors_address_cannot_be_downgraded(field: str) -> None:
    with pytest.raises(EnvelopeError) as caught:
        header(f"{field}\r\nTo: ann@example.com\r\n")
    assert caught.value.outcome.reply.enhanced == "5.6.7"


def test_a_header_in_ascii_is_left_as_it_is_whatever_the_body() -> None:
    raw = "To: a@b.c\r\n\r\nTo: üser@example.com\r\n".encode()
    assert downgraded(raw) is raw


INTERNATIONAL = st.text(
    st.characters(min_codepoint=0xA1, max_codepoint=0xFFFD, categories=["L", "N"]), min_size=1, max_size=60
)


@given(st.lists(INTERNATIONAL, min_size=1, max_size=9))
def test_what_comes_out_is_ascii_in_short_lines_that_a_reader_decodes_and_always_the_same(locals_: list[str]) -> None:
    raw = f"To: {', '.join(f'ann@a.test, {one}@b.test' for one in locals_)}\r\nSubject: x\r\n".encode() + BODY
    first = downgraded(raw)
    assert first.isascii()
    assert max(map(len, first.split(b"\r\n"))) <= 78
    assert first == downgraded(raw) == downgraded(first)
    parsed = message_from_bytes(first, policy=policy.default)
    groups = [group for group in parsed["To"].groups if group.display_name]
    # Python's parser keeps the blanks between encoded words, which RFC 2047 §6.2 tells it to drop.
    assert [group.display_name.replace(" ", "") for group in groups] == [f"{one}@b.test" for one in locals_]
    assert [address.addr_spec for address in parsed["To"].addresses] == ["ann@a.test"] * len(locals_)
    assert parsed["Subject"] == "x"
