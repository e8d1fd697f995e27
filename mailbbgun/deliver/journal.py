"""The journal: a file in which one worker process records for whom it sends the final dot of DATA.

After the worker's death, another process reads there what was sent. Each line is JSON: a header
with the worker and the machine's boot id; ``dot`` just before the final dot; ``reply`` with the
server's reply, right after it; ``undone`` if the dot was not sent after all; ``stopped``, the last
line, if the worker was told to stop and ended in good order. A written line is in the kernel's memory
and survives ``kill -9``. Only a crash of the machine can lose it; the boot id then differs.
"""

import contextlib
import errno
import fcntl
import logging
import os
import socket
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import orjson

from mailbbgun.core.errors import ConfigurationError, MailBBGunError
from mailbbgun.deliver.claim import Claim
from mailbbgun.smtp.reply import Reply

# Errors of a disk, or of a machine, that has no room now.
_MAY_PASS = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM)

#: Bytes. A larger file is replaced by a new one without the lines that no longer matter.
ROTATE_SIZE = 8 << 20

#: The suffix of a journal's file name.
SUFFIX = ".journal"

#: The suffix of a file that is being made, and is a journal only once it has been renamed.
FRESH = ".fresh"

_STOPPED = "stopped"

log = logging.getLogger("mailbbgun.journal")


def boot_id() -> str:
    """Return the id of the machine's current boot."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def path_of(folder: Path, owner: UUID) -> Path:
    """Return the path of the journal of the worker with that id."""
    return folder / f"{owner}{SUFFIX}"


def make_folder(folder: Path) -> None:
    """Make the folder of journals, if there is none. Raises what :class:`Journal` does."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(folder, error) from error


def _unwritable(path: Path, error: OSError) -> MailBBGunError:
    kind = MailBBGunError if error.errno in _MAY_PASS else ConfigurationError
    return kind(f"the journal {path} cannot be written: {error.strerror}")


class Journal:
    """The journal of this process. Thread-safe.

    The methods that write raise OSError, as when the disk is full; then no dot may be sent.
    """

    def __init__(self, folder: Path, owner: UUID) -> None:
        """Make the file. Raises :class:`ConfigurationError` if we may not write the folder.

        Raises :class:`MailBBGunError` if that may pass, as when the disk is full.
        """
        self.path = path_of(folder, owner)
        self._owner = owner
        self._lock = threading.Lock()
        self._open: dict[Claim, bytes] = {}  # a claim → its lines that still matter
        self._failed = False
        make_folder(folder)
        try:
            fresh, self._file = self._begin()
            os.link(fresh, self.path)  # unlike a rename, this refuses to replace a journal
            fresh.unlink()
        except OSError as error:
            raise _unwritable(self.path, error) from error

    def dots(self, transactions: Sequence[Sequence[Claim]]) -> None:
        """Write that the final dots are about to be sent for the claims of some transactions."""
        self._write([_line("dot", claims) for claims in transactions], transactions)

    def undone(self, claims: Sequence[Claim]) -> None:
        """Write that the dot of these claims was not sent after all, and forget the claims."""
        self._write([_line("undone", claims)], [claims])
        with self._lock:
            for one in claims:
                self._open.pop(one, None)

    def replies(self, answered: Sequence[tuple[Sequence[Claim], Reply]]) -> None:
        """Write the servers' replies to the dots of some transactions."""
        lines = [_line("reply", claims, reply.code, reply.enhanced, reply.text) for claims, reply in answered]
        self._write(lines, [claims for claims, _ in answered])

    def committed(self, claims: Iterable[Claim]) -> None:
        """Forget claims whose results are in the database.

        Begins a new file if this one has grown beyond ``ROTATE_SIZE``.
        """
        with self._lock:
            for one in claims:
                self._open.pop(one, None)
            if os.fstat(self._file).st_size > ROTATE_SIZE:
                self._rotate()

    def touch(self) -> None:
        """Set the file's time to now: once this worker is dead, it tells when it still lived."""
        with self._lock, contextlib.suppress(OSError):  # closed, or the disk is read-only by now
            os.utime(self._file)

    def works(self) -> bool:
        """Return whether the last line could be written, or one can be written now."""
        try:
            if self._failed:
                self._write([_line("undone", [])], [[]])
        except OSError:
            return False
        return True

    def may_have_sent(self, claim: Claim) -> bool:
        """Return whether the dot of this claim may have been sent."""
        with self._lock:
            return claim in self._open

    def close(self, *, keep: bool = False, stopped: bool = False) -> None:
        """Close the journal; delete the file if the database has all that it tells.

        With ``keep`` the file stays. If claims are still in hand, the lack of a line about them
        proves that they were not sent. With ``stopped`` a file that stays says that the worker was
        told to stop: no mail of its claims has killed it.
        """
        with self._lock:
            if not self._open and not keep:
                self.path.unlink(missing_ok=True)
            elif stopped:
                with contextlib.suppress(OSError):  # the disk is full: its claims then look as if it had died
                    _append(self._file, orjson.dumps([_STOPPED, []]) + b"\n")
            os.close(self._file)
            # A loop that still runs must not write into a file that gets this descriptor next.
            self._file = -1

    def _write(self, lines: Sequence[bytes], about: Sequence[Sequence[Claim]]) -> None:
        """Write all lines or none. ``about``: the claims that each line is about."""
        with self._lock:
            self._failed = True
            _append(self._file, b"".join(lines))
            self._failed = False
            for line, claims in zip(lines, about, strict=True):
                for one in claims:
                    self._open[one] = self._open.get(one, b"") + line

    def _begin(self) -> tuple[Path, int]:
        """Make a locked file under another name.

        Under the journal's own name it would look, until it is locked, as if its worker were dead.
        """
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
        """Replace the file by one that has only the lines that still matter."""
        fresh, file = self._begin()
        os.rename(fresh, self.path)
        os.close(self._file)
        self._file = file


