"""The send queue: claimed transactions wait here until a connection is free.

Transactions of one lane, route and tenant wait in one line. The next to go is one whose route has a
free connection and whose account's limits let it go, so a slow destination holds back only its own
mail. Tenants that share a route take turns. The queue is bounded.
"""

import math
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from typing import Generic

from mailbbgun.queues.lanes import HIGH, WeightedRoundRobin
from mailbbgun.routing.kinds import KindBounds
from mailbbgun.routing.lines import Key, Lines, Q, decrement
from mailbbgun.routing.pace import Throughput

#: Transactions waiting and under way, for each connection.
ROOM_PER_CONNECTION = 8

#: Transactions of a cut line that stay, for each connection: enough until the others come back, and
#: few enough that slow lines do not fill the queue.
LEFT_PER_CONNECTION = 2

#: Seconds after which transactions that were cut come back, at the least.
AWAY_SECONDS = 5.0

#: Seconds after which they are in line again.
AWAY_AND_BACK_SECONDS = AWAY_SECONDS + 2.0

#: While all connections are busy, a claim waits until a fourth of the queue is free: one statement then
#: claims many deliveries.
CHUNK = 4

#: Mail of high priority may exceed the room by this part of it: it does not wait until bulk mail has left.
#: The same part of the room stays free of it, so that other mail moves on beside any amount of it.
RESERVE = 4

#: Seconds for which the head of a line may wait while connections have nothing to do.
PATIENCE = 1.0

#: Seconds for which a route is throttled after its line was cut, or after work for it was refused.
THROTTLED_SECONDS = 10.0
#: Seconds, at most, until a look at all gates and bounds: accounts and their limits change.
LOOK_SECONDS = 0.5


def no_bound(route: str) -> int:
    """The default of ``connections_per_tenant`` and ``connections_of_kind``: no bound."""
    del route
    return sys.maxsize


def open_gate(route: str, waiting: Callable[[], int]) -> float:
    """The default of ``gate``: everything may go."""
    del route, waiting
    return 0.0


def nobody_to_wake() -> None:
    """The default of ``bell``."""


