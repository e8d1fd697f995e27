"""What has to be there before anything runs: the tables and the queue's topology."""

import click

from mailbbgun import schema
from mailbbgun.base import logs
from mailbbgun.base.exits import explained_exit
from mailbbgun.base.settings import load
from mailbbgun.services import Services, build


def install(services: Services) -> None:
    """Create or upgrade the tables and declare the queues; safe to repeat. Raises :class:`DatabaseUnavailable`, :class:`QueueUnavailable`."""
    schema.upgrade(services.db)
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
