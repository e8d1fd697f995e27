"""Responses that are not in memory as a whole: from a file, or made while the client reads them."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Protocol

from mailbbgun.server.bodies.open_while_used import OpenWhileUsed
from mailbbgun.server.bodies.spool import Spool, SpoolThread

#: Takes the next bytes of a response, b"" at its end, or why there are no more.
TakesBlock = Callable[[bytes | BaseException], None]


class LargeResponse(Protocol):
    """The poller asks for a block, sends it, and asks for the next one; or closes it at any time."""

    #: The request that it answers, for the log.
    title: str

    def read_next(self, then: TakesBlock) -> None:
        """Let the poller call ``then`` with the next block, soon."""

    def close(self) -> None:
        """Nothing more is wanted. May be called again."""


class FiledResponse:
    """A response in a file."""

    def __init__(self, title: str, spool: Spool, thread: SpoolThread) -> None:
        self.title = title
        self._spool, self._thread = spool, thread

    def read_next(self, then: TakesBlock) -> None:
        """Let the spools' thread read the next block."""
        self._thread.read_next(self._spool, then)

    def close(self) -> None:
        """Remove the file."""
        self._spool.close()


class ResponseStream:
    """A response of which a thread makes the next block when the one before has been sent.

    So it takes neither disk nor more memory than a block, however large it is, and a client that reads
    slowly keeps no thread. Only one thread at a time makes a block.
    """

    def __init__(
        self,
        title: str,
        blocks: Iterator[bytes],
        end: Callable[[], None],
        submit: Callable[[Callable[[], None]], None],
        call: Callable[[Callable[[], None]], None],
    ) -> None:
        """``end`` is called once, when no more blocks are wanted.

        ``submit`` lets a thread call a function, ``call`` lets the poller do so.
        """
        self.title = title
        self._blocks, self._submit, self._call = blocks, submit, call
        self._open = OpenWhileUsed(end)

    def read_next(self, then: TakesBlock) -> None:
        """Let a thread make the next block."""
        self._submit(partial(self._make, then))

    def close(self) -> None:
        """End it now, or when the thread that makes a block has made it."""
        self._open.close()

    def _make(self, then: TakesBlock) -> None:
        with self._open.work() as wanted:
            if not wanted:
                return
            try:
                block: bytes | BaseException = next(self._blocks, b"")
            except BaseException as error:  # noqa: BLE001 - of the application: the poller closes the connection
                block = error
        self._call(partial(then, block))
