"""``initdb.py``: makes what all programs need, the tables and the queues."""

import sys

import click

from mailbbgun import schema
from mailbbgun.core import logs
from mailbbgun.core.ids import DEFAULT_TENANT
from mailbbgun.core.process import CONTEXT, check_output, explained_exit, printed_or_undone, version_option
from mailbbgun.events.storage import partitions
from mailbbgun.events.storage.settled import keep_growing
from mailbbgun.services import Services, build
from mailbbgun.startup import load_checked
from mailbbgun.tenants import keys, repo
from mailbbgun.tenants.models import ApiKey


def install(services: Services) -> None:
    """Create or upgrade the tables, declare the queues, make the store of files. Safe to repeat.

    If the database has no secrets yet, also make an encryption key for them. Raises
    :class:`DatabaseUnavailable`, :class:`QueueUnavailable`, :class:`BlobStoreUnavailable`,
    :class:`ConfigurationError`.
    """
    schema.upgrade(services.db)
    keep_growing(services.db)
    partitions.make_ahead(services.db)
    with services.db.read() as session:
        new = repo.secret(session, repo.PEPPER) is None
    if new:  # old secrets need their old key: a new one would only hide that it is lost
        services.vault.prepare()
    keys.check(services.db, services.vault)
    with services.db.write() as session:
        keys.pepper(session, services.vault)
    services.queue.declare()
    services.blobs.prepare()


def first_admin_key(services: Services) -> keys.Minted | ApiKey:
    """Make an API key that may do everything, or return an existing one.

    Raises :class:`DatabaseUnavailable`, :class:`SecretUnreadable`.
    """
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
    """Make the first admin key and print it.

    A key that cannot be printed is revoked, so that the next run makes another.
    """
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
