"""The API's checks: at its start, when it loads its settings again, until the database is up, and for ``/ready``.

What it promises: a wrong setting, or a database that this version cannot use, is told in one line.
If a server is away, the API listens all the same: ``/health`` answers, requests that need the
database get 503, and everything works once the database is back.
"""

import logging
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait

from sqlalchemy import select
from sqlalchemy.exc import DBAPIError

from mailbbgun import migrations, startup
from mailbbgun.composing import mime
from mailbbgun.core.errors import (
    BlobStoreUnavailable,
    ConfigurationError,
    DatabaseUnavailable,
    MailBBGunError,
    QueueMisconfigured,
    QueueUnavailable,
    Unavailable,
    explained,
)
from mailbbgun.deliver import workers
from mailbbgun.events.storage.settled import keep_growing
from mailbbgun.exposure import check_exposure, taken
from mailbbgun.services import Services, build, check_durability, make_folder
from mailbbgun.settings.settings import Settings
from mailbbgun.tenants import keys

#: Seconds to connect to the database before the API listens without it. Its processes then go on
#: trying, with the usual time.
CONNECT_SECONDS = 2

#: Seconds between two checks of a database that is away, or that this version cannot use.
LOOK_SECONDS = 1.0

#: What clients and ``/ready`` are told until the first check of a process has ended.
NOT_LOOKED_AT = "the database did not answer when the API started; it is looked at again every second"

#: Seconds that ``/ready`` waits for all parts together.
READY_SECONDS = 4.0

log = logging.getLogger("mailbbgun.preflight")


def self_test(settings: Settings) -> None:
    """Check how this Python writes mail, and the settings. Raises :class:`ConfigurationError`."""
    mime.self_test()
    startup.check(settings)


def preflight(settings: Settings) -> bool:
    """Check everything that the API needs. Return whether the database can be used.

    Waits for no server: one that is away is only logged. Raises :class:`ConfigurationError` with
    one line to show.
    """
    self_test(settings)
    startup.tell_host_name(settings)
    services = build(settings, installed=True, connect_seconds=CONNECT_SECONDS)
    try:
        found = _database_found(services)
        make_folder(settings)
        startup.check_redis(services)
        startup.look_at_scanner(services)
        if found:
            _look_at_queue(services)
        _look_at_blobs(services)
    finally:
        services.close()
    return found


def look(services: Services) -> None:
    """Check that this version, with these settings, can use the database.

    Raises :class:`ConfigurationError`, :class:`DatabaseUnavailable`.
    """
    try:
        migrations.check(services.db)
        keep_growing(services.db)
        make_folder(services.settings)  # the key that is checked next may be in it
        check_durability(services)
        keys.check(services.db, services.vault)
    except DBAPIError as error:  # for example, tables with our names and other columns
        raise ConfigurationError(
            f"the database cannot be used: {str(error.orig).strip().partition(chr(10))[0]}"
        ) from error


def check_again(settings: Settings, old: Settings, bind: list[str]) -> bool:
    """Check settings that will replace ``old`` ones, as :func:`preflight` does.

    The API listens on gunicorn's ``bind`` now. Raises :class:`ConfigurationError`.
    """
    # If not, an option of gunicorn's decides where to listen, and will go on to do so.
    decides = bind == [address_of(old)]
    hosts = (
        [settings.HOST]
        if decides
        else [one.rpartition(":")[0].strip("[]") for one in bind if not one.startswith(("unix:", "fd:"))]
    )
    check_exposure(hosts, settings)
    moves = decides and address_of(settings) != address_of(old)
    if moves and (why := taken(settings.HOST, settings.PORT, "PORT")):
        raise ConfigurationError(f"PORT: {why}")
    return preflight(settings)


def address_of(settings: Settings) -> str:
    """Return the address where the API listens, in gunicorn's form."""
    return f"[{settings.HOST}]:{settings.PORT}" if ":" in settings.HOST else f"{settings.HOST}:{settings.PORT}"


