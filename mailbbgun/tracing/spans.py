"""What rooms that take part in a trace know of it."""

from collections.abc import Mapping
from typing import Protocol

Attributes = Mapping[str, str | int | bool]


class OpenSpan(Protocol):
    """A span that has begun."""

    @property
    def traceparent(self) -> str:
        """The context for spans that continue this trace, as a W3C ``traceparent``."""

    def end(self, attributes: Attributes, error: str = "") -> None:
        """End the span. ``error`` says why it failed; empty if it did not. May be called by any thread, once."""


class Traces(Protocol):
    """Makes spans. Thread-safe; nothing here waits or raises."""

    def begin(self, name: str, parent: str | None, *, server: bool = False) -> OpenSpan:
        """Begin a span. ``parent`` is the traceparent that it continues; without a valid one a new trace begins.

        ``server``: it answers somebody's request.
        """

    def passed(self, name: str, parent: str, seconds: float, attributes: Attributes, error: str = "") -> None:
        """Make a span of something that began ``seconds`` ago and has just ended: a request to another server."""

    def close(self) -> None:
        """Send the spans that are left, for a few seconds at most."""
