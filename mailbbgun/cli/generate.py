"""``bin/generate-keys``: new keys for ``ENCRYPTION_KEYS``. Needs no settings and no database, so it can be run before there are any."""

import click

from mailbbgun.core.process import CONTEXT, version_option
from mailbbgun.database.crypto import new_key


@click.command(context_settings=CONTEXT)
@version_option
@click.option("--count", type=click.IntRange(1, 1000), default=1, show_default=True, help="How many keys to print.")
def main(count: int) -> None:
    """Print new keys for ENCRYPTION_KEYS, one a line."""
    for _ in range(count):
        click.echo(new_key())
