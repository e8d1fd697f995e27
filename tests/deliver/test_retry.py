"""The schedule and the policies, by table."""

from uuid import uuid4

import pytest

from mailbbgun.deliver.claim import Claim
from mailbbgun.deliver.retry import JITTER, Policy, judge, lost_unknown, lost_unsent, released, too_late
from mailbbgun.events.kinds import Kind, Reason
from mailbbgun.smtp.outcome import Bounced, Deferred, Delivered, Phase, Refused, Unknown
from mailbbgun.smtp.reply import Reply

DELAYS = (600, 600, 1800)
RETRY = Policy(DELAYS, False, lambda: 0.5)
HOLD = Policy(DELAYS, True, lambda: 0.5)
OK = Reply(250, "2.0.0", "queued as 7")
LATER = Reply(451, "4.7.1", "greylisted")
NEVER = Reply(550, "5.1.1", "no such user")
LOST = Reply(0, "4.4.2", "connection lost")


def claim(tries: int = 0, unknowns: int = 0, address: str = "a@b.test") -> Claim:
    return Claim(uuid4(), uuid4(), uuid4(), address, "normal", 7, tries, unknowns, 0.0)


@pytest.mark.parametrize(
    ("outcome", "policy", "tries", "unknowns", "kind", "status", "reason", "wait", "hinted"),
    [
        (Delivered(OK), RETRY, 0, 0, Kind.DELIVERED, "DELIVERED", None, 0, 0),
        (Bounced(NEVER, Phase.RCPT), RETRY, 0, 0, Kind.BOUNCED, "ERROR", Reason.BOUNCED, 0, 0),
        (Deferred(LATER, Phase.RCPT), RETRY, 0, 0, Kind.DEFERRED, "PENDING", None, 600, 600),
        (Deferred(LATER, Phase.RCPT), RETRY, 2, 0, Kind.DEFERRED, "PENDING", None, 1800, 1800),
        (Deferred(LATER, Phase.RCPT), RETRY, 3, 0, Kind.EXPIRED, "ERROR", Reason.EXPIRED, 0, 0),
        (Deferred(LATER, Phase.RCPT, 90.0), RETRY, 0, 0, Kind.DEFERRED, "PENDING", None, 90, 0),
        (Refused(Reply(535, "5.7.8", "no"), Phase.AUTH), RETRY, 3, 0, Kind.REFUSED, "PENDING", None, 60, 0),
        (
            Refused(Reply(550, "5.7.1", "no"), Phase.RCPT),
            RETRY,
            3,
            0,
            Kind.REFUSED,
            "PENDING",
            None,
            60 + RETRY.delays[0],
            0,
        ),
        (Unknown(LOST, Phase.DOT), RETRY, 0, 0, Kind.OUTCOME_UNKNOWN, "PENDING", None, 600, 600),
        (Unknown(LOST, Phase.DOT), RETRY, 1, 1, Kind.OUTCOME_UNKNOWN, "PENDING", None, 600, 600),
        (Unknown(LOST, Phase.DOT), RETRY, 2, 2, Kind.OUTCOME_UNKNOWN, "ERROR", Reason.OUTCOME_UNKNOWN, 0, 0),
        (Unknown(LOST, Phase.DOT), RETRY, 3, 0, Kind.OUTCOME_UNKNOWN, "ERROR", Reason.OUTCOME_UNKNOWN, 0, 0),
        (Unknown(LOST, Phase.DOT), HOLD, 0, 0, Kind.OUTCOME_UNKNOWN, "ERROR", Reason.OUTCOME_UNKNOWN, 0, 0),
    ],
)
def test_an_outcome_has_one_result(outcome, policy, tries, unknowns, kind, status, reason, wait, hinted):
    result = judge(outcome, claim(tries, unknowns), policy)
    assert (result.kind, result.status, result.reason, result.wait, result.hinted) == (
        kind,
        status,
        reason,
        wait,
        hinted,
    )
    assert result.claim_number == 7
    assert result.unknown is isinstance(outcome, Unknown)


@pytest.mark.parametrize(
    ("outcome", "left", "kind", "wait", "hinted"),
    [
        (Deferred(LATER, Phase.RCPT), 601.0, Kind.DEFERRED, 600, 600),
        (Deferred(LATER, Phase.RCPT), 600.0, Kind.DEFERRED, 300, 0),  # once more, halfway to the end
        (Deferred(LATER, Phase.RCPT), 10.0, Kind.DEFERRED, 5, 0),
        (Deferred(LATER, Phase.RCPT), 9.0, Kind.EXPIRED, 0, 0),
        (Deferred(LATER, Phase.RCPT), -1.0, Kind.EXPIRED, 0, 0),
        (Deferred(LATER, Phase.RCPT, 90.0), 91.0, Kind.DEFERRED, 90, 0),
        (Deferred(LATER, Phase.RCPT, 90.0), 90.0, Kind.EXPIRED, 0, 0),  # the server named a time that is too late
        (Unknown(LOST, Phase.DOT), 100.0, Kind.OUTCOME_UNKNOWN, 50, 0),
        (Unknown(LOST, Phase.DOT), 1.0, Kind.OUTCOME_UNKNOWN, 0, 0),
        (Refused(LATER, Phase.AUTH), 20.0, Kind.REFUSED, 20, 0),  # then its claim ends it
        (Refused(LATER, Phase.AUTH), -1.0, Kind.REFUSED, 0, 0),
        (Bounced(NEVER, Phase.RCPT), 1.0, Kind.BOUNCED, 0, 0),
        (Delivered(OK), -1.0, Kind.DELIVERED, 0, 0),
    ],
)
def test_retries_are_planned_within_the_time_in_which_the_message_is_useful(outcome, left, kind, wait, hinted):
    result = judge(outcome, claim(), RETRY, left=left)
    assert (result.kind, result.wait, result.hinted) == (kind, wait, hinted)
    assert wait < max(left, 0.01) or kind is Kind.REFUSED


