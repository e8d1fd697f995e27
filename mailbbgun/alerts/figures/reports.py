"""What processes tell of themselves: how full their machine's disk is, and how many logins failed.

Each report is a row for a minute, so a flood of bad requests costs the database one small statement every few
seconds.
"""

import logging
import shutil
import socket
import threading
import time
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path

from sqlalchemy import delete, func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from mailbbgun.alerts.models import REPORTS
from mailbbgun.core.errors import DatabaseUnavailable
from mailbbgun.database.db import Database, dialect_of

DISK, LOGINS = "disk_use", "failed_logins"
#: Seconds after which a machine that reports no more is left out.
FRESH = 180
#: Seconds between two writes of failed logins of a process.
WRITE_SECONDS = 2.0
#: How long reports are kept.
KEPT = timedelta(days=1, hours=1)

_R = REPORTS.c

log = logging.getLogger("mailbbgun.alerts")


class FailedLogins:
    """Counts the requests of one API process that showed no valid key. Thread-safe."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._counts: dict[int, int] = {}  # minute → requests not yet written
        self._timer: threading.Timer | None = None

    def count(self) -> None:
        """Count one. It never waits for the database."""
        now = int(time.time())
        with self._lock:
            minute = now - now % 60
            self._counts[minute] = self._counts.get(minute, 0) + 1
            if self._timer is None:
                self._timer = threading.Timer(WRITE_SECONDS, self.write)
                self._timer.daemon = True
                self._timer.start()

    def write(self) -> None:
        """Write the counts down. If the database is away, they are written with the next ones."""
        with self._lock:
            self._timer, counts, self._counts = None, self._counts, {}
        try:
            if counts:
                with self._database.write() as session:
                    add(session, LOGINS, "", counts)
        except DatabaseUnavailable as error:
            log.warning("failed_logins_not_noted", extra={"error": str(error)})
            with self._lock:
                oldest = int(time.time()) - KEPT.total_seconds()
                for minute, n in counts.items():
                    if minute > oldest:
                        self._counts[minute] = self._counts.get(minute, 0) + n


def add(session: Session, name: str, subject: str, counts: Mapping[int, float]) -> None:
    """Add numbers to the reports of these minutes."""
    _put(session, name, subject, counts, added=True)


def report_disk(session: Session, folder: Path, now: datetime) -> None:
    """Report how full the disk of a folder is, in percent."""
    disk = shutil.disk_usage(folder)
    used = 100.0 * disk.used / max(disk.used + disk.free, 1)  # as df: what root has reserved is not counted
    moment = int(now.timestamp())
    _put(session, DISK, socket.gethostname()[:255], {moment - moment % 60: round(used, 2)}, added=False)


def disks(session: Session, now: datetime) -> Mapping[str, float]:
    """Return how full the disk of each machine is that has reported lately, in percent."""
    its = select(_R.subject, _R.value).where(_R.name == DISK, _R.begin > int(now.timestamp()) - FRESH)
    return {row.subject: row.value for row in session.execute(its.order_by(_R.begin))}


def failed_logins(session: Session, since: datetime) -> int:
    """Return how many requests came without a valid key since a moment, to the minute."""
    its = (_R.name == LOGINS, _R.begin > int(since.timestamp()) - 60)
    return int(session.scalar(select(func.sum(_R.value)).where(*its)) or 0)


def forget_old(session: Session, now: datetime) -> None:
    """Delete old reports."""
    session.execute(delete(REPORTS).where(_R.begin < int((now - KEPT).timestamp())))


def _put(session: Session, name: str, subject: str, values: Mapping[int, float], *, added: bool) -> None:
    dialect = postgresql if dialect_of(session) == "postgresql" else sqlite
    statement = dialect.insert(REPORTS)
    value = _R.value + statement.excluded.value if added else statement.excluded.value
    statement = statement.on_conflict_do_update(index_elements=["name", "subject", "begin"], set_={"value": value})
    rows = [{"name": name, "subject": subject, "begin": begin, "value": float(n)} for begin, n in values.items()]
    session.execute(statement, rows)
