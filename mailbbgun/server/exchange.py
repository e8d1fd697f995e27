"""One request and its response, between gunicorn's parser and the WSGI application."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache, partial
from itertools import chain
from typing import Any

from gunicorn import SERVER, util  # type: ignore[import-untyped]  # it has no types
from gunicorn.http import wsgi  # type: ignore[import-untyped]  # nor has this

from mailbbgun.accept.quick import Begun
from mailbbgun.http.responses import AWAITS, Ending, PendingResponse, StreamedBody
from mailbbgun.server.bodies.answers import FiledResponse, ResponseStream
from mailbbgun.server.bodies.spool import Spool, SpoolThread
from mailbbgun.server.poller import Poller
from mailbbgun.server.registry import ClientConnection
from mailbbgun.server.turns import RequestThreads

#: Bytes of a response. A larger one goes to its client from a file.
LARGE = 1_048_576


class Exchange:
    """A request, with the WSGI environment and the response that gunicorn makes for it."""

    def __init__(
        self,
        cfg: Any,
        connection: ClientConnection,
        request: Any,
        spools: SpoolThread,
        *,
        last: bool,
        may_pend: bool,
    ) -> None:
        """``last``: the connection is closed after the response.

        ``may_pend``: the application may return a :class:`PendingResponse`. Raises whatever a hook
        or a wrong setting of gunicorn's raises.
        """
        self.connection = connection
        self.request = request
        self.began = datetime.now()
        self._written = _Written(spools)
        self.response, self.environ = wsgi.create(request, self._written, connection.client, connection.server, cfg)
        self.environ["wsgi.multithread"] = True
        # An absolute target without a path means / (RFC 9112 §3.2.1). Werkzeug would redirect there, to the host
        # that the request names, whether it is ours or not.
        self.environ["PATH_INFO"] = self.environ["PATH_INFO"] or "/"
        if may_pend:
            self.environ[AWAITS] = True
        if last:
            self.response.force_close()

    def response_of(self, pending: PendingResponse) -> Iterable[bytes]:
        """Return the body of a pending response. Waits if it is not finished."""
        return pending.answer(self.environ)(self.environ, self.response.start_response)

    def write(self, body: Iterable[bytes]) -> bytes | FiledResponse:
        """Return the whole response; a large one is in a file. Raises whatever the application raises."""
        try:
            for piece in body:
                self.response.write(piece)
            self.response.close()
            return self._written.whole(self._title)
        except BaseException:
            self._written.drop()
            raise
        finally:
            if close := getattr(body, "close", None):
                close()

    @property
    def shows_its_end(self) -> bool:
        """Whether a client notices if the response breaks off: it comes in chunks (RFC 9112 §7.1)."""
        return bool(self.response.chunked)

    def stream(
        self, body: StreamedBody, threads: RequestThreads, poller: Poller, ended: Callable[[], object]
    ) -> ResponseStream:
        """Return the response, begun; ``threads`` make the rest while it is sent. Then ``ended`` is called.

        Raises whatever the application raises for the beginning.
        """
        blocks = self._blocks(body)
        try:
            first = next(blocks)
        except BaseException:
            body.close()
            raise

        def end() -> None:
            body.close()
            ended()

        submit = partial(threads.submit, self.connection.network, self.connection.thread_share)
        return ResponseStream(self._title, chain([first], blocks), end, submit, poller.call)

    def _blocks(self, body: Iterable[bytes]) -> Iterator[bytes]:
        self._written.to_file = False
        for piece in body:
            self.response.write(piece)
            if block := self._written.taken():
                yield block
        self.response.close()
        yield self._written.taken()

    @property
    def _title(self) -> str:
        return f"{self.request.method} {self.request.uri}"

    @property
    def keep_alive(self) -> bool:
        """Whether another request may follow on the connection."""
        return not self.response.should_close()


@dataclass(frozen=True, slots=True)
class WaitingMessage:
    """A message of the quick way, on its way to its commit. Flask has not seen the request."""

    connection: ClientConnection
    begun: Begun
    whole: bytes

    @property
    def ending(self) -> Ending:
        return self.begun.ending


@dataclass(frozen=True, slots=True)
class WaitingResponse:
    """A response of Flask's that waits for a commit."""

    exchange: Exchange
    pending: PendingResponse

    @property
    def connection(self) -> ClientConnection:
        return self.exchange.connection

    @property
    def ending(self) -> Ending:
        return self.pending.ending


class _Written:
    """Collects what gunicorn writes to what it thinks is a socket."""

    def __init__(self, spools: SpoolThread) -> None:
        self._spools = spools
        self.to_file = True  # what is large
        self._pieces: list[bytes] = []
        self._size = 0
        self._spool: Spool | None = None

    def sendall(self, data: bytes) -> None:
        """Take a piece of the response."""
        self._pieces.append(data)
        self._size += len(data)
        if self._size > LARGE and self.to_file:
            self._spool = self._spool or self._spools.spool()
            self._spool.write(b"".join(self._pieces))
            self._spool.flush()
            self._pieces, self._size = [], LARGE

    def whole(self, title: str) -> bytes | FiledResponse:
        """Return all pieces."""
        if self._spool is None:
            return b"".join(self._pieces)
        return FiledResponse(title, self._spool, self._spools)

    def taken(self) -> bytes:
        """Return the pieces since the last call."""
        taken = b"".join(self._pieces)
        self._pieces, self._size = [], 0
        return taken

    def drop(self) -> None:
        """Remove the file, if there is one."""
        if self._spool is not None:
            self._spool.close()


@lru_cache(maxsize=2)
def _date(second: int) -> str:
    return str(util.http_date(second))


def created(headers: Mapping[str, str], body: bytes) -> bytes:
    """Return a 201, as gunicorn would write it."""
    lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    date = _date(int(time.time()))
    head = f"HTTP/1.1 201 CREATED\r\nServer: {SERVER}\r\nDate: {date}\r\nConnection: keep-alive\r\n{lines}\r\n"
    return head.encode("latin-1") + body
