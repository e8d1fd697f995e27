"""Reads a server's X.509 certificate (RFC 5280) into text that is safe to show.

It does not judge the certificate: OpenSSL does.
"""

from dataclasses import dataclass

from cryptography import x509

from mailbbgun.core.clock import rfc3339
from mailbbgun.smtp.reply import safe

#: Alternative names that are shown. Certificates of hosting companies carry hundreds, hostile ones
#: thousands.
MAX_NAMES = 100

#: Characters that are shown of one name.
MAX_NAME = 255


@dataclass(frozen=True, slots=True)
class Certificate:
    """The fields of a certificate that are shown.

    `subject` and `issuer` are written as in RFC 4514. `names` are the host names and IP addresses
    the certificate is for. `not_after` is written as in RFC 3339.
    """

    subject: str
    issuer: str
    names: tuple[str, ...]
    not_after: str


def read(der: bytes) -> Certificate | None:
    """Return the certificate in `der`, or None if it cannot be read."""
    try:
        certificate = x509.load_der_x509_certificate(der)
        return Certificate(
            _shown(certificate.subject.rfc4514_string()),
            _shown(certificate.issuer.rfc4514_string()),
            _names(certificate),
            rfc3339(certificate.not_valid_after_utc),
        )
    except (ValueError, TypeError, x509.InvalidVersion, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        return None


def _names(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    kinds = (x509.DNSName, x509.IPAddress)
    return tuple(_shown(str(name.value)) for name in names if isinstance(name, kinds))[:MAX_NAMES]


def _shown(name: str) -> str:
    return safe(name[:MAX_NAME])
