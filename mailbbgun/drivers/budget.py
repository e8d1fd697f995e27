"""A budget, such as room on a disk, that the coroutines of one loop share."""

from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from mailbbgun.drivers.operations import Suspend


class Budget:
    """So many units, given out in the order in which they are asked for.

    Whoever asks for more than there are gets all of them, once nobody else has any. A later, smaller
    request does not overtake it. All methods belong to the loop's thread.
    """

    def __init__(self, units: int) -> None:
        self._units = self._free = units
        self._waiting: deque[tuple[int, Callable[[None], None]]] = deque()
        self._gives_out = False

    @property
    def free(self) -> int:
        """The units that nobody has."""
        return self._free

    @property
    def waiting(self) -> int:
        """How many coroutines wait for units."""
        return len(self._waiting)

    @asynccontextmanager
    async def taken(self, units: int) -> AsyncIterator[None]:
        """Wait until there are so many units; they are taken until the block ends."""
        units = min(units, self._units)
        if units > self._free or self._waiting:
            await Suspend[None](lambda answer: self._waiting.append((units, answer)))
        else:
            self._free -= units
        try:
            yield
        finally:
            self._free += units
            self._give_out()

    def _give_out(self) -> None:
        if self._gives_out:  # by a coroutine that `answer` let go on: the loop below sees its units
            return
        self._gives_out = True
        try:
            while self._waiting and self._waiting[0][0] <= self._free:
                units, answer = self._waiting.popleft()
                self._free -= units
                answer(None)
        finally:
            self._gives_out = False
