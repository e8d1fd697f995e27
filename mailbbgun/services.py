"""The one composition root: it makes what every room is handed.

Drivers are chosen, and imported inside a function, only here and in ``limits/stores.py``, which
chooses between the database and Redis.
"""

import logging
from dataclasses import dataclass, field
from pathlib import Path

from mailbbgun.blobs import url
from mailbbgun.blobs.base import BlobStore
from mailbbgun.core.clock import Clock
from mailbbgun.core.errors import ConfigurationError
from mailbbgun.core.outages import Outages
from mailbbgun.counters.counters import Counters
from mailbbgun.database.crypto import Vault
from mailbbgun.database.db import Database
from mailbbgun.database.engines import CONNECT_SECONDS
from mailbbgun.queues.base import Queue
from mailbbgun.safety.scanner import Scanner
from mailbbgun.settings.paths import why_closed
from mailbbgun.settings.settings import Settings
from mailbbgun.tracing.spans import Traces

log = logging.getLogger("mailbbgun.services")


@dataclass(frozen=True, slots=True)
class Services:
    """Settings, database, queue, store of files, and other things that every room needs."""

    settings: Settings
    db: Database
    queue: Queue
    blobs: BlobStore
    scanner: Scanner | None  # None: files are not scanned
    clock: Clock
    vault: Vault
    outages: Outages = field(default_factory=Outages)
    counters: Counters = field(default_factory=Counters)
    traces: Traces | None = None  # None: no traces are made

    def close(self) -> None:
        """Close every connection."""
        self.queue.close()
        self.blobs.close()
        self.db.close()
        if self.traces is not None:
            self.traces.close()


def build(settings: Settings, *, installed: bool = False, connect_seconds: int = CONNECT_SECONDS) -> Services:
    """Choose the drivers by the settings' URLs. Connects to nothing yet.

    Makes the folder ``VAR``. With ``installed`` it does not: that is for programs that need what
    ``initdb.py`` makes. It then refuses a SQLite database that does not exist, because the first
    query would make one. Such a program calls :func:`make_folder` when it has found the tables.

    ``connect_seconds``: how long to wait for a connection to PostgreSQL. Raises
    :class:`ConfigurationError`.
    """
    if not installed:
        make_folder(settings)
    pool = max(settings.API_THREADS, 8) + 4
    db = Database(
        settings.DATABASE_URL,
        pool_size=pool,
        sqlite_synchronous=settings.SQLITE_SYNCHRONOUS,
        connect_seconds=connect_seconds,
    )
    if installed and db.dialect == "sqlite" and db.url.database:
        _check_file(Path(db.url.database))
    return Services(
        settings=settings,
        db=db,
        queue=_queue(settings, db),
        blobs=_blobs(settings),
        scanner=Scanner(settings.CLAMAV_URL) if settings.CLAMAV_URL else None,
        clock=Clock(),
        vault=Vault(settings),
        counters=Counters(settings.METRICS_ACCOUNTS),
        traces=_traces(settings),
    )


def _traces(settings: Settings) -> Traces | None:
    """Return what makes traces; None if they are sent nowhere, and then nothing of OpenTelemetry is imported."""
    if not settings.OTEL_EXPORTER_OTLP_ENDPOINT:
        return None
    try:
        from mailbbgun.tracing.otel import OpenTelemetry
    except ImportError as error:
        raise ConfigurationError(
            f"OTEL_EXPORTER_OTLP_ENDPOINT: traces need libraries that are not installed ({error.name}): pip install "
            "opentelemetry-sdk opentelemetry-exporter-otlp-proto-http"
        ) from error
    return OpenTelemetry(settings.OTEL_EXPORTER_OTLP_ENDPOINT)


def _check_file(path: Path) -> None:
    if closed := why_closed(path):
        raise ConfigurationError(f"DATABASE_URL: {closed}")
    if not path.exists():
        raise ConfigurationError(f"there is no database {path}: run python initdb.py")


def make_folder(settings: Settings) -> None:
    """Make the folder ``VAR``, for us alone, unless it exists.

    Raises :class:`ConfigurationError`.
    """
    try:
        settings.var.mkdir(mode=0o700, parents=True, exist_ok=True)  # it holds people's mail
    except OSError as error:
        raise ConfigurationError(f"VAR: the folder {settings.var} cannot be made: {error.strerror}") from error


def check_durability(services: Services) -> None:
    """Refuse a database that cannot be written, or may lose commits, unless ALLOW_WEAK_DURABILITY is set.

    Raises :class:`ConfigurationError`, :class:`DatabaseUnavailable`.
    """
    services.db.check_writable()
    weak = services.db.weaknesses()
    if weak and not services.settings.ALLOW_WEAK_DURABILITY:
        raise ConfigurationError(
            f"a power cut would lose accepted mail: {', '.join(weak)}; set ALLOW_WEAK_DURABILITY to run all the same"
        )
    if weak:
        log.warning("weak_durability", extra={"why": ", ".join(weak)})


def _blobs(settings: Settings) -> BlobStore:
    where = url.read(settings.BLOBS_URL)
    if isinstance(where, Path):
        from mailbbgun.blobs.folder import Folder

        return Folder(where)
    from mailbbgun.blobs.s3 import S3

    return S3(where)


def _queue(settings: Settings, db: Database) -> Queue:
    delays = sorted(set(settings.RETRY_DELAYS))
    if settings.QUEUE_URL.startswith("embedded"):
        from mailbbgun.queues.embedded import Embedded

        return Embedded(db, delays)
    from mailbbgun.queues.rabbitmq import RabbitMQ

    return RabbitMQ(settings.QUEUE_URL, delays)
