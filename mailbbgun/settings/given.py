"""Finds the settings among the names in ``config.py`` and in the environment.

A misspelt setting must not be ignored in silence. So a name that is neither a setting nor plainly
something else is an error.
"""

import ast
import difflib
import re
import traceback
from collections.abc import Collection, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from mailbbgun.core.errors import ConfigurationError

PREFIX = "MAILBBGUN_"
#: A helper's name that resembles a setting's this much is taken for a misspelt setting. difflib's
#: ratio, 0 to 1.
SURE = 0.8
#: A setting is suggested if its name resembles an unknown name this much. difflib's ratio, 0 to 1.
LIKELY = 0.6

# Kubernetes and Docker set variables for each service. Those of a service called mailbbgun or
# mailbbgun-api have our prefix. Their names or values show what they are.
_SERVICE_NAMES = re.compile(
    r"MAILBBGUN(_\w+?)??_("
    r"SERVICE_(HOST|PORT(_\w+)?)"  # Kubernetes
    r"|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR)(_START|_END)?)?"  # both
    r"|PORT_\d+_(TCP|UDP|SCTP)_(START|END)"
    r"|ENV_\w+"  # Docker's links
    r")"
)
_SERVICE_VALUES = {"_PORT": re.compile(r"(tcp|udp|sctp)://\S+"), "_NAME": re.compile(r"/\S+/\S+")}


def from_environment(environ: Mapping[str, str], known: Collection[str], others: Collection[str]) -> dict[str, str]:
    """Return the settings among environment variables, by their names without the prefix.

    ``known`` are the names of all settings. ``others`` are variables with our prefix that are not
    settings. Raises :class:`ConfigurationError` for any other variable with our prefix.
    """
    values = {}
    for variable, value in environ.items():
        if not variable.upper().startswith(PREFIX) or variable in others or _of_a_service(variable, value):
            continue
        name = variable[len(PREFIX) :]
        if variable.startswith(PREFIX) and name in known:
            values[name] = value
        elif variable.startswith(PREFIX) or name.upper() in known:
            raise ConfigurationError(f"{variable}: unknown setting{_meant(name, known, PREFIX)}")
    return values


def from_file(file: Path, known: Collection[str]) -> dict[str, Any]:
    """Run a ``config.py`` and return the settings that it assigns.

    ``known`` are the names of all settings.

    Raises :class:`ConfigurationError` with the line that fails, or with the first name that is not
    a setting; ``FileNotFoundError`` if there is no file.
    """
    try:
        source = file.read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise FileNotFoundError(str(file)) from error
    except OSError as error:
        raise ConfigurationError(f"{file}: cannot be read: {error.strerror}") from error
    values: dict[str, Any] = {"__file__": str(file), "__name__": "config"}
    try:
        tree = ast.parse(source, str(file))
        exec(compile(tree, str(file), "exec"), values)  # noqa: S102 - the sysadmin's own file
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # also SystemExit, which would end the program without a word
        raise ConfigurationError(f"{file}{_line(error, file)}: {type(error).__name__}: {error}") from error
    names = _Names(tree)
    for name in names.without_value - values.keys():
        if name in known:
            raise ConfigurationError(f"{file}: {name} has no value: write {name} = …")
    for name, value in values.items():
        if name not in known and not _is_a_helper(name, value, names, known):
            raise ConfigurationError(f"{file}: {name}: unknown setting{_meant(name, known)}")
    return {name: value for name, value in values.items() if name in known}


class _Names(ast.NodeVisitor):
    """The names in a file.

    ``read`` are those whose value is used, ``imported`` those of ``from … import name``, and
    ``without_value`` those that are only annotated (``SMTP_URL: "…"``).
    """

    def __init__(self, tree: ast.Module) -> None:
        self.read: set[str] = set()
        self.imported: set[str] = set()
        self.without_value: set[str] = set()
        self.visit(tree)

    def visit_Name(self, node: ast.Name) -> None:
        """Note a name whose value is used."""
        if isinstance(node.ctx, ast.Load):
            self.read.add(node.id)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        """Note names that are imported."""
        self.imported |= {alias.asname or alias.name for alias in node.names}

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        """Note a name that is only annotated."""
        if node.value is None and isinstance(node.target, ast.Name):
            self.without_value.add(node.target.id)
        self.generic_visit(node)


def _is_a_helper(name: str, value: object, names: _Names, known: Collection[str]) -> bool:
    """Return whether a name that is not a setting is plainly not meant as one.

    Such are names with a leading underscore, modules, functions and classes; names in lower case
    that the file itself uses or that resemble no setting; and imported constants that resemble no
    setting.
    """
    if name.startswith("_") or isinstance(value, ModuleType) or callable(value):
        return True
    resembles = bool(difflib.get_close_matches(name.upper(), known, 1, SURE))
    if name == name.lower():
        return name in names.read or not resembles
    return name in names.imported and not resembles


def _of_a_service(variable: str, value: str) -> bool:
    """Return whether Kubernetes or Docker set this variable for a service."""
    if _SERVICE_NAMES.fullmatch(variable):
        return True
    return any(variable.endswith(end) and shape.fullmatch(value) for end, shape in _SERVICE_VALUES.items())


def _meant(name: str, known: Collection[str], prefix: str = "") -> str:
    """Return an addition to "unknown setting": the setting that was probably meant."""
    nearest = difflib.get_close_matches(name.upper(), known, 1, LIKELY)
    return f"; did you mean {prefix}{nearest[0]}?" if nearest else "; config.py.sample lists all settings"


def _line(error: BaseException, file: Path) -> str:
    """Return the line of the file that failed, as an addition to its name; "" if unknown."""
    if isinstance(error, SyntaxError):
        return ""  # its text has the line
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)]
    return f", line {lines[-1]}" if lines else ""
