"""The command: it checks what the SMTP door needs, opens it, and closes it when told to stop."""

import asyncio
import os
import sys

import click

from mailbbgun.core import faults, logs
from mailbbgun.core.process import CONTEXT, explained_exit, few_arenas, no_core_dumps, version_option
from mailbbgun.preflight import preflight
from mailbbgun.settings.ports import check_ports
from mailbbgun.smtpd.listening import check_certificate, check_some_port, port_taken
from mailbbgun.smtpd.reopening import Reopening
from mailbbgun.startup import load_checked
from mailbbgun.supervisor import Supervisor, follow


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
        program = Reopening(settings, share, found=found)
        try:
            asyncio.run(program.serve())
        except OSError as error:  # another program has taken the port since
            sys.exit(f"smtpd: {error}")
        finally:
            program.close()
    # A thread may still wait for a database that does not answer. Whatever it stores has no answer.
    sys.stdout.flush()
    os._exit(0)
