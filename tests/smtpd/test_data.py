"""The message after DATA: where it ends, however it comes."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailbbgun.smtpd.conversation.data import MessageReader, is_bare, normalised


def read(*chunks, most=1000):
    """Return the content of a message that comes in chunks, and what is left; None while it has no end."""
    reader = MessageReader(most)
    for n, chunk in enumerate(chunks):
        if (rest := reader.feed(chunk)) is not None:
            return reader.content(), rest + b"".join(chunks[n + 1 :])
    return None


@pytest.mark.parametrize(
    ("sent", "content"),
    [
        (b".\r\n", b""),
        (b"\r\n.\r\n", b"\r\n"),
        (b"a\r\n.\r\n", b"a\r\n"),
        (b"..\r\n.\r\n", b".\r\n"),
        (b".a\r\n..b\r\n...\r\n.\r\n", b"a\r\n.b\r\n..\r\n"),
        (b"a\n.\r\nb\r\n.\r\n", b"a\n.\r\nb\r\n"),
        (b"a\r.\r\nb\r\n.\r\n", b"a\r.\r\nb\r\n"),
        (b"a\n.\nb\r\n.\r\n", b"a\n.\nb\r\n"),
        (b"a\r\n.\nb\r\n.\r\n", b"a\r\n\nb\r\n"),
        (b"a\r\n.\rb\r\n.\r\n", b"a\r\n\rb\r\n"),
        (b"a\r\n\0.\r\n\r\n.\r\n", b"a\r\n\0.\r\n\r\n"),
    ],
)
def test_only_crlf_dot_crlf_ends_a_message_wherever_it_is_cut(sent, content):
    for cut in range(len(sent) + 1):
        assert read(sent[:cut], sent[cut:], b"QUIT\r\n") == (content, b"QUIT\r\n")
    assert read(*(sent[n : n + 1] for n in range(len(sent))), b"QUIT\r\n") == (content, b"QUIT\r\n")


def test_a_message_may_have_its_most_octets_and_not_one_more():
    for n, fits in ((998, True), (999, False), (20_000, False)):
        content, rest = read(b"x" * n + b"\r\n.\r\nNOOP\r\n")
        assert (content is not None, rest) == (fits, b"NOOP\r\n")


def test_a_message_without_an_end_takes_a_bounded_amount_of_memory():
    reader = MessageReader(1000)
    for _ in range(1000):
        assert reader.feed(b"x" * 1000) is None
        assert reader.kept < 3000
    assert reader.feed(b"\r\n.\r") is None
    assert reader.feed(b"\nNOOP") == b"NOOP"
    assert reader.content() is None


@pytest.mark.parametrize(
    ("content", "bare", "made"),
    [
        (b"", False, b""),
        (b"a\r\n\r\n", False, b"a\r\n\r\n"),
        (b"a\nb\r\n", True, b"a\r\nb\r\n"),
        (b"a\rb\r\n", True, b"a\r\nb\r\n"),
        (b"a\r\r\nb", True, b"a\r\n\r\nb"),
        (b"a\n\rb", True, b"a\r\n\r\nb"),
        (b"a\r\n\n", True, b"a\r\n\r\n"),
        (b"a\0\r\n", True, b"a\r\n"),
        (b"\r\0\n", True, b"\r\n"),
    ],
)
def test_bare_line_ends_are_found_and_normalised(content, bare, made):
    assert is_bare(content) is bare
    assert normalised(content) == made
    assert not is_bare(normalised(content))


@given(st.lists(st.sampled_from([b"\r", b"\n", b".", b"a", b"\0", b"\r\n.\r\n"]), max_size=30), st.integers(1, 7))
def test_a_message_ends_where_a_regular_expression_finds_its_end(parts, size):
    sent = b"".join(parts)
    chunks = [sent[n : n + size] for n in range(0, len(sent), size)]
    end = re.search(rb"(?:^|\r\n)\.\r\n", sent)
    if end is None:
        assert read(*chunks) is None
    else:
        content, rest = read(*chunks)
        assert rest == sent[end.end() :]
        lines = sent[: end.end() - 3].split(b"\r\n")
        assert content == b"\r\n".join(line[1:] if line.startswith(b".") else line for line in lines)
