"""The outgoing HTTP client: one POST to a URL that a tenant names."""

import http.client
import ssl
import threading
import time
from collections import deque
from collections.abc import Mapping
from functools import lru_cache, partial
from typing import Literal, NamedTuple, Self

from urllib3.exceptions import HTTPError

from mailbbgun import __version__
from mailbbgun.core.errors import ConfigurationError, NotPermitted
from mailbbgun.core.net import Allowed, Guard
from mailbbgun.outgoing.connections import Plain, Secure, connection
from mailbbgun.outgoing.exchange import HTTPExchange, request
from mailbbgun.outgoing.look_up import LookUps
from mailbbgun.outgoing.urls import WEB_PORTS, Target, target

#: Most bytes of an answer's body that are kept, unless the caller wants another size.
KEPT = 4096
#: Seconds for which an unused connection is kept open, and most unused connections of one host.
IDLE_SECONDS, IDLE_OF_HOST = 20.0, 8
#: Most unused connections of all hosts.
MOST_IDLE = 256
#: Bytes of a longer body that are read and thrown away, so that its connection can be used again.
_DRAINED = 65_536
#: URLs whose parts are remembered.
_TARGETS = 256

Why = Literal["dns", "connect", "tls", "timeout", "broken"]


class HTTPAnswer(NamedTuple):
    """The answer to a request."""

    status: int
    headers: Mapping[str, str]  # names in lower case
    body: bytes  # its beginning
    seconds: float


class NoHTTPAnswer(Exception):
    """There is no answer. ``why`` is the step that failed; the text is for people, without secrets.

    ``sent``: the server may have taken the request all the same.
    """

    def __init__(self, why: Why, text: str, seconds: float, *, sent: bool) -> None:
        super().__init__(text)
        self.why, self.seconds, self.sent = why, seconds, sent


class _Idle(NamedTuple):
    connection: Plain | Secure
    since: float


