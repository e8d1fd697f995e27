"""A Maildir (https://cr.yp.to/proto/maildir.html) that is durable and deletes its oldest mail."""

import contextlib
import itertools
import logging
import os
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from uuid import uuid4

#: Seconds after which a file in tmp/ is taken for abandoned: the number of the Maildir convention.
DRAFT_SECONDS = 36 * 3600

#: The folder is listed again when a hundredth of either bound was added. Listing 10,000 files takes
#: 35 ms.
LIST_FRACTION = 100

FOLDERS = ("tmp", "new", "cur")

log = logging.getLogger("mailbbgun.maildir")


class Maildir:
    """Stores messages as files. Thread-safe.

    The standard library's Maildir does not sync the name of a new file, and deletes nothing.

    Of the messages in ``new`` and ``cur`` the newest stay: at most ``most`` messages of at most
    ``size`` bytes together, and the last one in any case. Between two listings of the folder there
    may be a hundredth more.
    """

    def __init__(self, folder: Path, most: int, size: int) -> None:
        self.folder = folder
        self._most = most
        self._size = size
        self._numbers = itertools.count()
        self._host = socket.gethostname().replace("/", r"\057").replace(":", r"\072")
        self._counting = threading.Lock()
        self._deleting = threading.Lock()
        # What was added since the last listing. At first the whole bound, so that the first message
        # lists the folder: nobody knows what is in it.
        self._added, self._added_bytes = most, size

    def make(self) -> None:
        """Create the folders that are missing. Raises ``OSError``."""
        for name in FOLDERS:
            (self.folder / name).mkdir(parents=True, exist_ok=True)

    def keep(self, content: bytes) -> Path:
        """Write a message to disk and return its file, which appears complete or not at all.

        Raises ``OSError``.
        """
        try:
            file = self._keep(content)
        except FileNotFoundError:
            self.make()  # somebody emptied the folder while we ran
            file = self._keep(content)
        if self._listing_due(len(content)) and self._deleting.acquire(blocking=False):
            try:
                self._delete_oldest()
            finally:
                self._deleting.release()
        return file

    def _keep(self, content: bytes) -> Path:
        seconds, fraction = divmod(time.time_ns(), 1_000_000_000)
        return store(
            self.folder, f"{seconds}.M{fraction // 1000:06}P{os.getpid()}Q{next(self._numbers)}.{self._host}", [content]
        )

    def _listing_due(self, size: int) -> bool:
        with self._counting:
            self._added += 1
            self._added_bytes += size
            return self._added > self._most // LIST_FRACTION or self._added_bytes > self._size // LIST_FRACTION

    def _delete_oldest(self) -> None:
        """Delete the oldest messages beyond the bounds, read or not, and abandoned drafts.

        If a file cannot be deleted, log it and keep the file.
        """
        with self._counting:
            self._added = self._added_bytes = 0
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
            log.error("maildir_not_trimmed", extra={"why": error})


def store(folder: Path, name: str, pieces: Iterable[bytes]) -> Path:
    """Write a message into a Maildir and return its file, which appears complete or not at all.

    A file in ``new`` with this name is replaced. Raises ``OSError``.
    """
    draft, final = folder / "tmp" / f"{name}.{uuid4().hex}", folder / "new" / name
    try:
        with open(draft, "xb", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
            file.writelines(pieces)
            file.flush()
            os.fsync(file.fileno())
        draft.rename(final)
    except OSError:
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)
        raise
    _sync_folder(final.parent)
    return final


def _files(folder: Path) -> Iterator[tuple[int, int, str]]:
    """Yield each file's time of writing (nanoseconds), bytes and path. Raises ``OSError``."""
    with os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(FileNotFoundError):  # its reader deleted it meanwhile
                found = entry.stat(follow_symlinks=False)
                if entry.is_file(follow_symlinks=False):
                    yield found.st_mtime_ns, found.st_size, entry.path


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
