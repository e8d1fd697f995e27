"""What is measured. Each phase returns its figures; rates are messages a second, ``_us`` CPU microseconds a message, ``_ms`` milliseconds."""

import os
import random
import time
from collections.abc import Callable
from typing import NoReturn, TypeAlias

from tqdm import tqdm

from bench import BenchError, cpu, load, payload
from bench.clients import Clients
from bench.loop import WARM
from bench.service import Service
from bench.sink import Sink
from bench.stats import Figures, percentile

LOOP_LEAST = 5000  # messages of a bare loop: what all is compared with must run for about a second
ACCEPT_WARM = 64  # POSTs before the clock runs: threads, database connections
LATENCY_WARM, LATENCY_MESSAGES = 5, 50
LOOK_SECONDS = 0.003  # while thousands drain
GLANCE_SECONDS = 0.0002  # while one is on its way
SILENCE = 60.0  # seconds without a message in the sink

Bar: TypeAlias = "tqdm[NoReturn]"


def loop_messages(messages: int) -> int:
    """Return how many messages a bare loop sends in a round of so many."""
    return max(messages, LOOP_LEAST)


def loop(name: str, messages: int, sink: Sink, clients: Clients, bar: Bar) -> Figures:
    """Send with a bare loop of ``bench.loop``, loop and sink on one core.

    They never work at the same moment. On two cores of a virtual machine that is otherwise idle each wakes a halted core
    with every command, and one loop takes 60 or 300 µs by what else happens to run: nothing to compare with.
    """
    messages = loop_messages(messages)
    base, progress = sink.count(), _progress(bar, messages)
    core = max(os.sched_getaffinity(0))
    with sink.on_core(core):
        figures = clients.run("loop", name, sink.port, messages, core, told=lambda _: progress(sink.count() - base))
    progress(messages)
    _exactly(sink, base + messages + WARM)
    return {"send_rate": messages / figures["seconds"], "send_cpu_us": figures["cpu"] / messages * 1e6}


def accept(messages: int, connections: int, service: Service, sink: Sink, clients: Clients, bar: Bar) -> Figures:
    """POST to a service whose worker does not run. What it accepted is the backlog of :func:`drain`."""
    clients.run("load", service.port, 0, ACCEPT_WARM, connections)
    progress = _progress(bar, messages)
    api = service.pid("api")
    before, servers = cpu.of(api), cpu.of_the_rest([api, sink.pid])
    figures = clients.run(
        "load", service.port, ACCEPT_WARM, messages, connections, told=lambda line: progress(int(line) if line.isdigit() else 0)
    )
    used, servers = cpu.of(api) - before, cpu.of_the_rest([api, sink.pid]) - servers
    progress(messages)
    return {
        "accept_rate": messages / figures["seconds"],
        "accept_cpu_us": used / messages * 1e6,
        "accept_servers_cpu_us": servers / messages * 1e6,
        "accept_load_cpu_us": figures["cpu"] / messages * 1e6,
        "accept_p50_ms": percentile(figures["answers"], 50) * 1e3,
        "accept_p99_ms": percentile(figures["answers"], 99) * 1e3,
    }


def drain(messages: int, service: Service, sink: Sink, bar: Bar) -> Figures:
    """Start a worker on a backlog and watch the sink until it has all. The clock runs from the first message there."""
    backlog, base, progress = messages + ACCEPT_WARM, sink.count(), _progress(bar, messages)
    started = time.perf_counter()
    service.start_worker()
    worker = service.pid("worker")
    arrived = _await(sink, base + 1, service, LOOK_SECONDS)
    began, before, servers = time.perf_counter(), cpu.of(worker), cpu.of_the_rest([worker, sink.pid])
    first = sink.count()
    _await(sink, base + backlog, service, LOOK_SECONDS, lambda count: progress(count - base))
    seconds, left = time.perf_counter() - began, max(1, base + backlog - first)
    used, servers = cpu.of(worker) - before, cpu.of_the_rest([worker, sink.pid]) - servers
    return {
        "send_rate": left / seconds,
        "send_cpu_us": used / left * 1e6,
        "send_servers_cpu_us": servers / left * 1e6,
        "start_ms": (arrived - started) * 1e3,
    }


def latency(service: Service, sink: Sink, bar: Bar) -> Figures:
    """POST one message at a time to an idle service and wait until the sink has it."""
    line, (before, after) = load.Connection(service.port), payload.post(service.port)
    taken, dice = [], random.Random(20261120)
    for number in range(LATENCY_WARM + LATENCY_MESSAGES):
        time.sleep(dice.uniform(0.02, 0.08))  # not in step with anything that polls
        base, began = sink.count(), time.perf_counter()
        line.ask(b"%b%08d%b" % (before, number, after))
        while line.hear() is None:
            pass
        taken.append(_await(sink, base + 1, service, GLANCE_SECONDS) - began)
        if number >= LATENCY_WARM:
            bar.update(1)
    line.socket.close()
    counted = taken[LATENCY_WARM:]
    return {"latency_p50_ms": percentile(counted, 50) * 1e3, "latency_p99_ms": percentile(counted, 99) * 1e3}


def checked(messages: int, base: int, service: Service, sink: Sink) -> None:
    """Raise :class:`BenchError` unless all of a service's messages went to the sink, once, and it knows."""
    wanted = messages + ACCEPT_WARM + LATENCY_WARM + LATENCY_MESSAGES
    _exactly(sink, base + wanted)
    until = time.monotonic() + 5
    while (known := service.count("DELIVERED")) != wanted:
        if time.monotonic() > until:
            raise BenchError(f"{wanted} messages went out, and the service says that {known} did\n{service.log('worker')}")
        time.sleep(0.05)


def _await(sink: Sink, wanted: int, service: Service, look: float, told: Callable[[int], None] = lambda _: None) -> float:
    """Wait until the sink has so many and return when that was."""
    had, since = sink.count(), time.perf_counter()
    while (count := sink.count()) < wanted:
        time.sleep(look)
        if count > had:
            had, since = count, time.perf_counter()
            told(count)
        elif time.perf_counter() - since > 1.0:
            service.pid("worker")
            if time.perf_counter() - since > SILENCE:
                raise BenchError(f"{wanted - count} messages are missing and nothing has come for {SILENCE:.0f} s\n{service.log('worker')}")
    now = time.perf_counter()
    told(count)
    return now


def _exactly(sink: Sink, wanted: int) -> None:
    if (count := sink.count()) != wanted:
        raise BenchError(f"the sink has {count} messages, not {wanted}")


def _progress(bar: Bar, most: int) -> Callable[[int], None]:
    """Return what moves the bar to so many of this phase, never back and never past its share."""
    done = 0

    def to(count: int) -> None:
        nonlocal done
        step = max(done, min(count, most)) - done
        done += step
        bar.update(step)

    return to
