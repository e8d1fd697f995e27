"""Sends one content to all people of a CSV file, in batches. After a crash it goes on where it was.

Each batch is stored with its *source*: the digest of the file and of the content, and the numbers of
its rows. The database takes no source twice, and rows of a known source are left out, so no row is sent
twice, however often it is repeated.
"""

import csv
import hashlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, islice
from pathlib import Path
from types import TracebackType
from typing import Self

import orjson

from mailbbgun.accept.accept import asked_for
from mailbbgun.batches import repo
from mailbbgun.batches.batching import PARTIAL, Batcher, GivenBatch
from mailbbgun.campaigns.people import People, Row
from mailbbgun.core.caller import Caller
from mailbbgun.core.errors import InvalidInput
from mailbbgun.database.db import Database
from mailbbgun.recipients.faults import Faults

#: Names of the first columns of the file of rejected rows.
NUMBER, REASON = "row", "reason"


@dataclass(slots=True)
class Sent:
    """How far it is, in rows. ``before``: those of batches that an earlier run had stored."""

    accepted: int = 0
    rejected: int = 0
    before: int = 0


class Campaign:
    """One content for the people of a file."""

    def __init__(self, people: People, content: GivenBatch, name: str, rows: int) -> None:
        """``content`` is a batch without recipients. ``rows``: how many go into one batch.

        ``name`` tells two runs of the same file and content apart.
        """
        self._people, self._content, self._rows = people, content, rows
        asked = {"name": name, "content": asked_for(content.common, content.options)}
        asked |= {"variables": content.variables}
        of_content = hashlib.sha256(orjson.dumps(asked, option=orjson.OPT_SORT_KEYS)).hexdigest()
        self.source = f"csv:{people.digest[:32]}:{of_content[:32]}:"

    def send(
        self, database: Database, batcher: Batcher, caller: Caller, rejects: Path, progress: Callable[[Sent, int], None]
    ) -> Sent:
        """Send to all rows that no earlier run has sent to. ``progress`` is called after each batch with its rows.

        Rows that cannot be sent to are written to the file ``rejects`` with their reasons. Raises what
        :meth:`Batcher.accept` does, but for faults of single rows.
        """
        with database.read(caller.tenant_id) as session:
            done = repo.known_sources(session, caller.tenant_id, self.source)
        sent = Sent()
        ranges = sorted(map(_range, done))
        with _Rejects(rejects, self._people.columns, ranges) as rejected:
            for rows, is_done in self._chunks(ranges):
                if is_done:
                    sent.before += len(rows)
                else:
                    self._send(rows, self._source_of(rows), batcher, caller, rejected, sent)
                progress(sent, len(rows))
            sent.rejected = rejected.written
        return sent

    def _send(
        self, rows: Sequence[Row], source: str, batcher: Batcher, caller: Caller, rejected: "_Rejects", sent: Sent
    ) -> None:
        good = [row for row in rows if row.item is not None]
        faulty: dict[int, Faults] = {}

        def told(faults: Mapping[int, Faults]) -> None:
            # The rejected rows are written before the batch is committed. If this program dies in between, the
            # next run removes them and finds them again.
            faulty.update(faults)
            reasons = {row.number: row.why for row in rows if row.item is None}
            reasons |= {good[index].number: _sentence(fault) for index, fault in faults.items()}
            rejected.write(rows, reasons)

        if not good:
            told({})
            return
        given = replace(self._content, recipients=[row.item for row in good], mode=PARTIAL, source=source)
        try:
            sent.accepted += int(batcher.accept(given, caller, told).answer["accepted"])
        except InvalidInput:
            if len(faulty) < len(good):  # it is not about the rows
                raise

    def _chunks(self, done: Sequence[tuple[int, int]]) -> Iterator[tuple[list[Row], bool]]:
        """Yield rows that follow each other, as many as go into a batch, and whether they are in the ranges ``done``.

        A batch of an earlier run may have had another number of rows.
        """
        for is_done, rows in groupby(self._people, _within(done)):
            while chunk := list(islice(rows, self._rows)):
                yield chunk, is_done

    def _source_of(self, rows: Sequence[Row]) -> str:
        return f"{self.source}{rows[0].number}-{rows[-1].number}"


class _Rejects:
    """The file of rejected rows: their numbers, the reasons, and the columns of the file that they are from."""

    def __init__(self, path: Path, columns: Sequence[str], done: Sequence[tuple[int, int]]) -> None:
        """Keep those rows of an earlier run whose batches are stored: the ranges ``done``."""
        self._path, self._names = path, [NUMBER, REASON, *columns]
        self._kept = [row for row in self._earlier() if any(first <= int(row[0]) <= last for first, last in done)]
        self.written = 0

    def __enter__(self) -> Self:
        self._file = self._path.open("w", encoding="utf-8", newline="")
        self._writer = csv.writer(self._file)
        self._writer.writerow(self._names)
        self._write(self._kept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def write(self, rows: Sequence[Row], reasons: Mapping[int, str]) -> None:
        """Write those rows that have reasons."""
        self._write([[str(row.number), reasons[row.number], *row.cells] for row in rows if row.number in reasons])

    def _write(self, rows: Sequence[Sequence[str]]) -> None:
        self._writer.writerows(rows)
        self._file.flush()
        self.written += len(rows)

    def _earlier(self) -> list[list[str]]:
        """Return the rows of an earlier run. Raises :class:`InvalidInput` if the file is something else."""
        if not self._path.exists():
            return []
        with self._path.open(encoding="utf-8", newline="") as file:
            names, *rows = [*csv.reader(file)] or [self._names]
        if names[:2] != [NUMBER, REASON] or not all(row[0].isdecimal() for row in rows if row):
            raise InvalidInput(f"{self._path} exists and is no file of rejected rows: name another one with --rejects.")
        return [row for row in rows if row]


def _within(ranges: Sequence[tuple[int, int]]) -> Callable[[Row], bool]:
    """Return a function that says whether a row is in one of these ranges, which are sorted. It takes rows in order."""
    left = deque(ranges)

    def is_within(row: Row) -> bool:
        while left and left[0][1] < row.number:
            left.popleft()
        return bool(left) and left[0][0] <= row.number

    return is_within


def _range(source: str) -> tuple[int, int]:
    """Return the numbers of the first and the last row of a source."""
    first, _, last = source.rpartition(":")[2].partition("-")
    return int(first), int(last)


def _sentence(faults: Faults) -> str:
    return " ".join(f"{name}: {' '.join(why)}" if name else " ".join(why) for name, why in faults.items())
