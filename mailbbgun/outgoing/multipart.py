"""Writes the bodies of forms: with files (RFC 7578), or without (``application/x-www-form-urlencoded``)."""

from collections.abc import Sequence
from typing import NamedTuple
from urllib.parse import urlencode

from urllib3.fields import RequestField
from urllib3.filepost import encode_multipart_formdata


class MultipartFile(NamedTuple):
    """A file of a form."""

    field: str
    filename: str
    content_type: str
    data: bytes


class MultipartForm(NamedTuple):
    """A form that is ready to be posted."""

    content_type: str
    body: bytes


def encoded(fields: Sequence[tuple[str, str]], files: Sequence[MultipartFile]) -> MultipartForm:
    """Return a form of these fields and files, in their order."""
    if not files:
        return MultipartForm("application/x-www-form-urlencoded", urlencode(fields, errors="replace").encode())
    parts = [_part(RequestField(name, text.encode(errors="replace"))) for name, text in fields]
    parts += [_part(RequestField(one.field, one.data, filename=one.filename), one.content_type) for one in files]
    body, content_type = encode_multipart_formdata(parts)
    return MultipartForm(content_type, body)


def _part(part: RequestField, content_type: str | None = None) -> RequestField:
    part.make_multipart(content_type=content_type)
    return part
