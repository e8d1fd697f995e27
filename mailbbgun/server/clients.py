"""All connections of a process: accepted, read, answered and closed by the poller, within their limits."""

import math
import socket
import struct
import time
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

from mailbbgun.core.net import network_of
from mailbbgun.server.buffers import Buffers
from mailbbgun.server.connection import ClientConnection, RequestServer
from mailbbgun.server.incoming import Incoming
from mailbbgun.server.limits import FREE, LINGER_SECONDS, SMALL, ServerLimits, Stage
from mailbbgun.server.poller import READ, WRITE, Poller
from mailbbgun.server.refusal import Refusal, late, late_body
from mailbbgun.server.waiting import Waiting

#: Late connections to end in a row.
_ENDED_AT_ONCE = 16

#: Bytes to hand to the kernel at once.
_SENT_AT_ONCE = 262_144

_TELL_SECONDS = 60.0  # between two log lines that tell of connections closed to make room
_network_of = lru_cache(maxsize=4096)(network_of)
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: on, 0 seconds


class Clients:
    """Owns every connection. Only for the poller's thread. ``clock`` gives seconds that never go back."""

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
        self._all = Waiting()
        self._networks: dict[str, Waiting] = {}
        self._buffers = Buffers(limits.buffers)
        self._stopping_since: float | None = None
        self._made_room, self._told = 0, -math.inf

    def __len__(self) -> int:
        return self._all.connections

    # Connections come and go.

    def welcome(self, accepted: socket.socket, client: Any, server_address: Any) -> None:
        """Take a new connection; close another one if there are too many then."""
        accepted.setblocking(False)
        counted = self._limits.connections_per_address is not None and isinstance(client, tuple)
        network = _network_of(client[0]) if counted else None
        now = self._clock()
        incoming = Incoming(self._cfg, client, self._limits.body)
        connection = ClientConnection(accepted, client, server_address, network, incoming, since=now, began=now)
        connection.handler = partial(self._on_ready, connection)
        groups = self._groups(connection)
        for group in groups:
            group.connections += 1
            group.add(connection)
        self._watch(connection, READ)
        if network is not None and groups[1].connections > (self._limits.connections_per_address or 0):
            self.make_room(groups[1])
        elif self._all.connections > self._limits.connections:
            self.make_room()

    def make_room(self, group: Waiting | None = None) -> bool:
        """Close a connection, one of a group or any, for want of room for another; False if all are being served."""
        if (least := (self._all if group is None else group).least()) is None:
            return False
        self._abort(least)
        self._made_room += 1
        now = self._clock()
        if now - self._told > _TELL_SECONDS:
            self._log.warning("Closed %d slow or idle connections to make room for others", self._made_room)
            self._made_room, self._told = 0, now
        return True

    def _groups(self, connection: ClientConnection) -> tuple[Waiting, ...]:
        if connection.network is None:
            return (self._all,)
        if (group := self._networks.get(connection.network)) is None:
            group = self._networks[connection.network] = Waiting()
        return self._all, group

    def close(self, connection: ClientConnection) -> None:
        """Close a connection at once."""
        if connection.stage is Stage.CLOSED:
            return
        self._hold(connection, 0)
        self._watch(connection, 0)
        self._move(connection, Stage.CLOSED)
        for group in self._groups(connection):
            group.connections -= 1
        if connection.network is not None and not self._networks[connection.network].connections:
            del self._networks[connection.network]
        connection.unsent = b""
        connection.socket.close()

    def _abort(self, connection: ClientConnection) -> None:
        """Close a connection and let the kernel forget what it has not sent."""
        if connection.stage is Stage.ANSWER:
            connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.close(connection)

    def _say_goodbye(self, connection: ClientConnection) -> None:
        """Close our side; then read what still comes, or the answer could be lost (RFC 9112 §9.6)."""
        if connection.ended:
            self.close(connection)
            return
        try:
            connection.socket.shutdown(socket.SHUT_WR)
        except OSError:  # the client has gone
            self.close(connection)
            return
        self._move(connection, Stage.CLOSING)
        self._watch(connection, READ)

    # What connections wait for.

    def _move(self, connection: ClientConnection, stage: Stage) -> None:
        groups = self._groups(connection)
        for group in groups:
            group.remove(connection)
        connection.stage = stage
        if stage is not Stage.SERVED:  # then nobody looks at the time
            connection.since = connection.began = self._clock()
            connection.moved = 0
        for group in groups:
            group.add(connection)

    def _progress(self, connection: ClientConnection, moved: int) -> None:
        """Give a body or an answer that keeps the pace more time, up to the longest that one may take."""
        connection.moved += moved
        if connection.moved < self._limits.pace:
            return
        now = self._clock()
        if now - connection.began < self._limits.transfer:
            connection.since, connection.moved = now, 0
            for group in self._groups(connection):
                group.renew(connection)
            self._buffers.renew(connection)

    def _hold(self, connection: ClientConnection, held: int) -> None:
        """Note how many bytes are kept for a connection; close others, or this one, if that is too much in all."""
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

    def end_late(self) -> bool:
        """End what has had its time: requests by 408 (RFC 9110 §15.5.9), all others by closing them.

        Return whether there is more to end: when thousands are late at once, others have their turn in between.
        """
        stopping_since = -math.inf if self._stopping_since is None else self._stopping_since
        for ended, connection in enumerate(self._all.late(self._clock(), self._seconds, stopping_since)):
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
        """Close idle connections now, and those that are answered then; give begun requests a short while."""
        self._stopping_since = self._clock()
        self._seconds |= {stage: min(self._seconds[stage], LINGER_SECONDS) for stage in (Stage.HEAD, Stage.BODY)}
        for connection in self._all.all(Stage.NEW, Stage.IDLE):
            self.close(connection)

    def close_all(self) -> None:
        """Close all connections that wait for their clients."""
        for connection in self._all.all(*self._seconds):
            self.close(connection)

    # What comes in.

    def _on_ready(self, connection: ClientConnection, ready: int) -> None:
        if connection.stage is Stage.CLOSED:  # by another's turn
            return
        try:
            if connection.stage is Stage.ANSWER:
                self._send_more(connection)
            elif ready:
                self._read(connection)
            elif connection.stage in (Stage.SERVED, Stage.BODY):  # else it was late meanwhile
                self._go_on(connection, connection.incoming.next, 0)
        except Exception:  # noqa: BLE001 - a bug of ours: whoever else waits must not be ended with it
            self._log.exception("Error in a connection")
            self.close(connection)

    def _read(self, connection: ClientConnection) -> None:
        served = connection.stage is Stage.SERVED
        try:
            # While a request is served the next one stays in the kernel: here it would be kept, and nobody waits for it.
            data = (
                connection.socket.recv(1, socket.MSG_PEEK)
                if served
                else connection.socket.recv(connection.incoming.appetite)
            )
        except (BlockingIOError, InterruptedError):
            return
        except OSError:  # reset
            data, connection.broken = b"", True
        if not data:
            self._hear_the_end(connection)
        elif served:
            self._watch(connection, 0)  # until that request is answered
        elif connection.stage is Stage.CLOSING:
            self._throw_away(connection, len(data))
        else:
            self._go_on(connection, partial(connection.incoming.take, data), len(data))

    def _hear_the_end(self, connection: ClientConnection) -> None:
        connection.ended = True
        if (
            connection.stage is Stage.SERVED
        ):  # it counts until it is served, so nobody has more requests served than connections
            self._watch(connection, 0)
        else:
            self.close(connection)

    def _throw_away(self, connection: ClientConnection, size: int) -> None:
        connection.thrown_away += size
        if connection.thrown_away > self._limits.body + SMALL:
            self.close(connection)
        else:
            self._progress(connection, size)

    def _go_on(self, connection: ClientConnection, step: Callable[[], Any], size: int) -> None:
        """Have a complete request served, or wait for the rest of it."""
        try:
            request = step()
        except Refusal as refusal:
            self._refuse(connection, refusal)
            return
        if request is not None:
            if connection.stage is not Stage.SERVED:
                self._move(connection, Stage.SERVED)
            self._hold(connection, connection.held + size)
            if self._buffers.full and connection.incoming.held > FREE:
                self._forget_what_came_ahead(connection)
            self._server.serve(connection, request)
        else:
            self._wait(connection, size)

    def _forget_what_came_ahead(self, connection: ClientConnection) -> None:
        """Let the client send it again: it has to, if a connection ends before all is answered (RFC 9112 §9.3.2)."""
        connection.cut = True
        self._hold(connection, connection.held - connection.incoming.forget())

    def parse(self, connection: ClientConnection, whole: bytes) -> None:
        """Have a request that the quick way has declined served the usual way."""
        self._go_on(connection, partial(connection.incoming.parse, whole), 0)

    def _wait(self, connection: ClientConnection, size: int) -> None:
        incoming = connection.incoming
        stage = Stage.BODY if incoming.in_body else Stage.HEAD if incoming.held else Stage.IDLE
        if (
            (connection.ended and not incoming.goes_on)
            or connection.cut
            or (stage is Stage.IDLE and self._stopping_since is not None)
        ):
            self.close(connection)
            return
        if connection.stage is not stage:
            self._move(connection, stage)
        elif stage is Stage.BODY:
            self._progress(connection, size)
        self._hold(connection, incoming.held)
        if connection.stage is Stage.CLOSED:
            return
        self._watch(connection, 0 if incoming.goes_on else READ)
        if incoming.goes_on:  # a body in tiny chunks: after others had their turn
            self._poller.soon(partial(self._on_ready, connection, 0))
        elif incoming.wants_to_be_told_to_go_on():
            self._tell_to_go_on(connection)

    def _tell_to_go_on(self, connection: ClientConnection) -> None:
        try:
            if connection.socket.send(_CONTINUE) < len(_CONTINUE):
                self.close(connection)
        except BlockingIOError:  # it reads nothing; the body may come without being asked for (RFC 9110 §10.1.1)
            pass
        except OSError:
            self.close(connection)

    def _refuse(self, connection: ClientConnection, refusal: Refusal) -> None:
        self._move(connection, Stage.SERVED)
        self._server.refused(connection, refusal)
        self.send(connection, refusal.response(), keeps=False)

    # What goes out.

    def send(self, connection: ClientConnection, answer: bytes, *, keeps: bool) -> None:
        """Send the answer to the request that is being served; ``keeps``: another request may follow it."""
        connection.keeps = keeps and not connection.cut
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
        self._move(connection, Stage.ANSWER)
        self._watch(connection, WRITE)
        self._hold(connection, len(answer) + connection.incoming.held)

    def _send_more(self, connection: ClientConnection) -> None:
        try:
            sent = connection.socket.send(connection.unsent[:_SENT_AT_ONCE])
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self.close(connection)
            return
        connection.unsent = connection.unsent[sent:]
        if connection.unsent:
            self._progress(connection, sent)
        else:
            self._move(connection, Stage.SERVED)
            self._watch(
                connection, READ
            )  # no longer for room to write, of which there is plenty: it would be told in each turn
            self._after_answer(connection)

    def _after_answer(self, connection: ClientConnection) -> None:
        connection.unsent = b""
        self._hold(connection, connection.incoming.held)
        if not connection.keeps or self._stopping_since is not None:
            self._say_goodbye(connection)
        elif connection.incoming.held:  # a request that was sent ahead: after others had their turn
            self._poller.soon(partial(self._on_ready, connection, 0))
        else:
            self._wait(connection, 0)
