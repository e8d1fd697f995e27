"""Runs one mail transaction: MAIL, RCPT, DATA, the message, the dot (RFC 5321 §3.3).

Commands are pipelined if the server offers that (RFC 2920).
"""

from collections.abc import Awaitable, Callable, Iterator
from time import monotonic

from mailbbgun.core.faults import fault
from mailbbgun.smtp.adapting.adapt import adapted
from mailbbgun.smtp.content import EnvelopeError, content
from mailbbgun.smtp.endpoint import Timeouts
from mailbbgun.smtp.envelope import Envelope, path
from mailbbgun.smtp.opening import Session
from mailbbgun.smtp.outcome import Fenced, Outcome, Phase, TooMany, Unknown, classify
from mailbbgun.smtp.reply import Reply
from mailbbgun.smtp.server_limits import session_limit, too_many_recipients
from mailbbgun.smtp.spooled import Raw, Spooled, SpoolFailed
from mailbbgun.smtp.wire import Closing, Dropped, TimedOut, WireError

#: RCPT commands that are written before their replies are read. With more, both sides could block
#: on full buffers for ever.
GROUP = 100

#: Awaited with the accepted recipients when all but the final dot is written. True sends the dot.
BeforeDot = Callable[[tuple[str, ...]], Awaitable[bool]]

#: Awaited with the accepted recipients as soon as the reply to the dot is read. The reply is None
#: if it was lost (nobody knows the outcome), and has code 0 or 421 if the dot was not sent (a 421 may
#: also answer it).
AfterDot = Callable[[tuple[str, ...], Reply | None], Awaitable[None]]

_DOT = b".\r\n"
_AFTER_RCPT = frozenset({Phase.DATA, Phase.BODY, Phase.DOT})


class Stale(Exception):
    """A reused connection was dead, was closed (421), or has carried as much mail as it may.

    The server did not take this mail: send it over a fresh connection.
    """


