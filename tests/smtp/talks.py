"""Whole conversations of the protocol machine, over tables of octets; and what servers may answer."""

from collections.abc import Callable

import pytest

from mailbbgun.relays.client import SMTPConnection
from mailbbgun.smtp.endpoint import Endpoint
from mailbbgun.smtp.envelope import Envelope
from mailbbgun.smtp.opening import CannotOpen
from mailbbgun.smtp.outcome import Bounced, Deferred, Outcome, Refused, TooMany
from mailbbgun.smtp.reply import MAX_LINE, MAX_LINES
from tests.smtp.clients import Journal
from tests.smtp.drivers import awaited, formed
from tests.smtp.peers import PATIENT
from tests.smtp.tables import Answer, Closes, Cut, Disturb, End, Mutes, Server, Table, TableLink, whole

RAW = b"Subject: x\r\n\r\n.dots\r\n"
ENVELOPE = Envelope("a@a.test", ("b@b.test", "c@b.test"), RAW)
PIPELINED, STEPWISE = ("PIPELINING", "8BITMIME"), ("8BITMIME",)
WAYS = {"pipelined": PIPELINED, "stepwise": STEPWISE}
CLEAR = Endpoint("peer.test", 25, "none", addresses=("192.0.2.1",))

both_ways = pytest.mark.parametrize("extensions", WAYS.values(), ids=WAYS)


class Talk:
    """One connection that opens, sends one message and quits, over a `Table`."""

    def __init__(
        self,
        end: Callable[[], End],
        endpoint: Endpoint = CLEAR,
        cut: Cut = whole,
        disturb: Disturb = lambda *_: None,
        before_dot: Callable[[TableLink], None] = lambda _link: None,
    ) -> None:
        self.table, self.journal = Table(end, cut, disturb), Journal()
        self._before_dot = before_dot
        self.outcomes: dict[str, Outcome | TooMany] = {}
        self.refusal: Deferred | Refused | None = None
        self.usable = False
        try:
            self.table.run(self._talk(endpoint))
        except CannotOpen as error:
            self.refusal = error.outcome

    async def _talk(self, endpoint: Endpoint) -> None:
        connection = await SMTPConnection.open(endpoint, "client.test", PATIENT)
        with formed(ENVELOPE) as mail:
            self.outcomes = await connection.send(mail, awaited(self._asked), awaited(self.journal.after_dot))
        self.usable = connection.usable
        await connection.quit()

    def _asked(self, accepted: tuple[str, ...]) -> bool:
        self._before_dot(self.table.links[-1])
        return self.journal.before_dot(accepted)

    @property
    def outcome(self) -> Outcome | TooMany:
        """What became of the first recipient."""
        return self.refusal or next(iter(self.outcomes.values()))

    @property
    def sent(self) -> bytes:
        return self.table.links[-1].sent


def served(at: dict[str, Answer], extensions: tuple[str, ...] = PIPELINED) -> Talk:
    return Talk(lambda: Server(at, extensions))


OPENING = ("banner", "ehlo")
BEFORE_DATA = ("mail", "rcpt", "data")
ANSWERS: list[tuple[str, Answer, type, int]] = [
    ("4xx", b"451 4.3.0 later\r\n", Deferred, 451),
    ("5xx", b"554 5.7.1 no\r\n", Bounced, 554),
    ("421 and closed", Closes(b"421 4.3.2 closing\r\n"), Deferred, 421),
    ("421 and open", b"421 4.3.2 closing\r\n", Deferred, 421),
    ("garbage", b"\x00\xff\r\n", Deferred, 0),
    ("HTTP", b"HTTP/1.1 400 Bad Request\r\n\r\n", Deferred, 0),
    ("nothing", Mutes(), Deferred, 0),
    ("half a line", Mutes(b"250 hal"), Deferred, 0),
    ("half a line, then closed", Closes(b"250 hal"), Deferred, 0),
    ("half a reply, then closed", Closes(b"250-one\r\n250-two\r\n"), Deferred, 0),
    ("closed", Closes(), Deferred, 0),
    ("too long a line", b"250 " + b"x" * MAX_LINE + b"\r\n", Deferred, 0),
    ("a line that does not end", Mutes(b"250 " + b"x" * 100_000), Deferred, 0),
    ("too many lines", b"250-x\r\n" * (MAX_LINES + 1) + b"250 x\r\n", Deferred, 0),
    ("more than 64 KB", (b"250-" + b"x" * 4000 + b"\r\n") * 17 + b"250 x\r\n", Deferred, 0),
    ("two codes", b"250-x\r\n451 x\r\n", Deferred, 0),
]
answering = pytest.mark.parametrize(
    ("answer", "kind", "code"), [row[1:] for row in ANSWERS], ids=[row[0] for row in ANSWERS]
)
