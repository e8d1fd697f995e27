"""Runs a service undisturbed under mixed load, and watches what grows."""

import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import requests

from mailbbgun.services import build
from mailbbgun.settings.load import load
from mailbbgun.settings.settings import Settings
from tests.chaos.check import Figures, check
from tests.chaos.gauges import Gauges, bounds
from tests.chaos.load import Load
from tests.chaos.trend import Sample, Trend, trends
from tests.flow.service import Service, until
from tests.waiting import PATIENCE

EVERY = 10.0  # seconds between samples
RATE = 45.0  # accepts and reads per second, of all clients together
CLIENTS = 6
READS = 1 / 3  # fraction of requests that read
LATEST = 1000  # messages that are read again
END_SECONDS = 120.0  # from the last message accepted to the end of every delivery
SETTINGS = {"LEASE_SECONDS": 8, "SWEEP_SECONDS": 1, "RETRY_DELAYS": "1,2,2"}  # periodic work is done often

SIZES = [10] * 20 + [1000] * 60 + [20_000] * 19 + [300_000]  # characters
RECIPIENTS = [1] * 9 + [10]
KINDS = ["u-"] * 30 + ["later-1-"] * 2 + ["never-"]  # most take their mail at once, some a second later, some never


@dataclass(frozen=True, slots=True)
class Soaked:
    """All results of a run."""

    minutes: float
    times: list[float]
    samples: list[Sample]
    trends: dict[str, Trend]
    figures: Figures
    messages: int
    reads: int

    @property
    def well(self) -> bool:
        """Whether every gauge stayed within its bound. Lost mail has raised an error before."""
        return all(one.well for one in self.trends.values())


class Clients:
    """Clients that accept and read until the block ends, each at its own pace.

    ``load`` has what was accepted.
    """

    def __init__(self, service: Service, seed: int, rate: float = RATE) -> None:
        self.load, self.messages, self.reads = Load(service), 0, 0
        self._url, self._seed, self._rate = service.url, seed, rate
        self._over = threading.Event()
        self._working: list[Future[None]] = []
        self._latest: deque[str] = deque(maxlen=LATEST)
        self._local = threading.local()

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Let them work while the block runs."""
        with ThreadPoolExecutor(CLIENTS) as pool:
            self._working = [pool.submit(self._work, number) for number in range(CLIENTS)]
            try:
                yield
            finally:
                self._over.set()
        self.raise_failures()

    def raise_failures(self) -> None:
        """Raise the error that ended a client, if any did."""
        for one in self._working:
            if one.done():
                one.result()

    def _work(self, number: int) -> None:
        dice, count = random.Random(f"{self._seed} {number}"), 0
        while not self._over.wait(dice.expovariate(self._rate / CLIENTS)):
            if self._latest and dice.random() < READS:
                self._read(dice)
                continue
            count += 1
            to = [
                f"{dice.choice(KINDS)}{number}n{count}x{other}@example.test" for other in range(dice.choice(RECIPIENTS))
            ]
            tags = dice.sample(["invoice", "welcome", "news"], dice.randrange(3))
            self._latest.append(
                self.load.send(*to, text="x" * dice.choice(SIZES), priority=dice.randrange(10), tags=tags)
            )

    def _read(self, dice: random.Random) -> None:
        if not hasattr(self._local, "http"):
            self._local.http = requests.Session()
        one = dice.choice(self._latest)
        lists = ["", "?status=PENDING", "?tag=invoice&limit=100", f"?after={one}&limit=50", "?limit=0&status=DELIVERED"]
        path = dice.choice([*lists, f"/{one}", f"/{one}/events", f"/{one}/raw"])
        answer = self._local.http.get(f"{self._url}/messages{path}", timeout=PATIENCE)
        assert answer.status_code == 200, f"{path}: {answer.status_code} {answer.text[:300]}"
        self.reads += 1  # a few that are missed do not matter


def soak(
    settings: Settings,
    minutes: float,
    every: float = EVERY,
    seed: int = 0,
    on_sample: Callable[[str], object] = lambda _: None,
    rate: float = RATE,
) -> Soaked:
    """Run a service for ``minutes``, under ``rate`` accepts and reads per second.

    ``on_sample`` is called at each sample. Raises :class:`tests.chaos.check.Wrong` when mail is lost,
    came twice or has a false status; AssertionError when a request failed, a process was replaced,
    or a journal was left behind.
    """
    processes = 2 if settings.DATABASE_URL.startswith("postgresql") else 1
    with Service(settings, **(SETTINGS | {"API_PROCESSES": processes, "WORKER_PROCESSES": processes})) as service:
        service.start_worker()
        log = service.var / "worker.out"
        until(lambda: log.read_text().count("worker_started") == processes, END_SECONDS, "the start of the workers")
        services = build(load(service.environment))
        gauges, clients = Gauges(service, services), Clients(service, seed, rate)
        try:
            with clients.at_work():
                times, samples = _sampled(gauges, clients, minutes * 60, every, on_sample)
            until(
                lambda: service.sql("SELECT count(*) FROM messages WHERE status = 'PENDING'") == [(0,)],
                END_SECONDS,
                "the end of every delivery",
            )
            figures = check(service, clients.load.accepted)
        finally:
            services.close()
        failed = clients.load.unavailable, clients.load.failures
        assert failed == (0, 0), f"{failed[0]} answers of 503, {failed[1]} broken connections"
        assert (figures.unknown, figures.copies) == (0, 0), f"nothing was killed, and yet: {figures}"
        assert service.stop("worker") == 0
        left = list(services.settings.journal_folder.glob("*"))
        assert not left, f"journals left behind: {left}"
    found = trends(times, samples, bounds(minutes, processes))
    return Soaked(minutes, times, samples, found, figures, len(set(clients.load.accepted.values())), clients.reads)


def _sampled(
    gauges: Gauges, clients: Clients, seconds: float, every: float, on_sample: Callable[[str], object]
) -> tuple[list[float], list[Sample]]:
    began = time.monotonic()
    times: list[float] = []
    samples: list[Sample] = []
    while (left := seconds - (time.monotonic() - began)) > 0:
        time.sleep(min(every, left))
        clients.raise_failures()
        accepted = len(set(clients.load.accepted.values()))
        times.append(time.monotonic() - began)
        samples.append(gauges.read(max(1, accepted)))
        on_sample(
            f"{accepted} accepted, "
            + ", ".join(f"{name} {samples[-1][name]:.0f}" for name in ("api: MB", "worker: MB", "queue: hints"))
        )
    return times, samples
