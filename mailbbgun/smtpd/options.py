"""What the operator decides about the door. ``main.py`` makes this of the settings."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class DoorOptions:
    """Where to listen, and the limits of one process. Of a port, None is off, and 0 is any free one."""

    host: str = "127.0.0.1"
    #: Submission with AUTH; STARTTLS is offered if there is a certificate.
    port: int | None = 2525
    #: Submission with TLS from the first byte; needs a certificate.
    tls_port: int | None = None
    #: Mail to local domains, from anybody.
    mx_port: int | None = None
    #: PEM files. Both or none.
    certificate: Path | None = None
    key: Path | None = None
    #: Whether several processes listen on the same ports (SO_REUSEPORT).
    reuse_port: bool = False
    #: Connections at once, of all clients and of one network.
    connections: int = 2500
    connections_per_network: int = 2500
    #: Connections a minute of one network at the MX port.
    connections_per_minute: int = 600
    #: Octets of messages that are on their way at once, of all clients.
    in_flight: int = 256_000_000
    #: Whether a bare CR or LF in a message becomes CRLF; otherwise such a message is refused.
    normalise_newlines: bool = False
