"""Which accounts fit a mail, and the order in which they are tried."""

import random
from collections import Counter
from uuid import uuid4

import pytest

from mailbbgun.smtp_accounts.account import Account, fitting, ranked


def account(name: str = "a", **values: object) -> Account:
    return Account(uuid4(), name, None, **values)


@pytest.mark.parametrize(("account_", "sender", "domain", "fits"), [
    (account(), "a@b.test", "c.test", True),
    (account(from_email="a@b.test"), "a@b.test", "c.test", True),
    (account(from_email="a@b.test"), "x@b.test", "c.test", False),
    (account(from_email="b.test"), "x@b.test", "c.test", True),
    (account(from_email="b.test"), "x@y.b.test", "c.test", False),
    (account(domains=("c.test",)), "a@b.test", "c.test", True),
    (account(domains=("c.test",)), "a@b.test", "x.c.test", False),
    (account(domains=("*.c.test",)), "a@b.test", "x.c.test", True),
    (account(domains=("*.c.test",)), "a@b.test", "x.y.c.test", True),
    (account(domains=("*.c.test",)), "a@b.test", "c.test", False),
    (account(domains=("*.c.test",)), "a@b.test", "ac.test", False),
    (account(domains=("d.test", "c.test")), "a@b.test", "c.test", True),
    (account(from_email="b.test", domains=("d.test",)), "a@b.test", "c.test", False),
])  # fmt: skip
def test_an_account_fits_by_the_sender_and_the_recipients_domain(
    account_: Account, sender: str, domain: str, fits: bool
) -> None:
    assert account_.fits(sender, domain) is fits
    assert fitting([account_], sender, domain) == ((account_,) if fits else ())


def test_the_lowest_priority_comes_first_whatever_the_weights() -> None:
    first, second, third = (
        account("1", priority=1),
        account("2", priority=2, weight=1000),
        account("3", priority=3, weight=1000),
    )
    for _ in range(100):
        assert ranked([third, second, first], random.random) == [first, second, third]


@pytest.mark.parametrize("weights", [(3, 1), (1, 1), (1, 2, 3), (100, 1)])
def test_accounts_of_one_priority_come_first_in_proportion_to_their_weights(weights: tuple[int, ...]) -> None:
    dice = random.Random(20261126)
    accounts = [account(str(weight), weight=weight) for weight in weights]
    first = Counter(ranked(accounts, dice.random)[0].name for _ in range(40_000))
    for weight in weights:
        share = weights.count(weight) * weight / sum(weights)
        assert first[str(weight)] == pytest.approx(40_000 * share, rel=0.05 if share > 0.05 else 0.2)


def test_4000_mails_at_weights_three_to_one_are_within_five_percent() -> None:
    dice = random.Random(1)
    heavy, light = account("heavy", weight=3), account("light", weight=1)
    first = Counter(ranked([heavy, light], dice.random)[0].name for _ in range(4000))
    assert first["heavy"] == pytest.approx(3000, rel=0.05)


def test_every_account_is_in_the_order_once() -> None:
    accounts = [account(str(n), priority=n % 3, weight=n + 1) for n in range(20)]
    assert sorted(one.name for one in ranked(accounts, random.random)) == sorted(one.name for one in accounts)
