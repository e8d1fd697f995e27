"""A form with files, on disk: it is read twice.

The first time everything is checked, and fields are kept; the second time the files are stored. So
nothing is stored of a form that is not valid, be it at its end.
"""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from shutil import copyfileobj
from typing import BinaryIO, cast

from werkzeug.wsgi import get_input_stream

from mailbbgun.http.uploads.multipart import BLOCK, FormLimits, FormParser, FormPart

#: Bytes from the beginning of a file that are kept, so that its type can be seen.
BEGINNING = 4096


@dataclass(frozen=True, slots=True)
class FormFile:
    """A file of a form. ``field`` is the name of its part, ``size`` is in bytes.

    ``filename`` and ``content_type`` are as the client declared them; "" if it declared none. Of the
    type's parameters only the charset of a text is kept.
    """

    field: str
    filename: str
    content_type: str
    content_id: str
    size: int
    beginning: bytes


class UploadedForm:
    """The fields of a form, as names and values in their order, and its files."""

    def __init__(self, environ: dict[str, object], content_type: str | None, limits: FormLimits) -> None:
        """Read and check the body of a request with this WSGI environment.

        A part without a name and without content, as browsers send it for a file that was not
        chosen, is left out. Raises what :class:`FormParser` raises.
        """
        self._content_type, self._limits = content_type, limits
        self._stream = _seekable(cast(BinaryIO, get_input_stream(environ)))
        self._begins = self._stream.tell()
        self.fields: list[tuple[str, str]] = []
        self.files: list[FormFile] = []
        form = self._form()
        for part in form:
            if part.filename is None:
                self.fields.append((part.name, form.text()))
            elif file := _file_of(part, form):
                self.files.append(file)

    def contents(self) -> Iterator[Iterator[bytes]]:
        """Yield the content of each file, in the order of ``files``. Read it before the next."""
        self._stream.seek(self._begins)
        form = self._form()
        files = iter(self.files)
        for part in form:
            if part.filename is None:
                continue
            if part.filename:
                next(files)
                yield form.blocks()
            elif first := next((block for block in form.blocks() if block), None):
                next(files)
                yield _after(first, form.blocks())

    def _form(self) -> FormParser:
        return FormParser(self._stream, self._content_type, self._limits)


def _file_of(part: FormPart, form: FormParser) -> FormFile | None:
    size, beginning = 0, b""
    for block in form.blocks():
        size += len(block)
        if len(beginning) < BEGINNING:
            beginning = (beginning + block)[:BEGINNING]
    if not part.filename and not size:
        return None
    kind = part.content_type
    if part.charset and kind.startswith("text/"):
        kind = f"{kind}; charset={part.charset}"
    return FormFile(part.name, part.filename or "", kind, part.content_id, size, beginning)


def _after(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest


def _seekable(stream: BinaryIO) -> BinaryIO:
    """Return a stream that can be read twice. That of our own server is one."""
    if stream.seekable():
        return stream
    copy = cast(BinaryIO, tempfile.TemporaryFile())  # noqa: SIM115 - it ends with the request
    copyfileobj(stream, copy, BLOCK)
    copy.seek(0)
    return copy
