"""Senders never wait for a server, two processes keep to one limit, and what is away comes back."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import cast
from uuid import UUID

import pytest
from sqlalchemy import Table, select, update

from mailbbgun.core.ids import new_id
from mailbbgun.database.db import Database
from mailbbgun.database.ready import ReadyStatement, Rows, StatementStep, Values
from mailbbgun.limits.database_permits import DatabasePermitStore
from mailbbgun.limits.models import PermitCount
from mailbbgun.limits.permits import SendingLimits
from mailbbgun.limits.rate_limiter import RateLimiter
from tests.servers import PostgreSQL
from tests.waiting import PATIENCE, pause, wait_until

ROOT = Path(__file__).parents[2]
PACE = cast(Table, PermitCount.__table__)
RATE, SECONDS, WAITING = 20, 3.0, 5
INTERVAL = 0.25

# Has always some to send through three accounts, one of them shared with others; prints how many went and what it cost.
SENDER = f"""
import json, resource, sys, threading, time
from uuid import UUID
from mailbbgun.limits.database_permits import DatabasePermitStore
from mailbbgun.limits.permits import SendingLimits
from mailbbgun.limits.rate_limiter import RateLimiter
from tests.limits.test_rate_limiter import Counting

database, woken = Counting(sys.argv[1]), threading.Event()
statements = database.statements
rate_limiter = RateLimiter(DatabasePermitStore(database), woken.set)
rated, spaced = UUID(sys.argv[2]), UUID(sys.argv[3])
accounts = {{rated: SendingLimits(max_per_second={RATE}), spaced: SendingLimits(send_interval={INTERVAL})}}
sent = {{account: [] for account in accounts}}
rate_limiter.ready(UUID(int=1), SendingLimits(max_per_second=1))
woken.wait()
print("up", flush=True)
sys.stdin.readline()
statements.clear()
cpu, until, wakes = time.process_time(), time.monotonic() + {SECONDS}, 0
while (left := until - time.monotonic()) > 0:
    woken.clear()
    for account, limits in accounts.items():
        while True:
            wait = rate_limiter.ready(account, limits, {WAITING})
            if wait:
                break
            sent[account].append(time.time())
    wakes += woken.wait(left)
cost = time.process_time() - cpu
rate_limiter.close()
database.close()
print(json.dumps({{"rated": sent[rated], "spaced": sent[spaced], "cpu": cost, "statements": len(statements), "wakes": wakes}}))
"""


class Counting(Database):
    """A database that keeps count of the ready statements that it executes."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.statements: list[ReadyStatement] = []

    def ask(self, ready: ReadyStatement, values: Values) -> Rows:
        self.statements.append(ready)
        return super().ask(ready, values)

    def commit(self, steps: Sequence[StatementStep]) -> None:
        self.statements += [step.ready for step in steps]
        super().commit(steps)


