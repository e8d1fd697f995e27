"""Watches the blocks of a file as they pass by, and judges it: its name, its type, archives and macros."""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from mailbbgun.core.errors import FileRefused
from mailbbgun.safety import archives, formats
from mailbbgun.safety.archives import Listing
from mailbbgun.safety.formats import HEAD, Format
from mailbbgun.safety.names import extension, safe_name
from mailbbgun.settings.settings import Settings

#: The name of a stream in each Office 97 document with macros ([MS-OVBA] §2.2.1), and of the one that
#: holds an encrypted document ([MS-OFFCRYPTO] §2.3.4.4).
_VBA, _ENCRYPTED = ("_VBA_PROJECT".encode("utf-16-le"), "EncryptedPackage".encode("utf-16-le"))

_IMAGES = frozenset({formats.JPEG, formats.PNG, formats.GIF, formats.WEBP, formats.BMP, formats.TIFF})
_CODE = (b"<script", b"<html", b"<?php", b"%pdf-")
_OFFICE = frozenset({formats.WORD, formats.EXCEL, formats.SLIDES})
_ACTIVE = frozenset({formats.HTML, formats.SVG})  # text that a browser would run
#: Formats of an extension → other formats that such a file may be of.
_ALSO: dict[Format, frozenset[Format]] = {
    formats.OLE: frozenset({formats.RTF}),
    formats.MACROS: _OFFICE,
    formats.XML: _ACTIVE,
    formats.MARKDOWN: _ACTIVE,
    formats.MAIL: _ACTIVE,
}


@dataclass(frozen=True, slots=True)
class Rules:
    """Which files may be sent. ``extensions``: None for all."""

    extensions: frozenset[str] | None
    macros: bool
    nested: bool

    @classmethod
    def of(cls, settings: Settings) -> "Rules":
        """Return the rules that the settings ask for."""
        allowed = frozenset(one.lower().removeprefix(".") for one in settings.ALLOWED_FILE_TYPES)
        return cls(
            None if "*" in allowed else allowed,
            macros=settings.MACRO_DOCUMENTS == "allow",
            nested=settings.NESTED_ARCHIVES == "allow",
        )


class SafeFile(NamedTuple):
    """A file that may be sent: its safe name, and its media type."""

    filename: str
    content_type: str


class Examination:
    """What is kept of a file while its blocks pass by: its ends, at most half a megabyte."""

    def __init__(self) -> None:
        self._head = bytearray()
        self._tail: deque[bytes] = deque()
        self._kept = 0
        self._last = b""
        self.size = 0
        self._seen: set[bytes] = set()

    def watch(self, blocks: Iterable[bytes]) -> Iterator[bytes]:
        """Pass blocks on, and look at each."""
        for block in blocks:
            self.look(block)
            yield block

    def look(self, block: bytes) -> None:
        """Look at the next block of the file."""
        self.size += len(block)
        if len(self._head) < HEAD:
            self._head += block[: HEAD - len(self._head)]
        if self._head.startswith(b"\xd0\xcf\x11\xe0"):
            joined = self._last + block
            self._seen.update(name for name in (_VBA, _ENCRYPTED) if name in joined)
            self._last = joined[-len(_ENCRYPTED) :]
        self._tail.append(block[-archives.TAIL :])
        self._kept += len(self._tail[-1])
        while self._kept - len(self._tail[0]) >= archives.TAIL:
            self._kept -= len(self._tail.popleft())

    def judge(self, filename: str, declared: str, rules: Rules) -> SafeFile:
        """Judge the file, whose last block has passed. ``declared``: the media type its sender says.

        Raises :class:`FileRefused`, which says what is wrong.
        """
        name = safe_name(filename)
        suffix = extension(name)
        head = bytes(self._head)
        found = formats.recognised(head)
        listed = archives.listing(b"".join(self._tail), self.size)
        _refuse_two_in_one(name, head, found, listed)
        if found is formats.ZIP and listed is not None:
            found = archives.format_of(listed)
        expected = formats.by_extension(suffix)
        if not suffix and found is not None and found.extensions:
            expected, suffix = found, found.extensions[0]
        _refuse_extension(name, suffix, rules)
        if not self._agree(expected, found):
            raise FileRefused(_disagreement(name, suffix, expected, found))
        if not rules.macros and (found is formats.MACROS or _VBA in self._seen or _has_basic(found, listed)):
            raise FileRefused(f"{name!r} has macros, which are not accepted. Send it without them, or as a PDF.")
        if found is formats.ZIP:
            _refuse_archive(name, self.size, listed, rules)
        return SafeFile(name, _media_type(name, suffix, expected, declared))

    def _agree(self, expected: Format | None, found: Format | None) -> bool:
        """Return whether a file whose extension says ``expected`` may be of the format ``found``.

        Plain text, and content that is of no known format, speak against nothing: nobody is deceived by a
        damaged picture.
        """
        if found is None or found is formats.TEXT or expected is found:
            return True
        if expected is None:  # an extension that only the sysadmin knows, or one of just any data
            return found.kind not in ("program", "archive")
        if found is formats.OLE and _ENCRYPTED in self._seen and expected in _OFFICE | {formats.MACROS}:
            return True
        if expected.kind == "text" and found not in _ACTIVE and (found.kind == "text" or found is formats.SCRIPT):
            return True
        return expected.kind == "program" or found in _ALSO.get(expected, frozenset())


