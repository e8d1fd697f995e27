"""The settings a running API keeps.

gunicorn's master reads and checks them, at the start and again on SIGHUP. The processes it forks inherit them and must not read
``config.py`` themselves: one that takes the place of a dead one, while somebody edits the file, would differ from the others or
could not start, and gunicorn ends all when one cannot.
"""

from dataclasses import dataclass

from mailbbgun.settings.settings import Settings, load


@dataclass(frozen=True, slots=True)
class Running:
    """What the master has found."""

    settings: Settings
    database_found: bool  # and right; else each process looks until it is


_kept: list[Running] = []  # gunicorn hands nothing from its configuration file to the application


def keep(settings: Settings, *, database_found: bool) -> None:
    """Let this process, and those it forks from now on, run with these settings."""
    _kept[:] = [Running(settings, database_found)]


def current() -> Running:
    """Return what was kept. In a program that keeps nothing: the settings as :func:`load` reads them now, and a database that is there.

    Raises :class:`ConfigurationError`.
    """
    return _kept[0] if _kept else Running(load(), database_found=True)
