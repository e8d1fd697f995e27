"""Opens a session that accepts mail: connect, TLS, banner, EHLO or HELO, STARTTLS, AUTH."""

import base64
import contextlib
import hmac
import re
import ssl
from dataclasses import dataclass
from math import inf
from time import monotonic

from mailbbgun.core.errors import NotPermitted
from mailbbgun.smtp.endpoint import Endpoint, Timeouts
from mailbbgun.smtp.outcome import Deferred, Phase, Refused, classify
from mailbbgun.smtp.reply import Reply
from mailbbgun.smtp.wire import Closing, Dropped, Garbled, TlsFailed, Trace, Wire, WireError, dial, resolve

_HELO = re.compile(r"[A-Za-z0-9._:\[\]-]{1,255}", re.ASCII)

#: Replies of a server that does not know EHLO (RFC 5321 §3.2, §4.1.4). Any other 5xx refuses us,
#: whether we say EHLO or HELO.
_NO_EHLO = frozenset({500, 501, 502, 503, 504})

#: Replies that refuse an AUTH mechanism and say nothing about user name and password.
_UNSUPPORTED = frozenset({500, 501, 502, 503, 504})

#: Replaces the words of something that is not an SMTP server: they may be secrets.
_NOT_SMTP = Reply(0, "4.5.0", "the server's greeting is not SMTP")


class CannotOpen(Exception):
    """No session with this server. `outcome` is the outcome for the mail; it is never Bounced."""

    def __init__(self, outcome: Deferred | Refused) -> None:
        super().__init__(f"{outcome.phase}: {outcome.reply}")
        self.outcome = outcome


@dataclass(frozen=True, slots=True)
class Session:
    """A wire on which MAIL may be sent.

    `extensions` maps EHLO keywords, in capitals, to their parameters.
    """

    wire: Wire
    extensions: dict[str, str]


async def open_session(
    endpoint: Endpoint, helo: str, timeouts: Timeouts, trace: Trace | None = None, until: float = inf
) -> Session:
    """Connect and do everything up to AUTH; `helo` is our name for EHLO.

    `trace` is called for each step, and later for each reply on the session's wire. Nothing waits
    beyond `until` (monotonic). Raises CannotOpen, and ValueError if `helo` is not a host name.
    """
    if not _HELO.fullmatch(helo):
        raise ValueError(f"not a host name to say EHLO with: {helo!r}")
    dialling = _Dialling(endpoint, helo, timeouts, trace, until)
    try:
        return await dialling.session()
    except TlsFailed as error:
        raise CannotOpen(Refused(error.reply, error.phase)) from error
    except WireError as error:
        raise CannotOpen(error.outcome) from error
    except NotPermitted as error:
        # A setting is wrong, not the mail. 5.7.1: delivery not authorized (RFC 3463 §3.8).
        raise CannotOpen(_refused(str(error), Phase.CONNECT, "5.7.1")) from error


class _Dialling:
    """Opens a session; connects again if the first connection was spoilt on the way."""

    def __init__(self, endpoint: Endpoint, helo: str, timeouts: Timeouts, trace: Trace | None, until: float) -> None:
        self._endpoint = endpoint
        self._helo = helo
        self._timeouts = timeouts
        self._trace = trace
        self._until = until
        self._upgrade = endpoint.security in ("opportunistic", "starttls")
        self._refused: dict[str, Reply] = {}  # AUTH mechanism → why not

    async def session(self) -> Session:
        """Return a session. Raises WireError, CannotOpen or NotPermitted."""
        while True:
            refused = len(self._refused)
            try:
                return await self._connect()
            except WireError as error:
                if self._upgrade and self._endpoint.security == "opportunistic" and error.phase is Phase.TLS:
                    # RFC 7435 §3: broken TLS must not be worse than no TLS. Start again without.
                    self._upgrade = False
                elif not (
                    isinstance(error, Dropped | Closing) and error.phase is Phase.AUTH and len(self._refused) > refused
                ):
                    raise
                # Else the server refused one mechanism and hung up on the next: try that one on a
                # fresh connection.
                if self._trace is not None and not isinstance(error, Closing):
                    self._trace(error.phase, error.reply, None)

    async def _connect(self) -> Session:
        endpoint = self._endpoint
        context = _tls_context(endpoint)
        deadline = min(monotonic() + self._timeouts.connect, self._until)
        addresses = endpoint.addresses or await resolve(endpoint.host, endpoint.port, endpoint.look_up, deadline)
        wire = await dial(addresses, endpoint.port, deadline)
        wire.trace, wire.until = self._trace, self._until
        try:
            if endpoint.guard is not None:
                endpoint.guard.check_peer(endpoint.host, endpoint.port, *wire.peer_and_own_address())
            if self._trace is not None:
                self._trace(Phase.CONNECT, None, wire)
            return await _Opening(wire, context, endpoint, self._helo, self._timeouts, self._refused).run(self._upgrade)
        except CannotOpen as error:
            # RFC 5321 §4.1.1.10 asks for a QUIT; we do not wait for its answer. A server that a
            # tenant named gets no byte before its 220.
            if endpoint.guard is None or error.outcome.phase is not Phase.BANNER:
                with contextlib.suppress(WireError):
                    await wire.write(b"QUIT\r\n", Phase.QUIT, monotonic())
            wire.close()
            raise
        except BaseException:
            wire.abort()
            raise


