"""One request and the response that the application makes of it, as bytes."""

import time
from collections.abc import Iterable, Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any

from gunicorn import SERVER, util  # type: ignore[import-untyped]  # it has no types
from gunicorn.http import wsgi  # type: ignore[import-untyped]  # nor has this

from mailbbgun.http.responses import AWAITS, PendingResponse
from mailbbgun.server.connection import ClientConnection


class Exchange:
    """A request, with what gunicorn makes of it for the application."""

    def __init__(self, cfg: Any, connection: ClientConnection, request: Any, *, last: bool, parks: bool) -> None:
        """``last``: the connection is closed after it. ``parks``: the application may return :class:`PendingResponse`.

        Raises what gunicorn does with its settings.
        """
        self.connection = connection
        self.request = request
        self.began = datetime.now()
        self._written = _Written()
        self.response, self.environ = wsgi.create(request, self._written, connection.client, connection.server, cfg)
        self.environ["wsgi.multithread"] = True
        if parks:
            self.environ[AWAITS] = True
        if last:
            self.response.force_close()

    def response_of(self, pending: PendingResponse) -> Iterable[bytes]:
        """Return the body of a pending response, waiting for it if it is not finished."""
        return pending.answer(self.environ)(self.environ, self.response.start_response)

    def write(self, body: Iterable[bytes]) -> bytes:
        """Return the whole response. Raises what the application does."""
        try:
            for piece in body:
                self.response.write(piece)
            self.response.close()
        finally:
            if close := getattr(body, "close", None):
                close()
        return b"".join(self._written)

    @property
    def keeps(self) -> bool:
        """Whether another request may follow on the connection."""
        return not self.response.should_close()


class _Written(list[bytes]):
    """Takes the place of a socket that a response is written to."""

    sendall = list.append


@lru_cache(maxsize=2)
def _date(second: int) -> str:
    return str(util.http_date(second))


def created(headers: Mapping[str, str], body: bytes) -> bytes:
    """Return a 201 as gunicorn writes it."""
    lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    head = f"HTTP/1.1 201 CREATED\r\nServer: {SERVER}\r\nDate: {_date(int(time.time()))}\r\nConnection: keep-alive\r\n{lines}\r\n"
    return head.encode("latin-1") + body
