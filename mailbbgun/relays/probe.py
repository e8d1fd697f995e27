"""Tries a server step by step and tells what happened, for a person whose SMTP account fails.

It listens to the dialogue of `opening` and `transaction`, and asks nothing of the server that
sending would not ask. What the server says is untrusted and may repeat the password, so every text
goes through `redact`.
"""

import base64
import contextlib
import ssl
from collections.abc import Callable
from dataclasses import dataclass, replace
from time import monotonic

from mailbbgun.core.errors import NotPermitted
from mailbbgun.drivers.blocking import run
from mailbbgun.relays.certificate import Certificate, read
from mailbbgun.relays.client import SMTPConnection
from mailbbgun.relays.redact import Redactor
from mailbbgun.smtp.endpoint import Endpoint, Timeouts
from mailbbgun.smtp.envelope import Envelope
from mailbbgun.smtp.opening import CannotOpen, Session, open_session
from mailbbgun.smtp.outcome import Bounced, Deferred, Delivered, Fenced, Outcome, Phase, Refused, TooMany, Unknown
from mailbbgun.smtp.reply import Reply
from mailbbgun.smtp.wire import TlsFailed, Wire, WireError, resolve

#: Seconds a probe may take: a person waits for it.
LIMIT = 30.0

#: Characters of a reply that are shown. This is less than `reply.MAX_TEXT`, whose end may cut a
#: password in two, so that it is not found.
MAX_SHOWN = 1000

Failure = Deferred | Refused | Bounced | Unknown


@dataclass(frozen=True, slots=True)
class Encryption:
    """How a connection is encrypted.

    If the certificate was refused, `version` and `cipher` are empty.
    """

    version: str
    cipher: str
    certificate: Certificate | None


@dataclass(frozen=True, slots=True)
class ProbeStep:
    """One step of a probe.

    `name` is resolve, connect, tls, banner, ehlo, starttls, auth (for each mechanism tried), mail,
    rcpt (for each recipient), data, body or dot. `reply` is what the server said, or our own words
    (code 0), or None. `tls` belongs to the step tls, even if the certificate was refused;
    `mechanism` belongs to auth.
    """

    name: str
    ok: bool
    milliseconds: float
    reply: Reply | None = None
    tls: Encryption | None = None
    mechanism: str | None = None


@dataclass(frozen=True, slots=True)
class Probe:
    """All steps of a probe, in order.

    `verdict` is None if all went well, else the outcome of the step that failed; it is Bounced or
    Unknown only if a mail was sent. A step may fail although all went well: opportunistic TLS goes
    on without TLS, HELO follows a failed EHLO, and another AUTH mechanism may work.
    """

    steps: tuple[ProbeStep, ...]
    verdict: Failure | None

    @property
    def ok(self) -> bool:
        """Return whether all went well."""
        return self.verdict is None


def probe(
    endpoint: Endpoint, helo: str, timeouts: Timeouts, mail: Envelope | None = None, limit: float = LIMIT
) -> Probe:
    """Connect to `endpoint` as for sending, send `mail` if it is given, and say QUIT.

    All of it takes at most `limit` seconds. Failures of the server are in the value returned.
    Raises ValueError if `helo` is not a host name.
    """
    return run(_probe(endpoint, helo, timeouts, mail, monotonic() + limit))


async def _probe(endpoint: Endpoint, helo: str, timeouts: Timeouts, mail: Envelope | None, until: float) -> Probe:
    recorder = _Recorder()
    try:
        addresses = await _addresses(endpoint, min(monotonic() + timeouts.connect, until))
        recorder.passed(Phase.DNS, Reply(0, None, ", ".join(addresses)))
        found = _with_addresses(endpoint, addresses)
        session = await open_session(found, helo, timeouts, recorder, until)
    except WireError as error:
        verdict: Failure | None = error.outcome
        recorder.failed(error.phase, error.reply)
    except CannotOpen as error:
        verdict = error.outcome
        recorder.failed(verdict.phase, verdict.reply)
        if _certificate_refused(error):
            recorder.certified(await _certificate(found, helo, timeouts, until))
    else:
        verdict = await _send_and_quit(found, session, timeouts, mail)
        if verdict is not None:
            recorder.failed(verdict.phase, verdict.reply)
    return _redacted(Probe(tuple(recorder.steps), verdict), endpoint)


class _Recorder:
    """A `wire.Trace` that keeps each step with its time since the step before."""

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
            self._add(ProbeStep(_name(phase), True, 0.0, None, Encryption(version, cipher, read(der))))
        elif wire is not None:
            self.passed(phase, Reply(0, None, wire.ip))

    def passed(self, phase: Phase, reply: Reply) -> None:
        """Add a step that went well and that the server said nothing about."""
        self._add(ProbeStep(_name(phase), True, 0.0, reply))

    def failed(self, phase: Phase, reply: Reply) -> None:
        """Mark the step with this reply as failed, or add one if there is none."""
        for position, step in enumerate(self.steps):
            if (step.name, step.reply) == (_name(phase), reply):
                self.steps[position] = replace(step, ok=False)
                return
        self._add(ProbeStep(_name(phase), False, 0.0, reply))

    def certified(self, certificate: Certificate | None) -> None:
        """Add to the last step, which failed, the certificate that was refused."""
        self.steps[-1] = replace(self.steps[-1], tls=Encryption("", "", certificate))

    def _add(self, step: ProbeStep) -> None:
        now = monotonic()
        milliseconds, self._mark = (now - self._mark) * 1000, now
        if self.steps and _same_step(self.steps[-1], step):
            milliseconds += self.steps.pop().milliseconds
        self.steps.append(replace(step, milliseconds=round(milliseconds, 1)))


