"""HTTP connections to judged addresses, whose every step ends before a deadline."""

import socket
import ssl
import time

from urllib3.connection import HTTPConnection, HTTPSConnection

from mailbbgun.core.net import Guard
from mailbbgun.outgoing.look_up import LookUps
from mailbbgun.outgoing.urls import Target

#: Seconds that one of several addresses may take to connect, unless it is the last.
ONE_ADDRESS = 3.0


def left(deadline: float) -> float:
    """Return how many seconds are left until a moment of ``time.monotonic``. Raises ``TimeoutError`` at its end."""
    seconds = deadline - time.monotonic()
    if seconds <= 0:
        raise TimeoutError("timed out")
    return seconds


class _Judged(HTTPConnection):
    """A connection that leads only to addresses the guard permits. It is not thread-safe."""

    def judge(self, guard: Guard, look_ups: LookUps) -> None:
        """Set who judges the addresses. Call it before the connection is made."""
        self._guard, self._look_ups = guard, look_ups

    def until(self, deadline: float) -> None:
        """Let the next request and its answer end at a moment of ``time.monotonic``."""
        self._deadline = deadline
        self.timeout = left(deadline)
        if self.sock is not None:
            self.sock.settimeout(self.timeout)

    def _new_conn(self) -> socket.socket:
        """Resolve the host once, and connect to one of its permitted addresses."""
        addresses = self._look_ups.addresses(self.host, self.port, left(self._deadline))
        for address in addresses[:-1]:
            try:
                return self._connected(address, min(ONE_ADDRESS, left(self._deadline)))
            except OSError:  # the next address may answer
                continue
        return self._connected(addresses[-1], left(self._deadline))

    def _connected(self, address: str, seconds: float) -> socket.socket:
        sock = socket.create_connection((address, self.port), seconds)
        try:
            self._guard.check_peer(self.host, self.port, sock.getpeername()[0], sock.getsockname()[0])
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.settimeout(left(self._deadline))  # of the TLS handshake as a whole, then of the request
        except BaseException:
            sock.close()
            raise
        return sock


class Plain(_Judged):
    """A connection without TLS."""


class Secure(_Judged, HTTPSConnection):
    """A connection with TLS, whose certificate must be the host's."""


def connection(target: Target, guard: Guard, look_ups: LookUps, context: ssl.SSLContext) -> Plain | Secure:
    """Return a new connection, not yet made. Call :meth:`Plain.until` before each request."""
    made: Plain | Secure
    if target.secure:
        made = Secure(target.host, target.port, ssl_context=context, cert_reqs=ssl.CERT_REQUIRED)
    else:
        made = Plain(target.host, target.port)
    made.judge(guard, look_ups)
    return made
