"""Reads the list of files at the end of a ZIP archive (APPNOTE.TXT §4.3). Pure; unpacks nothing."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from mailbbgun.safety import formats
from mailbbgun.safety.formats import Format
from mailbbgun.safety.names import extension, safe_name

#: Octets of the end of a file that are kept. A longer list of files is not read.
TAIL = 512 * 1024

_END, _ENTRY = struct.Struct("<4s4H2LH"), struct.Struct("<4s6H3L5H2L")
_LOCATOR, _END64 = struct.Struct("<4sLQL"), struct.Struct("<4sQ2H2L4Q")
_LONGEST_COMMENT = 65_535

#: An archive that says it unpacks to more than this, and to so many times its size, is a bomb.
_MOST_UNPACKED, _MOST_RATIO = 1_000_000_000, 100


class ArchiveEntry(NamedTuple):
    """A file in an archive: its path, and the octets that the archive says it has."""

    path: str
    packed: int
    unpacked: int


@dataclass(frozen=True, slots=True)
class Listing:
    """The list of files of an archive.

    ``whole``: all of it was read. ``before``: octets that stand before the archive and do not belong
    to it.
    """

    entries: tuple[ArchiveEntry, ...]
    whole: bool
    before: int

    @property
    def paths(self) -> frozenset[str]:
        return frozenset(entry.path for entry in self.entries)

    def is_bomb(self, size: int) -> bool:
        """Return whether an archive of so many octets says it unpacks to far more."""
        unpacked = sum(entry.unpacked for entry in self.entries)
        return unpacked > _MOST_UNPACKED and unpacked > _MOST_RATIO * size

    def holding(self, kinds: tuple[str, ...]) -> str | None:
        """Return the name of the first file that is of one of these kinds of formats."""
        for entry in self.entries:
            name = safe_name(entry.path)
            found = formats.by_extension(extension(name))
            if found is not None and found.kind in kinds:
                return name
        return None


def listing(tail: bytes, size: int) -> Listing | None:
    """Return the list of files of an archive of ``size`` octets, or None if it is no ZIP archive.

    ``tail``: its last octets, all or at least `TAIL`. The archive's end must be the file's end.
    """
    at = len(tail)
    lowest = max(0, at - _END.size - _LONGEST_COMMENT)
    while (at := tail.rfind(b"PK\x05\x06", lowest, at)) >= 0:
        if len(tail) - at < _END.size:
            continue
        *_, comment = _END.unpack_from(tail, at)
        if at + _END.size + comment == len(tail):
            return _listing(tail, size, _place(tail, at))
    return None


class _Place(NamedTuple):
    """Where the list of files is, as an archive says."""

    end: int  # in the tail
    length: int
    offset: int  # from the beginning of the archive
    files: int


def _place(tail: bytes, at: int) -> _Place:
    """Return what the end at ``at`` says of the list, or what that of ZIP64 (§4.3.14) before it says."""
    _, _, _, _, files, length, offset, _ = _END.unpack_from(tail, at)
    locator = at - _LOCATOR.size
    end = locator - _END64.size
    if end >= 0 and tail.startswith(b"PK\x06\x07", locator) and tail.startswith(b"PK\x06\x06", end):
        _, _, _, _, _, _, _, files, length, offset = _END64.unpack_from(tail, end)
        return _Place(end, length, offset, files)
    return _Place(at, length, offset, files)


def _listing(tail: bytes, size: int, place: _Place) -> Listing | None:
    begins = place.end - place.length
    before = size - len(tail) + begins - place.offset
    if before < 0 or size - len(tail) + begins < 0:
        return None  # the archive would begin before the file
    if begins < 0:
        return Listing((), whole=False, before=before)
    entries = tuple(_entries(tail, begins, place.end))
    return Listing(entries, whole=len(entries) == place.files, before=before)


def _entries(tail: bytes, at: int, end: int) -> Iterator[ArchiveEntry]:
    while at + _ENTRY.size <= end and tail.startswith(b"PK\x01\x02", at):
        _, _, _, _, _, _, _, _, packed, unpacked, name, extra, comment, *_ = _ENTRY.unpack_from(tail, at)
        path = tail[at + _ENTRY.size : at + _ENTRY.size + name].decode("utf-8", "replace")
        yield ArchiveEntry(path, packed, unpacked)
        at += _ENTRY.size + name + extra + comment


def format_of(found: Listing) -> Format:
    """Return the format of an archive by the files in it."""
    paths = found.paths
    if "[Content_Types].xml" in paths:
        if any(path.lower().endswith("vbaproject.bin") or "/macrosheets/" in path.lower() for path in paths):
            return formats.MACROS
        for folder, document in (("word/", formats.WORD), ("xl/", formats.EXCEL), ("ppt/", formats.SLIDES)):
            if any(path.startswith(folder) for path in paths):
                return document
    if "mimetype" in paths and "META-INF/container.xml" in paths:
        return formats.EPUB
    if "mimetype" in paths and "content.xml" in paths:
        return formats.ODF
    if paths & {"META-INF/MANIFEST.MF", "AndroidManifest.xml"}:
        return formats.JAR
    return formats.ZIP
