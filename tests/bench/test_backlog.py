"""The backlog: rows as accept leaves them, a short run from the outside, and its table."""

import json
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import text

from bench.backlog import MEASURES, Cost, Memory, Results, table
from bench.fill import fill
from mailbbgun import schema
from mailbbgun.core.ids import first_id_at
from mailbbgun.services import build
from tests.waiting import PATIENCE

ROOT = Path(__file__).parents[2]
MESSAGES = 3000


@pytest.fixture
def services(real_settings):
    services = build(real_settings)
    schema.upgrade(services.db)
    yield services
    services.close()


def test_what_is_filled_is_what_accept_would_have_left(services):
    stored = []
    fill(services.db, MESSAGES, stored.append)
    with services.db.read() as session:

        def one(statement):
            return session.execute(text(statement)).one()

        assert sum(stored) == MESSAGES
        counts = "count(*), count(DISTINCT id), min(status), max(status)"
        assert one(f"SELECT {counts} FROM messages") == (MESSAGES, MESSAGES, "PENDING", "PENDING")
        counts = "count(*), count(DISTINCT address), count(DISTINCT message_id)"
        assert one(f"SELECT {counts} FROM deliveries") == (3300, 3300, MESSAGES)
        due = "status = 'PENDING' AND lease_owner IS NULL AND next_attempt_at <= now()"
        assert one(f"SELECT bool_and({due}) FROM deliveries") == (True,)
        assert one("SELECT bool_and(published_at > now() + interval '1 hour') FROM deliveries") == (True,)
        lanes = session.execute(text("SELECT lane, count(DISTINCT message_id) FROM deliveries GROUP BY lane")).all()
        assert dict(lanes) == {"high": 300, "normal": 2400, "bulk": 300}
        events = "SELECT count(*), count(DISTINCT message_id), max(kind) FROM events"
        assert one(events) == (MESSAGES, MESSAGES, "accepted")
        assert one("SELECT count(*) FROM idempotency_keys") == (750,)
        assert one("SELECT count(*) FROM message_tags") == (600,)
        rows = session.execute(text("SELECT id, created_at, raw, size FROM messages ORDER BY id")).all()
    assert [row.created_at for row in rows] == sorted(row.created_at for row in rows)
    assert {row.id.version for row in rows} == {7}
    assert all(first_id_at(row.created_at) <= row.id for row in rows)
    assert len({bytes(row.raw).partition(b"\r\n\r\n")[2] for row in rows}) > 1000
    for row in rows[:20]:
        head, _, body = bytes(row.raw).partition(b"\r\n\r\n")
        assert head.count(b"\r\n") == 6
        assert row.size == len(row.raw)
        assert 4000 < len(body) < 4500
        assert b"\n" not in bytes(row.raw).replace(b"\r\n", b"")
        assert max(map(len, body.split(b"\r\n"))) <= 76


@pytest.mark.long
def test_a_short_run_measures_all_drains_all_and_keeps_its_figures(tmp_path):
    command = [
        str(ROOT / "bin" / "bench"),
        "--backlog",
        "1200",
        "--rounds",
        "3",
        "--sink",
        "asyncio",
        "--out",
        str(tmp_path / "out"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    shown, paths = done.stdout.rstrip("\n").rsplit("\n\n", 1)
    written, kept = map(Path, paths.splitlines())
    assert written.read_text() == f"{shown}\n"
    figures = json.loads(kept.read_text())
    assert set(figures["costs"]) == set(MEASURES)
    assert all(cost["few_ms"] > 0 and cost["many_ms"] > 0 for cost in figures["costs"].values())
    assert figures["memory"]["drained"] == 1200
    assert 20 < figures["memory"]["start_mb"] <= figures["memory"]["most_mb"]


def test_the_table_says_what_costs_more_and_what_grew():
    costs = {"claim": Cost(2.0, 2.4), "count": Cost(2.0, 200.0)}
    lines = table(
        Results(datetime.now(UTC), FACTS, 1_000_000, 60, costs, Memory(20_000, 100.0, 115.0, 120.0))
    ).splitlines()
    assert lines[0] == "1,000,000 messages pending · median of 60, in turns · milliseconds"
    assert [line.split() for line in lines[3:6]] == [
        ["at", "1,000", "at", "1,000,000", "ratio"],
        ["claim", "2.00", "2.40", "1.20"],
        ["count", "2.00", "200.00", "100.00", "more", "than", "1.3"],
    ]
    assert (
        lines[-1] == "worker, draining 20,000: 100 MB after a tenth, 115 at the end, 120 at most (+15%: more than 10%)"
    )


FACTS = {
    "cpu": "one",
    "cores": 2,
    "python": "3",
    "servers": {},
    "sink": "asyncio",
    "filesystem": "ext4",
    "fsync_ms": 1.0,
    "load": 0.0,
    "commit": "abc",
}
