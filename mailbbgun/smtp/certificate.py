"""What a server's X.509 certificate says of itself (RFC 5280), as text that is safe to show.

Decides nothing: OpenSSL does.
"""

from dataclasses import dataclass

from cryptography import x509

from mailbbgun.core.clock import rfc3339
from mailbbgun.smtp.reply import safe

#: Alternative names that are shown. Certificates of hosting companies carry hundreds, hostile ones
#: thousands.
MAX_NAMES = 100

#: Characters of one name.
MAX_NAME = 255


@dataclass(frozen=True, slots=True)
class Certificate:
    """`subject` and `issuer` as in RFC 4514; `names` are the host names and IP addresses it is for;
    `not_after` as in RFC 3339.
    """

    subject: str
    issuer: str
    names: tuple[str, ...]
    not_after: str


def read(der: bytes) -> Certificate | None:
    """The certificate in `der`; None if it is none, or too odd to be read."""
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
