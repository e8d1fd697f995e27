"""A session with one server that carries one message after another."""

import contextlib
from collections.abc import Callable
from time import monotonic

from mailbbgun.counters.counters import PhaseTimer
from mailbbgun.smtp.endpoint import Endpoint, Timeouts
from mailbbgun.smtp.envelope import Envelope
from mailbbgun.smtp.opening import Session, open_session
from mailbbgun.smtp.outcome import AnsweringServer, Outcome, Phase, TooMany
from mailbbgun.smtp.transaction import AfterDot, BeforeDot, SMTPTransaction
from mailbbgun.smtp.wire import Dropped, WireError

#: Seconds without use after which RSET is sent first, to see whether the connection still works:
#: firewalls forget idle connections.
PAUSE = 1.0


class SMTPConnection:
    """An open session. Used by one coroutine at a time.

    `usable`: whether it can carry another message. `sent`: the number of transactions begun.
    `opened`, `last_used`: times of the clock it was opened with. `server`: the server's name and
    address. `extensions`: what the server offers. `tls`: whether the connection is encrypted.
    """

    __slots__ = (
        "_clock",
        "_halfway",
        "_session",
        "_timeouts",
        "_timer",
        "endpoint",
        "last_used",
        "opened",
        "sent",
        "server",
        "usable",
    )

    def __init__(
        self,
        endpoint: Endpoint,
        session: Session,
        timeouts: Timeouts,
        clock: Callable[[], float],
        timer: PhaseTimer | None = None,
    ) -> None:
        self._timer = timer
        self.endpoint = endpoint
        self.server = AnsweringServer(endpoint.host, session.wire.ip)
        self._session = session
        self._timeouts = timeouts
        self._clock = clock
        self.usable = True
        self.sent = 0
        self._halfway = False  # whether the server may still be in the last transaction
        self.opened = self.last_used = clock()

    @classmethod
    async def open(
        cls,
        endpoint: Endpoint,
        helo: str,
        timeouts: Timeouts,
        clock: Callable[[], float] = monotonic,
        timer: PhaseTimer | None = None,
    ) -> "SMTPConnection":
        """Connect, greet and authenticate. ``timer`` times the replies, if given.

        Raises `opening.CannotOpen`; its `outcome` is the outcome for the mail.
        """
        return cls(endpoint, await open_session(endpoint, helo, timeouts, timer), timeouts, clock, timer)

    @property
    def extensions(self) -> dict[str, str]:
        return self._session.extensions

    @property
    def tls(self) -> bool:
        return self._session.wire.tls

    async def send(
        self, envelope: Envelope, before_dot: BeforeDot, after_dot: AfterDot
    ) -> dict[str, Outcome | TooMany]:
        """Run one transaction; return the outcome of every recipient.

        Raises `transaction.Stale` if this connection has sent before and is dead now: repeat over a
        fresh one. What the two functions raise passes through, after the connection is reset.
        """
        reset = self.sent > 0 and (self._halfway or self._clock() - self.last_used > PAUSE)
        transaction = SMTPTransaction(self._session, self._timeouts, envelope, reused=self.sent > 0, reset=reset)
        self.sent += 1
        self.usable = False
        if self._timer is not None:
            self._timer.begin()
        try:
            outcomes = await transaction.run(before_dot, after_dot)
            self.usable, self._halfway = not transaction.broken, transaction.halfway
        finally:
            self.last_used = self._clock()
            if not self.usable:
                self.abort()
        return outcomes

    def alive(self) -> bool:
        """Return whether the connection is still open and the server has not said anything."""
        try:
            return self.usable and not self._session.wire.has_unasked_reply(Phase.RSET)
        except Dropped:
            return False

    async def send_quit(self) -> None:
        """Send QUIT without waiting, so that several connections can be closed at the same time."""
        if self.usable:
            with contextlib.suppress(WireError):  # the server hung up already
                await self._session.wire.write(b"QUIT\r\n", Phase.QUIT, monotonic() + self._timeouts.quit)

    async def await_quit_reply(self, deadline: float) -> None:
        """Wait for the 221 until `deadline` (monotonic), then close (RFC 5321 §4.1.1.10)."""
        if self.usable:
            with contextlib.suppress(WireError):  # the answer changes nothing; RFC 5321 only asks us to wait
                await self._session.wire.read_reply(Phase.QUIT, deadline)
        self.usable = False
        self._session.wire.close()

    async def quit(self) -> None:
        """End the session in good order, within `Timeouts.quit` seconds."""
        await self.send_quit()
        await self.await_quit_reply(monotonic() + self._timeouts.quit)

    def abort(self) -> None:
        """Reset the connection without QUIT. Safe to repeat."""
        self.usable = False
        self._session.wire.abort()
