"""Measures a worker process with many connections: ``bin/bench --many-connections``.

- A *slow sink* answers each command after 50 ms. That bounds what so many connections can carry;
  the other bound is what the worker can do without the delay, which is measured, too. The clock runs
  while all connections are busy: from the first message of each to the last of each.
- A *tarpit* takes connections and never says a word. It is the server of one recipient domain and
  holds half of all connections. Meanwhile another domain gets a message every few milliseconds: its
  latency, from the begin of the POST to the arrival in the sink, is compared with that of the same
  installation before the tarpit had mail.

With ``--against COMMIT`` the other commit does the same, in turns. A tree that refuses so many
connections, or does not manage, has a row that says so.
"""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from bench import ROOT, BenchError, phases
from bench.against import OURS, THEIRS, checked_out
from bench.options import REAL, SLOW_SECONDS, Options
from bench.phases import ACCEPT_WARM, Bar, Bench, Exactly
from bench.processes import cpu, machine
from bench.processes.clients import Clients
from bench.processes.servers import Servers
from bench.processes.service import Service
from bench.processes.sink import Sink
from bench.programs.payload import DOMAIN
from bench.report import aligned, cell
from bench.stats import Figures, percentile, summary
from bench.trickle import Trickle, post
from mailbbgun.core.errors import ConfigurationError
from tests.smtp.name_server import NameServer

CONNECTIONS = 1000  # unless --setting WORKER_CONNECTIONS says otherwise
WAVES = 12  # least messages for each connection
SINK_PROCESSES = 2

TARPIT, TARPIT_ADDRESS, SINK_ADDRESS = "tarpit0.test", "127.0.0.3", "127.0.0.1"  # as long as payload.DOMAIN
WARM, SAMPLES = 20, 400  # of the neighbour's messages
STUCK = 1.2  # messages for the tarpit, for each connection that it may hold
FULL_SECONDS = 60.0  # in which the tarpit must hold all of these
ZONE = {
    DOMAIN: {"MX": [f"10 mx.{DOMAIN}."]},
    f"mx.{DOMAIN}": {"A": [SINK_ADDRESS]},
    TARPIT: {"MX": [f"10 mx.{TARPIT}."]},
    f"mx.{TARPIT}": {"A": [TARPIT_ADDRESS]},
}

SLOW_COLUMNS = (
    ("rate", "messages/s", 0),
    ("theory", "in theory", 0),
    ("of_theory", "share", 2),
    ("free_rate", "without delay", 0),
    ("of_free", "share", 2),
    ("core", "of one core", 2),
    ("free_core", "without delay", 2),
    ("cpu_us", "CPU: µs", 0),
    ("peak_mb", "peak MB", 0),
    ("sessions", "connections", 0),
    ("commands", "commands", 2),
    ("round_trips", "round trips", 2),
    ("sink_core", "sink", 2),
)
TARPIT_COLUMNS = (
    ("held", "held", 0),
    ("idle_p50_ms", "idle: p50", 1),
    ("idle_p99_ms", "p99", 1),
    ("beside_p50_ms", "beside: p50", 1),
    ("beside_p99_ms", "p99", 1),
    ("p50_ratio", "÷ p50", 2),
    ("p99_ratio", "÷ p99", 2),
    ("peak_mb", "peak MB", 0),
)
NOTE = (
    "in theory: connections ÷ (commands of a message × delay); the sink does one command after the other, "
    "also if they are pipelined.\n"
    "without delay: the same into a quick sink. of one core: CPU of the worker's processes ÷ time; sink: that of the "
    "sink, which has {processes} processes.\n"
    "peak MB: resident, the largest process. held: connections of the tarpit. ÷: beside the tarpit to idle."
)


@dataclass(frozen=True, slots=True)
class Results:
    """All results of a run.

    Each round maps part (``slow`` or ``tarpit``) → tree → metric. ``failed`` maps part → tree → why.
    """

    time: datetime
    machine: dict[str, object]
    options: Options
    connections: int
    messages: int
    names: dict[str, str]
    rounds: list[dict[str, dict[str, Figures]]]
    failed: dict[str, dict[str, str]]