class _Opening:
    """The dialogue from the banner to AUTH.

    `refused` collects the AUTH mechanisms that the server refused; they are not tried again.
    """

    def __init__(
        self,
        wire: Wire,
        context: ssl.SSLContext | None,
        endpoint: Endpoint,
        helo: str,
        timeouts: Timeouts,
        refused: dict[str, Reply],
    ) -> None:
        self._wire = wire
        self._context = context
        self._endpoint = endpoint
        self._helo = helo
        self._timeouts = timeouts
        self._refused = refused

    async def run(self, upgrade: bool) -> Session:
        """Run the steps in order; `upgrade` asks for STARTTLS."""
        if self._endpoint.security == "tls":
            await self._handshake()
        await self._banner()
        extensions = await self._ehlo()
        if upgrade and await self._start_tls(extensions):
            extensions = await self._ehlo()  # the first answer is void (RFC 3207 §4.2)
        if self._endpoint.username is not None:
            await self._authenticate(self._endpoint.username, extensions)
        return Session(self._wire, extensions)

    async def _banner(self) -> None:
        try:
            reply = await self._wire.read_reply(Phase.BANNER, monotonic() + self._timeouts.banner)
        except Garbled as error:
            raise Garbled(Phase.BANNER, _NOT_SMTP) from error
        if reply.code // 100 in (4, 5):
            raise _failed(Phase.BANNER, reply)
        if reply.code != 220:  # RFC 5321 §4.3.2; a news server says 200
            raise Garbled(Phase.BANNER, _NOT_SMTP)

    async def _ehlo(self) -> dict[str, str]:
        reply, lines = await self._ask(f"EHLO {self._helo}", Phase.EHLO, self._timeouts.ehlo)
        if reply.code in _NO_EHLO and not self._wire.tls:
            reply, lines = await self._ask(f"HELO {self._helo}", Phase.EHLO, self._timeouts.ehlo)
            lines = lines[:1]
        if reply.code // 100 != 2:
            raise _failed(Phase.EHLO, reply)
        return _extensions(lines[1:])

    async def _start_tls(self, extensions: dict[str, str]) -> bool:
        required = self._endpoint.security == "starttls"
        if "STARTTLS" not in extensions:
            if required:
                raise CannotOpen(_refused("the server offers no STARTTLS", Phase.STARTTLS))
            return False
        reply, _ = await self._ask("STARTTLS", Phase.STARTTLS, self._timeouts.tls)
        if reply.code // 100 != 2:
            if required:
                raise _failed(Phase.STARTTLS, reply)
            return False
        await self._handshake()
        return True

    async def _handshake(self) -> None:
        assert self._context is not None  # only security "none" has no context, and it never gets here
        await self._wire.start_tls(self._context, self._endpoint.host, monotonic() + self._timeouts.tls)

    async def _authenticate(self, username: str, extensions: dict[str, str]) -> None:
        endpoint = self._endpoint
        if not self._wire.tls and endpoint.security != "none":
            raise CannotOpen(_refused("no TLS, and the password is not sent in clear", Phase.AUTH, "5.7.11"))
        if "\0" in username + endpoint.password:  # RFC 4616 §2
            raise CannotOpen(_refused("user name or password holds a NUL", Phase.AUTH, "5.7.8"))
        offered = mechanisms(extensions.get("AUTH", ""), self._wire.tls)
        if not offered:
            raise CannotOpen(_refused("the server offers no way to authenticate that we know", Phase.AUTH, "5.7.4"))
        # A server may offer a mechanism that does not work. It refuses us only if all fail.
        for mechanism in offered:
            if mechanism not in self._refused:
                reply = await self._try(mechanism, username, endpoint.password)
                if reply.code // 100 == 2:
                    return
                if reply.code // 100 == 4:  # RFC 4954 §6: the server cannot check any password now
                    raise _failed(Phase.AUTH, reply)
                self._refused[mechanism] = reply
        raise _failed(Phase.AUTH, most_telling(list(self._refused.values())))

    async def _try(self, mechanism: str, username: str, password: str) -> Reply:
        """Return the reply to one mechanism.

        Its code is 3xx only if the server keeps asking, and 0 if the challenge cannot be read.
        """
        self._wire.mechanism = mechanism
        deadline = monotonic() + self._timeouts.auth
        try:
            reply = await self._exchange(mechanism, username, password, deadline)
        except _NoChallenge as error:
            reply = Reply(0, "4.5.0", str(error))
        if reply.code // 100 in (0, 3):
            await self._cancel(deadline)
        return reply

    async def _cancel(self, deadline: float) -> None:
        """Cancel a mechanism (RFC 4954 §4), so that another may be tried.

        The reply means nothing and is not traced.
        """
        trace, self._wire.trace = self._wire.trace, None
        await self._auth("*", deadline)
        self._wire.trace = trace

    async def _exchange(self, mechanism: str, username: str, password: str, deadline: float) -> Reply:
        if mechanism == "PLAIN":  # RFC 4616
            answer = _base64(f"\0{username}\0{password}")
            reply = await self._auth(f"AUTH PLAIN {answer}", deadline)
            # Some servers want the answer on a line of its own.
            return await self._auth(answer, deadline) if reply.code == 334 and not reply.text else reply
        if mechanism == "LOGIN":
            for line in ("AUTH LOGIN", _base64(username)):
                reply = await self._auth(line, deadline)
                if reply.code != 334:
                    return reply
            return await self._auth(_base64(password), deadline)
        reply = await self._auth("AUTH CRAM-MD5", deadline)  # RFC 2195
        if reply.code != 334:
            return reply
        digest = hmac.new(password.encode(), _challenge(reply), "md5").hexdigest()
        return await self._auth(_base64(f"{username} {digest}"), deadline)

    async def _auth(self, line: str, deadline: float) -> Reply:
        await self._wire.write(line.encode() + b"\r\n", Phase.AUTH, deadline)
        return await self._wire.read_reply(Phase.AUTH, deadline)

    async def _ask(self, command: str, phase: Phase, seconds: float) -> tuple[Reply, list[bytes]]:
        deadline = monotonic() + seconds
        await self._wire.write(command.encode() + b"\r\n", phase, deadline)
        return await self._wire.read_lines(phase, deadline)


