"""The command: it listens, and catches mail until it is told to stop."""

import asyncio
import logging
import resource
import sys

import click

from mailbbgun.catcher.catcher import MAX_CONNECTIONS, Catcher
from mailbbgun.catcher.conversation import Conversation
from mailbbgun.core import logs
from mailbbgun.core.errors import ConfigurationError
from mailbbgun.core.process import CONTEXT, explained_exit, heeded, version_option
from mailbbgun.exposure import cannot_listen, taken
from mailbbgun.mailboxes.maildir import Maildir
from mailbbgun.settings.load import load
from mailbbgun.settings.settings import Settings

#: Files that may be open beside the connections.
OTHER_FILES = 64

#: Seconds that messages get to be received when the catcher is told to stop.
STOP_SECONDS = 3.0

log = logging.getLogger("mailbbgun.catcher")


@click.command(context_settings=CONTEXT)
@version_option
def main() -> None:
    """Catch mail in the foreground and keep it in VAR/mail, until told to stop."""
    with explained_exit("catcher"):
        settings = load()
        logs.configure(settings.LOG_LEVEL, settings.LOG_FORMAT)
        if refused := taken(settings.CATCHER_HOST, settings.CATCHER_PORT, "CATCHER_PORT"):
            sys.exit(f"catcher: {refused}")
        maildir = _maildir(settings)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    try:
        asyncio.run(serve(settings, maildir, max(1, min(MAX_CONNECTIONS, most - OTHER_FILES))))
    except OSError as error:  # for example, another program has taken the port since
        sys.exit(f"catcher: {cannot_listen(settings.CATCHER_HOST, settings.CATCHER_PORT, 'CATCHER_PORT', error)}")


async def serve(settings: Settings, maildir: Maildir, most: int = MAX_CONNECTIONS) -> None:
    """Catch mail until told to stop, on at most ``most`` connections at once.

    Raises ``OSError`` if it cannot listen on the address.
    """
    loop, stopped = asyncio.get_running_loop(), asyncio.Event()
    for one in heeded():
        loop.add_signal_handler(one, stopped.set)
    catcher = Catcher(maildir, most)
    server = await loop.create_server(
        lambda: Conversation(catcher), settings.CATCHER_HOST, settings.CATCHER_PORT, backlog=MAX_CONNECTIONS
    )
    log.info(
        "catching", extra={"host": settings.CATCHER_HOST, "port": settings.CATCHER_PORT, "maildir": maildir.folder}
    )
    await stopped.wait()
    server.close()
    until = loop.time() + STOP_SECONDS
    while catcher.receiving and loop.time() < until:
        await asyncio.sleep(0.02)


def _maildir(settings: Settings) -> Maildir:
    maildir = Maildir(settings.var / "mail", settings.CATCHER_MOST, settings.CATCHER_SIZE)
    try:
        maildir.make()
    except OSError as error:
        raise ConfigurationError(f"VAR: the folder {maildir.folder} cannot be made: {error.strerror}") from error
    return maildir
