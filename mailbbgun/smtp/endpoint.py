"""Where to connect, how far to trust the line, and how long to wait: values that are handed in."""

import functools
import os
import ssl
from dataclasses import dataclass, field
from typing import Literal

from mailbbgun.core.net import Guard
from mailbbgun.settings.timeouts import SMTPTimeouts

#: none: in clear. opportunistic: STARTTLS if offered, unchecked, else in clear (RFC 7435).
#: starttls: STARTTLS or nothing (RFC 3207). tls: TLS from the first byte (RFC 8314 §3.3). The last
#: two check certificate and host name.
Security = Literal["none", "opportunistic", "starttls", "tls"]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One server to hand mail to. Hashable: connections are kept by it.

    `addresses` are the IP addresses to connect to; empty means whatever the system resolves `host`
    to. Pass them where they were chosen elsewhere (MX). `host` is the name the certificate must
    carry. `ca_file` and `ca_data` (PEM) replace the system's authorities. `verify=False` gives up
    the certificate check of starttls and tls. With a `username` the session authenticates or is
    Refused.

    A server that a tenant named has a `guard`, which looks the host up and says which addresses are
    connected to; so it has no `addresses` (else ValueError). Give `host` as `net.hostname` returns
    it: so it is looked for in certificates.
    """

    host: str
    port: int = 25
    security: Security = "opportunistic"
    username: str | None = None
    password: str = field(default="", repr=False)
    addresses: tuple[str, ...] = ()
    ca_file: str | None = None
    ca_data: str | None = None
    verify: bool = True
    guard: Guard | None = None

    def __post_init__(self) -> None:
        if self.guard is not None and self.addresses:
            raise ValueError("a guard chooses the addresses itself")

    def tls_context(self) -> ssl.SSLContext:
        """The TLS rules of this endpoint.

        Raises OSError if `ca_file` cannot be read, or holds no certificate, or `ca_data` none.
        """
        if self.security == "opportunistic" or not self.verify:
            return _unchecked()
        return _checked(self.ca_file, os.stat(self.ca_file).st_mtime_ns if self.ca_file else 0, self.ca_data)


@dataclass(frozen=True, slots=True)
class Timeouts(SMTPTimeouts):
    """The seconds of each phase, and what depends on the mail.

    Message data has `body` seconds plus its size divided by `min_rate` (octets per second).
    """

    min_rate: float = 500.0

    def recipients(self, count: int) -> float:
        """Seconds for all RCPT replies of a transaction:

        `rcpt` for the first, a twentieth for each further one.
        """
        return self.rcpt * (1 + (count - 1) / 20)

    def transfer(self, size: int) -> float:
        """Seconds for `size` octets of message data."""
        return self.body + size / self.min_rate

    def dialogue(self, count: int, size: int) -> float:
        """Seconds from connect to the answer to the dot, for `count` recipients and `size` octets,
        every phase at its limit.
        """
        opening = self.connect + self.banner + self.ehlo + self.tls + self.auth
        return opening + self.mail + self.recipients(count) + self.data + self.transfer(size) + self.dot


# Contexts cost milliseconds (the authorities are parsed) and are safe to share between threads.
@functools.lru_cache(maxsize=64)
def _checked(ca_file: str | None, modified: int, ca_data: str | None) -> ssl.SSLContext:
    del modified  # only part of the key: a renewed file is read again
    return ssl.create_default_context(cafile=ca_file, cadata=ca_data)


@functools.lru_cache(maxsize=1)
def _unchecked() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
