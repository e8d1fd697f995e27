"""Lists what each system does in a round."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from bench import batches, phases
from bench.by_smtp import accept_smtp
from bench.options import (
    BATCHES,
    KEYS,
    OUR_CLIENT,
    PIPELINED,
    REAL,
    REFERENCE,
    SIGNED,
    SLOW_CONNECTIONS,
    SLOW_SECONDS,
    SOURCE,
    THREADS,
    TLS_PROCESSES,
    WATCHED,
    Options,
)
from bench.peers.postfix import Postfix
from bench.peers.program import Program
from bench.phases import ACCEPT_WARM, LATENCY_MESSAGES, LATENCY_WARM, Bench, Exactly, limit_messages, loop_messages
from bench.processes import postfix
from bench.processes.receiver import Receiver
from bench.processes.servers import Servers
from bench.processes.service import Service
from bench.processes.sink import Sink
from bench.processes.system import System
from bench.programs.payload import DOMAIN
from bench.stats import Figures

SHAPED = ("postfix",)
"""Peers that take messages of any shape."""


TLS = ("postfix",)
"""Peers that are measured over STARTTLS, too."""

SMTP = ("postfix",)
"""Peers that take messages in by SMTP."""

WEBHOOKS = 2
"""Webhooks that get every event of an installation that is watched."""


@dataclass(frozen=True, slots=True)
class Turn:
    """What one system does in a round.

    ``share`` is a number of messages, for the progress bar. When an optional turn fails, the run
    continues.
    """

    subject: str
    what: str
    share: int
    optional: bool
    measure: Callable[[], Figures]


class Turns:
    """Makes the turns of a round."""

    def __init__(self, options: Options, servers: Servers | None, bench: Bench, python: Path) -> None:
        self._options, self._servers, self._bench, self._python = options, servers, bench, python

    def all(self) -> list[Turn]:
        """Return all turns. Each has its share before anything is measured."""
        return self._drain_turns() if self._options.only_drain else [*self._most_turns(), *self._encrypted_turns()]

    def _drain_turns(self) -> list[Turn]:
        options, bench = self._options, self._bench
        loops, share = loop_messages(options.messages), options.messages + ACCEPT_WARM
        turns = [Turn(REFERENCE, REFERENCE, loops, False, partial(phases.loop, REFERENCE, bench))]
        turns += [
            Turn(name, f"drain, {name}", share, False, partial(self._drain, name)) for name in options.configurations
        ]
        turns += [Turn(name, f"drain, {name}", share, True, partial(self._drain_peer, name)) for name in options.peers]
        return turns + self._encrypted_turns()

    def _encrypted_turns(self) -> list[Turn]:
        options, share = self._options, self._options.messages + ACCEPT_WARM
        what = "{}, STARTTLS".format
        ours = [
            Turn(name, what(name), share, False, partial(self._drain_encrypted, name))
            for name in options.configurations
        ]
        peers = [Turn(name, what(name), share, True, self._postfix_encrypted) for name in options.peers if name in TLS]
        return ours + peers

    def _most_turns(self) -> list[Turn]:
        options, bench = self._options, self._bench
        messages = options.messages
        loops, limits = loop_messages(messages), limit_messages(messages)
        ours = options.configurations[-1]
        turns = [Turn(name, name, loops, False, partial(phases.loop, name, bench)) for name in (REFERENCE, OUR_CLIENT)]
        turns += [
            Turn(name, name, 3 * messages + LATENCY_MESSAGES, False, partial(self._ours, name))
            for name in options.configurations
        ]
        turns += self._shape_turns() if options.shapes else []
        turns += [Turn(KEYS, f"{ours}, API keys", messages, False, partial(self._with_keys, ours))]
        turns += [
            Turn(name, f"by SMTP, {name}", messages, False, partial(self._by_smtp, name))
            for name in options.configurations
        ]
        by_smtp = [name for name in options.peers if name in SMTP]
        turns += [Turn(name, f"by SMTP, {name}", messages, True, self._postfix_by_smtp) for name in by_smtp]
        turns += [Turn(SIGNED, f"{ours}, DKIM", messages + ACCEPT_WARM, False, partial(self._signed, ours))]
        turns += [Turn(WATCHED, f"{ours}, webhooks", 3 * messages, False, partial(self._watched, ours))]
        turns += [
            Turn(
                BATCHES[name],
                f"{name}, batches",
                batches.batch_messages(messages),
                False,
                partial(self._batches, name),
            )
            for name in options.configurations
        ]
        turns += [Turn(PIPELINED, PIPELINED, limits, True, partial(phases.limit, "programs.pipelined", bench))]
        turns += [Turn(SOURCE, SOURCE, limits, True, self._source)]
        turns += [Turn(name, name, 3 * messages, True, partial(self._peer, name)) for name in options.peers]
        if options.slow_sink:
            slow = options.slow_messages()
            turns += [Turn(ours, f"slow sink, {ours}", slow, False, partial(self._slow_ours, ours))]
            turns += [Turn(THREADS, f"slow sink, {THREADS}", 0, True, self._slow_threads)]
        return turns

    def _shape_turns(self) -> list[Turn]:
        options, messages = self._options, phases.shape_messages(self._options.messages)
        share = len(options.shapes) * messages + phases.shape_backlog(messages, options.shapes)
        ours = [
            Turn(name, f"shapes, {name}", share, False, partial(self._shapes, name)) for name in options.configurations
        ]
        peers = [name for name in options.peers if name in SHAPED]
        return ours + [
            Turn(name, f"shapes, {name}", share, True, partial(self._shapes_of_peer, name)) for name in peers
        ]

    def _ours(self, name: str) -> Figures:
        """Measure accept, drain, end to end and latency of one fresh installation."""
        bench = self._bench
        wanted = 2 * (bench.messages + ACCEPT_WARM) + LATENCY_WARM + LATENCY_MESSAGES
        with self._service(name, bench.sink, {}) as service, Exactly(bench.sink, wanted):
            figures = phases.accept(service, bench) | phases.drain(service, bench) | phases.through(service, bench)
            figures |= phases.latency(service, bench)
            phases.checked(wanted, service)
            service.shut()
            service.stop("worker")
        return figures

    def _shapes(self, name: str) -> Figures:
        """Accept each shape and drain them all, on one fresh installation."""
        bench, names = self._bench_of_shapes(), self._options.shapes
        with (
            self._service(name, bench.sink, {}) as service,
            Exactly(bench.sink, phases.shape_backlog(bench.messages, names)),
        ):
            figures = phases.shapes(service, bench, names)
            service.stop("worker")
        return figures

    def _shapes_of_peer(self, name: str) -> Figures:
        bench, names = self._bench_of_shapes(), self._options.shapes
        with self._system(name) as system, Exactly(bench.sink, phases.shape_backlog(bench.messages, names)):
            return phases.shapes(system, bench, names)

    def _bench_of_shapes(self) -> Bench:
        return replace(self._bench, messages=phases.shape_messages(self._bench.messages))

    def _with_keys(self, name: str) -> Figures:
        """Measure accept once more, where every request needs an API key."""
        bench = self._bench
        with self._service(name, bench.sink, {"AUTH_REQUIRED": "true"}) as service, Exactly(bench.sink, 0):
            return phases.accept(service, bench)

    def _by_smtp(self, name: str) -> Figures:
        """Measure accept by SMTP."""
        with self._service(name, self._bench.sink, {}) as service, Exactly(self._bench.sink, 0):
            return accept_smtp(service, self._bench)

    def _postfix_by_smtp(self) -> Figures:
        bench = self._bench
        with Postfix(bench.sink.port, bench.sessions, bench.connections) as instance, Exactly(bench.sink, 0):
            return accept_smtp(instance, bench)

    def _signed(self, name: str) -> Figures:
        """Measure the drain of mail that is signed."""
        with self._service(name, self._bench.sink, {}) as service:
            service.sign(DOMAIN)
            return self._drained(service)

    def _watched(self, name: str) -> Figures:
        """Measure accept, drain and end to end while every event goes to webhooks."""
        bench = self._bench
        local = {"ALLOW_PRIVATE_HOSTS": "127.0.0.0/8"}
        wanted = 2 * (bench.messages + ACCEPT_WARM)
        with (
            Receiver() as receiver,
            self._service(name, bench.sink, local) as service,
            Exactly(bench.sink, wanted),
        ):
            service.watch([receiver.url(str(number)) for number in range(WEBHOOKS)])
            figures = phases.accept(service, bench) | phases.drain(service, bench) | phases.through(service, bench)
            service.shut()
            service.stop("worker")  # and with it what sends webhooks: the next turn must have the machine for itself
            return figures

    def _batches(self, name: str) -> Figures:
        """Measure how fast personal messages are accepted in batches."""
        bench = self._bench
        with self._service(name, bench.sink, {}) as service, Exactly(bench.sink, 0):
            return batches.accept_batches(service, bench)

    def _source(self) -> Figures:
        postfix.program("smtp-source")
        return phases.limit("programs.source", self._bench)

    def _peer(self, name: str) -> Figures:
        bench = self._bench
        with self._system(name) as system, Exactly(bench.sink, 2 * (bench.messages + ACCEPT_WARM)):
            return phases.accept(system, bench) | phases.drain(system, bench) | phases.through(system, bench)

    def _drain(self, name: str) -> Figures:
        with self._service(name, self._bench.sink, {}) as service:
            return self._drained(service)

    def _drain_peer(self, name: str) -> Figures:
        with self._system(name) as system:
            return self._drained(system)

    def _drained(self, system: System) -> Figures:
        """Drain what was handed in without measuring that."""
        pending = phases.backlog(system, self._bench)
        with Exactly(self._bench.sink, pending):
            return phases.drain(system, self._bench)

    def _drain_encrypted(self, name: str) -> Figures:
        with self._encrypted() as bench, self._service(name, bench.sink, {}) as service:
            pending = phases.backlog(service, bench)
            with Exactly(bench.sink, pending):
                figures = phases.drain_encrypted(service, bench, pending)
                service.stop("worker")
        return figures

    def _postfix_encrypted(self) -> Figures:
        with self._encrypted() as bench:
            sink = bench.sink
            with Postfix(sink.port, bench.sessions, bench.connections, sink.ca_file) as instance:
                pending = phases.backlog(instance, bench)
                with Exactly(sink, pending):
                    return phases.drain_encrypted(instance, bench, pending, logs_in=False)

    @contextmanager
    def _encrypted(self) -> Iterator[Bench]:
        with Sink("asyncio", tls=True, processes=TLS_PROCESSES) as sink:
            yield replace(self._bench, sink=sink)

    def _slow_ours(self, name: str) -> Figures:
        connections = {"WORKER_CONNECTIONS": str(SLOW_CONNECTIONS)}  # of all worker processes together
        with (
            self._slow() as bench,
            self._service(name, bench.sink, connections) as service,
            Exactly(bench.sink, bench.messages),
        ):
            return phases.slow(service, bench)

    def _slow_threads(self) -> Figures:
        with self._slow() as bench, Exactly(bench.sink, bench.messages):
            return phases.slow_threads(bench)

    @contextmanager
    def _slow(self) -> Iterator[Bench]:
        with Sink("asyncio", SLOW_SECONDS) as sink:
            yield replace(self._bench, messages=self._options.slow_messages(), sessions=SLOW_CONNECTIONS, sink=sink)

    @contextmanager
    def _service(self, name: str, sink: Sink, more: dict[str, str]) -> Iterator[Service]:
        with ExitStack() as stack:
            settings, servers = sink.settings(), {}
            if name == REAL and self._servers:
                lent, servers = stack.enter_context(self._servers.lend()), self._servers.pids()
                settings |= {"DATABASE_URL": lent.database_url, "QUEUE_URL": lent.amqp_url}
            yield stack.enter_context(Service(name, settings | self._options.settings | more, servers))

    @contextmanager
    def _system(self, peer: str) -> Iterator[System]:
        if peer == "postfix":
            with Postfix(self._bench.sink.port, self._bench.sessions, self._bench.connections) as instance:
                yield instance
        else:
            assert self._servers
            with (
                self._servers.lend() as lent,
                Program(peer, self._python, self._bench.sink.port, lent, self._servers.pids()) as program,
            ):
                yield program
