"""Paths in settings: every program reads the same file or folder, whatever folder it was started in and whoever started it.

A relative path starts at the project's folder. ``~`` and ``$HOME`` are refused: only shells expand them, and they would mean another folder
for the service's user than for the sysadmin's.
"""

import re
from pathlib import Path
from urllib.parse import quote, unquote

from mailbbgun.core.errors import ConfigurationError

_SHELL = re.compile(r"~[\w.-]*(/|$)|\$\w|\$\{")  # what a shell expands at the beginning of a path
_SQLITE = re.compile(r"(sqlite(?:\+\w+)?:///)([^?]*)(.*)", re.IGNORECASE | re.DOTALL)


def of_folder(path: str, project: Path) -> str:
    """Return VAR as an absolute path. Raises :class:`ConfigurationError`."""
    if not path:
        raise ConfigurationError("VAR: must name a folder")
    return of_file("VAR", path, project)


def of_file(name: str, path: str, project: Path) -> str:
    """Return a setting's path as an absolute one; "" stays. Raises :class:`ConfigurationError` if a shell would have to expand it."""
    if _SHELL.match(path):
        start = path.partition("/")[0]
        raise ConfigurationError(
            f"{name}: {path!r} begins with {start}, which only a shell expands: write the whole path, from / on"
        )
    return str(project / path) if path else ""


def of_database(url: str, project: Path) -> str:
    """Return DATABASE_URL with the absolute path of a SQLite file; other URLs as they are. Raises :class:`ConfigurationError`."""
    found = _SQLITE.fullmatch(url)
    if not found or found[2] in ("", ":memory:") or found[2].startswith(("/", "file:")):
        return url
    path = of_file("DATABASE_URL", unquote(found[2]), project)
    return f"{found[1]}{quote(path)}{found[3]}"


def hint(path: str) -> str:
    """Return what to add to "there is no file" if a shell should have expanded the path; else ""."""
    unexpanded = any(_SHELL.match(part) for part in Path(path).parts)
    return "; only a shell expands ~ and $, and not within quotes: write the whole path" if unexpanded else ""
