"""What is measured: anything that takes messages in and sends them to the sink."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from bench.clients import Clients

Told = Callable[[str], object]


class System(Protocol):
    """One fresh installation. Nothing of it runs before :meth:`open` or :meth:`deliver`."""

    @property
    def servers(self) -> Mapping[str, int]:
        """Servers beside it that do a part of its work: name and process id."""

    def open(self) -> None:
        """Take messages in, durably. Does not start to deliver."""

    def shut(self) -> None:
        """Take no more in, and end what does nothing else. What was taken in is a backlog."""

    def deliver(self) -> None:
        """Start to deliver, without waiting until it does."""

    def hand_in(
        self, clients: Clients, first: int, count: int, connections: int, told: Told = ..., shape: str = ...
    ) -> dict[str, Any]:
        """Hand messages of a shape in as fast as they are taken; what is compared by ``short`` alone takes no other.

        Return ``seconds``, the client's ``cpu`` seconds, and when it ``began``.
        """

    def own(self) -> list[int]:
        """Return the roots of its running process trees. Raises :class:`BenchError` if one that should run has ended."""

    def log(self) -> str:
        """Return the last it said."""
