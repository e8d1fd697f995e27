"""A server on this machine that behaves like Slack: its Web API, and an incoming webhook."""

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.webhooks.receiver import Server

TOKEN = "xoxb-1234-5678-abcdefghijklmnop"
WEBHOOK = "/services/T000/B000/abcdefghijklmnop"


@dataclass(frozen=True)
class Says:
    """An answer: a status, JSON or text, and headers."""

    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)


def refuses(error: str) -> Says:
    return Says(body={"ok": False, "error": error})


LIMITED = Says(429, {"ok": False, "error": "ratelimited"}, {"Retry-After": "1"})
BROKEN = Says(500, "<html>oops</html>")


class FakeSlack:
    """Takes every message, but those for which `next` has answers: the first is for the next request."""

    def __init__(self) -> None:
        self.next: list[Says | Callable[[], None]] = []
        self.before: Callable[[], None] = lambda: None  # called before a message is taken
        self.asked: list[tuple[str, dict[str, Any]]] = []  # every request: its path, and its JSON
        self.posted: list[dict[str, Any]] = []  # the messages that were taken
        self.tokens: list[str | None] = []
        self._lock = threading.Lock()
        self._server = Server(("127.0.0.1", 0), self._handler())
        self.port = self._server.server_port
        self.api_url = f"http://127.0.0.1:{self.port}/api/"
        self.webhook_url = f"http://127.0.0.1:{self.port}{WEBHOOK}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, *answers: Says | Callable[[], None]) -> None:
        """Give these answers to the next requests. A function is called, and the request then not answered."""
        with self._lock:
            self.next = [*answers]

    def of(self, channel: str) -> list[dict[str, Any]]:
        """Return the messages that a channel has."""
        return [one for one in self.posted if one.get("channel") == channel]

    def _said(self, path: str, body: dict[str, Any], token: str | None) -> Says | Callable[[], None]:
        with self._lock:
            self.asked.append((path, body))
            if self.next:
                return self.next.pop(0)
            if path == WEBHOOK:
                if not (body.get("text") or body.get("blocks") or body.get("attachments")):
                    return Says(400, "no_text")
                self.posted.append(body)
                return Says(body="ok")
            if token != f"Bearer {TOKEN}":
                return refuses("invalid_auth")
            if path.endswith("/auth.test"):
                return Says(body={"ok": True, "team": "Ours", "user": "mailbbgun"})
            if path.endswith("/chat.postMessage"):
                self.posted.append(body)
                return Says(body={"ok": True, "channel": "C024BE91L", "ts": f"1700000000.{len(self.posted):06}"})
            return Says(404, "no such method")

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        slack = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])) or b"{}")
                slack.before()
                said = slack._said(self.path, body, self.headers.get("Authorization"))
                if not isinstance(said, Says):
                    said()
                    self.close_connection = True
                    return
                text = said.body if isinstance(said.body, str) else json.dumps(said.body)
                self.send_response(said.status)
                kind = "text/html" if isinstance(said.body, str) else "application/json; charset=utf-8"
                headers: Sequence[tuple[str, str]] = [("Content-Type", kind), *said.headers.items()]
                for name, value in (*headers, ("Content-Length", str(len(text.encode())))):
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *_: object) -> None:
                pass

        return Handler


@contextmanager
def slack_server() -> Iterator[FakeSlack]:
    slack = FakeSlack()
    try:
        yield slack
    finally:
        slack.close()
