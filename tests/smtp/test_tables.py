"""The protocol machine, driven by hand with tables of octets: no network, no threads, no waiting."""

import pytest

from mailbbgun.drivers.operations import Operation, Send
from mailbbgun.smtp.outcome import Bounced, Deferred, Delivered, Phase, Unknown
from mailbbgun.smtp.reply import Reply
from tests.smtp.drivers import with_each_form
from tests.smtp.tables import (
    Answer,
    Server,
    TableLink,
    at_octet,
    pieces,
)
from tests.smtp.talks import BEFORE_DATA, ENVELOPE, OPENING, PIPELINED, STEPWISE, Talk, answering, both_ways, served

pytestmark = with_each_form

WRITTEN = {
    PIPELINED: [
        b"EHLO client.test\r\n",
        b"MAIL FROM:<a@a.test>\r\nRCPT TO:<b@b.test>\r\nRCPT TO:<c@b.test>\r\nDATA\r\n",
        b"Subject: x\r\n\r\n..dots\r\n",
        b".\r\n",
        b"QUIT\r\n",
    ],
    STEPWISE: [
        b"EHLO client.test\r\n",
        b"MAIL FROM:<a@a.test>\r\n",
        b"RCPT TO:<b@b.test>\r\n",
        b"RCPT TO:<c@b.test>\r\n",
        b"DATA\r\n",
        b"Subject: x\r\n\r\n..dots\r\n",
        b".\r\n",
        b"QUIT\r\n",
    ],
}


@both_ways
def test_each_write_has_just_its_octets_and_the_dot_has_its_own(extensions: tuple[str, ...]) -> None:
    talk = served({}, extensions)
    writes = [bytes(one.data) for one in talk.table.operations if isinstance(one, Send)]
    assert writes == WRITTEN[extensions]
    assert {type(one) for one in talk.outcomes.values()} == {Delivered}
    assert talk.table.links[-1].closed == "closed"


@both_ways
def test_replies_may_be_cut_at_any_octet(extensions: tuple[str, ...]) -> None:
    at: dict[str, Answer] = {"rcpt": b"250-2.1.5 one\r\n250 2.1.5 more\r\n", "dot": b"250-2.0.0 q\r\n250 2.0.0 w\r\n"}
    expected = served(at, extensions)
    for cut in (*map(pieces, (1, 2, 3, 7)), *map(at_octet, range(1, 120))):
        talk = Talk(lambda: Server(at, extensions), cut=cut)
        assert (talk.outcomes, talk.journal.after, talk.sent) == (
            expected.outcomes, expected.journal.after, expected.sent,
        )  # fmt: skip
    assert expected.outcome == Delivered(Reply(250, "2.0.0", "q w"))


# -- the answers of each phase


@both_ways
@pytest.mark.parametrize("phase", [*OPENING, *BEFORE_DATA])
@answering
def test_no_answer_before_the_message_sends_it(
    phase: str, answer: Answer, kind: type, code: int, extensions: tuple[str, ...]
) -> None:
    talk = served({phase: answer}, extensions)
    if phase in OPENING:
        kind = Deferred  # it is about no mail
        assert talk.refusal is not None
    assert (type(talk.outcome), talk.outcome.phase, talk.outcome.reply.code) == (kind, phase, code)  # type: ignore[union-attr]  # Fenced has none, and is not expected
    assert (talk.journal.before, talk.journal.after) == ([], [])
    assert b"Subject" not in talk.sent
    assert talk.table.links[-1].closed


@both_ways
@answering
def test_no_answer_to_the_dot_but_2xx_is_delivered(
    answer: Answer, kind: type, code: int, extensions: tuple[str, ...]
) -> None:
    talk = served({"dot": answer}, extensions)
    assert (type(talk.outcome), talk.outcome.reply.code) == (kind if code else Unknown, code)  # type: ignore[union-attr]  # Fenced has none, and is not expected
    assert talk.journal.before == [ENVELOPE.recipients]
    assert talk.journal.after == [(ENVELOPE.recipients, talk.outcome.reply if code else None)]  # type: ignore[union-attr]  # Fenced has none, and is not expected
    assert talk.sent.count(b"\r\n.\r\n") == 1
    assert talk.table.links[-1].closed


