"""Leaves alone for a while what has failed by an error that nobody foresaw, so that it stops nothing else."""

import logging
import time
from collections.abc import Callable
from uuid import UUID

from mailbbgun.core.errors import DatabaseUnavailable

#: Seconds for which it is left alone.
FAILED_SECONDS = 60.0

#: The endpoint, or a retry of it, and what failed there.
Key = tuple[UUID, str]

log = logging.getLogger("mailbbgun.webhooks")


class LeftAlone:
    """What is left alone now."""

    def __init__(self) -> None:
        self._until: dict[Key, float] = {}  # monotonic seconds

    def holds(self, key: Key) -> bool:
        """Return whether this is left alone."""
        if not self._until or self._until.get(key, 0.0) <= time.monotonic():
            self._until.pop(key, None)
            return False
        return True

    def do(self, key: Key, what: Callable[[], None]) -> bool:
        """Do it unless it is left alone; return whether it went well. Raises :class:`DatabaseUnavailable`."""
        if self.holds(key):
            return False
        try:
            what()
        except DatabaseUnavailable:
            raise
        except Exception:
            self._until[key] = time.monotonic() + FAILED_SECONDS
            log.exception("webhook_failed", extra={"id": key[0], "of": key[1], "retry_in": FAILED_SECONDS})
            return False
        return True
