"""One opening of the SMTP door, with all that it is made of. A restart makes another one."""

import logging
from collections.abc import Callable
from dataclasses import replace

from mailbbgun.accept.accept import Acceptor
from mailbbgun.accept.attached import Attached
from mailbbgun.accept.store import Store
from mailbbgun.alerts.figures.reports import FailedLogins
from mailbbgun.attachments.inspection import Inspector
from mailbbgun.core.process import allow_open_files
from mailbbgun.counters.keeping import SMTPD, Keeper
from mailbbgun.limits.request_rates import Rates
from mailbbgun.messages.publisher import Publisher
from mailbbgun.preflight import DatabaseCheck
from mailbbgun.runtime.follow import RuntimeFollower
from mailbbgun.runtime.live import OF_SMTPD, LiveSettings
from mailbbgun.services import Services, build
from mailbbgun.settings.settings import Settings
from mailbbgun.smtp_accounts.sender import identities
from mailbbgun.smtpd.door import Door
from mailbbgun.smtpd.listening import options_of
from mailbbgun.suppressions.links import UnsubscribeLinks
from mailbbgun.templates.resolve import Templates
from mailbbgun.tenants.authenticate import Authenticator
from mailbbgun.tracking.keys import TrackingKeys

#: Open files besides connections: of the database, the queue, files of mails and Python.
OTHER_FILES = 150

log = logging.getLogger("mailbbgun.smtpd")


class Program:
    """A door with its settings, database, queue and all else. It shares nothing with another one."""

    def __init__(
        self,
        given: Settings,
        processes: int,
        *,
        found: bool,
        changed: Callable[[], None] = lambda: None,
        asked: Callable[[], None] = lambda: None,
    ) -> None:
        """``given`` are the sysadmin's settings; ``processes`` listen on the same ports.

        ``found``: the database may be used, as was checked. Another thread calls ``changed`` when settings have
        changed that only another opening follows, and ``asked`` when somebody asked for a restart. Raises
        :class:`ConfigurationError`.
        """
        self.given = given
        self.settings = settings = replace(given)
        self._services = services = build(settings, installed=True)
        self._database = DatabaseCheck(services, found=found)
        self._live, self._changed = LiveSettings(settings, given), changed
        self._follower = RuntimeFollower(services.db, self._live, services.outages, ready=self._found, restart=asked)
        self._follower.look_if_possible()
        self._store = Store(services.db, settings.IDEMPOTENCY_SECONDS, services.counters)
        self._publisher = Publisher(services.db, services.queue, services.outages)
        self._failed = FailedLogins(services.db)
        per_minute = settings.UNAUTHORIZED_PER_MINUTE
        self._rates = Rates(processes=processes, unauthorized=per_minute, redis_url=settings.REDIS_URL)
        self._authenticator = _authenticator(services)
        self._keeper = Keeper(services.counters, settings.counters_folder, SMTPD)
        self.door = Door(
            services,
            _acceptor(services, self._store, self._publisher),
            self._authenticator,
            self._rates,
            options_of(settings, processes=processes, connections=_connections(settings)),
            failed_login=self._failed.count,
            database_found=self._found,
        )

    def _found(self) -> bool:
        return self._database.passed

    def begin(self) -> None:
        """Begin what is done besides receiving mail."""
        self._keeper.start()
        self._live.then(self._follow)
        self._follower.start()

    def leave(self) -> None:
        """Follow no more: another opening does."""
        self._follower.close()

    def close(self) -> None:
        """Publish the hints that are waiting, and close every connection."""
        parts = (self._database, self._store, self._publisher, self._authenticator, self._rates, self._keeper)
        for one in (self._follower, *parts):
            one.close()
        self._failed.write()
        self._services.close()

    def _follow(self, changed: frozenset[str]) -> None:
        settings = self.settings
        self._store.remembered = settings.IDEMPOTENCY_SECONDS
        self._rates.unauthorized = settings.UNAUTHORIZED_PER_MINUTE
        if "RATE_LIMIT_PER_MINUTE" in changed:
            self._authenticator.limit(settings.RATE_LIMIT_PER_MINUTE)
        if not changed.isdisjoint(OF_SMTPD):
            self._changed()


def _authenticator(services: Services) -> Authenticator:
    return Authenticator(
        services.db,
        services.vault,
        identities,
        required=services.settings.AUTH_REQUIRED,
        per_minute=services.settings.RATE_LIMIT_PER_MINUTE,
        outages=services.outages,
    )


def _acceptor(services: Services, store: Store, publisher: Publisher) -> Acceptor:
    public = services.settings.PUBLIC_URL
    return Acceptor(
        services.settings,
        store,
        publisher,
        Attached(services, Inspector(services)),
        Templates(services.db),
        UnsubscribeLinks(services.db, services.vault, public),
        TrackingKeys(services.db, services.vault, public),
        services.traces,
    )


def _connections(settings: Settings) -> int:
    """Return how many connections this process may have: SMTPD_CONNECTIONS, or what open files permit."""
    wanted = settings.SMTPD_CONNECTIONS
    permitted = max(1, min(wanted, allow_open_files(wanted + OTHER_FILES) - OTHER_FILES))
    if permitted < wanted:
        told = {"connections": permitted, "wanted": wanted, "raise": "ulimit -n, LimitNOFILE"}
        log.warning("few_open_files", extra=told)
    return permitted
