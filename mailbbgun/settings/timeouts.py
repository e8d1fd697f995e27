"""The type and the defaults of the setting ``SMTP_TIMEOUTS``."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SMTPTimeouts:
    """Seconds that each phase may take as a whole, however slowly the server sends its octets.

    RFC 5321 §4.5.3.2 asks for 2 to 10 minutes. The defaults are shorter, because a retry costs less
    than a worker that waits.
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
