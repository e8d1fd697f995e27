"""Keeps the bodies of uploads, and large responses, in files on disk, and little of them in memory.

The poller writes what comes into a :class:`Spool`'s memory. Whenever that has :data:`BLOCK` bytes, a
thread moves them into the file, because a disk may block for seconds. Meanwhile nothing more is read
from the client. In the same way that thread reads a response, block by block.
"""

import os
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from io import BufferedReader, BytesIO, FileIO
from pathlib import Path
from threading import Lock
from typing import BinaryIO, TypeVar, cast

from mailbbgun.server.bodies.open_while_used import OpenWhileUsed
from mailbbgun.server.refusal import Refusal

T = TypeVar("T")

#: Bytes of a body that are kept in memory until a thread writes them. A smaller body needs no file.
BLOCK = 65_536

#: Bytes of a response that are read at once.
READ_AT_ONCE = 262_144

#: Seconds after which a client that found no room should try again.
_RETRY_SECONDS = 10


class SpoolFolder:
    """The folder of the files. ``most``: bytes of all of them together. Thread-safe."""

    def __init__(self, path: Path, most: int) -> None:
        self._path, self._most = path, most
        self._bytes = 0
        self._lock = Lock()

    def take(self, size: int) -> None:
        """Count bytes that are about to be written. Raises :class:`Refusal` if there is no room."""
        with self._lock:
            if self._bytes + size > self._most:
                raise _no_room("Too many uploads are on their way; try again in a few seconds.")
            self._bytes += size

    def give_back(self, size: int) -> None:
        """Count bytes as gone."""
        with self._lock:
            self._bytes -= size

    def open(self) -> int:
        """Return the descriptor of a new file.

        The file has no name, so none is left behind by a process that is killed.
        """
        self._path.mkdir(mode=0o700, parents=True, exist_ok=True)  # it holds people's mail
        with tempfile.TemporaryFile(dir=self._path, buffering=0) as file:
            return os.dup(file.fileno())


class Spool:
    """A body, on its way from the poller into a file.

    The poller calls :meth:`write` and :meth:`tell`. One thread at a time calls :meth:`flush` or
    :meth:`reader`; meanwhile the poller must not write. Either may :meth:`close`.
    """

    def __init__(self, folder: SpoolFolder) -> None:
        self._folder = folder
        self._pending = bytearray()
        self._size = 0
        self._written = 0  # bytes in the file
        self._read = 0  # bytes that read_next() has returned
        self._file = -1
        self._open = OpenWhileUsed(self._end)

    @property
    def held(self) -> int:
        """Bytes in memory."""
        return len(self._pending)

    @property
    def full(self) -> bool:
        """Whether so much is in memory that it must be written to the file first."""
        return len(self._pending) >= BLOCK

    def tell(self) -> int:
        """Return the size of the body so far."""
        return self._size

    def write(self, data: bytes | bytearray) -> None:
        """Take more of the body."""
        self._pending += data
        self._size += len(data)

    def flush(self) -> None:
        """Write to the file what is in memory. Raises :class:`Refusal` if there is no room."""
        with self._open.work() as is_open:
            if not is_open:
                return
            try:
                self._append(self._pending)
                self._pending = bytearray()
            except OSError as error:
                raise _no_room(f"The upload cannot be kept: {error.strerror}.") from error

    def read_next(self) -> bytes:
        """Return the next block of the complete content; b"" at its end, or if it was closed."""
        with self._open.work() as is_open:
            block = os.pread(self._file, READ_AT_ONCE, self._read) if is_open else b""
            self._read += len(block)
            return block

    def reader(self) -> BinaryIO:
        """Return the complete body, to be read from its beginning. Raises :class:`Refusal`.

        It can be read until :meth:`close`.
        """
        if self._file < 0:
            return BytesIO(self._pending)
        self.flush()
        os.lseek(self._file, 0, os.SEEK_SET)
        return cast(BinaryIO, BufferedReader(FileIO(self._file, closefd=False), BLOCK))

    def close(self) -> None:
        """Remove the file. If a thread is writing to it, that removes it."""
        self._open.close()

    def _append(self, data: bytearray) -> None:
        self._folder.take(len(data))
        self._written += len(data)
        if self._file < 0:
            self._file = self._folder.open()
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self._file, rest) :]

    def _end(self) -> None:
        self._folder.give_back(self._written)
        self._written = 0
        self._pending = bytearray()
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


class SpoolThread:
    """Writes to the files of spools, and reads them, in one thread."""

    def __init__(self, folder: SpoolFolder, call: Callable[[Callable[[], None]], None]) -> None:
        """``call`` lets the poller call a function."""
        self._folder, self._call = folder, call
        self._thread = ThreadPoolExecutor(1, "spool")

    def spool(self) -> Spool:
        """Return an empty spool."""
        return Spool(self._folder)

    def flush(self, spool: Spool, then: Callable[[Exception | None], None]) -> None:
        """Flush a spool. Then let the poller call ``then`` with the error, or None."""
        self._thread.submit(self._do, spool.flush, then)

    def read_next(self, spool: Spool, then: Callable[[bytes | BaseException], None]) -> None:
        """Read a block of a spool. Then let the poller call ``then`` with it, or with the error."""
        self._thread.submit(self._do, spool.read_next, then)

    def close(self) -> None:
        """End the thread, without waiting for it."""
        self._thread.shutdown(wait=False)

    def _do(self, work: Callable[[], T], then: Callable[[T | Exception], None]) -> None:
        try:
            result: T | Exception = work()
        except Exception as error:  # noqa: BLE001 - a Refusal, or a bug of ours: the poller handles it
            result = error
        self._call(partial(then, result))


def _no_room(message: str) -> Refusal:
    return Refusal(503, message, code="unavailable", retry_after=_RETRY_SECONDS)
