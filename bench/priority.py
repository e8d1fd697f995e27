"""How long mail of high priority takes beside bulk mail, against how long it takes at idle.

``python -m bench.priority``. A message of high priority is posted every now and then, and the time until the sink has
taken it is measured: first while nothing else is to be done, then while a worker drains bulk mail from batches. Both
are done in turn, several times. On SQLite and the embedded queue, or with ``--postgresql`` on PostgreSQL and RabbitMQ.
"""

import argparse
import json
import random
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench.processes import cpu
from bench.processes.servers import Servers
from bench.processes.service import Service
from bench.processes.sink import Sink
from bench.programs.load import Connection
from bench.programs.payload import DOMAIN, SENDER, SUBJECT, TEXT
from bench.stats import percentile

HIGH, BULK = 9, 0  # priorities
SECONDS = 60.0  # until a message that does not arrive is missing
WARM = 20  # messages before the first that is measured
BATCH = 1000
#: The time between two messages varies by this part of it, so that no other rhythm meets it.
JITTER = 0.3


class Bench:
    """One installation with its sink. Every address is used once."""

    def __init__(self, service: Service, sink: Sink, every: float) -> None:
        """``every``: seconds between two messages of high priority."""
        self._service, self._sink, self._every = service, sink, every
        self._dice, self._numbers = random.Random(1), 0
        self._expected = 0  # messages that the sink will have taken

    def idle(self, count: int) -> list[float]:
        """Post so many messages one after the other; return the seconds that each took to arrive."""
        asked = self._posted()
        moments = dict(next(asked) for _ in range(count))
        self.wait()
        return self._took(moments)

    def fill(self, bulk: int) -> None:
        """Hand in bulk mail while no worker runs."""
        line = Connection(self._service.port, b"202")
        for first in range(0, bulk, BATCH):
            people = [{"to": self._address("bulk")} for _ in range(min(BATCH, bulk - first))]
            given = {"from": SENDER, "subject": SUBJECT, "text": TEXT, "priority": BULK, "recipients": people}
            _answered(line, "/messages/batch", given)
        line.socket.close()
        self._expected += bulk

    def beside(self, bulk: int) -> tuple[list[float], float]:
        """Post messages while a worker that was just started drains bulk mail; return what each took, and the rate.

        The first is posted when a twentieth of the bulk mail has left, and none when only a twentieth is there.
        """
        first, last = self._sink.count() + bulk // 20, self._sink.count() + bulk - bulk // 20
        self._until(first)
        began, before = time.monotonic(), self._sink.count()
        moments: dict[str, float] = {}
        for address, moment in self._posted():
            moments[address] = moment
            if self._sink.count() >= last:
                break
        rate = (self._sink.count() - before) / (time.monotonic() - began)
        self.wait()
        return self._took(moments), rate

    def wait(self) -> None:
        """Wait until the sink has taken everything."""
        self._until(self._expected)

    def _posted(self) -> Iterator[tuple[str, float]]:
        """Post a message every now and then; yield its address, and when it was posted in monotonic seconds."""
        line, due = Connection(self._service.port), time.monotonic()
        while True:
            due = max(due, time.monotonic() - self._every) + self._every * self._dice.uniform(1 - JITTER, 1 + JITTER)
            time.sleep(max(0.0, due - time.monotonic()))
            address, moment = self._address("high"), time.monotonic()
            given = {"to": address, "from": SENDER, "subject": SUBJECT, "text": TEXT, "priority": HIGH}
            _answered(line, "/messages", given)
            self._expected += 1
            yield address, moment

    def _took(self, moments: Mapping[str, float]) -> list[float]:
        arrived = self._sink.arrivals()
        return [arrived[address] - moment for address, moment in moments.items()]

    def _address(self, name: str) -> str:
        self._numbers += 1
        return f"{name}{self._numbers}@{DOMAIN}"

    def _until(self, count: int) -> None:
        end = time.monotonic() + SECONDS
        seen = 0
        while (now := self._sink.count()) < count:
            if now > seen:
                seen, end = now, time.monotonic() + SECONDS
            if time.monotonic() > end:
                raise SystemExit(f"the sink has taken {now} of {count} messages:\n{self._service.log()}")
            time.sleep(0.005)


