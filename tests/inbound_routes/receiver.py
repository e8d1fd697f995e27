"""A receiver of posted mail, as an application has one."""

import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler
from typing import NamedTuple, Self

from tests.servers.process import free_port
from tests.webhooks.receiver import Server


class Request(NamedTuple):
    """A request as it came, and the status of the answer."""

    path: str
    headers: Mapping[str, str]
    body: bytes
    status: int


class MailReceiver:
    """Listens on 127.0.0.1. ``answers`` returns the status for a path, and how often that was posted to before."""

    def __init__(self) -> None:
        self.port = free_port()
        self.answers: Callable[[str, int], int] = lambda _path, _before: 200
        self._requests: list[Request] = []
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                self.send_response(receiver._take(self.path, headers, body))
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = Server(("127.0.0.1", self.port), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def url(self, name: str) -> str:
        """Return a URL that no other test uses."""
        return f"http://127.0.0.1:{self.port}/{name}"

    def got(self, name: str) -> list[Request]:
        """Return the requests to such a URL."""
        with self._lock:
            return [one for one in self._requests if one.path == f"/{name}"]

    def _take(self, path: str, headers: Mapping[str, str], body: bytes) -> int:
        with self._lock:
            status = self.answers(path, sum(one.path == path for one in self._requests))
            self._requests.append(Request(path, headers, body, status))
        return status
