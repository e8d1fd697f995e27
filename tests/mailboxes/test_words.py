"""The words of a text, as they are stored and searched for."""

import random

import pytest

from mailbbgun.mailboxes.words import LONGEST, MOST, searched, words_of


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", []),
        ("The cat, the CAT_flap!", ["the", "cat", "flap"]),
        ("Grüße GRÜSSE", ["grüsse"]),
        ("Ｆｕｌｌ ﾃｽﾄ", ["full", "テス", "スト", "ト"]),
        ("iPhoneを買う", ["iphone", "を買", "買う", "う"]),
        ("見", ["見"]),
        ("हिन्दी में।", ["हिन्दी", "में"]),
        ("for\u00adty", ["forty"]),
        ("'a' & \\b:*", ["a", "b"]),
        ("ἈΘΗΝΆ", ["ἀθηνά"]),
    ],
)
def test_words_have_one_case_and_one_form(text, words):
    assert words_of(text) == words


def test_what_is_searched_for_needs_no_end_of_a_pair():
    assert searched("見積書 No 7") == ["見積", "積書", "no", "7"]
    assert searched("見") == ["見"]


def test_words_are_bounded():
    assert words_of("x" * 1000) == ["x" * LONGEST]
    assert len(words_of(" ".join(map(str, range(2 * MOST))))) == MOST
    assert (
        len(words_of("".join(random.Random(1).choices([chr(one) for one in range(0x4E00, 0x9000)], k=50_000)))) == MOST
    )


def test_marks_without_end_cost_no_more_than_a_text_of_their_length():
    # NFKC sorts the marks behind a letter, which takes the square of their number.
    assert words_of("Ünder a" + "\u0300\u0316" * 200_000)[0] == "ünder"
    assert words_of("\u0316\u0300" * 200_000 + " é" + " e\u0301" * 1000)[-1] == "é"
