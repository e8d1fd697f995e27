"""A receiver of webhooks as a customer would write one, with the library ``standardwebhooks``."""

import json
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from standardwebhooks.webhooks import Webhook

from tests.servers.process import free_port

#: Returns the status of the answer to a payload.
Answers = Callable[[dict[str, Any]], int]


class Server(ThreadingHTTPServer):
    """A server whose threads end with the test. It has room for many who connect at once."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 100


class WebhookReceiver:
    """Listens on a port of 127.0.0.1 that stays the same when it is stopped and started again.

    ``events`` has the payload of each ``webhook-id``, ``times`` how often each was acknowledged.
    """

    def __init__(self) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/hook"
        self.secret = ""
        self.answers: Answers = lambda _: 204
        self.events: dict[str, dict[str, Any]] = {}
        self.times: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()  # webhook-id → answers that were no acknowledgement
        self.requests: list[tuple[Mapping[str, str], bytes]] = []
        self.headers: dict[str, str] = {}
        self._lock = threading.Lock()
        self._server: Server | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Listen."""
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.server is not receiver._server:  # it was stopped meanwhile
                    self.close_connection = True
                    return
                status = receiver._take({name.lower(): value for name, value in self.headers.items()}, body)
                self.send_response(status)
                self.send_header("Content-Length", "0")
                for name, value in receiver.headers.items():
                    self.send_header(name, value)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = Server(("127.0.0.1", self.port), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        """Stop as a process that is killed: connections break, and nobody listens."""
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            server.server_close()

    def acknowledged(self, kind: str | None = None) -> int:
        """Return how many different events were acknowledged."""
        return sum(kind is None or one["type"] == kind for one in list(self.events.values()))

    def _take(self, headers: Mapping[str, str], body: bytes) -> int:
        payload = Webhook(self.secret).verify(body, dict(headers))
        assert payload == json.loads(body)
        status = self.answers(payload)
        with self._lock:
            self.requests.append((headers, body))
            if 200 <= status < 300:
                self.events[headers["webhook-id"]] = payload
                self.times[headers["webhook-id"]] += 1
            else:
                self.refused[headers["webhook-id"]] += 1
        return status
