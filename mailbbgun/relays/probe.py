"""Tries a server step by step and tells what happened: what a person needs to know whose SMTP
account does not work.

The dialogue is that of `opening` and `transaction`, listened to; nothing is asked of the server
that sending would not ask. What it says is untrusted text and may repeat the password: everything
that is told goes through `redact`.
"""

import base64
import contextlib
import queue
import ssl
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from time import monotonic

from mailbbgun.core.errors import NotPermitted
from mailbbgun.core.net import system_look_up
from mailbbgun.relays.client import SMTPConnection
from mailbbgun.smtp.certificate import Certificate, read
from mailbbgun.smtp.endpoint import Endpoint, Timeouts
from mailbbgun.smtp.envelope import Envelope
from mailbbgun.smtp.opening import CannotOpen, Session, open_session
from mailbbgun.smtp.outcome import Bounced, Deferred, Delivered, Fenced, Outcome, Phase, Refused, TooMany, Unknown
from mailbbgun.smtp.redact import Redactor
from mailbbgun.smtp.reply import Reply
from mailbbgun.smtp.wire import Dropped, TimedOut, TlsFailed, Wire, WireError, resolve

#: Seconds a probe takes at most: a person waits for it.
LIMIT = 30.0

#: Characters of a server's words that are told. Less than `reply.MAX_TEXT`, whose end may cut a
#: password in two.
MAX_SHOWN = 1000

Failure = Deferred | Refused | Bounced | Unknown


@dataclass(frozen=True, slots=True)
class Tls:
    """How a line is encrypted.

    Where the certificate was refused, `version` and `cipher` are empty: nothing was said.
    """

    version: str
    cipher: str
    certificate: Certificate | None


@dataclass(frozen=True, slots=True)
class ProbeStep:
    """One step: resolve, connect, tls, banner, ehlo, starttls, auth (for each mechanism that is
    tried), mail, rcpt (for each recipient), data, body or dot.

    `reply` is what the server said, or with code 0 our own words; None where there is nothing to
    say. `tls` comes with the step of that name, also where the certificate was refused, `mechanism`
    with auth.
    """

    name: str
    ok: bool
    milliseconds: float
    reply: Reply | None = None
    tls: Tls | None = None
    mechanism: str | None = None


@dataclass(frozen=True, slots=True)
class Probe:
    """What happened, in order.

    `verdict` is None if all went well, else what became of the step that failed.

    Bounced and Unknown are said of a mail only. A step may fail and all go well nevertheless:
    opportunistic TLS goes on in clear, a server that knows no EHLO is greeted with HELO, another
    AUTH mechanism works.
    """

    steps: tuple[ProbeStep, ...]
    verdict: Failure | None

    @property
    def ok(self) -> bool:
        """Whether all went well."""
        return self.verdict is None


def probe(
    endpoint: Endpoint, helo: str, timeouts: Timeouts, mail: Envelope | None = None, limit: float = LIMIT
) -> Probe:
    """Connects to `endpoint` as for sending, sends `mail` if it is given, and says QUIT, in `limit`
    seconds all told.

    Where the endpoint names no addresses, its host is resolved here. Whatever the server does is in
    the value returned; raises ValueError for an impossible `helo`.
    """
    until, recorder = monotonic() + limit, _Recorder()
    try:
        addresses = _addresses(endpoint, min(monotonic() + timeouts.connect, until))
        recorder.passed(Phase.DNS, Reply(0, None, ", ".join(addresses)))
        found = _at(endpoint, addresses)
        session = open_session(found, helo, timeouts, recorder, until)
    except WireError as error:
        verdict: Failure | None = error.outcome
        recorder.failed(error.phase, error.reply)
    except CannotOpen as error:
        verdict = error.outcome
        recorder.failed(verdict.phase, verdict.reply)
        if _certificate_refused(error):
            recorder.certified(_certificate(found, helo, timeouts, until))
    else:
        verdict = _used(found, session, timeouts, mail)
        if verdict is not None:
            recorder.failed(verdict.phase, verdict.reply)
    return _redacted(Probe(tuple(recorder.steps), verdict), endpoint)


