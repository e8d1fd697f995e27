"""The counts of one process."""

import threading
from bisect import bisect_left
from collections.abc import Callable, Mapping
from time import monotonic
from typing import Any

from mailbbgun.counters.families import BUCKETS, PHASES, Family

Labels = tuple[str, ...]

#: Reads a gauge now: its value by its labels.
Gauge = Callable[[], Mapping[Labels, float]]

#: The labels of an account beyond the limit, and of mail without an account.
OTHER = "other"


class Counters:
    """Everything that this process counts. Thread-safe, but for :meth:`observe`.

    ``accounts``: SMTP accounts that have labels of their own, at most; the rest is ``other``.
    """

    def __init__(self, accounts: int = 100) -> None:
        self._most_accounts = accounts
        self._lock = threading.Lock()
        self._counts: dict[str, dict[Labels, int]] = {}
        self.phases: dict[str, list[float]] = {}  # phase → its buckets, and the sum of seconds
        self._gauges: dict[str, Gauge] = {}
        self._accounts: dict[str, str] = {}  # id → name

    def add(self, family: Family, *labels: str, n: int = 1) -> None:
        """Count ``n`` more of a family, with values for its labels."""
        with self._lock:
            counts = self._counts.get(family.name)
            if counts is None:
                counts = self._counts[family.name] = {}
            counts[labels] = counts.get(labels, 0) + n

    def account(self, identifier: str, name: str) -> tuple[str, str]:
        """Return the labels ``account`` and ``account_id`` of an SMTP account; ``other`` beyond the limit."""
        known = self._accounts.get(identifier)
        if known is None:
            if len(self._accounts) >= self._most_accounts:
                return OTHER, OTHER
            known = self._accounts[identifier] = name  # a new name of an account is shown from the next start on
        return known, identifier

    def gauge(self, family: Family, read: Gauge) -> None:
        """Let a gauge be read by this function, from the thread that keeps the counts."""
        self._gauges[family.name] = read

    def observe(self, phase: str, seconds: float) -> None:
        """Put the duration of an SMTP phase into its histogram. Only the thread that delivers may call this."""
        buckets = self.phases.get(phase)
        if buckets is None:
            buckets = self.phases[phase] = [0.0] * (len(BUCKETS) + 2)
        buckets[bisect_left(BUCKETS, seconds)] += 1
        buckets[-1] += seconds

    def told(self) -> dict[str, Any]:
        """Return all counts as JSON: families, each with its rows of labels and value.

        The value of a histogram is a list: how many in each bucket and beyond the last, and the sum.
        """
        with self._lock:
            counts = {name: list(rows.items()) for name, rows in self._counts.items()}
        phases = [[[phase], list(buckets)] for phase, buckets in list(self.phases.items())]
        return {
            "counts": {name: [[list(labels), n] for labels, n in rows] for name, rows in counts.items()},
            "histograms": {PHASES.name: phases} if phases else {},
            "gauges": {
                name: [[list(labels), value] for labels, value in read().items()]
                for name, read in list(self._gauges.items())
            },
        }


class PhaseTimer:
    """Times the replies of one SMTP connection: a ``Trace`` of ``smtp/wire.py``."""

    __slots__ = ("_counters", "_phases", "_since")

    def __init__(self, counters: Counters) -> None:
        self._counters, self._phases = counters, counters.phases
        self._since = monotonic()

    def begin(self) -> None:
        """Note that a transaction begins now: the time before it was no wait for a reply."""
        self._since = monotonic()

    def __call__(self, phase: str, reply: object, wire: object) -> None:
        """Note a step of the dialogue."""
        now = monotonic()
        if (buckets := self._phases.get(phase)) is None:
            self._counters.observe(phase, now - self._since)
        else:  # observe() once more: its call would double what this costs
            seconds = now - self._since
            buckets[bisect_left(BUCKETS, seconds)] += 1
            buckets[-1] += seconds
        self._since = now
