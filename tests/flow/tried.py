"""A service whose test keys are tried: live mail goes to a sink, mail of test keys to the catcher."""

from email import message_from_bytes
from typing import Any

from mailbbgun.core.ids import DEFAULT_TENANT
from tests.flow.service import Service, until
from tests.servers.process import free_port
from tests.waiting import PATIENCE

CONNECTIONS = 4


class Tried(Service):
    """A service with a sink for live mail and a catcher for mail of a test key."""

    def __init__(self, *args: Any, **overrides: object) -> None:
        super().__init__(
            *args, CATCHER_PORT=free_port(), RETRY_DELAYS="1,1,2,2,2,2,2", WORKER_CONNECTIONS=CONNECTIONS, **overrides
        )
        self.test = ""
        self.catchers = 0  # how often the catcher was started

    def __enter__(self) -> "Tried":
        super().__enter__()
        self.test = self.key("test")
        return self

    def key(self, kind: str) -> str:
        """Make a key."""
        guests = {"guests": ["example.test", "simulator"]} if kind == "team" else {}
        made = self.http.post(
            f"{self.url}/tenants/{DEFAULT_TENANT}/keys", json={"name": kind, "kind": kind} | guests, timeout=PATIENCE
        )
        assert made.status_code == 201, made.text
        return str(made.json()["key"])

    def start_catcher(self) -> None:
        """Start the catcher and wait until it listens."""
        self._spawn("catcher", "-m", "mailbbgun.catcher")
        self.catchers += 1
        until(lambda: (self.var / "catcher.out").read_text().count(" catching ") == self.catchers, what="the catcher")

    def ask(self, key: str | None, **message: Any) -> Any:
        """Send a message with a key or without one; return the answer."""
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        return self.http.post(
            f"{self.url}/messages",
            json={"subject": "hello", "text": "hello"} | message,
            headers=headers,
            timeout=PATIENCE,
        )

    def try_out(self, **message: Any) -> str:
        """Send a message with the test key; return its id."""
        answer = self.ask(self.test, **message)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    def timeline(self, identifier: str, address: str) -> list[dict[str, Any]]:
        """Return one recipient's events, oldest first."""
        events = self.get(f"/messages/{identifier}/events?limit=1000")["events"]
        return sorted((event for event in events if event["address"] == address), key=lambda event: event["id"])

    def caught(self) -> list[str]:
        """Return the recipients of the mail that the catcher took."""
        mails = [message_from_bytes(file.read_bytes()) for file in (self.var / "mail" / "new").iterdir()]
        return sorted(address for mail in mails for address in mail.get_all("X-Envelope-To"))
