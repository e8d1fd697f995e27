"""The circuit breaker decides which transaction may try a server that refused us, and when."""

import threading
from uuid import uuid4

import pytest

from mailbbgun.core.clock import Clock
from mailbbgun.deliver.transaction import Transaction
from mailbbgun.routing.circuit_breaker import PROBE_SECONDS, PROBE_WAIT, CircuitBreaker
from mailbbgun.smtp.outcome import Bounced, Deferred, Delivered, Fenced, Outcome, Phase, Refused, Unknown
from mailbbgun.smtp.reply import Reply

PAUSE = 60.0
REPLY = Reply(0, None, "x")
REFUSED = Refused(REPLY, Phase.AUTH)


class Stopped(Clock):
    """A clock that moves only when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def boot(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Stopped:
    return Stopped()


@pytest.fixture
def breaker(clock: Stopped) -> CircuitBreaker:
    """A breaker whose circuit was opened just now."""
    one = CircuitBreaker(PAUSE, clock)
    returns(one, going(one), REFUSED)
    return one


def transaction(route: str = "smarthost") -> Transaction:
    return Transaction(uuid4(), "a@b.test", False, b"", route, [])


def going(breaker: CircuitBreaker, route: str = "smarthost") -> Transaction:
    one = transaction(route)
    assert breaker.enter(one) == 0
    return one


def returns(breaker: CircuitBreaker, one: Transaction, *outcomes: Outcome) -> None:
    breaker.record(one, outcomes)
    breaker.leave(one)


def test_a_refusal_pauses_its_route_alone(breaker: CircuitBreaker, clock: Stopped) -> None:
    assert breaker.enter(transaction()) == breaker.paused_for("smarthost") == PAUSE
    assert breaker.paused_for("b.test") == 0
    going(breaker, "b.test")
    clock.now += PAUSE - 1
    assert breaker.enter(transaction()) == 1


def test_after_the_pause_only_one_sender_tries_the_server(breaker: CircuitBreaker, clock: Stopped) -> None:
    def come() -> None:
        line.wait()
        waits.append(breaker.enter(transaction()))

    clock.now += PAUSE
    line, waits = threading.Barrier(16), list[float]()
    threads = [threading.Thread(target=come) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(waits) == [0.0] + [PROBE_WAIT] * 15
    assert breaker.paused_for("smarthost") == PROBE_WAIT


@pytest.mark.parametrize(
    "outcome",
    [
        Delivered(REPLY),
        Bounced(REPLY, Phase.RCPT),
        Unknown(REPLY, Phase.DOT),
        Deferred(REPLY, Phase.MAIL),
        Fenced(Phase.BODY),
    ],
    ids=lambda outcome: type(outcome).__name__,
)
def test_all_transactions_go_once_the_probe_got_through(
    breaker: CircuitBreaker, clock: Stopped, outcome: Outcome
) -> None:
    clock.now += PAUSE
    returns(breaker, going(breaker), Deferred(REPLY, Phase.AUTH), outcome)
    for _ in range(3):
        going(breaker)


def test_a_refused_probe_begins_the_pause_anew(breaker: CircuitBreaker, clock: Stopped) -> None:
    clock.now += PAUSE
    returns(breaker, going(breaker), REFUSED)
    assert breaker.enter(transaction()) == PAUSE
    clock.now += PAUSE
    going(breaker)
    assert breaker.enter(transaction()) == PROBE_WAIT


@pytest.mark.parametrize("outcomes", [[], [Deferred(REPLY, Phase.CONNECT)]], ids=["nothing", "no connection"])
def test_a_probe_that_learned_nothing_makes_way_for_one_other(
    breaker: CircuitBreaker, clock: Stopped, outcomes: list[Outcome]
) -> None:
    clock.now += PAUSE
    returns(breaker, going(breaker), *outcomes)
    going(breaker)
    assert breaker.enter(transaction()) == PROBE_WAIT


def test_a_probe_that_never_comes_back_is_replaced_and_its_result_ignored(
    breaker: CircuitBreaker, clock: Stopped
) -> None:
    clock.now += PAUSE
    lost = going(breaker)
    clock.now += PROBE_SECONDS
    going(breaker)
    returns(breaker, lost, Delivered(REPLY))
    assert breaker.enter(transaction()) == PROBE_WAIT


def test_a_transaction_that_left_before_the_refusal_does_not_close_the_circuit(clock: Stopped) -> None:
    breaker = CircuitBreaker(PAUSE, clock)
    early, refused = going(breaker), going(breaker)
    returns(breaker, refused, REFUSED)
    returns(breaker, early, Delivered(REPLY))
    assert breaker.paused_for("smarthost") == PAUSE


def test_a_refusal_of_one_recipient_by_a_server_that_takes_other_mail_is_not_about_us(clock: Stopped) -> None:
    breaker, of_one = CircuitBreaker(PAUSE, clock), Refused(REPLY, Phase.RCPT)
    assert breaker.about_whom(transaction(), {"a": of_one}) == {"a": of_one}
    both = {"a": of_one, "b": Delivered(REPLY), "c": REFUSED}
    assert breaker.about_whom(transaction(), both) == {**both, "a": Deferred(REPLY, Phase.RCPT)}
    clock.now += PAUSE - 1
    assert breaker.about_whom(transaction(), {"a": of_one}) == {"a": Deferred(REPLY, Phase.RCPT)}
    assert breaker.about_whom(transaction("b.test"), {"a": of_one}) == {"a": of_one}
    clock.now += 1
    assert breaker.about_whom(transaction(), {"a": of_one}) == {"a": of_one}


def test_servers_that_accepted_mail_long_ago_are_forgotten(clock: Stopped) -> None:
    breaker = CircuitBreaker(PAUSE, clock)
    for number in range(1000):
        breaker.about_whom(transaction(f"{number % 990}.test"), {"a": Delivered(REPLY)})
        clock.now += 1
    assert list(breaker._accepted_at) == [f"{number % 990}.test" for number in range(940, 1000)]
