"""Field types of the schemas of SMTP accounts: each checks one kind of value and normalises it."""

import re
import ssl
from collections.abc import Callable
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from marshmallow import ValidationError, fields

from mailbbgun.core import addresses

#: Most characters of the certificates of an account.
CA_SIZE = 200_000
#: Characters of a text on one line, or of a password, that are looked at. Each field takes fewer; of the 30
#: million that a client may send, looking takes a second in which other requests wait.
LOOKED_AT = 1000
#: Characters that a text on one line cannot have.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
#: Characters of a password that no server can receive: NUL (RFC 4616 §2) and what UTF-8 cannot
#: write.
_UNWRITABLE = re.compile("[\0\ud800-\udfff]")


def _checked(check: Callable[[str], str], value: str) -> str:
    try:
        return check(value)
    except ValueError as error:
        raise ValidationError(str(error)) from error


class Line(fields.String):
    """A text on one line, without blanks at its ends.

    A field of it needs a :class:`validate.Length` of at most ``LOOKED_AT``, which refuses longer texts.
    """

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        text: str = super()._deserialize(value, attr, data, **kwargs)
        if len(text) <= LOOKED_AT and (_CONTROL.search(text) or text != text.strip()):
            raise ValidationError("Must be one line without control characters, and without blanks at its ends.")
        return text


class Address(fields.String):
    """An e-mail address, without a name."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        return _checked(addresses.address, super()._deserialize(value, attr, data, **kwargs).strip())


class ASCIIAddress(Address):
    """An e-mail address whose local part is ASCII.

    An international domain is kept in A-labels (RFC 5890 §2.3.2.1).
    """

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        address = super()._deserialize(value, attr, data, **kwargs)
        if not address.isascii():
            raise ValidationError(
                f"{address} is not ASCII before the @-sign: "
                "servers without SMTPUTF8 (RFC 6531) would take no mail from it. Give an ASCII address."
            )
        return address


class AccountAddressOrDomain(fields.String):
    """An e-mail address, or a domain. The local part keeps its case."""

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
    """Certificates of authorities in PEM.

    Only the certificates are kept: people paste whole files, with private keys in them.
    """

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
    """A JSON number; text with digits is refused."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> Any:
        if not isinstance(value, int | float):
            raise self.make_error("invalid", input=value)
        return super()._deserialize(value, attr, data, **kwargs)


def password(text: str) -> None:
    """Raise ``ValidationError`` if a password holds characters that no server can receive."""
    if len(text) <= LOOKED_AT and _UNWRITABLE.search(text):  # a longer one is refused for its length
        raise ValidationError("Has a NUL or half a surrogate pair, which no server can be sent.")
