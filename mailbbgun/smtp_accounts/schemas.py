"""What the API takes and tells of SMTP accounts. A password goes in, and comes out of ``Credentials`` only."""

import re
import ssl
from collections.abc import Callable
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from marshmallow import Schema, ValidationError, fields, validate

from mailbbgun.core import addresses
from mailbbgun.http.bad_input import SECRET
from mailbbgun.http.schemas import Time
from mailbbgun.smtp_accounts.account import PROTOCOLS
from mailbbgun.smtp_accounts.health import CIRCUITS
from mailbbgun.smtp_accounts.presets import PRESETS

MOST_DOMAINS = 100
CA_SIZE = 200_000  # characters
_BROKEN = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")  # of a text that is to stand on one line
_UNWRITABLE = re.compile("[\0\ud800-\udfff]")


def _checked(check: Callable[[str], str], value: str) -> str:
    try:
        return check(value)
    except ValueError as error:
        raise ValidationError(str(error)) from error


class Line(fields.String):
    """A text on one line, with no blank at its ends."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        text: str = super()._deserialize(value, attr, data, **kwargs)
        if _BROKEN.search(text) or text != text.strip():
            raise ValidationError("Must be one line without control characters, and without blanks at its ends.")
        return text


class Address(fields.String):
    """An e-mail address, without a name."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        return _checked(addresses.address, super()._deserialize(value, attr, data, **kwargs).strip())


class ASCIIAddress(Address):
    """An e-mail address whose local part is ASCII; an international domain is kept in A-labels (IDNA)."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        address = super()._deserialize(value, attr, data, **kwargs)
        if not address.isascii():
            raise ValidationError(
                f"{address} is not ASCII before the @-sign: servers without SMTPUTF8 (RFC 6531) would take no mail from it. Give an ASCII address."
            )
        return address


class AccountAddressOrDomain(fields.String):
    """An e-mail address, whose local part keeps its case, or a domain."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        text: str = super()._deserialize(value, attr, data, **kwargs).strip().removeprefix("@")
        return _checked(addresses.address if "@" in text else addresses.domain, text)


class DomainPattern(fields.String):
    """``example.com``, or ``*.example.com`` for every subdomain of it."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        text: str = super()._deserialize(value, attr, data, **kwargs).strip()
        prefix = "*." if text.startswith("*.") else ""
        return prefix + _checked(addresses.domain, text.removeprefix(prefix))


class Certificates(fields.String):
    """Certificates of authorities in PEM. Nothing else of it is kept: people paste whole files, keys and all."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        text: str = super()._deserialize(value, attr, data, **kwargs)
        if len(text) > CA_SIZE:
            raise ValidationError(f"Longer than {CA_SIZE} characters.")
        try:
            found = x509.load_pem_x509_certificates(text.encode())
            pem = "".join(one.public_bytes(Encoding.PEM).decode() for one in found)
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=pem)
        except (ValueError, x509.InvalidVersion, ssl.SSLError) as error:
            raise ValidationError("Not one or several certificates in PEM (-----BEGIN CERTIFICATE-----).") from error
        return pem


class Seconds(fields.Float):
    """A JSON number."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> Any:
        if not isinstance(value, int | float):
            raise self.make_error("invalid", input=value)
        return super()._deserialize(value, attr, data, **kwargs)


class Flag(fields.Boolean):
    """``true`` or ``false``."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> bool:
        if not isinstance(value, bool):
            raise self.make_error("invalid", input=value)
        return value


def _password(text: str) -> None:
    if _UNWRITABLE.search(text):
        raise ValidationError("Has a NUL or half a surrogate pair, which no server can be sent.")


def _number(least: int, most: int, sentence: str, **options: Any) -> fields.Integer:
    return fields.Integer(
        strict=True, validate=validate.Range(least, most), metadata={"description": sentence}, **options
    )


def _rate(sentence: str, most: int) -> Seconds:
    return Seconds(allow_none=True, validate=validate.Range(0.001, most), metadata={"description": sentence})


class AccountSettings(Schema):
    """What there is to set of an account."""

    setting_name = Line(
        validate=validate.Length(1, 64), metadata={"description": "Its name, one of its own.", "example": "main"}
    )
    smtp_host = fields.String(
        validate=validate.Length(1, 253),
        metadata={"description": "Its name, or address.", "example": "smtp.example.com"},
    )
    smtp_port = _number(1, 65_535, "By default 587, with TLS 465, with NONE 25.")
    smtp_username = Line(
        allow_none=True,
        validate=validate.Length(1, 320),
        metadata={"description": "null: no AUTH.", "example": "shop", **SECRET},
    )
    security_protocol = fields.String(
        validate=validate.OneOf(PROTOCOLS),
        metadata={"description": "By default STARTTLS, on port 465 TLS. NONE: also the password goes in clear."},
    )
    ca_certificate = Certificates(
        allow_none=True,
        metadata={
            "description": "PEM of the authorities its certificate must come from; null: those of the system.",
            **SECRET,
        },
    )
    from_email = AccountAddressOrDomain(
        allow_none=True,
        metadata={
            "description": "Mail from this address, or domain, leaves here; null: from any.",
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
            "description": "Where bounces of its mail go: MAIL FROM, unless a message names another than From; in ASCII. null: to From.",
            "example": "bounces@example.com",
        },
    )
    is_default = Flag(
        metadata={
            "description": "Its From is that of messages that name none. One at most; the first, unless it says false."
        }
    )
    priority = _number(0, 1000, "The lowest goes first, the other way round than a message's; 10 by default.")
    weight = _number(1, 1000, "Its share among accounts of one priority; 1 by default.")
    max_connections = _number(
        1, 1000, "At once, shared by all worker processes that are alive, one for each at least; 5 by default."
    )
    max_per_second = _rate("Mails; null: no limit.", 10_000)
    max_per_minute = _number(1, 1_000_000, "Mails; null: no limit.", allow_none=True)
    max_per_day = _number(1, 1_000_000_000, "Mails of a day (UTC); null: no limit.", allow_none=True)
    max_recipients_per_message = _number(
        1, 10_000, "Recipients at once; a message with more goes in several; null: no limit.", allow_none=True
    )
    send_interval = _rate("Seconds between two mails at least; null: none.", 86_400)
    recipient_domains = fields.List(
        DomainPattern(),
        validate=validate.Length(max=MOST_DOMAINS),
        metadata={
            "description": "Mail to these only; *.example.com is every subdomain of it. Empty: to all.",
            "example": ["example.com"],
        },
    )
    enabled = Flag(metadata={"description": "Whether mail leaves here; true by default."})


