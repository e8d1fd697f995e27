"""A request's body as a JSON object, parsed strictly. Pure."""

import json
import math
import re
from codecs import BOM_UTF8
from collections.abc import Iterator
from typing import Any

from mailbbgun.core.errors import MalformedBody, TooLarge
from mailbbgun.http.bad_input import kind_of, name_of, shown

#: How many objects and lists may be nested. Our own have four levels at most.
MOST_DEPTH = 32

#: Characters outside strings: those between values, blanks, numbers. A body with a thousand recipients, one on
#: each line, has 10,000. An entry takes two, and up to 50 µs of a schema's time.
MOST_STRUCTURE = 100_000

#: The largest integer that the databases store.
LARGEST_INTEGER = 2**63 - 1

#: Characters that PostgreSQL or UTF-8 cannot store: NUL and lone surrogates.
UNSTORABLE = re.compile("[\0\ud800-\udfff]")

_TOO_DEEP = f"The body is nested too deeply: {MOST_DEPTH} objects and lists inside each other are the most."

#: Characters of a string that are read in one piece. Other threads have a turn between two pieces.
PIECE = 256 * 1024

#: Characters of a text that is looked at in one piece: that is five times as fast.
WHOLE = 1024 * 1024

# A whole string; one that is not closed goes on to the end of the text.
_STRING = re.compile(r'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)', re.DOTALL)
# The rest of a string, from any place in it. Runs in linear time: it looks at no character twice.
_INSIDE = re.compile(r'(?:[^"\\]++|\\.)*+', re.DOTALL)


def parse_object(raw: bytes, most_structure: int = MOST_STRUCTURE) -> dict[str, Any]:
    """Parse a JSON object in UTF-8, as :func:`parse_value` does.

    Raises :class:`MalformedBody`, :class:`TooLarge`.
    """
    value = parse_value(raw, most_structure)
    if not isinstance(value, dict):
        raise MalformedBody(f'The body must be a JSON object, such as {{"name": "value"}}; it is {kind_of(value)}.')
    return value


def parse_value(raw: bytes, most_structure: int = MOST_STRUCTURE) -> Any:
    """Parse a JSON value in UTF-8 with at most ``most_structure`` characters outside strings.

    A byte order mark at its beginning is ignored (RFC 8259 §8.1). Refused are: more than
    :data:`MOST_DEPTH` levels, a key that is twice in one object, NaN and Infinity, integers beyond
    64 bits, and strings with a NUL or a lone surrogate. Raises :class:`MalformedBody`,
    :class:`TooLarge`.
    """
    raw = raw.removeprefix(BOM_UTF8)
    if not raw.strip():
        raise MalformedBody("The body is empty; it must be a JSON object.")
    text, value = _decoded(raw, most_structure)
    if isinstance(value, dict | list) and _deeper_than(MOST_DEPTH, value):
        raise MalformedBody(_TOO_DEEP)
    # NUL and surrogates can only come from a \u escape: the decoder refuses raw control characters,
    # UTF-8 refuses raw surrogates.
    if "\\u" in text and any(UNSTORABLE.search(string) for string in _strings(value)):
        raise MalformedBody(
            "The body has a string with a NUL (\\u0000) or half a surrogate pair (\\ud800 to \\udfff), "
            "which cannot be kept."
        )
    return value


def _decoded(raw: bytes, most: int) -> tuple[str, Any]:
    """Return the text of a body and its JSON value."""
    try:
        text = raw.decode()
        short = len(text) <= WHOLE
        if len(text) > most and (_structure_of_short(text) if short else _structure(text, most)) > most:
            raise TooLarge(f"The body has too many values: {most} characters outside strings are the most.")
        return text, _DECODER.decode(text)
    except UnicodeDecodeError as error:
        raise MalformedBody(
            f"The body is not UTF-8: byte {error.start + 1} begins no character. Send JSON in UTF-8."
        ) from error
    except RecursionError as error:
        raise MalformedBody(_TOO_DEEP) from error
    except json.JSONDecodeError as error:
        raise MalformedBody(
            f"The body is not valid JSON at line {error.lineno}, column {error.colno}: {error.msg}."
        ) from error
    except ValueError as error:
        raise MalformedBody(f"The body is not valid JSON: {error}.") from error


def _structure(text: str, most: int = MOST_STRUCTURE) -> int:
    """Return how many characters are outside strings, or a number beyond ``most``."""
    outside = place = 0
    while outside <= most and (quote := text.find('"', place)) >= 0:
        outside += quote - place
        place = _end_of_string(text, quote + 1)
    return outside + len(text) - place


def _structure_of_short(text: str) -> int:
    """Return how many characters are outside strings, for a text of up to :data:`WHOLE`."""
    return sum(map(len, _STRING.split(text)))


def _end_of_string(text: str, place: int) -> int:
    """Return the place after the string that ``place`` is in."""
    while place < len(text):
        rest = _INSIDE.match(text, place, place + PIECE)
        place = rest.end() if rest else place
        if text[place : place + 1] == '"':
            return place + 1
        if text[place : place + 1] == "\\":  # an escape across the border of two pieces
            place += 2
    return len(text)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]  # add returns None
        raise ValueError(f"the key {name_of(twice)} is twice in one object")
    return made


def _integer(digits: str) -> int:
    if len(digits) > 20 or abs(number := int(digits)) > LARGEST_INTEGER:
        raise ValueError(f"{shown(digits)[1:-1]} is an integer beyond 64 bits")
    return number


def _float(digits: str) -> float:
    if not math.isfinite(number := float(digits)):
        raise ValueError(f"{shown(digits)[1:-1]} is no number, or one that is too large")
    return number


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_int=_integer, parse_float=_float, parse_constant=_float)


def _deeper_than(most: int, value: Any) -> bool:
    level = [value]
    for _ in range(most):
        level = [
            below
            for one in level
            for below in (one.values() if isinstance(one, dict) else one)
            if isinstance(below, (dict, list))  # not a union, which takes twice as long
        ]
        if not level:
            return False
    return True


def _strings(value: Any) -> Iterator[str]:
    """Yield every string in a JSON value, keys too. Not recursive: the client decides the depth."""
    waiting = [value]
    while waiting:
        found = waiting.pop()
        if isinstance(found, str):
            yield found
        elif isinstance(found, dict | list):
            waiting += [*found, *found.values()] if isinstance(found, dict) else found