@answering
def test_an_answer_to_quit_changes_nothing(answer: Answer, kind: type, code: int) -> None:
    talk = served({"quit": answer})
    assert type(talk.outcome) is Delivered
    assert talk.table.links[-1].closed == "closed"


# -- a server that speaks early

EARLY = [
    b"250 2.0.0 queued\r\n",
    b"552 5.3.4 too big\r\n",
    b"451 4.3.0 disk\r\n",
    b"421 4.3.2 bye\r\n",
    b"25",
    b"junk\r\n",
]


@both_ways
@pytest.mark.parametrize("early", EARLY)
def test_a_reply_during_the_message_is_heard_and_no_dot_is_sent(early: bytes, extensions: tuple[str, ...]) -> None:
    for talk in (served({"body": early}, extensions), served({"data": b"354 go on\r\n" + early}, extensions)):
        assert type(talk.outcome) is (Bounced if early.startswith(b"5") else Deferred)
        assert talk.outcome.phase is Phase.BODY
        assert (talk.journal.before, talk.journal.after) == ([], [])
        assert not talk.sent.endswith(b"\r\n.\r\n")
        assert talk.table.links[-1].closed == "reset"


@both_ways
@pytest.mark.parametrize("early", EARLY)
def test_a_reply_that_comes_while_the_journal_is_written_is_heard_and_no_dot_is_sent(
    early: bytes, extensions: tuple[str, ...]
) -> None:
    talk = Talk(lambda: Server({}, extensions), before_dot=lambda link: link.segments.append(early))
    assert {type(one) for one in talk.outcomes.values()} == {Bounced if early.startswith(b"5") else Deferred}
    assert talk.outcome.phase in (Phase.BODY, Phase.DOT)
    assert not talk.sent.endswith(b"\r\n.\r\n")
    assert talk.journal.before == [ENVELOPE.recipients]
    ((recipients, reply),) = talk.journal.after
    assert (recipients, reply is not None and reply.code // 100 == 2) == (ENVELOPE.recipients, False)
    assert talk.table.links[-1].closed == "reset"


def test_a_server_that_closes_while_the_journal_is_written_has_not_got_the_dot() -> None:
    def close(link: TableLink) -> None:
        link.server.closed = True

    talk = Talk(Server, before_dot=close)
    assert (type(talk.outcome), talk.outcome.phase) == (Deferred, Phase.DOT)
    assert talk.journal.after == [(ENVELOPE.recipients, talk.outcome.reply)]


@both_ways
@pytest.mark.parametrize("early", EARLY)
def test_a_reply_that_comes_while_the_dot_waits_for_room_is_heard_and_no_dot_is_sent(
    early: bytes, extensions: tuple[str, ...]
) -> None:
    def no_room(_number: int, operation: Operation[object]) -> bool | None:
        if not isinstance(operation, Send) or operation.data != b".\r\n":
            return None
        operation.link.segments.append(early)
        return False

    talk = Talk(lambda: Server({}, extensions), disturb=no_room)
    assert {type(one) for one in talk.outcomes.values()} == {Bounced if early.startswith(b"5") else Deferred}
    assert not talk.sent.endswith(b"\r\n.\r\n")
    ((_, reply),) = talk.journal.after
    assert reply is not None
    assert reply.code // 100 != 2
    assert not talk.usable


def test_a_dot_that_waited_for_room_is_delivered_if_the_reply_comes_after_it() -> None:
    full = [False, False]

    def no_room(_number: int, operation: Operation[object]) -> bool | None:
        return full.pop() if full and isinstance(operation, Send) and operation.data == b".\r\n" else None

    talk = Talk(Server, disturb=no_room)
    assert (full, type(talk.outcome)) == ([], Delivered)
    assert talk.sent.count(b"\r\n.\r\n") == 1
