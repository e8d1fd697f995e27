"""Asks ClamAV's daemon about the blocks of a file, by its INSTREAM command (clamd(8)).

The library ``clamd`` has no time limit on connecting and loses octets when the kernel takes only a part
of a block.
"""

import socket
import struct
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Literal, NamedTuple
from urllib.parse import unquote, urlsplit

from mailbbgun.core.errors import ConfigurationError, ScannerUnavailable

#: Seconds to connect, and for a whole file. A scan of 25 MB takes a second.
CONNECT_SECONDS, SCAN_SECONDS = 5.0, 60.0

#: Files that are scanned at once by one process, and seconds without a further try after a failure.
MOST_AT_ONCE, PAUSE_SECONDS = 8, 5.0

#: Octets of the longest answer that is read.
_MOST = 4096

_PORT = 3310


class Verdict(NamedTuple):
    """What the scanner says of a file.

    ``unscannable``: the scanner refuses this file, such as one larger than its ``StreamMaxLength``.
    ``words`` is the name of what it found, or the reason; empty for a clean file.
    """

    state: Literal["clean", "infected", "unscannable"]
    words: str = ""


class Scanner:
    """A clamd at ``tcp://host:port`` or ``unix:/path``. Thread-safe.

    Raises :class:`ConfigurationError` for another URL.
    """

    def __init__(self, url: str, *, connect_seconds: float = CONNECT_SECONDS, seconds: float = SCAN_SECONDS) -> None:
        self._place = _place(url)
        self._connect_seconds, self._seconds = connect_seconds, seconds

    def scan(self, blocks: Iterable[bytes]) -> Verdict:
        """Send the blocks of a file to the scanner; return what it says.

        It is asked first whether it is there: one that hangs is noticed in seconds, whatever the file takes.
        Raises :class:`ScannerUnavailable` if it does not answer in time, and what ``blocks`` raises.
        """
        self.check()
        deadline = monotonic() + self._seconds
        with self._connected(deadline) as connection:
            try:
                _send(connection, b"zINSTREAM\0", deadline)
                for block in blocks:
                    if block:  # an empty one would be the end
                        _send(connection, struct.pack("!L", len(block)) + block, deadline)
                _send(connection, bytes(4), deadline)
            except _Broken as broken:
                # It says why, such as a file that is too large, and closes the connection.
                if answer := _answer_or_nothing(connection, deadline):
                    return _verdict(answer)
                raise _unavailable(broken.error) from broken.error
            try:
                return _verdict(_answer(connection, deadline))
            except OSError as error:
                raise _unavailable(error) from error

    def check(self) -> None:
        """Ask whether the scanner is there. Raises :class:`ScannerUnavailable`."""
        deadline = monotonic() + self._connect_seconds
        with self._connected(deadline) as connection:
            try:
                connection.sendall(b"zPING\0")
                if _answer(connection, deadline) != "PONG":
                    raise ScannerUnavailable("What CLAMAV_URL names does not answer like clamd.")
            except OSError as error:
                raise _unavailable(error) from error

    def _connected(self, deadline: float) -> socket.socket:
        family = socket.AF_UNIX if isinstance(self._place, str) else socket.AF_INET
        try:
            if not isinstance(self._place, str):
                return socket.create_connection(self._place, timeout=self._connect_seconds)
            connection = socket.socket(family, socket.SOCK_STREAM)
        except OSError as error:
            raise _unavailable(error) from error
        try:
            connection.settimeout(min(self._connect_seconds, max(deadline - monotonic(), 0.001)))
            connection.connect(self._place)
        except OSError as error:
            connection.close()
            raise _unavailable(error) from error
        return connection


class ScannerTurns:
    """Lets few files at once go to the scanner, and none for a while after it failed.

    So a scanner that hangs holds up only a few threads. Thread-safe.
    """

    def __init__(self, most: int = MOST_AT_ONCE, pause: float = PAUSE_SECONDS) -> None:
        self._free, self._pause = threading.BoundedSemaphore(most), pause
        self._failed: ScannerUnavailable | None = None
        self._paused_until = 0.0

    @contextmanager
    def one(self, patience: float) -> Iterator[None]:
        """Wait for a turn, at most ``patience`` seconds. Raises :class:`ScannerUnavailable`."""
        if self._failed is not None and monotonic() < self._paused_until:
            raise ScannerUnavailable(str(self._failed)) from self._failed
        if not self._free.acquire(timeout=patience):
            raise ScannerUnavailable("The virus scanner is busy.")
        try:
            yield
            self._failed = None
        except ScannerUnavailable as error:
            self._failed, self._paused_until = error, monotonic() + self._pause
            raise
        finally:
            self._free.release()


class _Broken(Exception):
    """The connection broke, or the time was over, while a file was being sent."""

    def __init__(self, error: OSError) -> None:
        self.error = error


def _place(url: str) -> tuple[str, int] | str:
    parts = urlsplit(url)
    try:
        if parts.scheme == "tcp" and parts.hostname and not parts.path.strip("/"):
            return parts.hostname, parts.port or _PORT
    except ValueError as error:  # the port
        raise ConfigurationError(f"CLAMAV_URL: {url!r}: {error}") from error
    if parts.scheme == "unix" and not parts.netloc and parts.path.startswith("/"):
        return unquote(parts.path)
    raise ConfigurationError(f"CLAMAV_URL: {url!r} is neither tcp://host:3310 nor unix:/run/clamav/clamd.ctl")


def _send(connection: socket.socket, octets: bytes, deadline: float) -> None:
    try:
        connection.settimeout(_left(deadline))
        connection.sendall(octets)
    except OSError as error:
        raise _Broken(error) from error


def _answer(connection: socket.socket, deadline: float) -> str:
    answer = b""
    while not answer.endswith(b"\0") and len(answer) < _MOST:
        connection.settimeout(_left(deadline))
        if not (octets := connection.recv(_MOST)):
            break
        answer += octets
    if not answer:
        raise ConnectionResetError("the connection was closed without an answer")
    return answer.rstrip(b"\0\n").decode("utf-8", "replace")


def _answer_or_nothing(connection: socket.socket, deadline: float) -> str:
    try:
        return _answer(connection, min(deadline, monotonic() + 1.0))
    except OSError:
        return ""


def _left(deadline: float) -> float:
    if (left := deadline - monotonic()) <= 0:
        raise TimeoutError("timed out")
    return left


def _verdict(answer: str) -> Verdict:
    said = answer.removeprefix("stream: ")
    if said == "OK":
        return Verdict("clean")
    if said.endswith(" FOUND"):
        return Verdict("infected", said.removesuffix(" FOUND")[:200])
    if said.endswith("ERROR") and "size limit" in said:
        return Verdict("unscannable", said.removesuffix("ERROR").strip()[:200])
    raise ScannerUnavailable(f"The virus scanner failed: {said[:200]!r}.")


def _unavailable(error: OSError) -> ScannerUnavailable:
    return ScannerUnavailable(f"The virus scanner does not answer: {(error.strerror or str(error)).lower()}.")
