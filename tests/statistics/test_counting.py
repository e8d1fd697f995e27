"""What events add up to."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from uuid import UUID

from mailbbgun.statistics.counting import ALL, DAY, REST, Dimension, EventFacts, admitted, sums

AT = datetime(2026, 1, 31, 23, 59, 30, tzinfo=UTC)
MIDNIGHT = int(datetime(2026, 1, 31, tzinfo=UTC).timestamp())
MESSAGE = UUID(int=1)


def event(kind, recipient=None, message=MESSAGE, after=0.0, tags=("a", "b", "a"), test=False, received=False, **data):
    its = {"at": AT + timedelta(seconds=after), "message_id": message, "recipient": recipient}
    return SimpleNamespace(kind=kind, data=data, tags=tags, test=test, received=received, accepted_at=AT, **its)


def days(found):
    """Return the counts of days by dimension, value and day."""
    return {(row.dimension, row.value, row.start): its.counts for row, its in found.items() if row.interval == "day"}


def test_an_event_counts_for_the_time_at_which_it_happened_and_for_each_label():
    facts = EventFacts(recipients={MESSAGE: {"example.com": 2, "example.org": 1}})
    found = sums(
        [
            event("accepted", recipients=3),
            event("deferred", "ann@Example.com", account="main", retry_in=3),
            event("delivered", "ann@Example.com", after=60, account="main"),
            event("bounced", "ben@example.com", after=60, account="main", reason="bounced"),
            event("outcome_unknown", "eva@example.org", retry_in=2),
            event("suppressed", "eva@example.org"),
            event("circuit_opened", message=None, account="main"),
        ],
        facts,
    )
    told = days(found)
    first, second = MIDNIGHT, MIDNIGHT + DAY
    assert told[Dimension.NONE, ALL, first] == {
        **{"messages": 1, "accepted": 3, "deferred": 1, "outcome_unknown": 1},
        **{"suppressed": 1, "failed": 1, "error.suppressed": 1},
    }
    assert told[Dimension.NONE, ALL, second] == {"delivered": 1, "bounced": 1, "failed": 1, "error.bounced": 1}
    for tag in ("a", "b"):
        assert told[Dimension.TAG, tag, second] == told[Dimension.NONE, ALL, second]
    assert told[Dimension.DOMAIN, "example.com", first] == {"messages": 1, "accepted": 2, "deferred": 1}
    assert told[Dimension.DOMAIN, "example.org", first]["accepted"] == 1
    assert told[Dimension.ACCOUNT, "main", second]["failed"] == 1
    times = [its.times for row, its in found.items() if row[:4] == ("day", Dimension.NONE, second, ALL)]
    assert times == [{64: 1}]  # 60 s, from 55 s to 66 s
    minutes = [row for row in found if row.interval == "minute" and row.dimension == Dimension.NONE]
    assert {row.start % 60 for row in minutes} == {0}
    assert len(minutes) == 2


def test_mail_that_another_server_sent_is_not_counted():
    events = [event("received", received=True), event("delivered", "ann@mail.example", received=True)]
    assert not sums(events, EventFacts())


def test_test_mail_is_told_apart_and_events_before_a_day_are_left_out():
    events = [event("accepted", test=True), event("delivered", "a@example.com", after=60, test=True)]
    found = sums(events, EventFacts({MESSAGE: AT + timedelta(seconds=59)}), since=MIDNIGHT + DAY)
    assert {tuple(its.times) for its in found.values()} == {(40,)}  # a second after the scheduled time
    assert {row.test for row in found} == {True}
    assert {row.start for row in found if row.interval == "day"} == {MIDNIGHT + DAY}


def test_labels_beyond_the_limit_of_a_day_are_one_and_the_first_stay_whatever_the_pieces():
    events = [
        event("accepted", message=UUID(int=number), recipients=1, after=number % 2 * 60.0, tags=[f"t{number}"])
        for number in range(1, 9)
    ]
    facts = EventFacts()
    whole = admitted(sums(events, facts), {}, 2)
    pieces, known = {}, {}
    for start in range(0, len(events), 3):
        for row, its in admitted(sums(events[start : start + 3], facts), known, 2).items():
            pieces[row] = pieces[row] + its.counts if row in pieces else its.counts
            if row.interval == "day" and row.dimension == Dimension.TAG:
                known.setdefault((row.dimension, row.start, row.test), set()).add(row.value)
    assert pieces == {row: its.counts for row, its in whole.items()}
    of_day = {row.value: its.counts["accepted"] for row, its in whole.items() if row[:3] == ("day", "tag", MIDNIGHT)}
    assert of_day == {"t2": 1, "t4": 1, REST: 2}
