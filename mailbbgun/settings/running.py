"""Keeps the settings of a running API.

gunicorn's master process reads and checks them at the start, and again on SIGHUP. The processes
that it forks inherit them and must not read ``config.py`` themselves. Otherwise a process that
replaces a dead one, while somebody edits the file, could differ from the others, or fail to start.
If one process cannot start, gunicorn ends all of them.
"""

import time
from dataclasses import dataclass

from mailbbgun.settings.load import load
from mailbbgun.settings.settings import Settings


@dataclass(frozen=True, slots=True)
class Running:
    """The settings, and what the master process found out with them."""

    settings: Settings
    database_found: bool  # the database is there and right; if not, each process waits until it is


#: When this program began, in seconds since 1970. Processes that are forked later have the time of the first one.
BEGAN = time.time()

# Module state, because gunicorn passes nothing from its configuration file to the application.
_kept: list[Running] = []


def keep(settings: Settings, *, database_found: bool) -> None:
    """Keep these settings for this process and for those that it forks from now on."""
    _kept[:] = [Running(settings, database_found)]


def current() -> Running:
    """Return the kept settings.

    If none are kept (the program is not gunicorn), load them and take the database to be there.
    Raises :class:`ConfigurationError`.
    """
    return _kept[0] if _kept else Running(load(), database_found=True)
