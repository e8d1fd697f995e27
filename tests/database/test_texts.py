"""Letters in any case: SQLite finds the same with our function as PostgreSQL."""

import re
import sys

import pytest

from mailbbgun.database.texts import cases_of, folded, has_folded
from mailbbgun.messages.search import part_as_regex


@pytest.mark.parametrize(
    ("text", "part", "found"),
    [
        ("ΟΔΟΣ", "οδος", True),
        ("οδος", "ΟΔΟΣ", True),
        ("Straße", "STRAẞE", True),
        ("Straße", "STRASSE", False),
        ("STRASSE", "straße", False),
        ("Ärger ß", "äRGER", True),
        ("Ärger", "arger", False),
        ("İstanbul ä", "İSTANBUL Ä", True),
        ("日本語", "本", True),
        ("Ⅷ", "ⅷ", True),
        ("aé.b", "É.", True),
        ("aéxb", "É.", False),
        ("\U00010400", "\U00010428", True),
    ],
)
def test_a_part_is_found_in_any_case_letter_for_letter(text, part, found):
    assert has_folded(text, folded(part)) == bool(re.search(part_as_regex(part), text)) == found


def test_all_cases_of_a_letter_fold_to_one_and_no_other_letter_has_cases():
    for one in map(chr, range(sys.maxunicode + 1)):
        fold = folded(one)
        assert len(fold) == 1
        if fold != one:
            assert one in cases_of(one)
            assert cases_of(one) == cases_of(fold)
            assert {folded(each) for each in cases_of(one)} == {fold}


def test_a_letter_that_full_folding_would_make_two_does_not_change_how_others_are_folded():
    for one in filter(str.isalpha, map(chr, range(0x20000))):
        assert folded(f"{one}ß")[:-1] == folded(one)
