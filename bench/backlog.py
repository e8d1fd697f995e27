"""Measures what a backlog costs: ``bin/bench --backlog N``.

The same operations run in turns beside 1,000 and beside N pending messages. Then a worker drains a
part of the large backlog while its memory is watched. The two installations share one PostgreSQL
and one RabbitMQ, so that their repetitions can alternate.
"""

import http.client
import json
import random
import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self
from uuid import UUID, uuid4

from sqlalchemy import text
from sqlalchemy.orm import Session

from bench import BenchError
from bench.fill import fill
from bench.phases import Bar
from bench.processes import cpu, machine
from bench.processes.servers import Servers
from bench.processes.service import Service
from bench.processes.sink import Kind, Sink
from mailbbgun.database.compiled import InSession
from mailbbgun.database.idempotency import forget_expired
from mailbbgun.deliver.claim import claim, next_isolated
from mailbbgun.events.changes import record
from mailbbgun.events.changes.record import Result
from mailbbgun.events.kinds import Kind as EventKind
from mailbbgun.messages.status import DELIVERED
from mailbbgun.queues.lanes import LANES
from mailbbgun.sweep.hints import Stranded, hint_again, lost, overdue, unhinted
from mailbbgun.sweep.replay import Expired
from mailbbgun.worker.intake import CLAIM_BATCH

FEW = 1000  # messages in the smaller backlog
MOST = 1.3  # ratio of costs up to which the table does not complain
REPETITIONS, WARM = 60, 5
ALL, PART = 100_000, 20_000  # messages: the worker drains up to ALL completely, and PART of any larger backlog
FLAT = 0.10  # growth of the worker's memory that still counts as flat, as a fraction
SETTLED = 0.1  # fraction delivered before memory is sampled: by then the worker has filled its pools
PUBLISH = 500  # hints per call
SILENCE = 60.0  # seconds without a message in the sink until the run gives up

Measure = Callable[["Place"], float]


