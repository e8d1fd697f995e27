"""Reads the ``X-MBG-`` fields of a mail's header, by which a client says what JSON says with the HTTP API."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from email.errors import HeaderParseError
from email.header import decode_header, make_header
from typing import Any

from marshmallow import ValidationError

from mailbbgun.accept.fields import SHAPES, Options
from mailbbgun.accept.mime.raw import HEADER_SIZE
from mailbbgun.core.errors import InvalidInput
from mailbbgun.http.strict_json import parse_object

PREFIX = b"x-mbg-"
#: Octets of such a field, at most: JSON of 64 KB of variables, folded.
LONGEST = 80_000

_FIELD = re.compile(rb"([!-9;-~]+)[ \t]*:(.*)", re.DOTALL)
_UNFOLDED = re.compile(rb"\r\n(?![ \t])")

#: Each field with the name of its option in Python. More than one tag may be given.
_OPTIONS = {"tag": "tags", "metadata": "metadata", "send-at": "send_at", "priority": "priority"}
_OF_TEMPLATES = {"template": "template", "variables": "variables"}
_JSON = frozenset({"metadata", "variables"})
_NAMED = {"idempotency-key": "idempotency_key", "track": "track", **_OPTIONS, **_OF_TEMPLATES}

#: What clients call the fields of a submission and its options.
NAMES: Mapping[str, str] = {
    **{python: f"X-MBG-{'-'.join(part.title() for part in name.split('-'))}" for name, python in _NAMED.items()},
    "Idempotency-Key": "X-MBG-Idempotency-Key",
    "track_opens": "X-MBG-Track",
    "track_clicks": "X-MBG-Track",
}


@dataclass(frozen=True, slots=True)
class Orders:
    """What the ``X-MBG-`` fields of a mail ask for."""

    options: Options
    #: Fields of a submission to compose: ``template``, ``variables``, ``track_opens``, ``track_clicks``.
    fields: Mapping[str, Any]


def taken_out(content: bytes) -> tuple[bytes, Orders | None]:
    """Return a mail without its ``X-MBG-`` fields, and what they ask for; None if it has none.

    A header that is too large for any mail is not read: the checks of finished MIME refuse it.
    Raises :class:`InvalidInput` that names a field that is wrong.
    """
    end = content.find(b"\r\n\r\n")
    head = content[: end + 2] if end >= 0 else content
    if len(head) > HEADER_SIZE or PREFIX not in head.lower():
        return content, None
    given: dict[str, list[bytes]] = {}
    kept = []
    for field in _UNFOLDED.split(head)[:-1]:
        found = _FIELD.match(field)
        if found and found[1].lower().startswith(PREFIX):
            given.setdefault(found[1][len(PREFIX) :].decode().lower(), []).append(found[2])
        else:
            kept.append(field + b"\r\n")
    if not given:
        return content, None
    return b"".join(kept) + content[len(head) :], _orders(given)


def _orders(given: Mapping[str, Sequence[bytes]]) -> Orders:
    options: dict[str, Any] = {}
    fields: dict[str, Any] = {}
    for name, values in given.items():
        if name not in _NAMED:
            raise _wrong(name, "No such field is known; " + ", ".join(sorted({*NAMES.values()})) + " are.")
        if len(values) > 1 and name != "tag":
            raise _wrong(name, "Is given more than once.")
        texts = [_text(name, value) for value in values]
        if name == "tag":
            options["tags"] = texts
        elif name == "idempotency-key":
            options["idempotency_key"] = texts[0]
        elif name == "track":
            fields |= _tracked(texts[0])
        else:
            (options if name in _OPTIONS else fields)[_NAMED[name]] = _value(name, texts[0])
    if "variables" in fields and "template" not in fields:
        raise _wrong("variables", "Is for a template: name that in X-MBG-Template.")
    return Orders(Options(**options), fields)


def _value(name: str, text: str) -> Any:
    """Return the value of a field as in JSON."""
    try:
        if name in _JSON:
            return parse_object(text.encode())
        if name == "priority":
            return SHAPES["priority"].deserialize(int(text))
        return SHAPES[_NAMED[name]].deserialize(text)
    except (ValidationError, InvalidInput, ValueError) as error:
        why = error.messages if isinstance(error, ValidationError) else str(error)
        raise _wrong(name, str(why[0] if isinstance(why, list) and why else why)) from error


def _tracked(text: str) -> Mapping[str, bool]:
    words = {one.strip().lower() for one in text.split(",")}
    if not words <= {"opens", "clicks"}:
        raise _wrong("track", "Is opens, or clicks, or both with a comma.")
    return {f"track_{one}": True for one in sorted(words)}


def _text(name: str, value: bytes) -> str:
    """Return the text of a field, unfolded, with its encoded words decoded (RFC 2047)."""
    if len(value) > LONGEST:
        raise _wrong(name, f"Has {len(value)} octets, and {LONGEST} are the most.")
    try:
        text = value.replace(b"\r\n", b"").decode().strip()
        text = str(make_header(decode_header(text))) if "=?" in text and name not in _JSON else text
    except (UnicodeDecodeError, LookupError, ValueError, HeaderParseError) as error:
        raise _wrong(name, "Is no text that can be read: UTF-8, or encoded words (RFC 2047).") from error
    if not text:
        raise _wrong(name, "Is empty.")
    return text


def _wrong(name: str, why: str) -> InvalidInput:
    return InvalidInput("An X-MBG- field is not valid.", fields={_NAMED.get(name, f"X-MBG-{name}"): [why]})
