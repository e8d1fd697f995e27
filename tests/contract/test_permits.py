"""The contract of ``PermitStore`` in ``mailbbgun/limits/permits.py``, for every driver."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import cast
from uuid import UUID

import pytest
from sqlalchemy import Table, select, update

from mailbbgun.core.errors import Unavailable
from mailbbgun.core.ids import new_id
from mailbbgun.database.db import Database
from mailbbgun.limits.database_permits import DatabasePermitStore
from mailbbgun.limits.models import PermitCount
from mailbbgun.limits.permits import PermitRequest, PermitStore, SendingLimits
from mailbbgun.limits.redis_permits import RedisPermitStore
from tests.servers import PostgreSQL, Redis
from tests.waiting import PATIENCE, pause, wait_until

PACE = cast(Table, PermitCount.__table__)
#: Mails a second.
RATE = 20


@dataclass(frozen=True)
class Counter:
    """A permit store and its surroundings.

    ``another`` makes a second store with connections of its own. ``server`` is the server it
    depends on, None for SQLite. ``back_by_a_day`` moves today's counts to yesterday.
    """

    permits: PermitStore
    another: Callable[[], PermitStore]
    server: PostgreSQL | Redis | None
    back_by_a_day: Callable[[UUID], object]


def _counter(url: str, server: PostgreSQL | None) -> Iterator[Counter]:
    with ExitStack() as stack:

        def connected() -> Database:
            database = Database(url)
            stack.callback(database.close)
            return database

        def back_by_a_day(account_id: UUID) -> None:
            with database.write() as session:
                session.execute(update(PACE).where(PACE.c.account_id == account_id).values(day=PACE.c.day - 1))

        database = connected()
        PACE.create(database.engine)
        yield Counter(DatabasePermitStore(database), lambda: DatabasePermitStore(connected()), server, back_by_a_day)


@pytest.fixture
def sqlite_grants(tmp_path: Path) -> Iterator[Counter]:
    """Rows of a SQLite file."""
    yield from _counter(f"sqlite:///{tmp_path}/permits.db", None)


@pytest.fixture
def postgresql_grants(breakable_postgresql: PostgreSQL) -> Iterator[Counter]:
    """Rows of a PostgreSQL database."""
    name = breakable_postgresql.create_database()
    yield from _counter(breakable_postgresql.url(name), breakable_postgresql)
    breakable_postgresql.drop_database(name)


@pytest.fixture
def redis_grants(breakable_redis: Redis) -> Iterator[Counter]:
    """Hashes of a Redis."""
    with ExitStack() as stack:

        def connected() -> PermitStore:
            permits = RedisPermitStore(breakable_redis.url())
            stack.callback(permits.close)
            return permits

        client = stack.enter_context(breakable_redis.client())
        yield Counter(
            connected(), connected, breakable_redis, lambda one: client.hincrby(f"mailbbgun:pace:{one}", "day", -1)
        )


@pytest.fixture(params=["sqlite_grants", "postgresql_grants", "redis_grants"])
def counter(request: pytest.FixtureRequest) -> Counter:
    """Every driver in turn."""
    counter = request.getfixturevalue(request.param)
    assert isinstance(counter, Counter)
    return counter


@pytest.fixture(params=["postgresql_grants", "redis_grants"])
def served(request: pytest.FixtureRequest) -> Counter:
    """The drivers that depend on a server."""
    counter = request.getfixturevalue(request.param)
    assert isinstance(counter, Counter)
    return counter


@pytest.fixture
def permits(counter: Counter) -> PermitStore:
    """The permit store of the driver."""
    return counter.permits


def test_a_burst_is_granted_at_once_and_the_rest_is_told_how_long_to_wait(permits: PermitStore) -> None:
    account = new_id()
    limits = SendingLimits(max_per_second=1)  # a burst of 1.25
    first = permits.ask([PermitRequest(account, 5, limits)])[0]
    assert (first.account_id, first.n) == (account, 1)
    assert 0.6 < first.wait <= 0.75
    slow = SendingLimits(send_interval=3600)  # no machine is too slow for this one
    assert [permits.ask([PermitRequest(other, 5, slow)])[0].n for other in [new_id()] * 2] == [1, 0]
    pause(first.wait + 0.01)
    assert permits.ask([PermitRequest(account, 5, limits)])[0].n == 1


def test_requests_for_many_accounts_are_answered_together_in_their_order(permits: PermitStore) -> None:
    known, new = [[new_id() for _ in range(100)] for _ in range(2)]
    limits = SendingLimits(send_interval=3600)
    assert [one.n for one in permits.ask([PermitRequest(account, 1, limits) for account in known])] == [1] * 100
    mixed = [account for pair in zip(reversed(known), new, strict=True) for account in pair]
    answers = permits.ask([PermitRequest(account, 1, limits) for account in mixed])
    assert [one.account_id for one in answers] == mixed
    assert [one.n for one in answers] == [0, 1] * 100
    assert permits.ask([]) == []


def test_a_request_for_fewer_permits_than_the_burst_leaves_the_others(permits: PermitStore) -> None:
    account = new_id()
    limits = SendingLimits(max_per_second=40)  # a burst of 11
    answers = [permits.ask([PermitRequest(account, n, limits)])[0] for n in (3, 0, 4, 50)]
    assert [(one.n, one.wait > 0) for one in answers[:3]] == [(3, False), (0, False), (4, False)]
    assert 4 <= answers[3].n <= 11  # a slow machine has gained some permits


def test_no_permit_is_granted_before_the_end_of_an_interval(permits: PermitStore) -> None:
    want = PermitRequest(new_id(), 9, SendingLimits(send_interval=0.2))
    moments: list[tuple[float, float]] = []
    while len(moments) < 4:
        before = time.monotonic()
        n = permits.ask([want])[0].n
        assert n <= 1
        moments += [(before, time.monotonic())] * n
        pause(0.002)
    assert moments
    # SQLite's clock has milliseconds.
    assert all(after - before > 0.198 for (before, _), (_, after) in pairwise(moments))


def test_a_limit_of_a_minute_is_spread_over_the_minute(permits: PermitStore) -> None:
    account = new_id()
    limits = SendingLimits(max_per_minute=600)  # a burst of 3.5
    assert permits.ask([PermitRequest(account, 100, limits)])[0].n == 3
    pause(0.55)
    # However long the pause is, no more than a burst is saved up.
    assert permits.ask([PermitRequest(account, 100, limits)])[0].n == 3


def test_a_daily_limit_ends_at_midnight_and_the_next_day_starts_unused(counter: Counter) -> None:
    account = new_id()
    limits = SendingLimits(max_per_day=5)
    assert [counter.permits.ask([PermitRequest(account, 3, limits)])[0].n for _ in range(3)] == [3, 2, 0]
    answer = counter.permits.ask([PermitRequest(account, 1, limits)])[0]
    midnight = 86_400 - time.time() % 86_400  # the server runs on this machine and has its clock
    assert answer.n == 0
    off = abs(answer.wait - midnight) % 86_400
    assert min(off, 86_400 - off) < PATIENCE
    counter.back_by_a_day(account)
    assert [counter.permits.ask([PermitRequest(account, 4, limits)])[0].n for _ in range(2)] == [4, 1]


def test_unused_permits_are_returned_to_the_day_but_not_to_the_rate(permits: PermitStore) -> None:
    account = new_id()
    limits = SendingLimits(max_per_day=5)
    assert permits.ask([PermitRequest(account, 5, limits)])[0].n == 5
    assert permits.ask([PermitRequest(account, 9, limits, unused=2)])[0].n == 2
    assert permits.ask([PermitRequest(account, 0, limits, unused=99)])[0].n == 0
    assert permits.ask([PermitRequest(account, 9, limits)])[0].n == 5
    slow = SendingLimits(max_per_day=5, send_interval=60)
    other = new_id()
    assert permits.ask([PermitRequest(other, 1, slow)])[0].n == 1
    assert permits.ask([PermitRequest(other, 1, slow, unused=1)])[0].n == 0


def test_unused_permits_of_yesterday_do_not_raise_the_limit_of_today(counter: Counter) -> None:
    account = new_id()
    limits = SendingLimits(max_per_day=5)
    counter.permits.ask([PermitRequest(account, 5, limits)])
    counter.back_by_a_day(account)
    assert counter.permits.ask([PermitRequest(account, 9, limits, unused=3)])[0].n == 5


def test_other_limits_take_effect_at_once(permits: PermitStore) -> None:
    account = new_id()
    assert permits.ask([PermitRequest(account, 1, SendingLimits(send_interval=3600))])[0].wait > 3600 - PATIENCE
    assert permits.ask([PermitRequest(account, 1, SendingLimits(send_interval=0.1))])[0].wait <= 0.1
    # One mail was sent today already.
    assert permits.ask([PermitRequest(account, 1, SendingLimits(max_per_day=1))])[0].n == 0
    quick = PermitRequest(account, 1, SendingLimits(send_interval=0.1, max_per_day=2))
    wait_until(lambda: permits.ask([quick])[0].n == 1, "a permit after the interval")


def test_four_threads_that_ask_as_fast_as_they_can_get_no_more_than_the_limit(counter: Counter) -> None:
    want = PermitRequest(new_id(), 3, SendingLimits(max_per_second=RATE))

    over = threading.Event()
    got: list[int] = []

    def greedy(_: int) -> None:
        permits = counter.another()
        while not over.wait(0.005):
            got.append(permits.ask([want])[0].n)

    counter.permits.ask([PermitRequest(want.account_id, 0, want.limits)])
    began = time.monotonic()
    with ThreadPoolExecutor(4) as threads:
        asking = threads.map(greedy, range(4))
        try:
            wait_until(lambda: sum(got) >= RATE, "as many permits as the limit has in a second")
        finally:
            over.set()
        list(asking)
    assert sum(got) <= want.limits.burst + RATE * (time.monotonic() - began)  # a slow machine may only get fewer


def test_many_first_requests_at_once_get_one_burst_together(permits: PermitStore) -> None:
    accounts = [new_id() for _ in range(20)]
    limits = SendingLimits(send_interval=600)
    together = threading.Barrier(8)

    def ask(turn: int) -> list[UUID]:
        wants = [PermitRequest(account, 2, limits) for account in accounts]
        together.wait()
        return [one.account_id for one in permits.ask(wants[::-1] if turn % 2 else wants) for _ in range(one.n)]

    with ThreadPoolExecutor(8) as threads:
        got = [account for answer in threads.map(ask, range(8)) for account in answer]
    assert sorted(got) == sorted(accounts)


def test_an_outage_raises_unavailable_and_permits_come_again_after_it(served: Counter) -> None:
    assert served.server is not None
    want = PermitRequest(new_id(), 1, SendingLimits(max_per_second=100))
    assert served.permits.ask([want])[0].n == 1
    served.server.stop()
    try:
        with pytest.raises(Unavailable):
            served.permits.ask([want])
    finally:
        served.server.start()

    def granted() -> bool:
        try:
            return served.permits.ask([want])[0].n == 1
        except Unavailable:
            return False

    wait_until(granted, "a permit after the server's return")


def test_a_request_that_waits_for_a_lock_sees_the_permits_granted_meanwhile(breakable_postgresql: PostgreSQL) -> None:
    """A statement may begin long before it gets the row's lock."""
    database = Database(breakable_postgresql.url(breakable_postgresql.create_database()))
    PACE.create(database.engine)
    permits, want = DatabasePermitStore(database), PermitRequest(new_id(), 6, SendingLimits(max_per_minute=1))
    permits.ask([want])
    with ThreadPoolExecutor(1) as thread:
        with database.write() as session:
            session.execute(select(PACE).with_for_update()).all()
            waiting = thread.submit(permits.ask, [want])
            pause(0.5)
            # As if others had got all permits.
            free_at = time.time() + want.limits.burst * want.limits.interval
            session.execute(update(PACE).values(free_at=free_at))
        assert waiting.result()[0].n == 0
    with database.read() as session:
        assert session.execute(select(PACE.c.free_at)).scalar_one() == pytest.approx(free_at, abs=0.001)
    database.close()
