"""Reads the figures of ``GET /stats``: from what processes count, and from numbers that triggers keep."""

import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from mailbbgun.counters.counters import Labels
from mailbbgun.counters.families import ACCEPTED, LAST_REQUEST, RECEIVED, REQUESTS, RESULTS
from mailbbgun.counters.files import read
from mailbbgun.counters.keeping import API, SMTPD, WORKER
from mailbbgun.counters.requests import FAILED, SUCCESSFUL
from mailbbgun.messages.status import DELIVERED
from mailbbgun.runtime import repo
from mailbbgun.services import Services
from mailbbgun.settings import running

#: Seconds for which figures are shown again without a new look. So however many ask, looks cost the same.
FRESH_SECONDS = 1.0


class ServiceFigures:
    """The figures as one API process last saw them. Thread-safe."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._looking = threading.Lock()
        self._found: Mapping[str, Any] = {}
        self._looked = float("-inf")  # monotonic seconds

    def found(self) -> Mapping[str, Any]:
        """Return what ``schemas.ServiceStats`` shows.

        Raises :class:`DatabaseUnavailable`, and OSError if the folder of the counts cannot be read.
        """
        with self._looking:
            if time.monotonic() - self._looked >= FRESH_SECONDS:
                self._found, self._looked = self._look(), time.monotonic()
            return self._found

    def _look(self) -> Mapping[str, Any]:
        with self._services.db.read() as session:
            pending = repo.pending_messages(session)
        totals = read(self._services.settings.counters_folder, (API, SMTPD, WORKER))
        rows = totals.counts
        requests = rows.get(REQUESTS.name, {})
        last = max(totals.gauges.get(LAST_REQUEST.name, {}).values(), default=None)
        now = time.time()
        return {
            "accepted": sum(rows.get(ACCEPTED.name, {}).values()),
            "received": sum(rows.get(RECEIVED.name, {}).values()),
            "sent": _delivered(rows.get(RESULTS.name, {})),
            "in_queue": pending,
            "started_at": datetime.fromtimestamp(running.BEGAN, UTC),
            "uptime_seconds": max(0, int(now - running.BEGAN)),
            "requests": {
                "total": sum(requests.values()),
                SUCCESSFUL: requests.get((SUCCESSFUL,), 0),
                FAILED: requests.get((FAILED,), 0),
                "last_at": last and datetime.fromtimestamp(last, UTC),
            },
        }


def _delivered(results: Mapping[Labels, int]) -> int:
    """Return how many deliveries ended well, of the counts by kind of event and status."""
    return sum(n for (_, status), n in results.items() if status == DELIVERED)
