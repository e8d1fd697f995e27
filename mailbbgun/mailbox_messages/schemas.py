"""What the HTTP API takes and shows of the mail in mailboxes."""

import re
from typing import Any

from marshmallow import Schema, ValidationError, fields, validate

from mailbbgun.http.schemas import Flag, Page, Time
from mailbbgun.mailboxes.models import FOLDER_SIZE, INBOX
from mailbbgun.mailboxes.words import searched

#: Characters of a part of a text to search for, at most.
LONGEST_PART = 200


class FolderName(fields.String):
    """The name of a folder. INBOX is one folder in any case (RFC 9051 §5.1)."""

    def __init__(self, **kwargs: Any) -> None:
        rules = (
            validate.Length(1, FOLDER_SIZE),
            validate.Regexp(r"[^\x00-\x1f\x7f]*\Z", error="It has control characters."),
        )
        super().__init__(validate=rules, **kwargs)

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        text = re.sub(r"[ \t]+", " ", super()._deserialize(value, attr, data, **kwargs)).strip()
        return INBOX if text.upper() == INBOX else text


class SearchedPart(fields.String):
    """A part of a text to search for."""

    def __init__(self, description: str, **kwargs: Any) -> None:
        rule = validate.Length(1, LONGEST_PART)
        super().__init__(load_default=None, validate=rule, metadata={"description": description}, **kwargs)


class SearchedWords(fields.String):
    """Words to search for, in the form that :func:`words.searched` returns."""

    def __init__(self) -> None:
        description = (
            "Words of the text, the subject, From, To, Cc or the names of files, in any case: those that begin "
            "with these. In scripts without blanks between words, such as Japanese, any part."
        )
        about = {"description": description, "example": "invoice"}
        super().__init__(load_default=(), validate=validate.Length(1, LONGEST_PART), metadata=about)

    def deserialize(self, value: Any, attr: str | None = None, data: Any = None, **kwargs: Any) -> Any:
        """Return the words. Raises :class:`ValidationError` if there are none."""
        text = super().deserialize(value, attr, data, **kwargs)
        if not isinstance(text, str):
            return text
        if not (words := searched(text)):
            raise ValidationError("It has no letters or digits to search for.")
        return words


class MailFilters(Page):
    """Which mail of a mailbox to list."""

    folder = FolderName(load_default=None, metadata={"description": "The mail in this folder.", "example": INBOX})
    read = fields.Boolean(load_default=None, metadata={"description": "What was read, or what was not."})
    sender = SearchedPart("A part of From, in any case.", data_key="from")
    subject = SearchedPart("A part of the subject, in any case.")
    to = SearchedPart("A part of the recipient's address, in any case.")
    search = SearchedWords()
    since = Time(load_default=None, metadata={"description": "Received at this moment or later."})
    until = Time(load_default=None, metadata={"description": "Received before this moment."})


class MailListed(Schema):
    """A mail in a list."""

    id = fields.UUID()
    folder = fields.String()
    read = fields.Boolean()
    received_at = Time()
    mail_from = fields.String(metadata={"description": "The envelope's sender; empty for bounces."})
    rcpt_to = fields.String(metadata={"description": "The recipient that it was addressed to."})
    sender = fields.String(data_key="from", metadata={"description": "The From header.", "example": "Ann <a@b.test>"})
    subject = fields.String()
    message_id_header = fields.String(metadata={"description": "The Message-ID header; empty if it has none."})
    size = fields.Integer(metadata={"description": "Bytes of the mail."})
    has_attachments = fields.Boolean()


class MailPage(Schema):
    """A page of mail, newest first."""

    messages = fields.List(fields.Nested(MailListed))
    count = fields.Integer(metadata={"description": "How many match in all."})


class HeaderShape(Schema):
    """A field of a header."""

    name = fields.String()
    value = fields.String(metadata={"description": "Decoded, on one line."})


class ReadAttachmentShape(Schema):
    """A file of a mail."""

    index = fields.Integer(metadata={"description": "Its number in the mail, from 0."})
    filename = fields.String(allow_none=True, metadata={"description": "Without folders; null if it has no name."})
    content_type = fields.String(metadata={"description": "As the sender declares it."})
    size = fields.Integer(metadata={"description": "Bytes of the file itself."})
    content_id = fields.String(allow_none=True)
    inline = fields.Boolean(metadata={"description": "Whether it is to be shown within the text."})
    url = fields.String(metadata={"description": "Where it is downloaded."})


class MailDetails(MailListed):
    """A mail as its sender meant it."""

    to = fields.List(fields.String(), metadata={"description": "The addresses of To."})
    cc = fields.List(fields.String(), metadata={"description": "The addresses of Cc."})
    date = Time(allow_none=True, metadata={"description": "The Date header; null if there is none that can be read."})
    headers = fields.List(fields.Nested(HeaderShape), metadata={"description": "All fields, in their order."})
    text = fields.String(allow_none=True, metadata={"description": "The plain text; null if there is none."})
    html = fields.String(
        allow_none=True,
        metadata={
            "description": "The HTML, made safe to show: without scripts, forms and style sheets. Images are those of "
            "the mail, unless `remote` asks for others. null if there is none."
        },
    )
    attachments = fields.List(fields.Nested(ReadAttachmentShape))
    problems = fields.List(fields.String(), metadata={"description": "What is broken in the mail, in sentences."})


class MailShown(Schema):
    """How to show a mail."""

    remote = fields.Boolean(
        load_default=False,
        metadata={"description": "Whether its HTML may load images from other servers, which tells them who reads."},
    )


class MailChange(Schema):
    """What to change of a mail. What is not given stays."""

    read = Flag(metadata={"description": "Whether it was read."})
    folder = FolderName(metadata={"description": "The folder to move it to. It need not exist.", "example": "Archive"})


class FolderShape(Schema):
    """A folder of a mailbox."""

    name = fields.String()
    messages = fields.Integer(metadata={"description": "How much mail is in it."})
    unread = fields.Integer(metadata={"description": "How much of it was not read."})


class FolderList(Schema):
    """The folders that have mail, INBOX first."""

    folders = fields.List(fields.Nested(FolderShape))