class DatabaseCheck:
    """Knows whether this process may use the database. Thread-safe.

    Once a check has passed, there are no more.
    """

    def __init__(self, services: Services, *, found: bool) -> None:
        """``found``: a check has passed already. Else a thread checks until one passes."""
        self._services = services
        self._why: DatabaseUnavailable | None = None if found else DatabaseUnavailable(NOT_LOOKED_AT)
        self._told = ""
        self._end = threading.Event()
        if not found:
            threading.Thread(target=self._look_until_found, name="database-check", daemon=True).start()

    @property
    def passed(self) -> bool:
        """Whether the database may be used."""
        return self._why is None

    def require(self) -> None:
        """Raise :class:`DatabaseUnavailable`, with the problem, unless the database may be used."""
        if (why := self._why) is not None:
            raise DatabaseUnavailable(str(why))

    def close(self) -> None:
        """Check no more."""
        self._end.set()

    def _look_until_found(self) -> None:
        while not self._looked():
            if self._end.wait(LOOK_SECONDS):
                return

    def _looked(self) -> bool:
        """Check once. Return whether the check passed."""
        try:
            look(self._services)
        except Unavailable as error:
            self._why = DatabaseUnavailable(str(error))
            self._services.outages.failed("start", error)
        except ConfigurationError as error:
            self._services.outages.worked("database", "start")
            self._refuse(error)
        else:
            self._services.outages.worked("database", "start")
            self._why = None
        return self._why is None

    def _refuse(self, error: ConfigurationError) -> None:
        """Log once that the database answers, but cannot be used."""
        self._why = DatabaseUnavailable(str(error))
        if str(error) != self._told:
            self._told = str(error)
            meanwhile = "what needs the database is answered 503; it is looked at again every second"
            log.error("database_not_usable", extra={"why": self._told, "meanwhile": meanwhile})


class Readiness:
    """Asks all parts of the service at once whether they work, and waits for a bounded time.

    A part that hangs blocks its own thread, not the request.
    """

    def __init__(self, services: Services, check: DatabaseCheck) -> None:
        self._services, self._check = services, check
        self._parts: Mapping[str, Callable[[], str]] = {
            "database": self._database,
            "queue": self._queue,
            "blobs": self._blobs,
            "worker": self._worker,
        }
        self._threads = ThreadPoolExecutor(max_workers=len(self._parts), thread_name_prefix="ready")
        self._asked: dict[str, Future[str]] = {}
        self._looking = threading.Lock()
        self._found = dict.fromkeys(self._parts, "not known yet: the first look goes on")

    def parts(self) -> dict[str, str]:
        """Return ``ok`` or the problem, by part.

        Only one request looks at a time; others get the previous result. Otherwise strangers could
        keep every thread waiting for a part that hangs.
        """
        if self._looking.acquire(blocking=False):
            try:
                self._found = self._look()
            finally:
                self._looking.release()
        return dict(self._found)

    def _look(self) -> dict[str, str]:
        for name, part in self._parts.items():
            # A part that still hangs is not asked again: it would take the threads of the others.
            if (last := self._asked.get(name)) is None or last.done():
                self._asked[name] = self._threads.submit(part)
        wait(self._asked.values(), READY_SECONDS)
        return {name: _answer(future) for name, future in self._asked.items()}

    def close(self) -> None:
        """End the threads, without waiting for parts that hang."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _database(self) -> str:
        self._check.require()
        with self._services.db.read() as session:
            session.scalar(select(1))
        self._services.db.check_writable()
        return "ok"

    def _queue(self) -> str:
        self._services.queue.check()
        return "ok"

    def _blobs(self) -> str:
        self._services.blobs.check()
        return "ok"

    def _worker(self) -> str:
        self._check.require()  # workers are registered in the database
        with self._services.db.read() as session:
            alive = workers.any_alive(session)
        return "ok" if alive else workers.NONE_ALIVE


def _answer(asked: Future[str]) -> str:
    """Return what a part has answered by now."""
    if not asked.done():
        return f"no answer in {READY_SECONDS:.0f} s"
    try:
        return asked.result()
    except MailBBGunError as error:
        return str(error)


def _database_found(services: Services) -> bool:
    try:
        look(services)
    except Unavailable as error:
        if error.refused:
            raise ConfigurationError(str(error)) from error
        services.outages.failed("start", error)
        return False
    return True


def _look_at_blobs(services: Services) -> None:
    """Make the folder or bucket for files if it is missing. Mail without files needs neither."""
    try:
        services.blobs.prepare()
    except BlobStoreUnavailable as error:
        log.warning("blob_store_unavailable", extra={"error": explained(error)})


def _look_at_queue(services: Services) -> None:
    try:
        services.queue.check()
    except (QueueUnavailable, QueueMisconfigured) as error:  # messages are accepted without it
        log.warning("queue_unavailable", extra={"error": explained(error)})
