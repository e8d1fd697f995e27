"""The plan of a run: servers, then rounds in which everything has its turn, in another order each time."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from bench import machine, phases
from bench.clients import Clients
from bench.phases import LATENCY_MESSAGES, Bar, loop_messages
from bench.service import Service
from bench.sink import Kind, Sink
from bench.stats import Figures, with_ratios
from tests.servers import PostgreSQL, RabbitMQ

EMBEDDED, REAL = "embedded", "real"
CONFIGURATIONS = (EMBEDDED, REAL)
REFERENCE, OUR_CLIENT = "smtplib", "client"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the person asked for."""

    messages: int
    rounds: int
    connections: int
    configurations: tuple[str, ...]
    sink: Kind
    settings: dict[str, str]

    def work(self) -> int:
        """Return how many messages are handed over in all, for the progress bar."""
        return self.rounds * (2 * loop_messages(self.messages) + len(self.configurations) * (2 * self.messages + LATENCY_MESSAGES))


@dataclass(frozen=True, slots=True)
class Results:
    """A whole run: round → subject → metric."""

    time: datetime
    machine: dict[str, object]
    options: Options
    rounds: list[dict[str, Figures]]


def run(options: Options, bar: Bar) -> Results:
    """Start what is needed, measure, stop it. Raises :class:`BenchError`, :class:`tests.servers.install.Missing`."""
    with ExitStack() as stack:
        bar.set_description("servers")
        servers = stack.enter_context(Servers()) if REAL in options.configurations else None
        sink = stack.enter_context(Sink(options.sink))
        clients = stack.enter_context(Clients())
        if sink.why:
            bar.write(f"the sink is a slower one in Python: {sink.why}")
        facts = machine.facts(sink.name, servers.versions() if servers else {})
        began, rounds = datetime.now(UTC), []
        for number in range(options.rounds):
            figures: dict[str, Figures] = {}
            for subject, measure in _turns(_subjects(options, servers, sink, clients, bar), number):
                bar.set_description(f"{number + 1}/{options.rounds} {subject}")
                figures[subject] = measure()
            rounds.append(with_ratios(figures, REFERENCE))
        return Results(began, facts, options, rounds)


class Servers(ExitStack):
    """A private PostgreSQL and a private RabbitMQ, running."""

    def __enter__(self) -> "Servers":
        super().__enter__()
        try:
            self._broker = RabbitMQ(own=True)
            self.callback(self._broker.close)
            self._broker.launch()
            self._database = self.enter_context(PostgreSQL(own=True))
            self._broker.start()
        except BaseException:
            self.close()
            raise
        return self

    def versions(self) -> dict[str, str]:
        """Return what they are."""
        return {"PostgreSQL": machine.postgresql_version(self._database.url()), "RabbitMQ": self._broker.ctl("version").strip()}

    @contextmanager
    def settings(self) -> Iterator[dict[str, str]]:
        """Lend an empty database and an empty virtual host."""
        database, vhost = self._database.create_database(), self._broker.vhost()
        try:
            yield {"DATABASE_URL": self._database.url(database), "QUEUE_URL": self._broker.url(vhost)}
        finally:
            self._broker.release(vhost)
            self._database.drop_database(database)


def _subjects(options: Options, servers: Servers | None, sink: Sink, clients: Clients, bar: Bar) -> dict[str, Callable[[], Figures]]:
    def loop(name: str) -> Callable[[], Figures]:
        return lambda: phases.loop(name, options.messages, sink, clients, bar)

    def configuration(name: str) -> Callable[[], Figures]:
        return lambda: _configuration(name, options, servers, sink, clients, bar)

    return {REFERENCE: loop(REFERENCE), OUR_CLIENT: loop(OUR_CLIENT)} | {name: configuration(name) for name in options.configurations}


def _turns(subjects: dict[str, Callable[[], Figures]], number: int) -> list[tuple[str, Callable[[], Figures]]]:
    turns = list(subjects.items())
    first = number % len(turns)
    return turns[first:] + turns[:first]


def _configuration(name: str, options: Options, servers: Servers | None, sink: Sink, clients: Clients, bar: Bar) -> Figures:
    """Accept, drain and latency of one fresh installation."""
    with ExitStack() as stack:
        settings = {"SMTP_URL": f"smtp://127.0.0.1:{sink.port}?security=none"}
        if name == REAL and servers:
            settings |= stack.enter_context(servers.settings())
        service = stack.enter_context(Service(name, settings | options.settings))
        base = sink.count()
        service.start_api()
        figures = phases.accept(options.messages, options.connections, service, sink, clients, bar)
        service.stop("api")
        figures |= phases.drain(options.messages, service, sink, bar)
        service.start_api()
        figures |= phases.latency(service, sink, bar)
        phases.checked(options.messages, base, service, sink)
        service.stop("api")
        service.stop("worker")
    # Embedded uses no server; what idle ones of the other configuration took meanwhile is not its.
    return figures if name == REAL else {metric: value for metric, value in figures.items() if "_servers_" not in metric}
