"""Answers the commands of one client. Bytes and time are the connection's."""

from collections.abc import Callable, Coroutine, Mapping
from enum import Enum, auto
from functools import partial
from typing import Any

from mailbbgun.accept.checks import permissions
from mailbbgun.composing.mime import Mailbox
from mailbbgun.core.caller import Caller
from mailbbgun.core.errors import MailBBGunError
from mailbbgun.smtpd.conversation import commands
from mailbbgun.smtpd.conversation.commands import MailPath, WrongCommand
from mailbbgun.smtpd.conversation.data import is_bare, normalised
from mailbbgun.smtpd.logins import DoorLogin, decoded, login_refusal, password_of, plain_password
from mailbbgun.smtpd.parts import DoorParts, DoorPeer, MailTaker, MailTransaction
from mailbbgun.smtpd.replies import BARE, NO_MEMORY, OK, TOO_BIG, one_line, refusal

Answer = str | Coroutine[Any, Any, str]
"""A reply, or what will return it."""

READY_FOR_TLS = "220 2.0.0 Ready to start TLS"
GO_AHEAD = "354 End data with <CR><LF>.<CR><LF>"
BYE = "221 2.0.0 Bye"
SENDER_OK = "250 2.1.0 OK"
#: A browser may be made to speak HTTP to any port (GET /, POST /). Lines of a form's body would be commands.
_HTTP = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "PRI"})
_NOT_HTTP = "421 4.7.0 This is an SMTP server, no HTTP"
_MAIL_TAKES = frozenset({"SIZE", "BODY", "SMTPUTF8", "AUTH"})


class DoorPort(Enum):
    """The kind of port that a client came to."""

    SUBMISSION = auto()
    TLS = auto()
    MX = auto()


