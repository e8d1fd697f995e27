"""The command: it checks what the SMTP door needs, opens it, and closes it when told to stop."""

import asyncio
import contextlib
import logging
import os
import sys

import click

from mailbbgun.accept.accept import Acceptor
from mailbbgun.accept.attached import Attached
from mailbbgun.accept.store import Store
from mailbbgun.alerts.figures.reports import FailedLogins
from mailbbgun.attachments.inspection import Inspector
from mailbbgun.core import faults, logs
from mailbbgun.core.process import (
    CONTEXT,
    allow_open_files,
    explained_exit,
    few_arenas,
    no_core_dumps,
    on_stop,
    rare_collections,
    version_option,
)
from mailbbgun.counters.keeping import SMTPD, Keeper
from mailbbgun.limits.request_rates import Rates
from mailbbgun.messages.publisher import Publisher
from mailbbgun.preflight import DatabaseCheck, preflight
from mailbbgun.services import Services, build
from mailbbgun.settings.ports import check_ports
from mailbbgun.settings.settings import Settings
from mailbbgun.smtp_accounts.sender import identities
from mailbbgun.smtpd.door import Door
from mailbbgun.smtpd.listening import check_certificate, check_some_port, options_of, port_taken
from mailbbgun.startup import load_checked
from mailbbgun.supervisor import Supervisor, follow
from mailbbgun.suppressions.links import UnsubscribeLinks
from mailbbgun.templates.resolve import Templates
from mailbbgun.tenants.authenticate import Authenticator
from mailbbgun.tracking.keys import TrackingKeys

#: Open files besides connections: of the database, the queue, files of mails and Python.
OTHER_FILES = 150

log = logging.getLogger("mailbbgun.smtpd")


@click.command(context_settings=CONTEXT)
@version_option
@click.option(
    "--processes",
    type=click.IntRange(1, 64),
    help="How many processes listen side by side.  [default: SMTPD_PROCESSES]",
)
@click.option("--member-of", type=int, hidden=True, help="Be one of those that process supervises.")
@click.option("--share", type=int, default=1, hidden=True, help="How many members there are.")
def main(processes: int | None, member_of: int | None, share: int) -> None:
    """Take mail in by SMTP until told to stop."""
    with explained_exit("smtpd"):
        settings = load_checked()
        faults.arm()
        few_arenas()
        no_core_dumps()
        logs.configure(settings.LOG_LEVEL, settings.LOG_FORMAT)
        if member_of is not None:
            follow(member_of)
            found = False  # what the leader found may have changed; this process looks by itself
        else:
            check_some_port(settings)
            check_ports(settings)
            check_certificate(settings)
            if refused := port_taken(settings):
                sys.exit(f"smtpd: {refused}")
            found = preflight(settings)
            if (count := processes or settings.smtpd_processes) > 1:
                sys.exit(Supervisor(count, "mailbbgun.smtpd").run())
        program = Program(settings, share, found=found)
        try:
            asyncio.run(program.serve())
        except OSError as error:  # another program has taken the port since
            sys.exit(f"smtpd: {error}")
        finally:
            program.close()
    # A thread may still wait for a database that does not answer. Whatever it stores has no answer.
    sys.stdout.flush()
    os._exit(0)


class Program:
    """One process of the door, with all that it is made of."""

    def __init__(self, settings: Settings, processes: int, *, found: bool) -> None:
        """``processes`` listen on the same ports. ``found``: the database may be used, as was checked."""
        self._settings = settings
        self._services = services = build(settings, installed=True)
        self._database = DatabaseCheck(services, found=found)
        self._store = Store(services.db, settings.IDEMPOTENCY_SECONDS, services.counters)
        self._publisher = Publisher(services.db, services.queue, services.outages)
        self._failed = FailedLogins(services.db)
        self._rates = Rates(
            processes=processes, unauthorized=settings.UNAUTHORIZED_PER_MINUTE, redis_url=settings.REDIS_URL
        )
        self._authenticator = Authenticator(
            services.db,
            services.vault,
            identities,
            required=settings.AUTH_REQUIRED,
            per_minute=settings.RATE_LIMIT_PER_MINUTE,
            outages=services.outages,
        )
        self._keeper = Keeper(services.counters, settings.counters_folder, SMTPD)
        self.door = Door(
            services,
            _acceptor(services, self._store, self._publisher),
            self._authenticator,
            self._rates,
            options_of(settings, processes=processes, connections=_connections(settings)),
            failed_login=self._failed.count,
            database_found=lambda: self._database.passed,
        )

    async def serve(self) -> None:
        """Listen until told to stop. Then messages that are being received have SHUTDOWN_GRACE to end.

        Raises ``OSError`` if it cannot listen, :class:`ConfigurationError` about the certificate.
        """
        loop, stopped = asyncio.get_running_loop(), asyncio.Event()

        def stop() -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: it has stopped
                loop.call_soon_threadsafe(stopped.set)

        on_stop(stop)
        await self.door.start()
        self._keeper.start()
        rare_collections()
        shown = {name: f"{host}:{port}" for name, (host, port) in self.door.addresses.items()}
        log.info("smtpd_started", extra={"smtpd_pid": os.getpid(), **shown})
        await stopped.wait()
        await self.door.close(self._settings.SHUTDOWN_GRACE)
        log.info("smtpd_stopped", extra={"smtpd_pid": os.getpid()})

    def close(self) -> None:
        """Publish the hints that are waiting, and close every connection."""
        for one in (self._database, self._store, self._publisher, self._authenticator, self._rates, self._keeper):
            one.close()
        self._failed.write()
        self._services.close()


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
