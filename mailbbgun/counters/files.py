"""The folder with the counts of all processes of this machine: one file each, and one of those that have ended.

A process has two files, named by its id: ``<id>.lock``, which it has locked as long as it lives, and
``<id>.json``, which it replaces as a whole. Who finds the lock free adds the counts to ``ended.json``. That file
names the processes it holds, so that a merge that was interrupted counts nobody twice.
"""

import fcntl
import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

from mailbbgun.counters.counters import OTHER
from mailbbgun.counters.families import ATTEMPTS, BUCKETS, BY_NAME

ENDED = "ended.json"
_LOCK, _DATA = ".lock", ".json"

#: Accounts that have labels of their own in ``ended.json``: it is kept for years, while accounts come and go.
MOST_ENDED_ACCOUNTS = 1000

log = logging.getLogger("mailbbgun.counters")

Rows = dict[str, dict[tuple[str, ...], Any]]


class Totals:
    """Counts of several processes, added up. ``counts`` and ``histograms`` also have those of ended processes."""

    def __init__(self) -> None:
        self.counts: Rows = {}
        self.histograms: Rows = {}
        self.gauges: Rows = {}

    def add(self, told: Mapping[str, Any], *, gauges: bool = True) -> None:
        """Add what one process has told (``Counters.told``). Families that this version does not know are left out."""
        for name, labels, value in _rows(told, "counts"):
            its = self.counts.setdefault(name, {})
            its[labels] = its.get(labels, 0) + value
        for name, labels, value in _rows(told, "histograms"):
            if len(value) == len(BUCKETS) + 2:
                its = self.histograms.setdefault(name, {})
                its[labels] = [a + b for a, b in zip(its.get(labels, [0.0] * len(value)), value, strict=True)]
        for name, labels, value in _rows(told, "gauges") if gauges else ():
            its = self.gauges.setdefault(name, {})
            its[labels] = its.get(labels, 0) + value

    def told(self) -> dict[str, Any]:
        """Return the counts as JSON, without gauges: a process that has ended has none."""
        return {
            kind: {name: [[list(labels), value] for labels, value in its.items()] for name, its in rows.items()}
            for kind, rows in (("counts", self.counts), ("histograms", self.histograms))
        }

    def bound_accounts(self, most: int) -> None:
        """Let accounts beyond the first ``most`` be one: ``other``."""
        rows, ids = self.counts.get(ATTEMPTS.name, {}), set[str]()
        kept: dict[tuple[str, ...], int] = {}
        for labels, n in rows.items():
            ids.update([labels[2]] if len(ids) < most else [])
            labels = labels if labels[2] in ids else (labels[0], OTHER, OTHER)
            kept[labels] = kept.get(labels, 0) + n
        if rows:
            self.counts[ATTEMPTS.name] = kept


def _rows(told: Mapping[str, Any], kind: str) -> Iterator[tuple[str, tuple[str, ...], Any]]:
    for name, rows in told.get(kind, {}).items():
        for labels, value in rows:
            if name in BY_NAME and len(labels) == len(BY_NAME[name].labels):
                yield name, tuple(labels), value


class OwnFile:
    """The file of this process. ``role`` is ``api`` or ``worker``. Raises OSError if it cannot be made."""

    def __init__(self, folder: Path, role: str) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.id = f"{role}-{uuid4().hex}"
        self._path = folder / f"{self.id}{_DATA}"
        self._new = folder / f"{self.id}.new"
        # Not inherited by programs that we start: the lock says that this process lives.
        with _merging(folder):  # else it could be taken for the file of a process that has ended
            self._lock = os.open(folder / f"{self.id}{_LOCK}", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX)

    def write(self, told: Mapping[str, Any]) -> None:
        """Replace the counts. Raises OSError."""
        self._new.write_text(json.dumps(told))
        self._new.replace(self._path)

    def close(self) -> None:
        """Say that this process has ended. Whoever reads next adds its counts to those of the ended."""
        os.close(self._lock)


def read(folder: Path, roles: Sequence[str], without: str = "") -> Totals:
    """Return the counts of all processes with these roles, living and ended, but for the process ``without``.

    Adds those of processes that have ended to the file of their role. On a full disk that is put off.
    Raises OSError if the folder cannot be read.
    """
    totals = Totals()
    if not folder.is_dir():
        return totals
    with _merging(folder):
        for role in roles:
            every = {path.name.removesuffix(_LOCK) for path in folder.glob(f"{role}-*{_LOCK}")}
            dead = {one for one in every if _is_free(folder / f"{one}{_LOCK}")}
            try:
                _merge(folder, role, dead)
            except OSError as error:
                log.warning("counts_not_merged", extra={"folder": str(folder), "error": str(error)})
            ended = _json(_ended(folder, role))
            totals.add(ended)
            for one in every - {without, *ended.get("held", ())}:
                totals.add(_json(folder / f"{one}{_DATA}"), gauges=one not in dead)
    return totals


def _ended(folder: Path, role: str) -> Path:
    return folder / f"{role}.{ENDED}"


@contextmanager
def _merging(folder: Path) -> Iterator[None]:
    """Let one process at a time read and merge: else one could read what another merges twice, or not at all."""
    held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield
    finally:
        os.close(held)


def _merge(folder: Path, role: str, dead: set[str]) -> None:
    """Add the counts of processes that have ended to the file of their role, and delete their files."""
    if not dead:
        return
    before = _json(_ended(folder, role))
    totals = Totals()
    totals.add(before)
    for one in sorted(dead - set(before.get("held", ()))):
        totals.add(_json(folder / f"{one}{_DATA}"), gauges=False)
    totals.bound_accounts(MOST_ENDED_ACCOUNTS)
    new = _ended(folder, role).with_suffix(".new")
    new.write_text(json.dumps({**totals.told(), "held": sorted(dead)}))
    new.replace(_ended(folder, role))
    for one in dead:
        for suffix in (_DATA, ".new", _LOCK):  # the lock last: until then, "held" tells of the process
            (folder / f"{one}{suffix}").unlink(missing_ok=True)


def _is_free(path: Path) -> bool:
    """Return whether the process with this lock has ended."""
    try:
        lock = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(lock)
    return True


def _json(path: Path) -> dict[str, Any]:
    """Return what a file tells; nothing if it is missing or is none of ours, which is logged."""
    with suppress(FileNotFoundError):
        try:
            told = json.loads(path.read_bytes())
        except ValueError as error:
            log.warning("counts_not_read", extra={"path": str(path), "error": str(error)})
        else:
            return dict(told)
    return {}
