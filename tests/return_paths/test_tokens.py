"""Signed tokens: each names what it was made for, in any case of letters, and no other text is one."""

from random import Random
from string import ascii_letters, digits
from uuid import UUID

import pytest

from mailbbgun.return_paths.tokens import DAYS_PER_KEY, LENGTH, SignedPath, path_of, token_of

KEY = b"k" * 43
PATH = SignedPath(20_786, UUID("01890a5d-ac96-774b-bcce-b302099a8057"))


def by_key(_path):
    return KEY


@pytest.mark.parametrize("path", [PATH, SignedPath(0, UUID(int=0)), SignedPath(65_535, UUID(int=2**128 - 1))])
def test_a_token_says_what_it_was_made_of_in_any_case_of_letters(path):
    token = token_of(KEY, path)
    assert [path_of(by_key, one) for one in (token, token.upper(), token.title())] == [path] * 3
    assert len(token) == LENGTH
    assert token.islower()
    assert token.isalnum()


def test_the_local_part_and_the_longest_domain_make_an_address_that_servers_take():
    assert len("b+") + LENGTH <= 64  # RFC 5321 §4.5.3.1.1
    assert len("b+") + LENGTH + 1 + 200 <= 254


def test_none_of_ten_thousand_mutated_tokens_works():
    token, dice, tried = token_of(KEY, PATH), Random(3464), 0
    while tried < 10_000:
        text = list(token)
        for _ in range(dice.choice((1, 1, 2, 5))):
            place = dice.randrange(len(text))
            text[place : place + dice.choice((0, 1, 1, 1))] = dice.choice(ascii_letters + digits + "=+ é")
        text = "".join(text)
        if text.lower() != token:
            tried += 1
            assert path_of(by_key, text) is None, text


def test_a_token_works_with_its_own_key_only_and_the_key_is_asked_for_by_period():
    asked = []
    assert path_of(lambda path: asked.append(path.period), token_of(KEY, PATH)) is None
    assert asked == [PATH.day // DAYS_PER_KEY]
    assert path_of(lambda _: b"another", token_of(KEY, PATH)) is None
