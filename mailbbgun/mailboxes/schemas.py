"""What the HTTP API takes and shows of mailboxes."""

from marshmallow import Schema, fields, validate

from mailbbgun.core import addresses
from mailbbgun.http.schemas import Page, Time

_ADDRESS = {"description": "An address at a local domain of yours. Case does not matter.", "example": "ann@example.com"}
_BYTES = {"description": "Bytes that it holds at most; null: no limit.", "example": 1_000_000_000}
_MESSAGES = {"description": "Messages that it holds at most; null: no limit.", "example": 10_000}
_CATCH_ALL = {"description": "Whether it takes the mail of unknown addresses at its domain, too."}


class Quotas(Schema):
    """What a mailbox takes. Mail beyond it is refused with 452 4.2.2."""

    quota_bytes = fields.Integer(strict=True, allow_none=True, validate=validate.Range(1, 2**60), metadata=_BYTES)
    quota_messages = fields.Integer(
        strict=True, allow_none=True, validate=validate.Range(1, 2_000_000_000), metadata=_MESSAGES
    )
    catch_all = fields.Boolean(truthy={True}, falsy={False}, metadata=_CATCH_ALL)


class NewMailbox(Schema):
    """The body of a request to add a mailbox."""

    address = fields.String(required=True, validate=validate.Length(1, addresses.LONGEST), metadata=_ADDRESS)
    quota_bytes = fields.Integer(
        strict=True, allow_none=True, load_default=None, validate=validate.Range(1, 2**60), metadata=_BYTES
    )
    quota_messages = fields.Integer(
        strict=True, allow_none=True, load_default=None, validate=validate.Range(1, 2_000_000_000), metadata=_MESSAGES
    )
    catch_all = fields.Boolean(load_default=False, truthy={True}, falsy={False}, metadata=_CATCH_ALL)


class NewAlias(Schema):
    """The body of a request to add an alias."""

    # Required, once it is known that the mailbox is the tenant's (``edit.add_alias``).
    address = fields.String(load_default="", validate=validate.Length(max=addresses.LONGEST), metadata=_ADDRESS)


class MailboxShape(Schema):
    """A mailbox."""

    id = fields.UUID()
    address = fields.String()
    aliases = fields.List(fields.String())
    catch_all = fields.Boolean(metadata=_CATCH_ALL)
    quota_bytes = fields.Integer(allow_none=True, metadata=_BYTES)
    quota_messages = fields.Integer(allow_none=True, metadata=_MESSAGES)
    messages = fields.Integer(metadata={"description": "How many messages are in it."})
    size = fields.Integer(metadata={"description": "Their bytes together."})
    created_at = Time()


class Mailboxes(Schema):
    """A page of mailboxes, newest first."""

    mailboxes = fields.List(fields.Nested(MailboxShape))
    count = fields.Integer(metadata={"description": "How many match in all."})


class MailboxFilters(Page):
    """Which mailboxes to list."""

    domain = fields.String(
        load_default=None,
        validate=validate.Length(1, addresses.LONGEST_DOMAIN + 1),
        metadata={"description": "Those of this domain.", "example": "example.com"},
    )
