"""The limits of one API process: connections, bytes and seconds that clients may use."""

import resource
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from mailbbgun.core.errors import ConfigurationError
from mailbbgun.settings.settings import Settings

#: Bytes of a request that the poller may serve itself. Also how many bytes are read at once.
SMALL = 65_536

#: Bytes that may be kept for each connection without being counted. The rest of all connections is
#: bounded.
FREE = 4096

#: Bytes of a request's head, all lines together.
LONGEST_HEAD = 65_536

#: Bytes of a response to hand to the kernel at once.
SENT_AT_ONCE = 262_144

#: Bytes a second. A slower body or response counts as stalled. It is a line of 33 kbit/s.
SLOWEST_RATE = 4096

#: Seconds that a client may go on sending after we have closed our side. We read these bytes, or
#: the client might not get the response (RFC 9112 §9.6). When the server stops, unfinished requests
#: get the same time.
LINGER_SECONDS = 2.0

#: File descriptors a process needs besides its connections: database, queue, logs, journals.
OTHER_FILES = 256

#: Bytes of an unsent response that the kernel keeps for one connection.
KERNEL_BUFFER = 131_072


class Stage(Enum):
    """What a connection waits for: its client, or us (SERVED)."""

    NEW = auto()  # the client has sent nothing yet
    IDLE = auto()  # its last request is answered
    HEAD = auto()  # a part of a head has come
    BODY = auto()  # a part of a body has come
    ANSWER = auto()  # the client has not read all of the response
    CLOSING = auto()  # our side is closed; bytes that the client still sends are discarded
    SERVED = auto()  # we are working on its request
    CLOSED = auto()


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """The limits of one process. Times are seconds, sizes are bytes."""

    connections: int
    connections_per_address: int | None
    buffers: int  # requests and responses on their way, all together
    body: int
    spools: int  # uploads on their way, in files, all together
    discarded: int  # of a body that comes after the response that refuses it
    transfer: float  # for one body, or one response
    seconds: Mapping[Stage, float]  # in each stage, without progress

    @property
    def pace(self) -> int:
        """Bytes of a body or response that must move in its stage's seconds.

        Then it gets as many more.
        """
        return int(SLOWEST_RATE * self.seconds[Stage.BODY])


def limits_of(settings: Settings, keepalive: float) -> ServerLimits:
    """Return the limits that the settings ask for.

    ``keepalive``: gunicorn's seconds of an idle connection.
    """
    stalled = float(settings.API_STALL_SECONDS)
    head = float(settings.API_HEAD_SECONDS)
    return ServerLimits(
        connections=settings.API_CONNECTIONS,
        # Behind proxies, all clients have the proxies' addresses.
        connections_per_address=None if settings.PROXIES else settings.API_CONNECTIONS_PER_ADDRESS,
        buffers=max(settings.API_BUFFER_SIZE, 2 * settings.MAX_BODY_SIZE),
        body=settings.MAX_BODY_SIZE,
        spools=settings.API_SPOOL_SIZE,
        discarded=settings.max_upload_size + SMALL,
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
    """Raise this process's limit of open files to fit so many connections. Return how many fit."""
    wanted = connections + OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        more = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        with suppress(OSError):  # a sandbox forbids it: then the limit stays as it is
            resource.setrlimit(resource.RLIMIT_NOFILE, (more, hard))
            soft = more
    return connections if soft == resource.RLIM_INFINITY else max(min(connections, soft - OTHER_FILES), 16)


def check_gunicorn(cfg: Any) -> None:
    """Refuse settings of gunicorn that this worker does not support.

    Raises :class:`ConfigurationError`.
    """
    if cfg.is_ssl:
        raise ConfigurationError(
            "gunicorn's certfile and keyfile: this server speaks no TLS; "
            "put a proxy such as nginx in front that does, and set PROXIES=1"
        )
    if cfg.http2_cleartext != "off" or "h2" in cfg.http_protocols:
        raise ConfigurationError(
            "gunicorn's http_protocols and http2_cleartext: this server speaks no HTTP/2; "
            "put a proxy such as nginx in front that does"
        )
    if cfg.proxy_protocol != "off":
        raise ConfigurationError(
            "gunicorn's proxy_protocol: not supported; let the proxy send X-Forwarded-For, and set PROXIES=1"
        )
    if cfg.protocol != "http":
        raise ConfigurationError(
            f"gunicorn's protocol: {cfg.protocol} is not supported; let the proxy speak HTTP to this server"
        )
