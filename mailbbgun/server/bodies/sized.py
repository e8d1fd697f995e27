"""Decodes bodies whose length is known (RFC 9112 §6.2)."""

from mailbbgun.server.bodies.content import BodyContent, InMemory
from mailbbgun.server.client_limits import SMALL


class SizedBody:
    """A body whose length is known."""

    def __init__(self, length: int) -> None:
        self.content: BodyContent = InMemory()
        self._left = length

    @property
    def held(self) -> int:
        """Bytes kept."""
        return self.content.held

    @property
    def read_size(self) -> int:
        """How many bytes to take at once."""
        return SMALL

    def feed(self, data: bytes) -> bytes | None:
        """Take more of the body. Return the bytes after it once it is complete, else None."""
        self.content.write(data[: self._left])
        rest = data[self._left :]
        self._left -= len(data) - len(rest)
        return None if self._left else rest
