"""The phases of a run. Each phase returns its figures.

``_rate`` is messages per second, ``_us`` CPU microseconds per message, ``_ms`` milliseconds.
``<phase>_cpu_us`` is the CPU of the system's own processes. ``<phase>_<group>_cpu_us`` is that of a
group beside it: ``postgresql``, ``rabbitmq``, ``client`` (the program that hands messages in) or
``sink``. A message counts as delivered when the sink has it.
"""

import os
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn, TypeAlias

from tqdm import tqdm

from bench import BenchError
from bench.processes import cpu
from bench.processes.clients import Clients
from bench.processes.service import Service
from bench.processes.sink import Sink
from bench.processes.system import System
from bench.programs import load
from bench.programs.loop import WARM
from bench.programs.shapes import MARK, SHORT, requests
from bench.stats import Figures, percentile

LOOP_LEAST = 5000  # least messages of a plain loop: the reference for all others must run for about a second
LIMIT_LEAST = 20_000  # least messages of the faster senders
SHAPE_LEAST = 100  # least messages of a shape
ACCEPT_WARM = 64  # messages before the clock starts, to start threads and open database connections
LATENCY_WARM, LATENCY_MESSAGES = 5, 50
LOOK_SECONDS = 0.003  # between two looks while thousands drain
GLANCE_SECONDS = 0.0002  # between two looks while one message is on its way
SILENCE = 60.0  # seconds without a message in the sink until the run gives up

Bar: TypeAlias = "tqdm[NoReturn]"


@dataclass(frozen=True, slots=True)
class Bench:
    """What every phase needs.

    ``connections`` hand messages in, ``sessions`` carry them to the sink.
    """

    messages: int
    connections: int
    sessions: int
    sink: Sink
    clients: Clients
    bar: Bar


def loop_messages(messages: int) -> int:
    """Return how many messages a plain loop sends, in rounds of ``messages``."""
    return max(messages, LOOP_LEAST)


def limit_messages(messages: int) -> int:
    """Return how many messages the fast senders send, in rounds of ``messages``."""
    return max(messages, LIMIT_LEAST)


def loop(name: str, bench: Bench) -> Figures:
    """Send with a plain loop of ``bench.programs.loop``. The loop and the sink share one core.

    They never work at the same moment. On two cores of an idle virtual machine, each command would
    wake a halted core, and a loop would take 60 or 300 µs depending on what else runs. Such a
    reference would be useless.
    """
    core = max(os.sched_getaffinity(0))
    messages = loop_messages(bench.messages)
    with bench.sink.on_core(core):
        return _straight(bench, messages, WARM, "programs.loop", name, bench.sink.port, messages, core)


def limit(program: str, bench: Bench) -> Figures:
    """Send with ``bench.programs.pipelined`` or ``source``, over as many connections as a worker
    has.
    """
    messages = limit_messages(bench.messages)
    return _straight(bench, messages, 0, program, bench.sink.port, messages, bench.sessions)


def _straight(bench: Bench, messages: int, warm: int, program: str, *arguments: object) -> Figures:
    """Send ``warm`` messages before the clock starts, then ``messages``, straight into the sink."""
    sink = bench.sink
    base, progress, meter = sink.count(), progressing(bench.bar, messages), cpu.Meter({"sink": [sink.pid]})
    figures = bench.clients.run(program, *arguments, on_progress=lambda _: progress(sink.count() - base))
    progress(messages)
    _exactly(sink, base + messages + warm)
    return {"send_rate": messages / figures["seconds"]} | costs("send", {"": figures["cpu"]} | meter.read(), messages)


def accept(system: System, bench: Bench) -> Figures:
    """Hand messages in while nothing delivers them. They are the backlog of :func:`drain`."""
    system.open()
    figures, answers = take_in(system, bench, "accept", SHORT)
    system.shut()
    if answers:
        figures |= {"accept_p50_ms": percentile(answers, 50) * 1e3, "accept_p99_ms": percentile(answers, 99) * 1e3}
    return figures


def take_in(system: System, bench: Bench, phase: str, shape: str) -> tuple[Figures, list[float]]:
    """Hand messages of a shape in to a system that is open.

    Returns figures whose names begin with ``phase``, and the seconds of each answer, if known.
    """
    messages, progress = bench.messages, progressing(bench.bar, bench.messages)
    system.hand_in(bench.clients, 0, ACCEPT_WARM, bench.connections, shape=shape)
    meter = metered(system, bench.sink)

    def tell(line: str) -> None:
        progress(int(line) if line.isdigit() else 0)

    handed_in = system.hand_in(bench.clients, ACCEPT_WARM, messages, bench.connections, tell, shape)
    used = meter.read()
    progress(messages)
    figures = {f"{phase}_rate": messages / handed_in["seconds"]} | costs(
        phase, used | {"client": handed_in["cpu"]}, messages
    )
    return figures, handed_in.get("answers", [])


