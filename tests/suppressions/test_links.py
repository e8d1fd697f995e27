"""Signed links: each works for what it was made for, and no other text is one."""

from random import Random
from string import ascii_letters, digits
from uuid import UUID

import pytest

from mailbbgun.suppressions.links import LONGEST, UnsubscribeLink, link_of, token_of

KEY = b"k" * 43
LINK = UnsubscribeLink(UUID(int=1), UUID(int=2**128 - 1), "Ann+Ü@example.com", False)
ALPHABET = ascii_letters + digits + "-_=.+/ %\0é"


@pytest.mark.parametrize(
    "link",
    [LINK, LINK._replace(test=True), LINK._replace(address="a@b"), LINK._replace(address=f"{'x' * 242}@example.com")],
)
def test_a_token_says_what_it_was_made_of(link):
    token = token_of(KEY, link)
    assert link_of(KEY, token) == link
    assert len(token) <= LONGEST
    assert set(token) <= set(ascii_letters + digits + "-_")


def test_none_of_ten_thousand_mutated_tokens_works():
    token, dice = token_of(KEY, LINK), Random(8058)

    def mutated():
        text = list(token)
        for _ in range(dice.choice((1, 1, 1, 2, 5))):
            place, what = dice.randrange(len(text)), dice.randrange(4)
            if what == 0:
                text[place] = dice.choice(ALPHABET)
            elif what == 1:
                text.insert(place, dice.choice(ALPHABET))
            elif what == 2:
                del text[place]
            else:
                text[place] = text[place].swapcase()
        return "".join(text)

    tried = 0
    while tried < 10_000:
        if (text := mutated()) != token:
            tried += 1
            assert link_of(KEY, text) is None, text


def test_no_ending_but_the_one_that_was_made_works():
    """Bits that decoding ignores, and paddings, make no second token."""
    for address in ("a@b", "aa@b", "aaa@b"):
        token = token_of(KEY, LINK._replace(address=address))
        endings = [one for one in ALPHABET if link_of(KEY, token[:-1] + one)]
        assert endings == [token[-1]]
        assert link_of(KEY, token + "=") is None
        assert link_of(KEY, f" {token}") is None


def test_a_token_of_another_key_or_for_another_message_does_not_work():
    assert link_of(b"x" * 43, token_of(KEY, LINK)) is None
    signed = token_of(KEY, LINK)
    other = token_of(KEY, LINK._replace(message_id=UUID(int=3)))
    assert link_of(KEY, signed[:-22] + other[-22:]) is None
    assert link_of(KEY, "") is None
    assert link_of(KEY, "A" * 1000) is None
