"""``bin/generate-keys``: makes new keys for ``ENCRYPTION_KEYS``.

It needs neither settings nor a database, so it can run before either exists.
"""

import click

from mailbbgun.core.process import CONTEXT, version_option
from mailbbgun.database.crypto import new_key


@click.command(context_settings=CONTEXT)
@version_option
@click.option("--count", type=click.IntRange(1, 1000), default=1, show_default=True, help="Number of keys.")
def main(count: int) -> None:
    """Print new keys for ENCRYPTION_KEYS, one per line."""
    for _ in range(count):
        click.echo(new_key())
