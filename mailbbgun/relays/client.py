"""A session with one server that carries message after message."""

import contextlib
from collections.abc import Callable
from time import monotonic

from mailbbgun.smtp.endpoint import Endpoint, Timeouts
from mailbbgun.smtp.envelope import Envelope
from mailbbgun.smtp.opening import Session, open_session
from mailbbgun.smtp.outcome import AnsweringServer, Outcome, Phase, TooMany
from mailbbgun.smtp.transaction import AfterDot, BeforeDot, SMTPTransaction
from mailbbgun.smtp.wire import Dropped, WireError

#: Seconds of rest after which a connection is asked by RSET whether it still lives: firewalls
#: forget idle lines.
PAUSE = 1.0


class SMTPConnection:
    """An open session. Used by one thread at a time.

    `usable`: whether it can take a further message. `sent`: transactions begun. `opened`,
    `last_used`: by the clock it was opened with. `server`: who is at the other end. `extensions`:
    what it offers. `tls`: whether the line is encrypted.
    """

    __slots__ = (
        "_clock",
        "_halfway",
        "_session",
        "_timeouts",
        "endpoint",
        "last_used",
        "opened",
        "sent",
        "server",
        "usable",
    )

    def __init__(self, endpoint: Endpoint, session: Session, timeouts: Timeouts, clock: Callable[[], float]) -> None:
        self.endpoint = endpoint
        self.server = AnsweringServer(endpoint.host, session.wire.ip)
        self._session = session
        self._timeouts = timeouts
        self._clock = clock
        self.usable = True
        self.sent = 0
        self._halfway = False  # whether the server may still be in the transaction before
        self.opened = self.last_used = clock()

    @classmethod
    def open(
        cls, endpoint: Endpoint, helo: str, timeouts: Timeouts, clock: Callable[[], float] = monotonic
    ) -> "SMTPConnection":
        """Connects, greets, authenticates.

        Raises `opening.CannotOpen`, whose `outcome` says what became of it.
        """
        return cls(endpoint, open_session(endpoint, helo, timeouts), timeouts, clock)

    @property
    def extensions(self) -> dict[str, str]:
        return self._session.extensions

    @property
    def tls(self) -> bool:
        return self._session.wire.tls

    def send(self, envelope: Envelope, before_dot: BeforeDot, after_dot: AfterDot) -> dict[str, Outcome | TooMany]:
        """One transaction; an outcome for every recipient.

        Raises `transaction.Stale` if this connection had sent before and proves dead: repeat on a
        fresh one. What the two functions raise passes through, with the connection reset.
        """
        reset = self.sent > 0 and (self._halfway or self._clock() - self.last_used > PAUSE)
        transaction = SMTPTransaction(self._session, self._timeouts, envelope, reused=self.sent > 0, reset=reset)
        self.sent += 1
        self.usable = False
        try:
            outcomes = transaction.run(before_dot, after_dot)
            self.usable, self._halfway = not transaction.broken, transaction.halfway
        finally:
            self.last_used = self._clock()
            if not self.usable:
                self.abort()
        return outcomes

    def alive(self) -> bool:
        """Whether a kept connection is still open and the server has said nothing (such as a 421)
        meanwhile.
        """
        try:
            return self.usable and not self._session.wire.has_unasked_reply(Phase.RSET)
        except Dropped:
            return False

    def send_quit(self) -> None:
        """The first half of `quit`, which does not wait: several connections can be closed in the
        time of one.
        """
        if self.usable:
            with contextlib.suppress(WireError):  # hung up already: there is nobody to say it to
                self._session.wire.write(b"QUIT\r\n", Phase.QUIT, monotonic() + self._timeouts.quit)

    def await_quit_reply(self, deadline: float) -> None:
        """The second half: waits for the 221 until `deadline` (monotonic) and closes (RFC 5321
        §4.1.1.10).
        """
        if self.usable:
            with contextlib.suppress(WireError):  # the answer changes nothing; we only owe the server the wait
                self._session.wire.read_reply(Phase.QUIT, deadline)
        self.usable = False
        self._session.wire.close()

    def quit(self) -> None:
        """Ends the session in good order, within `Timeouts.quit` seconds."""
        self.send_quit()
        self.await_quit_reply(monotonic() + self._timeouts.quit)

    def abort(self) -> None:
        """Resets the connection without a word. Safe to repeat."""
        self.usable = False
        self._session.wire.abort()
