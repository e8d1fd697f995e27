"""What has to be there before anything runs: the tables and the queue's topology."""

import sys

import click

from mailbbgun import schema
from mailbbgun.core import logs
from mailbbgun.core.ids import DEFAULT_TENANT
from mailbbgun.core.process import CONTEXT, check_output, explained_exit, printed_or_undone, version_option
from mailbbgun.services import Services, build
from mailbbgun.startup import load_checked
from mailbbgun.tenants import keys, repo
from mailbbgun.tenants.models import ApiKey


def install(services: Services) -> None:
    """Create or upgrade the tables, make a key for secrets unless there are secrets, and declare the queues; safe to repeat.

    Raises :class:`DatabaseUnavailable`, :class:`QueueUnavailable`, :class:`ConfigurationError`.
    """
    schema.upgrade(services.db)
    with services.db.read() as session:
        new = repo.secret(session, repo.PEPPER) is None
    if new:  # a new key beside old secrets would only be in the way of the one that was lost
        services.vault.prepare()
    keys.check(services.db, services.vault)
    with services.db.write() as session:
        keys.pepper(session, services.vault)
    services.queue.declare()


def first_admin_key(services: Services) -> keys.Minted | ApiKey:
    """Make a key that may do everything, or return one that there is. Raises :class:`DatabaseUnavailable`, :class:`SecretUnreadable`."""
    with services.db.write() as session:
        return repo.admin_key(session) or keys.create(session, services.vault, DEFAULT_TENANT, keys.ADMIN)


@click.command(context_settings=CONTEXT)
@version_option
@click.option(
    "--admin-key",
    is_flag=True,
    help="Also make the first admin key, and print only that. If there is one already, say so.",
)
def main(admin_key: bool) -> None:
    """Create or upgrade the tables and declare the queues; safe to repeat."""
    with explained_exit("initdb"):
        settings = load_checked(sends=False)
        logs.configure(settings.LOG_LEVEL, settings.LOG_FORMAT)
        if admin_key:
            check_output("the admin key")
        services = build(settings)
        install(services)
        ready = f"initdb: {services.db.shown} and the queue are ready"
        print(ready, file=sys.stderr if admin_key else sys.stdout)
        if admin_key:
            _print_admin_key(services)
        services.close()


def _print_admin_key(services: Services) -> None:
    """Make the first admin key and print it; one that cannot be printed is revoked, so the next run makes another."""
    key = first_admin_key(services)
    if isinstance(key, ApiKey):
        print(
            f"initdb: there is an admin key, mbg_{key.prefix}_…; bin/mailbbgun key create --admin makes another",
            file=sys.stderr,
        )
        return
    minted = key

    def take_back() -> None:
        with services.db.write() as session:
            keys.take_back(session, minted)

    with printed_or_undone(f"the admin key mbg_{minted.key.prefix}_…", take_back):
        print(minted.token)
