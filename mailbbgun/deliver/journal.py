"""The journal: what one worker process did on the wire, written so that its successor can tell.

One JSON line each: a header naming the worker and the machine's boot; ``dot`` just before the final dot of DATA; ``reply`` with the
server's answer right after it; ``undone`` if the dot was not written after all. A line that ``kill -9`` finds written is in the
kernel's hands and survives the process; only the machine's own crash can lose it, and then the boot id tells.
"""

import errno
import fcntl
import logging
import os
import socket
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import orjson

from mailbbgun.core.errors import ConfigurationError
from mailbbgun.deliver.claim import Claim
from mailbbgun.smtp.reply import Reply

ROTATE_SIZE = 8 << 20  # bytes
SUFFIX = ".journal"
FRESH = ".fresh"

log = logging.getLogger("mailbbgun.journal")


def boot_id() -> str:
    """Return what tells this boot of the machine from every other."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def path_of(folder: Path, owner: UUID) -> Path:
    """Return where the worker of that id keeps its journal."""
    return folder / f"{owner}{SUFFIX}"


class Journal:
    """The journal of this process. Thread-safe; every method but ``close`` may raise OSError (disk full), and then nothing may be sent."""

    def __init__(self, folder: Path, owner: UUID) -> None:
        """Begin a journal. Raises :class:`ConfigurationError` if the folder cannot be written."""
        self.path = path_of(folder, owner)
        self._owner = owner
        self._lock = threading.Lock()
        self._open: dict[tuple[UUID, int], bytes] = {}  # delivery and attempt → its lines that still matter
        self._failed = False
        try:
            folder.mkdir(parents=True, exist_ok=True)
            fresh, self._file = self._begin()
            os.link(fresh, self.path)  # unlike a rename, refuses a journal that is there already
            fresh.unlink()
        except OSError as error:
            raise ConfigurationError(f"the journal {self.path} cannot be written: {error.strerror}") from error

    def dot(self, claims: Sequence[Claim]) -> None:
        """Write that the final dot is about to be sent for these."""
        self._write("dot", claims)

    def undone(self, claims: Sequence[Claim]) -> None:
        """Write that the dot of the line before was not sent."""
        self._write("undone", claims)

    def reply(self, claims: Sequence[Claim], reply: Reply) -> None:
        """Write the server's answer to the dot."""
        self._write("reply", claims, reply.code, reply.enhanced, reply.text)

    def committed(self, claims: Iterable[Claim]) -> None:
        """Forget claims whose results are in the database; begin a fresh file when this one has grown."""
        with self._lock:
            for one in claims:
                self._open.pop(one.key, None)
            if os.fstat(self._file).st_size > ROTATE_SIZE:
                self._rotate()

    def works(self) -> bool:
        """Say whether lines can be written: the last one was, or one can be now."""
        try:
            if self._failed:
                self._write("undone", [])
        except OSError:
            return False
        return True

    def may_have_sent(self, claim: Claim) -> bool:
        """Say whether a line about this claim still matters: its dot may have gone out."""
        with self._lock:
            return claim.key in self._open

    def close(self, *, keep: bool = False) -> None:
        """End the journal; the file goes unless it still tells something that the database does not know.

        With ``keep`` it stays all the same: for claims still in hand, its silence tells that nothing was sent.
        """
        with self._lock:
            if not self._open and not keep:
                self.path.unlink(missing_ok=True)
            os.close(self._file)
            self._file = -1  # a sender that outlived the grace must not write into what gets this number next

    def _write(self, what: str, claims: Sequence[Claim], *words: object) -> None:
        line = orjson.dumps([what, [[one.delivery_id.hex, one.claim_number] for one in claims], *words]) + b"\n"
        with self._lock:
            self._failed = True
            _append(self._file, line)
            self._failed = False
            for one in claims:
                self._open[one.key] = self._open.get(one.key, b"") + line

    def _begin(self) -> tuple[Path, int]:
        """Make a locked file under another name: nobody may find a journal that looks as if its worker were dead."""
        path = self.path.with_suffix(FRESH)
        path.unlink(missing_ok=True)
        file = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            header = {"owner": str(self._owner), "boot": boot_id(), "host": socket.gethostname(), "pid": os.getpid()}
            _append(file, orjson.dumps(header) + b"\n" + b"".join(dict.fromkeys(self._open.values())))
        except OSError:
            os.close(file)
            raise
        return path, file

    def _rotate(self) -> None:
        """Carry the lines that still matter into a new file and put it in the old one's place at once."""
        fresh, file = self._begin()
        os.rename(fresh, self.path)
        os.close(self._file)
        self._file = file


def _append(file: int, line: bytes) -> None:
    written = os.write(file, line)
    if written != len(line):
        # What was torn off must not stand before the next line, which would then be unreadable too.
        os.ftruncate(file, os.fstat(file).st_size - written)
        raise OSError(errno.ENOSPC, "the journal's disk is full")


@dataclass(frozen=True, slots=True)
class Replay:
    """What a journal tells. ``answers`` maps (delivery, attempt) to the server's answer, or None where the answer is missing."""

    owner: UUID
    same_boot: bool  # only then does the lack of a line prove that nothing was sent
    alive: bool  # the worker still holds the file
    answers: dict[tuple[UUID, int], Reply | None]


@contextmanager
def locked(path: Path) -> Iterator[bool]:
    """Hold a dead worker's journal while it is replayed; gives False if its worker, or another replay, has it."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        yield False
        return
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield _is_at(file, path)  # else it was rotated since it was opened, and its worker lives
    finally:
        os.close(file)


def _is_at(file: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file), os.stat(path))
    except FileNotFoundError:
        return False


def read(path: Path, *, alive: bool) -> Replay | None:
    """Read a journal. A torn last line is left out (its dot was not sent); None when there is no such file or no whole header."""
    try:
        lines = path.read_bytes().split(b"\n")[:-1]
    except FileNotFoundError:
        return None
    if not lines:
        return None
    answers: dict[tuple[UUID, int], Reply | None] = {}
    same_boot = False
    try:
        header = orjson.loads(lines[0])
        for line in lines[1:]:
            _parse_line(answers, line)
        same_boot = header["boot"] == boot_id()
    except (
        ValueError,
        TypeError,
        KeyError,
    ):  # the machine crashed while it was written: what it does not tell is not known
        log.exception("journal_damaged", extra={"journal": path.name})
    return Replay(UUID(path.stem), same_boot, alive, answers)


def _parse_line(answers: dict[tuple[UUID, int], Reply | None], line: bytes) -> None:
    what, claims, *words = orjson.loads(line)
    for identifier, attempt in claims:
        key = UUID(identifier), attempt
        if what == "undone":
            answers.pop(key, None)
        else:
            answers[key] = Reply(*words) if what == "reply" else None
