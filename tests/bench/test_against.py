"""``bin/bench --against``: the other commit's own code runs, ratios are right, nothing is left
behind.
"""

import json
import os
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bench import ROOT, BenchError
from bench.against import OURS, THEIRS, Results, checked_out, table
from bench.options import Options
from tests.waiting import PATIENCE

MACHINE = {
    "cpu": "one",
    "cores": 2,
    "python": "3 (PGO)",
    "servers": {},
    "sink": "asyncio",
    "filesystem": "ext4",
    "fsync_ms": 1.0,
    "load": 0.0,
    "commit": "abc",
}


def options(**given):
    return Options(
        messages=500,
        connections=4,
        configurations=("embedded",),
        peers=(),
        slow_sink=False,
        sink="asyncio",
        settings={},
        **given,
    )


def figures(accept, drain):
    own = {
        "encrypted_rate": drain / 2,
        "encrypted_cpu_us": 2e6 / drain,
        "encrypted_all_cpu_us": 4e6 / drain,
        "encrypted_sink_cpu_us": 100.0,
        "encrypted_per_session": 50.0,
        "accept_html_rate": accept,
        "accept_html_cpu_us": 1e6 / accept,
        "send_shapes_rate": drain,
        "send_shapes_cpu_us": 1e6 / drain,
    }
    return own | {"accept_html_all_cpu_us": 2e6 / accept, "send_shapes_all_cpu_us": 2e6 / drain}


def test_the_ratio_is_that_of_each_round():
    rounds = [
        {OURS: figures(200.0, 100.0), THEIRS: figures(100.0, 100.0)},
        {OURS: figures(100.0, 50.0), THEIRS: figures(25.0, 50.0)},
    ]
    results = Results(datetime.now(UTC), MACHINE, options(rounds=2, shapes=("html",)), "def", {"embedded": rounds})
    lines = [" ".join(line.split()) for line in table(results).splitlines()]
    what = "100 messages of each shape, 500 encrypted"
    assert lines[0] == f"this tree (abc) against def · {what} · 4 connections · 2 rounds · into asyncio"
    columns = "messages/s other ÷ CPU: own other ÷ CPU: all other ÷ CPU: sink other a session other"
    assert lines[3] == f"Mail BB Gun, embedded {columns}"
    assert (
        lines[4]
        == "accept, html + text, 15 KB 150 62 3.00 (2.00–4.00) 7500 25000 0.38 (0.25–0.50) 15000 50000 0.38 (0.25–0.50)"
    )
    assert lines[5] == "drain all of these 75 75 1.00 15000 15000 1.00 30000 30000 1.00"
    assert lines[6] == "drain, STARTTLS + AUTH 38 38 1.00 30000 30000 1.00 60000 60000 1.00 100 100 50 50"


def test_with_only_drain_the_table_has_no_row_of_accept():
    own = {f"{phase}_{metric}": 100.0 for phase in ("send", "encrypted") for metric in ("rate", "cpu_us", "all_cpu_us")}
    rounds = [{OURS: own, THEIRS: own}]
    results = Results(datetime.now(UTC), MACHINE, options(rounds=1, only_drain=True), "def", {"embedded": rounds})
    lines = [" ".join(line.split()) for line in table(results).splitlines()]
    assert "· 500 messages of short lines, 4 KB ·" in lines[0]
    assert [line.partition(" 100")[0] for line in lines[4:6]] == ["drain, clear text", "drain, STARTTLS + AUTH"]
    assert lines[6] == ""


def test_a_commit_is_there_as_it_was_and_gone_afterwards():
    with checked_out("HEAD") as (tree, name):
        kept = subprocess.run(["git", "show", "HEAD:pyproject.toml"], cwd=ROOT, capture_output=True, check=True).stdout
        assert (tree / "pyproject.toml").read_bytes() == kept
        assert (tree / "api.py").exists()
        assert not (tree / ".git").exists()
    assert name
    assert not tree.exists()


@pytest.mark.parametrize("commit", ["no-such-commit", "--all", "HEAD:README.rst"])
def test_what_is_no_commit_is_named(commit):
    with pytest.raises(BenchError, match="--against: git rev-parse"), checked_out(commit):
        pass


@pytest.mark.long
@pytest.mark.parametrize(
    ("given", "phases"),
    [
        (["--shapes", "html"], {"accept_html", "send_shapes", "encrypted"}),
        (["--only-drain"], {"send", "encrypted"}),
    ],
)
def test_both_trees_accept_and_deliver_everything(tmp_path, given, phases):
    (tmp_path / "tmp").mkdir()
    few = ["--messages", "100", "--rounds", "1", "--connections", "4", "--only", "embedded", "--sink", "asyncio"]
    few += given
    command = [str(ROOT / "bin" / "bench"), "--against", "HEAD", *few, "--out", str(tmp_path / "out")]
    environment = os.environ | {"TMPDIR": str(tmp_path / "tmp")}
    done = subprocess.run(command, capture_output=True, text=True, timeout=4 * PATIENCE, check=False, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    shown, paths = done.stdout.rstrip("\n").rsplit("\n\n", 1)
    written, kept = map(Path, paths.splitlines())
    assert written.read_text() == f"{shown}\n"
    [one] = json.loads(kept.read_text())["rounds"]["embedded"]
    assert set(one) == {OURS, THEIRS}
    for tree in one:
        assert {metric.removesuffix("_rate") for metric in one[tree] if metric.endswith("_rate")} == phases
        assert all(one[tree][f"{phase}_rate"] > 0 and f"{phase}_cpu_us" in one[tree] for phase in phases)
        assert one[tree]["encrypted_per_session"] > 1
