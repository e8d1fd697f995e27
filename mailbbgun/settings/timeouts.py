"""How long each phase of an SMTP dialogue may take: the shape and the defaults of the setting ``SMTP_TIMEOUTS``."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SMTPTimeouts:
    """Seconds each phase may take, all told, however the server spreads its octets.

    RFC 5321 §4.5.3.2 asks for 5, 5, 5, 2, 3 and 10 minutes; the defaults are shorter, since a retry costs less than a held worker.
    """

    connect: float = 30.0
    banner: float = 60.0
    ehlo: float = 60.0
    tls: float = 30.0
    auth: float = 60.0
    mail: float = 60.0
    rcpt: float = 60.0
    data: float = 60.0
    body: float = 180.0
    dot: float = 300.0
    rset: float = 20.0
    quit: float = 5.0