class SmtpSession:
    """What one client has said so far, and the answers to what it says."""

    def __init__(self, parts: DoorParts, port: DoorPort, peer: DoorPeer) -> None:
        self.peer = peer
        self.login: DoorLogin | None = None
        #: How many messages were taken.
        self.taken = 0
        self._parts, self._settings, self._port = parts, parts.settings, port
        self._transaction: MailTransaction | None = None
        #: Takes the next line in place of a command: the answer to a challenge of AUTH.
        self._expecting: Callable[[bytes], Answer] | None = None
        taker = parts.incoming if port is DoorPort.MX else parts.submissions
        assert taker is not None  # there is an MX port
        self._taker: MailTaker = taker

    @property
    def greeting(self) -> str:
        """What the client is told first."""
        return f"220 {self._settings.HOSTNAME} ESMTP Mail BB Gun"

    def line(self, line: bytes) -> Answer:
        """Answer a line, which has no CR LF at its end."""
        if self._expecting is not None:
            expecting, self._expecting = self._expecting, None
            return expecting(line)
        try:
            verb, argument = commands.split_line(line)
            if verb in _HTTP:
                return _NOT_HTTP
            handler = _VERBS.get(verb)
            return handler(self, argument) if handler else "500 5.5.1 This command is not known here"
        except WrongCommand as wrong:
            return one_line(wrong.reply)

    def secured(self) -> None:
        """Forget all that was said before TLS (RFC 3207 §4.2)."""
        self.peer.secure, self.peer.extended, self.peer.helo = True, False, ""
        self.login = self._transaction = self._expecting = None

    def message(self, content: bytes | None, *, room: bool) -> Answer:
        """Answer the end of DATA. ``content``: None if it is too big. ``room``: whether it was kept at all."""
        transaction, self._transaction = self._transaction, None
        assert transaction is not None  # DATA was answered 354
        if content is None:
            return TOO_BIG
        if not room:
            return NO_MEMORY
        if is_bare(content):
            if not self._parts.options.normalise_newlines:
                return BARE
            content = normalised(content)
        if content and not content.endswith(b"\r\n"):
            content += b"\r\n"
        self.taken += 1
        return self._taker.take(transaction, content, self.peer)

    def _helo(self, argument: str) -> Answer:
        self.peer.helo, self.peer.extended, self._transaction = commands.helo_name(argument), False, None
        return f"250 {self._settings.HOSTNAME}"

    def _ehlo(self, argument: str) -> Answer:
        self.peer.helo, self.peer.extended, self._transaction = commands.helo_name(argument), True, None
        offered = ["PIPELINING", f"SIZE {self._parts.most_octets}", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES"]
        if self._parts.certificate is not None and not self.peer.secure:
            offered.append("STARTTLS")
        if self._port is not DoorPort.MX and self._may_login:
            offered.append("AUTH PLAIN LOGIN")
        lines = [self._settings.HOSTNAME, *offered]
        return "\r\n".join(f"250{' ' if n == len(lines) else '-'}{one}" for n, one in enumerate(lines, 1))

    @property
    def _may_login(self) -> bool:
        """Whether nobody on the way can read a password."""
        return self.peer.secure or self.peer.loopback

    def _starttls(self, argument: str) -> Answer:
        if argument:
            return "501 5.5.4 STARTTLS takes no parameter"
        if self.peer.secure:
            return "503 5.5.1 TLS is in use already"
        if self._parts.certificate is None:
            return "502 5.5.1 There is no TLS here"
        return READY_FOR_TLS

    def _auth(self, argument: str) -> Answer:
        self._said_hello()
        if self._port is DoorPort.MX:
            return "502 5.5.1 There is no AUTH at this port; it takes mail for local domains"
        if not self._may_login:
            return "538 5.7.11 Encryption is needed: STARTTLS first"
        if self.login is not None or self._transaction is not None:
            return "503 5.5.1 Not now: AUTH comes once, before MAIL"
        mechanism, _, initial = argument.partition(" ")
        if mechanism.upper() not in ("PLAIN", "LOGIN"):
            return "504 5.5.4 Only PLAIN and LOGIN are known here"
        first = self._plain if mechanism.upper() == "PLAIN" else self._login_user
        if initial:
            return first(initial.encode())
        self._expecting = first
        return "334 " if mechanism.upper() == "PLAIN" else "334 VXNlcm5hbWU6"  # "Username:"

    def _plain(self, line: bytes) -> Answer:
        return self._log_in(line, plain_password)

    def _login_user(self, line: bytes) -> Answer:
        if line == b"*":
            return "501 5.7.0 AUTH was cancelled"
        if decoded(line) is None:
            return "501 5.5.2 This is not Base64"
        self._expecting = partial(self._log_in, password=password_of)
        return "334 UGFzc3dvcmQ6"  # "Password:"

    def _log_in(self, line: bytes, password: Callable[[bytes], str | None]) -> Answer:
        if line == b"*":
            return "501 5.7.0 AUTH was cancelled"
        message = decoded(line)
        key = password(message) if message is not None else None
        if key is None:
            return "501 5.5.2 This is not Base64 of what the mechanism asks for"
        return self._check_key(key)

    async def _check_key(self, key: str) -> str:
        try:
            self.login = await self._parts.logins.login(key, self.peer.address)
        except MailBBGunError as error:
            return login_refusal(error)
        return "235 2.7.0 Welcome"

    def _mail(self, argument: str) -> Answer:
        self._said_hello()
        if self._port is not DoorPort.MX and self.login is None:
            return "530 5.7.0 " + ("Log in first: AUTH" if self._may_login else "STARTTLS first, then AUTH")
        if self._transaction is not None:
            return "503 5.5.1 There was a MAIL already: RSET ends it"
        path = commands.mail_path(argument, "FROM", _MAIL_TAKES, smtputf8=None)
        if wrong := self._wrong_parameters(path.parameters):
            return wrong
        if not self._parts.database_found():
            return "451 4.3.0 The database is away: try again later"
        if self.login is None:
            self._transaction = self._begun(path)
            return SENDER_OK
        if self._parts.logins.may_wait(self.login):
            return self._begin_later(path, self.login)
        try:
            return self._begin_as(path, self._parts.logins.admit(self.login))
        except MailBBGunError as error:
            return refusal(error)

    def _wrong_parameters(self, given: Mapping[str, str | None]) -> str | None:
        if given and not self.peer.extended:
            return "555 5.5.4 Parameters need EHLO"
        if (given.get("BODY", "7BIT") or "").upper() not in ("7BIT", "8BITMIME"):
            return "501 5.5.4 BODY is 7BIT or 8BITMIME"
        if given.get("SMTPUTF8") is not None:
            return "501 5.5.4 SMTPUTF8 has no value"
        if "SIZE" in given:
            size = given["SIZE"] or ""
            if not (size.isascii() and size.isdigit() and len(size) <= 20):  # RFC 1870 §4
                return "501 5.5.4 SIZE is a number of octets"
            if int(size) > self._parts.most_octets:
                return TOO_BIG
        return None

    async def _begin_later(self, path: MailPath, login: DoorLogin) -> str:
        try:
            return self._begin_as(path, await self._parts.logins.admit_later(login))
        except MailBBGunError as error:
            return refusal(error)

    def _begin_as(self, path: MailPath, caller: Caller) -> str:
        if not path.address and caller.senders:
            return "550 5.7.1 This API key may not send as everybody, so not as nobody (<>) either."
        box = [Mailbox("", path.address)] if path.address else []
        for _, why in permissions([], box, {}, caller, given=True):
            return one_line(f"550 5.7.1 {why}")
        self._transaction = self._begun(path, caller)
        return SENDER_OK

    def _begun(self, path: MailPath, caller: Caller | None = None) -> MailTransaction:
        size = int(path.parameters.get("SIZE") or 0)
        return MailTransaction(path.address, "SMTPUTF8" in path.parameters, caller, size)

    def _rcpt(self, argument: str) -> Answer:
        if (transaction := self._transaction) is None:
            return "503 5.5.1 MAIL comes first"
        path = commands.mail_path(argument, "TO", (), smtputf8=transaction.smtputf8)
        if len(transaction.recipients) >= self._settings.MAX_RECIPIENTS:
            return f"452 4.5.3 {self._settings.MAX_RECIPIENTS} recipients are the most: send the others another mail"
        address = path.address if path.address != "postmaster" else f"postmaster@{self._settings.HOSTNAME}"
        refused = self._taker.recipient_refusal(transaction, address, self.peer)
        if refused is None or isinstance(refused, str):
            return self._add(transaction, address, refused)
        return self._add_later(transaction, address, refused)

    async def _add_later(
        self, transaction: MailTransaction, address: str, refused: Coroutine[Any, Any, str | None]
    ) -> str:
        return self._add(transaction, address, await refused)

    def _add(self, transaction: MailTransaction, address: str, refused: str | None) -> str:
        if refused is not None:
            return refused
        transaction.recipients.append(address)
        return "250 2.1.5 OK"

    def _data(self, argument: str) -> Answer:
        if argument:
            return "501 5.5.4 DATA takes no parameter"
        if self._transaction is None:
            return "503 5.5.1 MAIL and RCPT come first"
        return GO_AHEAD if self._transaction.recipients else "554 5.5.1 There is no valid recipient"

    def _rset(self, argument: str) -> Answer:
        if argument:
            return "501 5.5.4 RSET takes no parameter"
        self._transaction = None
        return OK

    def _noop(self, _argument: str) -> Answer:
        return OK

    def _vrfy(self, argument: str) -> Answer:
        if not argument:
            return "501 5.5.4 Syntax: VRFY <address>"
        return "252 2.5.0 Send mail to it, and see"  # RFC 5321 §7.3: nothing is disclosed

    def _help(self, _argument: str) -> Answer:
        return "214 2.0.0 Commands: EHLO STARTTLS AUTH MAIL RCPT DATA RSET NOOP VRFY QUIT (RFC 5321)"

    def _quit(self, _argument: str) -> Answer:
        return BYE

    def _unimplemented(self, _argument: str) -> Answer:
        return "502 5.5.1 This command is not implemented"

    def _said_hello(self) -> None:
        if not self.peer.helo:
            raise WrongCommand("503 5.5.1 EHLO comes first")


_VERBS: Mapping[str, Callable[[SmtpSession, str], Answer]] = {
    "HELO": SmtpSession._helo,
    "EHLO": SmtpSession._ehlo,
    "STARTTLS": SmtpSession._starttls,
    "AUTH": SmtpSession._auth,
    "MAIL": SmtpSession._mail,
    "RCPT": SmtpSession._rcpt,
    "DATA": SmtpSession._data,
    "RSET": SmtpSession._rset,
    "NOOP": SmtpSession._noop,
    "VRFY": SmtpSession._vrfy,
    "HELP": SmtpSession._help,
    "QUIT": SmtpSession._quit,
    "EXPN": SmtpSession._unimplemented,
    "TURN": SmtpSession._unimplemented,
}
