"""Compares another commit with the working tree: ``bin/bench --against <commit>``.

Both trees go through the same phases in turns, on the same servers, into the same sinks: accept of
each shape and drain of them all, and drain of short messages over STARTTLS with AUTH. With
``--only-drain`` they drain short messages only, in clear text and over STARTTLS with AUTH.

The files of the other commit come from ``git archive``. Its programs run with the same interpreter
and environment, but import their own tree. Each tree gets a fresh installation in each round and
for each sink: a database and a virtual host, or an SQLite file. Both APIs run at once, so that each
shape is measured in one tree right after the other. The order changes with each shape and round.
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
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from bench import ROOT, BenchError, phases
from bench.options import REAL, TLS_PROCESSES, Options
from bench.phases import ACCEPT_WARM, CLEAR, DRAINING, ENCRYPTED, Bar, Bench, Exactly, accepting
from bench.processes import machine
from bench.processes.clients import Clients
from bench.processes.servers import Servers
from bench.processes.service import Service
from bench.processes.sink import Sink
from bench.programs.shapes import SHORT, title
from bench.report import aligned, cell, sums
from bench.stats import Figures, Spread, summary, times

OURS, THEIRS = "this tree", "the other"
NOTE = (
    "CPU: µs a message. other: the other commit. ÷: this tree's figure to the other's of the same round, "
    "median (range).\n"
    "Of rates more is better, of CPU less. own: API or worker; all: with PostgreSQL and RabbitMQ.\n"
    f"STARTTLS + AUTH goes into a sink of our own, in {TLS_PROCESSES} processes. "
    "a session: messages over one connection."
)
METRICS = (
    ("rate", "messages/s", 0),
    ("cpu_us", "CPU: own", 0),
    ("all_cpu_us", "CPU: all", 0),
    ("sink_cpu_us", "CPU: sink", 0),
    ("per_session", "a session", 0),
)
ASIDE = ("sink_cpu_us", "per_session")
"""Metrics that say how a figure came about. Their ratio says nothing."""


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
        encrypted = stack.enter_context(Sink("asyncio", tls=True, processes=TLS_PROCESSES))
        bench = Bench(options.messages, options.connections, options.sessions(), sink, clients, bar)
        facts, began = machine.facts(sink.name, servers.versions() if servers else {}), datetime.now(UTC)
        bar.reset(total=_share(options) * options.rounds * len(options.configurations))
        rounds: dict[str, list[dict[str, Figures]]] = {configuration: [] for configuration in options.configurations}
        for number in range(options.rounds):
            for configuration in options.configurations:
                bar.set_description(f"{number + 1}/{options.rounds} {configuration}")
                trees = Trees({OURS: ROOT, THEIRS: tree}, configuration, options, servers)
                rounds[configuration].append(trees.one_round(number, bench, replace(bench, sink=encrypted)))
        return Results(began, facts, options, name, rounds)


def _share(options: Options) -> int:
    """Return how many messages move the bar in a round of a configuration."""
    each = phases.shape_messages(options.messages)
    shapes = len(options.shapes) * each + phases.shape_backlog(each, options.shapes)
    return 2 * ((shapes or options.messages + ACCEPT_WARM) + options.messages + ACCEPT_WARM)


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


@dataclass(frozen=True, slots=True)
class Trees:
    """Both trees, by their names in the figures, in one configuration."""

    paths: dict[str, Path]
    configuration: str
    options: Options
    servers: Servers | None

    def one_round(self, number: int, clear: Bench, encrypted: Bench) -> dict[str, Figures]:
        """Measure all phases in both trees."""
        parts = [self._shapes(number, clear) if self.options.shapes else self._drain(number, clear)]
        parts += [self._drain(number, encrypted)]
        return {name: {key: value for part in parts for key, value in part[name].items()} for name in self.paths}

    def _shapes(self, number: int, bench: Bench) -> dict[str, Figures]:
        """Accept each shape in both trees, one right after the other, then drain both."""
        figures: dict[str, Figures] = {name: {} for name in self.paths}
        bench = replace(bench, messages=phases.shape_messages(bench.messages))
        backlog = phases.shape_backlog(bench.messages, self.options.shapes)
        with self._installed(bench.sink) as services, Exactly(bench.sink, len(services) * backlog):
            for service in services.values():
                service.open()
            for turn, shape in enumerate(self.options.shapes):
                for name in self._in_turn(number + turn):
                    figures[name] |= phases.take_in(services[name], bench, accepting(shape), shape)[0]
            for service in services.values():
                service.shut()
            for name in self._in_turn(number):
                figures[name] |= phases.deliver(services[name], bench, DRAINING, backlog)[0]
                services[name].stop("worker")
        return {name: own | sums(own) for name, own in figures.items()}

    def _drain(self, number: int, bench: Bench) -> dict[str, Figures]:
        """Drain short messages in both trees, one right after the other, into the sink of ``bench``."""
        figures: dict[str, Figures] = {}
        with self._installed(bench.sink) as services:
            pending = {name: phases.backlog(service, bench) for name, service in services.items()}
            with Exactly(bench.sink, sum(pending.values())):
                for name in self._in_turn(number):
                    service, backlog = services[name], pending[name]
                    if bench.sink.encrypts:
                        figures[name] = phases.drain_encrypted(service, bench, backlog)
                    else:
                        figures[name] = phases.deliver(service, bench, CLEAR, backlog)[0]
                    service.stop("worker")
        return {name: own | sums(own) for name, own in figures.items()}

    def _in_turn(self, number: int) -> Sequence[str]:
        return list(self.paths)[:: -1 if number % 2 else 1]

    @contextmanager
    def _installed(self, sink: Sink) -> Iterator[dict[str, Service]]:
        """Yield an installation of each tree that sends into a sink."""
        with ExitStack() as stack:
            services = {}
            for name, path in self.paths.items():
                settings, pids = sink.settings(), {}
                if self.configuration == REAL and self.servers:
                    lent, pids = stack.enter_context(self.servers.lend()), self.servers.pids()
                    settings |= {"DATABASE_URL": lent.database_url, "QUEUE_URL": lent.amqp_url}
                service = Service(self.configuration, settings | self.options.settings, pids, path)
                services[name] = stack.enter_context(service)
            yield services


def table(results: Results) -> str:
    """Return the figures as text: a table for each configuration, a row for each phase."""
    options = results.options
    rounds = f"{options.rounds} rounds" if options.rounds > 1 else "1 round"
    settings = "".join(f" · {name}={value}" for name, value in options.settings.items())
    what = f"{options.messages} messages of {title(SHORT)}"
    if options.shapes:
        what = f"{phases.shape_messages(options.messages)} messages of each shape, {options.messages} encrypted"
    head = f"this tree ({results.machine['commit']}) against {results.commit} · {what}"
    more = f"{options.connections} connections · {rounds} · into {results.machine['sink']}{settings}"
    tables = [_table(f"Mail BB Gun, {name}", rounds, options.shapes) for name, rounds in results.rounds.items()]
    return "\n\n".join(["\n".join([f"{head} · {more}", machine.line(results.machine)]), *tables, NOTE])


def _table(head: str, rounds: list[dict[str, Figures]], shapes: Sequence[str]) -> str:
    names = {accepting(shape): f"  accept, {title(shape)}" for shape in shapes}
    names |= {DRAINING: "  drain all of these"} if shapes else {CLEAR: "  drain, clear text"}
    names |= {ENCRYPTED: "  drain, STARTTLS + AUTH"}
    found = summary(rounds)
    columns: list[tuple[str, list[str]]] = []
    for metric, what, decimals in METRICS:
        for tree, column in ((OURS, what), (THEIRS, "other")):
            columns.append((column, [cell(_median(found[tree].get(f"{phase}_{metric}")), decimals) for phase in names]))
        if metric not in ASIDE:
            columns.append(("÷", [cell(times(rounds, f"{phase}_{metric}", OURS, THEIRS), 2) for phase in names]))
    return aligned(head, list(names.values()), columns)


def _median(one: Spread | None) -> Spread | None:
    return Spread(one.median, one.median, one.median) if one else None


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
