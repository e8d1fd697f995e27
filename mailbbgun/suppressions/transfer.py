"""Reads and writes suppressions as CSV, row by row: neither a file nor a list is whole in memory."""

import contextlib
import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from io import BufferedReader, StringIO, TextIOWrapper
from itertools import chain
from typing import Any
from uuid import UUID

from marshmallow import ValidationError

from mailbbgun.core.clock import rfc3339
from mailbbgun.core.errors import InvalidInput
from mailbbgun.database.db import Database
from mailbbgun.http.bad_input import shown
from mailbbgun.http.schemas import Moment
from mailbbgun.suppressions import repo
from mailbbgun.suppressions.models import Suppression
from mailbbgun.suppressions.repo import Entry
from mailbbgun.suppressions.schemas import MANUAL, REASON_SIZE, entry_of
from mailbbgun.suppressions.suppress import BATCH, Suppressed, suppress

COLUMNS = ("address", "domain", "reason", "expires_at", "created_at")
#: What other services call the column with the address.
ADDRESSES = ("address", "email", "emailaddress", "email_address", "recipient")
#: Rows of an import, and faults that it tells of, at most.
MOST_ROWS, MOST_TOLD = 1_000_000, 100
#: Rows that are not taken, from which on an import ends if it took fewer: then it is another kind of file.
MOST_REJECTED = 10_000
#: Characters of a line, at most. A longer one is no list of addresses.
LONGEST_LINE = 10_000

_MOMENT = Moment()


@dataclass(slots=True)
class ImportProgress:
    """What an import did: as ``Suppressed``, and the rows that were not taken, each with a sentence."""

    added: int = 0
    changed: int = 0
    stopped: int = 0
    in_hand: int = 0
    first: bool = False
    rejected: int = 0
    errors: list[Mapping[str, object]] = field(default_factory=list)

    def reject(self, line: int, message: str) -> None:
        """Note a row that was not taken."""
        self.rejected += 1
        if len(self.errors) < MOST_TOLD:
            self.errors.append({"line": line, "message": message})

    def count(self, done: Suppressed) -> None:
        """Add what came of some rows."""
        self.added += done.added
        self.changed += done.changed
        self.stopped += done.stopped
        self.in_hand += done.in_hand
        self.first = self.first or done.first


def read(database: Database, tenant_id: UUID, lines: Iterable[str], *, test: bool = False) -> ImportProgress:
    """Suppress what the rows of a CSV name, 500 in a commit; rows that are wrong are left out.

    Commas, semicolons or tabs are between the fields.

    The first row names the columns: ``address`` (or ``email``) or ``domain``, and if wanted ``reason``
    and ``expires_at``. Raises :class:`InvalidInput` if it does not, or if there are too many rows;
    those before stay. Raises :class:`DatabaseUnavailable`.
    """
    done, waiting = ImportProgress(), list[Entry]()
    try:
        for entry in _entries(lines, done):
            waiting.append(entry)
            if len(waiting) == BATCH:
                done.count(suppress(database, tenant_id, waiting, test=test, patience=0.0))
                waiting.clear()
    except (InvalidInput, UnicodeDecodeError):
        suppress(database, tenant_id, waiting, test=test, patience=0.0)
        raise
    if waiting:
        done.count(suppress(database, tenant_id, waiting, test=test))
    return done


def lines_of(stream: Any) -> Iterator[str]:
    """Yield the lines of a stream of UTF-8. Of a line that is too long only the beginning is read.

    Raises ``UnicodeDecodeError``.
    """
    text = TextIOWrapper(raw := BufferedReader(stream), "utf-8-sig", newline="")
    try:
        while line := text.readline(LONGEST_LINE + 1):
            yield line
    finally:  # the stream stays open, unless the caller has closed it already
        with contextlib.suppress(ValueError):
            text.detach()
            raw.detach()


def _entries(lines: Iterable[str], done: ImportProgress) -> Iterator[Entry]:
    """Yield each entry; note what is wrong with the other rows. Raises :class:`InvalidInput`."""
    taken = 0
    lines = _bounded(lines)
    try:
        head = next(lines, "")
    except csv.Error as error:
        raise _refused(f"Line 1 is no CSV: {error}.") from error
    # Spreadsheets of some countries write semicolons.
    reader = csv.reader(chain([head], lines), delimiter=max(",;\t", key=head.count))
    try:
        names = [name.strip().lower() for name in next(reader, [])]
        columns = {name: place for place, name in enumerate(names)}
        address = next((columns[name] for name in ADDRESSES if name in columns), None)
        if address is None and "domain" not in columns:
            named = f"it names {', '.join(map(shown, names[:10]))}" if any(names) else "it is empty"
            raise _refused(f"Its first line must name the columns, one of them address, email or domain; {named}.")
        for row in reader:
            # Empty and wrong rows count, too: they cost time.
            if reader.line_num > MOST_ROWS + 1:
                raise _refused(f"Has more than {MOST_ROWS} rows; the first of them were taken.")
            if done.rejected > max(MOST_REJECTED, taken):
                raise _refused(f"Most rows are wrong, as line {reader.line_num - 1}. The right ones were taken.")
            if not any(cell.strip() for cell in row):
                continue
            values = {name: row[place].strip() for name, place in columns.items() if place < len(row)}
            values["address"] = row[address].strip() if address is not None and address < len(row) else ""
            try:
                entry = _entry(values)
            except ValidationError as error:
                done.reject(reader.line_num, _sentence(error))
            else:
                taken += 1
                yield entry
    except csv.Error as error:
        raise _refused(f"Line {reader.line_num} is no CSV: {error}.") from error


def _entry(values: Mapping[str, str]) -> Entry:
    reason, until = values.get("reason") or MANUAL, values.get("expires_at")
    if len(reason) > REASON_SIZE or not reason.isprintable():
        raise ValidationError(f"Must be one line of at most {REASON_SIZE} characters.", "reason")
    try:
        expires_at = _MOMENT.deserialize(until) if until else None
    except ValidationError as error:
        raise ValidationError(f"Must be {Moment.expected}.", "expires_at") from error
    return entry_of(values["address"] or None, values.get("domain") or None, reason, expires_at)


def _sentence(error: ValidationError) -> str:
    return f"{error.field_name}: {' '.join(map(str, error.messages))}"


def _bounded(lines: Iterable[str]) -> Iterator[str]:
    for line in lines:
        if len(line) > LONGEST_LINE:
            raise csv.Error(f"it has more than {LONGEST_LINE} characters")
        yield line


def _refused(why: str) -> InvalidInput:
    return InvalidInput(f"The CSV cannot be read: {why}", fields={"csv": [why]})


def write(database: Database, tenant_id: UUID, *, test: bool = False) -> Iterator[str]:
    """Yield the lines of a CSV with all suppressions of a tenant, newest first, a thousand at a time.

    The line with the columns comes with the first of them. Raises :class:`DatabaseUnavailable`.
    """
    head = _line(COLUMNS)
    after: UUID | None = None
    while True:
        with database.read(tenant_id, tests_only=test) as session:
            found, _, after = repo.page(session, tenant_id, test, limit=1000, offset=0, after=after)
        yield head + "".join(_line(_cells(one)) for one in found)
        if after is None:
            return
        head = ""


def _cells(one: Suppression) -> Sequence[str | None]:
    until = None if one.expires_at is None else rfc3339(one.expires_at)
    return one.address, one.domain, one.reason, until, rfc3339(one.created_at)


def _line(cells: Iterable[str | None]) -> str:
    text = StringIO()
    csv.writer(text).writerow(["" if cell is None else cell for cell in cells])
    return text.getvalue()
