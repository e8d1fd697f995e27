"""Shapes of messages in answers, and the filters of their list. The command line uses them, too."""

from collections.abc import Mapping
from typing import Any

from marshmallow import Schema, ValidationError, fields, post_dump, validate

from mailbbgun.core import addresses
from mailbbgun.http.bad_input import EXAMPLE_ID, listed
from mailbbgun.http.schemas import Page, Time
from mailbbgun.messages import repo
from mailbbgun.messages.models import Delivery
from mailbbgun.messages.status import GRAVEST, STATUSES, Reason
from mailbbgun.relays.slack.medium import MEDIA, medium_of

#: Characters of a part of a subject to search for, at most.
LONGEST_PART = 200
#: Characters of a Message-ID, at most. A client's has up to 250; ours is a UUID, an @, and a host's name of
#: up to 253, in angle brackets.
LONGEST_MESSAGE_ID = 292
#: Characters of a tag, as in accept.
LONGEST_TAG = 128


class Status(fields.String):
    """A status in a query, in any case."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        return super()._deserialize(value, attr, data, **kwargs).upper()


class Choice(fields.String):
    """A word of a fixed list in a query, in any case."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        return super()._deserialize(value, attr, data, **kwargs).lower()


class AddressQuery(fields.String):
    """An address or a Message-ID in a query. A + in it is a plus, not a space.

    Only the first broken rule is reported, and no later one is checked.
    """

    plus = True

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        return super()._deserialize(value, attr, data, **kwargs).strip()

    def _validate(self, value: Any) -> None:
        for rule in self.validators:
            rule(value)


class SenderQuery(AddressQuery):
    """The address of a From header, with or without its display name."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        text: str = super()._deserialize(value, attr, data, **kwargs)
        return text[:-1].rpartition("<")[2] if text.endswith(">") and "<" in text else text


class Domain(AddressQuery):
    """A domain, in U-labels or A-labels (RFC 5890)."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        text: str = super()._deserialize(value, attr, data, **kwargs).removeprefix("@").removesuffix(".")
        self._validate(text)
        try:
            return addresses.domain(text)
        except ValueError as error:
            raise ValidationError("Not a domain, like example.com.") from error


# Both match in linear time: white space around is stripped, and nothing after an @ is looked at again.
_BARE = (
    validate.Length(max=addresses.LONGEST),
    validate.Regexp(r"[^<>]+@[^\s<>@]+\Z", error="Not a bare e-mail address, like ann@example.com."),
)
_MESSAGE_ID = (
    validate.Length(max=LONGEST_MESSAGE_ID),
    validate.Regexp(r"<?[^\s<>@]+@[^\s<>@]+>?\Z", error="Not a Message-ID, like <1234@example.com>."),
)


class Filters(Page):
    """Which messages to list."""

    status = Status(
        load_default=None,
        validate=validate.OneOf(STATUSES),
        metadata={"description": "Those with this status."},
    )
    reason = Choice(
        load_default=None,
        validate=validate.OneOf([reason.value for reason in Reason]),
        metadata={"description": "Those with a delivery that ended as ERROR for this."},
    )
    to = AddressQuery(
        load_default=None,
        validate=_BARE,
        metadata={
            "description": "A recipient's address: to, cc or bcc. The case of a to z does not matter; a + is a plus.",
            "example": "ann+shop@example.com",
        },
    )
    domain = Domain(
        load_default=None,
        validate=validate.Length(max=addresses.LONGEST_DOMAIN),
        metadata={
            "description": "A recipient's domain. With to and reason: of the same delivery.",
            "example": "example.com",
        },
    )
    medium = Choice(
        load_default=None,
        validate=validate.OneOf(MEDIA),
        metadata={"description": "Those to Slack, or mail. Both if not given."},
    )
    channel = fields.String(
        load_default=None,
        validate=validate.Length(1, 100),
        metadata={"description": "Those to this channel of Slack, as it was given.", "example": "#alerts"},
    )
    sender = SenderQuery(
        load_default=None,
        data_key="from",
        validate=_BARE,
        metadata={
            "description": "The address of From. The case of a to z does not matter; a + is a plus.",
            "example": "shop@example.com",
        },
    )
    subject = fields.String(
        load_default=None,
        validate=validate.Length(1, LONGEST_PART),
        metadata={
            "description": f"A part of the subject, in any case. Without to, the newest {repo.SEARCHED:,} messages "
            "before until are looked at.",
            "example": "invoice",
        },
    )
    message_id_header = AddressQuery(
        load_default=None,
        validate=_MESSAGE_ID,
        metadata={
            "description": "The Message-ID header, with or without its angle brackets.",
            "example": "<1234@example.com>",
        },
    )
    tag = fields.String(
        load_default=None,
        validate=validate.Length(1, LONGEST_TAG),
        metadata={"description": "Those with this tag.", "example": "invoice"},
    )
    batch_id = fields.UUID(
        load_default=None,
        metadata={"description": "Those that came with this batch.", "example": EXAMPLE_ID},
    )
    test = fields.Boolean(
        load_default=None,
        metadata={"description": "Those that test keys sent, or those that others did. Both if not given."},
    )
    received = fields.Boolean(
        load_default=None,
        metadata={"description": "Those that came from other servers, or those that you sent. Both if not given."},
    )
    since = Time(
        load_default=None,
        metadata={
            "description": "Accepted at this moment or later. A date alone is its midnight, in UTC.",
            "example": "2026-01-31T12:00:00Z",
        },
    )
    until = Time(
        load_default=None,
        metadata={
            "description": "Accepted before this moment. A date alone is its midnight, in UTC.",
            "example": "2026-02-01T00:00:00Z",
        },
    )


