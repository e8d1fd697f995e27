"""Turns the results into tables, a drawing, and JSON."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from bench import by_smtp, plot
from bench.options import (
    BATCHES,
    CONFIGURATIONS,
    EMBEDDED,
    KEYS,
    OUR_CLIENT,
    PIPELINED,
    REAL,
    REFERENCE,
    SIGNED,
    SLOW_CONNECTIONS,
    SLOW_SECONDS,
    SOURCE,
    THEORY,
    THREADS,
    WATCHED,
)
from bench.peers import PEERS
from bench.phases import CLEAR, DRAINING, ENCRYPTED, accepting
from bench.processes import machine
from bench.programs.shapes import SHORT, title
from bench.run import Results
from bench.stats import Figures, Spread, summary, times

TITLES = {
    EMBEDDED: "Mail BB Gun, embedded",
    REAL: "Mail BB Gun, real",
    KEYS: "Mail BB Gun, with API keys",
    SIGNED: "Mail BB Gun, signing by DKIM",
    WATCHED: "Mail BB Gun, two webhooks",
    BATCHES[EMBEDDED]: "embedded, in batches",
    BATCHES[REAL]: "real, in batches",
    "postfix": "Postfix",
    "celery": "Celery",
    "post_office": "django-post_office",
    "design_2017": "the design of 2017",
    REFERENCE: "smtplib loop",
    OUR_CLIENT: "our client, bare",
    PIPELINED: "limit: pipelined bytes",
    SOURCE: "limit: smtp-source",
    THREADS: "200 smtplib loops",
    THEORY: "200 connections, in theory",
}
LOOPS = (REFERENCE, OUR_CLIENT, PIPELINED, SOURCE)
"""They only send, and so fast that beside them no bar could be seen."""
SUBJECTS = (*CONFIGURATIONS, KEYS, SIGNED, WATCHED, *BATCHES.values(), *PEERS, *LOOPS, THREADS, THEORY)
PHASES = {
    "accept": "accept, durably",
    by_smtp.PHASE: "accept by SMTP, durably, of the same client",
    CLEAR: "drain a backlog into the sink",
    ENCRYPTED: "drain over STARTTLS into a sink of our own",
    "through": "end to end, accept and deliver at once",
    "slow": f"slow sink: {SLOW_SECONDS * 1e3:.0f} ms a command, {SLOW_CONNECTIONS} connections",
}
GROUPS = {"": "CPU: own", "postgresql": "PostgreSQL", "rabbitmq": "RabbitMQ", "all": "all"}
SYSTEM = ("", "postgresql", "rabbitmq")  # the groups whose CPU it takes to run a system
NOTE = (
    "CPU: seconds for 1,000 messages; all: own and servers. ÷ row: the figure of ours to that of the row, "
    "in the same round.\n"
    "To accept: ours an HTTP POST, Postfix SMTP, the others a function call in the client, "
    "which does their part there.\n"
    "By SMTP: one program submits to all, one command after the other over connections that stay open; to ours it "
    "logs in.\n"
    "In batches: personal messages with values of their own, a thousand in a POST, over 4 connections.\n"
    "DKIM: two signatures of each message, by RSA with 2048 bits and by Ed25519; the others sign nothing.\n"
    "STARTTLS: all check the certificate and keep sessions, ours logs in, too. "
    "a session: messages over one connection.\n"
    "By shape: Postfix gets the same message as MIME, composed before; "
    "of the mix one shape after the other, ours message by message."
)


@dataclass(frozen=True, slots=True)
class _Found:
    """Figures to show."""

    rounds: list[dict[str, Figures]]
    summary: dict[str, dict[str, Spread]]
    ours: tuple[str, ...]

    def metric(self, subject: str, name: str) -> Spread | None:
        return self.summary[subject].get(name)

    def times(self, subject: str, name: str, ours: str) -> Spread | None:
        return times(self.rounds, name, ours, subject) if subject != ours else None


def table(results: Results) -> str:
    """Return the figures as text: a table for each phase, a row for each system."""
    options = results.options
    rounds = f"{options.rounds} rounds, median (range)" if options.rounds > 1 else "1 round"
    settings = "".join(f" · {name}={value}" for name, value in options.settings.items())
    what = f"{options.messages} messages of {title(SHORT)}, unless a table names another shape"
    head = f"{what} · {options.connections} connections · {rounds} · into {results.machine['sink']}{settings}"
    found = _found(results)
    missing = [f"missing: {TITLES[subject]}: {' '.join(why.split())[:500]}" for subject, why in results.missing.items()]
    tables = [*(_phase(phase, found) for phase in PHASES), _shapes(found, options.shapes), _latency(found)]
    return "\n\n".join(
        ["\n".join([head, machine.line(results.machine)]), *filter(None, tables), "\n".join([*missing, NOTE])]
    )


def save(results: Results, folder: Path) -> list[Path]:
    """Write text, JSON and SVG to ``<folder>/<time>.*`` and return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    found = _found(results)
    content = {
        "time": results.time.isoformat(timespec="seconds"),
        "machine": results.machine,
        "options": asdict(results.options),
        "missing": results.missing,
        "summary": {
            subject: {metric: asdict(one) for metric, one in metrics.items()}
            for subject, metrics in found.summary.items()
        },
        "ratios": {ours: _ratios(found, ours) for ours in found.ours},
        "rounds": results.rounds,
    }
    written = {
        "txt": table(results) + "\n",
        "json": json.dumps(content, indent=2) + "\n",
        "svg": plot.svg([_panel(phase, found) for phase in PHASES], machine.line(results.machine)),
    }
    paths = []
    for kind, text in written.items():
        paths.append(folder / f"{results.time:%Y-%m-%dT%H-%M-%S}.{kind}")
        paths[-1].write_text(text)
    return paths