class HTTPClient:
    """Sends requests to permitted hosts, and keeps connections open for the next. Thread-safe.

    It follows no redirect, uses no proxy of the environment, and keeps no cookies.
    """

    def __init__(self, guard: Guard, ca_file: str = "") -> None:
        """``ca_file``: a PEM file of authorities to trust; empty: the system's. Raises :class:`ConfigurationError`."""
        self.guard = guard
        self._look_ups = LookUps(guard)
        # An address is judged when it is connected to; this is only about the text, which stays the same.
        self._target = lru_cache(_TARGETS)(partial(target, guard=guard))
        try:
            self._context = ssl.create_default_context(cafile=ca_file or None)
        except OSError as error:  # ssl.SSLError is one
            raise ConfigurationError(f"HTTP_CA_FILE: {ca_file} cannot be read: {error}") from error
        self._lock = threading.Lock()
        self._idle: dict[tuple[bool, str, int], deque[_Idle]] = {}
        self._idle_count = 0

    @classmethod
    def permitting(cls, private_hosts: tuple[str, ...], ca_file: str = "") -> Self:
        """Return a client for public hosts and those of ALLOW_PRIVATE_HOSTS."""
        return cls(Guard(WEB_PORTS, Allowed.read(private_hosts)), ca_file)

    def post(
        self,
        url: str,
        body: bytes,
        headers: Mapping[str, str],
        timeout: float,
        *,
        keep: int = KEPT,
        repeatable: bool = False,
    ) -> HTTPAnswer:
        """Send a POST and return the answer, with at most ``keep`` bytes of its body, within ``timeout`` seconds.

        ``repeatable``: the receiver recognizes a request that comes twice. If a kept connection turns out to be
        closed, such a request is sent again over a new one.

        Raises :class:`InvalidInput` for a URL that is none, :class:`NotPermitted` for a host that we do not connect
        to, and :class:`NoHTTPAnswer`.
        """
        began = time.monotonic()
        wanted = self._target(url)
        given = {"User-Agent": f"Mail-BB-Gun/{__version__}", "Accept-Encoding": "identity", **headers}
        kept = self._kept(wanted)
        if kept is not None:
            try:
                return self._exchange(kept, wanted, body, given, began, timeout, keep)
            except NoHTTPAnswer as failure:
                if failure.why != "broken" or not repeatable:
                    raise
        new = connection(wanted, self.guard, self._look_ups, self._context)
        return self._exchange(new, wanted, body, given, began, timeout, keep)

    def close(self) -> None:
        """Close all unused connections."""
        with self._lock:
            waiting = [one for those in self._idle.values() for one in those]
            self._idle, self._idle_count = {}, 0
        for one in waiting:
            one.connection.close()

    def _exchange(
        self,
        used: Plain | Secure,
        wanted: Target,
        body: bytes,
        headers: Mapping[str, str],
        began: float,
        timeout: float,
        keep: int,
    ) -> HTTPAnswer:
        exchange, connected = HTTPExchange(keep, _DRAINED), False
        try:
            sent = request(wanted, body, headers)
            used.until(began + timeout)
            if used.sock is None:
                used.connect()
            connected = True
            exchange.run(used.sock, sent, began + timeout)
            return HTTPAnswer(exchange.status, exchange.headers, exchange.body, time.monotonic() - began)
        except NotPermitted:
            exchange.reusable = False
            raise
        except (OSError, HTTPError, http.client.HTTPException, UnicodeError) as error:
            exchange.reusable = False
            raise _no_answer(error, wanted, time.monotonic() - began, timeout, sent=connected) from error
        finally:
            if exchange.reusable:
                self._keep(wanted, used)
            else:
                used.close()

    def _kept(self, wanted: Target) -> Plain | Secure | None:
        """Return a connection that is open and unused; None if there is none."""
        oldest = time.monotonic() - IDLE_SECONDS
        key = wanted[:3]
        while True:
            with self._lock:
                waiting = self._idle.get(key)
                if not waiting:
                    self._idle.pop(key, None)
                    return None
                one = waiting.pop()
                self._idle_count -= 1
            if one.since >= oldest and one.connection.is_connected:
                return one.connection
            one.connection.close()

    def _keep(self, wanted: Target, used: Plain | Secure) -> None:
        now = time.monotonic()
        closing = []
        with self._lock:
            waiting = self._idle.setdefault(wanted[:3], deque())
            waiting.append(_Idle(used, now))
            self._idle_count += 1
            while len(waiting) > IDLE_OF_HOST or waiting[0].since < now - IDLE_SECONDS:
                closing.append(waiting.popleft())
                self._idle_count -= 1
            if self._idle_count > MOST_IDLE:
                closing += self._forget_idle(now)
        for one in closing:
            one.connection.close()

    def _forget_idle(self, now: float) -> list[_Idle]:
        """Give up connections that are too old; if that leaves too many, those of the host used least lately."""
        closing = []
        for key in sorted(self._idle, key=lambda one: self._idle[one][-1].since):
            waiting = self._idle[key]
            while waiting and (waiting[0].since < now - IDLE_SECONDS or self._idle_count > MOST_IDLE):
                closing.append(waiting.popleft())
                self._idle_count -= 1
            if not waiting:
                del self._idle[key]
        return closing


def _no_answer(error: Exception, wanted: Target, seconds: float, timeout: float, *, sent: bool) -> NoHTTPAnswer:
    """Return our error for one of urllib3, of ``http.client``, of TLS or of the system."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, OSError | http.client.HTTPException | UnicodeError):
        cause = cause.__cause__ or cause.__context__ or next((a for a in cause.args if isinstance(a, OSError)), None)
    where = f"{wanted.host} port {wanted.port}"
    if isinstance(cause, TimeoutError):
        step = "had not answered" if sent else "could not be connected to"
        return NoHTTPAnswer("timeout", f"{where} {step} after {timeout:g} seconds", seconds, sent=sent)
    if isinstance(cause, ssl.SSLCertVerificationError):
        return NoHTTPAnswer(
            "tls", f"{where}: its certificate is not accepted: {cause.verify_message}", seconds, sent=False
        )
    if isinstance(cause, ssl.SSLError) and not sent:
        return NoHTTPAnswer("tls", f"{where}: TLS failed: {cause.reason or 'no TLS spoken'}", seconds, sent=False)
    if (not sent and isinstance(cause, UnicodeError)) or type(cause).__name__ == "gaierror":
        return NoHTTPAnswer("dns", f"{wanted.host} was not found in the DNS", seconds, sent=False)
    said = getattr(cause, "strerror", None) or type(cause or error).__name__
    if not sent:
        return NoHTTPAnswer("connect", f"{where} cannot be connected to: {said}", seconds, sent=False)
    return NoHTTPAnswer(
        "broken", f"{where} closed the connection, or its answer is no HTTP: {said}", seconds, sent=True
    )
