"""What the HTTP API takes and shows of SMTP accounts, their health and their connection tests.

A password is taken by :class:`NewAccount` and :class:`AccountChange`. Only :class:`Credentials`
shows it.
"""

from typing import Any

from marshmallow import Schema, fields, validate

from mailbbgun.http.bad_input import SECRET
from mailbbgun.http.schemas import Flag, Time
from mailbbgun.smtp_accounts.account import PROTOCOLS
from mailbbgun.smtp_accounts.field_types import (
    AccountAddressOrDomain,
    Address,
    ASCIIAddress,
    Certificates,
    DomainPattern,
    Line,
    Seconds,
    password,
)
from mailbbgun.smtp_accounts.health import CIRCUITS
from mailbbgun.smtp_accounts.presets import PRESETS

#: Most entries in ``recipient_domains``.
MOST_DOMAINS = 100


def _number(least: int, most: int, sentence: str, **options: Any) -> fields.Integer:
    return fields.Integer(
        strict=True, validate=validate.Range(least, most), metadata={"description": sentence}, **options
    )


def _rate(sentence: str, most: int) -> Seconds:
    return Seconds(allow_none=True, validate=validate.Range(0.001, most), metadata={"description": sentence})


class AccountSettings(Schema):
    """The settings of an account."""

    setting_name = Line(
        validate=validate.Length(1, 64),
        metadata={"description": "The name of the account, unique in your tenant.", "example": "main"},
    )
    smtp_host = fields.String(
        validate=validate.Length(1, 253),
        metadata={"description": "The server's name or address.", "example": "smtp.example.com"},
    )
    smtp_port = _number(1, 65_535, "By default 587; 465 with TLS, 25 with NONE.")
    smtp_username = Line(
        allow_none=True,
        validate=validate.Length(1, 320),
        metadata={"description": "null: no AUTH.", "example": "shop", **SECRET},
    )
    security_protocol = fields.String(
        validate=validate.OneOf(PROTOCOLS),
        metadata={"description": "By default STARTTLS; TLS on port 465. With NONE the password, too, goes in clear."},
    )
    ca_certificate = Certificates(
        allow_none=True,
        metadata={
            "description": "PEM of the authorities that may have signed its certificate; null: the system's.",
            **SECRET,
        },
    )
    from_email = AccountAddressOrDomain(
        allow_none=True,
        metadata={
            "description": "Takes mail from this address or domain; null: from any.",
            "example": "shop@example.com",
        },
    )
    from_name = Line(
        allow_none=True,
        validate=validate.Length(1, 256),
        metadata={"description": "The name beside from_email.", "example": "Shop"},
    )
    envelope_from = ASCIIAddress(
        allow_none=True,
        metadata={
            "description": "MAIL FROM (for bounces), unless a message names another than its From; ASCII. null: From.",
            "example": "bounces@example.com",
        },
    )
    is_default = Flag(
        metadata={
            "description": "Messages that name no From get the one of this account. At most one account is the "
            "default; the first is, unless it says false."
        }
    )
    priority = _number(0, 1000, "The lowest is tried first, the other way round than a message's; 10 by default.")
    weight = _number(1, 1000, "Its share of mail among accounts of the same priority; 1 by default.")
    max_connections = _number(
        1, 1000, "Connections at once, shared by all live worker processes, but at least one each; 5 by default."
    )
    max_per_second = _rate("Mails; null: no limit.", 10_000)
    max_per_minute = _number(1, 1_000_000, "Mails; null: no limit.", allow_none=True)
    max_per_day = _number(1, 1_000_000_000, "Mails in a day (UTC); null: no limit.", allow_none=True)
    max_recipients_per_message = _number(
        1,
        10_000,
        "Recipients in one transaction; a message with more is sent in several; null: no limit.",
        allow_none=True,
    )
    send_interval = _rate("Least seconds between two mails; null: none.", 86_400)
    recipient_domains = fields.List(
        DomainPattern(),
        validate=validate.Length(max=MOST_DOMAINS),
        metadata={
            "description": "Takes mail to these domains only; *.example.com is every subdomain. Empty: to all.",
            "example": ["example.com"],
        },
    )
    enabled = Flag(metadata={"description": "Whether mail leaves through the account; true by default."})


class AccountChange(AccountSettings):
    """The body of a request to change an account. Fields that are not given keep their values."""

    smtp_password = fields.String(
        load_only=True,
        allow_none=True,
        validate=[validate.Length(1, 1000), password],
        metadata={
            "description": "Stored encrypted. Give it again to change host, port, security or certificate authorities.",
            **SECRET,
        },
    )


class NewAccount(AccountChange):
    """The body of a request to add an account."""

    setting_name = Line(
        required=True,
        validate=validate.Length(1, 64),
        metadata={"description": "The name of the account, unique in your tenant.", "example": "main"},
    )
    preset = fields.String(
        allow_none=True,
        validate=validate.OneOf(list(PRESETS)),
        metadata={
            "description": "A provider whose host, port, security and limits fill fields that are not given.",
            "example": "gmail",
        },
    )


class ConnectionTestOptions(Schema):
    """The body of a request to test a saved account."""

    to = Address(metadata={"description": "Also send a test mail to this address.", "example": "ann@example.com"})


