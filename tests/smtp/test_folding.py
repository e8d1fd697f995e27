"""Encoded words and folding: every reader gets the text back, and no line or word is too long."""

import random
from email.header import decode_header

import pytest

from mailbbgun.smtp.folding import LINE, LONGEST_ENCODED_WORD, MOST_OCTETS, encoded_words, folded_lines, octets_beside

ALPHABETS = ("plain words ", "äöüß ÄÖ", "日本語テキスト", "😀é x", '"\\,;:<>()=? _', "\t ")


def texts(number: int) -> list[str]:
    """Return random texts of one alphabet or several; the same in each run."""
    dice = random.Random(2047)
    return ["".join(dice.choice(dice.choice(ALPHABETS)) for _ in range(dice.randrange(300))) for _ in range(number)]


def test_every_text_comes_back_from_its_encoded_words() -> None:
    for text in texts(500):
        for octets in (MOST_OCTETS, octets_beside("Subject"), octets_beside("X-" + "y" * 48)):
            words = list(encoded_words(text, octets))
            assert all(len(word) <= LONGEST_ENCODED_WORD for word in words)
            assert (
                "".join(part.decode(charset or "") for word in words for part, charset in decode_header(word)) == text
            )


@pytest.mark.parametrize(("name", "octets"), [("To", 45), ("Subject", 39), ("X-" + "y" * 48, 9), ("x" * 300, 9)])
def test_the_first_encoded_word_fits_beside_the_name(name: str, octets: int) -> None:
    assert octets_beside(name) == octets


def test_lines_are_as_long_as_they_may_be_and_unfolding_gives_the_words_back() -> None:
    for text in texts(500):
        words = text.split()
        lines = folded_lines("Name:", words)
        assert "".join(lines) == " ".join(["Name:", *words])
        for line, after in zip(lines, [*lines[1:], ""], strict=True):
            assert len(line) <= LINE or len(line.split()) == 1
            assert not after or len(line) + 1 + len(after.split()[0]) > LINE


@pytest.mark.parametrize(
    ("words", "lines"),
    [([], ["N:"]), (["a"], ["N: a"]), (["a" * 75], ["N: " + "a" * 75]), (["a" * 76], ["N:", " " + "a" * 76]),
     (["a" * 37, "b" * 37, "c"], ["N: " + "a" * 37 + " " + "b" * 37, " c"])],
)  # fmt: skip
def test_a_word_that_would_pass_column_78_begins_a_line(words: list[str], lines: list[str]) -> None:
    assert folded_lines("N:", words) == lines
