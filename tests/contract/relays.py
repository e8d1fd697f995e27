"""The relays under test: what each needs around it, and how to disturb it.

To add one, write a function like those at the end, and add it to `SUBJECTS`.
"""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic
from uuid import UUID

from mailbbgun.drivers.operations import InThread
from mailbbgun.relays.contract import Relay
from mailbbgun.relays.mx import Resolver
from mailbbgun.relays.pool import Pool
from mailbbgun.relays.relay import DirectMX, SmartHost
from mailbbgun.relays.slack.answers import Posted
from mailbbgun.relays.slack.client import SlackTarget
from mailbbgun.relays.slack.relay import Slack
from mailbbgun.relays.unroutable import Unroutable
from mailbbgun.smtp.endpoint import Endpoint
from mailbbgun.smtp.envelope import Envelope
from mailbbgun.smtp.outcome import Deferred, Delivered, Fenced, Outcome, Phase, Unknown
from mailbbgun.smtp.reply import Reply
from mailbbgun.smtp.transaction import AfterDot, BeforeDot
from tests.relays.relaying import LOOPBACK
from tests.servers.slack import TOKEN, FakeSlack, slack_server
from tests.smtp.name_server import NameServer
from tests.smtp.peers import PATIENT, Dialogue, Peer
from tests.waiting import PATIENCE

#: Seconds for which an attempt waits for the answer to its dot, where none comes.
SHORT = 0.2


class Appending:
    """A relay that is not SMTP: it appends each recipient's mail to a file, which may block."""

    def __init__(self, file: Path, seconds: float, open_gate: Callable[[], object]) -> None:
        self._file, self._seconds, self._open_gate = file, seconds, open_gate

    async def attempt(self, envelope: Envelope, before_dot: BeforeDot, after_dot: AfterDot) -> dict[str, Outcome]:
        recipients = tuple(dict.fromkeys(envelope.recipients))
        if not recipients:
            return {}
        if not self._file.parent.is_dir():
            return dict.fromkeys(recipients, Deferred(Reply(0, "4.3.5", "there is no folder"), Phase.CONNECT))
        if not await before_dot(recipients):
            return dict.fromkeys(recipients, Fenced(Phase.BODY))
        outcome: Outcome
        reply: Reply | None
        try:
            await InThread(lambda: self._append(envelope.raw, recipients), monotonic() + self._seconds)
        except TimeoutError:  # the thread goes on: it may still append
            reply, outcome = None, Unknown(Reply(0, "4.4.2", "timed out"), Phase.DOT)
        except OSError as error:
            reply = Reply(0, "4.3.0", str(error))
            outcome = Deferred(reply, Phase.DOT)
        else:
            reply = Reply(250, None, "appended")
            outcome = Delivered(reply)
        await after_dot(recipients, reply)
        return dict.fromkeys(recipients, outcome)

    def _append(self, raw: bytes, recipients: tuple[str, ...]) -> None:
        self._open_gate()
        with self._file.open("ab") as file:
            file.write(b"".join(b"%b %b\n" % (recipient.encode(), raw.hex().encode()) for recipient in recipients))


@dataclass
class Subject:
    """A relay under test. `left` returns the recipients of all mail that has left, in order."""

    relay: Relay
    left: Callable[[], list[str]]


#: How what is behind a relay behaves. stalled: it takes no mail until the event is set, and so for
#: ever if it is not. away: it cannot be reached.
Behaves = str
Make = Callable[[Behaves, threading.Event, Path], AbstractContextManager[Subject]]


def _peer(behaves: Behaves, go: threading.Event) -> Peer:
    def stalls(dialogue: Dialogue) -> None:
        go.wait(PATIENCE)
        dialogue.normal(dialogue)

    return Peer(at={"dot": stalls} if behaves in ("stalled", "silent") else {})


def _port(behaves: Behaves, peer: Peer | FakeSlack) -> int:
    if behaves != "away":
        return peer.port
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port: int = closed.getsockname()[1]
    return port


def _pool(behaves: Behaves) -> Pool:
    return Pool(replace(PATIENT, quit=SHORT, dot=SHORT) if behaves == "silent" else PATIENT, "client.test", keep=0)


def _left(peer: Peer) -> list[str]:
    return [recipient for message in peer.messages for recipient in message.recipients]


@contextmanager
def smart_host(behaves: Behaves, go: threading.Event, _folder: Path, most: int | None = None) -> Iterator[Subject]:
    with _peer(behaves, go) as peer:
        endpoint = Endpoint("127.0.0.1", _port(behaves, peer), "none")
        yield Subject(SmartHost(endpoint, _pool(behaves), most), lambda: _left(peer))


def splitting(behaves: Behaves, go: threading.Event, folder: Path) -> AbstractContextManager[Subject]:
    return smart_host(behaves, go, folder, most=2)


@contextmanager
def direct_mx(behaves: Behaves, go: threading.Event, _folder: Path) -> Iterator[Subject]:
    zone = {"b.test": {"MX": ["10 mx.b.test."]}, "mx.b.test": {"A": ["127.0.0.1"]}}
    with _peer(behaves, go) as peer, NameServer(zone) as server:
        resolver = Resolver(["127.0.0.1"], server.port, lifetime=PATIENCE)
        yield Subject(
            DirectMX(resolver, _pool(behaves), _port(behaves, peer), "none", guard=LOOPBACK), lambda: _left(peer)
        )


@contextmanager
def appending(behaves: Behaves, go: threading.Event, folder: Path) -> Iterator[Subject]:
    file = folder / ("nowhere" if behaves == "away" else ".") / "mail"

    def left() -> list[str]:
        return [line.split()[0] for line in file.read_text().splitlines()] if file.exists() else []

    gate = (lambda: go.wait(PATIENCE)) if behaves in ("stalled", "silent") else (lambda: True)
    yield Subject(Appending(file, SHORT if behaves == "silent" else PATIENCE, gate), left)


@contextmanager
def unroutable(_behaves: Behaves, _go: threading.Event, _folder: Path) -> Iterator[Subject]:
    yield Subject(Unroutable("no account may carry it"), list)


class _Stored:
    """A Slack account, and no message that another could follow."""

    def __init__(self, webhook_url: str | None = None) -> None:
        self._target = SlackTarget("ops", None if webhook_url else TOKEN, webhook_url)

    def target(self, _account_id: UUID) -> SlackTarget:
        return self._target

    def thread(self, _message_id: UUID) -> Posted | None:
        return None


class _Said:
    """A relay to Slack, of which each message says the same."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay

    async def attempt(self, envelope: Envelope, before_dot: BeforeDot, after_dot: AfterDot) -> dict[str, Outcome]:
        return await self._relay.attempt(replace(envelope, raw=b'{"text": "hello"}'), before_dot, after_dot)


@contextmanager
def slack(behaves: Behaves, go: threading.Event, _folder: Path) -> Iterator[Subject]:
    with slack_server() as server:
        if behaves in ("stalled", "silent"):
            server.before = lambda: go.wait(PATIENCE) and None
        api_url = f"http://127.0.0.1:{_port(behaves, server)}/api/"
        known = Slack(api_url, 1 if behaves == "silent" else int(PATIENCE), _Stored())
        yield Subject(_Said(known.relay(UUID(int=1))), lambda: [one["channel"] for one in server.posted])


#: Relays that carry mail, and one that never does.
CARRIERS: dict[str, Make] = {
    "smart host": smart_host, "smart host, two at once": splitting, "direct": direct_mx, "file": appending,
    "slack": slack,
}  # fmt: skip
SUBJECTS: dict[str, Make] = {**CARRIERS, "unroutable": unroutable}