def _refuse_two_in_one(name: str, head: bytes, found: Format | None, listed: Listing | None) -> None:
    """Refuse a file that one program takes for this and another one for that."""
    other = ""
    if listed is not None and (found is not formats.ZIP or listed.before):
        other = "ZIP archive"
    elif found in _IMAGES and any(mark in head.lower() for mark in _CODE):
        other = "script or document"
    if other:
        first = found.name if found else "unknown type"
        raise FileRefused(f"{name!r} is not accepted: it is two files at once, {first} and {other}.")


def _refuse_extension(name: str, suffix: str, rules: Rules) -> None:
    if not suffix or rules.extensions is None or suffix in rules.extensions:
        return
    allowed = ", ".join(sorted(rules.extensions))
    raise FileRefused(
        f"{name!r} is not accepted: files of type .{suffix} are not. Accepted are: {allowed} (ALLOWED_FILE_TYPES)."
    )


def _disagreement(name: str, suffix: str, expected: Format | None, found: Format | None) -> str:
    says = expected.name if expected else "no program or archive"
    content = found.name if found else "unknown type"
    return f"{name!r} is not what it seems: its extension .{suffix} says {says}, but its content is: {content}."


def _has_basic(found: Format | None, listed: Listing | None) -> bool:
    return found is formats.ODF and listed is not None and any(path.startswith("Basic/") for path in listed.paths)


def _refuse_archive(name: str, size: int, listed: Listing | None, rules: Rules) -> None:
    if rules.nested:
        return
    if listed is None or not listed.whole:
        raise FileRefused(f"{name!r} is not accepted: the list of files in it is damaged, or too long to be read.")
    if listed.is_bomb(size):
        raise FileRefused(f"{name!r} is not accepted: it says that it unpacks to a hundred times its size and more.")
    if inner := listed.holding(("archive", "program")):
        raise FileRefused(f"{name!r} is not accepted: it holds {inner!r}; archives may hold no archives or programs.")


def _media_type(name: str, suffix: str, expected: Format | None, declared: str) -> str:
    """Return the media type of a file: the declared one if it goes with the extension."""
    said, _, parameters = (part.strip() for part in declared.partition(";"))
    said, own = said.lower(), formats.type_of(suffix)
    if expected is None:
        return said or own
    if said in expected.types:
        return declared.strip()
    meant = formats.by_type(said)
    if expected.kind == "text" and (said.startswith("text/") or (meant is not None and meant.kind == "text")):
        return f"{own}; {parameters}" if parameters and own.startswith("text/") else own
    excel = suffix == "csv" and said == "application/vnd.ms-excel"  # browsers on Windows say this
    relatives = meant is not None and (meant in _ALSO.get(expected, ()) or expected in _ALSO.get(meant, ()))
    # text/plain is what some programs say of each file (RFC 2045 §5.2).
    if meant is None or meant is formats.TEXT or excel or relatives:
        return own
    raise FileRefused(
        f"{name!r} is not what it seems: its Content-Type says {meant.name}, and its extension {expected.name}."
    )
