"""gunicorn's thread worker, for requests that wait for a commit: their waiting takes no thread.

In threads, sixteen requests and a database that stands still are enough for nobody to be answered. So the thread that polls gathers small POSTs
itself and begins them, those that came up together together, so that they share a commit; their answers are parked while it goes on with the
next. Everything else is done in threads, as gunicorn does it.
"""

import re
import selectors
import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from functools import partial
from typing import Any

from gunicorn.http import wsgi  # type: ignore[import-untyped]  # it has no types
from gunicorn.workers.gthread import STOP_KEEPALIVE_LINGER, TConn, ThreadWorker  # type: ignore[import-untyped]  # nor has this

from mailbbgun.base.web import PARKS, Parked

SMALL = 65_536  # bytes of a request that is begun by the thread that polls: what is larger would keep the others waiting

_PARKS = re.compile(rb"POST [^ ?]*/messages HTTP/1\.1\r\n")
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,6})[ \t]*\r\n", re.IGNORECASE)
_NOT_PLAIN = re.compile(rb"\r\n(?:transfer-encoding|expect|upgrade)[ \t]*:", re.IGNORECASE)


class Heard(Enum):
    """What has come of a request."""

    PART = "more of it must come"
    WHOLE = "it can be begun by the thread that polls"
    OTHER = "it is for another thread, as it is"


def judge(heard: bytes) -> Heard:
    """Say what to do with what a client has sent so far. Only a hint: gunicorn's parser decides what is a request."""
    end = heard.find(b"\r\n\r\n") + 4
    if end < 4:
        return Heard.PART if len(heard) < SMALL and heard[:5] == b"POST "[: len(heard)] else Heard.OTHER
    length = _LENGTH.search(heard, 0, end)
    if length is None or not _PARKS.match(heard) or _NOT_PLAIN.search(heard, 0, end):
        return Heard.OTHER
    size = end + int(length[1])
    return Heard.OTHER if size > SMALL or len(heard) > size else Heard.WHOLE if len(heard) == size else Heard.PART


