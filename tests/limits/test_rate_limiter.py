"""The rate limiter: two processes keep to one limit together, and no sender waits for a server."""

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
from mailbbgun.database.compiled import CompiledStatement, Rows, StatementStep, Values
from mailbbgun.database.db import Database
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

# A process that always has mail to send through two accounts, which it shares with another process.
# It prints when each mail went, and what that cost.
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
told = {{"rated": sent[rated], "spaced": sent[spaced], "cpu": cost, "statements": len(statements), "wakes": wakes}}
print(json.dumps(told))
"""


class Counting(Database):
    """A database that keeps the compiled statements that it executed."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.statements: list[CompiledStatement] = []

    def ask(self, statement: CompiledStatement, values: Values) -> Rows:
        self.statements.append(statement)
        return super().ask(statement, values)

    def commit(self, steps: Sequence[StatementStep]) -> None:
        self.statements += [step.statement for step in steps]
        super().commit(steps)


class World:
    """A database with the table of permits, and rate limiters that count in it."""

    def __init__(self, url: str) -> None:
        self.database = Counting(url)
        PACE.create(self.database.engine)
        self.statements = self.database.statements
        self.stack = ExitStack()

    def rate_limiter(self, woken: threading.Event | None = None) -> RateLimiter:
        """Return a new rate limiter, which ``stack`` closes."""
        rate_limiter = RateLimiter(DatabasePermitStore(self.database), (woken or threading.Event()).set)
        self.stack.callback(rate_limiter.close)
        return rate_limiter

    def used(self, account: UUID) -> int:
        """Return today's count of an account."""
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
    """Start two processes of SENDER; kill them in the end."""
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


def test_two_processes_together_keep_to_a_rate_and_to_an_interval_without_busy_waiting(
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
    assert len(sent) <= limits.burst + RATE * took  # on a slow machine ``took`` is only longer
    assert all(one["rated"] for one in told)
    spaced = sorted(moment for one in told for moment in one["spaced"])
    assert 0 < len(spaced) <= 1 + took / INTERVAL
    for one in told:
        assert one["wakes"] > 0
        assert one["statements"] < 40 * took
        assert one["cpu"] < 0.3 * took, "busy, not waiting"


def test_a_permit_is_used_once_and_the_next_one_is_asked_for_when_it_should_be_there(world: World) -> None:
    woken = threading.Event()
    rate_limiter, account, limits = world.rate_limiter(woken), new_id(), SendingLimits(send_interval=0.3)
    assert rate_limiter.ready(account, limits) > 0
    assert woken.wait(PATIENCE)
    assert rate_limiter.ready(account, limits) == 0
    woken.clear()
    assert rate_limiter.ready(account, limits) > 0
    assert woken.wait(PATIENCE)
    assert rate_limiter.ready(account, limits) == 0


def test_few_statements_ask_for_permits_of_all_waiting_accounts(world: World) -> None:
    rate_limiter, limits = world.rate_limiter(), SendingLimits(max_per_second=1)
    rate_limiter.ready(new_id(), limits)
    wait_until(lambda: len(world.statements) >= 3)
    accounts = [new_id() for _ in range(200)]
    before = len(world.statements)
    for account in accounts:
        rate_limiter.ready(account, limits)
    wait_until(lambda: all(rate_limiter.ready(account, limits) == 0 or world.used(account) for account in accounts))
    assert 0 < len(world.statements) - before < 30


def test_only_as_many_permits_as_mails_are_asked_for_and_unused_ones_are_given_back(world: World) -> None:
    woken = threading.Event()
    rate_limiter, account, limits = world.rate_limiter(woken), new_id(), SendingLimits(max_per_day=100)
    rate_limiter.ready(account, limits, waiting=7)
    assert woken.wait(PATIENCE)
    assert world.used(account) == 7
    assert rate_limiter.ready(account, limits, waiting=1) == 0
    wait_until(lambda: world.used(account) == 1)
    pause(0.3)
    assert world.used(account) == 1  # no further permits are asked for


def test_close_gives_unused_permits_back_to_the_day(world: World) -> None:
    woken = threading.Event()
    rate_limiter, account, limits = world.rate_limiter(woken), new_id(), SendingLimits(max_per_day=100)
    rate_limiter.ready(account, limits, waiting=7)
    assert woken.wait(PATIENCE)
    assert rate_limiter.ready(account, limits) == 0
    rate_limiter.close()
    assert world.used(account) == 1
    assert rate_limiter.ready(account, limits) > 0


def test_the_wait_for_a_used_up_day_ends_at_midnight_and_a_new_limit_takes_effect_at_once(world: World) -> None:
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


def test_no_permits_are_granted_while_the_database_is_away_and_again_when_it_is_back(
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
            assert granted <= 1  # it may have been granted before the stop
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


def test_a_count_from_a_clock_that_was_ahead_does_not_hold_an_account_for_long(world: World) -> None:
    rate_limiter, account, limits = world.rate_limiter(), new_id(), SendingLimits(max_per_second=10)
    wait_until(lambda: rate_limiter.ready(account, limits) == 0)
    with world.database.write() as session:  # as if the clock had been an hour ahead
        session.execute(update(PACE).values(free_at=PACE.c.free_at + 3600))
    wait_until(lambda: rate_limiter.ready(account, limits) == 0)