def _medium(message: Mapping[str, Any]) -> str:
    return medium_of(addresses.in_mailbox(message["sender"]))


class Summary(Schema):
    """A message in a list."""

    id = fields.UUID()
    status = fields.String(validate=validate.OneOf(STATUSES))
    reason = fields.String(
        allow_none=True,
        validate=validate.OneOf([reason.value for reason in Reason]),
        metadata={
            "description": "Why deliveries of it ended as ERROR: of several reasons the first of "
            f"{listed(GRAVEST)}. null if none did.",
            "example": "bounced",
        },
    )
    medium = fields.Function(
        _medium,
        metadata={"type": "string", "enum": list(MEDIA), "description": "Whether it is a mail, or goes to Slack."},
    )
    subject = fields.String()
    sender = fields.String(data_key="from")
    to = fields.List(fields.String())
    tags = fields.List(fields.String())
    priority = fields.Integer()
    test = fields.Boolean(metadata={"description": "Whether a test key sent it: it goes to the catcher."})
    received = fields.Boolean(metadata={"description": "Whether it came from another server, to a mailbox here."})
    created_at = Time()
    send_at = Time(allow_none=True, metadata={"description": "When it is to be sent; null: once it was accepted."})


class Messages(Schema):
    """A page of messages, newest first."""

    messages = fields.List(fields.Nested(Summary))
    count = fields.Integer(metadata={"description": "How many match in all."})


def _last_reply(delivery: Delivery) -> str | None:
    """Return the other server's last reply; without a code, our own words about the connection."""
    return " ".join(str(part) for part in (delivery.reply_code, delivery.reply) if part is not None) or None


class DeliveryShape(Schema):
    """One recipient."""

    id = fields.UUID()
    address = fields.String()
    kind = fields.String(
        validate=validate.OneOf(["to", "cc", "bcc", "fwd", "web"]),
        metadata={
            "description": "The field that names the recipient; bcc: none does. "
            "fwd and web: an inbound route forwards or posts it."
        },
    )
    status = fields.String(validate=validate.OneOf(STATUSES))
    reason = fields.String(allow_none=True, metadata={"description": "Why it ended as ERROR."})
    attempts = fields.Integer(
        attribute="attempts_made",
        metadata={
            "description": "How many attempts to hand it to a mail server have ended: in the server's answer, in "
            "silence, or because none could be reached. All since the message was accepted, also before a retry by "
            "hand. One attempt may go to several servers, one after the other. A wait is no attempt: while a server "
            "is left alone after failures, a limit is used up, or the tenant is suspended."
        },
    )
    cause = fields.String(
        allow_none=True,
        metadata={
            "description": "What the last reply means, such as `mailbox_full` or `invalid_mailbox`. null if it is no "
            "refusal.",
            "example": "mailbox_full",
        },
    )
    class_ = fields.String(
        data_key="class",
        allow_none=True,
        metadata={
            "description": "`hard`: the address does not exist; `soft`: it does, and could not be reached; `block`: "
            "the sender or the content is refused; `unknown`.",
            "example": "soft",
        },
    )
    last_reply = fields.Function(
        _last_reply, metadata={"type": "string", "nullable": True, "example": "250 2.0.0 Ok: queued as 4XyZ"}
    )
    next_attempt_at = Time(allow_none=True)
    in_hand = fields.Boolean(
        metadata={"description": "Whether a worker has it in hand: it may be sent at this moment, whatever you do."}
    )
    finished_at = Time(allow_none=True)


class FileShape(Schema):
    """A file of a message."""

    filename = fields.String()
    content_type = fields.String()
    size = fields.Integer(metadata={"description": "Bytes of the file itself."})
    sha256 = fields.String()
    content_id = fields.String(allow_none=True, metadata={"description": "Null, unless the HTML shows it."})
    id = fields.String(
        attribute="attachment_id",
        allow_none=True,
        metadata={"description": "Of the attachment that was named; null: a digest or the file itself was given."},
    )


class Details(Summary):
    """A message with its deliveries."""

    cc = fields.List(fields.String())
    bcc = fields.List(fields.String())
    mail_from = fields.String(metadata={"description": "The envelope's sender."})
    message_id_header = fields.String(
        metadata={"description": "The Message-ID header.", "example": "<1234@example.com>"}
    )
    useful_until = Time(allow_none=True, metadata={"description": "After this it is not sent; null: no limit."})
    metadata = fields.Dict(attribute="meta")
    batch_id = fields.UUID(allow_none=True, metadata={"description": "The batch that it came with; null: none."})
    key_id = fields.UUID(allow_none=True, metadata={"description": "The API key that sent it; null: none."})
    size = fields.Integer(metadata={"description": "Bytes of the MIME."})
    smtputf8 = fields.Boolean(metadata={"description": "Whether an address needs RFC 6531 all the way."})
    attachments = fields.List(fields.Nested(FileShape))
    deliveries = fields.List(fields.Nested(DeliveryShape))

    @post_dump(pass_original=True)
    def _with_causes(self, shown: dict[str, Any], message: Mapping[str, Any], **_: Any) -> dict[str, Any]:
        causes = message.get("causes", {})
        for delivery, row in zip(shown["deliveries"], message["deliveries"], strict=True):
            delivery |= causes.get(row.id, {"cause": None, "class": None})
        return shown