def _answered(line: Connection, path: str, given: Mapping[str, object]) -> None:
    body = json.dumps(given).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    line.ask(head.encode() + b"\r\n\r\n" + body)
    while line.hear() is None:
        pass


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bulk", type=int, default=100_000, help="bulk messages beside which is measured, each time")
    parser.add_argument("--idle", type=int, default=200, help="messages of high priority at idle, each time")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--every", type=float, default=0.1, help="seconds between two of them")
    parser.add_argument("--postgresql", action="store_true", help="on PostgreSQL and RabbitMQ")
    given = parser.parse_args()
    with ExitStack() as stack:
        sink, settings, pids = stack.enter_context(Sink("asyncio", arrivals=True)), {}, dict[str, int]()
        if given.postgresql:
            servers = stack.enter_context(Servers())
            lent, pids = stack.enter_context(servers.lend()), servers.pids()
            settings = {"DATABASE_URL": lent.database_url, "QUEUE_URL": lent.amqp_url}
        service = stack.enter_context(Service("priority", sink.settings() | settings, pids))
        service.open()
        measure(Bench(service, sink, given.every), service, pids | {"sink": sink.pid}, given)
        service.shut()


def measure(bench: Bench, service: Service, pids: Mapping[str, int], given: argparse.Namespace) -> None:
    """Print what each round measured, and all of them together."""
    service.deliver()
    bench.idle(WARM)
    quiet, loaded = list[float](), list[float]()
    print(f"{'':14}{'messages':>9}{'p50 ms':>9}{'p99 ms':>9}{'most':>9}{'bulk/s':>9}  CPU in cores", flush=True)
    for _ in range(given.rounds):
        with metered(service, pids) as used:
            found = bench.idle(given.idle)
        quiet += found
        print(f"{'at idle':14}{row(found)}{'':9}  {shares(used)}", flush=True)
        service.stop("worker")
        bench.fill(given.bulk)
        service.deliver()
        with metered(service, pids) as used:
            found, rate = bench.beside(given.bulk)
        loaded += found
        print(f"{'beside bulk':14}{row(found)}{rate:9.0f}  {shares(used)}", flush=True)
    service.stop("worker")
    print(f"{'all at idle':14}{row(quiet)}\n{'all beside':14}{row(loaded)}")
    ratios = ", ".join(f"p{share} {percentile(loaded, share) / percentile(quiet, share):.2f}" for share in (50, 99))
    print(f"times as long beside bulk mail: {ratios}")


def row(seconds: list[float]) -> str:
    """Return the number of messages, and percentiles of how long they took."""
    shown = "".join(f"{percentile(seconds, share) * 1000:9.1f}" for share in (50, 99, 100))
    return f"{len(seconds):9}{shown}"


@contextmanager
def metered(service: Service, pids: Mapping[str, int]) -> Iterator[dict[str, float]]:
    """Yield a dictionary that has the cores which each part used once the block has ended."""
    groups = {name: [service.own()[place]] for place, name in enumerate(("api", "worker"))}
    groups |= {name: [pid] for name, pid in pids.items()}
    used: dict[str, float] = {}
    meter, began, busy = cpu.Meter(groups), time.monotonic(), _busy()
    yield used
    took = time.monotonic() - began
    used |= {name: seconds / took for name, seconds in meter.read().items()}
    used["others"] = (_busy() - busy) / took - sum(used.values())


def shares(used: Mapping[str, float]) -> str:
    """Return how many cores each part used."""
    return ", ".join(f"{name} {cores:.2f}" for name, cores in used.items())


def _busy() -> float:
    """Return the CPU seconds that the whole machine has used."""
    words = Path("/proc/stat").read_text().splitlines()[0].split()
    return sum(int(words[place]) for place in (1, 2, 3, 6, 7)) / cpu.TICKS


if __name__ == "__main__":
    main()
