"""The circuit breaker: a server that refuses us, or cannot be reached, is left alone for a while.

Then one transaction asks it, before all others.
"""

import threading
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from mailbbgun.core.clock import Clock
from mailbbgun.routing.transaction import OnRoute
from mailbbgun.smtp.outcome import OPENING, Deferred, Delivered, Outcome, Phase, Refused, unserved

PROBE_SECONDS = 300.0  # a probe that is not back by then is overtaken by another
MOST_OPEN = 10_000  # circuits, before those long past are forgotten
PROBE_WAIT = 1.0  # seconds until the others ask again


@dataclass(slots=True)
class _Circuit:
    until: float  # boot-clock seconds; nobody goes before
    cause: Deferred | Refused
    failures: int
    probe: OnRoute | None = None  # who went last, if no verdict is in yet


@dataclass(frozen=True, slots=True)
class Opened:
    """An open circuit, as it is told: the last failure, and how many came in a row."""

    cause: Deferred | Refused
    failures: int


class CircuitBreaker:
    """A circuit per route. Thread-safe.

    A refusal opens the circuit for ``pause`` seconds: asking again with every message would lock
    the account. So do ``failures`` in a row of a server that cannot be talked to, for ``rest``
    seconds. Who comes first after that is the probe, and the others wait: if it gets in, all go; if
    it fails, the pause starts anew; if it learns nothing, the next one is the probe.

    Some servers say only of a recipient that they refuse us (RCPT), and some say it of one
    recipient alone: see :meth:`about_whom`.
    """

    def __init__(self, pause: float, clock: Clock, *, failures: int = 5, rest: float = 30.0) -> None:
        self._pause = pause
        self._clock = clock
        self._most = failures
        self._rest = rest
        self._lock = threading.Lock()
        self._open: dict[str, _Circuit] = {}
        self._failing: dict[str, int] = {}  # route → failures in a row
        self._took: dict[str, float] = {}  # route → when its server last took mail, boot-clock seconds, in that order

    def wait(self, route: str) -> float:
        """Return for how many seconds a route is to be left alone; 0 when one may go, or all."""
        with self._lock:
            return self._wait(route)

    def enter(self, transaction: OnRoute) -> float:
        """The same for one that would go now. If it is 0 it goes, and must :meth:`leave`."""
        with self._lock:
            wait = self._wait(transaction.route)
            if not wait and (circuit := self._open.get(transaction.route)):
                circuit.probe, circuit.until = transaction, self._clock.boot() + PROBE_SECONDS
            return wait

    def unreachable(self, route: str) -> Deferred | None:
        """Return the failure because of which nobody goes there now; None if somebody is trying, or
        it was a refusal, or one may go.
        """
        with self._lock:
            circuit = self._open.get(route)
            if circuit is None or circuit.probe or not self._wait(route):
                return None
            return circuit.cause if isinstance(circuit.cause, Deferred) else None

    def cause(self, route: str) -> Deferred | Refused | None:
        """Return the failure that opened a route's circuit; None if it is closed."""
        with self._lock:
            circuit = self._open.get(route)
            return circuit.cause if circuit else None

    def opened(self) -> dict[str, Opened]:
        """Return the circuits that are open, by route."""
        with self._lock:
            return {route: Opened(circuit.cause, circuit.failures) for route, circuit in self._open.items()}

    def forget(self, routes: Iterable[str]) -> None:
        """Forget what these did: they lead elsewhere now."""
        with self._lock:
            for route in routes:
                for known in (self._open, self._failing, self._took):
                    known.pop(route, None)

    def about_whom(self, transaction: OnRoute, outcomes: Mapping[str, Outcome]) -> dict[str, Outcome]:
        """Return them with refusals of recipients as deferrals if the server takes other mail, now
        or within the pause before.

        Such a refusal is not about us: one recipient would hold up all mail, since it is refused
        whenever it is asked for.
        """
        with self._lock:
            now = self._clock.boot()
            if any(isinstance(one, Delivered) for one in outcomes.values()):
                self._took.pop(transaction.route, None)
                self._took[transaction.route] = now
            while self._took and now - next(iter(self._took.values())) >= self._pause:
                del self._took[next(iter(self._took))]  # with mx: there are as many routes as domains
            if transaction.route not in self._took:
                return dict(outcomes)
        return {recipient: _of_recipient(one) for recipient, one in outcomes.items()}

    def record(self, transaction: OnRoute, outcomes: Collection[Outcome]) -> None:
        """Take in how it went; the luck of one that left before the refusal says nothing."""
        route = transaction.route
        refused = next((one for one in outcomes if isinstance(one, Refused)), None)
        failure = next((one for one in outcomes if isinstance(one, Deferred) and unserved(one)), None)
        with self._lock:
            if refused:
                self._failed(route, refused, self._pause)
                return
            if failure and not any(isinstance(one, Delivered) or not unserved(one) for one in outcomes):
                self._failing[route] = self._failing.get(route, 0) + 1
                circuit = self._open.get(route)
                if self._failing[route] >= self._most or (circuit and isinstance(circuit.cause, Deferred)):
                    self._failed(route, failure, self._rest)
                    return
            else:
                self._failing.pop(route, None)
            if self._probing(transaction) and any(
                isinstance(one, Delivered) or one.phase not in OPENING for one in outcomes
            ):
                del self._open[route]

    def leave(self, transaction: OnRoute) -> None:
        """It is back, whatever it met; a probe without a verdict makes way for the next."""
        with self._lock:
            if self._probing(transaction):
                circuit = self._open[transaction.route]
                circuit.probe, circuit.until = None, self._clock.boot()

    def _failed(self, route: str, cause: Deferred | Refused, pause: float) -> None:
        if len(self._open) >= MOST_OPEN:  # one for each domain that never answered, and each sender no account is for
            past = self._clock.boot() - PROBE_SECONDS
            self._open = {one: circuit for one, circuit in self._open.items() if circuit.until > past}
            self._failing = {one: count for one, count in self._failing.items() if one in self._open}
        before = self._open.get(route)
        failures = self._failing.get(route) or (before.failures if before else 0) + 1
        self._open[route] = _Circuit(self._clock.boot() + pause, cause, failures)

    def _wait(self, route: str) -> float:
        circuit = self._open.get(route)
        left = max(0.0, circuit.until - self._clock.boot()) if circuit else 0.0
        return min(left, PROBE_WAIT) if circuit and circuit.probe else left

    def _probing(self, transaction: OnRoute) -> bool:
        circuit = self._open.get(transaction.route)
        return circuit is not None and circuit.probe is transaction


def _of_recipient(one: Outcome) -> Outcome:
    return (
        Deferred(one.reply, one.phase, server=one.server)
        if isinstance(one, Refused) and one.phase is Phase.RCPT
        else one
    )
