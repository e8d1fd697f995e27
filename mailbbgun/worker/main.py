"""The command: it decides which process this one is, and checks what it needs before it works."""

import logging
import os
import sys
from dataclasses import replace
from functools import partial
from typing import NoReturn
from uuid import UUID, uuid4

import click

from mailbbgun import migrations
from mailbbgun.core import faults, logs
from mailbbgun.core.errors import ConfigurationError
from mailbbgun.core.process import (
    CONTEXT,
    allow_open_files,
    explained_exit,
    few_arenas,
    no_core_dumps,
    version_option,
)
from mailbbgun.deliver import journal
from mailbbgun.events.storage.settled import keep_growing
from mailbbgun.metrics.serving import serve
from mailbbgun.routing.routes import KEPT
from mailbbgun.runtime.follow import RuntimeFollower
from mailbbgun.runtime.live import LiveSettings
from mailbbgun.services import Services, build, check_durability, make_folder
from mailbbgun.settings.settings import Settings
from mailbbgun.startup import check_redis, load_checked, look_at_scanner, patiently, tell_host_name
from mailbbgun.supervisor import Supervisor, follow
from mailbbgun.sweep import replay
from mailbbgun.sweep.mend import mend
from mailbbgun.tenants import keys
from mailbbgun.worker.isolated import send_isolated
from mailbbgun.worker.process import MOST_THREADS, WorkerProcess
from mailbbgun.worker.webhooks import serve_webhooks

#: Open files besides mail connections: of the database, the queue, the journal and Python.
OTHER_FILES = 150

log = logging.getLogger("mailbbgun.worker")


@click.command(context_settings=CONTEXT)
@version_option
@click.option(
    "--processes",
    type=click.IntRange(1, 64),
    help="How many processes deliver side by side.  [default: WORKER_PROCESSES]",
)
@click.option("--member-of", type=int, hidden=True, help="Be one of those that process supervises.")
@click.option("--share", type=int, default=1, hidden=True, help="Of how many members the connections are.")
@click.option("--isolated", type=click.UUID, hidden=True, help="Deliver this one message and exit.")
@click.option("--webhooks", is_flag=True, hidden=True, help="Send webhooks, and no mail.")
@click.option("--owner", type=click.UUID, hidden=True)
@click.option("--parent", type=int, hidden=True, help="End with that process, which started us.")
def main(
    processes: int | None,
    member_of: int | None,
    share: int,
    isolated: UUID | None,
    webhooks: bool,
    owner: UUID | None,
    parent: int | None,
) -> None:
    """Deliver mail until told to stop."""
    with explained_exit("worker"):
        given = load_checked()
        faults.arm()
        few_arenas()
        no_core_dumps()
        logs.configure(given.LOG_LEVEL, given.LOG_FORMAT)
        if (started_by := parent if member_of is None else member_of) is not None:
            follow(started_by)
        first = member_of is None and parent is None
        if first:
            tell_host_name(given)
        settings = shared(given, share)
        if not webhooks:
            check_open_files(settings.WORKER_CONNECTIONS)
        services = start(settings, first=first)
        follower = follower_of(services, given, share)
        if isolated is not None:
            return send_isolated(services, isolated, owner or uuid4())
        if webhooks:
            follower.start()
            _end(serve_webhooks(services, owner or uuid4()), services)
        if first and settings.METRICS_PORT:
            serve(settings)
        if member_of is None and (count := processes or settings.worker_processes) > 1:
            services.close()
            sys.exit(Supervisor(count, "mailbbgun.worker").run())
        worker = WorkerProcess(services)
    _end(_worked(worker, follower), services)


def _worked(worker: WorkerProcess, follower: RuntimeFollower) -> int:
    """Deliver mail until told to stop, as the settings say at each moment; return the exit code."""
    follower.live.then(worker.follow)
    follower.start()
    code = worker.run()
    follower.close()
    return code


def _end(code: int, services: Services) -> NoReturn:
    """End this process without waiting for its threads.

    A loop that outlived SHUTDOWN_GRACE waits for a silent server; the journal has what it sent. So does a request of
    a webhook; its event will be sent again.
    """
    services.close()
    sys.stdout.flush()
    os._exit(code)


def follower_of(services: Services, given: Settings, members: int) -> RuntimeFollower:
    """Return what keeps the services' settings as the database has them; it has looked once.

    ``given`` are the sysadmin's settings, of which each of so many members has its share.
    """
    live = LiveSettings(services.settings, given, lambda its: possible(shared(its, members)))
    follower = RuntimeFollower(services.db, live, services.outages)
    follower.look_if_possible()
    return follower


def files_needed(connections: int) -> int:
    """Return how many files so many connections need: under way (each with a file), kept, being closed."""
    return 2 * connections + 2 * max(KEPT, connections) + MOST_THREADS + OTHER_FILES


def possible(settings: Settings) -> Settings:
    """Return the settings with as many connections as this process may open files for, and log if these are fewer."""
    wanted = settings.WORKER_CONNECTIONS
    allowed = allow_open_files(files_needed(wanted))
    if allowed >= files_needed(wanted):
        return settings
    connections = max(1, min(wanted, (allowed - files_needed(0)) // 2, (allowed - MOST_THREADS - OTHER_FILES) // 4))
    told = {"connections": connections, "wanted": wanted, "raise": "ulimit -n, LimitNOFILE"}
    log.warning("few_open_files", extra=told)
    return replace(settings, WORKER_CONNECTIONS=connections)


def check_open_files(connections: int) -> None:
    """Raise the limit of open files for so many connections.

    Raises :class:`ConfigurationError` if it cannot be raised that far.
    """
    needed = files_needed(connections)
    if (allowed := allow_open_files(needed)) < needed:
        raise ConfigurationError(
            f"WORKER_CONNECTIONS: {connections} connections in one process need {needed} open files, and this process "
            f"may have {allowed}: raise that limit (LimitNOFILE= in a systemd unit, else ulimit -n), or use more "
            "WORKER_PROCESSES"
        )


def start(settings: Settings, *, first: bool = True) -> Services:
    """Build the services, wait for database and queue, and replay the journals of dead workers.

    If a server refuses us, the ``first`` process raises :class:`ConfigurationError`. A process that
    is started later, such as one that replaces a dead one, waits.
    """
    services = build(settings, installed=True)
    wait = partial(patiently, outages=services.outages, wait_if_refused=not first)
    wait(lambda: migrations.check(services.db))
    wait(lambda: keep_growing(services.db))
    make_folder(settings)
    journal.make_folder(settings.journal_folder)
    wait(lambda: check_durability(services))
    wait(lambda: keys.check(services.db, services.vault))
    if first:
        wait(lambda: mend(services.queue))
        check_redis(services)
        look_at_scanner(services)
    wait(lambda: replay.replay_dead(services.db, settings))
    return services


def shared(settings: Settings, members: int) -> Settings:
    """Return the settings of one of so many processes, with its share of connections and disk.

    Other people's servers see the connections of all processes together.
    """
    names = ("WORKER_CONNECTIONS", "CONNECTIONS_PER_DOMAIN", "SPOOL_SIZE")
    return replace(settings, **{name: max(1, getattr(settings, name) // members) for name in names})