def test_what_is_useful_no_more_ends_without_an_attempt():
    result = too_late(claim())
    assert (result.kind, result.status, result.reason) == (Kind.EXPIRED, "ERROR", Reason.EXPIRED)
    assert (result.attempted, result.counted) == (False, False)


def test_one_who_complains_does_so_of_what_was_delivered_only():
    complaining, other = claim(address="complain+1@simulator"), claim(address="complain@example.test")
    assert judge(Delivered(OK), complaining, RETRY).complained
    assert not judge(Delivered(OK), other, RETRY).complained
    for outcome in (Bounced(NEVER, Phase.DOT), Deferred(LATER, Phase.DOT), Unknown(LOST, Phase.DOT)):
        assert not judge(outcome, complaining, RETRY).complained


def test_the_schedule_is_walked_by_tries_that_a_server_ended_and_not_by_refusals_of_us():
    assert judge(Deferred(LATER, Phase.RCPT), claim(), RETRY).counted
    assert not judge(Refused(LATER, Phase.AUTH), claim(), RETRY).counted


def test_what_a_server_was_asked_is_an_attempt_and_what_is_known_of_a_worker_is_none():
    asked = (
        Delivered(OK),
        Bounced(NEVER, Phase.RCPT),
        Deferred(LATER, Phase.CONNECT),
        Refused(LATER, Phase.AUTH),
        Unknown(LOST, Phase.DOT),
    )
    assert all(judge(outcome, claim(), policy).attempted for outcome in asked for policy in (RETRY, HOLD))
    assert judge(Deferred(LATER, Phase.RCPT), claim(3), RETRY).attempted
    assert lost_unknown(claim(), RETRY).attempted  # its dot had gone
    assert not any(
        lost_unsent(claim(), crashes, 5, died=died).attempted for crashes in (0, 9) for died in (True, False)
    )
    assert not released(claim(), 3.0).attempted
    assert released(claim(), 3.0, "why", attempted=True).attempted


@pytest.mark.parametrize(("drawn", "factor"), [(0.0, 1 - JITTER), (0.5, 1.0), (1.0, 1 + JITTER)])
def test_the_rows_time_is_jittered_by_ten_percent(drawn, factor):
    result = judge(Deferred(LATER, Phase.RCPT), claim(), Policy(DELAYS, False, lambda: drawn))
    assert result.wait == pytest.approx(600 * factor)
    assert result.hinted == 600


def test_replies_of_our_own_have_no_code():
    assert judge(Unknown(LOST, Phase.DOT), claim(), RETRY).code is None
    assert judge(Delivered(OK), claim(), RETRY).code == 250


def test_a_lost_worker_that_had_not_sent_frees_its_claim_at_once():
    result = lost_unsent(claim(), 0, 5, died=True)
    assert (result.kind, result.status, result.wait, result.crashed) == (Kind.WORKER_LOST, "PENDING", 0, True)


def test_a_lost_worker_that_was_to_send_again_tells_after_what():
    result = lost_unsent(claim(), 0, 5, died=True, refusal=NEVER)
    assert (result.kind, result.status, result.attempted) == (Kind.WORKER_LOST, "PENDING", True)
    assert result.reply == "the worker died before it sent again after: 550 5.1.1 no such user"


def test_a_paused_worker_is_not_counted_as_a_crash():
    assert not lost_unsent(claim(), 4, 5, died=False).crashed


@pytest.mark.parametrize(("crashes", "parked"), [(0, False), (3, False), (4, True), (9, True)])
def test_the_fifth_worker_that_dies_with_a_message_parks_it(crashes, parked):
    result = lost_unsent(claim(), crashes, 5, died=True)
    assert (result.kind is Kind.PARKED, result.reason is Reason.PARKED, result.status == "ERROR") == (parked,) * 3


def test_a_claim_lost_without_a_journal_follows_the_policy_for_unknown_outcomes():
    assert lost_unknown(claim(), RETRY).status == "PENDING"
    assert lost_unknown(claim(), HOLD).status == "ERROR"


def test_a_claim_given_back_tells_nothing_and_counts_nothing():
    result = released(claim(), 3.0)
    assert (result.kind, result.status, result.wait, result.counted, result.released) == (
        None,
        "PENDING",
        3.0,
        False,
        True,
    )