class _Recorder:
    """Listens to a session (`wire.Trace`) and keeps its steps, each with the time since the one
    before.
    """

    def __init__(self) -> None:
        self.steps: list[ProbeStep] = []
        self._mark = monotonic()

    def __call__(self, phase: Phase, reply: Reply | None, wire: Wire | None) -> None:
        if phase is Phase.QUIT:
            return
        if reply is not None:
            mechanism = wire.mechanism if wire is not None and phase is Phase.AUTH else None
            self._add(ProbeStep(_name(phase), reply.code // 100 in (2, 3), 0.0, reply, mechanism=mechanism))
        elif wire is not None and phase is Phase.TLS:
            version, cipher, der = wire.tls_details()
            self._add(ProbeStep(_name(phase), True, 0.0, None, Tls(version, cipher, read(der))))
        elif wire is not None:
            self.passed(phase, Reply(0, None, wire.ip))

    def passed(self, phase: Phase, reply: Reply) -> None:
        """A step went well, of which we say ourselves what it was."""
        self._add(ProbeStep(_name(phase), True, 0.0, reply))

    def failed(self, phase: Phase, reply: Reply) -> None:
        """`reply` at `phase` decided against us.

        It may be the last words of the server that were heard, or none of it.
        """
        for position, step in enumerate(self.steps):
            if (step.name, step.reply) == (_name(phase), reply):
                self.steps[position] = replace(step, ok=False)
                return
        self._add(ProbeStep(_name(phase), False, 0.0, reply))

    def certified(self, certificate: Certificate | None) -> None:
        """The last step failed for this certificate."""
        self.steps[-1] = replace(self.steps[-1], tls=Tls("", "", certificate))

    def _add(self, step: ProbeStep) -> None:
        now = monotonic()
        milliseconds, self._mark = (now - self._mark) * 1000, now
        if self.steps and _goes_on(self.steps[-1], step):
            milliseconds += self.steps.pop().milliseconds
        self.steps.append(replace(step, milliseconds=round(milliseconds, 1)))


def _goes_on(before: ProbeStep, step: ProbeStep) -> bool:
    """Whether a reply belongs to the step before:

    AUTH LOGIN has three replies, of which the first two are 334, and is one step.
    """
    asked = before.reply is not None and before.reply.code // 100 == 3
    return step.name == before.name == Phase.AUTH and asked and step.mechanism in (None, before.mechanism)


def _name(phase: Phase) -> str:
    return "resolve" if phase is Phase.DNS else phase.value


def _addresses(endpoint: Endpoint, deadline: float) -> tuple[str, ...]:
    """Where the endpoint is.

    Raises WireError, CannotOpen. The system's resolver knows no deadline, so a thread waits for it.
    """
    if endpoint.addresses:
        return endpoint.addresses
    look_up = system_look_up if endpoint.guard is None else endpoint.guard.addresses
    answer: queue.SimpleQueue[Sequence[str] | Dropped | NotPermitted] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answer.put(resolve(endpoint.host, endpoint.port, look_up))
        except (Dropped, NotPermitted) as error:
            answer.put(error)

    threading.Thread(target=ask, name="resolve", daemon=True).start()
    try:
        found = answer.get(timeout=max(deadline - monotonic(), 0))
    except queue.Empty:
        raise TimedOut(Phase.DNS, Reply(0, "4.4.3", "timed out waiting for the name servers")) from None
    if isinstance(found, NotPermitted):
        raise CannotOpen(Refused(Reply(0, "5.7.1", str(found)), Phase.DNS)) from found
    if isinstance(found, Dropped):
        raise found
    return tuple(found)


def _at(endpoint: Endpoint, addresses: tuple[str, ...]) -> Endpoint:
    """The endpoint at these addresses: a guard judges them again, and whoever answers, but asks
    nobody.
    """
    if endpoint.guard is None:
        return replace(endpoint, addresses=addresses)
    return replace(endpoint, guard=replace(endpoint.guard, look_up=lambda host, port: addresses))


def _used(endpoint: Endpoint, session: Session, timeouts: Timeouts, mail: Envelope | None) -> Failure | None:
    """Sends `mail`, if any, and parts.

    What failed, for the first recipient for whom anything did.
    """
    # One command at a time: else their times say nothing, and DATA is said although RCPT is
    # refused.
    stepwise = {word: value for word, value in session.extensions.items() if word != "PIPELINING"}
    connection = SMTPConnection(endpoint, Session(session.wire, stepwise), timeouts, monotonic)
    try:
        outcomes = (
            connection.send(mail, lambda accepted: True, lambda accepted, reply: None) if mail is not None else {}
        )
    finally:
        connection.quit()
    return next((found for outcome in outcomes.values() if (found := _failure(outcome)) is not None), None)


def _failure(outcome: Outcome | TooMany) -> Failure | None:
    if isinstance(outcome, TooMany):
        return Deferred(outcome.reply, outcome.phase)
    return None if isinstance(outcome, Delivered | Fenced) else outcome


# -- a certificate that is not accepted


class _Seen(Exception):
    """The certificate was seen: no further."""


def _certificate_refused(error: CannotOpen) -> bool:
    cause = error.__cause__
    return isinstance(cause, TlsFailed) and isinstance(cause.__cause__, ssl.SSLCertVerificationError)


def _certificate(endpoint: Endpoint, helo: str, timeouts: Timeouts, until: float) -> Certificate | None:
    """What the server shows when asked again, which OpenSSL does not tell of a handshake that
    failed.

    This one checks nothing, so the line is worth nothing: it is reset before a word is said on it,
    and there is no password in the endpoint it is made with.
    """
    certificates: list[Certificate | None] = []

    def look(phase: Phase, reply: Reply | None, wire: Wire | None) -> None:
        if phase is Phase.TLS and reply is None and wire is not None:
            certificates.append(read(wire.tls_details()[2]))
            raise _Seen

    stranger = replace(endpoint, verify=False, username=None, password="")
    with contextlib.suppress(_Seen, CannotOpen):  # whichever it was, what there is to know is in the list
        open_session(stranger, helo, timeouts, look, until).wire.abort()
    return certificates[0] if certificates else None


# -- what may be told


def _redacted(told: Probe, endpoint: Endpoint) -> Probe:
    plain = base64.b64encode(f"\0{endpoint.username}\0{endpoint.password}".encode()).decode().rstrip("=")
    redact = Redactor(endpoint.password, plain) if endpoint.password else Redactor("")

    def said(reply: Reply) -> Reply:
        enhanced = None if reply.enhanced == endpoint.password else reply.enhanced
        return Reply(reply.code, enhanced, redact(reply.text)[:MAX_SHOWN])

    steps = (
        replace(step, reply=step.reply and said(step.reply), tls=step.tls and _redacted_tls(step.tls, redact))
        for step in told.steps
    )
    return Probe(tuple(steps), told.verdict and replace(told.verdict, reply=said(told.verdict.reply)))


def _redacted_tls(tls: Tls, redact: Callable[[str], str]) -> Tls:
    shown = tls.certificate and replace(
        tls.certificate,
        subject=redact(tls.certificate.subject),
        issuer=redact(tls.certificate.issuer),
        names=tuple(redact(name) for name in tls.certificate.names),
    )
    return replace(tls, certificate=shown)
