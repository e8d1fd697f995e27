"""The metrics of workers on a port of their own, for machines without an API."""

import socket
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from mailbbgun.core.errors import ConfigurationError
from mailbbgun.counters.files import read
from mailbbgun.counters.keeping import WORKER
from mailbbgun.exposure import taken
from mailbbgun.metrics.keys import shows_key
from mailbbgun.metrics.metrics import of_workers
from mailbbgun.settings.settings import Settings

#: Seconds that a client may take for its request.
CLIENT_SECONDS = 5.0


def serve(settings: Settings) -> None:
    """Serve ``GET /metrics`` on METRICS_HOST and METRICS_PORT, by daemon threads of this process.

    Raises :class:`ConfigurationError` if it cannot listen there.
    """
    if refused := taken(settings.METRICS_HOST, settings.METRICS_PORT, "METRICS_PORT"):
        raise ConfigurationError(f"METRICS_PORT: {refused}")

    handler = type("Handler", (_Handler,), {"settings": settings})
    server = _Server((settings.METRICS_HOST, settings.METRICS_PORT), handler)
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, handler)


class _Handler(BaseHTTPRequestHandler):
    """Answers ``GET /metrics``; everything else is 404."""

    settings: Settings
    timeout = CLIENT_SECONDS
    server_version, sys_version = "MailBBGun", ""

    def do_GET(self) -> None:
        """Answer a scrape."""
        key = self.settings.METRICS_KEY
        if self.path.partition("?")[0] != "/metrics":
            self._answer(HTTPStatus.NOT_FOUND, b"Only /metrics is here.\n", "text/plain")
        elif key and not shows_key(self.headers.get("Authorization"), key):
            self._answer(HTTPStatus.UNAUTHORIZED, b"METRICS_KEY is needed as a bearer token.\n", "text/plain")
        else:
            totals = read(self.settings.counters_folder, [WORKER])
            self._answer(HTTPStatus.OK, *of_workers(totals, self.headers.get("Accept", "")))

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing: a scrape every few seconds is no news."""

    def _answer(self, status: HTTPStatus, body: bytes, content_type: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        if status is HTTPStatus.UNAUTHORIZED:
            self.send_header("WWW-Authenticate", "Bearer")
        self.end_headers()
        self.wfile.write(body)
