"""Files that a submission names: their rules, and how they are found or stored.

``{"id"}`` names an attachment, ``{"sha256"}`` or ``{"md5"}`` with a ``filename`` a file that was
uploaded, and ``{"filename", "content"}`` brings a file along, as base64.
"""

import binascii
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from marshmallow import fields as json

from mailbbgun.attachments import find
from mailbbgun.attachments.find import Missing, Reference
from mailbbgun.attachments.inspection import Inspector
from mailbbgun.attachments.receive import ReceivedFile, ReceivedForm
from mailbbgun.blobs.base import BLOCK
from mailbbgun.composing.compose import encoded_size
from mailbbgun.composing.contents import File
from mailbbgun.composing.mime import one_line
from mailbbgun.core.caller import Caller
from mailbbgun.core.errors import FileRefused, InvalidInput, TooLarge
from mailbbgun.safety.examine import SafeFile
from mailbbgun.services import Services
from mailbbgun.settings.settings import Settings

#: Files of one message, and characters of a file's name and of its type, at most.
MOST_FILES, NAME_SIZE, TYPE_SIZE = 100, 255, 255
#: Fields of a file. Each file has exactly one of the first four.
SOURCES, FIELDS = ("id", "sha256", "md5", "content"), ("filename", "content_type", "content_id")

#: A file as a client names it: field → text.
Given = Mapping[str, str]
Broken = Iterator[tuple[str, str]]

_DIGITS = {"sha256": 64, "md5": 32}
_HEX = re.compile(r"[0-9a-fA-F]+")
_TOKEN = r"[A-Za-z0-9!#$&^_.+-]{1,127}"
_TYPE = re.compile(rf'({_TOKEN})/({_TOKEN})((?:[ \t]*;[ \t]*{_TOKEN}=(?:{_TOKEN}|"[^"\\]*"))*)[ \t]*;?')
_PARAMETER = re.compile(rf'({_TOKEN})=(?:"([^"\\]*)"|({_TOKEN}))')
_CONTENT_ID = re.compile(r"[!#-'*+\-./0-9=?A-Z^-~@]{1,200}")
_BASE64 = re.compile(r"[A-Za-z0-9+/]*={0,2}")
_BLANK = str.maketrans("", "", " \t\r\n")


class Files(json.Field[list[dict[str, str]]]):
    """A list of objects whose values are strings. Null and blank values are left out, but for an empty file."""

    expected = "a list of objects whose values are strings"

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> list[dict[str, str]]:
        if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
            raise self.make_error("validator_failed")
        kept = [
            {name: text for name, text in one.items() if text is not None and (text != "" or name == "content")}
            for one in value
        ]
        if not all(isinstance(text, str) for one in kept for text in one.values()):
            raise self.make_error("validator_failed")
        return kept


#: A file of ``attachments`` in OpenAPI.
FILE_SHAPE = {
    "type": "object",
    "properties": {
        "id": {"type": "string", "format": "uuid", "description": "Of an attachment."},
        "sha256": {"type": "string", "description": "Of an uploaded file, in hexadecimal digits."},
        "md5": {"type": "string", "description": "As sha256."},
        "content": {"type": "string", "format": "byte", "description": "The file itself, as base64."},
        "filename": {"type": "string", "description": "What people see. An attachment has its own."},
        "content_type": {"type": "string", "example": "text/csv; charset=utf-8"},
        "content_id": {"type": "string", "description": "For an image in html: its `src` is `cid:` and this."},
    },
}


def faults(given: Sequence[Given], settings: Settings) -> Broken:
    """Yield what is wrong with the files as they are given: the place, and a sentence."""
    if len(given) > MOST_FILES:
        yield "", f"More than {MOST_FILES} files."
        return
    for place, one in enumerate(given):
        for name, sentence in _faults(one, settings):
            yield f"{place}.{name}" if name else str(place), sentence
    shown = [_bare(one["content_id"]) for one in given if "content_id" in one]
    if len(set(shown)) < len(shown):
        yield "", "The same content_id twice: the HTML could not say which of them it shows."


def faults_of_brought(given: Sequence[Given], brought: ReceivedForm | None, settings: Settings) -> Broken:
    """Yield what is wrong with files that came beside the fields: the name of the part, and a sentence."""
    if brought is None:
        return
    for place, sentence in faults([*given, *({**_named(one), "content": ""} for one in brought.files)], settings):
        number, _, name = place.partition(".")
        if not number:
            yield "attachments", sentence
        elif int(number) >= len(given):
            file = brought.files[int(number) - len(given)]
            yield file.field, f"{name} of {file.filename!r}: {sentence}"


