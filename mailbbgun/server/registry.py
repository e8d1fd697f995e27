"""Knows all connections, and which of them to close: late ones, or some to make room.

:class:`ClientConnection` is the state of one, which ``clients.py`` changes.
:class:`ConnectionRegistry` orders connections by time; :class:`Buffers` counts the bytes kept for
them. Only for the poller's thread.
"""

import struct
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from socket import SO_LINGER, SOL_SOCKET, socket
from typing import Any, Protocol

from mailbbgun.http.error_responses import BodyLimit
from mailbbgun.server.bodies.answers import LargeResponse
from mailbbgun.server.client_limits import FREE, Stage
from mailbbgun.server.incoming import Incoming
from mailbbgun.server.refusal import Refusal
from mailbbgun.server.turns import Share

#: The value of the socket option SO_LINGER by which a close discards unsent bytes: on, 0 seconds.
_RESET = struct.pack("ii", 1, 0)

#: The stages in which a connection waits for its client.
_WAITING = (Stage.CLOSING, Stage.IDLE, Stage.NEW, Stage.HEAD, Stage.BODY, Stage.ANSWER)


@dataclass(slots=True, eq=False)
class ClientConnection:
    """A connection and its stage. Times are of the monotonic clock, in seconds."""

    socket: socket
    client: Any  # the client's address, as ``accept`` returned it
    server: Any  # our address
    network: str | None  # the network that it is counted by; None: it is not counted
    incoming: Incoming
    since: float  # when it came to its stage, or last kept the pace
    began: float  # when it came to its stage
    stage: Stage = Stage.NEW
    moved: int = 0  # bytes of the body or response since ``since``
    held: int = 0  # bytes kept for it
    watched: int = 0  # what the poller watches it for: READ, WRITE or 0
    ready: int = 0  # why it waits for its turn: READ, WRITE, NEXT; 0: it does not wait
    share: Share = field(default_factory=Share)  # of the poller's time
    thread_share: Share = field(default_factory=Share)  # of the threads' time
    stranger_share: Share = field(default_factory=Share)  # of that of the threads for strangers
    newcomer_share: Share = field(default_factory=Share)  # of that of the threads for newcomers
    handler: Callable[[int], None] = lambda _: None
    unsent: bytes | memoryview = b""
    unread: LargeResponse | None = None  # the rest of a large response, behind ``unsent``
    keep_alive: bool = False  # another request may follow the response
    ended: bool = False  # the client sends nothing more
    broken: bool = False  # the client neither sends nor reads
    cut: bool = False  # pipelined requests were discarded, so the connection ends with the response
    discarded: int = 0  # bytes that came after a response that ends the connection
    flushing: bool = False  # a thread writes a file or makes a block for it; nothing is read or sent meanwhile
    admitted: Any = None  # the exchange of the upload whose body is coming

    def discard_unsent(self) -> None:
        """Let the kernel discard, at the close, what it has not sent."""
        self.socket.setsockopt(SOL_SOCKET, SO_LINGER, _RESET)


class RequestServer(Protocol):
    """Takes the requests that have come."""

    def serve(self, connection: ClientConnection, request: Any) -> None:
        """Serve a request as :class:`Incoming` returns it.

        When the response is there, call ``Clients.send`` in the poller's thread.
        """

    def refused(self, connection: ClientConnection, refusal: Refusal) -> None:
        """Note that a request was refused."""

    def upload_limit(self, request: Any) -> BodyLimit | None:
        """Return the limit of the body if gunicorn's request is an upload, else None."""

    def admit(self, connection: ClientConnection, request: Any) -> None:
        """Call ``Clients.take_body`` in the poller's thread if the client may send this upload.

        Else send the response.
        """


