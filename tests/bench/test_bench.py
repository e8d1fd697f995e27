"""``bin/bench`` from the outside: table, files, errors, and nothing left behind."""

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.waiting import PATIENCE, wait_until

ROOT = Path(__file__).parents[2]
SENDING = {"send_rate", "send_cpu_us", "send_sink_cpu_us", "send_rate_ratio", "send_cpu_ratio"}
ENCRYPTED = {"encrypted_rate", "encrypted_cpu_us", "encrypted_sink_cpu_us", "encrypted_per_session"}
EMBEDDED = (SENDING | ENCRYPTED) | {
    "start_ms",
    "send_memory_mb",
    "latency_p50_ms",
    "latency_p99_ms",
    "accept_rate",
    "accept_cpu_us",
    "accept_client_cpu_us",
    "accept_sink_cpu_us",
    "accept_p50_ms",
    "accept_p99_ms",
    "through_rate",
    "through_cpu_us",
    "through_client_cpu_us",
    "through_sink_cpu_us",
}


@pytest.fixture
def start(tmp_path):
    """A function that starts it on the embedded configuration with the fallback sink, in a
    temporary folder.
    """
    (tmp_path / "tmp").mkdir()

    def _start(*arguments: str) -> subprocess.Popen[str]:
        alone = ["--only", "embedded", "--peers", "none", "--no-slow-sink", "--shapes", "none", "--sink", "asyncio"]
        command = [str(ROOT / "bin" / "bench"), "--quick", *alone, "--out", str(tmp_path / "out"), *arguments]
        environment = os.environ | {"TMPDIR": str(tmp_path / "tmp")}
        return subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        )

    return _start


def left_behind(folder: Path) -> list[str]:
    """Wait until its folders and processes are gone; return those that are still there."""

    def found() -> list[str]:
        return [str(path) for path in (folder / "tmp").iterdir()] + [
            path for path in _working_folders() if path.startswith(str(folder))
        ]

    wait_until(lambda: not found(), "the end of all that it started", look=0.1)
    return found()


def _working_folders() -> list[str]:
    folders = []
    for link in Path("/proc").glob("[0-9]*/cwd"):
        try:
            folders.append(os.readlink(link))
        except OSError:
            continue  # it ended meanwhile
    return folders


@pytest.mark.long
def test_a_quick_run_prints_tables_and_keeps_them_with_json_and_a_plot(start, tmp_path):
    arguments = ("--messages", "200", "--connections", "4", "--shapes", "html,mix", "--setting", "WORKER_CONNECTIONS=5")
    out, err = start(*arguments).communicate(timeout=4 * PATIENCE)
    assert err == ""
    tables, paths = out.rstrip("\n").rsplit("\n\n", 1)
    check_tables(tables)
    text, file, plot = map(Path, paths.splitlines())
    assert sorted((tmp_path / "out").iterdir()) == sorted([text, file, plot])
    assert text.read_text() == f"{tables}\n"
    check_kept(json.loads(file.read_text()))
    assert not left_behind(tmp_path)


@pytest.mark.long
def test_with_only_drain_nothing_else_is_measured(start, tmp_path):
    out, err = start("--messages", "200", "--connections", "4", "--only-drain").communicate(timeout=4 * PATIENCE)
    assert err == ""
    heads = [line.split("  ")[0] for line in out.splitlines() if "messages/s" in line]
    assert heads == ["drain a backlog into the sink", "drain over STARTTLS into a sink of our own"]
    [kept] = (tmp_path / "out").glob("*.json")
    [figures] = json.loads(kept.read_text())["rounds"]
    assert {name: set(own) for name, own in figures.items()} == {
        "smtplib": SENDING,
        "embedded": SENDING | ENCRYPTED | {"send_memory_mb", "start_ms"},
    }
    assert not left_behind(tmp_path)


def check_tables(tables: str) -> None:
    """Check the head of the tables of that run, their titles and the names of their rows."""
    head, machine, *rest = tables.splitlines()
    what = "200 messages of short lines, 4 KB, unless a table names another shape"
    assert head == f"{what} · 4 connections · 1 round · into asyncio · WORKER_CONNECTIONS=5"
    assert all(f" {word} " in machine for word in ("cores", "Python", "SQLite", "ms an fsync", "commit"))
    titles = ["accept, durably", "drain a backlog into the sink", "end to end, accept and deliver at once"]
    titles.insert(2, "drain over STARTTLS into a sink of our own")
    titles += ["accept, durably, by shape of message", "milliseconds"]
    assert [line for line in titles if any(one.startswith(f"{line}  ") for one in rest)] == titles
    subjects = [
        "Mail BB Gun, embedded",
        "Mail BB Gun, signing by DKIM",
        "Mail BB Gun, two webhooks",
        "smtplib loop",
        "our client, bare",
        "limit: pipelined bytes",
        "limit: smtp-source",
    ]
    drain = next(number for number, line in enumerate(rest) if line.startswith(titles[1]))
    assert [line[2 : 2 + len(subject)] for line, subject in zip(rest[drain + 1 :], subjects, strict=False)] == subjects

    shaped = next(number for number, line in enumerate(rest) if line.startswith("accept, durably, by shape"))
    assert [line.split("   ")[0].strip() or line.strip().split("   ")[0] for line in rest[shaped + 1 : shaped + 7]] == [
        "html + text, 15 KB",
        "Mail BB Gun, embedded",
        "mix of 6",
        "Mail BB Gun, embedded",
        "drain all of these",
        "Mail BB Gun, embedded",
    ]