def run(options: Options, commit: str | None, bar: Bar) -> Results:
    """Measure this tree, and another commit if one is named, and stop all that was started.

    Raises :class:`BenchError` or :class:`tests.servers.install.Missing`.
    """
    connections = int(options.settings.get("WORKER_CONNECTIONS", CONNECTIONS))
    messages = max(options.messages, WAVES * connections)
    with ExitStack() as stack:
        bar.set_description("servers")
        trees, names = {OURS: ROOT}, {OURS: OURS}
        if commit:
            trees[THEIRS], names[THEIRS] = stack.enter_context(checked_out(commit))
        configuration = options.configurations[-1]
        servers = stack.enter_context(Servers()) if configuration == REAL else None
        clients = stack.enter_context(Clients())
        facts, began = machine.facts("asyncio", servers.versions() if servers else {}), datetime.now(UTC)
        place = _Place(configuration, connections, messages, options, servers, clients, bar)
        parts: dict[str, Callable[[Path], Figures]] = {"slow": place.slow, "tarpit": place.tarpit}
        bar.reset(total=options.rounds * len(trees) * 2 * (messages + _samples(options)))
        rounds: list[dict[str, dict[str, Figures]]] = []
        failed: dict[str, dict[str, str]] = {part: {} for part in parts}
        for number in range(options.rounds):
            bar.set_description(f"{number + 1}/{options.rounds}")
            rounds.append(one_round(parts, trees, number, failed))
        if OURS in failed["slow"] and OURS in failed["tarpit"]:
            raise BenchError(failed["slow"][OURS])
        return Results(began, facts, options, connections, messages, names, rounds, failed)


def one_round(
    parts: dict[str, Callable[[Path], Figures]],
    trees: dict[str, Path],
    number: int,
    failed: dict[str, dict[str, str]],
) -> dict[str, dict[str, Figures]]:
    """Measure each part in each tree, in changing order, and return part → tree → metric.

    What a tree refuses is added to ``failed`` and not tried again.
    """
    found: dict[str, dict[str, Figures]] = {part: {} for part in parts}
    for part, measure in parts.items():
        for tree in list(trees)[:: -1 if number % 2 else 1]:
            if tree in failed[part]:
                continue
            try:
                found[part][tree] = measure(trees[tree])
            except (BenchError, ConfigurationError) as error:
                failed[part][tree] = str(error)
    return found


