"""The command ``mailbbgun``: its groups of commands, and shell completion."""

import click
from click.shell_completion import get_completion_class

from mailbbgun.cli.accounts import account
from mailbbgun.cli.audit import audit
from mailbbgun.cli.files import files
from mailbbgun.cli.keys import key
from mailbbgun.cli.licences import licence
from mailbbgun.cli.mail.batches import batch
from mailbbgun.cli.mail.domains import domain
from mailbbgun.cli.mail.events import events
from mailbbgun.cli.mail.exports import export
from mailbbgun.cli.mail.inbound_routes import inbound_route
from mailbbgun.cli.mail.mailboxes import mailbox
from mailbbgun.cli.mail.messages import message
from mailbbgun.cli.mail.send import send
from mailbbgun.cli.mail.statistics import statistics
from mailbbgun.cli.mail.suppressions import suppression
from mailbbgun.cli.mail.templates import template
from mailbbgun.cli.notify.alerts import alert
from mailbbgun.cli.notify.slack import slack
from mailbbgun.cli.notify.webhooks import webhook
from mailbbgun.cli.service.blobs import blobs
from mailbbgun.cli.service.configuration import config, restart
from mailbbgun.cli.service.encryption import encryption, keys
from mailbbgun.cli.service.status import status
from mailbbgun.cli.tenants import tenant
from mailbbgun.cli.terminal import PROGRAM
from mailbbgun.core.process import CONTEXT, version_option

SHELLS = ("bash", "zsh", "fish")


@click.group(context_settings=CONTEXT)
@version_option
def main() -> None:
    """Messages, mailboxes, inbound routes, files, templates, tenants, keys, SMTP accounts, domains, webhooks, settings.

    Works on the database that the settings name, whether or not the service runs. Exit codes: 0
    done, 1 not done, 2 wrong usage, 78 a setting is wrong.
    """


@main.command()
@click.argument("shell", type=click.Choice(SHELLS))
def completion(shell: str) -> None:
    """Print the script that makes SHELL complete this command: eval "$(bin/mailbbgun completion
    bash)".
    """
    made = get_completion_class(shell)
    assert made is not None  # click supports all three
    click.echo(made(main, {}, PROGRAM, f"_{PROGRAM.upper()}_COMPLETE").source())


_OF_MAIL = (status, statistics, export, message, events, batch, send, template, suppression, slack)
_OF_TENANTS = (tenant, key, account, domain, mailbox, inbound_route, webhook, alert, licence, files, audit)
_OF_THE_SERVICE = (config, restart, blobs, encryption, keys)

for command in (*_OF_MAIL, *_OF_TENANTS, *_OF_THE_SERVICE):
    main.add_command(command)