class SendQueue(Generic[Q]):
    """Claimed transactions that wait for a connection. Thread-safe.

    ``room`` bounds the transactions waiting and under way. ``connections`` returns how many a route
    may have under way. ``connections_per_tenant`` and ``connections_of_kind`` return how many one
    tenant, and all, may have under way on all routes of that kind (``kinds.py``).

    ``gate`` is asked before a transaction goes, with its route and a function that counts how many
    could go at once. It returns 0 to let one go, else for how many seconds none may go. ``bell`` is called when
    :meth:`take` may return something that it did not return before.
    """

    def __init__(
        self,
        room: int,
        connections: Callable[[str], int],
        patience: float = PATIENCE,
        gate: Callable[[str, Callable[[], int]], float] = open_gate,
        connections_per_tenant: Callable[[str], int] = no_bound,
        connections_of_kind: Callable[[str], int] = no_bound,
        bell: Callable[[], None] = nobody_to_wake,
    ) -> None:
        self._room = room
        self._connections = connections
        self._patience = patience
        self._gate = gate
        self._kinds = KindBounds(connections_per_tenant, connections_of_kind, ROOM_PER_CONNECTION)
        self._bell = bell
        self._paces: dict[str, Throughput] = {}  # of routes that have something under way
        self._throttled: dict[str, float] = {}  # route → until when, monotonic seconds
        self._shut: dict[str, float] = {}  # route → when its gate may open, monotonic seconds
        self._lock = threading.Lock()
        self._space = threading.Condition(self._lock)  # room for a claim, or a line to cut
        self._lines: Lines[Q] = Lines()
        self._under_way: Counter[str] = Counter()
        self._count = 0
        self._urgent = 0  # those of them in the lane of high priority
        self._idle = 0  # connections for which the last take found nothing
        self._turns = WeightedRoundRobin()
        self._changed = False  # whether more may go than at the last take
        self._ask_all = False  # whether gates that are shut are to be asked before their time
        self._look = 0.0  # when all of them are; monotonic seconds
        self._again = 0.0  # when to take again though nothing has changed; monotonic seconds
        self._closed = False

    def resize(self, room: int) -> None:
        """Have another ``room`` from now on. What waits stays."""
        with self._space:
            self._room = room
            self._space.notify_all()

    def wait_for_room(self, timeout: float, *, urgent: bool = False) -> int:
        """Wait until a claim is worth while, or ``timeout`` seconds; return the free room.

        Returns 0 at once if :meth:`cut` would make room. ``urgent``: the room is for mail of high
        priority. It has a reserve, and one free place is worth a claim.
        """
        with self._lock:
            if urgent:
                self._space.wait_for(lambda: self._closed or self._urgent_room() > 0, timeout)
                return 0 if self._closed else max(0, self._urgent_room())
            self._space.wait_for(lambda: self._closed or self._has_room() or self._slow(), timeout)
            return 0 if self._closed else max(0, self._room - self._count)

    def add(self, transactions: Iterable[Q]) -> list[Q]:
        """Put transactions at the ends of their lines; return those for whose kind of route there is no room."""
        refused = []
        with self._lock:
            now = time.monotonic()
            for transaction in transactions:
                key = transaction.route, transaction.tenant_id
                if not self._kinds.has_room(key):
                    refused.append(transaction)
                    continue
                transaction.lined_up = now
                self._lines.add(transaction)
                self._kinds.came(key)
                self._count += 1
                self._urgent += transaction.lane == HIGH
            self._changed = True
        self._bell()
        return refused

    def permitted(self) -> None:
        """Ask the gates again: an account has got new permits."""
        with self._lock:
            self._changed = self._ask_all = True
        self._bell()

    def takes(self, route: str) -> bool:
        """Return whether the queue accepts new work for a route.

        It refuses new work for a throttled route once the route's quota in the queue is full.
        """
        with self._lock:
            now = time.monotonic()
            if now >= self._throttled.get(route, 0.0):
                self._throttled.pop(route, None)
                return True
            if self._lines.length(route) < self._quota(route):
                return True
            self._throttled[route] = now + THROTTLED_SECONDS
            return False

    def take(self, free: int) -> list[Q]:
        """Take what may go now, at most as many as there are ``free`` connections.

        Lanes have weighted turns; in a lane, lines of one route and tenant take turns. Call
        :meth:`done` with each afterwards.
        """
        with self._lock:
            now, was_idle, taken = time.monotonic(), self._idle, list[Q]()
            if self._changed or now >= self._again:
                self._begin_to_take(now)
                ready = {lane: deque(filter(self._has_connection, its)) for lane, its in self._lines.by_lane.items()}
                while len(taken) < free and not self._closed and (lane := self._turns.next(ready)) is not None:
                    key = ready[lane].popleft()
                    if self._has_connection(key) and self._gate_open(key[0], now):
                        taken.append(self._taken(lane, key, now))
                        if key in self._lines.by_lane[lane]:
                            ready[lane].append(key)  # at the end: the next turn is another tenant's or route's
                self._ask_all, self._changed = False, len(taken) == free  # all connections were used: more may be ready
            self._idle = free - len(taken)
            if self._idle and not was_idle:
                self._space.notify_all()
            return taken

    def again_in(self) -> float:
        """Return in how many seconds :meth:`take` may find more, though the bell has not rung."""
        with self._lock:
            return max(0.0, self._again - time.monotonic())

    def done(self, transaction: Q) -> None:
        """Give back the place of a transaction that :meth:`take` returned."""
        with self._lock:
            self._count -= 1
            self._urgent -= transaction.lane == HIGH
            self._changed = True
            if decrement(self._under_way, transaction.route) and not self._lines.length(transaction.route):
                self._paces.pop(transaction.route, None)
            key = transaction.route, transaction.tenant_id
            self._kinds.came_back(key)
            self._kinds.left(key)
            if self._has_room() or transaction.lane == HIGH:
                self._space.notify_all()

    def take_out_shut(self, soon: float, late: float) -> list[Q]:
        """Take out transactions whose gate stays shut for long.

        If it stays shut for more than ``soon`` seconds, those that have other candidate routes; for
        more than ``late`` seconds, all of them.
        """
        with self._lock:
            now = time.monotonic()
            out: list[Q] = []
            for route, until in list(self._shut.items()):
                if until > now + late:
                    out += self._remove(route, 0)
                elif until > now + soon:
                    for lane, key in self._lines.of(route):
                        stay = [one for one in self._lines.by_lane[lane][key] if not one.candidates]
                        out += self._take_out(lane, key, stay)
                    self._clear(route)
            return out

    def cut(self) -> list[Q]:
        """Take out the ends of slow lines if the queue, or its part for mail of high priority, is full while a
        connection has nothing to do.

        A line is slow if its head has waited for ``patience`` seconds. The transactions that stay
        keep its connections busy. Returns an empty list if nothing is to be cut.
        """
        with self._lock:
            slow = self._slow()
            self._throttled |= dict.fromkeys(slow, time.monotonic() + THROTTLED_SECONDS)
            return [transaction for route in slow for transaction in self._remove(route, self._quota(route))]

    def counts(self) -> tuple[int, int]:
        """Return how many transactions wait, and how many are under way."""
        with self._lock:
            under_way = sum(self._under_way.values())
            return self._count - under_way, under_way

    def close(self) -> list[Q]:
        """Take out everything that waits; from now on :meth:`take` returns nothing."""
        with self._lock:
            self._closed = True
            return [transaction for route in self._lines.routes() for transaction in self._remove(route, 0)]

    def _begin_to_take(self, now: float) -> None:
        self._again = now + LOOK_SECONDS
        if now >= self._look:
            self._ask_all, self._look = True, now + LOOK_SECONDS

    def _taken(self, lane: str, key: Key, now: float) -> Q:
        route, transaction = key[0], self._lines.pop(lane, key)
        self._under_way[route] += 1
        self._kinds.went(key)
        self._paces.setdefault(route, Throughput(now)).went(now)
        return transaction

    def _has_connection(self, key: Key) -> bool:
        return self._under_way[key[0]] < self._connections(key[0]) and self._kinds.has_connection(key)

    def _gate_open(self, route: str, now: float) -> bool:
        opens = self._shut.get(route, 0.0)
        if opens <= now or self._ask_all:
            free = self._connections(route) - self._under_way[route]
            wait = self._gate(route, lambda: min(self._lines.length(route), free))
            if not wait:
                self._shut.pop(route, None)
                return True
            opens = self._shut[route] = now + wait
        self._again = min(self._again, opens)
        return False

    def _has_room(self) -> bool:
        return self._room - self._count >= (1 if self._idle else max(1, self._room // CHUNK))

    def _urgent_room(self) -> int:
        reserve = max(1, self._room // RESERVE)
        return min(self._room + reserve - self._count, max(1, self._room - reserve) - self._urgent)

    def _slow(self) -> list[str]:
        """Return the routes whose lines are to be cut."""
        full = self._count >= self._room or self._urgent_room() <= 0
        if not full or not self._idle:
            return []
        latest = time.monotonic() - self._patience
        busy = [key[0] for key in self._lines.all_keys() if not self._has_connection(key)]
        slow = dict.fromkeys([*busy, *self._shut])
        long = [route for route in slow if self._lines.length(route) > self._quota(route)]
        return [route for route in long if self._lines.waiting_since(route) <= latest]

    def _quota(self, route: str) -> int:
        pace = self._paces.get(route)
        going = math.ceil(pace.at(time.monotonic()) * AWAY_AND_BACK_SECONDS) if pace else 0
        most = max(1, self._room * 3 // 4)
        # A shut route needs no busy connection to be slow, so there may be many: they share the room.
        if route in self._shut:
            return min(max(self._connections(route) * LEFT_PER_CONNECTION, going), max(1, most // len(self._shut)))
        return max(self._connections(route) * LEFT_PER_CONNECTION, min(going, most))

    def _clear(self, route: str) -> None:
        """Forget what the gate said of a route, if nothing waits for it any more."""
        if not self._lines.length(route):
            self._shut.pop(route, None)

    def _remove(self, route: str, left: int) -> list[Q]:
        """Take out all but the first ``left`` transactions of a route.

        Higher lanes keep the most, but each line keeps one if ``left`` is large enough.
        """
        lines = self._lines.of(route)
        removed: list[Q] = []
        for behind, (lane, key) in zip(range(len(lines) - 1, -1, -1), lines, strict=True):
            waiting = list(self._lines.by_lane[lane][key])
            stay = waiting[: max(min(left, 1), left - behind)]
            removed += self._take_out(lane, key, stay)
            left -= len(stay)
        self._clear(route)
        return removed

    def _take_out(self, lane: str, key: Key, stay: list[Q]) -> list[Q]:
        removed = self._lines.keep(lane, key, stay)
        self._count -= len(removed)
        self._urgent -= len(removed) if lane == HIGH else 0
        for _ in removed:
            self._kinds.left(key)
        self._space.notify_all()
        return removed
