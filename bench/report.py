"""The results as a table to read and as JSON to keep."""

import json
from dataclasses import asdict
from pathlib import Path

from bench import machine
from bench.run import OUR_CLIENT, REFERENCE, Results
from bench.stats import Spread, summary

TITLES = {REFERENCE: "smtplib loop", OUR_CLIENT: "our client, bare"}

# Metric, what it is, decimals; under what they are figures of.
ROWS: dict[str, tuple[tuple[str, str, int], ...]] = {
    "drain a backlog into the sink": (
        ("send_rate", "messages/s", 0),
        ("send_rate_ratio", "  to the smtplib loop", 2),
        ("send_cpu_us", "CPU µs a message", 0),
        ("send_cpu_ratio", "  to the smtplib loop", 2),
        ("send_servers_cpu_us", "servers' CPU µs a message", 0),
    ),
    "accept by POST": (
        ("accept_rate", "messages/s", 0),
        ("accept_cpu_us", "CPU µs a message", 0),
        ("accept_servers_cpu_us", "servers' CPU µs a message", 0),
        ("accept_p50_ms", "p50, ms", 1),
        ("accept_p99_ms", "p99, ms", 1),
    ),
    "POST to in the sink, idle": (
        ("latency_p50_ms", "p50, ms", 1),
        ("latency_p99_ms", "p99, ms", 1),
    ),
}


def table(results: Results) -> str:
    """Return the figures as text: a row each metric, a column each subject."""
    found, options = summary(results.rounds), results.options
    subjects = [*options.configurations, REFERENCE, OUR_CLIENT]
    lines = [["", *(TITLES.get(subject, subject) for subject in subjects)]]
    for section, rows in ROWS.items():
        lines.append([section, *("" for _ in subjects)])
        for metric, title, decimals in rows:
            lines.append([f"  {title}", *(_cell(found[subject].get(metric), decimals) for subject in subjects)])
    rounds = f"{options.rounds} rounds, median (range)" if options.rounds > 1 else "1 round"
    settings = "".join(f" · {name}={value}" for name, value in options.settings.items())
    head = f"{options.messages} messages of 4 KB · {options.connections} connections · {rounds} · into {results.machine['sink']}{settings}"
    return "\n".join([head, machine.line(results.machine), "", *_aligned(lines)])


def save(results: Results, folder: Path) -> Path:
    """Write everything to ``<folder>/<time>.json`` and return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{results.time:%Y-%m-%dT%H-%M-%S}.json"
    content = {
        "time": results.time.isoformat(timespec="seconds"),
        "machine": results.machine,
        "options": asdict(results.options),
        "summary": {subject: {metric: asdict(one) for metric, one in metrics.items()} for subject, metrics in summary(results.rounds).items()},
        "rounds": results.rounds,
    }
    path.write_text(json.dumps(content, indent=2) + "\n")
    return path


def _aligned(lines: list[list[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return ["   ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]).rstrip() for line in lines]


def _cell(figure: Spread | None, decimals: int) -> str:
    if figure is None:
        return ""
    median, low, high = (f"{value:.{decimals}f}" for value in (figure.median, figure.low, figure.high))
    return median if low == high else f"{median} ({low}–{high})"
