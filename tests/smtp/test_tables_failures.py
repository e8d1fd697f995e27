"""What the kernel and TLS do to the protocol machine, by tables of octets."""

from collections.abc import Callable
from dataclasses import replace
from math import inf

import pytest

from mailbbgun.drivers.operations import Operation, Receive, Send, SendFailed
from mailbbgun.smtp.endpoint import Endpoint, Security
from mailbbgun.smtp.outcome import Deferred, Delivered, Phase, Refused, Unknown
from mailbbgun.smtp.reply import Reply
from tests.smtp.authority import Authority
from tests.smtp.drivers import with_each_form
from tests.smtp.tables import (
    Answer,
    Closes,
    End,
    Server,
    StartTls,
    TlsEnd,
    at_octet,
    pieces,
    whole,
)
from tests.smtp.talks import BEFORE_DATA, CLEAR, PIPELINED, STEPWISE, Talk, answering, both_ways, served

pytestmark = with_each_form

# -- what the kernel says: deadlines, resets, writes that fail

ERRORS: dict[str, Callable[[], OSError]] = {
    "deadline": TimeoutError,
    "reset": lambda: ConnectionResetError(104, "Connection reset by peer"),
}
HOWS = {"clear": "none", "STARTTLS and AUTH": "starttls", "TLS and AUTH": "tls"}


class Sessions:
    """Endpoints and servers for each way to secure a connection."""

    def __init__(self, authority: Authority) -> None:
        self._context, self._ca_file = authority.server("peer.test"), authority.ca_file

    def endpoint(self, security: Security, **more: object) -> Endpoint:
        login = {} if security == "none" else {"username": "u", "password": "p"}
        return replace(CLEAR, security=security, ca_file=self._ca_file, **(login | more))

    def end(self, security: Security, extensions: tuple[str, ...], at: dict[str, Answer] | None = None) -> End:
        inner = Server(at or {}, (*extensions, "AUTH PLAIN"))
        if security == "none":
            return Server(at or {}, extensions)
        if security == "tls":
            return TlsEnd(inner, self._context)
        return StartTls(Server({}, (*extensions, "STARTTLS")), inner, self._context)


@pytest.fixture(scope="module")
def sessions(authority: Authority) -> Sessions:
    return Sessions(authority)


@both_ways
@pytest.mark.parametrize("security", HOWS.values(), ids=HOWS)
@pytest.mark.parametrize("error", ERRORS.values(), ids=ERRORS)
@pytest.mark.parametrize("handed", [False, True], ids=["nothing handed", "some handed"])
def test_whichever_operation_fails_mail_is_unknown_only_once_its_dot_may_have_left(
    sessions: Sessions, security: Security, error: Callable[[], OSError], handed: bool, extensions: tuple[str, ...]
) -> None:
    undisturbed = Talk(lambda: sessions.end(security, extensions), sessions.endpoint(security))
    assert {type(one) for one in undisturbed.outcomes.values()} == {Delivered}
    seen = set()
    for failing in range(1, len(undisturbed.table.operations) + 1):

        def fail(number: int, operation: Operation[object], failing: int = failing) -> Exception | None:
            if number != failing:
                return None
            if isinstance(operation, Send):
                operation.handed = handed
            return error()

        talk = Talk(lambda: sessions.end(security, extensions), sessions.endpoint(security), disturb=fail)
        operations = talk.table.operations
        broken, asked = operations[failing - 1], bool(talk.journal.before)
        replied = any(isinstance(one, Receive) for one in operations[failing:]) or failing > _dot_of(undisturbed) + 1
        if not asked:
            kind: type = Deferred
        elif failing <= _dot_of(undisturbed):  # the dot itself
            kind = Unknown if handed else Deferred
        else:
            kind = Delivered if replied else Unknown
        assert type(talk.outcome) is kind, (failing, broken, talk.outcome)
        assert all(link.closed for link in talk.table.links)
        if asked:
            ((_, reply),) = talk.journal.after
            assert (reply is None) == (kind is Unknown)
        seen.add(kind)
    assert seen == {Deferred, Unknown, Delivered}


def _dot_of(talk: Talk) -> int:
    """Return the number of the operation that sent the dot: QUIT is the last write, the dot the one before."""
    numbers = [number for number, one in enumerate(talk.table.operations, 1) if isinstance(one, Send)]
    return numbers[-2]


@pytest.mark.parametrize("phase", ["mail", "body", "dot"])
@pytest.mark.parametrize("handed", [False, True])
def test_a_write_that_fails_has_its_phase_and_only_a_dot_that_may_have_left_is_unknown(
    phase: str, handed: bool
) -> None:
    begins = {"mail": b"MAIL", "body": b"Subject", "dot": b".\r\n"}[phase]

    def fail(_number: int, operation: Operation[object]) -> Exception | None:
        if isinstance(operation, Send) and bytes(operation.data).startswith(begins):
            return SendFailed(BrokenPipeError(32, "Broken pipe"), handed)
        return None

    talk = Talk(lambda: Server({}, STEPWISE), disturb=fail)
    assert type(talk.outcome) is (Unknown if phase == "dot" and handed else Deferred)
    assert (talk.outcome.phase, talk.outcome.reply.text) == (phase, "broken pipe")
    assert len(talk.journal.before) == len(talk.journal.after) == (phase == "dot")


