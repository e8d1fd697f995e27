"""Every phase × every misbehaviour, in clear and under TLS: all at the same time, on one loop.

So the cases show also that they do not disturb each other, nor the servers that behave.
"""

import itertools
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace

import pytest

from mailbbgun.drivers.loop import Loop
from mailbbgun.relays.pool import Pool
from mailbbgun.relays.relay import SmartHost
from mailbbgun.smtp.endpoint import Endpoint, Timeouts
from mailbbgun.smtp.envelope import Envelope
from mailbbgun.smtp.outcome import Bounced, Deferred, Delivered, Outcome, Phase, Refused, Unknown
from mailbbgun.smtp.reply import Reply
from tests.smtp.authority import Authority
from tests.smtp.behaviours import drip, endless, endless_line, half_a_line, reset, silent, then_close
from tests.smtp.drivers import awaited
from tests.smtp.files import many_files
from tests.smtp.peers import EXTENSIONS, PATIENT, Behaviour, Dialogue, Gone, Peer, hang_up
from tests.waiting import PATIENCE

SHORT = 0.2


def late(dialogue: Dialogue) -> None:
    """Answer as soon as the client has given up."""
    try:
        silent(dialogue)
    finally:
        with suppress(OSError):
            dialogue.say(b"250 ok\r\n")


STEPWISE = EXTENSIONS[1:]
RECIPIENTS = ("b@b.test", "c@b.test")
MAIL = Envelope("a@a.test", RECIPIENTS, b"Subject: x\r\n\r\n.y\r\n")
BIG = replace(MAIL, raw=(b"y" * 76 + b"\r\n") * 130_000)
PHASES = ("banner", "ehlo", "auth", "mail", "rcpt", "data", "dot")

#: Name → behaviour, whether it is a wait for the deadline, and the code of the reply, if there is one.
MISBEHAVIOURS: dict[str, tuple[Behaviour, bool, int]] = {
    "4xx": (b"451 4.3.0 later\r\n", False, 451),
    "5xx": (b"554 5.7.1 no\r\n", False, 554),
    "421": (then_close(b"421 4.3.2 closing\r\n"), False, 421),
    "421, open": (b"421 4.3.2 closing\r\n", False, 421),
    "garbage": (b"\x00\x01\x02\r\n", False, 0),
    "nothing": (silent, True, 0),
    "half a line": (half_a_line, True, 0),
    "half a line, closed": (then_close(b"250 hal"), False, 0),
    "a drip": (drip, True, 0),
    "endless lines": (endless, False, 0),
    "an endless line": (endless_line, False, 0),
    "late": (late, True, 0),
    "closed": (hang_up, False, 0),
    "reset": (reset, False, 0),
}
SECURITIES = {"none": EXTENSIONS, "none, stepwise": STEPWISE, "starttls": EXTENSIONS, "tls": STEPWISE}


@dataclass
class Case:
    """A server, and what must become of mail to it."""

    name: str
    endpoint: Endpoint
    timeouts: Timeouts
    kind: type
    phase: str
    code: int
    peer: Peer
    mail: Envelope = MAIL
    or_phase: str = ""  # where the failure may be met as well
    asked: int = 0  # how often the dot was to be sent
    answered: list[Reply | None] = field(default_factory=list)
    outcomes: dict[str, Outcome] = field(default_factory=dict)

    async def run(self) -> None:
        def before_dot(_accepted: tuple[str, ...]) -> bool:
            self.asked += 1
            return True

        pool = Pool(self.timeouts, "client.test")
        relay = SmartHost(self.endpoint, pool)
        self.outcomes = await relay.attempt(
            self.mail, awaited(before_dot), awaited(lambda _, reply: self.answered.append(reply))
        )
        await pool.close_all()

    def wrong(self) -> str:
        """Return what is not as it must be, or nothing."""
        found = {(type(one), getattr(one, "phase", "dot"), one.reply.code) for one in self.outcomes.values()}
        phases = {(self.kind, phase, self.code) for phase in (self.phase, self.or_phase)}
        past = self.phase == "dot"
        good = (
            tuple(self.outcomes) == RECIPIENTS
            and len(found) == 1
            and found <= phases
            and self.asked == past
            and [reply and reply.code for reply in self.answered] == ([self.code or None] if past else [])
            and len([one for one in self.peer.messages if one.raw]) == past
        )
        return "" if good else f"{self.name}: {self.outcomes}, {self.asked}, {self.answered}, {self.peer.messages}"


