"""Connections that wait for their clients, in the order in which they made progress."""

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from mailbbgun.server.limits import Stage

if TYPE_CHECKING:
    from mailbbgun.server.connection import ClientConnection

# In all other stages a connection waits for us, or for nobody.
_WAITING = (Stage.CLOSING, Stage.IDLE, Stage.NEW, Stage.HEAD, Stage.BODY, Stage.ANSWER)


class Waiting:
    """Lists of connections, one for each stage. Whoever makes progress goes to the end of its list.

    A list is so in the order of its deadlines, and finding the late ones, or whom to close, takes a look at its
    first entry, however many there are. :class:`OrderedDict`, because the first key of a ``dict`` from which many
    were deleted takes long to find.
    """

    def __init__(self) -> None:
        self.connections = 0  # also those that do not wait
        self._lists: dict[Stage, OrderedDict[ClientConnection, None]] = {stage: OrderedDict() for stage in _WAITING}

    def add(self, connection: "ClientConnection") -> None:
        """Put a connection at the end of its stage's list, if connections wait in that stage."""
        if (waiting := self._lists.get(connection.stage)) is not None:
            waiting[connection] = None

    def remove(self, connection: "ClientConnection") -> None:
        """Take a connection out of its stage's list."""
        if (waiting := self._lists.get(connection.stage)) is not None:
            waiting.pop(connection, None)

    def renew(self, connection: "ClientConnection") -> None:
        """Put a connection that has made progress at the end of its list."""
        self._lists[connection.stage].move_to_end(connection)

    def least(self) -> "ClientConnection | None":
        """Return the connection to close when there are too many; None if all are being served.

        That is the one without progress for longest, whatever its stage. To prefer a stage would close honest clients
        in it before the clients of an attack that are newer: each comes through all stages.
        """
        firsts = [next(iter(waiting)) for waiting in self._lists.values() if waiting]
        return min(firsts, key=lambda one: one.since, default=None)

    def late(self, now: float, seconds: Mapping[Stage, float], not_before: float) -> Iterator["ClientConnection"]:
        """Give each connection that has been in its stage for longer than that, counted from ``not_before`` at the earliest.

        The caller moves it to another stage, or closes it, before it asks for the next.
        """
        for stage, waiting in self._lists.items():
            while waiting and max((first := next(iter(waiting))).since, not_before) + seconds[stage] <= now:
                yield first

    def all(self, *stages: Stage) -> list["ClientConnection"]:
        """Return all connections of these stages."""
        return [connection for stage in stages for connection in self._lists[stage]]
