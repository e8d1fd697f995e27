"""The send queue: claimed transactions wait for a sender, in a line for each lane, route and
tenant, with fair turns and bounded room.

A sender takes the next transaction whose route has a connection to spare, and whose account's
limits let it go, so a slow destination holds back only its own mail; where many tenants share a
route they take turns.
"""

import math
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from typing import Generic, TypeVar
from uuid import UUID

from mailbbgun.queues.lanes import LANES, WeightedRoundRobin
from mailbbgun.routing.transaction import Queued

ROOM_PER_CONNECTION = 8  # claims waiting and under way for each sender
# What stays of a line that is cut: what goes until the rest comes back, and not so much that a line
# which hardly moves fills the room.
LEFT_PER_CONNECTION = 2
AWAY = 5.0  # seconds at least, until what was cut comes back
AWAY_AND_BACK = AWAY + 2.0  # seconds, until it is in line again
WINDOW = 4.0  # seconds over which the pace of a line is measured
CHUNK = 4  # while all senders are busy, room is worth a claim when a fourth of it is free: many claims in one statement
PATIENCE = 1.0  # seconds the head of a line may wait while senders have nothing to do
SLUGGISH_SECONDS = 10.0  # since the last that came too many, after which a line that was cut is like any other again


Key = tuple[str, UUID]  # route, tenant
T = TypeVar("T")
Q = TypeVar("Q", bound=Queued)


class Pace:
    """How many of a route go in a second, of late. Moments are monotonic seconds."""

    __slots__ = ("_before", "_began", "_count")

    def __init__(self, now: float) -> None:
        self._began = now
        self._count = 0
        self._before: float | None = None  # in the window before this one; None: this is the first

    def went(self, now: float) -> None:
        """Count one."""
        if now - self._began >= WINDOW:
            self._before, self._began, self._count = self.at(now), now, 0
        self._count += 1

    def at(self, now: float) -> float:
        """Return how many a second."""
        # What goes in bursts, as when all connections are answered at once, must not look faster
        # than it is when a window has just begun: so many would stay in line that nothing else has
        # room.
        elapsed = now - self._began
        if self._before is None:
            return self._count / (elapsed if elapsed >= WINDOW / 4 else WINDOW)
        return self._before * max(0.0, 1.0 - elapsed / WINDOW) + self._count / max(elapsed, WINDOW)


def no_bound(route: str) -> int:
    """Let a tenant have as many under way as there are connections."""
    del route
    return sys.maxsize


def open_gate(route: str, waiting: int) -> float:
    """Let everything go."""
    del route, waiting
    return 0.0


