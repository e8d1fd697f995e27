"""Makes paths in settings absolute.

So every program means the same file, whatever folder it was started in and whoever started it. A
relative path starts at the project's folder. ``~`` and ``$HOME`` are refused: only shells expand
them, and they would mean one folder for the service's user and another one for the sysadmin.
"""

import os
import re
from pathlib import Path
from urllib.parse import quote, unquote

from mailbbgun.core.errors import ConfigurationError

#: The project's folder, the one of api.py.
PROJECT = Path(__file__).resolve().parents[2]

_SHELL = re.compile(r"~[\w.-]*(/|$)|\$\w|\$\{")  # beginnings of a path that a shell expands
_SQLITE = re.compile(r"(sqlite(?:\+\w+)?:///)([^?]*)(.*)", re.IGNORECASE | re.DOTALL)


def of_folder(path: str, project: Path) -> str:
    """Return VAR as an absolute path. Raises :class:`ConfigurationError`."""
    if not path:
        raise ConfigurationError("VAR: must name a folder")
    return of_file("VAR", path, project)


def of_file(name: str, path: str, project: Path) -> str:
    """Return a setting's path as an absolute one; "" stays "".

    Raises :class:`ConfigurationError` for a path that only a shell expands.
    """
    if _SHELL.match(path):
        start = path.partition("/")[0]
        raise ConfigurationError(
            f"{name}: {path!r} begins with {start}, which only a shell expands: write the whole path, from / on"
        )
    return str(project / path) if path else ""


def of_database(url: str, project: Path) -> str:
    """Return DATABASE_URL with the absolute path of a SQLite file; other URLs as they are.

    Raises :class:`ConfigurationError`.
    """
    found = _SQLITE.fullmatch(url)
    if not found or found[2] in ("", ":memory:") or found[2].startswith(("/", "file:")):
        return url
    path = of_file("DATABASE_URL", unquote(found[2]), project)
    return f"{found[1]}{quote(path)}{found[3]}"


def why_closed(path: Path) -> str:
    """Say which folder above a path this user may not enter; "" if it may enter all that exist.

    Ask it before ``exists()`` and the like, which raise ``PermissionError`` below such a folder.
    """
    for folder in reversed(path.parents):
        if os.path.exists(folder) and not os.access(folder, os.X_OK):
            return f"the folder {str(folder)!r} is closed to this user, who must own it and all that is in it"
    return ""


def hint(path: str) -> str:
    """Return an addition to "there is no file" for a path that only a shell expands; else ""."""
    unexpanded = any(_SHELL.match(part) for part in Path(path).parts)
    return "; only a shell expands ~ and $, and not within quotes: write the whole path" if unexpanded else ""
