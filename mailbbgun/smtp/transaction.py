"""One mail transaction:

MAIL, RCPT, DATA, the message, the dot (RFC 5321 §3.3), pipelined where offered (RFC 2920).
"""

from collections.abc import Callable
from dataclasses import replace
from time import monotonic

from mailbbgun.core.faults import fault
from mailbbgun.smtp.downgrade import downgraded, header_of
from mailbbgun.smtp.endpoint import Timeouts
from mailbbgun.smtp.envelope import Envelope, EnvelopeError, content, path
from mailbbgun.smtp.limits import session_limit, too_many_recipients
from mailbbgun.smtp.opening import Session
from mailbbgun.smtp.outcome import Fenced, Outcome, Phase, TooMany, Unknown, classify
from mailbbgun.smtp.reply import Reply
from mailbbgun.smtp.wire import Closing, Dropped, WireError

#: RCPT commands written before their replies are read: more could fill both directions and block
#: for ever.
GROUP = 100

#: Called with the accepted recipients when all but the final dot is written; True lets the dot go.
BeforeDot = Callable[[tuple[str, ...]], bool]

#: Called with the accepted recipients as soon as the reply to the dot is read. None: it was lost,
#: nobody knows. A reply of code 0: the dot never left.
AfterDot = Callable[[tuple[str, ...], Reply | None], None]

_DOT = b".\r\n"
_AFTER_RCPT = frozenset({Phase.DATA, Phase.BODY, Phase.DOT})


class Stale(Exception):
    """A connection that had carried mail was dead, was closed (421), or had carried all it may.

    This mail was not taken.
    """


