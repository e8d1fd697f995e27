"""Each situation of a delivery has its code, and sentences with what a person would ask next."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from mailbbgun.explain.facts import (
    ACCOUNTS,
    CATCHER,
    LOCAL,
    MX,
    POST,
    SERVER,
    SLACK,
    AccountFacts,
    DeliveryFacts,
    KeptMail,
    LastEvent,
    Way,
)
from mailbbgun.explain.reasons import Code, explained
from mailbbgun.messages.status import CANCELLED, DELIVERED, ERROR, Reason

NOW = datetime(2026, 11, 29, 10, 31, tzinfo=UTC)
LATER, BEFORE = NOW + timedelta(minutes=11), NOW - timedelta(minutes=1)
MAIN = {"id": UUID(int=1), "name": "main", "priority": 1}
BACKUP = AccountFacts(id=UUID(int=2), name="backup", priority=2)
PAUSED = AccountFacts(**MAIN, since=BEFORE, reply="421 4.7.0 Too many connections")
HERE = {"way": Way(LOCAL)}
DEFERRED = LastEvent("deferred", "451 4.7.1 Greylisted")


def facts(**more):
    due = {"next_attempt_at": BEFORE, "published_at": BEFORE}
    return DeliveryFacts(**{"now": NOW, "address": "ann@example.com", "way": Way(SERVER), **due, **more})


def waits(**more):
    return facts(next_attempt_at=LATER, attempts=2, reply="451 4.7.1 Greylisted", last=DEFERRED, **more)


@pytest.mark.parametrize(
    ("given", "codes", "words"),
    [
        (facts(status=DELIVERED, reply="250 Ok", finished_at=BEFORE), ["delivered"], ("250 Ok", "10:30:00")),
        (
            facts(**HERE, status=DELIVERED, kept=KeptMail(UUID(int=7), "ann@example.com", "Archive", BEFORE)),
            ["delivered"],
            ("in the mailbox ann@example.com", "folder Archive", "10:30:00", "-000000000007 shows it"),
        ),
        (
            facts(status=DELIVERED, way=Way(LOCAL), reply="250 stored"),
            ["delivered"],
            ("250 stored", "the reply says what was done with it"),
        ),
        (
            facts(status=DELIVERED, way=Way(POST), reply="250 HTTP 204"),
            ["delivered"],
            ("Your application took it", "HTTP 204", "your application is responsible"),
        ),
        (
            facts(status=ERROR, reason="bounced", way=Way(LOCAL), reply="550 no"),
            ["bounced"],
            ("refused here", "550 no"),
        ),
        (facts(status=CANCELLED), ["cancelled"], ("cancelled",)),
        (facts(status=ERROR, reason="bounced", reply="550 No such user"), ["bounced"], ("550 No such user", "retry")),
        (
            facts(status=ERROR, reason="bounced", cause="mailbox_full"),
            ["bounced"],
            ("because the mailbox is full: nothing",),
        ),
        (
            facts(status=ERROR, reason="bounced", cause="our_gateway"),
            ["bounced"],
            ("for good: nothing", "Read the reply."),
        ),
        (
            facts(status=ERROR, reason="bounced", cause="invalid_mailbox", reply="550 x"),
            ["bounced"],
            ("because there is no such mailbox: 550 x", "a new message to the right address. Once"),
        ),
        (waits(cause="greylisted"), ["waiting_for_retry"], ("because the server lets strangers wait",)),
        (facts(status=ERROR, reason="expired", reply="451 x"), ["expired"], ("451 x",)),
        (facts(status=ERROR, reason="outcome_unknown"), ["outcome_unknown"], ("may have arrived", "twice")),
        (facts(status=ERROR, reason="parked", crashes=3), ["parked"], ("Workers died",)),
        (facts(status=ERROR, reason="attachment_damaged"), ["attachment_damaged"], ("A file",)),
        (facts(status=ERROR, reason="suppressed"), ["suppressed"], ("suppression list", "DELETE /suppressions")),
        (facts(status=ERROR, reason="duplicate", duplicate_of="0-1"), ["duplicate"], ("0-1",)),
        (
            facts(lease_until=LATER, worker="mx1 (process 7)", worker_alive=True),
            ["being_sent"],
            ("mx1 (process 7)", "10:42:00"),
        ),
        (facts(lease_until=BEFORE, worker="mx1 (process 7)", worker_alive=True), ["worker_lost"], ("journal",)),
        (facts(lease_until=LATER), ["worker_lost"], ("a worker that is gone",)),
        (facts(next_attempt_at=None, suspended=True), ["tenant_suspended"], ("active again",)),
        (facts(next_attempt_at=LATER, scheduled=True), ["scheduled"], ("10:42:00", "PATCH")),
        (facts(next_attempt_at=LATER, scheduled=True, workers_alive=0), ["scheduled", "no_workers"], ("scheduled",)),
        (waits(), ["waiting_for_retry"], ("2 attempts", "451 4.7.1", "10:42:00", "server of SMTP_URL")),
        (waits(useful_until=NOW, way=Way(MX)), ["waiting_for_retry"], ("MX of example.com", "ends as expired")),
        (waits(way=Way(CATCHER)), ["waiting_for_retry"], ("mail catcher",)),
        (waits(way=Way(SLACK)), ["waiting_for_retry"], ("through its Slack account",)),
        (
            waits(way=Way(ACCOUNTS, [PAUSED, BACKUP])),
            ["waiting_for_retry"],
            ("through account backup",),
        ),
        (
            waits(way=Way(ACCOUNTS, [PAUSED])),
            ["account_paused", "waiting_for_retry"],
            ("main is paused since 2026-11-29T10:30:00.000Z because the server said: 421 4.7.0", "10:42:00"),
        ),
        (
            facts(way=Way(ACCOUNTS, [AccountFacts(**MAIN, used_today=9, max_per_day=9)])),
            ["account_limit"],
            ("9 of 9", "2026-11-30T00:00:00"),
        ),
        (facts(way=Way(ACCOUNTS, [AccountFacts(**MAIN, readable=False)])), ["password_unreadable"], ("main",)),
        (facts(way=Way(ACCOUNTS), workers_alive=0), ["no_account", "no_workers"], ("ann@example.com",)),
        (
            facts(next_attempt_at=LATER, last=LastEvent("refused", "535 no", "main")),
            ["refused"],
            ("account main", "535 no"),
        ),
        (
            facts(next_attempt_at=LATER, last=LastEvent("waiting", "not tried, for …", "main")),
            ["waiting"],
            ("account main", "not tried"),
        ),
        (facts(crashes=2), ["sent_alone"], ("2 workers died",)),
        (facts(published_at=None), ["hint_missing"], ("no hint",)),
        (facts(), ["queued"], ("10:30:00",)),
        (facts(workers_alive=0), ["no_workers", "queued"], ("worker.py",)),
    ],
)
def test_a_situation_is_explained(given, codes, words):
    found = explained(given)
    assert [one.code for one in found] == codes
    for word in words:
        assert word in f"{found[0].text} {found[0].next}"


def test_every_reason_has_a_sentence():
    for reason in Reason:
        (found,) = explained(facts(status=ERROR, reason=reason.value))
        assert found.code == reason.value
        assert "{" not in found.text
    assert {code.value for code in Code}.isdisjoint(reason.value for reason in Reason)
