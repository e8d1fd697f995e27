"""Reads multipart/form-data (RFC 7578) part by part, in bounded memory.

Werkzeug's decoder finds the parts; this module has the limits, and says what is wrong. A part's
content is read once, in blocks, before the next part.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from werkzeug.datastructures import Headers
from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.http import parse_options_header
from werkzeug.sansio.multipart import Data, Epilogue, Field, File, MultipartDecoder, NeedData, State

from mailbbgun.core.errors import MalformedForm, TooLarge, UnsupportedMediaType
from mailbbgun.http.bad_input import name_of, shown

#: The media type.
FORM = "multipart/form-data"

#: Bytes to read at once.
BLOCK = 65_536

#: Bytes of all headers of a part, and of what may stand before the first part, at most.
LONGEST_HEADERS = 8190

#: Characters of a field's name, and of a file's, at most.
LONGEST_NAME, LONGEST_FILENAME = 100, 1000

#: Parts that are no files, at most. A form that names each of 1000 recipients has as many.
MOST_FIELDS = 1500

#: Characters of a boundary, at most (RFC 2046 §5.1.1).
LONGEST_BOUNDARY = 70

_BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,./:=? -]*[0-9A-Za-z'()+_,./:=?-]")
# A file's plain name, beside which there may be an extended one, which counts then (RFC 6266 §4.3).
_PLAIN_NAME = re.compile(r';[ \t]*filename=(?:"(?:[^"\\]|\\.)*"|[^;"]*)', re.IGNORECASE)
_EXTENDED_NAME = re.compile(r";[ \t]*filename\*", re.IGNORECASE)
_IDENTITY = ("7bit", "8bit", "binary")
_CHARSET = re.compile(r"[\w!#$&^.+-]{1,60}", re.ASCII)
_TOKEN = re.compile(r"[\w!#$&^.+-]{1,127}/[\w!#$&^.+-]{1,127}", re.ASCII)


@dataclass(frozen=True, slots=True)
class FormLimits:
    """The limits of one form. Sizes are bytes; ``fields_size`` is of all fields together."""

    files: int
    file_size: int
    fields_size: int


@dataclass(frozen=True, slots=True)
class FormPart:
    """A part. ``filename``: None for a field.

    ``content_type`` is as the client declared it, in lower case and without parameters; "" if it did
    not. ``charset`` is the parameter of that name. ``content_id`` is without angle brackets.
    """

    name: str
    filename: str | None
    content_type: str
    charset: str
    content_id: str


def boundary_of(content_type: str | None) -> bytes:
    """Return the boundary that a Content-Type names.

    Raises :class:`UnsupportedMediaType` if it is no form, :class:`MalformedForm` for no boundary or
    an impossible one.
    """
    media_type, options = parse_options_header(content_type)
    if media_type.lower() != FORM:
        said = f"Content-Type is {shown(content_type)}" if content_type else "there is no Content-Type"
        raise UnsupportedMediaType(f"Send the files as {FORM}, as curl does with -F 'file=@name.pdf'; {said}.")
    boundary = options.get("boundary", "")
    if len(boundary) > LONGEST_BOUNDARY or not _BOUNDARY.fullmatch(boundary):
        raise MalformedForm(
            f"Content-Type must name a boundary of 1 to {LONGEST_BOUNDARY} characters (RFC 2046 §5.1.1), "
            f"not {shown(boundary)}. Let your HTTP library write this header."
            if boundary
            else "Content-Type names no boundary, which separates the parts. Let your HTTP library write this header."
        )
    return boundary.encode("ascii")


class FormParser:
    """The parts of a form, in their order.

    Iterating raises :class:`MalformedForm`, and :class:`TooLarge` for more than the limits allow.
    """

    def __init__(self, stream: BinaryIO, content_type: str | None, limits: FormLimits) -> None:
        """``stream`` is read from where it stands. Raises what :func:`boundary_of` raises."""
        boundary = boundary_of(content_type)
        self._stream, self._limits, self._boundary = stream, limits, boundary.decode()
        self._decoder = MultipartDecoder(boundary, max_form_memory_size=LONGEST_HEADERS + 4 * BLOCK)
        self._files = self._fields = self._fields_size = 0
        self._part: FormPart | None = None  # whose content comes next
        self._ended = False

    def __iter__(self) -> Iterator[FormPart]:
        """Yield each part. What is left unread of its content is skipped."""
        while (part := self._next_part()) is not None:
            self._part = part
            yield part
            for _ in self.blocks():
                pass

    def blocks(self) -> Iterator[bytes]:
        """Yield the content of the current part, in blocks of at most :data:`BLOCK` bytes or a bit more.

        Raises :class:`TooLarge` for a file over the limit.
        """
        size = 0
        while (part := self._part) is not None:
            event = self._next_event()
            if not isinstance(event, Data):
                raise self._cut_short()
            if not event.more_data:
                self._part = None
            size += len(event.data)
            self._check_size(part, size, len(event.data))
            if event.data:
                yield event.data

    def text(self) -> str:
        """Return the content of the current part, a field. Raises :class:`MalformedForm`."""
        part = self._part
        raw = b"".join(self.blocks())
        try:
            return raw.decode()
        except UnicodeDecodeError as error:
            name = name_of(part.name if part else "")
            raise MalformedForm(f"{name} is not UTF-8: byte {error.start + 1} begins no character.") from error

    def _next_part(self) -> FormPart | None:
        while True:
            event = self._next_event()
            if isinstance(event, Field | File):
                return self._checked(event)
            if self._ended or isinstance(event, Epilogue):
                return None

    def _next_event(self) -> object:
        """Return the decoder's next event; reads more of the body if it needs that."""
        decoder = self._decoder
        while True:
            if decoder.state is State.EPILOGUE:  # what follows the last boundary is ignored (RFC 2046 §5.1.1)
                self._ended = True
                return None
            try:
                event = decoder.next_event()
            except UnicodeDecodeError as error:
                raise MalformedForm("A part's headers are not UTF-8. Write a file's name in UTF-8.") from error
            except (ValueError, RequestEntityTooLarge) as error:
                raise MalformedForm(_NO_DISPOSITION) from error
            if not isinstance(event, NeedData):
                return event
            self._read()

    def _read(self) -> None:
        decoder = self._decoder
        if decoder.state is State.PREAMBLE and len(decoder.buffer) > LONGEST_HEADERS:
            raise MalformedForm(f"The body does not begin with the boundary --{self._boundary} of its Content-Type.")
        if decoder.state is State.PART and len(decoder.buffer) > LONGEST_HEADERS:
            raise TooLarge(f"The headers of a part have more than {LONGEST_HEADERS} bytes, the limit.")
        block = self._stream.read(BLOCK)
        if not block:
            raise self._cut_short()
        decoder.receive_data(block)

    def _cut_short(self) -> MalformedForm:
        return MalformedForm(f"The body ends before its last boundary, --{self._boundary}-- (RFC 2046 §5.1.1).")

    def _checked(self, event: Field | File) -> FormPart:
        part = _part_of(event)
        if part.filename is None:
            self._fields += 1
            if self._fields > MOST_FIELDS:
                raise TooLarge(f"The form has more than {MOST_FIELDS} fields, the limit.")
        else:
            self._files += 1
            if self._files > self._limits.files:
                raise TooLarge(
                    f"More than {self._limits.files} files in one request, the limit (MAX_FILES_PER_REQUEST)."
                )
        return part

    def _check_size(self, part: FormPart, size: int, more: int) -> None:
        if part.filename is None:
            self._fields_size += more
            if self._fields_size > self._limits.fields_size:
                raise TooLarge(
                    f"The form's fields have more than {self._limits.fields_size} bytes, the limit (MAX_BODY_SIZE)."
                )
        elif size > self._limits.file_size:
            raise TooLarge(
                f"The file {shown(part.filename)} is larger than {self._limits.file_size} bytes, "
                "the limit (MAX_FILE_SIZE)."
            )


