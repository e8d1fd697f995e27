"""The settings of the SMTP door."""

from dataclasses import dataclass
from typing import Literal

from mailbbgun.settings.parts.receiving import ReceivingSettings
from mailbbgun.settings.values import setting


@dataclass(frozen=True, slots=True, kw_only=True)
class SmtpdSettings(ReceivingSettings):
    """A part of :class:`~mailbbgun.settings.settings.Settings`."""

    SMTPD_HOST: str = setting(
        "127.0.0.1",
        "Address the SMTP door (smtpd.py) listens on. One that is not a loopback address needs SMTPD_TLS_CERT, "
        "because clients log in with API keys.",
    )
    SMTPD_PORT: int = setting(
        2525, "Port on which clients submit mail by SMTP, after AUTH. 0: none.", least=0, most=65_535
    )
    SMTPD_TLS_PORT: int = setting(
        0, "The same with TLS from the first byte (usually 465); needs SMTPD_TLS_CERT. 0: none.", least=0, most=65_535
    )
    MX_LISTEN_PORT: int = setting(
        0,
        "Port on which other mail servers hand in mail for local domains (usually 25). 0: none.",
        least=0,
        most=65_535,
    )
    SMTPD_TLS_CERT: str = setting(
        "",
        "PEM file with the certificate of the SMTP door, and those between it and its authority. With it, clients can "
        "use STARTTLS. A file that is replaced is read anew. Empty: no TLS.",
    )
    SMTPD_TLS_KEY: str = setting(
        "", "PEM file with the private key of SMTPD_TLS_CERT. Empty: the key is in the same file."
    )
    SMTPD_PROCESSES: int = setting(0, "Processes of one smtpd.py. 0: as for API_PROCESSES.", least=0, most=64)
    SMTPD_CONNECTIONS: int = setting(
        2500,
        "Most connections of one process of smtpd.py. Beyond it the process closes one that has been idle, of the "
        "address that has the most. Each needs a file (ulimit -n, LimitNOFILE).",
        least=1,
        most=100_000,
    )
    SMTPD_CONNECTIONS_PER_ADDRESS: int = setting(
        1000,
        "Most connections from one client address (of IPv6, one /64) to one process of smtpd.py.",
        least=1,
        most=100_000,
    )
    SMTPD_BUFFER_SIZE: int = setting(
        134_217_728,
        "Memory of one process of smtpd.py for messages that are being received; at least MAX_MESSAGE_SIZE. Beyond it "
        "messages get 452.",
        least=1_000_000,
        most=1_000_000_000_000,
    )
    SMTPD_BARE_NEWLINES: Literal["refuse", "normalise"] = setting(
        "refuse",
        "What the SMTP door does with a message that has a CR or LF alone, or NUL: refuse it with 550, or "
        "normalise it: each CR or LF alone becomes CR LF, and NUL is removed. Neither ends the message.",
    )
