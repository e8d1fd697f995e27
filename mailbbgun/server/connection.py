"""One client's connection: what is known of it. What happens to it is in ``clients.py``."""

from collections.abc import Callable
from dataclasses import dataclass
from socket import socket
from typing import Any, Protocol

from mailbbgun.server.incoming import Incoming
from mailbbgun.server.limits import Stage
from mailbbgun.server.refusal import Refusal


@dataclass(slots=True, eq=False)
class ClientConnection:
    """A connection and its stage. Times are of the monotonic clock, in seconds."""

    socket: socket
    client: Any  # its address, as ``accept`` returned it
    server: Any  # ours
    network: str | None  # what it is counted by; None: it is not
    incoming: Incoming
    since: float  # when it came to its stage, or last kept the pace
    began: float  # when it came to its stage
    stage: Stage = Stage.NEW
    moved: int = 0  # bytes of the body or answer since then
    held: int = 0  # bytes kept for it
    watched: int = 0  # what the poller watches it for
    handler: Callable[[int], None] = lambda _: None
    unsent: bytes | memoryview = b""
    keeps: bool = False  # another request may follow the answer
    ended: bool = False  # the client sends nothing more
    broken: bool = False  # nor reads
    cut: bool = False  # what the client sent ahead was thrown away, so the connection ends with the answer
    thrown_away: int = 0  # bytes that came after an answer that ends the connection


class RequestServer(Protocol):
    """Whom requests are handed to."""

    def serve(self, connection: ClientConnection, request: Any) -> None:
        """Serve a request as :class:`Incoming` returns it; call ``Clients.send`` in the poller when it is done."""

    def refused(self, connection: ClientConnection, refusal: Refusal) -> None:
        """Note that a request was refused."""
