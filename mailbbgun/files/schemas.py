"""Shapes of shared files in requests and answers."""

from collections.abc import Mapping
from typing import Any

import orjson
from marshmallow import Schema, ValidationError, fields, validate

from mailbbgun.attachments.schemas import Hex, Upload
from mailbbgun.files.links import LONGEST
from mailbbgun.http.schemas import Count, Page, Time

#: Bytes of metadata as JSON, at most.
METADATA_SIZE = 4096

_EXAMPLE = "reports/2026/may.pdf"
_ENDS = "When it ends: from then on it is gone. By default it stays."


def _flat(value: Mapping[str, Any]) -> None:
    if not all(one is None or isinstance(one, str | int | float) for one in value.values()):
        raise ValidationError("Must be flat: strings, numbers, true, false and null.")
    if (size := len(orjson.dumps(value))) > METADATA_SIZE:
        raise ValidationError(f"Has {size} bytes of JSON; {METADATA_SIZE} are the most.")


class _InQuery(fields.Field[dict[str, Any]]):
    """An object in a query, written as JSON."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> dict[str, Any]:
        try:
            found = orjson.loads(value)
        except orjson.JSONDecodeError:
            found = None
        if not isinstance(found, dict):
            raise ValidationError('Not an object in JSON, such as {"order": 12}.')
        return found


class FileFilters(Page):
    """Which files to list."""

    name = fields.String(load_default=None, metadata={"description": "The one with exactly this name."})
    prefix = fields.String(
        load_default=None, metadata={"description": "Those whose names begin so.", "example": "reports/2026/"}
    )
    folder = fields.String(
        load_default=None,
        metadata={"description": "Those directly in this folder. Empty: those in none.", "example": "reports/2026"},
    )
    sha256 = Hex(64, "SHA-256", load_default=None, metadata={"description": "Those with this content."})
    test = fields.Boolean(
        load_default=None, metadata={"description": "Those of test keys, or those of others. Both if not given."}
    )
    since = Time(load_default=None, metadata={"description": "Made at this moment or later."})
    until = Time(load_default=None, metadata={"description": "Made before this moment."})


class SharedFile(Schema):
    """A shared file."""

    id = fields.UUID()
    name = fields.String(metadata={"example": _EXAMPLE})
    content_type = fields.String(metadata={"example": "application/pdf"})
    size = fields.Integer(metadata={"description": "In bytes."})
    sha256 = fields.String(metadata={"description": "In hex. In quotation marks it is the ETag of the content."})
    md5 = fields.String(metadata={"description": "In hex."})
    metadata = fields.Dict(attribute="meta", metadata={"description": "Yours.", "example": {"order": 12}})
    test = fields.Boolean(metadata={"description": "Whether a test key made it."})
    created_at = Time()
    updated_at = Time(metadata={"description": "When it last got a content, a name or other details."})
    expires_at = Time(allow_none=True, metadata={"description": "From then on it is gone; null: it stays."})


class SharedFiles(Schema):
    """A page of files, newest first."""

    files = fields.List(fields.Nested(SharedFile))
    count = fields.Integer(metadata={"description": "How many match in all."})


class KeptFiles(Schema):
    """The files of a form, in their order."""

    files = fields.List(fields.Nested(SharedFile))


class UploadTerms(Schema):
    """How uploads become files."""

    replace = fields.Boolean(
        load_default=False,
        metadata={"description": "Whether a file of the same name gets the new content. Otherwise it is a conflict."},
    )
    expires_at = Time(load_default=None, metadata={"description": _ENDS})
    metadata = _InQuery(
        load_default=dict,
        validate=_flat,
        metadata={"type": "string", "description": "Yours: a flat object of up to 4 KB, as JSON."},
    )


class FormTerms(UploadTerms):
    """Where the files of a form go."""

    folder = fields.String(
        load_default="", metadata={"description": "The folder in which their names are.", "example": "reports/2026"}
    )


class BodyTerms(UploadTerms):
    """The file that a body is."""

    name = fields.String(required=True, metadata={"description": "Its name.", "example": _EXAMPLE})


class FileChange(Schema):
    """What to change of a file."""

    name = fields.String(metadata={"description": "Its new name.", "example": _EXAMPLE})
    metadata = fields.Dict(validate=_flat, metadata={"description": "Replaces what was there.", "example": {"a": 1}})
    expires_at = Time(allow_none=True, metadata={"description": "Null: it stays."})


def _seconds() -> fields.Integer:
    return fields.Integer(
        load_default=3600,
        strict=True,
        validate=validate.Range(1, LONGEST),
        metadata={"description": "How long the link is valid."},
    )


class WantedLink(Schema):
    """How long a link shall be valid."""

    seconds = _seconds()


class FileLink(Schema):
    """A link to a file, for anybody who has it."""

    url = fields.String(metadata={"format": "uri"})
    until = Time(metadata={"description": "When the link ends."})


class WantedUpload(Schema):
    """What may be uploaded to a link."""

    name = fields.String(required=True, metadata={"description": "The file's name.", "example": _EXAMPLE})
    max_size = fields.Integer(
        load_default=None,
        strict=True,
        validate=validate.Range(1),
        metadata={"description": "Bytes that it may have; by default and at most MAX_FILE_SIZE."},
    )
    replace = fields.Boolean(load_default=False, metadata={"description": "Whether a file of that name is replaced."})
    expires_at = Time(load_default=None, metadata={"description": _ENDS})
    seconds = _seconds()


class UploadLink(Upload):
    """A link for an upload: send this request, with the file as its body."""

    max_size = fields.Integer(metadata={"description": "Bytes that the file may have."})


class SignedDownload(Schema):
    """What the link to a file says, and what proves that we made it."""

    until = Count(required=True, validate=validate.Range(0, 10**11))
    signature = fields.String(required=True)


class SignedFile(SignedDownload):
    """What the link for an upload says, and what proves that we made it."""

    name = fields.String(required=True)
    size = Count(required=True, validate=validate.Range(0, 5_000_000_000))
    replace = fields.Boolean(load_default=False)
    expires = Count(load_default=None, validate=validate.Range(0, 10**11))
