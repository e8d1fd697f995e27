"""gunicorn's thread worker, for requests that wait for a commit: their waiting takes no thread.

In threads, sixteen requests and a database that stands still are enough for nobody to be answered. So the thread that polls gathers small POSTs
itself and begins them, those that came up together together, so that they share a commit; their answers are parked while it goes on with the
next. Those that are written as usual are begun, and answered, without gunicorn's parser and the framework (``accept/quick.py``). Everything else
is done in threads, as gunicorn does it.
"""

import os
import re
import selectors
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from functools import lru_cache, partial
from typing import Any

from gunicorn import SERVER, util  # type: ignore[import-untyped]  # it has no types
from gunicorn.http import wsgi  # type: ignore[import-untyped]  # nor has this
from gunicorn.workers.gthread import STOP_KEEPALIVE_LINGER, TConn, ThreadWorker  # type: ignore[import-untyped]  # nor this

from mailbbgun.accept.quick import Begun, Quick
from mailbbgun.base.web import EXTENSION, PARKS, Ending, Parked

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
        self._quick: Quick | None = None
        self._begun: list[_BegunSlowly | _BegunQuickly] = []
        self._over: deque[_BegunSlowly | _BegunQuickly] = deque()
        self._told = False

    def init_process(self) -> None:
        """Make the threads for what may wait for others, a database or a client; serve until told to stop."""
        self._patient = self.get_thread_pool()
        super().init_process()

    def load_wsgi(self) -> None:
        """Load the application, and what answers without it, unless somebody wants to know of each request."""
        super().load_wsgi()
        unseen = not self.log.access_log_enabled and not self.cfg.statsd_host and "SCRIPT_NAME" not in os.environ
        if unseen and all(self.cfg.settings[hook].get() is self.cfg.settings[hook].default for hook in ("pre_request", "post_request")):
            self._quick = getattr(self.wsgi, "extensions", {}).get(EXTENSION, {}).get(Quick)

    def wait_for_and_dispatch_events(self, timeout: float) -> None:
        """Do all that has come up, then begin together what came up together: so they share a commit."""
        super().wait_for_and_dispatch_events(timeout)
        begun, self._begun = self._begun, []
        for one in begun:
            one.ending.tell(partial(self._ended, one))

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
            self._begin(conn, heard)
        elif heard:
            self.enqueue_req(conn)
        else:
            self._end(conn, keep=False)

    def _begin(self, conn: Any, heard: bytes) -> None:
        if begun := self._begin_quickly(conn, heard):
            conn.parser.unreader.take_buffered()
            self._begun.append(_BegunQuickly(conn, begun, heard))
            return
        turn = None
        try:
            turn = self._turn(conn)
            answer = self.wsgi(turn.environ, turn.resp.start_response)
        except StopIteration:
            self._end(conn, keep=False)
        except Exception as error:  # noqa: BLE001 - as gunicorn does: it tells the client whose fault it is
            self.handle_error(turn.req if turn else None, conn.sock, conn.client, error)
            self._end(conn, keep=False)
        else:
            if isinstance(answer, Parked):
                self._begun.append(_BegunSlowly(turn, answer))
            else:
                self._answer(turn, lambda: answer)

    def _begin_quickly(self, conn: Any, heard: bytes) -> Begun | None:
        if self._quick is None or not isinstance(conn.client, tuple) or self._is_last(self.nr + 1):
            return None
        try:
            begun = self._quick.begin(heard, conn.client[0])
        except Exception:  # a bug of ours: the framework makes its 500 of it; who else waits must not be ended with it
            self.log.exception("Error in the quick way")
            return None
        self.nr += begun is not None
        return begun

    def _is_last(self, number: int) -> bool:
        """Say whether a connection is closed after the request of that number."""
        return not self.alive or number >= self.max_requests or not self.cfg.keepalive or len(self.keepalived_conns) >= self.max_keepalived

    def _turn(self, conn: Any) -> "_Turn":
        """Parse what was heard. Raises ``StopIteration``, and what gunicorn's parser does."""
        req = next(conn.parser)
        self.cfg.pre_request(self, req)
        pieces = _Pieces()
        resp, environ = wsgi.create(req, pieces, conn.client, conn.server, self.cfg)
        environ |= {"wsgi.multithread": True, PARKS: True}
        self.nr += 1
        if self.nr >= self.max_requests and self.alive:
            self.log.info("Autorestarting worker after current request.")
            self.alive = False
        if self._is_last(self.nr):
            resp.force_close()
        return _Turn(conn, req, resp, environ, pieces, datetime.now())

    def _ended(self, one: "_BegunSlowly | _BegunQuickly") -> None:
        """Tell the thread that polls, once for all that have ended before it looks."""
        self._over.append(one)
        if not self._told:
            self._told = True
            self.method_queue.defer(self._finish)

    def _finish(self) -> None:
        self._told = False
        while self._over:
            one = self._over.popleft()
            if isinstance(one, _BegunSlowly):
                self._finish_parked(one)
            else:
                self._finish_quickly(one)

    def _finish_parked(self, one: "_BegunSlowly") -> None:
        if one.ending.ended:
            self._answer(one.turn, partial(one.turn.end, one.parked))
        else:
            self._patiently(one.turn.conn, partial(self._finish_slowly, one))

    def _finish_quickly(self, one: "_BegunQuickly") -> None:
        try:
            if one.ending.ended:
                self._send(one.conn, _written(*one.begun.answer()), lambda: True)
            else:  # no plain yes: the framework answers
                one.conn.parser.unreader.unread(one.heard)
                self.nr -= 1  # it is counted once more
                self._finish_parked(_BegunSlowly(self._turn(one.conn), one.begun.parked(self.wsgi)))
        except Exception as error:  # noqa: BLE001 - see _begin; who else waits must not be ended with it
            self.handle_error(None, one.conn.sock, one.conn.client, error)
            self._end(one.conn, keep=False)

    def _finish_slowly(self, one: "_BegunSlowly") -> bool:
        """Answer from a thread: what the commit has left open takes a while."""
        data = self._respond(one.turn, partial(one.turn.end, one.parked))
        return data is not None and self._send_slowly(one.turn.conn, data, partial(self._told_all, one.turn))

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
            self._end(turn.conn, keep=False)
        else:
            self._send(turn.conn, data, partial(self._told_all, turn))

    def _send(self, conn: Any, data: bytes, told: Callable[[], bool]) -> None:
        """Send an answer; ``told`` is called when all of it is sent, and says whether the connection may have another."""
        try:
            sent = conn.sock.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:  # the client has gone
            return self._end(conn, keep=False)
        if sent < len(data):
            self._patiently(conn, partial(self._send_slowly, conn, data[sent:], told))
        else:
            self._end(conn, keep=told())

    def _send_slowly(self, conn: Any, data: bytes, told: Callable[[], bool]) -> bool:
        conn.sock.setblocking(True)
        conn.sock.sendall(data)
        return told()

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


@dataclass(frozen=True, slots=True)
class _BegunSlowly:
    """A request that the framework has parked the answer of."""

    turn: _Turn
    parked: Parked

    @property
    def ending(self) -> Ending:
        return self.parked.ending


@dataclass(frozen=True, slots=True)
class _BegunQuickly:
    """A request that no framework has seen."""

    conn: Any
    begun: Begun
    heard: bytes

    @property
    def ending(self) -> Ending:
        return self.begun.ending


@lru_cache(maxsize=2)
def _date(second: int) -> str:
    return str(util.http_date(second))


def _written(headers: Mapping[str, str], body: bytes) -> bytes:
    """Return a yes as gunicorn writes it."""
    lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    head = f"HTTP/1.1 201 CREATED\r\nServer: {SERVER}\r\nDate: {_date(int(time.time()))}\r\nConnection: keep-alive\r\n{lines}\r\n"
    return head.encode("latin-1") + body