def _tls_context(endpoint: Endpoint) -> ssl.SSLContext | None:
    if endpoint.security == "none":
        return None
    try:
        return endpoint.tls_context()
    except OSError as error:  # includes ssl.SSLError
        raise CannotOpen(_refused(f"the CA file cannot be used: {error.strerror}", Phase.TLS)) from error


def _failed(phase: Phase, reply: Reply) -> CannotOpen:
    outcome = classify(phase, reply)
    if isinstance(outcome, Deferred | Refused):
        return CannotOpen(outcome)
    return CannotOpen(Deferred(reply, phase))


def _refused(text: str, phase: Phase, enhanced: str = "5.7.10") -> Refused:
    return Refused(Reply(0, enhanced, text), phase)


def _extensions(lines: list[bytes]) -> dict[str, str]:
    """Return EHLO keywords and their parameters, in capitals.

    Parameters of a keyword that stands on two lines are joined.
    """
    found: dict[str, str] = {}
    for line in lines:
        # Servers older than RFC 2554 wrote "AUTH=LOGIN PLAIN"; many still send both forms.
        words = line[4:].decode("ascii", "replace").upper().replace("AUTH=", "AUTH ").split(None, 1)
        if words:
            found[words[0]] = (
                f"{found[words[0]]} {words[1]}" if words[0] in found and len(words) > 1 else "".join(words[1:])
            )
    return found


def mechanisms(offered: str, encrypted: bool) -> list[str]:
    """Return the AUTH mechanisms to try, best first; `offered` are those of EHLO, in capitals."""
    # Under TLS, PLAIN leaves the server free to store only a hash. Without TLS, only CRAM-MD5 does
    # not reveal the password.
    order = ("PLAIN", "LOGIN", "CRAM-MD5") if encrypted else ("CRAM-MD5", "PLAIN", "LOGIN")
    return [mechanism for mechanism in order if mechanism in offered.split()]


def most_telling(replies: list[Reply]) -> Reply:
    """Return the reply that says most about why AUTH failed.

    That is the first refusal of user name and password, else the first challenge that could not be
    read, else the first reply.
    """
    return min(replies, key=lambda reply: 2 if reply.code in _UNSUPPORTED else reply.code // 100 != 5)


class _NoChallenge(Exception):
    """A server's AUTH challenge cannot be read. The exception's text is safe to show."""


def _challenge(reply: Reply) -> bytes:
    try:
        return base64.b64decode(reply.text, validate=True)
    except ValueError as error:
        raise _NoChallenge("the CRAM-MD5 challenge is not base64") from error


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
