"""Where the content of a body goes while it comes: into memory, or into a spool."""

from io import BytesIO
from typing import Protocol


class BodyContent(Protocol):
    """What :class:`SizedBody` and :class:`ChunkedBody` write to."""

    @property
    def held(self) -> int:
        """Bytes in memory."""

    def tell(self) -> int:
        """Return how many bytes were written."""

    def write(self, data: bytes | bytearray, /) -> object:
        """Take more bytes."""


class InMemory(BytesIO):
    """The content of an ordinary request."""

    @property
    def held(self) -> int:
        """Bytes in memory."""
        return self.tell()
