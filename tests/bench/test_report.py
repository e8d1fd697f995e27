"""Table, JSON and plot of given figures."""

import json
from datetime import UTC, datetime
from xml.etree import ElementTree

import pytest

from bench import report
from bench.options import Options
from bench.plot import Bar, Panel, svg
from bench.run import Results
from bench.stats import Spread

MACHINE = {
    "cpu": "A & B <1>",
    "cores": 2,
    "python": "3.11",
    "servers": {"SQLite": "3"},
    "filesystem": "ext4",
    "fsync_ms": 0.2,
    "load": 0,
    "commit": "abc",
    "sink": "smtp-sink",
}
SENDING = {"send_rate": 1000.0, "send_cpu_us": 400.0, "send_postgresql_cpu_us": 100.0, "send_sink_cpu_us": 40.0}
OURS = SENDING | {"accept_rate": 300.0, "slow_rate": 800.0}
THEIRS = {"accept_rate": 600.0, "send_rate": 2000.0, "send_cpu_us": 1000.0, "send_sink_cpu_us": 80.0}


def results(rounds, missing=None):
    options = Options(
        messages=500,
        rounds=len(rounds),
        connections=16,
        configurations=("real",),
        peers=("postfix", "celery"),
        slow_sink=True,
        sink="auto",
        settings={},
    )
    return Results(datetime(2026, 11, 20, 12, 0, tzinfo=UTC), MACHINE, options, rounds, missing or {})


@pytest.fixture
def two_rounds():
    slower = {metric: value / 2 for metric, value in OURS.items()}
    return results(
        [
            {"real": OURS, "postfix": THEIRS, "theory": {"slow_rate": 1000.0}},
            {"real": slower, "theory": {"slow_rate": 1000.0}},
        ],
        {"postfix": "postfix: it\ndied", "celery": "no network"},
    )


def test_the_table_has_ratios_of_rounds_in_which_both_were_measured(two_rounds):
    lines = [" ".join(line.split()) for line in report.table(two_rounds).splitlines()]
    drain = lines.index("drain a backlog into the sink messages/s real ÷ row CPU: own PostgreSQL all real ÷ row sink")
    assert lines[drain + 1] == "Mail BB Gun, real 750 (500–1000) 0.30 0.07 0.38 0.03"
    assert lines[drain + 2] == "Postfix 2000 0.50 1.00 1.00 0.50 0.08"
    slow = lines.index("slow sink: 50 ms a command, 200 connections messages/s real ÷ row")
    assert lines[slow + 2] == "200 connections, in theory 1000 0.60 (0.40–0.80)"


def test_what_was_not_measured_is_named_on_one_line(two_rounds):
    lines = report.table(two_rounds).splitlines()
    assert "missing: Postfix: postfix: it died" in lines
    assert "missing: Celery: no network" in lines


def test_text_json_and_plot_are_kept(two_rounds, tmp_path):
    text, kept, drawing = report.save(two_rounds, tmp_path / "out")
    assert [path.name for path in (text, kept, drawing)] == [
        f"2026-11-20T12-00-00.{kind}" for kind in ("txt", "json", "svg")
    ]
    assert text.read_text() == report.table(two_rounds) + "\n"
    content = json.loads(kept.read_text())
    assert content["ratios"]["real"]["send_rate"]["postfix"] == {"median": 0.5, "low": 0.5, "high": 0.5}
    assert content["missing"] == two_rounds.missing
    words = " ".join(ElementTree.parse(drawing).getroot().itertext())
    assert "drain a backlog into the sink" in words
    assert "A & B <1>" in words


def test_bars_are_as_long_as_their_figures_and_ranges_lie_on_them():
    bars = [
        Bar("ours", Spread(500.0, 400.0, 1000.0), None, True),
        Bar("theirs", Spread(250.0, 250.0, 250.0), Spread(1e3, 1e3, 1e3), False),
    ]
    root = ElementTree.fromstring(svg([Panel("drain", bars), Panel("nothing", [])], "caption"))
    names = "{http://www.w3.org/2000/svg}"
    rates = [
        rect for rect in root.iter(f"{names}rect") if rect.get("x") == root.find(f"{names}rect[@class='ours']").get("x")
    ]
    assert [float(rect.get("width")) for rect in rates] == [125.0, 62.5]
    assert len(root.findall(f"{names}path")) == 1
    assert {text.text for text in root.iter(f"{names}text")} >= {"drain", "ours", "500", "250", "1.00", "caption"}
    assert "nothing" not in {text.text for text in root.iter(f"{names}text")}
    assert "prefers-color-scheme: dark" in root.find(f"{names}style").text
