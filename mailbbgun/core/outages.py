"""Logs outages of servers: at once, then at most once a minute, and when a server is back."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from mailbbgun.core.errors import Unavailable, explained

#: Seconds between two lines about the same outage.
REMIND_SECONDS = 60.0

#: How many outages of one kind are logged within REMIND_SECONDS. A server may come and go each
#: second.
MOST_OUTAGES = 3

#: What goes on during an outage, by the kind of server, for the log line.

MEANWHILE = {
    "queue": "accepted mail waits in the database; the queue is asked again every few seconds",
    "database": "no mail is accepted and none is begun to be sent; the database is asked again every few seconds",
    "blob_store": "no files are taken, and mail with files waits; the store is asked again every few seconds",
    "mail_server": "mail waits; the server is asked again when its pause is over",
}

log = logging.getLogger("mailbbgun.outages")


@dataclass(slots=True)
class _Outage:
    """The state of one kind of server. Moments are seconds of the clock of :class:`Outages`."""

    failing: set[str] = field(default_factory=set)  # tasks whose last try failed
    began: float = 0.0
    told_at: float | None = None  # when the present outage was last logged; None: never
    #: When each of the last outages was first logged.
    told: deque[float] = field(default_factory=lambda: deque(maxlen=MOST_OUTAGES))
    address: object = None


class Outages:
    """Logs each outage once, however many tasks of the process meet it. Thread-safe.

    ``clock`` returns seconds that never go back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._outages: dict[str, _Outage] = {}

    def failed(self, task: str, error: Unavailable) -> None:
        """Note that a task failed because a server does not answer.

        Logs ``<kind>_unavailable``, unless that was logged within the last minute.
        """
        now = self._clock()
        with self._lock:
            outage = self._outages.setdefault(error.kind, _Outage())
            if not outage.failing:
                outage.began = now
            outage.failing.add(task)
            if not self._is_to_be_told(outage, now):
                return
            if outage.told_at is None:
                outage.told.append(now)
            outage.told_at = now
            outage.address = error.told.get("address")
        log.warning(
            f"{error.kind}_unavailable", extra={"error": explained(error), "meanwhile": MEANWHILE.get(error.kind)}
        )

    def worked(self, kind: str, *tasks: str) -> None:
        """Note that these tasks reached a server of that kind.

        Logs ``<kind>_back`` if the outage was logged and no task fails any more.
        """
        if not (outage := self._outages.get(kind)) or not outage.failing:
            return
        with self._lock:
            outage.failing.difference_update(tasks)
            if outage.failing:
                return
            was_told, outage.told_at = outage.told_at is not None, None
        if was_told:
            log.warning(
                f"{kind}_back", extra={"address": outage.address, "away_seconds": round(self._clock() - outage.began)}
            )

    @staticmethod
    def _is_to_be_told(outage: _Outage, now: float) -> bool:
        if outage.told_at is not None:
            return now >= outage.told_at + REMIND_SECONDS
        return len(outage.told) < MOST_OUTAGES or now >= outage.told[0] + REMIND_SECONDS
