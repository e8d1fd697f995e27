"""What every relay must keep: see mailbbgun/relays/contract.py."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from mailbbgun.drivers.loop import Loop
from mailbbgun.smtp.envelope import Envelope
from mailbbgun.smtp.outcome import Bounced, Deferred, Delivered, Fenced, Outcome, Refused, Unknown
from mailbbgun.smtp.reply import Reply
from tests.contract.relays import CARRIERS, SUBJECTS, Make, Subject
from tests.smtp.drivers import run_on, to_the_end, using
from tests.waiting import wait_until

RECIPIENTS = ("one@b.test", "two@b.test", "three@b.test", "two@b.test", "four@b.test")
NAMES = tuple(dict.fromkeys(RECIPIENTS))
MAIL = Envelope("a@a.test", RECIPIENTS, b"Subject: x\r\n\r\ny\r\n")

every_relay = pytest.mark.parametrize("make", SUBJECTS.values(), ids=SUBJECTS)
every_carrier = pytest.mark.parametrize("make", CARRIERS.values(), ids=CARRIERS)


@pytest.fixture
def loop() -> Iterator[Loop]:
    with using("loop") as loop:
        assert loop is not None
        yield loop


@pytest.fixture
def go() -> Iterator[threading.Event]:
    """What lets a server that stalls go on."""
    event = threading.Event()
    yield event
    event.set()


@dataclass
class Dots:
    """The two functions around the dot. `told` has every call, in order; `say` answers the first, and then True."""

    subject: Subject
    say: list[bool] = field(default_factory=list)
    told: list[tuple[str, tuple[str, ...], Reply | None]] = field(default_factory=list)
    left_at: list[list[str]] = field(default_factory=list)  # what had left at each call of before_dot

    async def before_dot(self, accepted: tuple[str, ...]) -> bool:
        self.told.append(("before", accepted, None))
        self.left_at.append(self.subject.left())
        return self.say.pop(0) if self.say else True

    async def after_dot(self, accepted: tuple[str, ...], reply: Reply | None) -> None:
        self.told.append(("after", accepted, reply))

    async def attempt(self, mail: Envelope = MAIL) -> dict[str, Outcome]:
        return await self.subject.relay.attempt(mail, self.before_dot, self.after_dot)

    def in_pairs(self) -> bool:
        """Return whether each call of before_dot was followed by its after_dot."""
        befores, afters = self.told[::2], self.told[1::2]
        return len(befores) == len(afters) and all(
            (before[0], after[0], before[1]) == ("before", "after", after[1])
            for before, after in zip(befores, afters, strict=True)
        )


@every_relay
@pytest.mark.parametrize("behaves", ["good", "away", "silent"])
def test_every_recipient_has_one_outcome_in_their_order(
    make: Make, behaves: str, loop: Loop, go: threading.Event, tmp_path: Path
) -> None:
    with make(behaves, go, tmp_path) as subject:
        dots = Dots(subject)
        outcomes = run_on(loop, dots.attempt())
        go.set()
    assert tuple(outcomes) == NAMES
    delivered = tuple(name for name, one in outcomes.items() if isinstance(one, Delivered))
    assert tuple(sorted(subject.left())) == tuple(sorted(delivered)) or behaves == "silent"
    assert dots.in_pairs()
    told = {name: reply for when, names, reply in dots.told if when == "after" for name in names}
    for name, one in outcomes.items():
        assert isinstance(one, Delivered | Deferred | Bounced | Refused | Unknown)
        assert isinstance(one, Delivered) == (name in told and told[name] is not None and told[name].code // 100 == 2)
        assert isinstance(one, Unknown) == (name in told and told[name] is None)


@every_relay
def test_without_recipients_nothing_is_asked(make: Make, loop: Loop, go: threading.Event, tmp_path: Path) -> None:
    with make("good", go, tmp_path) as subject:
        dots = Dots(subject)
        assert run_on(loop, dots.attempt(Envelope("a@a.test", (), MAIL.raw))) == {}
    assert (dots.told, subject.left()) == ([], [])


@every_carrier
def test_mail_leaves_after_before_dot_and_is_told_of_before_anything_else(
    make: Make, loop: Loop, go: threading.Event, tmp_path: Path
) -> None:
    with make("good", go, tmp_path) as subject:
        dots = Dots(subject)
        outcomes = run_on(loop, dots.attempt())
        assert {type(one) for one in outcomes.values()} == {Delivered}
        assert dots.in_pairs()
        asked = [names for when, names, _ in dots.told if when == "before"]
        assert sorted(name for names in asked for name in names) == sorted(NAMES)  # each once
        for place, left in enumerate(dots.left_at):
            assert left == [name for names in asked[:place] for name in names]
        assert [reply and reply.code // 100 for when, _, reply in dots.told if when == "after"] == [2] * len(asked)
        assert sorted(subject.left()) == sorted(NAMES)


@every_carrier
def test_false_from_before_dot_means_that_nothing_leaves(
    make: Make, loop: Loop, go: threading.Event, tmp_path: Path
) -> None:
    with make("good", go, tmp_path) as subject:
        dots = Dots(subject, say=[False])
        outcomes = run_on(loop, dots.attempt())
        assert {type(one) for one in outcomes.values()} == {Fenced}
        assert tuple(outcomes) == NAMES
        assert [when for when, _, _ in dots.told] == ["before"]
        assert subject.left() == []
        dots = Dots(subject)  # the relay is none the worse for it
        assert {type(one) for one in run_on(loop, dots.attempt()).values()} == {Delivered}


@every_carrier
@pytest.mark.parametrize("when", ["before", "after"])
def test_what_the_two_functions_raise_passes_through(
    make: Make, when: str, loop: Loop, go: threading.Event, tmp_path: Path
) -> None:
    class Breaks(Dots):
        async def before_dot(self, accepted: tuple[str, ...]) -> bool:
            if when == "before":
                raise KeyError("lease")
            return await super().before_dot(accepted)

        async def after_dot(self, accepted: tuple[str, ...], reply: Reply | None) -> None:
            raise KeyError("lease")

    with make("good", go, tmp_path) as subject:
        with pytest.raises(KeyError, match="lease"):
            run_on(loop, Breaks(subject).attempt())
        left = subject.left()
        assert (left == []) == (when == "before")
        assert len(left) == len(set(left))
        dots = Dots(subject)
        assert {type(one) for one in run_on(loop, dots.attempt()).values()} == {Delivered}


@every_relay
def test_what_cannot_be_reached_is_an_outcome(make: Make, loop: Loop, go: threading.Event, tmp_path: Path) -> None:
    with make("away", go, tmp_path) as subject:
        dots = Dots(subject)
        outcomes = run_on(loop, dots.attempt())
    assert {type(one) for one in outcomes.values()} <= {Deferred, Refused}
    assert (dots.told, subject.left()) == ([], [])


@every_carrier
def test_an_answer_that_does_not_come_is_unknown_and_told_of(
    make: Make, loop: Loop, go: threading.Event, tmp_path: Path
) -> None:
    with make("silent", go, tmp_path) as subject:
        dots = Dots(subject)
        outcomes = run_on(loop, dots.attempt())
        first = dots.told[0][1]
        assert {type(outcomes[name]) for name in first} == {Unknown}
        assert dots.told[1] == ("after", first, None)
        asked = [name for when, names, _ in dots.told if when == "before" for name in names]
        assert len(asked) == len(set(asked))  # nobody is sent to again
        go.set()


@every_carrier
def test_what_stalls_does_not_stop_the_loop(make: Make, loop: Loop, go: threading.Event, tmp_path: Path) -> None:
    async def attempts() -> None:
        outcomes.append(await dots.attempt())

    outcomes: list[dict[str, Outcome]] = []
    with make("stalled", go, tmp_path) as subject, make("good", go, tmp_path / "good") as neighbour:
        (tmp_path / "good").mkdir()
        dots = Dots(subject)
        loop.start(attempts())
        for _ in range(5):  # beside it, others are served as ever
            assert {type(one) for one in run_on(loop, Dots(neighbour).attempt()).values()} == {Delivered}
        assert outcomes == []
        go.set()
        to_the_end(loop)
    assert [type(one) for one in outcomes[0].values()] == [Delivered] * len(NAMES)


@every_carrier
def test_many_attempts_at_the_same_time_do_not_disturb_each_other(
    make: Make, loop: Loop, go: threading.Event, tmp_path: Path
) -> None:
    async def attempts(number: int) -> None:
        dots = Dots(subject, say=[number % 5 > 0])
        mail = Envelope("a@a.test", (f"{number}@b.test", f"{number}+more@b.test"), MAIL.raw)
        outcomes = await dots.attempt(mail)
        assert tuple(outcomes) == mail.recipients
        assert {type(one) for one in outcomes.values()} == {Delivered if number % 5 else Fenced}
        told = {name for _, names, _ in dots.told for name in names}
        # After False a relay that sends to one group after another need not ask for the next.
        assert told == set(mail.recipients) if number % 5 else mail.recipients[0] in told
        done.append(number)

    done: list[int] = []
    with make("good", go, tmp_path) as subject:
        for number in range(40):
            loop.start(attempts(number))
        to_the_end(loop)
        assert sorted(done) == list(range(40))
        expected = [f"{number}{more}@b.test" for number in range(40) if number % 5 for more in ("", "+more")]
        wait_until(lambda: sorted(subject.left()) == sorted(expected), "all mail")