class AccountChange(AccountSettings):
    """What is to change of an account. What is not given stays."""

    smtp_password = fields.String(
        load_only=True,
        allow_none=True,
        validate=[validate.Length(1, 1000), _password],
        metadata={
            "description": "Kept encrypted and never told. Needed again when host, port, security or authorities change.",
            **SECRET,
        },
    )


class NewAccount(AccountChange):
    """An account to be."""

    setting_name = Line(
        required=True,
        validate=validate.Length(1, 64),
        metadata={"description": "Its name, one of its own.", "example": "main"},
    )
    preset = fields.String(
        allow_none=True,
        validate=validate.OneOf(list(PRESETS)),
        metadata={
            "description": "A provider whose host, port, security and limits fill what is not given.",
            "example": "gmail",
        },
    )


class Trial(Schema):
    """How to try an account."""

    to = Address(metadata={"description": "Send a test mail there as well.", "example": "ann@example.com"})


class NewTrial(NewAccount, Trial):
    """An account to be tried that is not saved."""

    setting_name = Line(
        load_default="settings not saved yet", validate=validate.Length(1, 64), metadata={"example": "main"}
    )


class AccountShape(AccountSettings):
    """An account, but for its password."""

    id = fields.UUID()
    preset = fields.String(allow_none=True)
    has_password = fields.Boolean()
    created_at = Time()
    updated_at = Time()


class HealthShape(Schema):
    """How an account does."""

    enabled = fields.Boolean()
    circuit = fields.String(
        validate=validate.OneOf(CIRCUITS),
        metadata={"description": "open: a worker leaves it alone, since it failed again and again."},
    )
    workers = fields.Integer(metadata={"description": "How many worker processes leave it alone."})
    since = Time(allow_none=True, metadata={"description": "When the first of them began to."})
    failures = fields.Integer(metadata={"description": "In a row, at most of one of them."})
    reply = fields.String(allow_none=True, metadata={"description": "What the server, or the connection, said last."})
    used_today = fields.Integer(
        allow_none=True,
        metadata={"description": "Of max_per_day, in this day (UTC); null without limits, and where Redis counts."},
    )
    max_per_day = fields.Integer(allow_none=True)
    password_readable = fields.Boolean(
        allow_none=True,
        metadata={"description": "false: ENCRYPTION_KEYS lacks the key it was encrypted by; null: it has none."},
    )


class NamedHealth(HealthShape):
    """How an account does, and which it is."""

    id = fields.UUID()
    setting_name = fields.String()


class AccountDetails(AccountShape):
    """An account, but for its password, and how it does."""

    health = fields.Nested(HealthShape)


class Accounts(Schema):
    """A page of accounts, newest first."""

    smtp_accounts = fields.List(fields.Nested(AccountShape))
    count = fields.Integer()


class Healths(Schema):
    """How all accounts do."""

    smtp_accounts = fields.List(fields.Nested(NamedHealth))
    count = fields.Integer()


class Credentials(Schema):
    """All that another mailer needs to send by this account."""

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
    """A provider's settings, as an account that names it gets them."""

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
    username_hint = fields.String(metadata={"description": "What user name and password are."})
    host_hint = fields.String(allow_none=True, metadata={"description": "Which other hosts there are."})


class Presets(Schema):
    """The providers that are known."""

    presets = fields.List(fields.Nested(PresetShape))
    count = fields.Integer()


class CertificateShape(Schema):
    """What a server's certificate says of itself."""

    subject = fields.String()
    issuer = fields.String()
    names = fields.List(fields.String())
    not_after = fields.String(metadata={"format": "date-time"})


class TLSShape(Schema):
    """How the line is encrypted. Empty beside a certificate that was refused."""

    version = fields.String(metadata={"example": "TLSv1.3"})
    cipher = fields.String()
    certificate = fields.Nested(CertificateShape, allow_none=True)


class StepShape(Schema):
    """A step of the dialogue."""

    name = fields.String(
        metadata={
            "description": "resolve, connect, tls, banner, ehlo, starttls, auth, mail, rcpt, data, body or dot.",
            "example": "auth",
        }
    )
    ok = fields.Boolean()
    milliseconds = fields.Float()
    code = fields.Integer(
        allow_none=True, attribute="reply.code", metadata={"description": "The server's; 0: our own words; null: none."}
    )
    enhanced = fields.String(allow_none=True, attribute="reply.enhanced", metadata={"example": "5.7.8"})
    words = fields.String(allow_none=True, attribute="reply.text")
    mechanism = fields.String(
        allow_none=True, metadata={"description": "Of auth: each that is tried is a step.", "example": "PLAIN"}
    )
    tls = fields.Nested(TLSShape, allow_none=True)


class TrialShape(Schema):
    """How it went, step by step."""

    ok = fields.Boolean(metadata={"description": "Whether all went well."})
    steps = fields.List(fields.Nested(StepShape))
