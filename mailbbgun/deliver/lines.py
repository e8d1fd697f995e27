"""The lines in which claimed transactions wait for a sender: one per route and lane, with fair turns and bounded room.

A sender takes the next transaction whose route has a connection to spare, so a slow destination holds back only its own mail.
"""

import threading
import time
from collections import deque
from collections.abc import Mapping

from mailbbgun.deliver.claim import Transaction
from mailbbgun.queues.lanes import LANES, Turns

ROOM_PER_CONNECTION = 8  # claims waiting and under way for each sender
# What stays of a line that is cut: enough to keep its connections busy, too little for such lines to fill the room while a sender is idle.
LEFT_PER_CONNECTION = 2
CHUNK = 4  # while all senders are busy, room is worth a claim when a fourth of it is free: many claims in one statement
PATIENCE = 5.0  # seconds the head of a line may wait while senders have nothing to do


class Lines:
    """Thread-safe. ``room`` bounds what is claimed here, waiting and under way; ``per_route`` what one route has under way, or ``fewer`` of some."""

    def __init__(self, room: int, per_route: int, patience: float = PATIENCE, fewer: Mapping[str, int] | None = None) -> None:
        self._room = room
        self._per_route = per_route
        self._fewer = fewer or {}
        self._patience = patience
        self._lock = threading.Lock()
        self._work = threading.Condition(self._lock)  # something to send
        self._space = threading.Condition(self._lock)  # room for a claim, or a line to cut
        self._waiting: dict[str, dict[str, deque[Transaction]]] = {lane: {} for lane in LANES}  # lane → route → line
        self._under_way: dict[str, int] = {}
        self._count = 0
        self._idle = 0
        self._turns = Turns()
        self._closed = False

    def wait_for_room(self, timeout: float) -> int:
        """Return how many more transactions there is room for, waiting up to ``timeout`` seconds until a claim is worth while.

        Returns 0 at once when :meth:`cut` would make room.
        """
        with self._lock:
            self._space.wait_for(lambda: self._closed or self._roomy() or self._slow(), timeout)
            return 0 if self._closed else max(0, self._room - self._count)

    def add(self, transaction: Transaction) -> None:
        """Put a transaction at the end of its line."""
        with self._lock:
            transaction.lined_up = time.monotonic()
            self._waiting[transaction.lane].setdefault(transaction.route, deque()).append(transaction)
            self._count += 1
            self._work.notify()

    def next(self, timeout: float) -> Transaction | None:
        """Take the transaction whose turn it is, waiting up to ``timeout`` seconds; call :meth:`done` with it afterwards."""
        with self._lock:
            taken = self._take()
            if taken is None:
                self._idle += 1
                self._space.notify()
                self._work.wait(timeout)
                self._idle -= 1
                taken = self._take()
            return taken

    def done(self, transaction: Transaction) -> None:
        """Give back the place of a transaction that :meth:`next` gave; whoever calls this calls :meth:`next` again, or :meth:`close` was called."""
        with self._lock:
            self._count -= 1
            left = self._under_way[transaction.route] - 1
            if left:
                self._under_way[transaction.route] = left
            else:
                del self._under_way[transaction.route]
            if self._roomy():
                self._space.notify()

    def cut(self) -> list[Transaction]:
        """Take out the ends of the lines that are slow if the room is full while a sender has nothing to do; else nothing.

        A line is slow if its head has waited for ``patience`` seconds. What is left of it keeps its connections busy meanwhile.
        """
        with self._lock:
            return [transaction for route in self._slow() for transaction in self._remove(route, self._left(route))]

    def close(self) -> list[Transaction]:
        """Take out everything that waits, and give out nothing any more."""
        with self._lock:
            self._closed = True
            routes = {route for line in self._waiting.values() for route in line}
            taken = [transaction for route in routes for transaction in self._remove(route, 0)]
            self._work.notify_all()
            return taken

    def _take(self) -> Transaction | None:
        """Take by lane first, then by route in turn."""
        ready = {lane: [r for r in line if self._under_way.get(r, 0) < self._most(r)] for lane, line in self._waiting.items()}
        lane = None if self._closed else self._turns.next(ready)
        if lane is None:
            return None
        route = ready[lane][0]
        line = self._waiting[lane]
        waiting = line.pop(route)
        transaction = waiting.popleft()
        if waiting:
            line[route] = waiting  # at the end: the next turn is another route's
        self._under_way[route] = self._under_way.get(route, 0) + 1
        return transaction

    def _roomy(self) -> bool:
        return self._room - self._count >= (1 if self._idle else max(1, self._room // CHUNK))

    def _slow(self) -> list[str]:
        """Return the routes whose lines are to be cut."""
        if self._count < self._room or not self._idle:
            return []
        latest = time.monotonic() - self._patience
        full = [route for route, count in self._under_way.items() if count >= self._most(route)]
        return [route for route in full if self._length(route) > self._left(route) and self._since(route) <= latest]

    def _most(self, route: str) -> int:
        return self._fewer.get(route, self._per_route)

    def _left(self, route: str) -> int:
        return self._most(route) * LEFT_PER_CONNECTION

    def _length(self, route: str) -> int:
        return sum(len(line.get(route, ())) for line in self._waiting.values())

    def _since(self, route: str) -> float:
        return min(line[route][0].lined_up for line in self._waiting.values() if route in line)

    def _remove(self, route: str, left: int) -> list[Transaction]:
        """Take out a route's line but for the first ``left``: those of higher lanes, but one of each lane if there are enough."""
        lines = [line for line in self._waiting.values() if route in line]
        removed: list[Transaction] = []
        for behind, line in zip(range(len(lines) - 1, -1, -1), lines, strict=True):
            waiting = list(line.pop(route))
            stay = waiting[: max(min(left, 1), left - behind)]
            if stay:
                line[route] = deque(stay)
            removed += waiting[len(stay) :]
            left -= len(stay)
        self._count -= len(removed)
        self._space.notify_all()
        return removed
