"""Shapes of attachments in requests and answers."""

import mimetypes
import re
import unicodedata
from typing import Any

from marshmallow import Schema, ValidationError, fields, post_load, validate, validates_schema

from mailbbgun.http.schemas import Count, Page, Time
from mailbbgun.safety.names import safe_name

#: Characters of a file's name, at most.
LONGEST_NAME = 255

#: The type of a file about which nothing is known (RFC 2046 §4.5.1).
UNKNOWN_TYPE = "application/octet-stream"

_TOKEN = r"[A-Za-z0-9!#$&^_.+-]{1,127}"  # RFC 6838 §4.2
_TYPE = re.compile(rf"{_TOKEN}/{_TOKEN}", re.ASCII)


class Hex(fields.String):
    """A digest in hex, in any case."""

    def __init__(self, digits: int, name: str, **options: Any) -> None:
        error = f"Not the {name} of a file in hex, which has {digits} digits."
        validator = validate.Regexp(rf"[0-9a-f]{{{digits}}}\Z", error=error)
        super().__init__(validate=validator, **options)

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        return super()._deserialize(value, attr, data, **kwargs).lower()


def _filename(value: str) -> None:
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in value):
        raise ValidationError("Has a control character; give the file's name alone, such as invoice.pdf.")


class AttachmentFilters(Page):
    """Which attachments to list."""

    filename = fields.String(load_default=None, metadata={"description": "Those with exactly this name."})
    sha256 = Hex(64, "SHA-256", load_default=None, metadata={"description": "Those with this content."})
    md5 = Hex(32, "MD5", load_default=None, metadata={"description": "Those with this content."})
    test = fields.Boolean(
        load_default=None,
        metadata={"description": "Those that test keys uploaded, or those that others did. Both if not given."},
    )
    since = Time(
        load_default=None,
        metadata={"description": "Made at this moment or later. A date alone is its midnight, in UTC."},
    )
    until = Time(
        load_default=None,
        metadata={"description": "Made before this moment. A date alone is its midnight, in UTC."},
    )


class AttachmentShape(Schema):
    """A file under a name."""

    id = fields.UUID()
    filename = fields.String(metadata={"example": "invoice.pdf"})
    content_type = fields.String(metadata={"example": "application/pdf"})
    size = fields.Integer(metadata={"description": "In bytes."})
    sha256 = fields.String(allow_none=True, metadata={"description": "In hex; null until the file is uploaded."})
    md5 = fields.String(allow_none=True, metadata={"description": "In hex; null until the file is uploaded."})
    state = fields.String(
        validate=validate.OneOf(["stored", "awaited"]),
        metadata={
            "description": "`awaited`: the file is to be uploaded straight to the store, or was and is not checked "
            "yet. It is checked when it is first used.",
        },
    )
    test = fields.Boolean(metadata={"description": "Whether a test key uploaded it."})
    created_at = Time()
    last_used_at = Time()


class Attachments(Schema):
    """A page of attachments, newest first."""

    attachments = fields.List(fields.Nested(AttachmentShape))
    count = fields.Integer(metadata={"description": "How many match in all."})


class UploadedFiles(Schema):
    """The files of an upload, in their order."""

    attachments = fields.List(fields.Nested(AttachmentShape))


class Presign(Schema):
    """A file that will be uploaded straight to the store: its digest, its size and its name."""

    sha256 = Hex(64, "SHA-256", metadata={"description": "Its SHA-256 in hex. Give this or `md5`."})
    md5 = Hex(32, "MD5", metadata={"description": "Its MD5 in hex."})
    size = fields.Integer(
        required=True, strict=True, validate=validate.Range(min=0), metadata={"description": "In bytes."}
    )
    filename = fields.String(
        required=True,
        validate=[validate.Length(1, LONGEST_NAME), _filename],
        metadata={"description": "Its name in mails.", "example": "invoice.pdf"},
    )
    content_type = fields.String(
        validate=validate.Regexp(_TYPE.pattern + r"\Z", error="Not a media type, like application/pdf."),
        metadata={"description": "By default what the name's ending says.", "example": "application/pdf"},
    )

    @validates_schema
    def _one_digest(self, data: Any, **_: Any) -> None:
        if ("sha256" in data) == ("md5" in data):
            raise ValidationError("Give the file's SHA-256 as sha256, or its MD5 as md5, and not both.", "sha256")

    @post_load
    def _typed(self, data: Any, **_: Any) -> Any:
        data["filename"] = safe_name(data["filename"])  # as of files that come through the API
        data.setdefault("content_type", mimetypes.guess_type(data["filename"])[0] or UNKNOWN_TYPE)
        return data


class Upload(Schema):
    """How to upload a file: send exactly this request, with the file as its body."""

    method = fields.String(metadata={"example": "PUT"})
    url = fields.String(metadata={"format": "uri"})
    headers = fields.Dict(fields.String(), fields.String())
    until = Time(metadata={"description": "When the URL ends."})


class Presigned(AttachmentShape):
    """The attachment, and how to upload its file. If you have uploaded that before, `upload` is null."""

    upload = fields.Nested(Upload, allow_none=True)


class SignedUpload(Schema):
    """What a URL for an upload says, and what proves that we made it."""

    size = Count(required=True, validate=validate.Range(0, 5_000_000_000))
    until = Count(required=True, validate=validate.Range(0, 10**11))
    signature = fields.String(required=True)
