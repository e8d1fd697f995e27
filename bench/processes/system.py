"""The interface of what is measured: a system that takes messages in and sends them to the sink."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from bench.processes.clients import Clients

#: Called with the latest line of output of the program that hands messages in.
Progress = Callable[[str], object]


class System(Protocol):
    """One fresh installation. None of it runs before :meth:`open` or :meth:`deliver`."""

    @property
    def servers(self) -> Mapping[str, int]:
        """Servers beside it that do a part of its work: name → process id."""

    def open(self) -> None:
        """Start to take messages in, durably, without delivering them."""

    def shut(self) -> None:
        """Stop taking messages in. Those already accepted stay as a backlog."""

    def deliver(self) -> None:
        """Start to deliver, without waiting until delivery has begun."""

    def hand_in(
        self, clients: Clients, first: int, count: int, connections: int, on_progress: Progress = ..., shape: str = ...
    ) -> dict[str, Any]:
        """Hand messages of a shape in, as fast as they are accepted.

        Systems that are compared only by ``short`` take no other shape. Returns ``seconds``, the
        client's ``cpu`` seconds, and when it ``began``.
        """

    def own(self) -> list[int]:
        """Return the roots of its running process trees.

        Raises :class:`BenchError` if a process that should run has ended.
        """

    def log(self) -> str:
        """Return the end of its log."""


class SmtpSystem(System, Protocol):
    """A system that takes messages in by SMTP from the same client as the others."""

    def open_smtp(self) -> None:
        """Start to take messages in by SMTP, durably, without delivering them."""

    def shut_smtp(self) -> None:
        """Stop taking messages in."""

    def submit(
        self, clients: Clients, first: int, count: int, connections: int, on_progress: Progress = ...
    ) -> dict[str, Any]:
        """Submit messages by ``bench.programs.submit``. Returns what :meth:`hand_in` does."""
