"""Connections that are ready in one turn of the loop share a write of the journal."""

from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest

from mailbbgun.core.clock import Clock
from mailbbgun.core.ids import DEFAULT_TENANT
from mailbbgun.deliver.claim import Claim
from mailbbgun.deliver.journal import Journal, read
from mailbbgun.deliver.journal_turns import JournalTurns
from mailbbgun.deliver.leases import Leases
from mailbbgun.drivers.loop import Loop
from mailbbgun.smtp.reply import Reply

OK = Reply(250, "2.0.0", "taken")


def claim(lease_ends: float = float("inf")) -> Claim:
    return Claim(uuid4(), uuid4(), DEFAULT_TENANT, "a@b.test", "normal", 1, 0, 0, lease_ends)


class Turns:
    """A journal, the turns of a loop, and what each coroutine was told, in order."""

    def __init__(self, folder: Path) -> None:
        owner = uuid4()
        self.journal = Journal(folder, owner)
        self.leases = Leases(owner, 60, Clock())
        self.turns = JournalTurns(self.journal, self.leases)
        self.loop = Loop()
        self.told: list[object] = []

    def start(self, one: Claim, reply: Reply | None = None) -> None:
        async def conversation() -> None:
            try:
                self.told.append(await self.turns.dot([one]))
                if reply is not None:
                    await self.turns.reply([one], reply)
                    self.told.append(reply)
            except OSError as error:
                self.told.append(type(error))

        self.loop.start(conversation())

    def lines(self) -> list[bytes]:
        return self.journal.path.read_bytes().split(b"\n")[1:-1]

    def answers(self) -> dict[object, Reply | None]:
        found = read(self.journal.path, alive=True)
        assert found is not None
        return dict(found.answers)


@pytest.fixture
def turns(tmp_path: Path) -> Turns:
    return Turns(tmp_path)


def test_nobody_sends_a_dot_before_the_turn_has_written_the_lines_of_all(turns: Turns) -> None:
    ours = [claim() for _ in range(5)]
    for one in ours:
        turns.start(one)
    assert (turns.told, turns.lines(), turns.turns.waiting) == ([], [], True)
    turns.turns.end()
    assert (turns.told, turns.turns.waiting) == ([True] * 5, False)
    assert turns.answers() == dict.fromkeys(one.key for one in ours)


def test_what_goes_on_at_the_end_of_a_turn_may_wait_for_the_next_line(turns: Turns) -> None:
    one = claim()
    turns.start(one, OK)
    turns.turns.end()
    assert turns.told == [True, OK]
    assert turns.answers() == {one.key: OK}


def test_a_lease_that_has_run_out_stops_only_its_own_dot(turns: Turns) -> None:
    first, late, last = claim(), claim(lease_ends=0.0), claim()
    for one in (first, late, last):
        turns.start(one)
    turns.turns.end()
    assert turns.told == [True, False, True]
    assert set(turns.answers()) == {first.key, last.key}


def test_each_lease_is_looked_at_just_before_its_own_dot(turns: Turns) -> None:
    first, second = claim(), claim()
    sent: list[Callable[[], None]] = [turns.leases.void_all]  # happens while the first dot is sent

    async def conversation() -> None:
        turns.told.append(await turns.turns.dot([first]))
        sent.pop()()

    turns.loop.start(conversation())
    turns.start(second)
    turns.turns.end()
    assert turns.told == [True, False]


def test_if_the_journal_cannot_be_written_no_dot_of_the_turn_is_sent(turns: Turns) -> None:
    for one in (claim(), claim()):
        turns.start(one)
    turns.journal.close()  # its file descriptor is gone, as when the disk has failed
    turns.turns.end()
    assert turns.told == [OSError, OSError]


def test_an_error_of_ours_goes_to_those_that_wait_for_the_line_and_ends_nobody_else(
    turns: Turns, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(claims: object) -> bool:
        raise ZeroDivisionError

    outcome: list[object] = []

    async def conversation() -> None:
        try:
            await turns.turns.dot([claim()])
        except ZeroDivisionError as error:
            outcome.append(error)

    monkeypatch.setattr(turns.leases, "stand", fails)
    turns.loop.start(conversation())
    turns.turns.end()
    assert len(outcome) == 1
