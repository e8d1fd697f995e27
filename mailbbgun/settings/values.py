"""Declares a setting, and converts its value to the setting's type and checks its bounds.

A wrong value is refused with a sentence that names the setting, the value and what would be right.
"""

import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import asdict, field, fields
from typing import Any, Literal, get_args, get_origin

from mailbbgun.core.errors import ConfigurationError
from mailbbgun.settings.timeouts import SMTPTimeouts

#: How many characters of a value a sentence shows.
SHOWN_SIZE = 100
TRUE, FALSE = {"1", "true", "yes", "on"}, {"0", "false", "no", "off"}


def setting(default: Any, doc: str, *, least: float | None = None, most: float | None = None) -> Any:
    """Return a field for a setting. ``least`` and ``most`` bound each of its numbers."""
    return field(default=default, metadata={"doc": doc, "least": least, "most": most})


def checked(name: str, value: Any, kind: Any, limits: Mapping[str, Any]) -> Any:
    """Return a setting's value as its type ``kind``, within its ``limits`` ("least" and "most").

    Raises :class:`ConfigurationError`. Its text shows nothing of a URL or of keys: only they have
    secrets.
    """
    if name.endswith(("_URL", "_KEYS", "_KEY")) and not _is_all_text(value, kind):
        kinds = "a string" if kind is str else "a list of strings"
        raise ConfigurationError(f"{name}: must be {kinds}; its value is not shown, because it may contain a password")
    try:
        converted = _converted(value, kind)
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"{name}: {error}") from error
    for label, number in _numbers(name, converted):
        if limits.get("least") is not None and number < limits["least"]:
            raise ConfigurationError(f"{label}: {shown(number)} is less than {limits['least']}")
        if limits.get("most") is not None and number > limits["most"]:
            raise ConfigurationError(f"{label}: {shown(number)} is more than {limits['most']}")
    return converted


def _is_all_text(value: Any, kind: Any) -> bool:
    return isinstance(value, str) or (
        kind is not str and isinstance(value, list | tuple) and all(isinstance(part, str) for part in value)
    )


def _numbers(name: str, value: Any) -> Iterator[tuple[str, float]]:
    """Yield each number of a setting, with a name for it in an error."""
    if isinstance(value, SMTPTimeouts):
        yield from ((f"{name}: {phase}", seconds) for phase, seconds in asdict(value).items())
    else:
        parts = value if isinstance(value, tuple) else (value,)
        yield from ((name, part) for part in parts if isinstance(part, int | float) and not isinstance(part, bool))


def _converted(value: Any, kind: Any) -> Any:
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            raise ValueError(f"{shown(value)} is not one of {', '.join(get_args(kind))}")
        return value
    if get_origin(kind) is tuple:
        parts = [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value
        if not isinstance(parts, list | tuple):
            raise TypeError(f"{shown(value)} is not a list: write [one, another], or 'one,another'")
        return tuple(_converted(part, get_args(kind)[0]) for part in parts)
    if kind is SMTPTimeouts:
        return _timeouts(value)
    if kind is bool:
        text = str(value).lower() if isinstance(value, str | int) else ""
        if text not in TRUE | FALSE:
            raise ValueError(f"{shown(value)} is not true or false")
        return text in TRUE
    return _number(value, kind) if kind in (int, float) else _text(value)


def _number(value: Any, kind: type[int] | type[float]) -> int | float:
    if isinstance(value, bool):
        raise ValueError(f"{value!r} is not a number")
    try:
        number = kind(value)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{shown(value)} is not a {'whole ' if _is_number(value) else ''}number") from None
    if number != number:  # NaN, which is within all limits
        raise ValueError(f"{value!r} is not a number")
    if isinstance(value, float) and number != value:
        raise ValueError(f"{value!r} is not a whole number")
    return number


def _is_number(value: Any) -> bool:
    try:
        return abs(float(value)) < float("inf")
    except (TypeError, ValueError, OverflowError):
        return False


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{shown(value)} is not a string")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError("is not UTF-8") from None
    if any(unicodedata.category(character) == "Cc" for character in value):
        raise ValueError("has a control character in it, a line break for example")
    return value


def shown(value: object) -> str:
    """Return a value for a sentence about it: in one line, and cut to SHOWN_SIZE characters."""
    try:
        text = repr(value)
    except ValueError:  # an integer of more digits than Python prints
        return "a number of thousands of digits"
    return text if len(text) <= SHOWN_SIZE else f"{text[:SHOWN_SIZE]}…"


def _timeouts(value: Any) -> SMTPTimeouts:
    """Read a mapping of phases to seconds, or ``phase=seconds,phase=seconds``."""
    if isinstance(value, str):
        pairs = [part.partition("=") for part in value.split(",") if part.strip()]
        value = {phase.strip(): seconds for phase, _, seconds in pairs}
    if not isinstance(value, Mapping):
        raise TypeError(f"{shown(value)} does not map phases to seconds")
    phases, given = [one.name for one in fields(SMTPTimeouts)], {}
    for phase, seconds in value.items():
        if phase not in phases:
            raise ValueError(f"unknown phase {shown(phase)}; there are {', '.join(phases)}")
        try:
            given[phase] = _converted(seconds, float)
        except ValueError as error:
            raise ValueError(f"{phase}: {error}") from error
    return SMTPTimeouts(**given)