class Worker(ThreadWorker):  # type: ignore[misc]  # no types
    """The gthread worker, with answers that are parked."""

    alive: bool

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._gathers = bool(self.cfg.keepalive) and not self.cfg.is_ssl and self.cfg.http2_cleartext == "off"
        self._begun: list[tuple[_Turn, Parked]] = []
        self._over: deque[tuple[_Turn, Parked]] = deque()
        self._told = False

    def init_process(self) -> None:
        """Make the threads for what may wait for others, a database or a client; serve until told to stop."""
        self._patient = self.get_thread_pool()
        super().init_process()

    def wait_for_and_dispatch_events(self, timeout: float) -> None:
        """Do all that has come up, then begin together what came up together: so they share a commit."""
        super().wait_for_and_dispatch_events(timeout)
        begun, self._begun = self._begun, []
        for turn, parked in begun:
            parked.ending.tell(partial(self._ended, turn, parked))

    def accept(self, listener: Any) -> None:
        """Take a connection and wait for its first request, in no thread."""
        if not self._gathers:
            super().accept(listener)
            return
        try:
            client, address = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):  # another process has taken it; it has gone
            return
        self.nr_conns += 1
        conn = TConn(self.cfg, client, address, listener.getsockname())
        conn.init()
        client.setblocking(False)
        self._wait(conn)

    def on_client_socket_readable(self, conn: Any, client: Any) -> None:
        """Hear what a client says."""
        if self._gathers:
            self._hear(conn, client)
        else:
            super().on_client_socket_readable(conn, client)

    def finish_request(self, conn: Any, fs: Any) -> None:
        """Go on with a connection whose request was served in a thread."""
        if fs.cancelled() or fs.exception() or not fs.result():
            self._end(conn, keep=False)
        else:
            super().finish_request(conn, fs)

    def _wait(self, conn: Any) -> None:
        """Wait for a request, or for the rest of one, for as long as connections are kept: when we are told to stop, that is not long."""
        conn.set_timeout()
        if not self.alive:
            conn.timeout = min(conn.timeout, time.monotonic() + STOP_KEEPALIVE_LINGER)
        self.keepalived_conns.append(conn)
        self.poller.register(conn.sock, selectors.EVENT_READ, partial(self.on_client_socket_readable, conn))

    def _hear(self, conn: Any, client: Any) -> None:
        try:
            piece = client.recv(SMALL)
        except BlockingIOError:
            return
        except OSError:  # reset
            piece = b""
        before = conn.parser.unreader.take_buffered()
        heard = before + piece
        if heard:
            conn.parser.unreader.unread(heard)
        what = judge(heard) if piece else Heard.OTHER
        if what is Heard.PART and before:
            return  # it waits already, and no longer for each piece
        self.poller.unregister(client)
        self.keepalived_conns.remove(conn)
        if what is Heard.PART:
            self._wait(conn)
        elif what is Heard.WHOLE:
            self._begin(conn)
        elif heard:
            self.enqueue_req(conn)
        else:
            self._end(conn, keep=False)

    def _begin(self, conn: Any) -> None:
        req = None
        try:
            req = next(conn.parser)
            turn = self._turn(conn, req)
            answer = self.wsgi(turn.environ, turn.resp.start_response)
        except StopIteration:
            self._end(conn, keep=False)
        except Exception as error:  # noqa: BLE001 - as gunicorn does: it tells the client whose fault it is
            self.handle_error(req, conn.sock, conn.client, error)
            self._end(conn, keep=False)
        else:
            if isinstance(answer, Parked):
                self._begun.append((turn, answer))
            else:
                self._answer(turn, lambda: answer)

    def _turn(self, conn: Any, req: Any) -> "_Turn":
        self.cfg.pre_request(self, req)
        pieces = _Pieces()
        resp, environ = wsgi.create(req, pieces, conn.client, conn.server, self.cfg)
        environ |= {"wsgi.multithread": True, PARKS: True}
        self.nr += 1
        if self.nr >= self.max_requests and self.alive:
            self.log.info("Autorestarting worker after current request.")
            self.alive = False
        if not self.alive or not self.cfg.keepalive or len(self.keepalived_conns) >= self.max_keepalived:
            resp.force_close()
        return _Turn(conn, req, resp, environ, pieces, datetime.now())

    def _ended(self, turn: "_Turn", parked: Parked) -> None:
        """Tell the thread that polls, once for all that have ended before it looks."""
        self._over.append((turn, parked))
        if not self._told:
            self._told = True
            self.method_queue.defer(self._finish)

    def _finish(self) -> None:
        self._told = False
        while self._over:
            turn, parked = self._over.popleft()
            if parked.ending.ended:
                self._answer(turn, partial(turn.end, parked))
            else:
                self._patiently(turn.conn, partial(self._finish_slowly, turn, parked))

    def _finish_slowly(self, turn: "_Turn", parked: Parked) -> bool:
        """Answer from a thread: what the commit has left open takes a while."""
        data = self._respond(turn, partial(turn.end, parked))
        return data is not None and self._send_slowly(turn, data)

    def _respond(self, turn: "_Turn", body: Callable[[], Iterable[bytes]]) -> bytes | None:
        """Return an answer's bytes. If it fails the client is told so, and has nothing more to be told."""
        try:
            return turn.respond(body())
        except Exception as error:  # noqa: BLE001 - one request's; who else waits must not be ended with it
            self.handle_error(turn.req, turn.conn.sock, turn.conn.client, error)
            return None

    def _answer(self, turn: "_Turn", body: Callable[[], Iterable[bytes]]) -> None:
        """Answer from the thread that polls."""
        data = self._respond(turn, body)
        if data is None:
            return self._end(turn.conn, keep=False)
        try:
            sent = turn.conn.sock.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:  # the client has gone
            return self._end(turn.conn, keep=False)
        if sent < len(data):
            self._patiently(turn.conn, partial(self._send_slowly, turn, data[sent:]))
        else:
            self._end(turn.conn, keep=self._told_all(turn))

    def _send_slowly(self, turn: "_Turn", data: bytes) -> bool:
        turn.conn.sock.setblocking(True)
        turn.conn.sock.sendall(data)
        return self._told_all(turn)

    def _told_all(self, turn: "_Turn") -> bool:
        """End a turn; say whether its connection may have another."""
        try:
            self.log.access(turn.resp, turn.req, turn.environ, datetime.now() - turn.began)
            self.cfg.post_request(self, turn.req, turn.environ, turn.resp)
            return not turn.resp.should_close() and bool(turn.conn.parser.finish_body())
        except Exception:  # it is answered: a hook that fails ends its connection, not us and all who wait
            self.log.exception("Error after a request")
            return False

    def _patiently(self, conn: Any, work: Callable[[], bool]) -> None:
        """Do what may wait for long in a thread that serves nobody else meanwhile."""
        future: Future[bool] = self._patient.submit(work)
        future.add_done_callback(lambda done: self.method_queue.defer(self.finish_request, conn, done))

    def _end(self, conn: Any, *, keep: bool) -> None:
        """End a request: wait for the connection's next, or close it. That may take a while: what the client still sends is read first."""
        if keep:
            self._wait(conn)
        else:
            self.nr_conns -= 1
            self._patient.submit(conn.close, graceful=True)


class _Pieces(list[bytes]):
    """Takes the place of a socket."""

    sendall = list.append


@dataclass(frozen=True, slots=True)
class _Turn:
    """A request and what its answer is written with."""

    conn: Any
    req: Any
    resp: Any
    environ: dict[str, Any]
    pieces: _Pieces
    began: datetime

    def end(self, parked: Parked) -> Iterable[bytes]:
        """Return the body of what was parked, waiting for it if it has not ended."""
        return parked.answer(self.environ)(self.environ, self.resp.start_response)

    def respond(self, body: Iterable[bytes]) -> bytes:
        """Return the answer's bytes."""
        try:
            for piece in body:
                self.resp.write(piece)
            self.resp.close()
        finally:
            if close := getattr(body, "close", None):
                close()
        return b"".join(self.pieces)
