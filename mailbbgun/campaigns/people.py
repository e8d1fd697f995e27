"""Reads a CSV file of recipients: each row is one mail, and its columns are the mail's variables.

The first row names the columns. One of them is ``to``: an address, with or without a display name.
"""

import csv
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mailbbgun.core.errors import InvalidInput

#: Names of the column with the address, the first that is there.
ADDRESS = ("to", "email", "address")
#: Bytes that are read at once to compute the digest.
BLOCK = 1024 * 1024
#: Characters of a field, at most.
LONGEST = 65_536


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the file. ``number`` is its place among the rows below the names, from 1.

    ``item`` is the recipient as ``recipients.check`` takes it, or None; then ``why`` says what is wrong.
    """

    number: int
    cells: list[str]
    item: dict[str, Any] | None
    why: str = ""


class People:
    """A CSV file in UTF-8, with commas, semicolons or tabs between the fields."""

    def __init__(self, path: Path) -> None:
        """Read the names of the columns, and all of the file for its digest.

        Raises :class:`InvalidInput` for a file that is no such table.
        """
        self._path = path
        self.digest, self.rows = _digest_and_rows(path)
        csv.field_size_limit(LONGEST)
        with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
            head = file.readline(LONGEST)
        self._delimiter = max(",;\t", key=head.count)
        self.columns = [name.strip() for name in next(csv.reader([head], delimiter=self._delimiter), [])]
        lower = [name.lower() for name in self.columns]
        place = next((lower.index(name) for name in ADDRESS if name in lower), None)
        if place is None:
            raise InvalidInput(
                f"{path}: the first row names no column `to`; it has: {', '.join(self.columns) or 'none'}."
            )
        if len(set(self.columns)) < len(self.columns) or not all(self.columns):
            raise InvalidInput(f"{path}: each column needs a name of its own in the first row.")
        self._place = place

    def __iter__(self) -> Iterator[Row]:
        """Yield the rows. Raises :class:`InvalidInput` for a byte that is no UTF-8, or a quote that is not closed."""
        with self._path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, delimiter=self._delimiter, strict=True)
            try:
                next(reader)
                for number, cells in enumerate((cells for cells in reader if cells), 1):
                    yield self._row(number, cells)
            except UnicodeDecodeError as error:
                raise InvalidInput(f"{self._path}: is not UTF-8 near line {reader.line_num + 1}.") from error
            except csv.Error as error:
                raise InvalidInput(f"{self._path}: line {reader.line_num}: {error}.") from error

    def _row(self, number: int, cells: list[str]) -> Row:
        if len(cells) != len(self.columns):
            return Row(number, cells, None, f"Has {len(cells)} fields, and the first row names {len(self.columns)}.")
        variables = dict(zip(self.columns, cells, strict=True))
        address = variables.pop(self.columns[self._place])
        return Row(number, cells, {"to": address, "variables": variables})


def _digest_and_rows(path: Path) -> tuple[str, int]:
    """Return the SHA-256 of a file, and about how many rows it has: its lines without the first."""
    digest, lines, last = hashlib.sha256(), 0, b"\n"
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
            lines += block.count(b"\n")
            last = block[-1:]
    return digest.hexdigest(), max(lines + (last != b"\n") - 1, 0)