def drain(system: System, bench: Bench) -> Figures:
    """Deliver the backlog of :func:`accept`.

    The clock starts when the first message is in the sink.
    """
    started = time.perf_counter()
    figures, arrived = deliver(system, bench, "send", bench.messages + ACCEPT_WARM)
    return figures | {"send_memory_mb": _memory_mb(system), "start_ms": (arrived - started) * 1e3}


def backlog(system: System, bench: Bench) -> int:
    """Hand in what :func:`drain` delivers, without measuring, and return how many messages."""
    system.open()
    system.hand_in(bench.clients, 0, bench.messages + ACCEPT_WARM, bench.connections)
    system.shut()
    return bench.messages + ACCEPT_WARM


def drain_encrypted(system: System, bench: Bench, pending: int, *, logs_in: bool = True) -> Figures:
    """Deliver a backlog into a sink with TLS; ``encrypted_per_session`` is how many a session carried.

    Raises :class:`BenchError` if the system left sessions in clear text, or did not log in.
    """
    before = bench.sink.counts()
    figures = deliver(system, bench, ENCRYPTED, pending)[0]
    opened = {name: count - before[name] for name, count in bench.sink.counts().items()}
    if opened["encrypted"] < opened["sessions"] or (logs_in and opened["logins"] < opened["sessions"]):
        raise BenchError(f"not each session was encrypted and logged in: {opened}\n{system.log()}")
    return figures | {f"{ENCRYPTED}_per_session": pending / max(1, opened["sessions"])}


def deliver(system: System, bench: Bench, phase: str, backlog: int) -> tuple[Figures, float]:
    """Deliver ``backlog`` messages.

    Returns figures whose names begin with ``phase``, and the time when the first was in the sink.
    """
    sink, base, progress = bench.sink, bench.sink.count(), progressing(bench.bar, backlog)
    last = base + backlog
    system.deliver()
    arrived = wait_for(sink, base + 1, system, LOOK_SECONDS)
    began, meter, first = time.perf_counter(), metered(system, sink), sink.count()
    wait_for(sink, last, system, LOOK_SECONDS, lambda count: progress(count - base))
    seconds, left, used = time.perf_counter() - began, max(1, last - first), meter.read()
    return {f"{phase}_rate": left / seconds} | costs(phase, used, left), arrived


def shapes(system: System, bench: Bench, names: Sequence[str]) -> Figures:
    """Accept messages of one shape after the other, then drain them all.

    The figures are called ``accept_html_rate``, ``send_shapes_rate`` and so on.
    """
    system.open()
    figures: Figures = {}
    for name in names:
        figures |= take_in(system, bench, accepting(name), name)[0]
    system.shut()
    return figures | deliver(system, bench, DRAINING, shape_backlog(bench.messages, names))[0]


CLEAR, ENCRYPTED, DRAINING = "send", "encrypted", "send_shapes"


def accepting(shape: str) -> str:
    """Return the name of the phase that accepts messages of a shape."""
    return f"accept_{shape}"


