"""The circuit breaker: it pauses a route whose server refuses us or cannot be reached.

After the pause one transaction, the probe, tries the server before all others.
"""

import threading
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from mailbbgun.core.clock import Clock
from mailbbgun.routing.protocols import OnRoute
from mailbbgun.smtp.outcome import OPENING, Deferred, Delivered, Outcome, Phase, Refused, another_server_may_do

#: Seconds after which another probe may go, if a probe has not come back.
PROBE_SECONDS = 300.0

#: Open circuits, before those whose pause is long over are forgotten.
MOST_OPEN = 10_000

#: Seconds after which the others ask again while a probe is on its way.
PROBE_WAIT = 1.0


@dataclass(slots=True)
class _Circuit:
    until: float  # boot-clock seconds; no transaction goes before
    cause: Deferred | Refused
    failures: int
    probe: OnRoute | None = None  # the transaction that tries the server now


@dataclass(frozen=True, slots=True)
class Opened:
    """An open circuit for display: the last failure, and how many failures came in a row."""

    cause: Deferred | Refused
    failures: int


class CircuitBreaker:
    """A circuit for each route. Thread-safe.

    A refusal opens the circuit for ``refused_pause`` seconds, because asking again with every
    message would lock the account. ``failures`` in a row of a server that cannot be talked to open
    it for ``unreachable_pause`` seconds. The first transaction after that is the probe; the others
    wait. If the probe gets through, the circuit closes. If it fails, the pause starts anew. If it
    shows neither, the next transaction is the probe.

    Some servers refuse us only at RCPT, and some then mean that one recipient: see
    :meth:`about_whom`.
    """

    def __init__(
        self, refused_pause: float, clock: Clock, *, failures: int = 5, unreachable_pause: float = 30.0
    ) -> None:
        self._refused_pause = refused_pause
        self._clock = clock
        self._most_failures = failures
        self._unreachable_pause = unreachable_pause
        self._lock = threading.Lock()
        self._open: dict[str, _Circuit] = {}
        self._failing: dict[str, int] = {}  # route → failures in a row
        # Route → when its server last took mail, in boot-clock seconds; oldest first.
        self._accepted_at: dict[str, float] = {}

    def limit(self, refused_pause: float, *, failures: int, unreachable_pause: float) -> None:
        """Have other limits for the failures that come. Open circuits stay as they are."""
        with self._lock:
            self._refused_pause, self._most_failures = refused_pause, failures
            self._unreachable_pause = unreachable_pause

    def paused_for(self, route: str) -> float:
        """Return for how many seconds a route is paused; 0 if a transaction may go."""
        with self._lock:
            return self._paused_for(route)

    def enter(self, transaction: OnRoute) -> float:
        """Return for how many seconds the transaction's route is paused.

        At 0 the transaction must be sent, and :meth:`leave` called afterwards.
        """
        with self._lock:
            wait = self._paused_for(transaction.route)
            if not wait and (circuit := self._open.get(transaction.route)):
                circuit.probe, circuit.until = transaction, self._clock.boot() + PROBE_SECONDS
            return wait

    def unreachable(self, route: str) -> Deferred | None:
        """Return the failure that keeps mail from a server that cannot be talked to.

        Returns None if the route is not paused, is paused because of a refusal, or has a probe on
        its way.
        """
        with self._lock:
            circuit = self._open.get(route)
            if circuit is None or circuit.probe or not self._paused_for(route):
                return None
            return circuit.cause if isinstance(circuit.cause, Deferred) else None

    def cause(self, route: str) -> Deferred | Refused | None:
        """Return the failure that opened a route's circuit, or None if the circuit is closed."""
        with self._lock:
            circuit = self._open.get(route)
            return circuit.cause if circuit else None

    def opened(self) -> dict[str, Opened]:
        """Return the open circuits, by route."""
        with self._lock:
            return {route: Opened(circuit.cause, circuit.failures) for route, circuit in self._open.items()}

    def forget(self, routes: Iterable[str]) -> None:
        """Forget the past of these routes: they lead to other servers now."""
        with self._lock:
            for route in routes:
                for known in (self._open, self._failing, self._accepted_at):
                    known.pop(route, None)

    def about_whom(self, transaction: OnRoute, outcomes: Mapping[str, Outcome]) -> dict[str, Outcome]:
        """Return the outcomes, with refusals at RCPT deferred if the server accepts other mail.

        It accepts other mail if it took some in this transaction, or within the pause before. Then
        the refusal is about that recipient and not about us. It would come with every retry, and
        would hold up all mail.
        """
        with self._lock:
            now = self._clock.boot()
            if any(isinstance(one, Delivered) for one in outcomes.values()):
                self._accepted_at.pop(transaction.route, None)
                self._accepted_at[transaction.route] = now
            while self._accepted_at and now - next(iter(self._accepted_at.values())) >= self._refused_pause:
                # Forget old entries: with MX delivery there are as many routes as domains.
                del self._accepted_at[next(iter(self._accepted_at))]
            if transaction.route not in self._accepted_at:
                return dict(outcomes)
        if not any(isinstance(one, Refused) for one in outcomes.values()):
            return dict(outcomes)
        return {recipient: _deferred_at_rcpt(one) for recipient, one in outcomes.items()}

    def record(self, transaction: OnRoute, outcomes: Collection[Outcome]) -> None:
        """Open or close the circuit by these outcomes.

        A success closes it only if the transaction is the probe: others left before the refusal.
        """
        route = transaction.route
        refused = next((one for one in outcomes if isinstance(one, Refused)), None)
        failure = next((one for one in outcomes if isinstance(one, Deferred) and another_server_may_do(one)), None)
        with self._lock:
            if refused:
                self._failed(route, refused, self._refused_pause)
                return
            if failure and not any(isinstance(one, Delivered) or not another_server_may_do(one) for one in outcomes):
                self._failing[route] = self._failing.get(route, 0) + 1
                circuit = self._open.get(route)
                if self._failing[route] >= self._most_failures or (circuit and isinstance(circuit.cause, Deferred)):
                    self._failed(route, failure, self._unreachable_pause)
                    return
            else:
                self._failing.pop(route, None)
            if self._probing(transaction) and any(
                isinstance(one, Delivered) or one.phase not in OPENING for one in outcomes
            ):
                del self._open[route]

    def leave(self, transaction: OnRoute) -> None:
        """Report a transaction that is back; a probe without result makes way for another."""
        with self._lock:
            if self._probing(transaction):
                circuit = self._open[transaction.route]
                circuit.probe, circuit.until = None, self._clock.boot()

    def _failed(self, route: str, cause: Deferred | Refused, pause: float) -> None:
        # A domain that never answered has a circuit, and a From address without an account has one too.
        if len(self._open) >= MOST_OPEN:
            past = self._clock.boot() - PROBE_SECONDS
            self._open = {one: circuit for one, circuit in self._open.items() if circuit.until > past}
            self._failing = {one: count for one, count in self._failing.items() if one in self._open}
        before = self._open.get(route)
        failures = self._failing.get(route) or (before.failures if before else 0) + 1
        self._open[route] = _Circuit(self._clock.boot() + pause, cause, failures)

    def _paused_for(self, route: str) -> float:
        circuit = self._open.get(route)
        left = max(0.0, circuit.until - self._clock.boot()) if circuit else 0.0
        return min(left, PROBE_WAIT) if circuit and circuit.probe else left

    def _probing(self, transaction: OnRoute) -> bool:
        circuit = self._open.get(transaction.route)
        return circuit is not None and circuit.probe is transaction


def _deferred_at_rcpt(one: Outcome) -> Outcome:
    return (
        Deferred(one.reply, one.phase, server=one.server)
        if isinstance(one, Refused) and one.phase is Phase.RCPT
        else one
    )