def _found(results: Results) -> _Found:
    rounds = [{subject: own | sums(own) for subject, own in one.items()} for one in results.rounds]
    return _Found(rounds, summary(rounds), results.options.configurations)


def sums(own: Figures) -> Figures:
    """Return the CPU of own processes and servers together, for each phase."""
    return {
        f"{phase}_all_cpu_us": sum(own.get(_cpu(phase, group), 0.0) for group in SYSTEM)
        for phase in _phases(own)
        if _cpu(phase, "") in own
    }


def _phases(metrics: Iterable[str]) -> list[str]:
    """Return the phases that have a rate."""
    return list(dict.fromkeys(metric.removesuffix("_rate") for metric in metrics if metric.endswith("_rate")))


def _cpu(phase: str, group: str) -> str:
    return f"{phase}_{group}_cpu_us" if group else f"{phase}_cpu_us"


def _phase(phase: str, found: _Found) -> str:
    subjects, columns = _columns(phase, found)
    return aligned(PHASES[phase], [f"  {TITLES[subject]}" for subject in subjects], columns)


def _columns(phase: str, found: _Found) -> tuple[list[str], list[tuple[str, list[str]]]]:
    rate, last = f"{phase}_rate", found.ours[-1]
    subjects = [subject for subject in SUBJECTS if found.summary.get(subject, {}).get(rate)]
    columns = [("messages/s", [cell(found.metric(subject, rate), 0) for subject in subjects])]
    columns += [
        (f"{ours} ÷ row", [cell(found.times(subject, rate, ours), 2) for subject in subjects]) for ours in found.ours
    ]
    columns += [(title, _seconds(phase, group, subjects, found)) for group, title in GROUPS.items()]
    columns += [(f"{last} ÷ row", [cell(found.times(subject, f"{phase}_all_cpu_us", last), 2) for subject in subjects])]
    columns += [(group, _seconds(phase, group, subjects, found)) for group in ("client", "sink")]
    columns += [("a session", [cell(found.metric(subject, f"{phase}_per_session"), 0) for subject in subjects])]
    columns += [("MB", [cell(found.metric(subject, f"{phase}_memory_mb"), 0) for subject in subjects])]
    return subjects, columns


def _shapes(found: _Found, names: Sequence[str]) -> str:
    """Return a table of accepting each shape of message, and of draining them all."""
    phases = {accepting(name): title(name) for name in names} | {DRAINING: "drain all of these"}
    rows: list[str] = []
    columns: list[tuple[str, list[str]]] = []
    for phase, what in phases.items():
        subjects, own = _columns(phase, found)
        if subjects:
            rows += [f"  {what}", *(f"    {TITLES[subject]}" for subject in subjects)]
            columns = columns or [(head, []) for head, _ in own]
            for (_, cells), (_, more) in zip(columns, own, strict=True):
                cells += ["", *more]
    return aligned("accept, durably, by shape of message", rows, columns)


def _latency(found: _Found) -> str:
    whats = {"accept": "POST to 201, under load", "latency": "POST to in the sink, idle"}
    lines = [
        [f"  {ours}, {what}", *(cell(found.metric(ours, f"{name}_{percent}_ms"), 1) for percent in ("p50", "p99"))]
        for name, what in whats.items()
        for ours in found.ours
        if found.metric(ours, f"{name}_p50_ms")
    ]
    return _justified([["milliseconds", "p50", "p99"], *lines]) if lines else ""


def aligned(head: str, names: list[str], columns: list[tuple[str, list[str]]]) -> str:
    """Return a table without its empty columns."""
    kept = [(title, cells) for title, cells in columns if any(cells)]
    rows = [[name, *(cells[number] for _, cells in kept)] for number, name in enumerate(names)]
    return _justified([[head, *(title for title, _ in kept)], *rows]) if rows else ""


def _justified(lines: list[list[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "   ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]).rstrip() for line in lines
    )


def cell(figure: Spread | None, decimals: int) -> str:
    """Return a figure, with its range if it has one."""
    if figure is None:
        return ""
    median, low, high = (f"{value:.{decimals}f}" for value in (figure.median, figure.low, figure.high))
    return median if low == high else f"{median} ({low}–{high})"


def _seconds(phase: str, group: str, subjects: list[str], found: _Found) -> list[str]:
    figures = [found.metric(subject, _cpu(phase, group)) for subject in subjects]
    return [f"{one.median / 1e3:.2f}" if one else "" for one in figures]


def _ratios(found: _Found, ours: str) -> dict[str, dict[str, dict[str, float]]]:
    """Return metric → system → our figure divided by that system's."""
    phases = _phases(metric for own in found.summary.values() for metric in own)
    metrics = [f"{phase}_{what}" for phase in phases for what in ("rate", "all_cpu_us")]
    ratios = {metric: {subject: found.times(subject, metric, ours) for subject in found.summary} for metric in metrics}
    return {
        metric: {subject: asdict(one) for subject, one in of.items() if one}
        for metric, of in ratios.items()
        if any(of.values())
    }


def _panel(phase: str, found: _Found) -> plot.Panel:
    rates = {
        subject: own[f"{phase}_rate"]
        for subject in SUBJECTS
        if f"{phase}_rate" in (own := found.summary.get(subject, {}))
    }
    bars = [
        plot.Bar(TITLES[subject], rate, found.metric(subject, f"{phase}_all_cpu_us"), subject in found.ours)
        for subject, rate in rates.items()
        if subject not in LOOPS
    ]
    loops = [f"{TITLES[subject]} {rate.median:,.0f}" for subject, rate in rates.items() if subject in LOOPS]
    return plot.Panel(
        PHASES[phase], bars, f"messages a second of what only sends: {' · '.join(loops)}" if loops else ""
    )
