"""Bounds of all routes of a kind together: for one tenant, and for all.

The kind of a route is what stands before its colon. Each of a tenant's slow accounts, or of the
applications that its inbound routes post to, may be within its own bound; together they must
leave connections, and room in the send queue, to others.
"""

import sys
from collections import Counter
from collections.abc import Callable
from uuid import UUID

from mailbbgun.routing.lines import Key, decrement


class KindBounds:
    """Counts what is in the send queue and what is under way, where that is bounded. Not thread-safe.

    ``per_tenant`` and ``of_all`` return how many connections one tenant, and all tenants, may use on
    all routes of a route's kind. Where ``of_all`` is a bound, the room in the queue is bounded, too:
    it is ``room`` for each of these connections, waiting and under way.
    """

    def __init__(self, per_tenant: Callable[[str], int], of_all: Callable[[str], int], room: int) -> None:
        self._per_tenant, self._of_all, self._room = per_tenant, of_all, room
        self._under_way: Counter[tuple[str, UUID | None]] = Counter()  # None: of all tenants
        self._queued: Counter[tuple[str, UUID | None]] = Counter()  # with those under way

    def has_connection(self, key: Key) -> bool:
        """Return whether one more of a line may be under way."""
        return all(self._under_way[whose] < most for whose, most in self._bounds(key))

    def has_room(self, key: Key) -> bool:
        """Return whether one more of a line may be in the queue."""
        route = key[0]
        if self._of_all(route) == sys.maxsize:
            return True
        return all(self._queued[whose] < most * self._room for whose, most in self._bounds(key))

    def came(self, key: Key) -> None:
        """Count one more in the queue."""
        self._queued.update(whose for whose, _ in self._bounds(key))

    def left(self, key: Key) -> None:
        """Count one less in the queue, whether it was under way or taken out."""
        for whose, _ in self._bounds(key):
            decrement(self._queued, whose)

    def went(self, key: Key) -> None:
        """Count one more under way."""
        self._under_way.update(whose for whose, _ in self._bounds(key))

    def came_back(self, key: Key) -> None:
        """Count one less under way."""
        for whose, _ in self._bounds(key):
            decrement(self._under_way, whose)

    def _bounds(self, key: Key) -> list[tuple[tuple[str, UUID | None], int]]:
        """Return what a line counts for, and the most connections of that."""
        route, tenant_id = key
        kind = route.partition(":")[0]
        both = [((kind, tenant_id), self._per_tenant(route)), ((kind, None), self._of_all(route))]
        return [(whose, most) for whose, most in both if most < sys.maxsize]
