"""Lets clients take turns: the one that has used the least time so far is next.

Time is of a resource that clients share: the poller's CPU, or a thread of the pool. First networks
take turns, then the connections of one network. So an address with 500 connections gets no more
than an address with one, and beside 500 busy connections of its own address, a new one is next.

It works as a fair scheduler does: each network and each connection has a count of the seconds that
it has used. A count that lags far behind is set forward, so nobody saves up time while idle.
"""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from heapq import heappop, heappush, heapreplace
from itertools import count
from threading import Lock
from typing import Any, Generic, TypeVar

T = TypeVar("T")

#: Seconds that one that was idle is ahead of those that are busy. An ordinary request takes less.
LEAD = 0.005

#: Networks to remember, at least. Beyond, those of which nothing waits are forgotten.
REMEMBERED = 1024


@dataclass(slots=True, eq=False)
class Share:
    """What a connection or a network has used of one resource, in seconds."""

    used: float = 0.0
    line: Any = None  # the line that counts it


@dataclass(frozen=True, slots=True)
class Turn(Generic[T]):
    """A turn of ``entry``. Its time counts for these shares."""

    shares: tuple[Share, Share]
    entry: T


class _Line(Generic[T]):
    """Waiting entries. First is one whose share has used least; of equals, the one added first."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Share, T]] = []
        self._numbers = count()
        self._reached = 0.0  # the most that a share had used when it came to its turn

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, share: Share, entry: T) -> None:
        if share.line is not self:
            share.line, share.used = self, self._reached - LEAD
        share.used = max(share.used, self._reached - LEAD)
        heappush(self._heap, (share.used, next(self._numbers), share, entry))

    def take(self) -> tuple[Share, T]:
        heap = self._heap
        while (first := heap[0])[2].used > first[0]:  # it has used more since it was added
            heapreplace(heap, (first[2].used, first[1], first[2], first[3]))
        used, _, share, entry = heappop(heap)
        self._reached = max(self._reached, used)
        return share, entry


class Turns(Generic[T]):
    """Waiting entries of clients."""

    def __init__(self) -> None:
        self._networks: dict[str | None, tuple[Share, _Line[T]]] = {}
        self._line: _Line[_Line[T]] = _Line()  # of networks of which something waits
        self._most = REMEMBERED

    def __bool__(self) -> bool:
        return bool(self._line)

    def add(self, network: str | None, share: Share, entry: T) -> None:
        """Let an entry wait for its turn. ``share`` is its connection's."""
        found = self._networks.get(network)
        if found is None:
            found = self._add_network(network)
        if not found[1]:
            self._line.add(*found)
        found[1].add(share, entry)

    def take(self) -> Turn[T]:
        """Return the next turn. Something must wait."""
        network, entries = self._line.take()
        share, entry = entries.take()
        if entries:
            self._line.add(network, entries)
        return Turn((network, share), entry)

    def charge(self, turn: Turn[Any], seconds: float) -> None:
        """Note how long a turn has taken. Its connection may wait again already."""
        for share in turn.shares:
            share.used += seconds

    def _add_network(self, network: str | None) -> tuple[Share, _Line[T]]:
        if len(self._networks) >= self._most:
            self._networks = dict(self._waiting())
            self._most = max(REMEMBERED, 2 * len(self._networks))
        found = self._networks[network] = Share(), _Line()
        return found

    def _waiting(self) -> Iterator[tuple[str | None, tuple[Share, _Line[T]]]]:
        return ((network, found) for network, found in self._networks.items() if found[1])


class RequestThreads:
    """A pool of threads. A request waits until one is free and it is its client's turn."""

    def __init__(self, number: int, name: str) -> None:
        self._pool = ThreadPoolExecutor(number, name)
        self._turns: Turns[Callable[[], None]] = Turns()  # requests that wait
        self._lock = Lock()  # of self._turns

    def submit(self, network: str | None, share: Share, serve: Callable[[], None]) -> None:
        """Call ``serve`` in a thread. ``share`` is of the connection's use of these threads."""
        with self._lock:
            self._turns.add(network, share, serve)
        self._pool.submit(self._serve_next)

    def close(self) -> None:
        """End the threads, without waiting for those that are busy."""
        self._pool.shutdown(wait=False)

    def _serve_next(self) -> None:
        """Serve the request of the client whose turn it is."""
        with self._lock:
            turn = self._turns.take()
        began = time.monotonic()
        try:
            turn.entry()
        finally:
            with self._lock:
                self._turns.charge(turn, time.monotonic() - began)