def _same_step(before: ProbeStep, step: ProbeStep) -> bool:
    """Return whether a reply belongs to the step before.

    AUTH LOGIN gets three replies, the first two with code 334, and is one step.
    """
    asked = before.reply is not None and before.reply.code // 100 == 3
    return step.name == before.name == Phase.AUTH and asked and step.mechanism in (None, before.mechanism)


def _name(phase: Phase) -> str:
    return "resolve" if phase is Phase.DNS else phase.value


async def _addresses(endpoint: Endpoint, deadline: float) -> tuple[str, ...]:
    """Return the addresses of the endpoint. Raises WireError, CannotOpen."""
    if endpoint.addresses:
        return endpoint.addresses
    try:
        return tuple(await resolve(endpoint.host, endpoint.port, endpoint.look_up, deadline))
    except NotPermitted as error:
        raise CannotOpen(Refused(Reply(0, "5.7.1", str(error)), Phase.DNS)) from error


def _with_addresses(endpoint: Endpoint, addresses: tuple[str, ...]) -> Endpoint:
    """Return the endpoint with these addresses, which are not looked up again.

    A guard still checks them, and the address that answers.
    """
    if endpoint.guard is None:
        return replace(endpoint, addresses=addresses)
    return replace(endpoint, guard=replace(endpoint.guard, look_up=lambda host, port: addresses))


async def _send_and_quit(
    endpoint: Endpoint, session: Session, timeouts: Timeouts, mail: Envelope | None
) -> Failure | None:
    """Send `mail`, if there is one, and say QUIT; return the first recipient's failure, if any."""
    # Without PIPELINING each command has its own time, and DATA is not sent if RCPT is refused.
    stepwise = {word: value for word, value in session.extensions.items() if word != "PIPELINING"}
    connection = SMTPConnection(endpoint, Session(session.wire, stepwise), timeouts, monotonic)
    try:
        outcomes = await connection.send(mail, _send_the_dot, _ignore_reply) if mail is not None else {}
    finally:
        await connection.quit()
    return next((found for outcome in outcomes.values() if (found := _failure(outcome)) is not None), None)


async def _send_the_dot(accepted: tuple[str, ...]) -> bool:
    return True


async def _ignore_reply(accepted: tuple[str, ...], reply: Reply | None) -> None:
    return None


def _failure(outcome: Outcome | TooMany) -> Failure | None:
    if isinstance(outcome, TooMany):
        return Deferred(outcome.reply, outcome.phase)
    return None if isinstance(outcome, Delivered | Fenced) else outcome


# -- the certificate that was refused


class _Seen(Exception):
    """The certificate was seen: end the session."""


def _certificate_refused(error: CannotOpen) -> bool:
    cause = error.__cause__
    return isinstance(cause, TlsFailed) and isinstance(cause.__cause__, ssl.SSLCertVerificationError)


async def _certificate(endpoint: Endpoint, helo: str, timeouts: Timeouts, until: float) -> Certificate | None:
    """Connect again without a check and return the certificate the server shows.

    OpenSSL does not tell it after a failed handshake. The second connection cannot be trusted: it
    is reset right after the handshake, and its endpoint holds no password.
    """
    certificates: list[Certificate | None] = []

    def look(phase: Phase, reply: Reply | None, wire: Wire | None) -> None:
        if phase is Phase.TLS and reply is None and wire is not None:
            certificates.append(read(wire.tls_details()[2]))
            raise _Seen

    unchecked = replace(endpoint, verify=False, username=None, password="")
    with contextlib.suppress(_Seen, CannotOpen):  # in either case the list has what there is to know
        (await open_session(unchecked, helo, timeouts, look, until)).wire.abort()
    return certificates[0] if certificates else None


# -- what may be shown


def _redacted(told: Probe, endpoint: Endpoint) -> Probe:
    plain = base64.b64encode(f"\0{endpoint.username}\0{endpoint.password}".encode()).decode().rstrip("=")
    redact = Redactor(endpoint.password, plain) if endpoint.password else Redactor("")

    def said(reply: Reply) -> Reply:
        enhanced = None if reply.enhanced == endpoint.password else reply.enhanced
        return Reply(reply.code, enhanced, redact(reply.text)[:MAX_SHOWN])

    steps = (
        replace(step, reply=step.reply and said(step.reply), tls=step.tls and _redacted_encryption(step.tls, redact))
        for step in told.steps
    )
    return Probe(tuple(steps), told.verdict and replace(told.verdict, reply=said(told.verdict.reply)))


def _redacted_encryption(tls: Encryption, redact: Callable[[str], str]) -> Encryption:
    shown = tls.certificate and replace(
        tls.certificate,
        subject=redact(tls.certificate.subject),
        issuer=redact(tls.certificate.issuer),
        names=tuple(redact(name) for name in tls.certificate.names),
    )
    return replace(tls, certificate=shown)