def test_every_wait_has_a_deadline() -> None:
    talk = Talk(Server)
    assert all(operation.deadline < inf for operation in talk.table.operations)


# -- TLS


@pytest.mark.parametrize("security", ["starttls", "tls"])
def test_tls_may_be_cut_at_any_octet(sessions: Sessions, security: Security) -> None:
    for cut in map(pieces, (1, 2, 3, 5, 64, 1000)):
        talk = Talk(lambda: sessions.end(security, PIPELINED), sessions.endpoint(security), cut)
        assert talk.outcome == Delivered(Reply(250, "2.0.0", "queued"))
        assert b"Subject" not in talk.sent
        assert b"AUTH" not in talk.sent
        ends = talk.table.ends[-1]
        inner = ends.inner if isinstance(ends, TlsEnd) else ends.tls.inner
        assert inner.messages == [b"Subject: x\r\n\r\n..dots\r\n"]


@both_ways
@pytest.mark.parametrize("security", ["starttls", "tls"])
@pytest.mark.parametrize("phase", [*BEFORE_DATA, "body", "dot"])
@answering
def test_under_tls_an_answer_means_what_it_means_in_clear(
    sessions: Sessions,
    security: Security,
    phase: str,
    answer: Answer,
    kind: type,
    code: int,
    extensions: tuple[str, ...],
) -> None:
    talk = Talk(lambda: sessions.end(security, extensions, {phase: answer}), sessions.endpoint(security))
    clear = served({phase: answer}, extensions)
    assert talk.outcomes == clear.outcomes
    assert (talk.journal.before, talk.journal.after) == (clear.journal.before, clear.journal.after)


@pytest.mark.parametrize("notifies", [True, False], ids=["close_notify", "ragged"])
@pytest.mark.parametrize(("phase", "kind"), [("mail", Deferred), ("data", Deferred), ("dot", Unknown)])
def test_the_end_of_tls_is_the_end_of_the_connection(
    authority: Authority, sessions: Sessions, notifies: bool, phase: str, kind: type
) -> None:
    context = authority.server("peer.test")
    talk = Talk(
        lambda: TlsEnd(Server({phase: Closes()}, (*STEPWISE, "AUTH PLAIN")), context, notifies=notifies),
        sessions.endpoint("tls"),
    )
    assert (type(talk.outcome), talk.outcome.phase) == (kind, phase)
    assert talk.outcome.reply.text == "the server closed the connection"


def test_text_ahead_of_the_handshake_is_no_reply(authority: Authority, sessions: Sessions) -> None:
    context = authority.server("peer.test")
    injected = b"250-peer.test\r\n250 AUTH PLAIN\r\n"
    for cut in (whole, at_octet(24)):  # in the segment of the reply to STARTTLS, and after it
        talk = Talk(
            lambda: StartTls(Server({}, ("STARTTLS",)), Server(), context, injected), sessions.endpoint("starttls"), cut
        )
        assert isinstance(talk.refusal, Refused)
        assert talk.refusal.phase in (Phase.STARTTLS, Phase.TLS)
        assert b"AUTH" not in talk.sent


@pytest.mark.parametrize(
    ("names", "expired", "verify", "told"),
    [
        (("other.test",), False, True, "certificate is not accepted: Hostname mismatch"),
        (("peer.test",), True, True, "certificate is not accepted: certificate has expired"),
        (("other.test",), True, False, None),
    ],
)
def test_a_certificate_is_checked_as_it_was(
    authority: Authority, sessions: Sessions, names: tuple[str, ...], expired: bool, verify: bool, told: str | None
) -> None:
    context = authority.server(*names, expired=expired)
    end = Server({}, (*STEPWISE, "AUTH PLAIN"))
    talk = Talk(lambda: TlsEnd(end, context), sessions.endpoint("tls", verify=verify))
    if told is None:
        assert isinstance(talk.outcome, Delivered)
    else:
        assert isinstance(talk.refusal, Refused)
        assert told in talk.refusal.reply.text
        assert talk.refusal.phase is Phase.TLS
        assert end.commands == []


@pytest.mark.parametrize("what", [b"220 I speak first\r\n", b"\x15\x03\x01\x00\x02\x02\x28", b"\x00" * 100])
def test_what_is_no_tls_refuses_and_nothing_is_said_in_clear(sessions: Sessions, what: bytes) -> None:
    class NoTls(Server):
        def take(self, octets: bytes) -> bytes:
            return what

    talk = Talk(lambda: NoTls({"banner": b""}), sessions.endpoint("tls"))
    assert isinstance(talk.refusal, Refused)
    assert talk.refusal.phase is Phase.TLS
    assert b"EHLO" not in talk.sent