@dataclass(frozen=True, slots=True)
class _Place:
    """What both parts need."""

    configuration: str
    connections: int
    messages: int
    options: Options
    servers: Servers | None
    clients: Clients
    bar: Bar

    def slow(self, tree: Path) -> Figures:
        """Drain a backlog into the slow sink, then one into a sink without a delay."""
        with Sink("asyncio", SLOW_SECONDS, processes=SINK_PROCESSES) as sink:
            figures = self._drained(tree, sink)
        with Sink("asyncio", processes=SINK_PROCESSES) as sink:
            free = self._drained(tree, sink)
        theory = self.connections / figures["commands"] / SLOW_SECONDS
        return figures | {
            "theory": theory,
            "of_theory": figures["rate"] / theory,
            "free_rate": free["rate"],
            "of_free": figures["rate"] / free["rate"],
            "free_core": free["core"],
            "free_peak_mb": free["peak_mb"],
        }

    def _drained(self, tree: Path, sink: Sink) -> Figures:
        """Drain a backlog; the figures are those of the time when every connection is busy."""
        bench = Bench(
            self.messages - ACCEPT_WARM, self.options.connections, self.connections, sink, self.clients, self.bar
        )
        with self._installed(tree, sink.settings()) as service, Exactly(sink, self.messages):
            phases.backlog(service, bench)
            service.deliver()
            phases.wait_for(sink, self.connections, service, phases.LOOK_SECONDS)
            meter = cpu.Meter({"own": service.own(), "sink": [sink.pid]})
            first, began = sink.counts(), time.perf_counter()
            phases.wait_for(sink, self.messages - self.connections, service, phases.LOOK_SECONDS)
            last, seconds, used = sink.counts(), time.perf_counter() - began, meter.read()
            phases.wait_for(sink, self.messages, service, phases.LOOK_SECONDS)
            self.bar.update(self.messages)
            done, whole = last["messages"] - first["messages"], sink.counts()
            return {
                "rate": done / seconds,
                "commands": whole["commands"] / self.messages,
                "round_trips": whole["round_trips"] / self.messages,
                "sessions": float(whole["sessions"]),
                "cpu_us": used["own"] / done * 1e6,
                "core": used["own"] / seconds,
                "sink_core": used["sink"] / seconds,
                "peak_mb": _peak_mb(service),
            }

    def tarpit(self, tree: Path) -> Figures:
        """Measure the neighbour's latency before and while the tarpit holds connections."""
        half, samples = max(1, self.connections // 2), _samples(self.options)
        with (
            NameServer(ZONE) as names,
            Sink("asyncio", arrivals=True) as sink,
            Sink("asyncio", silent=True, address=TARPIT_ADDRESS, port=sink.port) as tarpit,
        ):
            direct = {
                "SMTP_URL": "mx:",
                "MX_PORT": str(sink.port),
                "DNS_SERVERS": f"127.0.0.1:{names.port}",
                "ALLOW_PRIVATE_HOSTS": f"{SINK_ADDRESS},{TARPIT_ADDRESS}",
                "CONNECTIONS_PER_DOMAIN": str(half),
                "SMTP_TIMEOUTS": "banner=1800",
            }
            with self._installed(tree, direct) as service:
                service.open()
                service.deliver()
                trickle = Trickle(service, sink)
                trickle.send(WARM)
                idle = trickle.send(samples)
                self.bar.update(samples)
                post(service, TARPIT, range(int(half * STUCK)))
                _await_full(tarpit, half)
                beside = trickle.send(samples)
                self.bar.update(samples)
                figures = {"held": float(_held(tarpit)), "peak_mb": _peak_mb(service)}
        for name, seconds in (("idle", idle), ("beside", beside)):
            figures |= {f"{name}_p{part}_ms": percentile(seconds, part) * 1e3 for part in (50, 99)}
        return figures | {
            f"p{part}_ratio": figures[f"beside_p{part}_ms"] / figures[f"idle_p{part}_ms"] for part in (50, 99)
        }

    @contextmanager
    def _installed(self, tree: Path, settings: dict[str, str]) -> Iterator[Service]:
        with ExitStack() as stack:
            pids: dict[str, int] = {}
            settings = settings | {"WORKER_PROCESSES": "1", "WORKER_CONNECTIONS": str(self.connections)}
            if self.servers:
                lent, pids = stack.enter_context(self.servers.lend()), self.servers.pids()
                settings |= {"DATABASE_URL": lent.database_url, "QUEUE_URL": lent.amqp_url}
            yield stack.enter_context(Service("many", settings | self.options.settings, pids, tree))


def _samples(options: Options) -> int:
    return min(SAMPLES, options.messages)


def _held(tarpit: Sink) -> int:
    """Return how many connections are open there."""
    counts = tarpit.counts()
    return counts["sessions"] - counts["ended"]


def _await_full(tarpit: Sink, wanted: int) -> None:
    """Wait until so many connections are open there, but not for ever: the table says how many there were."""
    end = time.monotonic() + FULL_SECONDS
    while _held(tarpit) < wanted and time.monotonic() < end:
        time.sleep(phases.LOOK_SECONDS)


def _peak_mb(service: Service) -> float:
    """Return the peak of its worker's largest process; an API that still runs is smaller."""
    return cpu.peak_of(service.own()[-1]) / 2**20


def table(results: Results) -> str:
    """Return the figures as text: a table for each part, a row for each tree."""
    options, rounds = results.options, f"{len(results.rounds)} rounds" if len(results.rounds) > 1 else "1 round"
    settings = "".join(f" · {name}={value}" for name, value in options.settings.items())
    what = f"one worker process, {results.connections} connections · {options.configurations[-1]}"
    head = f"{what} · {results.messages} messages of 4 KB · {rounds}, median (range){settings}"
    parts = {
        "slow": (f"slow sink, {SLOW_SECONDS * 1e3:.0f} ms a command", SLOW_COLUMNS),
        "tarpit": (f"a neighbour of a tarpit, {_samples(options)} messages each, ms", TARPIT_COLUMNS),
    }
    tables = [_table(part, title, columns, results) for part, (title, columns) in parts.items()]
    note = NOTE.format(processes=SINK_PROCESSES)
    return "\n\n".join(["\n".join([head, machine.line(results.machine)]), *filter(None, tables), note])


def _table(part: str, title: str, metrics: tuple[tuple[str, str, int], ...], results: Results) -> str:
    found = summary([one[part] for one in results.rounds])
    trees = [tree for tree in results.names if tree in found]
    columns = [
        (column, [cell(found[tree].get(metric), decimals) for tree in trees]) for metric, column, decimals in metrics
    ]
    rows = aligned(title, [f"  {results.names[tree]}" for tree in trees], columns) or title
    why = [f"  {results.names[tree]}: {_short(said)}" for tree, said in results.failed[part].items()]
    return "\n".join([rows, *why])


def _short(said: str) -> str:
    """Return the last line of an error, which in the output of a program says why."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return " … ".join(dict.fromkeys([lines[0], lines[-1]]))[:400] if lines else "it failed"


def save(results: Results, folder: Path) -> list[Path]:
    """Write text and JSON to ``<folder>/<time>-many-connections.*`` and return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    content = asdict(results) | {"time": results.time.isoformat(timespec="seconds")}
    paths = []
    for kind, text in {"txt": table(results) + "\n", "json": json.dumps(content, indent=2) + "\n"}.items():
        paths.append(folder / f"{results.time:%Y-%m-%dT%H-%M-%S}-many-connections.{kind}")
        paths[-1].write_text(text)
    return paths
