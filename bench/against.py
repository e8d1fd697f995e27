"""Compares another commit with the working tree: ``bin/bench --against <commit>``.

Both trees go through the same phases in turns, on the same servers, into the same sink. The files
of the other commit come from ``git archive``. Its programs run with the same interpreter and
environment, but import their own tree. Each tree gets a fresh installation in each round: a
database and a virtual host, or an SQLite file. Both APIs run at once, so that each shape is
measured in one tree right after the other. The order changes with each shape and round.
"""

import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from bench import ROOT, BenchError, phases
from bench.options import REAL, Options
from bench.phases import DRAINING, Bar, Bench, Exactly, accepting
from bench.processes import machine
from bench.processes.clients import Clients
from bench.processes.servers import Servers
from bench.processes.service import Service
from bench.processes.sink import Sink
from bench.programs.shapes import title
from bench.report import aligned, cell, sums
from bench.stats import Figures, Spread, summary, times

OURS, THEIRS = "this tree", "the other"
NOTE = (
    "CPU: µs a message. other: the other commit. ÷: this tree's figure to the other's of the same round, "
    "median (range).\n"
    "Of rates more is better, of CPU less. own: API or worker; all: with PostgreSQL and RabbitMQ."
)


@dataclass(frozen=True, slots=True)
class Results:
    """A comparison. ``rounds`` maps configuration → round → tree → metric."""

    time: datetime
    machine: dict[str, object]
    options: Options
    commit: str
    rounds: dict[str, list[dict[str, Figures]]]


def run(options: Options, commit: str, bar: Bar) -> Results:
    """Measure both trees and stop all that was started.

    Raises :class:`BenchError` or :class:`tests.servers.install.Missing`.
    """
    with ExitStack() as stack:
        bar.set_description("servers")
        tree, name = stack.enter_context(checked_out(commit))
        servers = stack.enter_context(Servers()) if REAL in options.configurations else None
        sink, clients = stack.enter_context(Sink(options.sink)), stack.enter_context(Clients())
        bench = Bench(
            phases.shape_messages(options.messages), options.connections, options.sessions(), sink, clients, bar
        )
        facts, began = machine.facts(sink.name, servers.versions() if servers else {}), datetime.now(UTC)
        share = 2 * (len(options.shapes) * bench.messages + phases.shape_backlog(bench.messages, options.shapes))
        bar.reset(total=share * options.rounds * len(options.configurations))
        rounds: dict[str, list[dict[str, Figures]]] = {configuration: [] for configuration in options.configurations}
        for number in range(options.rounds):
            for configuration in options.configurations:
                bar.set_description(f"{number + 1}/{options.rounds} {configuration}")
                rounds[configuration].append(
                    _round(configuration, number, {OURS: ROOT, THEIRS: tree}, options, servers, bench)
                )
        return Results(began, facts, options, name, rounds)


@contextmanager
def checked_out(commit: str) -> Iterator[tuple[Path, str]]:
    """Yield a folder with the files of a commit, and the commit's short name.

    Raises :class:`BenchError` if there is no such commit.
    """
    name = _git("rev-parse", "--short", "--verify", "--end-of-options", f"{commit}^{{commit}}").decode().strip()
    with tempfile.TemporaryDirectory(prefix="mailbbgun-bench-against-") as folder:
        with tarfile.open(fileobj=io.BytesIO(_git("archive", "--format=tar", name))) as archive:
            archive.extractall(folder, filter="data")
        _own_code(Path(folder))
        yield Path(folder), name


