"""The counts of all processes of a machine: of those that live, and of those that have ended."""

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mailbbgun.counters import files
from mailbbgun.counters.counters import Counters
from mailbbgun.counters.families import ACCEPTED, ATTEMPTS, PHASES, SEND_QUEUE
from mailbbgun.counters.files import OwnFile, Totals, read
from mailbbgun.counters.keeping import API, WORKER, Keeper
from tests.waiting import wait_until

COUNT = """
import sys, time
from pathlib import Path
from mailbbgun.counters.counters import Counters
from mailbbgun.counters.families import ACCEPTED
from mailbbgun.counters.keeping import API, Keeper
counters = Counters()
counters.add(ACCEPTED, "normal", n=5)
Keeper(counters, Path(sys.argv[1]), API).start()
print("counting", flush=True)
time.sleep(600)
"""


def of(n: int) -> dict[str, object]:
    """Return what a process tells that has accepted so many messages, and has as many waiting."""
    counters = Counters()
    counters.add(ACCEPTED, "normal", n=n)
    counters.observe("dot", 1.0)
    counters.gauge(SEND_QUEUE, lambda: {("waiting",): n})
    return counters.told()


def accepted(totals: Totals) -> int:
    return int(totals.counts.get(ACCEPTED.name, {}).get(("normal",), 0))


def test_a_killed_process_counts_once_and_for_ever(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", COUNT, str(tmp_path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "counting\n"
        assert accepted(read(tmp_path, [API])) == 5
        assert accepted(read(tmp_path, [WORKER])) == 0
        process.kill()
    assert [accepted(read(tmp_path, [API, WORKER])) for _ in range(3)] == [5, 5, 5]
    assert [path.name for path in tmp_path.iterdir()] == ["api.ended.json"]


def test_gauges_end_with_their_process_and_histograms_do_not(tmp_path: Path) -> None:
    first, second = OwnFile(tmp_path, WORKER), OwnFile(tmp_path, WORKER)
    first.write(of(2))
    second.write(of(3))
    both = read(tmp_path, [WORKER])
    assert both.gauges == {SEND_QUEUE.name: {("waiting",): 5}}
    second.close()
    left = read(tmp_path, [WORKER])
    assert left.gauges == {SEND_QUEUE.name: {("waiting",): 2}}
    assert accepted(left) == accepted(both) == 5
    assert left.histograms == both.histograms
    assert left.histograms[PHASES.name][("dot",)][-1] == 2.0
    assert accepted(read(tmp_path, [WORKER], without=first.id)) == 3
    first.close()


def test_a_merge_that_was_interrupted_counts_nobody_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = OwnFile(tmp_path, API)
    ended.write(of(4))
    ended.close()
    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", lambda *_, **__: (_ for _ in ()).throw(OSError("killed")))
        assert accepted(read(tmp_path, [API])) == 4
    assert (tmp_path / f"{ended.id}.json").exists()
    assert accepted(read(tmp_path, [API])) == 4
    later = OwnFile(tmp_path, API)
    later.write(of(1))
    later.close()
    assert accepted(read(tmp_path, [API])) == 5


def test_on_a_full_disk_the_counts_are_shown_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = OwnFile(tmp_path, API)
    ended.write(of(4))
    ended.close()
    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_text", lambda *_, **__: (_ for _ in ()).throw(OSError("no space left")))
        full = read(tmp_path, [API])
        assert (accepted(full), full.gauges) == (4, {})
        assert not (tmp_path / "api.ended.json").exists()
    assert accepted(read(tmp_path, [API])) == 4
    assert [path.name for path in tmp_path.iterdir()] == ["api.ended.json"]


def test_a_broken_file_is_logged_and_the_others_count(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    broken, whole = OwnFile(tmp_path, API), OwnFile(tmp_path, API)
    whole.write(of(6))
    (tmp_path / f"{broken.id}.json").write_text("{")
    with caplog.at_level(logging.WARNING):
        assert accepted(read(tmp_path, [API])) == 6
    assert "counts_not_read" in caplog.text
    broken.close()
    whole.close()


def test_families_of_another_version_are_left_out(tmp_path: Path) -> None:
    other = OwnFile(tmp_path, API)
    told = {
        "counts": {"mailbbgun_of_tomorrow": [[[], 1]], ACCEPTED.name: [[["normal", "more"], 1], [["normal"], 2]]},
        "histograms": {PHASES.name: [[["dot"], [1, 2, 3]]]},
    }
    (tmp_path / f"{other.id}.json").write_text(json.dumps(told))
    totals = read(tmp_path, [API])
    assert totals.counts == {ACCEPTED.name: {("normal",): 2}}
    assert totals.histograms == {}
    other.close()


def test_accounts_of_ended_processes_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MOST_ENDED_ACCOUNTS", 2)
    for n in range(5):
        counters, ended = Counters(), OwnFile(tmp_path, WORKER)
        counters.add(ATTEMPTS, "delivered", f"account {n}", str(n))
        ended.write(counters.told())
        ended.close()
        found = read(tmp_path, [WORKER]).counts[ATTEMPTS.name]
    assert found == {
        ("delivered", "account 0", "0"): 1,
        ("delivered", "account 1", "1"): 1,
        ("delivered", "other", "other"): 3,
    }


def test_a_folder_that_cannot_be_written_is_logged_once_and_harms_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "metrics").write_text("a file in place of the folder")
    counters = Counters()
    keeper = Keeper(counters, tmp_path / "metrics", API)
    for _ in range(2):
        counters.add(ACCEPTED, "normal")
        keeper.write()
    assert [one.message for one in caplog.records] == ["counts_not_written"]
    os.unlink(tmp_path / "metrics")
    keeper.start()
    wait_until(lambda: accepted(read(tmp_path / "metrics", [API])) == 2, "the counts")
    keeper.close()
    assert accepted(read(tmp_path / "metrics", [API])) == 2


def test_files_of_ended_processes_are_added_up_although_nobody_scrapes(tmp_path: Path) -> None:
    for _ in range(4):
        counters = Counters()
        counters.add(ACCEPTED, "normal")
        keeper = Keeper(counters, tmp_path, API)
        keeper.start()
        keeper.close()
    assert len(list(tmp_path.glob("api-*.lock"))) == 1
    assert accepted(read(tmp_path, [API])) == 4
