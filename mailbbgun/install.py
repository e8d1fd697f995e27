"""What has to be there before anything runs: the tables and the queue's topology."""

import click

from mailbbgun import schema
from mailbbgun.base import logs
from mailbbgun.base.exits import explained_exit
from mailbbgun.base.settings import load
from mailbbgun.services import Services, build
from mailbbgun.tenants import keys


def install(services: Services) -> None:
    """Make a key for secrets, create or upgrade the tables and declare the queues; safe to repeat.

    Raises :class:`DatabaseUnavailable`, :class:`QueueUnavailable`, :class:`ConfigurationError`.
    """
    services.vault.prepare()
    schema.upgrade(services.db)
    with services.db.write() as session:
        keys.pepper(session, services.vault)
    services.queue.declare()


@click.command()
def main() -> None:
    """Create or upgrade the tables and declare the queues; safe to repeat."""
    with explained_exit("initdb"):
        settings = load()
        logs.configure(settings.LOG_LEVEL, settings.LOG_FORMAT)
        services = build(settings)
        install(services)
        services.close()
    print(f"initdb: {services.db.url.render_as_string(hide_password=True)} and the queue are ready")