class ConnectionGroup:
    """Connections, with a list for each stage in which they wait for their clients.

    A connection that makes progress moves to the end of its list. So a list is in the order of its
    deadlines, and its first entry is the late one, or the one to close, however long the list is.
    The lists are each an :class:`OrderedDict`: in a ``dict`` from which many keys were deleted, it
    takes long to find the first key.
    """

    def __init__(self) -> None:
        #: How many connections there are, including those that do not wait.
        self.connections = 0
        self._lists: dict[Stage, OrderedDict[ClientConnection, None]] = {stage: OrderedDict() for stage in _WAITING}

    def add(self, connection: ClientConnection) -> None:
        """Put a connection at the end of its stage's list, if it waits in that stage."""
        if (waiting := self._lists.get(connection.stage)) is not None:
            waiting[connection] = None

    def remove(self, connection: ClientConnection) -> None:
        """Take a connection out of its stage's list."""
        if (waiting := self._lists.get(connection.stage)) is not None:
            waiting.pop(connection, None)

    def renew(self, connection: ClientConnection) -> None:
        """Put a connection that has made progress at the end of its list."""
        self._lists[connection.stage].move_to_end(connection)

    def least(self) -> ClientConnection | None:
        """Return the connection to close when there are too many; None if all are being served.

        It is the one without progress for the longest time, in whatever stage. Every client comes
        through all stages: if one stage were closed first, honest clients in it would be closed
        before the newer connections of an attack.
        """
        firsts = [next(iter(waiting)) for waiting in self._lists.values() if waiting]
        return min(firsts, key=lambda one: one.since, default=None)

    def late(self, now: float, seconds: Mapping[Stage, float], not_before: float) -> Iterator[ClientConnection]:
        """Yield each connection that has been in its stage for longer than the stage's ``seconds``.

        The time counts from ``not_before`` at the earliest. Before asking for the next connection,
        the caller must close this one or move it to another stage.
        """
        for stage, waiting in self._lists.items():
            while waiting and max((first := next(iter(waiting))).since, not_before) + seconds[stage] <= now:
                yield first

    def all(self, *stages: Stage) -> list[ClientConnection]:
        """Return all connections of these stages."""
        return [connection for stage in stages for connection in self._lists[stage]]


class ConnectionRegistry:
    """All connections of the process, and a group of those of each network.

    ``clock`` gives monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self.all = ConnectionGroup()
        self._clock = clock
        self._networks: dict[str, ConnectionGroup] = {}

    def add(self, connection: ClientConnection) -> ConnectionGroup | None:
        """Count a new connection.

        Return the group of its network; None if it is counted by none.
        """
        groups = self._groups(connection)
        for group in groups:
            group.connections += 1
            group.add(connection)
        return None if connection.network is None else groups[1]

    def move(self, connection: ClientConnection, stage: Stage) -> None:
        """Note that a connection comes to another stage now."""
        groups = self._groups(connection)
        for group in groups:
            group.remove(connection)
        connection.stage = stage
        if stage is not Stage.SERVED:  # a request that is being served has no deadline
            connection.since = connection.began = self._clock()
            connection.moved = 0
        for group in groups:
            group.add(connection)

    def renew(self, connection: ClientConnection) -> None:
        """Note that a connection has made progress."""
        for group in self._groups(connection):
            group.renew(connection)

    def remove(self, connection: ClientConnection) -> None:
        """Note that a connection is closed."""
        self.move(connection, Stage.CLOSED)
        for group in self._groups(connection):
            group.connections -= 1
        if connection.network is not None and not self._networks[connection.network].connections:
            del self._networks[connection.network]

    def _groups(self, connection: ClientConnection) -> tuple[ConnectionGroup, ...]:
        if connection.network is None:
            return (self.all,)
        if (group := self._networks.get(connection.network)) is None:
            group = self._networks[connection.network] = ConnectionGroup()
        return self.all, group


class Buffers:
    """Counts the bytes kept for all connections together: requests and answers on their way.

    There should be ``most`` at most. The first ``FREE`` bytes of a connection do not count, because
    the number of connections is bounded, too.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._bytes = 0
        # Connections whose bytes count, in the order of their progress.
        self._holding: OrderedDict[ClientConnection, None] = OrderedDict()

    def hold(self, connection: ClientConnection, held: int) -> None:
        """Note how many bytes are kept for a connection now."""
        counted = held if held > FREE else 0
        self._bytes += counted - connection.held
        connection.held = counted
        if counted:
            self._holding.setdefault(connection)
        else:
            self._holding.pop(connection, None)

    @property
    def full(self) -> bool:
        """Whether more bytes are kept than should be."""
        return self._bytes > self._most

    def renew(self, connection: ClientConnection) -> None:
        """Note that a connection has made progress."""
        if connection in self._holding:
            self._holding.move_to_end(connection)

    def excess(self) -> ClientConnection | None:
        """Return the connection to close because too many bytes are kept; None if there are not.

        It is the one without progress for the longest time that is not being served.
        """
        if not self.full or len(self._holding) < 2:
            return None
        return next((one for one in self._holding if one.stage is not Stage.SERVED), None)
