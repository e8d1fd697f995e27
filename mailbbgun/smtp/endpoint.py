"""The values that describe a connection: the server, how it is secured, and the time limits."""

import functools
import os
import ssl
from dataclasses import dataclass, field
from typing import Literal

from mailbbgun.core.net import Guard, LookUp, system_look_up
from mailbbgun.settings.timeouts import SMTPTimeouts

#: none: no encryption. opportunistic: STARTTLS if the server offers it, without checking the
#: certificate, else no encryption (RFC 7435). starttls: STARTTLS is required (RFC 3207). tls: TLS
#: from the first byte (RFC 8314 §3.3). The last two check the certificate and the host name.
Security = Literal["none", "opportunistic", "starttls", "tls"]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One server to send mail through. Hashable: it is the key of kept connections.

    `host` is the name the certificate must carry. `addresses` are the IP addresses to connect to;
    if empty, the system resolves `host`. `ca_file` and `ca_data` (PEM) replace the system's
    certificate authorities. `verify=False` turns off the certificate check of starttls and tls.
    With a `username` the session must authenticate; if it cannot, the outcome is Refused.

    A server that a tenant named has a `guard`: it resolves the host and permits or forbids its
    addresses. Such an endpoint has no `addresses` (else ValueError), and its `host` must be in the
    form that `net.hostname` returns, because certificates are compared with that form.
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
    _hash: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.guard is not None and self.addresses:
            raise ValueError("a guard chooses the addresses itself")
        # Looked up for each message. Those that differ only in what is left out are rare.
        object.__setattr__(self, "_hash", hash((self.host, self.port, self.security, self.username, self.addresses)))

    def __hash__(self) -> int:
        return self._hash

    @property
    def look_up(self) -> LookUp:
        """What finds the addresses of `host`: the guard, or else the system's resolver."""
        return system_look_up if self.guard is None else self.guard.addresses

    def tls_context(self) -> ssl.SSLContext:
        """Return the TLS context of this endpoint.

        Raises OSError if `ca_file` cannot be read, or if `ca_file` or `ca_data` holds no
        certificate.
        """
        if self.security == "opportunistic" or not self.verify:
            return _unchecked()
        return _checked(self.ca_file, os.stat(self.ca_file).st_mtime_ns if self.ca_file else 0, self.ca_data)


@dataclass(frozen=True, slots=True)
class Timeouts(SMTPTimeouts):
    """Time limits in seconds of each phase, some of which depend on the mail.

    The message data may take `body` seconds plus its size divided by `min_rate` (octets per
    second), and each block of it `body` seconds.
    """

    min_rate: float = 500.0

    def recipients(self, count: int) -> float:
        """Return the seconds for all RCPT replies of a transaction.

        The first recipient gets `rcpt` seconds, each further one a twentieth of that.
        """
        return self.rcpt * (1 + (count - 1) / 20)

    def transfer(self, size: int) -> float:
        """Return the seconds for `size` octets of message data."""
        return self.body + size / self.min_rate

    def dialogue(self, count: int, size: int) -> float:
        """Return the seconds from connect to the reply to the dot if every phase takes its limit.

        `count` is the number of recipients, `size` the octets of message data.
        """
        opening = self.connect + self.banner + self.ehlo + self.tls + self.auth
        return opening + self.mail + self.recipients(count) + self.data + self.transfer(size) + self.dot


# Making a context parses all authorities, which takes milliseconds. Threads may share a context.
@functools.lru_cache(maxsize=64)
def _checked(ca_file: str | None, modified: int, ca_data: str | None) -> ssl.SSLContext:
    del modified  # only part of the cache key: a renewed file is read again
    return ssl.create_default_context(cafile=ca_file, cadata=ca_data)


@functools.lru_cache(maxsize=1)
def _unchecked() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