def _named(file: ReceivedFile) -> Given:
    """Return how a message names a file that came beside its fields."""
    shown = {"content_id": file.content_id} if file.content_id else {}
    return {"filename": file.filename, "content_type": file.content_type, **shown}


def declared(value: str) -> str | None:
    """Return a content type as the header has it; None if it is none (RFC 2045 §5.1).

    Of its parameters only the charset of a text is kept: others tell of the body, which is base64, or
    of the name, which has a field of its own.
    """
    found = _TYPE.fullmatch(value.strip()) if len(value) <= TYPE_SIZE else None
    if not found:
        return None
    kind = f"{found[1]}/{found[2]}".lower()
    if kind.startswith("text/"):
        for name, quoted, plain in _PARAMETER.findall(found[3]):
            if name.lower() == "charset" and re.fullmatch(_TOKEN, quoted or plain):
                return f"{kind}; charset={quoted or plain}"
    return kind


class Attached:
    """Finds the files that a submission names, and stores those that come with it."""

    def __init__(self, services: Services, inspector: Inspector) -> None:
        self._settings, self._database, self._blobs = services.settings, services.db, services.blobs
        self._inspector = inspector

    def files(self, given: Sequence[Given], caller: Caller, brought: ReceivedForm | None = None) -> tuple[File, ...]:
        """Return the files, in their order, and behind them those that came beside the fields.

        What keeps the rules is given (:func:`faults`, :func:`faults_of_brought`).

        All are durable when this returns. Raises :class:`InvalidInput` for files that are not there,
        :class:`TooLarge`, :class:`FileRefused` for one that may not be sent, :class:`VirusFound`,
        :class:`ScannerUnavailable`, :class:`BlobStoreUnavailable` and :class:`DatabaseUnavailable`. Then
        no message is stored, but some of the files may be, for an hour.
        """
        references = {place: _reference(one) for place, one in enumerate(given) if "content" not in one}
        found = self._found(given, references, caller)
        contents = {place: _decoded(one["content"]) for place, one in enumerate(given) if "content" in one}
        sizes = [*(one.size for one in found.values()), *map(len, contents.values())]
        sizes += [one.size for one in brought.files] if brought else []
        if (size := sum(map(encoded_size, sizes))) > self._settings.MAX_MESSAGE_SIZE:
            raise TooLarge(
                f"The files have {size} bytes when they are encoded for mail, and {self._settings.MAX_MESSAGE_SIZE} "
                "are the most of a message (MAX_MESSAGE_SIZE)."
            )
        for place, octets in contents.items():
            with _at(place):
                found[place] = self._stored(given[place], octets, caller)
        beside = self._take(brought, caller) if brought else []
        return (*(found[place] for place in range(len(given))), *beside)

    def examine(self, mime: bytes, caller: Caller) -> None:
        """Examine the files in a whole mail. Raises what :meth:`Inspector.mail` does."""
        self._inspector.mail(caller, mime)

    def _take(self, brought: ReceivedForm, caller: Caller) -> list[File]:
        most = self._settings.MAX_FILE_SIZE
        return [
            _file(content.sha256, content.size, judged, _named(file))
            for file, (content, judged) in zip(
                brought.files, brought.store(self._inspector, caller, most=most), strict=True
            )
        ]

    def _found(self, given: Sequence[Given], references: Mapping[int, Reference], caller: Caller) -> dict[int, File]:
        if not references:
            return {}
        most = self._settings.MAX_FILE_SIZE
        files = find.files(self._database, self._blobs, caller, [*references.values()], most=most)
        its = dict(zip(references, files, strict=True))
        if missing := {place: one for place, one in its.items() if isinstance(one, Missing)}:
            raise InvalidInput(
                "Some fields are not valid.",
                fields={f"attachments.{place}.{one.field}": [one.sentence] for place, one in missing.items()},
            )
        there = {place: one for place, one in its.items() if isinstance(one, find.FoundFile)}
        judged = {}
        for place, one in there.items():
            with _at(place):
                (judged[place],) = self._inspector.named(caller, [one])
        return {
            place: _file(one.sha256, one.size, judged[place], given[place], one.attachment_id)
            for place, one in there.items()
        }

    def _stored(self, given: Given, octets: bytes, caller: Caller) -> File:
        blocks = (octets[start : start + BLOCK] for start in range(0, len(octets), BLOCK))
        stored, judged = self._inspector.take(
            caller,
            blocks,
            given["filename"],
            given.get("content_type", ""),
            most=self._settings.MAX_FILE_SIZE,
            size=len(octets),
        )
        return _file(stored.sha256, stored.size, judged, given)


