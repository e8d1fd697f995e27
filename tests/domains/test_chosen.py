"""Which keys sign a message: by when it was accepted, and by its From."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from mailbbgun.core.ids import first_id_at, new_id
from mailbbgun.domains.dkim import ED25519, RSA
from mailbbgun.domains.repo import KeyRow
from mailbbgun.domains.signing import accepted_at, chosen

DAY = datetime(2026, 11, 28, tzinfo=UTC)
TENANT = new_id()


def at(hours: float) -> datetime:
    return DAY + timedelta(hours=hours)


def row(name: str, begin: float, end: float | None = None, algorithm: str = RSA) -> KeyRow:
    """A key that signs from one hour of the day until another."""
    return KeyRow(TENANT, "example.com", new_id(), name, algorithm, at(begin), None if end is None else at(end))


@pytest.mark.parametrize(("accepted", "wanted"), [
    (0, ["new", "e"]),  # before there was a key: the one that signs now
    (1, ["old", "e"]), (4.999, ["old", "e"]), (5, ["new", "e"]), (9, ["new", "e"]),
])  # fmt: skip
def test_the_key_of_the_time_when_a_message_was_accepted_signs_it(accepted, wanted):
    keys = [row("e", 1, algorithm=ED25519), row("new", 5), row("old", 1, 5)]
    moment = accepted_at(first_id_at(at(accepted)))
    assert [key.selector for key in chosen(keys, moment)] == wanted
    assert [key.selector for key in chosen(keys[::-1], moment)] == wanted


def test_without_the_key_of_that_time_the_one_of_now_signs_and_a_retired_one_alone_signs_no_new_mail():
    moment = accepted_at(first_id_at(at(3)))
    assert [key.selector for key in chosen([row("new", 5)], moment)] == ["new"]
    assert chosen([row("old", 1, 2)], moment) == []
    assert chosen([], moment) == []


def test_the_time_of_a_message_is_in_its_id():
    assert accepted_at(first_id_at(DAY)) == int(DAY.timestamp() * 1000)
    assert accepted_at(UUID("01a22481-56d0-77f4-bee0-ae8adc4ce860")) == 0x01A2248156D0
