"""The life of a connection: the poller accepts, reads, answers and closes it, within its limits."""

import math
import socket
from collections.abc import Callable
from functools import partial
from typing import Any

from mailbbgun.server.bodies.answers import LargeResponse
from mailbbgun.server.client_limits import FREE, SENT_AT_ONCE, Stage
from mailbbgun.server.connections import Connections
from mailbbgun.server.incoming import BegunUpload
from mailbbgun.server.poller import READ, WRITE
from mailbbgun.server.refusal import Refusal, late, late_body
from mailbbgun.server.registry import ClientConnection

#: Late connections to end in a row.
_ENDED_AT_ONCE = 16

#: Why a connection waits for its turn, beside READ and WRITE: more of what it has sent is here.
_NEXT = 4

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Clients(Connections):
    """Reads requests from connections, and sends the answers. Only for the poller's thread."""

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
                case Stage.BODY | Stage.ANSWER if connection.flushing:  # we are late, and not the client
                    self._renew(connection)
                case Stage.BODY if self._stopping_since is None:
                    self._refuse(connection, late_body(connection.moved, self._limits))
                case Stage.HEAD | Stage.BODY as stage:
                    self._refuse(connection, late(stage.name.lower(), self._seconds[stage]))
                case _:
                    self._abort(connection)
        return False

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
        if connection.discarded > self._limits.discarded:
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
            if isinstance(request, BegunUpload):
                self._server.admit(connection, request.request)
                return
            if self._buffers.full and connection.incoming.held > FREE:
                self._discard_pipelined(connection)
            self._server.serve(connection, request)
        else:
            self._wait(connection, size)

    def _discard_pipelined(self, connection: ClientConnection) -> None:
        """Discard pipelined requests. The client sends them again (RFC 9112 §9.3.2)."""
        connection.cut = True
        self._hold(connection, connection.held - connection.incoming.discard_pipelined())

    def take_body(self, connection: ClientConnection) -> None:
        """Take the body of an upload that was admitted."""
        if connection.broken:
            self.close(connection)
            return
        connection.incoming.take_body(self._spools.spool())
        self._advance(connection, connection.incoming.next, 0)

    def _flushed(self, connection: ClientConnection, failed: Exception | None) -> None:
        """Go on with an upload of which a thread has written a part to its file."""
        connection.flushing = False
        if connection.stage is Stage.CLOSED:
            return
        if failed is None:
            self._wait(connection, 0)
        elif isinstance(failed, Refusal):
            self._refuse(connection, failed)
        else:
            self._log.error("Error in an upload", exc_info=failed)
            self.close(connection)

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
        spool = incoming.full_spool
        self._watch(connection, 0 if incoming.has_more or spool else READ)
        if spool is not None:
            connection.flushing = True
            self._spools.flush(spool, partial(self._flushed, connection))
        elif incoming.has_more:  # a body in tiny chunks, or one that waited for its spool
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
        connection.incoming.drop_upload()
        self._server.refused(connection, refusal)
        self.send(connection, refusal.response(), keep_alive=False)

    def send(self, connection: ClientConnection, answer: bytes | LargeResponse, *, keep_alive: bool) -> None:
        """Send the response to the request that is being served.

        ``keep_alive``: another request may follow it. A large response is closed when it is sent.
        """
        connection.keep_alive = keep_alive and not connection.cut
        if not isinstance(answer, bytes):
            connection.unread = answer
            answer = b""
        if connection.broken:
            self.close(connection)
            return
        sent = self._sent(connection, answer) if answer else 0
        if sent is None:
            return
        if sent == len(answer) and connection.unread is None:
            self._after_answer(connection)
            return
        self._registry.move(connection, Stage.ANSWER)
        self._keep(connection, answer, sent)

    def _keep(self, connection: ClientConnection, data: bytes, sent: int = 0) -> None:
        """Keep a response, or a block of one, until it is sent."""
        self._hold(connection, len(data) + connection.incoming.held)
        if connection.stage is not Stage.CLOSED:  # else too many bytes were kept, and this client had moved least
            connection.unsent = memoryview(data)[sent:]
            self._go_on_sending(connection)

    def _sent(self, connection: ClientConnection, data: bytes | memoryview) -> int | None:
        """Return how many bytes the kernel took; None if the client has gone."""
        try:
            return connection.socket.send(data)
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError:
            self.close(connection)
            return None

    def _go_on_sending(self, connection: ClientConnection) -> None:
        """Wait until the socket takes more, or until more of the response is in memory."""
        if connection.unsent:
            self._watch(connection, WRITE)
        elif connection.unread is not None:
            self._watch(connection, 0)
            connection.flushing = True
            connection.unread.read_next(partial(self._on_read, connection))
        else:
            self._registry.move(connection, Stage.SERVED)
            self._watch(connection, READ)  # not WRITE: the socket is writable, so every turn would report it
            self._after_answer(connection)

    def _on_read(self, connection: ClientConnection, block: bytes | BaseException) -> None:
        """Send a block of a large response."""
        connection.flushing = False
        if connection.stage is Stage.CLOSED:
            return
        if isinstance(block, BaseException):
            self._log.error("A response breaks off: %s", connection.unread and connection.unread.title, exc_info=block)
            self._abort(connection)
            return
        if not block:
            self._drop_answer(connection)
        self._keep(connection, block)

    def _send_more(self, connection: ClientConnection) -> None:
        sent = self._sent(connection, connection.unsent[:SENT_AT_ONCE])
        if not sent:
            return
        connection.unsent = connection.unsent[sent:]
        self._progress(connection, sent)
        if not connection.unsent:
            self._go_on_sending(connection)

    def _after_answer(self, connection: ClientConnection) -> None:
        self._drop_answer(connection)
        self._hold(connection, connection.incoming.held)
        if not connection.keep_alive or self._stopping_since is not None:
            self._close_gracefully(connection)
        elif connection.incoming.held:  # a pipelined request
            self._on_ready(connection, _NEXT)
        else:
            self._wait(connection, 0)
