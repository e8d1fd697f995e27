"""A Maildir (https://cr.yp.to/proto/maildir.html) that is written durably and never outgrows its
bounds.
"""

import contextlib
import itertools
import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

DRAFT_SECONDS = 36 * 3600  # what is in tmp/ for longer was left by who died: the Maildir convention's own number
LOOK_SHARE = 100  # it is looked through again when a hundredth of either bound has come in; 10,000 files take 35 ms

log = logging.getLogger("mailbbgun.maildir")


class Maildir:
    """The standard library's does not sync the name of what it adds, nor does it forget.

    Thread-safe.

    Of the messages in ``new`` and ``cur`` the newest stay: at most ``most``, of at most ``size``
    bytes together, and the last one in any case. Between two looks there may be a hundredth more.
    """

    def __init__(self, folder: Path, most: int, size: int) -> None:
        self.folder = folder
        self._most = most
        self._size = size
        self._numbers = itertools.count()
        self._host = socket.gethostname().replace("/", r"\057").replace(":", r"\072")
        self._counting = threading.Lock()
        self._looking = threading.Lock()
        self._came, self._bytes = (
            most,
            size,
        )  # since the last look; as if all was new, since nobody knows what is there at first

    def make(self) -> None:
        """Create the folders that are missing. Raises ``OSError``."""
        for name in ("tmp", "new", "cur"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)

    def keep(self, content: bytes) -> Path:
        """Write a message to disk and return its file; it shows up complete or not at all.

        Raises ``OSError``.
        """
        try:
            file = self._keep(content)
        except FileNotFoundError:
            self.make()  # somebody emptied var/ while we ran
            file = self._keep(content)
        if self._look_due(len(content)) and self._looking.acquire(blocking=False):
            try:
                self._forget()
            finally:
                self._looking.release()
        return file

    def _keep(self, content: bytes) -> Path:
        seconds, fraction = divmod(time.time_ns(), 1_000_000_000)
        name = f"{seconds}.M{fraction // 1000:06}P{os.getpid()}Q{next(self._numbers)}.{self._host}"
        draft, final = self.folder / "tmp" / name, self.folder / "new" / name
        try:
            with draft.open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            draft.rename(final)
        except OSError:
            with contextlib.suppress(OSError):
                draft.unlink(missing_ok=True)
            raise
        _sync_folder(final.parent)
        return final

    def _look_due(self, size: int) -> bool:
        with self._counting:
            self._came += 1
            self._bytes += size
            return self._came > self._most // LOOK_SHARE or self._bytes > self._size // LOOK_SHARE

    def _forget(self) -> None:
        """Remove the oldest beyond the bounds, read or not, and drafts nobody will end.

        What cannot be removed is told of and stays.
        """
        with self._counting:
            self._came = self._bytes = 0
        try:
            newest_first = sorted((*_files(self.folder / "new"), *_files(self.folder / "cur")), reverse=True)
            size = 0
            for number, (_, length, path) in enumerate(newest_first):
                size += length
                if number and (number >= self._most or size > self._size):
                    Path(path).unlink(missing_ok=True)
            for written, _, path in _files(self.folder / "tmp"):
                if written < time.time_ns() - DRAFT_SECONDS * 1_000_000_000:
                    Path(path).unlink(missing_ok=True)
        except OSError as error:
            log.error("not_forgotten", extra={"why": error})


def _files(folder: Path) -> Iterator[tuple[int, int, str]]:
    """Give when each file was written (nanoseconds), its bytes and its path. Raises ``OSError``."""
    with os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(FileNotFoundError):  # read and thrown away meanwhile
                found = entry.stat(follow_symlinks=False)
                if entry.is_file(follow_symlinks=False):
                    yield found.st_mtime_ns, found.st_size, entry.path


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