class Place:
    """One installation with a backlog: its API runs, but no worker.

    The measuring methods return seconds and leave all rows as they were.
    """

    def __init__(self, service: Service, messages: int, dice: random.Random) -> None:
        self.service, self.messages, self._dice = service, messages, dice
        self.services = service.services()
        self._expired = Expired(self.services.db, self.services.settings)
        self._line = http.client.HTTPConnection("127.0.0.1", service.port, timeout=60)
        self._ids: list[UUID] = []  # oldest first, the order in which hints arrive

    def fill(self, on_progress: Callable[[int], object]) -> None:
        """Create the backlog."""
        fill(self.services.db, self.messages, on_progress)
        with self.services.db.read() as session:
            self._ids = list(session.execute(text("SELECT id FROM messages ORDER BY id")).scalars())

    def tidy(self) -> None:
        """Vacuum away dead rows. In the small backlog every repetition would meet all of them."""
        with self.services.db.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("VACUUM deliveries, messages, events")

    def claim(self, what: str) -> float:
        """Claim 200 messages with their MIME, and record them as delivered; then roll back.

        ``what`` names the step whose seconds are returned: ``claim`` or ``results``.
        """
        first, owner = self._dice.randrange(self.messages - CLAIM_BATCH + 1), uuid4()
        wanted, took = self._ids[first : first + CLAIM_BATCH], {}
        with Session(self.services.db.engine) as session:
            session.connection()
            began = time.perf_counter()
            claims, messages = claim(InSession(session), owner, wanted, 60, 0.0)
            took["claim"] = time.perf_counter() - began
            began = time.perf_counter()
            whose = [(one.delivery_id, one.message_id, one.tenant_id, one.claim_number) for one in claims]
            ended = [Result(*one, EventKind.DELIVERED, DELIVERED, code=250, reply="ok") for one in whose]
            standing = record.write_results(session, owner, ended)
            took["results"] = time.perf_counter() - began
            session.rollback()
        if len(messages) != CLAIM_BATCH or not len(standing) == len(claims) >= CLAIM_BATCH:
            raise BenchError(f"of {CLAIM_BATCH} messages {len(claims)} deliveries were claimed, {len(standing)} ended")
        return took[what]

    def get(self, path: str) -> float:
        """Time a GET from the API over a kept connection."""
        began = time.perf_counter()
        self._line.request("GET", path)
        answer = self._line.getresponse()
        body = answer.read()
        took = time.perf_counter() - began
        if answer.status != 200 or json.loads(body).get("count", self.messages) != self.messages:
            raise BenchError(f"GET {path}: {answer.status} {body[:300]!r}")
        return took

    def inside(self) -> UUID:
        """Return the id of a message in the middle of the backlog."""
        return self._ids[self.messages // 2 + self._dice.randrange(100)]

    def nothing(self, find: Callable[[], int]) -> float:
        """Time a search that must find nothing."""
        began = time.perf_counter()
        found = find()
        took = time.perf_counter() - began
        if found:
            raise BenchError(f"{found} were found where nothing should be")
        return took

    def hint(self, stranded: list[Stranded]) -> int:
        """Publish the hints of stranded deliveries again and return their number."""
        return hint_again(self.services.db, self.services.queue, stranded)

    def expired(self) -> int:
        """Settle claims whose lease has ended and return their number."""
        return self._expired.settle()

    def alone(self) -> int:
        """Return 1 if a message waits for isolated delivery, else 0."""
        with self.services.db.read() as session:
            return int(next_isolated(session) is not None)

    def forget(self) -> int:
        """Delete expired idempotency keys and return their number."""
        with self.services.db.write() as session:
            return forget_expired(session, self.services.settings.IDEMPOTENCY_SECONDS)

    def publish(self, count: int) -> None:
        """Publish hints of the ``count`` oldest messages."""
        statement = text("SELECT DISTINCT message_id, lane FROM deliveries WHERE message_id <= :last")
        with self.services.db.read() as session:
            found = session.execute(statement, {"last": self._ids[count - 1]}).all()
        for lane in LANES:
            wanted = sorted(message_id for message_id, its in found if its == lane)
            for low in range(0, len(wanted), PUBLISH):
                self.services.queue.publish(lane, wanted[low : low + PUBLISH])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._line.close()
        self.services.close()


MEASURES: dict[str, Measure] = {
    f"claim of {CLAIM_BATCH}": lambda place: place.claim("claim"),
    f"results of {CLAIM_BATCH}": lambda place: place.claim("results"),
    "GET /messages": lambda place: place.get("/messages"),
    "GET /messages?after=": lambda place: place.get(f"/messages?after={place.inside()}"),
    "GET /messages?limit=0&status=PENDING": lambda place: place.get("/messages?limit=0&status=PENDING"),
    "GET /messages/<id>": lambda place: place.get(f"/messages/{place.inside()}"),
    "sweep: never hinted": lambda place: place.nothing(lambda: place.hint(unhinted())),
    "sweep: overdue": lambda place: place.nothing(lambda: place.hint(overdue())),
    "sweep: hint lost": lambda place: place.nothing(lambda: place.hint(lost(place.services.db, place.services.queue))),
    "sweep: lease expired": lambda place: place.nothing(place.expired),
    "to be sent alone": lambda place: place.nothing(place.alone),
    "keys to forget": lambda place: place.nothing(place.forget),
}


@dataclass(frozen=True, slots=True)
class Cost:
    """Median cost beside the small and the large backlog, in milliseconds."""

    few_ms: float
    many_ms: float

    @property
    def ratio(self) -> float:
        """Cost beside the large backlog divided by that beside the small one."""
        return self.many_ms / self.few_ms


@dataclass(frozen=True, slots=True)
class Memory:
    """Memory of a worker's processes in megabytes: after a tenth of the drain, at its end, and at
    most.
    """

    drained: int
    start_mb: float
    end_mb: float
    most_mb: float

    @property
    def growth(self) -> float:
        """Growth from start to end, as a fraction of the start."""
        return self.end_mb / self.start_mb - 1


@dataclass(frozen=True, slots=True)
class Results:
    """All results of a run."""

    time: datetime
    machine: dict[str, object]
    messages: int
    repetitions: int
    costs: dict[str, Cost]
    memory: Memory


def run(messages: int, kind: Kind, settings: dict[str, str], bar: Bar, repetitions: int) -> Results:
    """Start the servers, fill both backlogs, measure, drain, and stop everything.

    Raises :class:`BenchError` or :class:`tests.servers.install.Missing`.
    """
    dice, drained = random.Random(20261120), messages if messages <= ALL else PART
    bar.reset(total=FEW + messages + drained)
    with ExitStack() as stack:
        bar.set_description("servers")
        servers, sink = stack.enter_context(Servers()), stack.enter_context(Sink(kind))
        began, facts = datetime.now(UTC), machine.facts(sink.name, servers.versions())
        places = []
        for count in (FEW, messages):
            lent = stack.enter_context(servers.lend())
            own = sink.settings() | {"DATABASE_URL": lent.database_url, "QUEUE_URL": lent.amqp_url}
            service = stack.enter_context(Service("backlog", own | settings, servers.pids()))
            places.append(stack.enter_context(Place(service, count, dice)))
            bar.set_description(f"fill {count}")
            places[-1].fill(bar.update)
            service.open()
        few, many = places
        costs = _costs(few, many, repetitions, bar)
        for place in places:
            place.service.shut()
        bar.set_description(f"drain {drained}")
        return Results(began, facts, messages, repetitions, costs, _drain(many, sink, drained, bar))


def _costs(few: Place, many: Place, repetitions: int, bar: Bar) -> dict[str, Cost]:
    taken: dict[str, dict[Place, list[float]]] = {name: {few: [], many: []} for name in MEASURES}
    for number in range(WARM + repetitions):
        bar.set_description(f"measure {number + 1}/{WARM + repetitions}")
        for name, measure in MEASURES.items():
            for place in (few, many) if number % 2 else (many, few):
                took = measure(place)
                if number >= WARM:
                    taken[name][place].append(took)
        few.tidy()
    median = {
        name: {place: statistics.median(seconds) * 1e3 for place, seconds in both.items()}
        for name, both in taken.items()
    }
    return {name: Cost(both[few], both[many]) for name, both in median.items()}


def _drain(place: Place, sink: Sink, wanted: int, bar: Bar) -> Memory:
    """Deliver ``wanted`` messages and sample the worker's memory meanwhile."""
    place.publish(wanted)
    service, base, samples = place.service, sink.count(), []
    service.deliver()
    had, since = 0, time.perf_counter()
    while (count := sink.count() - base) < wanted:
        time.sleep(0.1)
        if count > had:
            bar.update(count - had)
            had, since = count, time.perf_counter()
        elif time.perf_counter() - since > SILENCE:
            raise BenchError(
                f"{wanted - count} messages are missing and nothing has come for {SILENCE:.0f} s\n{service.log()}"
            )
        if count >= wanted * SETTLED:
            samples.append(_memory_mb(service))
    end = _memory_mb(service)
    bar.update(wanted - had)
    service.stop("worker")
    with place.services.db.read() as session:
        left = session.execute(text("SELECT count(*) FROM messages WHERE status = 'PENDING'")).scalar_one()
    if (count, left) != (wanted, place.messages - wanted):
        raise BenchError(
            f"{count} of {wanted} arrived, and {left} of {place.messages} are said to be pending\n{service.log()}"
        )
    return Memory(wanted, samples[0] if samples else end, end, max([*samples, end]))


def _memory_mb(service: Service) -> float:
    return sum(map(cpu.memory_of, service.own())) / 2**20


def table(results: Results) -> str:
    """Return the figures as text."""
    many, memory = f"{results.messages:,}", results.memory
    head = f"{many} messages pending · median of {results.repetitions}, in turns · milliseconds"
    rows = [["", f"at {FEW:,}", f"at {many}", "ratio", ""]]
    for name, cost in results.costs.items():
        rows.append(
            [
                name,
                f"{cost.few_ms:.2f}",
                f"{cost.many_ms:.2f}",
                f"{cost.ratio:.2f}",
                "" if cost.ratio <= MOST else f"more than {MOST}",
            ]
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        f"{row[0]:<{widths[0]}}   {'   '.join(map(str.rjust, row[1:4], widths[1:4]))}   {row[4]}".rstrip()
        for row in rows
    ]
    sizes = f"{memory.start_mb:.0f} MB after a tenth, {memory.end_mb:.0f} at the end, {memory.most_mb:.0f} at most"
    verdict = "flat" if abs(memory.growth) <= FLAT else f"more than {FLAT:.0%}"
    worker = f"worker, draining {memory.drained:,}: {sizes} ({memory.growth:+.0%}: {verdict})"
    return "\n".join([head, machine.line(results.machine), "", *lines, "", worker])


def save(results: Results, folder: Path) -> list[Path]:
    """Write text and JSON to ``<folder>/<time>-backlog.*`` and return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    content = asdict(results) | {"time": results.time.isoformat(timespec="seconds")}
    content["costs"] = {name: asdict(cost) | {"ratio": cost.ratio} for name, cost in results.costs.items()}
    paths = []
    for kind, written in {"txt": table(results) + "\n", "json": json.dumps(content, indent=2) + "\n"}.items():
        paths.append(folder / f"{results.time:%Y-%m-%dT%H-%M-%S}-backlog.{kind}")
        paths[-1].write_text(written)
    return paths