_NO_DISPOSITION = (
    'Each part needs a header such as Content-Disposition: form-data; name="file"; filename="a.pdf" (RFC 7578 §4.2).'
)


def _part_of(event: Field | File) -> FormPart:
    headers = event.headers
    if sum(len(name) + len(value) for name, value in headers) > LONGEST_HEADERS:
        raise TooLarge(f"The headers of a part have more than {LONGEST_HEADERS} characters, the limit.")
    given = headers.get("Content-Disposition", "")
    if _EXTENDED_NAME.search(given):
        given = _PLAIN_NAME.sub("", given)
    disposition, options = parse_options_header(given)
    name, filename = options.get("name", ""), options.get("filename")
    if disposition.lower() != "form-data" or not name:
        raise MalformedForm(_NO_DISPOSITION)
    if len(name) > LONGEST_NAME:
        raise TooLarge(f"The name {shown(name)} of a field has more than {LONGEST_NAME} characters, the limit.")
    if filename is not None and len(filename) > LONGEST_FILENAME:
        raise TooLarge(f"The file name {shown(filename)} has more than {LONGEST_FILENAME} characters, the limit.")
    content_type, charset = _declared_type(headers, name)
    return FormPart(name, filename, content_type, charset, headers.get("Content-ID", "").strip().strip("<>").strip())


def _declared_type(headers: Headers, name: str) -> tuple[str, str]:
    declared, options = parse_options_header(headers.get("Content-Type"))
    declared = declared.lower()
    if declared.startswith("multipart/"):
        raise MalformedForm(
            f"{name_of(name)} is {shown(declared)} in itself; send each file as a part of its own (RFC 7578 §4.3)."
        )
    if declared and not _TOKEN.fullmatch(declared):
        raise MalformedForm(f"{name_of(name)} has a Content-Type that is none: {shown(declared)}, not like text/plain.")
    encoding = headers.get("Content-Transfer-Encoding", "binary").strip().lower()
    if encoding not in _IDENTITY:
        raise MalformedForm(
            f"{name_of(name)} has the Content-Transfer-Encoding {shown(encoding)}; "
            "send its bytes as they are (RFC 7578 §4.7)."
        )
    charset = options.get("charset", "").lower()
    return declared, charset if _CHARSET.fullmatch(charset) else ""
