"""``bin/bench --many-connections``: what it measures, what its tables say, and that a tree may fail."""

import json
import os
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bench import ROOT, BenchError
from bench.against import OURS, THEIRS
from bench.many_connections import Results, one_round, table
from bench.options import Options
from bench.trickle import post
from tests.bench.test_against import MACHINE
from tests.waiting import PATIENCE

TREES = {OURS: Path("/ours"), THEIRS: Path("/theirs")}


def results(rounds, failed):
    options = Options(
        messages=100,
        rounds=len(rounds),
        connections=4,
        configurations=("embedded",),
        peers=(),
        slow_sink=False,
        sink="auto",
        settings={},
    )
    names = {OURS: OURS, THEIRS: "def"}
    return Results(datetime.now(UTC), MACHINE, options, 1000, 12_000, names, rounds, failed)


def test_a_tree_that_refuses_so_many_connections_is_not_asked_again_and_the_other_goes_on():
    asked = []

    def measure(tree):
        asked.append(tree.name)
        if tree.name == "theirs":
            raise BenchError("initdb.py failed (1): \nWORKER_CONNECTIONS: 2000 is more than 1000\n")
        return {"rate": 100.0 * len(asked)}

    failed = {"slow": {}}
    rounds = [one_round({"slow": measure}, TREES, number, failed) for number in range(3)]
    assert asked == ["ours", "theirs", "ours", "ours"]
    assert [one["slow"] for one in rounds] == [{OURS: {"rate": rate}} for rate in (100.0, 300.0, 400.0)]
    lines = table(results([one | {"tarpit": {}} for one in rounds], failed | {"tarpit": {}})).splitlines()
    assert "one worker process, 1000 connections · embedded · 12000 messages of 4 KB · 3 rounds" in lines[0]
    assert [" ".join(line.split()) for line in lines[3:6]] == [
        "slow sink, 50 ms a command messages/s",
        "this tree 300 (100–400)",
        "def: initdb.py failed (1): … WORKER_CONNECTIONS: 2000 is more than 1000",
    ]


def test_the_order_of_the_trees_changes_each_round():
    order = []
    for number in range(2):
        one_round({"slow": lambda tree: order.append(tree.name) or {}}, TREES, number, {"slow": {}})
    assert order == ["ours", "theirs", "theirs", "ours"]


def test_the_domain_of_a_prepared_request_cannot_change_its_length():
    class Open:
        port = 1

    with pytest.raises(ValueError, match=r"tarpit\.test must be as long as example\.test"):
        post(Open(), "tarpit.test", range(1))


@pytest.mark.long
def test_few_connections_carry_what_they_can_and_a_tarpit_gets_its_half(tmp_path):
    (tmp_path / "tmp").mkdir()
    few = ["--messages", "100", "--connections", "4", "--only", "embedded", "--setting", "WORKER_CONNECTIONS=10"]
    command = [str(ROOT / "bin" / "bench"), "--many-connections", *few, "--out", str(tmp_path / "out")]
    environment = os.environ | {"TMPDIR": str(tmp_path / "tmp")}
    done = subprocess.run(command, capture_output=True, text=True, timeout=4 * PATIENCE, check=False, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    shown, paths = done.stdout.rstrip("\n").rsplit("\n\n", 1)
    written, kept = map(Path, paths.splitlines())
    assert written.read_text() == f"{shown}\n"
    found = json.loads(kept.read_text())
    assert (found["connections"], found["messages"], found["failed"]) == (10, 120, {"slow": {}, "tarpit": {}})
    [one] = found["rounds"]
    slow, tarpit = one["slow"][OURS], one["tarpit"][OURS]
    # The clock may begin or end within a wave of ten messages, of which there are ten.
    assert slow["sessions"] == 10
    assert slow["commands"] >= 4
    assert 0 < slow["of_theory"] < 1.2
    assert slow["peak_mb"] > 20
    assert tarpit["held"] == 5
    assert 0 < tarpit["idle_p50_ms"] <= tarpit["idle_p99_ms"]
    assert tarpit["p99_ratio"] == pytest.approx(tarpit["beside_p99_ms"] / tarpit["idle_p99_ms"])
    assert not list((tmp_path / "tmp").iterdir())


@pytest.mark.long
def test_a_setting_that_no_tree_takes_is_named(tmp_path):
    command = [str(ROOT / "bin" / "bench"), "--many-connections", "--only", "embedded", "--messages", "100"]
    command += ["--setting", "WORKER_CONNECTIONS=10", "--setting", "MAX_TEXT_SIZE=100", "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=4 * PATIENCE, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "the API answered HTTP/1.1 400" in done.stderr