class SMTPTransaction:
    """Runs once.

    Afterwards `broken` says whether the session can take another one, `halfway` whether RSET must
    come first.

    `reused`: the session has carried mail. `reset`: begin with RSET (RFC 5321 §4.1.1.5). After an
    answered dot the server has forgotten the transaction (§4.1.1.4) and needs none: it is a command
    and a wait less for each message.
    """

    def __init__(self, session: Session, timeouts: Timeouts, envelope: Envelope, *, reused: bool, reset: bool) -> None:
        self._wire = session.wire
        self._extensions = session.extensions
        self._timeouts = timeouts
        self._envelope = envelope
        self._reused = reused
        self._reset = reset
        self._accepted: list[str] = []
        self._outcomes: dict[str, Outcome | TooMany] = {}
        self.broken = self.halfway = False

    def run(self, before_dot: BeforeDot, after_dot: AfterDot) -> dict[str, Outcome | TooMany]:
        """The outcome for every recipient of the envelope.

        Raises Stale, and what the two functions raise.
        """
        try:
            self._envelope = offered(self._envelope, self._extensions)
            self._check_offer()
            data = content(self._envelope.raw)
            mail, rcpts = self._commands()
        except EnvelopeError as error:
            self._settle(error.outcome)
            return self._outcomes
        if rcpts:
            try:
                self._talk(mail, rcpts, data, before_dot, after_dot)
            except WireError as error:
                self.broken = True
                if self._reused and len(self._outcomes) < len(set(self._envelope.recipients)) and _breaks_off(error):
                    raise Stale(str(error)) from error
                self._settle(self._meaning_of(error))
        return self._outcomes

    def _talk(
        self, mail: bytes, rcpts: dict[str, bytes], data: bytes, before_dot: BeforeDot, after_dot: AfterDot
    ) -> None:
        self.halfway = True
        go_on = self._pipelined(mail, rcpts) if "PIPELINING" in self._extensions else self._stepwise(mail, rcpts)
        if not go_on:
            return
        if not self._accepted:  # RFC 2920 §3.1: DATA was taken though no recipient was; an empty message ends it
            self._wire.write(_DOT, Phase.DATA, monotonic() + self._timeouts.data)
            self._wire.read_reply(Phase.DATA, monotonic() + self._timeouts.data)
        elif self._body(data):
            self._dot(before_dot, after_dot)

    # -- checks before a byte is written

    def _check_offer(self) -> None:
        envelope, offers, size = self._envelope, self._extensions, len(self._envelope.raw)
        limit = offers.get("SIZE", "")
        if limit.isdecimal() and 0 < int(limit[:18]) < size:  # RFC 1870 §6.1; 0 means no fixed limit
            raise EnvelopeError("5.3.4", f"{size} octets are more than the {limit} the server takes", Phase.MAIL)
        if "8BITMIME" not in offers and not envelope.raw.isascii():
            raise EnvelopeError("5.6.3", "the server does not offer 8BITMIME", Phase.MAIL)

    def _commands(self) -> tuple[bytes, dict[str, bytes]]:
        """MAIL, and RCPT for each recipient whose address is sound; the others are settled."""
        envelope, rcpts = self._envelope, {}
        words = [b"MAIL FROM:<%b>" % path(envelope.mail_from, envelope.smtputf8, Phase.MAIL)]
        if "SIZE" in self._extensions:
            words.append(b"SIZE=%d" % len(envelope.raw))
        if not envelope.raw.isascii():
            words.append(b"BODY=8BITMIME")
        if envelope.smtputf8:
            words.append(b"SMTPUTF8")
        for recipient in envelope.recipients:
            try:
                rcpts[recipient] = b"RCPT TO:<%b>\r\n" % path(recipient, envelope.smtputf8, Phase.RCPT)
            except EnvelopeError as error:
                self._outcomes[recipient] = error.outcome
        return b" ".join(words) + b"\r\n", rcpts

    # -- MAIL to DATA; both return whether the server waits for the message

    def _pipelined(self, mail: bytes, rcpts: dict[str, bytes]) -> bool:
        pending, lines = list(rcpts), [b"RSET\r\n", mail] if self._reset else [mail]
        deadline = monotonic() + self._timeouts.recipients(len(rcpts))
        phase = Phase.RSET if self._reset else Phase.MAIL
        mail_ok = False
        while pending:
            group, pending = pending[:GROUP], pending[GROUP:]
            lines += [rcpts[recipient] for recipient in group]
            if not pending:
                lines.append(b"DATA\r\n")
            self._wire.write(b"".join(lines), phase, deadline)
            if phase is not Phase.RCPT:
                mail_ok = self._hear_mail()
            for recipient in group:
                self._hear_rcpt(recipient, deadline)
            if pending and not mail_ok:
                return False
            phase, lines = Phase.RCPT, []
        return self._hear_data()

    def _stepwise(self, mail: bytes, rcpts: dict[str, bytes]) -> bool:
        if self._reset:
            self._wire.write(b"RSET\r\n", Phase.RSET, monotonic() + self._timeouts.rset)
            self._hear_reset()
        self._wire.write(mail, Phase.MAIL, monotonic() + self._timeouts.mail)
        if not self._hear_sender():
            return False
        deadline = monotonic() + self._timeouts.recipients(len(rcpts))
        for recipient, command in rcpts.items():
            self._wire.write(command, Phase.RCPT, deadline)
            self._hear_rcpt(recipient, deadline)
        if not self._accepted:
            return False
        self._wire.write(b"DATA\r\n", Phase.DATA, monotonic() + self._timeouts.data)
        return self._hear_data()

    def _hear_reset(self) -> None:
        reply = self._wire.read_reply(Phase.RSET, monotonic() + self._timeouts.rset)
        if reply.code // 100 != 2:
            raise Dropped(Phase.RSET, reply)

    def _hear_mail(self) -> bool:
        if self._reset:
            self._hear_reset()
        return self._hear_sender()

    def _hear_sender(self) -> bool:
        reply = self._wire.read_reply(Phase.MAIL, monotonic() + self._timeouts.mail)
        if reply.code // 100 == 2:
            return True
        self._settle(self._meaning(Phase.MAIL, reply))
        return False

    def _hear_rcpt(self, recipient: str, deadline: float) -> None:
        reply = self._wire.read_reply(Phase.RCPT, deadline)
        if recipient in self._outcomes:
            return  # MAIL failed: that was the verdict
        if reply.code // 100 == 2:
            self._accepted.append(recipient)
        else:
            self._outcomes[recipient] = self._meaning(Phase.RCPT, reply)

    def _hear_data(self) -> bool:
        reply = self._wire.read_reply(Phase.DATA, monotonic() + self._timeouts.data)
        if reply.code // 100 == 3:
            return True
        self.broken = reply.code // 100 == 2  # neither yes nor no: the two sides are out of step
        self._settle(self._meaning(Phase.DATA, reply))
        return False

    # -- the message

    def _body(self, data: bytes) -> bool:
        """Writes the message; whether the server still waits for the dot."""
        try:
            self._wire.write(data, Phase.BODY, monotonic() + self._timeouts.transfer(len(data)))
            spoke = self._wire.unasked(Phase.BODY)
        except Dropped as error:
            try:
                spoke = self._wire.unasked(Phase.BODY)  # many say why before they hang up
            except Dropped:
                raise error from None
            if not spoke:
                raise
        if spoke:
            self.broken = True
            reply = self._wire.read_reply(Phase.BODY, monotonic() + self._timeouts.rset)
            self._settle(self._meaning(Phase.BODY, reply))
        return not spoke

    def _dot(self, before_dot: BeforeDot, after_dot: AfterDot) -> None:
        accepted = tuple(self._accepted)
        if not before_dot(accepted):
            self.broken = True
            self._wire.abort()
            self._settle(Fenced(Phase.BODY))
            return
        verdict, reply = self._verdict()
        after_dot(accepted, reply)
        if self._reused and reply is not None and reply.code // 100 in (4, 5) and not self.broken:
            verdict = self._meaning(Phase.DOT, reply)  # a definite no: another connection may try
        self._settle(verdict)

    def _verdict(self) -> tuple[Outcome | TooMany, Reply | None]:
        """Sends the dot. What became of the mail, and what to tell `after_dot`."""
        deadline, gone = monotonic() + self._timeouts.dot, False
        try:
            self._wire.write(_DOT, Phase.DOT, deadline)
            gone = True
            fault("dot.sent")
            reply = self._wire.read_reply(Phase.DOT, deadline)
        except WireError as error:
            self.broken = True
            if isinstance(error, Closing) or not (gone or error.handed):
                return self._meaning_of(error), error.reply
            return Unknown(error.reply, Phase.DOT), None
        self.halfway = False
        return classify(Phase.DOT, reply, alone=self._alone(Phase.DOT)), reply

    # -- what came of it

    def _meaning(self, phase: Phase, reply: Reply) -> Outcome | TooMany:
        """What a reply that is no success means.

        Raises Stale where it may mean this connection, which has carried mail.
        """
        crowded = too_many_recipients(reply) and (self._alone(phase) or (phase is Phase.RCPT and not self._accepted))
        if self._reused and (crowded or session_limit(reply)):
            raise Stale(str(reply))
        return classify(phase, reply, alone=self._alone(phase))

    def _meaning_of(self, error: WireError) -> Outcome | TooMany:
        """The same where the session is over: the dot was not sent, or a 421 answered it."""
        splits = isinstance(error, Closing) and too_many_recipients(error.reply) and not self._alone(error.phase)
        return TooMany(error.reply, error.phase) if splits else error.outcome

    def _alone(self, phase: Phase) -> bool:
        """Whether a refusal at this phase speaks of one recipient, so that there is nothing to
        split.
        """
        return len(self._accepted if phase in _AFTER_RCPT else self._envelope.recipients) == 1

    def _settle(self, outcome: Outcome | TooMany) -> None:
        """`outcome` for every recipient that has none yet."""
        for recipient in self._envelope.recipients:
            self._outcomes.setdefault(recipient, outcome)


def _breaks_off(error: WireError) -> bool:
    """Whether the server left before the dot.

    On a connection that has carried mail it may have had enough of that.
    """
    return error.phase is Phase.RSET or (isinstance(error, Dropped | Closing) and error.phase is not Phase.DOT)


def offered(envelope: Envelope, extensions: dict[str, str]) -> Envelope:
    """The envelope as a server with these extensions can take it: with SMTPUTF8 where that is
    offered and needed (RFC 6531 §3.4).

    Where it is needed and not offered, recipients in ASCII get a header in ASCII, and the others
    are refused one by one. Raises EnvelopeError 5.6.7 where the sender cannot do without.
    """
    addresses = (envelope.mail_from, *envelope.recipients)
    if not envelope.smtputf8 or (all(map(str.isascii, addresses)) and header_of(envelope.raw).isascii()):
        return replace(envelope, smtputf8=False)
    if "SMTPUTF8" in extensions:
        return envelope
    if not envelope.mail_from.isascii():
        raise EnvelopeError("5.6.7", "the server does not offer SMTPUTF8, which the sender's address needs", Phase.MAIL)
    return replace(envelope, raw=downgraded(envelope.raw), smtputf8=False)
