"""Shapes of templates in requests and answers."""

import re
from typing import Any

from marshmallow import Schema, ValidationError, fields, post_load, validate

from mailbbgun.http.schemas import Count, Page, Time
from mailbbgun.templates import locales
from mailbbgun.templates.engine import BODY_SIZE, SUBJECT_SIZE

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_ID = re.compile(r"[0-9A-Fa-f]{8}-?(?:[0-9A-Fa-f]{4}-?){3}[0-9A-Fa-f]{12}")


class Name(fields.String):
    """The name of a template, which can stand in a URL and is not taken for an id."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        name: str = super()._deserialize(value, attr, data, **kwargs)
        if not _NAME.fullmatch(name):
            raise ValidationError(
                "Must have 1 to 64 letters (A to Z), digits, dots, hyphens and underscores, a letter or digit first."
            )
        if _ID.fullmatch(name):
            raise ValidationError("Looks like an id; take a name that people can tell from one.")
        return name


class Locale(fields.String):
    """A language tag (RFC 5646), such as ``ja`` or ``pt-BR``."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        try:
            return locales.normal(super()._deserialize(value, attr, data, **kwargs))
        except ValueError as error:
            raise ValidationError(str(error)) from error


def _source(sentence: str, most: int, example: str) -> fields.String:
    return fields.String(
        allow_none=True, validate=validate.Length(max=most), metadata={"description": sentence, "example": example}
    )


class TextsShape(Schema):
    """What a mail says in one locale, with places for variables."""

    subject = _source("One line.", SUBJECT_SIZE, "Your order {{ order.id }}")
    text = _source(
        'The plain text. null: made of html. "": the mail has no text part.', BODY_SIZE, "Dear {{ name }}, …"
    )
    html = _source("The HTML. Variables are escaped.", BODY_SIZE, "<p>Dear {{ name }}, …</p>")

    @post_load
    def _subject(self, data: dict[str, Any], **_: Any) -> dict[str, Any]:
        if "subject" in data:
            data["subject"] = data["subject"] or ""
        return data


class TemplateChange(TextsShape):
    """The body of a request to change a template. What is not given stays as it is in the active version."""

    name = Name(metadata={"description": "Unique in your tenant.", "example": "welcome"})
    description = fields.String(
        allow_none=True, validate=validate.Length(max=1000), metadata={"description": "For you."}
    )
    locales = fields.Dict(
        Locale(),
        fields.Nested(TextsShape, allow_none=True),
        metadata={
            "description": "The texts for readers of other languages. ja-JP finds ja, and the default if there is "
            "none. null deletes one.",
            "example": {"ja": {"subject": "ご注文 {{ order.id }}", "text": "{{ name }} 様 …"}},
        },
    )
    inline_css = fields.Boolean(
        load_default=False,
        metadata={"description": "Write the rules of <style> in the html given into its elements, before it is saved."},
    )
    activate = fields.Boolean(
        load_default=True, metadata={"description": "false: save the new version, and go on sending the active one."}
    )


class NewTemplate(TextsShape):
    """The body of a request to add a template."""

    name = Name(required=True, metadata={"description": "Unique in your tenant.", "example": "welcome"})
    subject = fields.String(
        required=True,
        validate=validate.Length(1, SUBJECT_SIZE),
        metadata={"description": "One line.", "example": "Your order {{ order.id }}"},
    )
    description = fields.String(
        allow_none=True, validate=validate.Length(max=1000), metadata={"description": "For you."}
    )
    locales = fields.Dict(
        Locale(),
        fields.Nested(TextsShape),
        metadata={
            "description": "The texts for readers of other languages.",
            "example": {"ja": {"subject": "ご注文 {{ order.id }}", "text": "{{ name }} 様 …"}},
        },
    )
    inline_css = fields.Boolean(
        load_default=False,
        metadata={"description": "Write the rules of <style> into the elements of html, before it is saved."},
    )


class TemplateFilters(Page):
    """Which templates to list."""

    name = fields.String(load_default=None, metadata={"description": "The one with exactly this name."})


class ShownTexts(TextsShape):
    """What a mail says in one locale."""

    text_made = fields.Boolean(metadata={"description": "Whether the text was made of the HTML."})


class TemplateListed(Schema):
    """A template without its texts."""

    id = fields.UUID()
    name = fields.String(metadata={"example": "welcome"})
    description = fields.String(allow_none=True)
    active = fields.Integer(metadata={"description": "The number of the version that mails have."})
    test = fields.Boolean(metadata={"description": "Whether a test key made it."})
    created_at = Time()
    updated_at = Time()


class TemplateShape(TemplateListed):
    """A template with the texts of one version."""

    version = fields.Integer(metadata={"description": "The number of the version shown."})
    variables = fields.List(
        fields.String(), metadata={"description": "The variables that it uses.", "example": ["name", "order.id"]}
    )
    subject = fields.String()
    text = fields.String(allow_none=True)
    html = fields.String(allow_none=True)
    text_made = fields.Boolean(metadata={"description": "Whether the text was made of the HTML."})
    locales = fields.Dict(fields.String(), fields.Nested(ShownTexts))


class TemplatesShape(Schema):
    """A page of templates, newest first."""

    templates = fields.List(fields.Nested(TemplateListed))
    count = fields.Integer(metadata={"description": "How many match in all."})


class VersionListed(Schema):
    """A version of a template, without its texts."""

    number = fields.Integer()
    active = fields.Boolean()
    locales = fields.List(fields.String(), metadata={"description": "Those besides the default."})
    created_at = Time()


class Versions(Schema):
    """The versions of a template, newest first."""

    versions = fields.List(fields.Nested(VersionListed))
    count = fields.Integer()


class Against(Schema):
    """Which version to compare with."""

    against = Count(
        load_default=None,
        validate=validate.Range(min=1),
        metadata={"description": "The number of the other version; by default the one before."},
    )


class DifferenceShape(Schema):
    """Where one text of two versions differs."""

    locale = fields.String(metadata={"description": "Empty: the default's."})
    part = fields.String(validate=validate.OneOf(["subject", "text", "html"]))
    diff = fields.String(metadata={"description": "A unified diff."})


class Differences(Schema):
    """Where two versions differ."""

    old = fields.Integer()
    new = fields.Integer()
    differences = fields.List(fields.Nested(DifferenceShape))


class RenderRequest(Schema):
    """The body of a request to see a mail of a template."""

    variables = fields.Dict(
        fields.String(),
        load_default=dict,
        metadata={"description": "The values.", "example": {"name": "Ann", "order": {"id": 17}}},
    )
    locale = Locale(load_default=None, allow_none=True, metadata={"description": "The reader's.", "example": "ja-JP"})
    version = fields.Integer(
        strict=True,
        load_default=None,
        allow_none=True,
        validate=validate.Range(min=1),
        metadata={"description": "The number of a version; by default the active one."},
    )


class RenderedShape(Schema):
    """A mail as its reader would get it."""

    subject = fields.String()
    text = fields.String(allow_none=True)
    html = fields.String(allow_none=True)
    locale = fields.String(allow_none=True, metadata={"description": "The variant that was used; null: the default."})
    version = fields.Integer()
    warnings = fields.List(fields.String(), metadata={"description": "What may not be meant so."})