class World:
    """A database with the table, rate limiters that count in it, and how often each woke its senders."""

    def __init__(self, url: str) -> None:
        self.database = Counting(url)
        PACE.create(self.database.engine)
        self.statements = self.database.statements
        self.stack = ExitStack()

    def rate_limiter(self, woken: threading.Event | None = None) -> RateLimiter:
        """Return a new rate_limiter, closed in the end."""
        rate_limiter = RateLimiter(DatabasePermitStore(self.database), (woken or threading.Event()).set)
        self.stack.callback(rate_limiter.close)
        return rate_limiter

    def used(self, account: UUID) -> int:
        """Return what is counted of the account's day."""
        with self.database.read() as session:
            return session.execute(select(PACE.c.used).where(PACE.c.account_id == account)).scalar_one_or_none() or 0


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A SQLite world."""
    world = World(f"sqlite:///{tmp_path}/pace.db")
    with world.stack:
        yield world
    world.database.close()


@contextmanager
def two_senders(url: str, rated: UUID, spaced: UUID) -> Iterator[list[subprocess.Popen[str]]]:
    command = [sys.executable, "-c", SENDER, url, str(rated), str(spaced)]
    both = [
        subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    try:
        yield both
    finally:
        for one in both:
            one.kill()
            one.communicate()


def test_two_processes_together_keep_to_a_rate_and_to_an_interval_and_are_woken_not_busy(
    postgresql: PostgreSQL,
) -> None:
    name = postgresql.create_database()
    world = World(postgresql.url(name))
    with two_senders(postgresql.url(name), new_id(), new_id()) as both:
        for one in both:
            assert one.stdout is not None
            assert one.stdout.readline() == "up\n"
        started = time.monotonic()
        for one in both:
            assert one.stdin is not None
            one.stdin.write("\n")
            one.stdin.flush()
        told = [json.loads(one.communicate()[0]) for one in both]
        took = time.monotonic() - started
    world.database.close()
    postgresql.drop_database(name)

    limits = SendingLimits(max_per_second=RATE)
    sent = sorted(moment for one in told for moment in one["rated"])
    assert len(sent) <= limits.burst + RATE * took  # a slow machine only makes that more
    assert all(one["rated"] for one in told)
    spaced = sorted(moment for one in told for moment in one["spaced"])
    assert 0 < len(spaced) <= 1 + took / INTERVAL
    for one in told:
        assert one["wakes"] > 0
        assert one["statements"] < 40 * took
        assert one["cpu"] < 0.3 * took, "busy, not waiting"


def test_a_grant_is_used_once_and_the_next_is_asked_for_when_it_may_be_there(world: World) -> None:
    woken = threading.Event()
    rate_limiter, account, limits = world.rate_limiter(woken), new_id(), SendingLimits(send_interval=0.3)
    assert rate_limiter.ready(account, limits) > 0
    assert woken.wait(PATIENCE)
    assert rate_limiter.ready(account, limits) == 0
    woken.clear()
    assert rate_limiter.ready(account, limits) > 0
    assert woken.wait(PATIENCE)
    assert rate_limiter.ready(account, limits) == 0


def test_all_accounts_that_wait_are_asked_for_in_one_statement(world: World) -> None:
    rate_limiter, limits = world.rate_limiter(), SendingLimits(max_per_second=1)
    rate_limiter.ready(new_id(), limits)
    wait_until(lambda: len(world.statements) >= 3)
    accounts = [new_id() for _ in range(200)]
    before = len(world.statements)
    for account in accounts:
        rate_limiter.ready(account, limits)
    wait_until(lambda: all(rate_limiter.ready(account, limits) == 0 or world.used(account) for account in accounts))
    assert 0 < len(world.statements) - before < 30


def test_no_more_is_asked_for_than_wait_and_what_nobody_came_for_is_taken_off_the_day(world: World) -> None:
    woken = threading.Event()
    rate_limiter, account, limits = world.rate_limiter(woken), new_id(), SendingLimits(max_per_day=100)
    rate_limiter.ready(account, limits, waiting=7)
    assert woken.wait(PATIENCE)
    assert world.used(account) == 7
    assert rate_limiter.ready(account, limits, waiting=1) == 0
    wait_until(lambda: world.used(account) == 1)
    pause(0.3)
    assert world.used(account) == 1  # and nobody is asked for any more


def test_a_close_takes_what_is_at_hand_off_the_day(world: World) -> None:
    woken = threading.Event()
    rate_limiter, account, limits = world.rate_limiter(woken), new_id(), SendingLimits(max_per_day=100)
    rate_limiter.ready(account, limits, waiting=7)
    assert woken.wait(PATIENCE)
    assert rate_limiter.ready(account, limits) == 0
    rate_limiter.close()
    assert world.used(account) == 1
    assert rate_limiter.ready(account, limits) > 0


def test_a_day_that_is_used_up_is_told_at_once_and_a_new_limit_counts_at_once(world: World) -> None:
    woken = threading.Event()
    rate_limiter, account, limits = world.rate_limiter(woken), new_id(), SendingLimits(max_per_day=1)
    rate_limiter.ready(account, limits)
    assert woken.wait(PATIENCE)
    assert rate_limiter.ready(account, limits) == 0
    woken.clear()
    midnight = 86_400 - time.time() % 86_400
    wait_until(lambda: rate_limiter.ready(account, limits) > midnight - PATIENCE)
    count = len(world.statements)
    for _ in range(100):
        rate_limiter.ready(account, limits)
    assert len(world.statements) == count
    assert rate_limiter.ready(account, SendingLimits(max_per_day=2)) > 0
    assert woken.wait(PATIENCE)
    assert rate_limiter.ready(account, SendingLimits(max_per_day=2)) == 0


def test_while_the_database_is_away_nothing_is_granted_and_then_it_goes_on(
    breakable_postgresql: PostgreSQL, caplog: pytest.LogCaptureFixture
) -> None:
    name = breakable_postgresql.create_database()
    world, woken = World(breakable_postgresql.url(name)), threading.Event()
    rate_limiter, account, limits = world.rate_limiter(woken), new_id(), SendingLimits(max_per_second=50)
    with world.stack:
        rate_limiter.ready(account, limits)
        assert woken.wait(PATIENCE)
        breakable_postgresql.stop()
        try:
            granted = 0
            for _ in range(8):
                woken.clear()
                if rate_limiter.ready(account, limits) == 0:
                    granted += 1
                woken.wait(0.1)
            assert granted <= 1  # before it went away
            wait_until(lambda: "limits_unavailable" in caplog.messages)
        finally:
            breakable_postgresql.start()
        wait_until(lambda: rate_limiter.ready(account, limits) == 0)
    told = [record.message for record in caplog.records if record.name == "mailbbgun.rate_limiter"]
    assert set(told) == {"limits_unavailable"}
    world.database.close()
    breakable_postgresql.drop_database(name)


def test_senders_that_fail_when_woken_do_not_end_the_rate_limiter(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise RuntimeError("no")

    rate_limiter, account, limits = (
        RateLimiter(DatabasePermitStore(world.database), fail),
        new_id(),
        SendingLimits(max_per_second=100),
    )
    world.stack.callback(rate_limiter.close)
    for _ in range(3):
        wait_until(lambda: rate_limiter.ready(account, limits) == 0)
    assert "rate_limiter_failed" in caplog.text


def test_a_row_that_lost_its_way_into_the_future_does_not_hold_an_account_for_long(world: World) -> None:
    rate_limiter, account, limits = world.rate_limiter(), new_id(), SendingLimits(max_per_second=10)
    wait_until(lambda: rate_limiter.ready(account, limits) == 0)
    with world.database.write() as session:  # as after a clock that was an hour ahead
        session.execute(update(PACE).values(free_at=PACE.c.free_at + 3600))
    wait_until(lambda: rate_limiter.ready(account, limits) == 0)