def _line(what: str, claims: Sequence[Claim], *words: object) -> bytes:
    return orjson.dumps([what, [[one.delivery_id.hex, one.claim_number] for one in claims], *words]) + b"\n"


def _append(file: int, lines: bytes) -> None:
    written = os.write(file, lines)
    if written != len(lines):
        # Half a line would make the next line unreadable too.
        os.ftruncate(file, os.fstat(file).st_size - written)
        raise OSError(errno.ENOSPC, "the journal's disk is full")


@dataclass(frozen=True, slots=True)
class Replay:
    """What a journal tells.

    ``answers`` maps the key of each claim whose dot may have been sent to the server's reply, or to
    None if there is no reply.
    """

    owner: UUID
    same_boot: bool  # if False, a crash of the machine may have lost lines
    died: bool  # False if the worker lives, or has stopped in good order
    answers: dict[tuple[UUID, int], Reply | None]


@contextlib.contextmanager
def locked(path: Path) -> Iterator[bool]:
    """Lock a dead worker's journal while it is replayed.

    Yields whether it is locked: False if there is none, or if its worker or another replay has it.
    """
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
        # If another file has its name now, its worker lives and has rotated it.
        yield _is_at(file, path)
    finally:
        os.close(file)


def _is_at(file: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file), os.stat(path))
    except FileNotFoundError:
        return False


def read(path: Path, *, alive: bool) -> Replay | None:
    """Read a journal; return None if there is no file, or no whole header in it.

    Half a line at the end is left out: a dot is sent only after its whole line was written.
    ``alive`` says whether the worker lives.
    """
    try:
        lines = path.read_bytes().split(b"\n")[:-1]
    except FileNotFoundError:
        return None
    if not lines:
        return None
    answers: dict[tuple[UUID, int], Reply | None] = {}
    same_boot, last = False, ""
    try:
        header = orjson.loads(lines[0])
        for line in lines[1:]:
            last = _parse_line(answers, line)
        same_boot = header["boot"] == boot_id()
    # The machine crashed while the file was written. ``same_boot`` stays False: that a line is
    # missing proves nothing.
    except (ValueError, TypeError, KeyError):
        log.exception("journal_damaged", extra={"journal": path.name})
    return Replay(UUID(path.stem), same_boot, not alive and last != _STOPPED, answers)


def _parse_line(answers: dict[tuple[UUID, int], Reply | None], line: bytes) -> str:
    """Add to ``answers`` what a line tells; return its first word."""
    what, claims, *words = orjson.loads(line)
    for identifier, number in claims:
        key = UUID(identifier), number
        if what == "undone":
            answers.pop(key, None)
        else:
            answers[key] = Reply(*words) if what == "reply" else None
    return str(what)