def _git(*arguments: str) -> bytes:
    try:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, check=False)
    except FileNotFoundError as error:
        raise BenchError("--against needs git, which is not installed") from error
    if done.returncode:
        raise BenchError(f"--against: git {arguments[0]}: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout


def _own_code(tree: Path) -> None:
    """Raise :class:`BenchError` unless a program started in a tree imports that tree's package."""
    show = [sys.executable, "-c", "import mailbbgun; print(mailbbgun.__path__[0])"]
    done = subprocess.run(
        show, cwd=tree, env=os.environ | {"PYTHONPATH": str(tree)}, capture_output=True, text=True, check=False
    )
    if done.returncode or not Path(done.stdout.strip()).resolve().is_relative_to(tree.resolve()):
        raise BenchError(f"--against: what runs in {tree} imports {done.stdout.strip() or done.stderr[-500:]}")


def _round(
    configuration: str, number: int, trees: dict[str, Path], options: Options, servers: Servers | None, bench: Bench
) -> dict[str, Figures]:
    """Accept each shape in both trees, one right after the other, then drain both."""
    figures: dict[str, Figures] = {name: {} for name in trees}
    backlog = phases.shape_backlog(bench.messages, options.shapes)
    with ExitStack() as stack, Exactly(bench.sink, len(trees) * backlog):
        services = {
            name: stack.enter_context(_installed(configuration, tree, options, servers, bench.sink))
            for name, tree in trees.items()
        }
        for service in services.values():
            service.open()
        for turn, shape in enumerate(options.shapes):
            for name in _in_turn(trees, number + turn):
                figures[name] |= phases.take_in(services[name], bench, accepting(shape), shape)[0]
        for service in services.values():
            service.shut()
        for name in _in_turn(trees, number):
            figures[name] |= phases.deliver(services[name], bench, DRAINING, backlog)[0]
            services[name].stop("worker")
    return {name: own | sums(own) for name, own in figures.items()}


def _in_turn(names: dict[str, Path], number: int) -> Sequence[str]:
    return list(names)[:: -1 if number % 2 else 1]


@contextmanager
def _installed(
    configuration: str, tree: Path, options: Options, servers: Servers | None, sink: Sink
) -> Iterator[Service]:
    with ExitStack() as stack:
        settings, pids = {"SMTP_URL": f"smtp://127.0.0.1:{sink.port}?security=none"}, {}
        if configuration == REAL and servers:
            lent, pids = stack.enter_context(servers.lend()), servers.pids()
            settings |= {"DATABASE_URL": lent.database_url, "QUEUE_URL": lent.amqp_url}
        yield stack.enter_context(Service(configuration, settings | options.settings, pids, tree))


def table(results: Results) -> str:
    """Return the figures as text: a table for each configuration, a row for each phase."""
    options = results.options
    rounds = f"{options.rounds} rounds" if options.rounds > 1 else "1 round"
    settings = "".join(f" · {name}={value}" for name, value in options.settings.items())
    each = phases.shape_messages(options.messages)
    what = f"this tree ({results.machine['commit']}) against {results.commit} · {each} messages of each shape"
    head = f"{what} · {options.connections} connections · {rounds} · into {results.machine['sink']}{settings}"
    tables = [_table(f"Mail BB Gun, {name}", rounds, options.shapes) for name, rounds in results.rounds.items()]
    return "\n\n".join(["\n".join([head, machine.line(results.machine)]), *tables, NOTE])


def _table(head: str, rounds: list[dict[str, Figures]], shapes: Sequence[str]) -> str:
    names = {accepting(shape): f"  accept, {title(shape)}" for shape in shapes} | {DRAINING: "  drain all of these"}
    found = summary(rounds)
    columns: list[tuple[str, list[str]]] = []
    for metric, what in (("rate", "messages/s"), ("cpu_us", "CPU: own"), ("all_cpu_us", "CPU: all")):
        for tree, column in ((OURS, what), (THEIRS, "other")):
            columns.append((column, [cell(_median(found[tree][f"{phase}_{metric}"]), 0) for phase in names]))
        columns.append(("÷", [cell(times(rounds, f"{phase}_{metric}", OURS, THEIRS), 2) for phase in names]))
    return aligned(head, list(names.values()), columns)


def _median(one: Spread) -> Spread:
    return Spread(one.median, one.median, one.median)


def save(results: Results, folder: Path) -> list[Path]:
    """Write text and JSON to ``<folder>/<time>-against-<commit>.*`` and return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    content = asdict(results) | {"time": results.time.isoformat(timespec="seconds")}
    written = {"txt": table(results) + "\n", "json": json.dumps(content, indent=2) + "\n"}
    paths = []
    for kind, text in written.items():
        paths.append(folder / f"{results.time:%Y-%m-%dT%H-%M-%S}-against-{results.commit}.{kind}")
        paths[-1].write_text(text)
    return paths
