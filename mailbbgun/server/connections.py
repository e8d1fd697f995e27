"""Opens and closes connections, and keeps them within their limits of number, time and bytes."""

import math
import socket
import time
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

from mailbbgun.core.net import network_of
from mailbbgun.server.bodies.spool import SpoolThread
from mailbbgun.server.client_limits import FREE, LINGER_SECONDS, ServerLimits, Stage
from mailbbgun.server.incoming import Incoming
from mailbbgun.server.poller import READ, Poller
from mailbbgun.server.registry import Buffers, ClientConnection, ConnectionGroup, ConnectionRegistry, RequestServer

#: Seconds between two log lines about connections that were closed to make room.
_TELL_SECONDS = 60.0

_network_of = lru_cache(maxsize=4096)(network_of)


class Connections:
    """Owns every connection. Only for the poller's thread. ``clock`` gives monotonic seconds."""

    def __init__(
        self,
        cfg: Any,
        limits: ServerLimits,
        poller: Poller,
        server: RequestServer,
        log: Any,
        spools: SpoolThread,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cfg, self._limits, self._poller, self._server, self._log = cfg, limits, poller, server, log
        self._spools = spools
        self._clock = clock
        self._seconds = dict(limits.seconds)
        self._registry = ConnectionRegistry(clock)
        self._buffers = Buffers(limits.buffers)
        self._stopping_since: float | None = None
        self._made_room, self._told = 0, -math.inf

    def __len__(self) -> int:
        return self._registry.all.connections

    def limit(self, limits: ServerLimits) -> None:
        """Have other limits from now on."""
        self._limits = limits
        if self._stopping_since is None:
            self._seconds = dict(limits.seconds)

    # Open and close.

    def add(self, accepted: socket.socket, client: Any, server_address: Any) -> None:
        """Take a new connection. If there are too many then, close another one."""
        accepted.setblocking(False)
        counted = self._limits.connections_per_address is not None and isinstance(client, tuple)
        network = _network_of(client[0]) if counted else None
        now = self._clock()
        incoming = Incoming(self._cfg, client, self._limits.body, self._server.upload_limit)
        connection = ClientConnection(accepted, client, server_address, network, incoming, since=now, began=now)
        connection.handler = partial(self._on_ready, connection)
        group = self._registry.add(connection)
        self._watch(connection, READ)
        if group is not None and group.connections > (self._limits.connections_per_address or 0):
            self.make_room(group)
        elif len(self) > self._limits.connections:
            self.make_room()

    def make_room(self, group: ConnectionGroup | None = None) -> bool:
        """Close one connection of a group, or of all. Return False if all are being served."""
        if (least := (self._registry.all if group is None else group).least()) is None:
            return False
        self._abort(least)
        self._made_room += 1
        now = self._clock()
        if now - self._told > _TELL_SECONDS:
            self._log.warning("Closed %d slow or idle connections to make room for others", self._made_room)
            self._made_room, self._told = 0, now
        return True

    def close(self, connection: ClientConnection) -> None:
        """Close a connection at once."""
        if connection.stage is Stage.CLOSED:
            return
        self._hold(connection, 0)
        self._watch(connection, 0)
        self._registry.remove(connection)
        connection.incoming.drop_upload()
        self._drop_answer(connection)
        connection.socket.close()

    def _drop_answer(self, connection: ClientConnection) -> None:
        connection.unsent = b""
        if connection.unread is not None:
            connection.unread.close()
            connection.unread = None

    def _abort(self, connection: ClientConnection) -> None:
        """Close a connection, and let the kernel discard what it has not sent."""
        if connection.stage is Stage.ANSWER:
            connection.discard_unsent()
        self.close(connection)

    def _close_gracefully(self, connection: ClientConnection) -> None:
        """Close our side, and read on: else the response could be lost (RFC 9112 §9.6)."""
        if connection.ended:
            self.close(connection)
            return
        try:
            connection.socket.shutdown(socket.SHUT_WR)
        except OSError:  # the client has gone
            self.close(connection)
            return
        self._registry.move(connection, Stage.CLOSING)
        self._watch(connection, READ)

    def stop(self) -> None:
        """Close idle connections now, and others after their response.

        Requests that have begun to come get :data:`LINGER_SECONDS` to be complete.
        """
        self._stopping_since = self._clock()
        self._seconds |= {stage: min(self._seconds[stage], LINGER_SECONDS) for stage in (Stage.HEAD, Stage.BODY)}
        for connection in self._registry.all.all(Stage.NEW, Stage.IDLE):
            if not connection.ready:
                self.close(connection)

    def close_all(self) -> None:
        """Close all connections that wait for their clients."""
        for connection in self._registry.all.all(*self._seconds):
            self.close(connection)

    # Wait, and keep bytes.

    def _progress(self, connection: ClientConnection, moved: int) -> None:
        """Extend the deadline of a body or response that keeps the pace, up to the longest time."""
        connection.moved += moved
        if connection.moved >= self._limits.pace and self._clock() - connection.began < self._limits.transfer:
            self._renew(connection)

    def _renew(self, connection: ClientConnection) -> None:
        connection.since, connection.moved = self._clock(), 0
        self._registry.renew(connection)
        self._buffers.renew(connection)

    def _hold(self, connection: ClientConnection, held: int) -> None:
        """Note how many bytes are kept for a connection. Close some if it is too much in all."""
        if held > FREE or connection.held:
            self._buffers.hold(connection, held)
            while (least := self._buffers.excess()) is not None:
                self._abort(least)

    def _watch(self, connection: ClientConnection, ready: int) -> None:
        if connection.watched == ready:
            return
        if not ready:
            self._poller.ignore(connection.socket)
        elif connection.watched:
            self._poller.change(connection.socket, ready, connection.handler)
        else:
            self._poller.watch(connection.socket, ready, connection.handler)
        connection.watched = ready

    def _on_ready(self, connection: ClientConnection, ready: int) -> None:
        """Read or send something for a connection, or note that it is ready for that."""
        raise NotImplementedError