class SendQueue(Generic[Q]):
    """Thread-safe.

    ``room`` bounds what is claimed here, waiting and under way; ``connections`` what a route has
    under way.

    ``together`` bounds what one tenant has under way by all routes of that kind: of several
    accounts that are slow each is within its own bound. ``gate`` is asked before one goes, with its
    route and how many there could go at once: 0 lets it go, else it says for how many seconds not.
    """

    def __init__(
        self,
        room: int,
        connections: Callable[[str], int],
        patience: float = PATIENCE,
        gate: Callable[[str, int], float] = open_gate,
        together: Callable[[str], int] = no_bound,
    ) -> None:
        self._room = room
        self._connections = connections
        self._patience = patience
        self._gate = gate
        self._together = together
        self._paces: dict[str, Pace] = {}  # of routes that have something under way
        self._sluggish: dict[
            str, float
        ] = {}  # routes whose lines were cut, until when they count as slow; monotonic seconds
        self._passed: set[str] = set()  # routes whose gate has let one through that has not gone yet
        self._shut: dict[str, float] = {}  # route → when its gate may open, monotonic seconds, as it said last
        self._lock = threading.Lock()
        self._work = threading.Condition(self._lock)  # something to send
        self._space = threading.Condition(self._lock)  # room for a claim, or a line to cut
        self._waiting: dict[str, dict[Key, deque[Q]]] = {lane: {} for lane in LANES}
        self._under_way: Counter[str] = Counter()
        self._of_tenants: Counter[UUID] = Counter()  # under way, where that is bounded
        self._count = 0
        self._idle = 0
        self._turns = WeightedRoundRobin()
        self._closed = False

    def wait_for_room(self, timeout: float) -> int:
        """Return how many more transactions there is room for, waiting up to ``timeout`` seconds
        until a claim is worth while.

        Returns 0 at once when :meth:`cut` would make room.
        """
        with self._lock:
            self._space.wait_for(lambda: self._closed or self._roomy() or self._slow(), timeout)
            return 0 if self._closed else max(0, self._room - self._count)

    def add(self, transaction: Q) -> None:
        """Put a transaction at the end of its line."""
        with self._lock:
            transaction.lined_up = time.monotonic()
            key = transaction.route, transaction.tenant_id
            self._waiting[transaction.lane].setdefault(key, deque()).append(transaction)
            self._count += 1
            self._work.notify()

    def takes(self, route: str) -> bool:
        """Refuse new work for a throttled route once its quota in the queue is full."""
        with self._lock:
            now = time.monotonic()
            if now >= self._sluggish.get(route, 0.0):
                self._sluggish.pop(route, None)
                return True
            if self._length(route) < self._left(route):
                return True
            self._sluggish[route] = now + SLUGGISH_SECONDS
            return False

    def next(self, timeout: float) -> Q | None:
        """Take the transaction whose turn it is, waiting up to ``timeout`` seconds; call
        :meth:`done` with it afterwards.
        """
        with self._lock:
            taken = self._take()
            if taken is None:
                self._idle += 1
                self._space.notify()
                self._work.wait(timeout)
                self._idle -= 1
                taken = self._take()
            return taken

    def done(self, transaction: Q) -> None:
        """Give back the place of a transaction that :meth:`next` gave; whoever calls this calls
        :meth:`next` again, or :meth:`close` was called.
        """
        with self._lock:
            self._count -= 1
            if _less(self._under_way, transaction.route) and not self._length(transaction.route):
                self._paces.pop(transaction.route, None)
            if self._together(transaction.route) < sys.maxsize:
                _less(self._of_tenants, transaction.tenant_id)
            if self._roomy():
                self._space.notify()

    def wake(self) -> None:
        """Look again: a gate may have opened."""
        with self._lock:
            self._work.notify_all()

    def shut_out(self, soon: float, late: float) -> list[Q]:
        """Take out what waits before gates that stay shut for long.

        For more than ``soon`` seconds: what has other candidate routes; for more than ``late``:
        all.
        """
        with self._lock:
            now = time.monotonic()
            out: list[Q] = []
            for route, until in list(self._shut.items()):
                if until > now + late:
                    out += self._remove(route, 0)
                elif until > now + soon:
                    for line, key in self._queues_of(route):
                        out += [one for one in line[key] if one.candidates]
                        line[key] = deque(one for one in line[key] if not one.candidates)
                        if not line[key]:
                            del line[key]
                    self._count -= sum(1 for one in out if one.route == route)
                    self._clear(route)
            self._space.notify_all()
            return out

    def cut(self) -> list[Q]:
        """Take out the ends of the lines that are slow if the room is full while a sender has
        nothing to do; else nothing.

        A line is slow if its head has waited for ``patience`` seconds. What is left of it keeps its
        connections busy meanwhile.
        """
        with self._lock:
            slow = self._slow()
            self._sluggish |= dict.fromkeys(slow, time.monotonic() + SLUGGISH_SECONDS)
            return [transaction for route in slow for transaction in self._remove(route, self._left(route))]

    def close(self) -> list[Q]:
        """Take out everything that waits, and give out nothing any more."""
        with self._lock:
            self._closed = True
            routes = {route for line in self._waiting.values() for route, _ in line}
            taken = [transaction for route in routes for transaction in self._remove(route, 0)]
            self._work.notify_all()
            return taken

    def _take(self) -> Q | None:
        """Take by lane first, then by route and tenant in turn."""
        ready = {lane: [key for key in line if self._has_connection(key)] for lane, line in self._waiting.items()}
        while not self._closed and (lane := self._turns.next(ready)) is not None:
            key = next((key for key in ready[lane] if self._passes(key[0])), None)
            if key is None:
                ready[lane] = []
                continue
            return self._taken(lane, key)
        return None

    def _taken(self, lane: str, key: Key) -> Q:
        route, line = key[0], self._waiting[lane]
        waiting = line.pop(key)
        transaction = waiting.popleft()
        if waiting:
            line[key] = waiting  # at the end: the next turn is another's
        self._passed.discard(route)
        self._under_way[route] += 1
        if self._together(route) < sys.maxsize:
            self._of_tenants[transaction.tenant_id] += 1
        now = time.monotonic()
        self._paces.setdefault(route, Pace(now)).went(now)
        return transaction

    def _has_connection(self, key: Key) -> bool:
        route, tenant_id = key
        return self._under_way[route] < self._connections(route) and self._of_tenants[tenant_id] < self._together(route)

    def _passes(self, route: str) -> bool:
        if route in self._passed:
            return True
        wait = self._gate(route, min(self._length(route), self._connections(route) - self._under_way[route]))
        if wait:
            self._shut[route] = time.monotonic() + wait
            return False
        self._shut.pop(route, None)
        self._passed.add(route)
        return True

    def _roomy(self) -> bool:
        return self._room - self._count >= (1 if self._idle else max(1, self._room // CHUNK))

    def _slow(self) -> list[str]:
        """Return the routes whose lines are to be cut."""
        if self._count < self._room or not self._idle:
            return []
        latest = time.monotonic() - self._patience
        full = [key[0] for line in self._waiting.values() for key in line if not self._has_connection(key)]
        slow = dict.fromkeys([*full, *self._shut])
        return [route for route in slow if self._length(route) > self._left(route) and self._since(route) <= latest]

    def _left(self, route: str) -> int:
        pace = self._paces.get(route)
        going = math.ceil(pace.at(time.monotonic()) * AWAY_AND_BACK) if pace else 0
        most = max(1, self._room * 3 // 4)
        if route in self._shut:  # needs no sender to be slow, so there may be many such: they share that
            return min(max(self._connections(route) * LEFT_PER_CONNECTION, going), max(1, most // len(self._shut)))
        return max(self._connections(route) * LEFT_PER_CONNECTION, min(going, most))

    def _queues_of(self, route: str) -> list[tuple[dict[Key, deque[Q]], Key]]:
        return [(line, key) for line in self._waiting.values() for key in line if key[0] == route]

    def _length(self, route: str) -> int:
        return sum(len(line[key]) for line, key in self._queues_of(route))

    def _since(self, route: str) -> float:
        return min(line[key][0].lined_up for line, key in self._queues_of(route))

    def _clear(self, route: str) -> None:
        """Forget what the gate said of a route if nothing waits for it any more."""
        if not self._queues_of(route):
            self._shut.pop(route, None)
            self._passed.discard(route)

    def _remove(self, route: str, left: int) -> list[Q]:
        """Take out a route's lines but for the first ``left``: those of higher lanes, but one of
        each line if there are enough.
        """
        lines = self._queues_of(route)
        removed: list[Q] = []
        for behind, (line, key) in zip(range(len(lines) - 1, -1, -1), lines, strict=True):
            waiting = list(line.pop(key))
            stay = waiting[: max(min(left, 1), left - behind)]
            if stay:
                line[key] = deque(stay)
            removed += waiting[len(stay) :]
            left -= len(stay)
        self._clear(route)
        self._count -= len(removed)
        self._space.notify_all()
        return removed


def _less(counts: Counter[T], what: T) -> bool:
    """Count one less; say whether none is left."""
    counts[what] -= 1
    if counts[what]:
        return False
    del counts[what]
    return True
