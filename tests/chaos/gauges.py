"""Measures what a running service holds: in its processes, in its servers, and on disk."""

import os
from collections.abc import Mapping
from pathlib import Path

from sqlalchemy import text

from bench.processes import cpu
from mailbbgun.deliver.journal import ROTATE_SIZE
from mailbbgun.queues.bunches import BUNCH
from mailbbgun.services import Services
from tests.chaos.trend import Bound
from tests.flow.service import Service

TREES = ("api", "worker")
TABLES = ("messages", "deliveries", "events", "idempotency_keys")
LONG = 10.0  # minutes; in shorter runs autovacuum has hardly run
# Run length in minutes → megabytes that a process tree may grow by in the second half of a shorter
# run. For about a quarter of an hour, pools fill and heaps find their size. In longer runs it may
# grow by a megabyte an hour, or by one in all, which may be one step of the allocator.
MEMORY = {2.0: 60.0, 10.0: 12.0, 60.0: 6.0}
MB, KB = 2**20, 2**10

_LISTENING = "0A"
_PENDING = (
    "('ix_deliveries_unhinted', 'ix_deliveries_delayed', 'ix_deliveries_hinted', 'ix_deliveries_leased', "
    "'ix_deliveries_alone')"
)
_POSTGRESQL = f"""
    SELECT
        (SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()) AS connections,
        (
            SELECT sum(pg_relation_size(indexrelid)) FROM pg_stat_user_indexes WHERE indexrelname IN {_PENDING}
        ) AS pending,
        sum(pg_table_size(relid)) AS tables, sum(pg_indexes_size(relid)) AS indexes,
        sum(n_dead_tup) AS dead, sum(n_live_tup) AS live
    FROM pg_stat_user_tables
"""


class Gauges:
    """Reads all gauges. ``services`` belong to the running ``service``."""

    def __init__(self, service: Service, services: Services) -> None:
        self._service, self._services = service, services

    def read(self, accepted: int) -> dict[str, float]:
        """Return gauge → value, after ``accepted`` messages."""
        found: dict[str, float] = {}
        for name in TREES:
            found |= {f"{name}: {what}": value for what, value in of_tree(self._service.processes[name].pid).items()}
        found["queue: hints"] = sum(self._services.queue.depth().values())
        found["journal: MB"] = _size(self._services.settings.journal_folder, "*") / MB
        return found | (
            self._postgresql(accepted) if self._services.db.dialect == "postgresql" else self._sqlite(accepted)
        )

    def _postgresql(self, accepted: int) -> dict[str, float]:
        with self._services.db.read() as session:
            row = session.execute(text(_POSTGRESQL)).one()
        return {
            "postgresql: connections": row.connections,
            "tables: KB a message": float(row.tables) / KB / accepted,
            "indexes: KB a message": float(row.indexes) / KB / accepted,
            "indexes of what is pending: MB": float(row.pending) / MB,
            "dead rows": float(row.dead),
            "dead rows for each that lives": float(row.dead) / max(1.0, float(row.live)),
        }

    def _sqlite(self, accepted: int) -> dict[str, float]:
        file = Path(self._services.db.url.database or "")
        return {
            "database: KB a message": _size(file.parent, file.name) / KB / accepted,
            "database: MB of WAL": _size(file.parent, f"{file.name}-wal") / MB,
        }


def of_tree(pid: int) -> dict[str, float]:
    """Return what a process and its descendants hold."""
    pids = cpu.tree(pid)
    files = [link for one in pids for link in _files(one)]
    connected = _connected()
    return {
        "processes": len(pids),
        "threads": sum(len(_listed(f"/proc/{one}/task")) for one in pids),
        "files": len(files),
        "TCP": sum(1 for link in files if link in connected),
        "MB": cpu.memory_of(pid) / MB,
    }


def bounds(minutes: float, processes: int) -> Mapping[str, Bound]:
    """Return gauge → bound, for a run of ``minutes`` with ``processes`` worker processes."""
    long = minutes >= LONG
    memory = next((most for shorter, most in MEMORY.items() if minutes < shorter), max(minutes / 120, 1.0))
    tree = {
        "processes": Bound(growth=0),
        "threads": Bound(growth=5),
        "files": Bound(growth=5),
        "TCP": Bound(growth=5),
        "MB": Bound(growth=memory),
    }
    return {f"{name}: {what}": bound for name in TREES for what, bound in tree.items()} | {
        "queue: hints": Bound(growth=50 * BUNCH),  # a bunch that is not full counts with the most it may hold
        "journal: MB": Bound(most=processes * (ROTATE_SIZE / MB + 1)),
        "postgresql: connections": Bound(growth=5),
        # Messages differ in size, and large ones are rare.
        "tables: KB a message": Bound(growth=0.5 if long else 2.0),
        "indexes: KB a message": Bound(growth=0.2 if long else 0.5),
        "indexes of what is pending: MB": Bound(growth=2.0 if long else 8.0),
        "dead rows for each that lives": Bound(most=0.5 if long else 3.0),
        "database: KB a message": Bound(growth=1.0 if long else 5.0),
        "database: MB of WAL": Bound(most=64.0),
    }


def _files(pid: int) -> list[str]:
    found = []
    for name in _listed(f"/proc/{pid}/fd"):
        try:
            found.append(os.readlink(f"/proc/{pid}/fd/{name}"))
        except OSError:
            continue  # it was closed meanwhile
    return found


def _connected() -> set[str]:
    """Return the links of all TCP sockets, except listening ones."""
    rows = [row.split() for kind in ("tcp", "tcp6") for row in Path(f"/proc/net/{kind}").read_text().splitlines()[1:]]
    return {f"socket:[{row[9]}]" for row in rows if row[3] != _LISTENING}


def _listed(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []  # the process ended meanwhile


def _size(folder: Path, pattern: str) -> int:
    total = 0
    for path in folder.glob(pattern):
        try:
            total += path.stat().st_size
        except OSError:
            continue  # it was removed meanwhile
    return total