class Table:
    """Starts the servers of all cases."""

    def __init__(self, stack: ExitStack, authority: Authority) -> None:
        self._stack, self._ca_file, self._context = stack, authority.ca_file, authority.server("peer.test")
        self._other = authority.server("other.test")
        self.cases: list[Case] = []
        self.done = threading.Event()

    def add(
        self,
        name: str,
        way: str,
        at: dict[str, Behaviour],
        kind: type,
        phase: str,
        code: int,
        short: str = "",
        **more: object,
    ) -> Case:
        """Add a case; `short` is the phase whose deadline is to pass."""
        security = way.partition(",")[0]
        given = {"extensions": SECURITIES[way], "users": {"u": "s3cret"}} | more
        if security != "none":
            given = {"tls": self._context, "implicit": security == "tls"} | given
        peer = self._stack.enter_context(Peer(at=at, **given))
        endpoint = Endpoint("peer.test", peer.port, security, "u", "s3cret", ("127.0.0.1",), self._ca_file)
        timeouts = replace(PATIENT, quit=SHORT, **({short: SHORT} if short else {}))
        self.cases.append(Case(f"{name} at {phase}, {way}", endpoint, timeouts, kind, phase, code, peer))
        return self.cases[-1]

    def add_replies(self) -> None:
        for way, phase, (name, row) in itertools.product(SECURITIES, PHASES, MISBEHAVIOURS.items()):
            behaviour, waits, code = row
            kind: type = Deferred
            if code == 554:
                kind = {"banner": Deferred, "ehlo": Deferred, "auth": Refused}.get(phase, Bounced)
            elif phase == "dot" and not code:
                kind = Unknown
            case = self.add(name, way, {phase: behaviour}, kind, phase, code, phase if waits else "")
            if (name, phase) == ("reset", "banner"):
                case.or_phase = "connect"  # reset before the loop saw that it was connected

    def add_early_replies(self) -> None:
        for way, (early, kind, code) in itertools.product(
            SECURITIES,
            [
                (b"250 2.0.0 queued\r\n", Deferred, 250),
                (b"451 4.3.0 disk\r\n", Deferred, 451),
                (b"552 5.3.4 too big\r\n", Bounced, 552),
                (b"421 4.3.2 closing\r\n", Deferred, 421),
                (b"junk\r\n", Deferred, 0),
            ],
        ):
            self.add("early", way, {"data": b"354 go on\r\n" + early}, kind, "body", code)

    def add_tls_that_fails(self) -> None:
        for way in ("starttls", "tls"):
            self.add("another's certificate", way, {}, Refused, "tls", 0, tls=self._other)
            case = self.add("no TLS", way, {"tls": lambda dialogue: dialogue.say(b"\x00" * 50)}, Refused, "tls", 0)
            case.or_phase = "starttls"  # in the segment of its reply
            self.add("closed", way, {"tls": hang_up}, Deferred, "tls", 0)
            self.add("nothing", way, {"tls": silent}, Deferred, "tls", 0, "tls")
        self.add("4xx", "starttls", {"starttls": b"454 4.7.0 later\r\n"}, Refused, "starttls", 454)
        self.add("closed", "starttls", {"starttls": hang_up}, Deferred, "starttls", 0)
        self.add("nothing", "starttls", {"starttls": silent}, Deferred, "starttls", 0, "tls")
        self.add("plain text", "starttls", {"starttls": b"220 go\r\n250 and\r\n"}, Refused, "starttls", 0)

    def add_partial_sends(self) -> None:
        """Servers that take a part of the message, and then no more or hang up."""

        def reads_little(dialogue: Dialogue) -> None:
            dialogue.socket.recv(1)
            raise Gone

        for way in SECURITIES:
            case = self.add("takes no more", way, {"body": self._deaf}, Deferred, "body", 0, extensions=())
            case.mail, case.timeouts = BIG, replace(case.timeouts, body=SHORT, min_rate=1e9)
            self.add("hangs up", way, {"body": reads_little}, Deferred, "body", 0, extensions=()).mail = BIG

    def _deaf(self, _dialogue: Dialogue) -> None:
        self.done.wait(PATIENCE)
        raise Gone


@contextmanager
def table(authority: Authority) -> Iterator[Table]:
    with many_files(), ExitStack() as stack:
        yield Table(stack, authority)


def test_all_misbehave_at_the_same_time_and_each_case_ends_as_it_must(
    authority: Authority, driver: Loop, caplog: pytest.LogCaptureFixture
) -> None:
    with table(authority) as everything:
        everything.add_replies()
        everything.add_early_replies()
        everything.add_tls_that_fails()
        everything.add_partial_sends()
        good = [everything.add("good", way, {}, Delivered, "dot", 250) for way in SECURITIES for _ in range(5)]
        for case in everything.cases:
            driver.start(case.run())
        while len(driver):
            driver.turn(1.0)
        everything.done.set()
    for case in good:
        assert {type(one) for one in case.outcomes.values()} == {Delivered}
        assert len(case.peer.messages) == 1
    wrong = [told for case in everything.cases if case not in good and (told := case.wrong())]
    assert not wrong, "\n".join(wrong)
    assert len(everything.cases) > 400
    assert caplog.messages == []
    assert Phase.DOT in {Phase(case.phase) for case in everything.cases}
