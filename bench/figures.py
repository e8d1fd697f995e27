"""How long ``GET /statistics`` takes for a month of ten million events, and what it costs to count them.

``python -m bench.figures`` fills tables of its own on SQLite and PostgreSQL. It needs neither worker nor API:
the month is made of the sums that ten million events leave, and events to count are written directly.
"""

import argparse
import json
import math
import random
import statistics as numbers
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import insert

from mailbbgun import schema
from mailbbgun.core.ids import DEFAULT_TENANT, new_id
from mailbbgun.database.db import Database
from mailbbgun.settings.load import load
from mailbbgun.settings.settings import Settings
from mailbbgun.statistics import figures
from mailbbgun.statistics.counting import DAY, HOUR, MINUTE, Dimension
from mailbbgun.statistics.follow import Follower
from mailbbgun.statistics.models import STATISTICS
from mailbbgun.statistics.schemas import dumped
from tests.servers.postgresql import PostgreSQL
from tests.statistics.worlds import send

#: Events of the month, and labels of each dimension.
EVENTS, DAYS = 10_000_000, 30
LABELS = {Dimension.NONE: 1, Dimension.TAG: 200, Dimension.DOMAIN: 200, Dimension.ACCOUNT: 10}
#: Days of minutes that are kept.
MINUTE_DAYS = 3

QUESTIONS: dict[str, dict[str, Any]] = {
    "days=30": {"days": 30},
    "days=30&interval=hour": {"days": 30, "interval": "hour"},
    "days=3&interval=minute": {"days": 3, "interval": "minute"},
    **{f"days=30&group_by={name}": {"days": 30, "group_by": name} for name in figures.GROUPS},
    "days=30&tag=tag7&interval=hour": {"days": 30, "interval": "hour", "tag": "tag7"},
}


def rows(now: int) -> Iterator[dict[str, Any]]:
    """Yield the sums of the month: each interval of each label."""
    dice = random.Random(1)
    for interval, seconds, days in (("day", DAY, DAYS), ("hour", HOUR, DAYS), ("minute", MINUTE, MINUTE_DAYS)):
        first = now - now % DAY - (days - 1) * DAY
        for start in range(first, now, seconds):
            for dimension, labels in LABELS.items():
                if interval == "minute" and dimension is not Dimension.NONE:
                    labels = labels // 10
                for label in range(labels):
                    events = max(EVENTS * seconds // (DAYS * DAY) // labels, 1)
                    yield {
                        "tenant_id": DEFAULT_TENANT, "interval": interval, "dimension": dimension.value, "test": False,
                        "start": start, "value": f"{dimension.value}{label}" if dimension is not Dimension.NONE else "",
                        "counts": _counts(events), "times": _times(events, dice),
                    }  # fmt: skip


def _counts(events: int) -> dict[str, int]:
    part = {"messages": 0.45, "accepted": 0.45, "delivered": 0.42, "bounced": 0.02, "failed": 0.03, "deferred": 0.1}
    part |= {"error.bounced": 0.02, "error.expired": 0.01, "expired": 0.01, "complained": 0.001, "cancelled": 0.002}
    return {name: max(round(share * events), 1) for name, share in sorted(part.items())}


def _times(events: int, dice: random.Random) -> dict[str, int]:
    used = min(max(events, 1), 40)
    return {str(30 + place): max(round(events / used * dice.random()), 1) for place in range(used)}


def fill(db: Database) -> int:
    """Store the month; return the number of rows."""
    total, piece = 0, list[dict[str, Any]]()
    made = rows(int(time.time()))
    while piece := [one for _, one in zip(range(20_000), made, strict=False)]:
        with db.write() as session:
            session.execute(insert(STATISTICS), piece)
        total += len(piece)
    if db.dialect == "postgresql":
        with db.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("VACUUM ANALYZE statistics")
    return total


def timed(do: Callable[[], object], times: int) -> tuple[float, float]:
    """Return the median and the longest time of a call, in milliseconds. The first call is left out."""
    do()
    took = []
    for _ in range(times):
        began = time.perf_counter()
        do()
        took.append((time.perf_counter() - began) * 1000)
    return numbers.median(took), max(took)


def answers(db: Database, settings: Settings, times: int) -> Iterator[str]:
    """Yield a line for each question: how long its answer takes, with its JSON."""
    for name, asked in QUESTIONS.items():

        def answer(asked: dict[str, Any] = asked) -> str:
            question = figures.question(DEFAULT_TENANT, False, asked, settings, datetime.now(UTC))
            with db.read(DEFAULT_TENANT) as session:
                return json.dumps(dumped(figures.answer(session, question)))

        median, most = timed(answer, times)
        yield f"  {name:32} {median:7.1f} ms (at most {most:.1f}), {math.ceil(len(answer()) / 1024)} KiB"


def counting(db: Database, settings: Settings, messages: int) -> str:
    """Write events and count them; return a line that says what an event costs."""
    send(db, random.Random(1), messages, days=1)  # in no order of time, so nearly each adds to rows of its own
    follower = Follower(db, settings, new_id())
    began, cpu = time.perf_counter(), time.process_time()
    follower.run(threading.Event())
    took, cpu = time.perf_counter() - began, time.process_time() - cpu
    events = messages * 4.7
    return f"  counting: {cpu / events * 1e6:.0f} µs of our CPU for an event, {events / took:.0f} events/s with rests"


def main() -> None:
    """Measure both databases."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=15, help="calls of each question")
    parser.add_argument("--messages", type=int, default=4000, help="messages whose events are counted")
    parser.add_argument("--database", choices=["sqlite", "postgresql"], action="append")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, PostgreSQL() as server:
        settings = load({"MAILBBGUN_VAR": folder})
        for name in given.database or ["sqlite", "postgresql"]:
            if name == "postgresql":
                server.start()
            url = server.url(server.create_database()) if name == "postgresql" else f"sqlite:///{Path(folder)}/b.db"
            db = Database(url)
            schema.upgrade(db)
            print(f"{name}: {fill(db):,} rows", flush=True)
            for line in answers(db, settings, given.times):
                print(line, flush=True)
            print(counting(db, settings, given.messages), flush=True)
            db.close()


if __name__ == "__main__":
    main()
