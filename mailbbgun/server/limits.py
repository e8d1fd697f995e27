"""What one API process grants its clients: how many connections, how many bytes, how many seconds."""

import resource
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from mailbbgun.core.errors import ConfigurationError
from mailbbgun.settings.settings import Settings

#: Bytes of a request that the poller may serve itself, and of input kept unread for the next request.
SMALL = 65_536

#: Bytes that may be kept for a connection without being counted; all others together are bounded.
FREE = 4096

#: Bytes of a request's head, all lines together.
LONGEST_HEAD = 65_536

#: Bytes a second below which a body or an answer counts as stalled: a line of 33 kbit/s.
SLOWEST_RATE = 4096

#: Seconds a connection that we have closed may go on sending; they are read, or the client would not see the answer
#: (RFC 9112 §9.6). A stopping server grants unfinished requests the same.
LINGER_SECONDS = 2.0

#: File descriptors a process needs besides its connections: database, queue, logs, journals.
OTHER_FILES = 256

#: Bytes of an unsent answer that the kernel keeps for one connection.
KERNEL_BUFFER = 131_072


class Stage(Enum):
    """Whom a connection waits for."""

    NEW = auto()  # its client has sent nothing yet
    IDLE = auto()  # its last request is answered
    HEAD = auto()  # a part of a head has come
    BODY = auto()  # a part of a body has come
    ANSWER = auto()  # its client has not read all of the answer
    CLOSING = auto()  # our side is closed; what the client still sends is thrown away
    SERVED = auto()  # it waits for us
    CLOSED = auto()


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """Bounds of one process; times are seconds, sizes are bytes."""

    connections: int
    connections_per_address: int | None
    buffers: int  # requests and answers on their way, all together
    body: int
    transfer: float  # one body, or one answer, at the most
    seconds: Mapping[Stage, float]

    @property
    def pace(self) -> int:
        """What a body or an answer must move within its stage's seconds to get as many more."""
        return int(SLOWEST_RATE * self.seconds[Stage.BODY])


def limits_of(settings: Settings, keepalive: float) -> ServerLimits:
    """Return the limits that the settings ask for. ``keepalive`` is gunicorn's: seconds an idle connection is kept."""
    stalled = float(settings.API_STALL_SECONDS)
    head = float(settings.API_HEAD_SECONDS)
    return ServerLimits(
        connections=settings.API_CONNECTIONS,
        # Behind proxies all clients have the proxies' addresses.
        connections_per_address=None if settings.PROXIES else settings.API_CONNECTIONS_PER_ADDRESS,
        buffers=max(settings.API_BUFFER_SIZE, 2 * settings.MAX_BODY_SIZE),
        body=settings.MAX_BODY_SIZE,
        transfer=float(settings.API_TRANSFER_SECONDS),
        seconds={
            Stage.NEW: head,
            Stage.IDLE: keepalive,
            Stage.HEAD: head,
            Stage.BODY: stalled,
            Stage.ANSWER: stalled,
            Stage.CLOSING: LINGER_SECONDS,
        },
    )


def permit_files(connections: int) -> int:
    """Let this process open enough files for so many connections; return how many connections that are in the end."""
    wanted = connections + OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        more = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        with suppress(OSError):  # a sandbox forbids it: then it stays as it is
            resource.setrlimit(resource.RLIMIT_NOFILE, (more, hard))
            soft = more
    return connections if soft == resource.RLIM_INFINITY else max(min(connections, soft - OTHER_FILES), 16)


def check_gunicorn(cfg: Any) -> None:
    """Refuse settings of gunicorn's that this worker does not serve. Raises :class:`ConfigurationError`."""
    if cfg.is_ssl:
        raise ConfigurationError(
            "gunicorn's certfile and keyfile: this server speaks no TLS; put a proxy such as nginx in front that does, and set PROXIES=1"
        )
    if cfg.http2_cleartext != "off" or "h2" in cfg.http_protocols:
        raise ConfigurationError(
            "gunicorn's http_protocols and http2_cleartext: this server speaks no HTTP/2; put a proxy such as nginx in front that does"
        )
    if cfg.proxy_protocol != "off":
        raise ConfigurationError(
            "gunicorn's proxy_protocol: not supported; let the proxy send X-Forwarded-For, and set PROXIES=1"
        )
    if cfg.protocol != "http":
        raise ConfigurationError(
            f"gunicorn's protocol: {cfg.protocol} is not supported; let the proxy speak HTTP to this server"
        )