def check_kept(kept: dict[str, Any]) -> None:
    """Check the JSON of that run: its parts, the metrics of each system, and some figures."""
    assert set(kept) == {"time", "machine", "options", "missing", "summary", "ratios", "rounds"}
    assert kept["options"]["messages"] == 200
    assert kept["machine"]["sink"] == "asyncio"
    assert kept["missing"] == {}
    [figures] = kept["rounds"]
    metrics = dict.fromkeys(("smtplib", "client", "pipelined", "smtp-source"), SENDING) | {"embedded": EMBEDDED}
    shapes = {
        f"{phase}_{what}"
        for phase in ("accept_html", "accept_mix", "send_shapes")
        for what in ("rate", "cpu_us", "sink_cpu_us")
    }
    metrics["embedded"] = metrics["embedded"] | shapes | {"accept_html_client_cpu_us", "accept_mix_client_cpu_us"}
    metrics["embedded"] |= {f"accept_smtp_{what}" for what in ("rate", "cpu_us", "client_cpu_us", "sink_cpu_us")}
    metrics["keys"] = {name for name in EMBEDDED if name.startswith("accept_")}
    metrics["signed"] = SENDING | {"send_memory_mb", "start_ms"}
    metrics["watched"] = {name for name in EMBEDDED if not name.startswith(("latency_", "encrypted_"))}
    # The client of batches does not measure single answers.
    metrics["embedded_batches"] = {name for name in metrics["keys"] if not name.endswith("_ms")}
    assert {name: set(values) for name, values in figures.items()} == metrics
    assert figures["smtplib"]["send_rate_ratio"] == 1
    assert all(figures["embedded"][metric] > 0 for metric in EMBEDDED if "sink" not in metric)
    assert kept["summary"]["embedded"]["send_rate"] == dict.fromkeys(
        ("median", "low", "high"), figures["embedded"]["send_rate"]
    )


@pytest.mark.long
@pytest.mark.parametrize(
    ("number", "code", "during"),
    [
        (signal.SIGTERM, 143, "mailbbgun-bench-clients-*/loop-*.pid"),
        (signal.SIGINT, 130, "mailbbgun-bench-embedded-*/api.pid"),
    ],
)
def test_interrupted_it_stops_everything(start, tmp_path, number, code, during):
    process = start("--messages", "2000")
    wait_until(lambda: list((tmp_path / "tmp").glob(during)), during)
    process.send_signal(number)
    out, _ = process.communicate(timeout=4 * PATIENCE)
    assert process.returncode == code
    assert out == ""
    assert not left_behind(tmp_path)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("setting", "code", "says"),
    [
        ("NOPE=1", 2, "MAILBBGUN_NOPE: unknown setting"),
        ("WORKER_CONNECTIONS=0", 2, "WORKER_CONNECTIONS: 0 is less than 1"),
        pytest.param("MAX_TEXT_SIZE=100", 1, "the API answered HTTP/1.1 400", marks=pytest.mark.long),
        ("WORKER_CONNECTIONS", 2, "must be NAME=VALUE"),
    ],
)
def test_a_wrong_setting_is_named(start, tmp_path, setting, code, says):
    process = start("--messages", "100", "--setting", setting)
    out, err = process.communicate(timeout=4 * PATIENCE)
    assert (process.returncode, out) == (code, "")
    assert says in err
    assert "Traceback" not in err
    assert not left_behind(tmp_path)


def test_a_peer_that_nobody_knows_is_named(start):
    process = start("--peers", "postfix,sendmail")
    _, err = process.communicate(timeout=4 * PATIENCE)
    assert process.returncode == 2
    assert "'sendmail' is not one of postfix, celery, post_office, design_2017" in err


def test_a_shape_that_nobody_knows_is_named(start):
    _, err = start("--shapes", "short,postcard").communicate(timeout=PATIENCE)
    assert "'postcard' is not one of short, paragraph, html, german, japanese, recipients, mix" in err


def test_a_folder_for_the_figures_that_cannot_be_written_is_told_before_anything_is_measured(start):
    process = start("--out", "/proc/nowhere")
    out, err = process.communicate(timeout=4 * PATIENCE)
    assert (process.returncode, out) == (1, "")
    assert err.startswith("bench: /proc/nowhere cannot be written: No such file or directory; --out FOLDER")
