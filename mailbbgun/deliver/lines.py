"""The lines in which claimed transactions wait for a sender: one per route and lane, with fair turns and bounded room.

A sender takes the next transaction whose route has a connection to spare, so a slow destination holds back only its own mail.
"""

import threading
from collections import deque

from mailbbgun.deliver.claim import Transaction
from mailbbgun.queues.lanes import LANES, Turns


class Lines:
    """Thread-safe. ``room`` bounds what is claimed here, waiting and under way; ``per_route`` what one route has under way."""

    def __init__(self, room: int, per_route: int) -> None:
        self._room = room
        self._per_route = per_route
        self._lock = threading.Lock()
        self._work = threading.Condition(self._lock)  # something to send
        self._space = threading.Condition(self._lock)  # room for a claim
        self._waiting: dict[str, dict[str, deque[Transaction]]] = {lane: {} for lane in LANES}  # lane → route → line
        self._under_way: dict[str, int] = {}
        self._count = 0
        self._idle = 0
        self._turns = Turns()
        self._closed = False

    def wait_for_room(self, timeout: float) -> int:
        """Return how many more transactions there is room for, waiting up to ``timeout`` seconds for the first place."""
        with self._lock:
            self._space.wait_for(lambda: self._closed or self._count < self._room, timeout)
            return 0 if self._closed else max(0, self._room - self._count)

    def add(self, transaction: Transaction) -> None:
        """Put a transaction at the end of its line."""
        with self._lock:
            self._waiting[transaction.lane].setdefault(transaction.route, deque()).append(transaction)
            self._count += 1
            self._work.notify()

    def next(self, timeout: float) -> Transaction | None:
        """Take the transaction whose turn it is, waiting up to ``timeout`` seconds; call :meth:`done` with it afterwards."""
        with self._lock:
            taken = self._take()
            if taken is None:
                self._idle += 1
                self._work.wait(timeout)
                self._idle -= 1
                taken = self._take()
            return taken

    def done(self, transaction: Transaction) -> None:
        """Give back the place of a transaction that :meth:`next` gave."""
        with self._lock:
            self._count -= 1
            left = self._under_way[transaction.route] - 1
            if left:
                self._under_way[transaction.route] = left
            else:
                del self._under_way[transaction.route]
            self._space.notify()
            self._work.notify()

    def stuck(self) -> list[Transaction]:
        """Take out what waits for the longest route if it fills the room while senders have nothing to do; else nothing."""
        with self._lock:
            if self._count < self._room or not self._idle:
                return []
            lengths: dict[str, int] = {}
            for line in self._waiting.values():
                for route, waiting in line.items():
                    lengths[route] = lengths.get(route, 0) + len(waiting)
            return self._remove(max(lengths, key=lengths.__getitem__)) if lengths else []

    def close(self) -> list[Transaction]:
        """Take out everything that waits, and give out nothing any more."""
        with self._lock:
            self._closed = True
            routes = {route for line in self._waiting.values() for route in line}
            taken = [transaction for route in routes for transaction in self._remove(route)]
            self._work.notify_all()
            return taken

    def _take(self) -> Transaction | None:
        """Take by lane first, then by route in turn."""
        ready = {lane: [r for r in line if self._under_way.get(r, 0) < self._per_route] for lane, line in self._waiting.items()}
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

    def _remove(self, route: str) -> list[Transaction]:
        removed = [transaction for line in self._waiting.values() for transaction in line.pop(route, ())]
        self._count -= len(removed)
        self._space.notify_all()
        return removed