def shape_messages(messages: int) -> int:
    """Return how many messages of each shape are accepted, in rounds of ``messages``."""
    return max(SHAPE_LEAST, messages // 5)


def shape_backlog(messages: int, names: Sequence[str]) -> int:
    """Return how many messages are pending once ``messages`` of each shape were accepted."""
    return len(names) * (messages + ACCEPT_WARM)


def through(system: System, bench: Bench) -> Figures:
    """Hand messages in while they are delivered. The clock stops when the last is in the sink."""
    messages, sink, progress = bench.messages, bench.sink, progressing(bench.bar, bench.messages)
    system.open()
    base = sink.count() + ACCEPT_WARM
    system.hand_in(bench.clients, 0, ACCEPT_WARM, bench.connections)
    wait_for(sink, base, system, LOOK_SECONDS)
    meter, seen = metered(system, sink), [0.0]

    def look(_: object) -> None:
        progress((count := sink.count()) - base)
        seen[0] = seen[0] or (time.perf_counter() if count >= base + messages else 0.0)

    handed_in = system.hand_in(bench.clients, ACCEPT_WARM, messages, bench.connections, look)
    look(None)
    ended = seen[0] or wait_for(sink, base + messages, system, LOOK_SECONDS, look)
    used = meter.read() | {"client": handed_in["cpu"]}
    return {"through_rate": messages / (ended - handed_in["began"])} | costs("through", used, messages)


def latency(service: Service, bench: Bench) -> Figures:
    """POST one message at a time to an idle service and wait until the sink has it."""
    line, [request] = load.Connection(service.port), requests(SHORT, service.port)
    taken, dice = [], random.Random(20261120)
    for number in range(LATENCY_WARM + LATENCY_MESSAGES):
        time.sleep(dice.uniform(0.02, 0.08))  # an irregular pause, not in step with anything that polls
        base, began = bench.sink.count(), time.perf_counter()
        line.ask(request.replace(MARK, b"%08d" % number))
        while line.hear() is None:
            pass
        taken.append(wait_for(bench.sink, base + 1, service, GLANCE_SECONDS) - began)
        if number >= LATENCY_WARM:
            bench.bar.update(1)
    line.socket.close()
    counted = taken[LATENCY_WARM:]
    return {"latency_p50_ms": percentile(counted, 50) * 1e3, "latency_p99_ms": percentile(counted, 99) * 1e3}


def slow_threads(bench: Bench) -> Figures:
    """Send with ``bench.programs.threads`` into a slow sink."""
    figures = bench.clients.run("programs.threads", bench.sink.port, bench.messages, bench.sessions)
    return {
        "slow_rate": (bench.messages - bench.sessions) / figures["seconds"],
        "slow_cpu_us": figures["cpu"] / bench.messages * 1e6,
    }


def slow(system: System, bench: Bench) -> Figures:
    """Deliver a backlog into a slow sink.

    The clock starts when each session has had the time to deliver one message.
    """
    system.open()
    system.hand_in(bench.clients, 0, bench.messages, bench.connections)
    system.shut()
    progress = progressing(bench.bar, bench.messages)
    system.deliver()
    wait_for(bench.sink, bench.sessions, system, LOOK_SECONDS)
    began, meter, first = time.perf_counter(), metered(system, bench.sink), bench.sink.count()
    wait_for(bench.sink, bench.messages, system, LOOK_SECONDS, progress)
    seconds, left, used = time.perf_counter() - began, max(1, bench.messages - first), meter.read()
    return {"slow_rate": left / seconds, "slow_memory_mb": _memory_mb(system)} | costs("slow", used, left)


def checked(wanted: int, service: Service) -> None:
    """Raise :class:`BenchError` unless the service reports ``wanted`` messages as delivered."""
    until = time.monotonic() + 5
    while (known := service.count("DELIVERED")) != wanted:
        if time.monotonic() > until:
            raise BenchError(f"{wanted} messages went out, and the service says that {known} did\n{service.log()}")
        time.sleep(0.05)


@dataclass(slots=True)
class Exactly:
    """Raise :class:`BenchError` at the end of the block unless the sink got ``wanted`` messages in
    it.
    """

    sink: Sink
    wanted: int

    def __enter__(self) -> None:
        self.wanted += self.sink.count()

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if error is None:
            _exactly(self.sink, self.wanted)


def metered(system: System, sink: Sink) -> cpu.Meter:
    return cpu.Meter({"": system.own(), "sink": [sink.pid]} | {name: [pid] for name, pid in system.servers.items()})


def costs(phase: str, used: Mapping[str, float], messages: int) -> Figures:
    return {
        f"{phase}_{group}_cpu_us" if group else f"{phase}_cpu_us": seconds / messages * 1e6
        for group, seconds in used.items()
    }


def _memory_mb(system: System) -> float:
    return sum(map(cpu.memory_of, system.own())) / 2**20


def wait_for(
    sink: Sink, wanted: int, system: System, look: float, on_progress: Callable[[int], None] = lambda _: None
) -> float:
    """Wait until the sink has ``wanted`` messages and return the time."""
    had, since = sink.count(), time.perf_counter()
    while (count := sink.count()) < wanted:
        time.sleep(look)
        if count > had:
            had, since = count, time.perf_counter()
            on_progress(count)
        elif time.perf_counter() - since > 1.0:
            system.own()
            if time.perf_counter() - since > SILENCE:
                raise BenchError(
                    f"{wanted - count} messages are missing and nothing has come for {SILENCE:.0f} s\n{system.log()}"
                )
    now = time.perf_counter()
    on_progress(count)
    return now


def _exactly(sink: Sink, wanted: int) -> None:
    if (count := sink.count()) != wanted:
        raise BenchError(f"the sink has {count} messages, not {wanted}")


def progressing(bar: Bar, most: int) -> Callable[[int], None]:
    """Return a function that moves the bar to a count of this phase, at most to ``most``, never
    back.
    """
    done = 0

    def to(count: int) -> None:
        nonlocal done
        step = max(done, min(count, most)) - done
        done += step
        bar.update(step)

    return to