class SMTPTransaction:
    """One transaction, run once. Afterwards `broken` and `halfway` say what the session can do.

    `broken`: it cannot carry another transaction. `halfway`: RSET must come first.

    `reused` says that the session has carried mail. With `reset` the transaction begins with RSET
    (RFC 5321 §4.1.1.5). None is needed after a dot that was answered, because the server has then
    left that transaction (§4.1.1.4); this saves a command and a wait for each message.
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

    async def run(self, before_dot: BeforeDot, after_dot: AfterDot) -> dict[str, Outcome | TooMany]:
        """Return the outcome of every recipient of the envelope.

        Raises Stale, and whatever the two functions raise.
        """
        given = self._envelope.raw
        try:
            return await self._run(before_dot, after_dot)
        finally:
            # A file that was encoded for this server is another file; one with another header is not.
            if isinstance(self._envelope.raw, Spooled) and not self._envelope.raw.shares_file(given):
                self._envelope.raw.close()

    async def _run(self, before_dot: BeforeDot, after_dot: AfterDot) -> dict[str, Outcome | TooMany]:
        try:
            self._envelope = await adapted(self._envelope, self._extensions)
            self._check_offer()
            raw = self._envelope.raw
            data = raw if isinstance(raw, Spooled) else content(raw)  # a Spooled was checked when it was written
            mail, rcpts = self._commands()
        except (EnvelopeError, SpoolFailed) as error:
            self._settle_rest(error.outcome)
            return self._outcomes
        if rcpts:
            try:
                await self._send(mail, rcpts, data, before_dot, after_dot)
            except WireError as error:
                self.broken = True
                if self._reused and len(self._outcomes) < len(set(self._envelope.recipients)) and _breaks_off(error):
                    raise Stale(str(error)) from error
                self._settle_rest(self._outcome_of_error(error))
        return self._outcomes

    async def _send(
        self, mail: bytes, rcpts: dict[str, bytes], data: Raw, before_dot: BeforeDot, after_dot: AfterDot
    ) -> None:
        self.halfway = True
        begin = self._pipelined if "PIPELINING" in self._extensions else self._stepwise
        if not await begin(mail, rcpts):
            return
        if not self._accepted:  # RFC 2920 §3.1: DATA was accepted without a recipient; send an empty message
            await self._wire.write(_DOT, Phase.DATA, monotonic() + self._timeouts.data)
            await self._wire.read_reply(Phase.DATA, monotonic() + self._timeouts.data)
        elif await self._body(data):
            await self._dot(before_dot, after_dot)

    # -- checks before anything is written

    def _check_offer(self) -> None:
        size, limit = len(self._envelope.raw), self._extensions.get("SIZE", "")
        if limit.isdecimal() and 0 < int(limit[:18]) < size:  # RFC 1870 §6.1; 0 means no fixed limit
            raise EnvelopeError("5.3.4", f"{size} octets are more than the {limit} the server takes", Phase.MAIL)

    def _commands(self) -> tuple[bytes, dict[str, bytes]]:
        """Return MAIL, and RCPT for each recipient with a valid address; settle the others."""
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

    # -- MAIL to DATA; both methods return whether the server waits for the message

    async def _pipelined(self, mail: bytes, rcpts: dict[str, bytes]) -> bool:
        wire, timeouts = self._wire, self._timeouts
        pending, lines = list(rcpts), [b"RSET\r\n", mail] if self._reset else [mail]
        deadline = monotonic() + timeouts.recipients(len(rcpts))
        phase = Phase.RSET if self._reset else Phase.MAIL
        mail_ok = False
        while pending:
            group, pending = pending[:GROUP], pending[GROUP:]
            lines += [rcpts[recipient] for recipient in group]
            if not pending:
                lines.append(b"DATA\r\n")
            await wire.write(b"".join(lines), phase, deadline)
            if phase is not Phase.RCPT:
                if self._reset:
                    self._rset_answered(await wire.read_reply(Phase.RSET, monotonic() + timeouts.rset))
                mail_ok = self._mail_answered(await wire.read_reply(Phase.MAIL, monotonic() + timeouts.mail))
            for recipient in group:
                self._rcpt_answered(recipient, await wire.read_reply(Phase.RCPT, deadline))
            if pending and not mail_ok:
                return False
            phase, lines = Phase.RCPT, []
        return self._data_answered(await wire.read_reply(Phase.DATA, monotonic() + timeouts.data))

    async def _stepwise(self, mail: bytes, rcpts: dict[str, bytes]) -> bool:
        timeouts = self._timeouts
        if self._reset:
            self._rset_answered(await self._ask(b"RSET\r\n", Phase.RSET, monotonic() + timeouts.rset))
        if not self._mail_answered(await self._ask(mail, Phase.MAIL, monotonic() + timeouts.mail)):
            return False
        deadline = monotonic() + timeouts.recipients(len(rcpts))
        for recipient, command in rcpts.items():
            self._rcpt_answered(recipient, await self._ask(command, Phase.RCPT, deadline))
        if not self._accepted:
            return False
        return self._data_answered(await self._ask(b"DATA\r\n", Phase.DATA, monotonic() + timeouts.data))

    async def _ask(self, command: bytes, phase: Phase, deadline: float) -> Reply:
        await self._wire.write(command, phase, deadline)
        return await self._wire.read_reply(phase, deadline)

    def _rset_answered(self, reply: Reply) -> None:
        if reply.code // 100 != 2:
            raise Dropped(Phase.RSET, reply)

    def _mail_answered(self, reply: Reply) -> bool:
        if reply.code // 100 == 2:
            return True
        self._settle_rest(self._outcome_of_reply(Phase.MAIL, reply))
        return False

    def _rcpt_answered(self, recipient: str, reply: Reply) -> None:
        if recipient in self._outcomes:
            return  # MAIL failed, which decided this recipient
        if reply.code // 100 == 2:
            self._accepted.append(recipient)
        else:
            self._outcomes[recipient] = self._outcome_of_reply(Phase.RCPT, reply)

    def _data_answered(self, reply: Reply) -> bool:
        if reply.code // 100 == 3:
            return True
        self.broken = reply.code // 100 == 2  # neither yes nor no: the two sides are out of step
        self._settle_rest(self._outcome_of_reply(Phase.DATA, reply))
        return False

    # -- the message

    async def _body(self, data: Raw) -> bool:
        """Write the message; return whether the server still waits for the dot."""
        try:
            spoke = await self._write(data, monotonic() + self._timeouts.transfer(len(data)))
        except (Dropped, TimedOut) as error:
            try:
                # Many servers say why before they hang up, or read no more.
                spoke = self._wire.has_unasked_reply(Phase.BODY)
            except Dropped:
                raise error from None
            if not spoke:
                raise
        if spoke:
            self.broken = True
            reply = await self._wire.read_reply(Phase.BODY, monotonic() + self._timeouts.rset)
            self._settle_rest(self._outcome_of_reply(Phase.BODY, reply))
        return not spoke

    async def _write(self, data: Raw, deadline: float) -> bool:
        """Write the message, or its blocks until the server speaks; return whether it spoke."""
        wire, block_seconds = self._wire, self._timeouts.body  # RFC 5321 §4.5.3.2.5
        if not isinstance(data, Spooled):
            await wire.write(data, Phase.BODY, deadline, block_seconds)
            return wire.has_unasked_reply(Phase.BODY)
        spoke = False
        for block in _blocks(data):
            await wire.write(block, Phase.BODY, deadline, block_seconds)
            if spoke := wire.has_unasked_reply(Phase.BODY):
                break
        return spoke

    async def _dot(self, before_dot: BeforeDot, after_dot: AfterDot) -> None:
        accepted = tuple(self._accepted)
        if not await before_dot(accepted):
            self.broken = True
            self._wire.abort()
            self._settle_rest(Fenced(Phase.BODY))
            return
        verdict, reply = await self._send_dot()
        await after_dot(accepted, reply)
        if self._reused and reply is not None and reply.code // 100 in (4, 5) and not self.broken:
            verdict = self._outcome_of_reply(Phase.DOT, reply)  # a definite no: another connection may try
        self._settle_rest(verdict)

    async def _send_dot(self) -> tuple[Outcome | TooMany, Reply | None]:
        """Send the dot. Return the outcome, and the reply to pass to `after_dot`."""
        deadline, gone = monotonic() + self._timeouts.dot, False
        try:
            # Time has passed since the body was written. A reply that is here already is about no dot.
            if not await self._wire.write_unless_server_spoke(_DOT, Phase.DOT, deadline):
                return await self._early_reply()
            gone = True
            fault("dot.sent")
            reply = await self._wire.read_reply(Phase.DOT, deadline)
        except WireError as error:
            self.broken = True
            if isinstance(error, Closing) or not (gone or error.handed):
                return self._outcome_of_error(error), error.reply
            return Unknown(error.reply, Phase.DOT), None
        self.halfway = False
        return classify(Phase.DOT, reply, alone=self._one_recipient(Phase.DOT)), reply

    async def _early_reply(self) -> tuple[Outcome | TooMany, Reply]:
        """Read a reply that came before the dot was sent. Returns what `_send_dot` does."""
        self.broken = True
        reply = await self._wire.read_reply(Phase.BODY, monotonic() + self._timeouts.rset)
        told = Reply(0, "4.5.0", f"the server answered before the dot: {reply}")  # never 2xx: nothing was sent
        return classify(Phase.BODY, reply, alone=self._one_recipient(Phase.BODY)), told

    # -- outcomes

    def _outcome_of_reply(self, phase: Phase, reply: Reply) -> Outcome | TooMany:
        """Return the outcome of a reply that is no success.

        Raises Stale if the reply may be about a connection that has carried mail before.
        """
        crowded = too_many_recipients(reply) and (
            self._one_recipient(phase) or (phase is Phase.RCPT and not self._accepted)
        )
        if self._reused and (crowded or session_limit(reply)):
            raise Stale(str(reply))
        return classify(phase, reply, alone=self._one_recipient(phase))

    def _outcome_of_error(self, error: WireError) -> Outcome | TooMany:
        """Return the outcome after the session ended: the dot was not sent, or was answered 421."""
        splits = (
            isinstance(error, Closing) and too_many_recipients(error.reply) and not self._one_recipient(error.phase)
        )
        return TooMany(error.reply, error.phase) if splits else error.outcome

    def _one_recipient(self, phase: Phase) -> bool:
        """Return whether a refusal in this phase is about one recipient, which cannot be split."""
        return len(self._accepted if phase in _AFTER_RCPT else self._envelope.recipients) == 1

    def _settle_rest(self, outcome: Outcome | TooMany) -> None:
        """Set `outcome` for every recipient that has none yet."""
        for recipient in self._envelope.recipients:
            self._outcomes.setdefault(recipient, outcome)


def _blocks(message: Spooled) -> Iterator[bytes]:
    """Yield the blocks of a file. Raises WireError if it cannot be read: the server waits in vain for the rest."""
    try:
        yield from message.blocks()
    except OSError as error:
        text = f"the spooled message cannot be read: {error.strerror or error}"
        raise WireError(Phase.BODY, Reply(0, "4.3.0", text)) from error


def _breaks_off(error: WireError) -> bool:
    """Return whether the server broke off before the dot.

    On a connection that has carried mail, it may have reached a limit of the session.
    """
    return error.phase is Phase.RSET or (isinstance(error, Dropped | Closing) and error.phase is not Phase.DOT)
