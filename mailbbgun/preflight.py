"""What the API looks at before it listens, when it is told to load its settings anew, and until the database is there.

Promises: a wrong setting, or a database that is not what this version needs, is one line. A server that is away keeps the API from
nothing: it listens, ``/health`` answers, what needs the database is refused with 503, and all works once the database is back.
"""

import logging
import threading

from sqlalchemy.exc import DBAPIError

from mailbbgun import migrations, startup
from mailbbgun.core.errors import (
    ConfigurationError,
    DatabaseUnavailable,
    QueueMisconfigured,
    QueueUnavailable,
    Unavailable,
    explained,
)
from mailbbgun.exposure import check_exposure, taken
from mailbbgun.messages import mime
from mailbbgun.services import Services, build, check_durability, make_folder
from mailbbgun.settings.settings import Settings
from mailbbgun.tenants import keys

#: Seconds to connect to a database before the API listens without it. Each process then looks with all the patience it has.
CONNECT_SECONDS = 2

#: Seconds between two looks at a database that is away, or not what it should be.
LOOK_SECONDS = 1.0

#: What clients and ``/ready`` are told before the first look of a process has ended.
NOT_LOOKED_AT = "the database did not answer when the API started; it is looked at again every second"

log = logging.getLogger("mailbbgun.preflight")


def self_test(settings: Settings) -> None:
    """Look at ourselves. Raises :class:`ConfigurationError`."""
    mime.self_test()
    startup.check(settings)


def preflight(settings: Settings) -> bool:
    """Look at what the service stands on; return whether the database is there, and right. Waits for no server: one that is away is told in the log.

    Raises :class:`ConfigurationError` with one line to show.
    """
    self_test(settings)
    startup.tell_host_name(settings)
    services = build(settings, installed=True, connect_seconds=CONNECT_SECONDS)
    try:
        found = _database_found(services)
        make_folder(settings)
        startup.check_redis(services)
        if found:
            _look_at_queue(services)
    finally:
        services.close()
    return found


def look(services: Services) -> None:
    """Look whether the database is the one that this version, with these settings, needs.

    Raises :class:`ConfigurationError`, :class:`DatabaseUnavailable`.
    """
    try:
        migrations.check(services.db)
        check_durability(services)
        keys.check(services.db, services.vault)
    except DBAPIError as error:  # tables that have our names and other columns, say
        raise ConfigurationError(
            f"the database cannot be used: {str(error.orig).strip().partition(chr(10))[0]}"
        ) from error


def check_again(settings: Settings, old: Settings, bind: list[str]) -> bool:
    """Look at settings that shall take the place of ``old`` ones in an API that listens on gunicorn's ``bind``; as :func:`preflight` does.

    Raises :class:`ConfigurationError`.
    """
    decides = bind == [
        address_of(old)
    ]  # else gunicorn was told where to listen by other means, and listens there still
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
    """Return where the API listens, as gunicorn wants it written."""
    return f"[{settings.HOST}]:{settings.PORT}" if ":" in settings.HOST else f"{settings.HOST}:{settings.PORT}"


class DatabaseCheck:
    """One process's knowledge of whether the database may be worked with. Once it was found right, it is not looked at again. Thread-safe."""

    def __init__(self, services: Services, *, found: bool) -> None:
        """``found``: somebody has looked already. Else a thread looks until it is right."""
        self._services = services
        self._why: DatabaseUnavailable | None = None if found else DatabaseUnavailable(NOT_LOOKED_AT)
        self._told = ""
        self._end = threading.Event()
        if not found:
            threading.Thread(target=self._look_until_found, name="database-check", daemon=True).start()

    @property
    def passed(self) -> bool:
        """Whether the database may be worked with."""
        return self._why is None

    def require(self) -> None:
        """Raise :class:`DatabaseUnavailable`, with what is wrong, unless the database may be worked with."""
        if (why := self._why) is not None:
            raise DatabaseUnavailable(str(why))

    def close(self) -> None:
        """Look no more."""
        self._end.set()

    def _look_until_found(self) -> None:
        while not self._looked():
            if self._end.wait(LOOK_SECONDS):
                return

    def _looked(self) -> bool:
        """Look once; return whether all is well."""
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
        """Tell once of a database that answers, and is not what we need."""
        self._why = DatabaseUnavailable(str(error))
        if str(error) != self._told:
            self._told = str(error)
            meanwhile = "what needs the database is answered 503; it is looked at again every second"
            log.error("database_not_usable", extra={"why": self._told, "meanwhile": meanwhile})


def _database_found(services: Services) -> bool:
    try:
        look(services)
    except Unavailable as error:
        if error.refused:
            raise ConfigurationError(str(error)) from error
        services.outages.failed("start", error)
        return False
    return True


def _look_at_queue(services: Services) -> None:
    try:
        services.queue.check()
    except (QueueUnavailable, QueueMisconfigured) as error:  # no reason to refuse mail
        log.warning("queue_unavailable", extra={"error": explained(error)})
