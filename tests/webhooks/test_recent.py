"""Endpoints of one tenant share what was read of its log, and miss nothing by that."""

import random
from uuid import UUID

from mailbbgun.events.reading import START, Position
from mailbbgun.webhooks.sending import SharedEvent
from mailbbgun.webhooks.serving.recent import MOST, MOST_OF_ALL, RecentEvents
from mailbbgun.webhooks.serving.track import Track
from tests.webhooks.test_verdict import event

TENANT, OTHER = UUID(int=1), UUID(int=2)


def place(number: int) -> Position:
    return Position(number, UUID(int=number))


def test_events_are_known_from_each_place_between_them() -> None:
    recent, events = RecentEvents(), [event(number) for number in range(1, 6)]
    assert recent.after(TENANT, START, 10) is None
    recent.add(TENANT, START, events[:3], to_the_end=False)
    recent.add(TENANT, place(3), events[3:], to_the_end=True)
    assert recent.after(OTHER, START, 10) is None
    assert recent.after(TENANT, START, 2) == (events[:2], 2)
    assert recent.after(TENANT, START, 5) == (events, 6)  # fewer than the limit: the log had no more
    assert recent.after(TENANT, place(4), 9) == (events[4:], 2)
    # At the end of them, and at a place that was not read, the log must be read.
    assert recent.after(TENANT, place(5), 9) is None
    assert recent.after(TENANT, place(9), 9) is None
    assert recent.after(TENANT, Position(2, UUID(int=1)), 9) is None
    # A read elsewhere replaces them; one that finds nothing does not.
    recent.add(TENANT, place(90), [], to_the_end=True)
    assert recent.after(TENANT, START, 1) == (events[:1], 1)
    recent.add(TENANT, place(90), [event(91)], to_the_end=False)
    assert recent.after(TENANT, START, 1) is None
    assert recent.after(TENANT, place(90), 9) == ([event(91)], 1)
    recent.forget()
    assert recent.after(TENANT, place(90), 9)
    recent.forget()
    assert recent.after(TENANT, place(90), 9) is None


def test_events_of_many_tenants_take_bounded_memory() -> None:
    recent, events = RecentEvents(), [event(number) for number in range(1, 101)]
    tenants = [UUID(int=number) for number in range(1, 2 * MOST_OF_ALL // len(events))]

    def kept() -> int:
        return sum(len(known.events) for one in tenants if (known := recent.after(one, START, MOST)))

    for number, tenant in enumerate(tenants):
        recent.add(tenant, START, events, to_the_end=False)
        if number % 10 == 9:
            recent.forget()
            for one in tenants[: number + 1]:
                recent.add(one, place(100), [], to_the_end=True)  # so none is forgotten since it rests
            assert kept() <= MOST_OF_ALL
    assert kept()


def test_readers_at_different_places_meet_each_event_once_in_order() -> None:
    dice = random.Random(7)
    log = [event(number) for number in range(1, 3 * MOST)]
    recent, reads = RecentEvents(), 0
    tracks = {Track(START, "event"): list[SharedEvent]() for _ in range(3)}
    while any(not track.exhausted for track in tracks):
        track, met = dice.choice(list(tracks.items()))
        limit = dice.choice((4, 100))
        known = recent.after(TENANT, track.read_to, limit)
        events, of = (known.events, known.limit) if known else (log[track.read_to.number :][:limit], limit)
        if known is None:
            reads += 1
            recent.add(TENANT, track.read_to, events, to_the_end=len(events) < limit)
        met += events
        track.add(events, [False] * len(events), of)
    assert list(tracks.values()) == [log] * 3
    assert reads < sum(map(len, tracks.values())) / 20
