"""The life of a connection: the poller accepts, reads, answers and closes it, within its limits."""

import math
import socket
import time
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

from mailbbgun.core.net import network_of
from mailbbgun.server.client_limits import FREE, LINGER_SECONDS, SENT_AT_ONCE, SMALL, ServerLimits, Stage
from mailbbgun.server.incoming import Incoming
from mailbbgun.server.poller import READ, WRITE, Poller
from mailbbgun.server.refusal import Refusal, late, late_body
from mailbbgun.server.registry import Buffers, ClientConnection, ConnectionGroup, ConnectionRegistry, RequestServer

#: Late connections to end in a row.
_ENDED_AT_ONCE = 16

#: Why a connection waits for its turn, beside READ and WRITE: more of what it has sent is here.
_NEXT = 4

#: Seconds between two log lines about connections that were closed to make room.
_TELL_SECONDS = 60.0

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_network_of = lru_cache(maxsize=4096)(network_of)


class Clients:
    """Owns every connection. Only for the poller's thread. ``clock`` gives monotonic seconds."""

    def __init__(
        self,
        cfg: Any,
        limits: ServerLimits,
        poller: Poller,
        server: RequestServer,
        log: Any,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cfg, self._limits, self._poller, self._server, self._log = cfg, limits, poller, server, log
        self._clock = clock
        self._seconds = dict(limits.seconds)
        self._registry = ConnectionRegistry(clock)
        self._buffers = Buffers(limits.buffers)
        self._stopping_since: float | None = None
        self._made_room, self._told = 0, -math.inf

    def __len__(self) -> int:
        return self._registry.all.connections

    # Open and close.

    def add(self, accepted: socket.socket, client: Any, server_address: Any) -> None:
        """Take a new connection. If there are too many then, close another one."""
        accepted.setblocking(False)
        counted = self._limits.connections_per_address is not None and isinstance(client, tuple)
        network = _network_of(client[0]) if counted else None
        now = self._clock()
        incoming = Incoming(self._cfg, client, self._limits.body)
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
        connection.unsent = b""
        connection.socket.close()

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

    def end_late(self) -> bool:
        """End late connections: requests with a 408 (RFC 9110 §15.5.9), others silently.

        Return whether there are more. Thousands may be late at once: between two calls, the poller
        serves other connections.
        """
        stopping_since = -math.inf if self._stopping_since is None else self._stopping_since
        for ended, connection in enumerate(self._registry.all.late(self._clock(), self._seconds, stopping_since)):
            if ended == _ENDED_AT_ONCE:
                return True
            match connection.stage:
                case Stage.BODY if self._stopping_since is None:
                    self._refuse(connection, late_body(connection.moved, self._limits))
                case Stage.HEAD | Stage.BODY as stage:
                    self._refuse(connection, late(stage.name.lower(), self._seconds[stage]))
                case _:
                    self._abort(connection)
        return False

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
        if connection.moved < self._limits.pace:
            return
        now = self._clock()
        if now - connection.began < self._limits.transfer:
            connection.since, connection.moved = now, 0
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

    # Read.

    def _on_ready(self, connection: ClientConnection, ready: int) -> None:
        """Let a connection wait for its turn, if it does not wait yet."""
        if not connection.ready:
            self._poller.in_turn(connection.network, connection.share, partial(self._work, connection))
        connection.ready |= ready

    def _work(self, connection: ClientConnection) -> None:
        """Read or send a little for a connection whose turn it is."""
        ready, connection.ready = connection.ready, 0
        try:
            if connection.stage is Stage.ANSWER:
                self._send_more(connection)
            elif ready & _NEXT:
                if connection.stage in (Stage.SERVED, Stage.BODY):  # else it has become late while it waited
                    self._advance(connection, connection.incoming.next, 0)
            elif connection.stage is not Stage.CLOSED:
                self._read(connection)
        except Exception:  # noqa: BLE001 - a bug of ours: it must not end other connections
            self._log.exception("Error in a connection")
            self.close(connection)

    def _read(self, connection: ClientConnection) -> None:
        served = connection.stage is Stage.SERVED
        # While a request is served, the next one stays in the kernel: here it would take memory,
        # and nothing could be done with it yet.
        size, flags = (1, socket.MSG_PEEK) if served else (connection.incoming.read_size, 0)
        try:
            data = connection.socket.recv(size, flags)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:  # reset
            data, connection.broken = b"", True
        if not data:
            self._on_end(connection)
        elif served:
            self._watch(connection, 0)  # until that request is answered
        elif connection.stage is Stage.CLOSING:
            self._discard(connection, len(data))
        else:
            self._advance(connection, partial(connection.incoming.take, data), len(data))

    def _on_end(self, connection: ClientConnection) -> None:
        """Note that the client sends nothing more."""
        connection.ended = True
        if connection.stage is Stage.SERVED:  # still counted, or a client could have too many requests served
            self._watch(connection, 0)
        else:
            self.close(connection)

    def _discard(self, connection: ClientConnection, size: int) -> None:
        connection.discarded += size
        if connection.discarded > self._limits.body + SMALL:
            self.close(connection)
        else:
            self._progress(connection, size)

    def _advance(self, connection: ClientConnection, step: Callable[[], Any], size: int) -> None:
        """Take a step of ``size`` bytes. Serve the request that it completes, or wait for more."""
        try:
            request = step()
        except Refusal as refusal:
            self._refuse(connection, refusal)
            return
        if request is not None:
            if connection.stage is not Stage.SERVED:
                self._registry.move(connection, Stage.SERVED)
            self._hold(connection, connection.held + size)
            if self._buffers.full and connection.incoming.held > FREE:
                self._discard_pipelined(connection)
            self._server.serve(connection, request)
        else:
            self._wait(connection, size)

    def _discard_pipelined(self, connection: ClientConnection) -> None:
        """Discard pipelined requests. The client sends them again (RFC 9112 §9.3.2)."""
        connection.cut = True
        self._hold(connection, connection.held - connection.incoming.discard_pipelined())

    def parse(self, connection: ClientConnection, whole: bytes) -> None:
        """Serve a request the usual way, because the quick way has declined it."""
        self._advance(connection, partial(connection.incoming.parse, whole), 0)

    def _wait(self, connection: ClientConnection, size: int) -> None:
        incoming = connection.incoming
        stage = Stage.BODY if incoming.in_body else Stage.HEAD if incoming.held else Stage.IDLE
        if (
            (connection.ended and not incoming.has_more)
            or connection.cut
            or (stage is Stage.IDLE and self._stopping_since is not None)
        ):
            self.close(connection)
            return
        if connection.stage is not stage:
            self._registry.move(connection, stage)
        elif stage is Stage.BODY:
            self._progress(connection, size)
        self._hold(connection, incoming.held)
        if connection.stage is Stage.CLOSED:
            return
        self._watch(connection, 0 if incoming.has_more else READ)
        if incoming.has_more:  # a body in tiny chunks
            self._on_ready(connection, _NEXT)
        elif incoming.expects_continue():
            self._send_continue(connection)

    def _send_continue(self, connection: ClientConnection) -> None:
        try:
            if connection.socket.send(_CONTINUE) < len(_CONTINUE):
                self.close(connection)
        except BlockingIOError:  # the client reads nothing; it may send the body all the same (RFC 9110 §10.1.1)
            pass
        except OSError:
            self.close(connection)

    # Answer.

    def _refuse(self, connection: ClientConnection, refusal: Refusal) -> None:
        self._registry.move(connection, Stage.SERVED)
        self._server.refused(connection, refusal)
        self.send(connection, refusal.response(), keep_alive=False)

    def send(self, connection: ClientConnection, answer: bytes, *, keep_alive: bool) -> None:
        """Send the response to the request that is being served.

        ``keep_alive``: another request may follow it.
        """
        connection.keep_alive = keep_alive and not connection.cut
        if connection.broken:
            self.close(connection)
            return
        try:
            sent = connection.socket.send(answer)
        except BlockingIOError:
            sent = 0
        except OSError:  # the client has gone
            self.close(connection)
            return
        if sent == len(answer):
            self._after_answer(connection)
            return
        connection.unsent = memoryview(answer)[sent:]
        self._registry.move(connection, Stage.ANSWER)
        self._watch(connection, WRITE)
        self._hold(connection, len(answer) + connection.incoming.held)

    def _send_more(self, connection: ClientConnection) -> None:
        try:
            sent = connection.socket.send(connection.unsent[:SENT_AT_ONCE])
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self.close(connection)
            return
        connection.unsent = connection.unsent[sent:]
        if connection.unsent:
            self._progress(connection, sent)
        else:
            self._registry.move(connection, Stage.SERVED)
            self._watch(connection, READ)  # not WRITE: the socket is writable, so every turn would report it
            self._after_answer(connection)

    def _after_answer(self, connection: ClientConnection) -> None:
        connection.unsent = b""
        self._hold(connection, connection.incoming.held)
        if not connection.keep_alive or self._stopping_since is not None:
            self._close_gracefully(connection)
        elif connection.incoming.held:  # a pipelined request
            self._on_ready(connection, _NEXT)
        else:
            self._wait(connection, 0)