class UnsavedAccount(NewAccount, ConnectionTestOptions):
    """The body of a request to test settings that are not saved."""

    setting_name = Line(
        load_default="settings not saved yet", validate=validate.Length(1, 64), metadata={"example": "main"}
    )


class AccountShape(AccountSettings):
    """An account as answers show it, without its password."""

    id = fields.UUID()
    preset = fields.String(allow_none=True)
    has_password = fields.Boolean()
    created_at = Time()
    updated_at = Time()


class HealthShape(Schema):
    """The health of an account."""

    enabled = fields.Boolean()
    circuit = fields.String(
        validate=validate.OneOf(CIRCUITS),
        metadata={
            "description": "open: at least one worker sends nothing through it for now, after repeated failures."
        },
    )
    workers = fields.Integer(metadata={"description": "How many worker processes have the circuit open."})
    since = Time(allow_none=True, metadata={"description": "When the first of them opened it."})
    failures = fields.Integer(metadata={"description": "The most failures in a row in one of them."})
    reply = fields.String(allow_none=True, metadata={"description": "What the server or the connection said last."})
    used_today = fields.Integer(
        allow_none=True,
        metadata={
            "description": "Mails of this day (UTC) that count for max_per_day; null: no limits, or Redis counts."
        },
    )
    max_per_day = fields.Integer(allow_none=True)
    password_readable = fields.Boolean(
        allow_none=True,
        metadata={"description": "false: ENCRYPTION_KEYS lacks the key that encrypted it; null: there is no password."},
    )


class NamedHealth(HealthShape):
    """The health of an account, with its id and name."""

    id = fields.UUID()
    setting_name = fields.String()


class AccountDetails(AccountShape):
    """An account with its health, without its password."""

    health = fields.Nested(HealthShape)


class Accounts(Schema):
    """A page of accounts, newest first."""

    smtp_accounts = fields.List(fields.Nested(AccountShape))
    count = fields.Integer()


class Healths(Schema):
    """The health of all accounts of a tenant."""

    smtp_accounts = fields.List(fields.Nested(NamedHealth))
    count = fields.Integer()


class Credentials(Schema):
    """All that another program needs to send through this account."""

    id = fields.UUID()
    setting_name = fields.String()
    smtp_host = fields.String()
    smtp_port = fields.Integer()
    security_protocol = fields.String(validate=validate.OneOf(PROTOCOLS))
    smtp_username = fields.String(allow_none=True)
    smtp_password = fields.String(allow_none=True)
    ca_certificate = fields.String(allow_none=True)
    from_email = fields.String(allow_none=True)
    from_name = fields.String(allow_none=True)
    envelope_from = fields.String(allow_none=True)


class PresetShape(Schema):
    """A provider's settings, which fill an account that names it."""

    name = fields.String(metadata={"example": "gmail"})
    title = fields.String()
    smtp_host = fields.String(attribute="host")
    smtp_port = fields.Integer(attribute="port")
    security_protocol = fields.String(attribute="security")
    smtp_username = fields.String(attribute="username", allow_none=True)
    max_connections = fields.Integer(allow_none=True)
    max_per_second = fields.Integer(allow_none=True)
    max_per_minute = fields.Integer(allow_none=True)
    max_per_day = fields.Integer(allow_none=True)
    max_recipients_per_message = fields.Integer(allow_none=True)
    username_hint = fields.String(metadata={"description": "What to enter as user name and password."})
    host_hint = fields.String(allow_none=True, metadata={"description": "Other hosts of the provider."})


class Presets(Schema):
    """The known providers."""

    presets = fields.List(fields.Nested(PresetShape))
    count = fields.Integer()


class CertificateShape(Schema):
    """The certificate that a server showed."""

    subject = fields.String()
    issuer = fields.String()
    names = fields.List(fields.String())
    not_after = fields.String(metadata={"format": "date-time"})


class TLSShape(Schema):
    """How the connection is encrypted.

    Version and cipher are empty if the certificate was refused.
    """

    version = fields.String(metadata={"example": "TLSv1.3"})
    cipher = fields.String()
    certificate = fields.Nested(CertificateShape, allow_none=True)


class StepShape(Schema):
    """One step of a connection test."""

    name = fields.String(
        metadata={
            "description": "resolve, connect, tls, banner, ehlo, starttls, auth, mail, rcpt, data, body or dot.",
            "example": "auth",
        }
    )
    ok = fields.Boolean()
    milliseconds = fields.Float()
    code = fields.Integer(
        allow_none=True,
        attribute="reply.code",
        metadata={"description": "The server's reply code; 0: the text is ours; null: no reply."},
    )
    enhanced = fields.String(allow_none=True, attribute="reply.enhanced", metadata={"example": "5.7.8"})
    words = fields.String(allow_none=True, attribute="reply.text")
    mechanism = fields.String(
        allow_none=True,
        metadata={
            "description": "The mechanism of a step auth. Each mechanism that is tried is a step.",
            "example": "PLAIN",
        },
    )
    tls = fields.Nested(TLSShape, allow_none=True)


class ConnectionTestResult(Schema):
    """The result of a connection test, step by step."""

    ok = fields.Boolean(metadata={"description": "Whether all steps succeeded."})
    steps = fields.List(fields.Nested(StepShape))