@contextmanager
def _at(place: int) -> Iterator[None]:
    """Name the field of a file that is refused."""
    try:
        yield
    except FileRefused as error:
        error.fields = {f"attachments.{place}": [error.message]}
        raise


def _file(sha256: str, size: int, judged: SafeFile, given: Given, attachment_id: UUID | None = None) -> File:
    filename, kind = judged.filename, declared(judged.content_type) or "application/octet-stream"
    return File(
        sha256=sha256,
        size=size,
        filename=filename,
        content_type=kind,
        content_id=_bare(given["content_id"]) if "content_id" in given else None,
        attachment_id=str(attachment_id) if attachment_id else None,
    )


def _reference(one: Given) -> Reference:
    return Reference(
        id=UUID(one["id"]) if "id" in one else None,
        sha256=one["sha256"].lower() if "sha256" in one else None,
        md5=one["md5"].lower() if "md5" in one else None,
        filename=one.get("filename"),
        content_type=one.get("content_type"),
    )


#: What other services and other letter case call the fields of a file.
_OTHER_SPELLINGS = {name.replace("_", ""): name for name in (*SOURCES, *FIELDS)} | {
    "name": "filename", "type": "content_type", "mimetype": "content_type", "data": "content", "cid": "content_id"
}  # fmt: skip


def _faults(one: Given, settings: Settings) -> Broken:
    sources = [name for name in SOURCES if name in one]
    for unknown in sorted(set(one) - {*SOURCES, *FIELDS}):
        meant = _OTHER_SPELLINGS.get(unknown.lower().replace("-", "").replace("_", ""))
        fields = f"did you mean `{meant}`?" if meant else f"those are {', '.join((*SOURCES, *FIELDS))}."
        yield unknown, f"Not a field of a file{';' if meant else ':'} {fields}"
    if len(sources) != 1:
        yield "", f"Names {len(sources)} of id, sha256, md5 and content: exactly one says which file it is."
        return
    yield from _faults_of_source(sources[0], one, settings)
    if "filename" not in one and "id" not in one:
        yield "filename", "Is needed beside sha256, md5 or content: the name that people see."
    if "filename" in one and (why := _faulty_name(one["filename"])):
        yield "filename", why
    if "content_type" in one and declared(one["content_type"]) is None:
        yield "content_type", "Not a content type like application/pdf or text/csv; charset=utf-8 (RFC 2045 §5.1)."
    if "content_id" in one and not _CONTENT_ID.fullmatch(_bare(one["content_id"])):
        yield "content_id", "Takes letters, digits and .-_@ and is what the HTML names: cid:logo or cid:logo@shop."


def _faults_of_source(source: str, one: Given, settings: Settings) -> Broken:
    value = one[source]
    if source == "id":
        try:
            UUID(value)
        except ValueError:
            yield "id", "Not the id of an attachment, a UUID."
    elif source in _DIGITS:
        if len(value) != _DIGITS[source] or not _HEX.fullmatch(value):
            yield source, f"Not a digest of {_DIGITS[source]} hexadecimal digits."
    elif len(value) > settings.MAX_FILE_SIZE * 2 + 4:
        yield "content", f"Larger than {settings.MAX_FILE_SIZE} bytes (MAX_FILE_SIZE)."
    elif not _BASE64.fullmatch(bare := value.translate(_BLANK)) or len(bare) % 4:
        yield "content", "Not base64 (RFC 4648 §4): letters, digits, + and /, and = up to a multiple of four."
    elif len(bare) // 4 * 3 - bare.count("=", -2) > settings.MAX_FILE_SIZE:
        yield "content", f"Larger than {settings.MAX_FILE_SIZE} bytes (MAX_FILE_SIZE)."


def _faulty_name(name: str) -> str | None:
    if len(name) > NAME_SIZE:
        return f"Has {len(name)} characters, and {NAME_SIZE} are the most."
    if not one_line(name):
        return "Must be one line without control characters."
    if "/" in name or "\\" in name or name.strip(". ") == "":
        return "Is a name without folders, like invoice.pdf."
    return None


def _decoded(content: str) -> bytes:
    return binascii.a2b_base64(content)


def _bare(content_id: str) -> str:
    return content_id.removeprefix("<").removesuffix(">")
