"""The state of one client's connection. ``clients.py`` changes it."""

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
    client: Any  # the client's address, as ``accept`` returned it
    server: Any  # our address
    network: str | None  # the network that it is counted by; None: it is not counted
    incoming: Incoming
    since: float  # when it came to its stage, or last kept the pace
    began: float  # when it came to its stage
    stage: Stage = Stage.NEW
    moved: int = 0  # bytes of the body or response since ``since``
    held: int = 0  # bytes kept for it
    watched: int = 0  # what the poller watches it for: READ, WRITE or 0
    handler: Callable[[int], None] = lambda _: None
    unsent: bytes | memoryview = b""
    keep_alive: bool = False  # another request may follow the response
    ended: bool = False  # the client sends nothing more
    broken: bool = False  # the client neither sends nor reads
    cut: bool = False  # pipelined requests were discarded, so the connection ends with the response
    discarded: int = 0  # bytes that came after a response that ends the connection


class RequestServer(Protocol):
    """Takes the requests that have come."""

    def serve(self, connection: ClientConnection, request: Any) -> None:
        """Serve a request as :class:`Incoming` returns it.

        When the response is there, call ``Clients.send`` in the poller's thread.
        """

    def refused(self, connection: ClientConnection, refusal: Refusal) -> None:
        """Note that a request was refused."""
