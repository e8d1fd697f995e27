"""Sentences about bad input: each names the value given and says what would be right. Pure.

marshmallow says "Not a valid integer." and leaves the client to find the value. This module
replaces marshmallow's messages, for all schemas, by the type and the validators of the field. A
message that a validator of our own wrote stays, behind the value.

The value of a secret field is never repeated. Secret are fields that are only loaded, and fields
whose metadata has :data:`SECRET`.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass, replace
from difflib import get_close_matches
from enum import Enum
from itertools import islice
from typing import Any

from marshmallow import Schema, fields, missing, validate

#: Characters of a value, or of a name, that a sentence repeats.
SHOWN_SIZE = 60

#: Wrong fields that an error describes at most. A body may have a million.
MOST_FIELDS = 20

#: Metadata that marks a field as secret. It is also in the OpenAPI document.
SECRET: Mapping[str, bool] = {"x-secret": True}

EXAMPLE_ID = "019cdb4a-7c00-7000-8000-00000000002a"

_UNKNOWN = Schema._default_error_messages["unknown"]
_REQUIRED, _NULL = (fields.Field.default_error_messages[key] for key in ("required", "null"))
#: Every message of marshmallow's fields about a value of the wrong type.
DEFAULTS = frozenset(
    text
    for kind in vars(fields).values()
    if isinstance(kind, type) and issubclass(kind, fields.Field)
    for text in kind.default_error_messages.values()
) | {Schema._default_error_messages["type"]}
_OUT_OF_RANGE = re.compile(r"Must be (?:greater|less) than ")
_NO_CHOICE = re.compile(r"Must be one of: ")
_LENGTH = re.compile(r"(?:Shorter than minimum|Longer than maximum) length |Length must be ")

_ENCODER = json.JSONEncoder(ensure_ascii=False)


@dataclass(frozen=True, slots=True)
class _Place:
    """A place in the input where something is wrong.

    It has either the field there, or the schema that knows no such field.
    """

    path: str
    field: fields.Field[Any] | None
    schema: Schema | None
    value: Any
    noun: str  # field, parameter or header
    secret: bool = False  # the value must not be repeated

    def below(self, key: Any) -> "_Place":
        """Return the place of an entry in this one."""
        path = f"{self.path}.{key}" if self.path else str(key)
        value = _entry(self.value, key)
        if self.schema is not None:
            field = next((one for name, one in self.schema.fields.items() if (one.data_key or name) == key), None)
            schema = field.schema if isinstance(field, fields.Nested) else self.schema if field is None else None
            return replace(
                self, path=path, field=field, schema=schema, value=value, secret=self.secret or _is_secret(field)
            )
        inner: Any = None
        if isinstance(self.field, fields.List):
            inner = self.field.inner
        elif isinstance(self.field, fields.Dict):
            inner = self.field.value_field
        schema = inner.schema if isinstance(inner, fields.Nested) else None
        return replace(self, path=path, field=inner, schema=schema, value=value)


def sentences(messages: Any, schema: Schema, given: Any, noun: str = "field") -> dict[str, list[str]]:
    """Return our sentences for a schema's ``messages`` about ``given``, by field (``scopes.0``).

    At most :data:`MOST_FIELDS` fields. ``noun`` is what a field is called: field, parameter,
    header.
    """
    return dict(islice(_walk(messages, _Place("", None, schema, given, noun)), MOST_FIELDS))


def summed_up(wrong: Mapping[str, Sequence[str]]) -> str:
    """Return one sentence about all wrong fields: the only reason, or the fields' names."""
    (name, why), *more = wrong.items()
    if more or len(why) > 1:
        return f"Some fields are not valid: {listed([name_of(one) for one in islice(wrong, MOST_FIELDS)], 'and')}."
    return why[0] if name_of(name) in why[0] else f"{name_of(name)}: {why[0]}"


def shown(value: Any) -> str:
    """Return a value as JSON on one line: at most ``SHOWN_SIZE`` characters, all printable."""
    if isinstance(value, Enum):
        value = value.value
    if isinstance(value, str) and len(value) > SHOWN_SIZE:
        value = value[: SHOWN_SIZE - 1] + "…"
    pieces, size = [], 0
    for piece in _ENCODER.iterencode(value):  # stops early in a large list
        pieces.append(piece)
        size += len(piece)
        if size > SHOWN_SIZE + 2:
            break
    return printable("".join(pieces), SHOWN_SIZE + 2 if isinstance(value, str) else SHOWN_SIZE)


def name_of(text: Any) -> str:
    """Return a name that a client gave, in backquotes, for a sentence."""
    return f"`{printable(str(text))}`"


def printable(text: str, longest: int = SHOWN_SIZE) -> str:
    """Cut a text to its first characters, and escape those that do not print."""
    cut = text if len(text) <= longest else text[: longest - 1] + "…"
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in cut)


def nearest(name: str, names: Iterable[str]) -> str | None:
    """Return the one of ``names`` that is most like ``name``, in any case; None if none is like it."""
    known = {one.lower(): one for one in names}
    found = get_close_matches(name[:SHOWN_SIZE].lower(), known, n=1, cutoff=0.7)
    return known[found[0]] if found else None


def listed(names: Sequence[str], last: str = "or") -> str:
    """Return ``a, b or c``."""
    return f" {last} ".join(part for part in (", ".join(names[:-1]), names[-1]) if part) if names else "nothing"


def kind_of(value: Any) -> str:
    """Return the JSON type of a value, with its article."""
    kinds: tuple[tuple[Any, str], ...] = (
        (bool, "a boolean"), (int | float, "a number"), (str, "a string"), (list, "a list"), (Mapping, "an object")
    )  # fmt: skip
    return next((name for kind, name in kinds if isinstance(value, kind)), "null")


def _entry(value: Any, key: Any) -> Any:
    if isinstance(value, Mapping):
        return value.get(key, missing)
    if isinstance(value, list) and isinstance(key, int) and key < len(value):
        return value[key]
    return missing


def _is_secret(field: fields.Field[Any] | None) -> bool:
    return field is not None and (field.load_only or SECRET.keys() <= field.metadata.keys())


def _walk(messages: Any, place: _Place) -> Iterator[tuple[str, list[str]]]:
    if not isinstance(messages, Mapping):
        yield place.path, [_sentence(str(one), place) for one in messages]
        return
    for key, below in messages.items():
        if key == "_schema":
            yield from _walk(below, place)
        elif isinstance(place.field, fields.Dict) and isinstance(below, Mapping):
            for part in below.values():  # marshmallow's messages about the entry's "key" and "value"
                yield from _walk(part, place.below(key))
        else:
            yield from _walk(below, place.below(key))


def _sentence(message: str, place: _Place) -> str:
    name = name_of(place.path)
    if message == _REQUIRED:
        return f"{name} is required."
    if message == _NULL:
        return f"{name} must not be null." + ("" if place.field is None else f" It must be {_expected(place.field)}.")
    if message == _UNKNOWN:
        return _unknown(place)
    if place.field is None:
        return f"Must be an object; {shown(place.value)} is {kind_of(place.value)}." if message in DEFAULTS else message
    if message in DEFAULTS:
        return _wrong_type(place, place.field)
    if _OUT_OF_RANGE.match(message) or _NO_CHOICE.match(message):
        return f"Must be {_expected(place.field)}{_not(place)}."
    if _LENGTH.match(message):
        return _wrong_length(place, place.field)
    told = not place.secret and isinstance(place.value, str | int | float) and not _quoted(place.value, message)
    return f"{shown(place.value)}: {message}" if told else message


def _quoted(value: Any, message: str) -> bool:
    return shown(value) in message or repr(value) in message


def _not(place: _Place) -> str:
    return "" if place.secret or place.value is missing else f", not {shown(place.value)}"


def _unknown(place: _Place) -> str:
    assert place.schema is not None
    given = place.path.rpartition(".")[2]
    names = {name: field.data_key or name for name, field in place.schema.fields.items() if not field.dump_only}
    told = f"Unknown {place.noun} {name_of(given)}"
    near = names.get(given) or nearest(given, names.values())
    if near:
        return f"{told}; did you mean `{near}`?"
    if not names:
        return f"{told}; there is none here."
    known = listed([f"`{one}`" for one in names.values()], "and")
    return f"{told}; the {place.noun}s here are {known}."


def _wrong_type(place: _Place, field: fields.Field[Any]) -> str:
    expected, kind = _expected(field), kind_of(place.value)
    if place.noun == "field" and kind != _json_kind(field) and kind not in expected:
        return f"Must be {expected}; {'what was given' if place.secret else shown(place.value)} is {kind}."
    return f"Must be {expected}{_not(place)}."


def _wrong_length(place: _Place, field: fields.Field[Any]) -> str:
    rule = next(one for one in field.validators if isinstance(one, validate.Length))
    what = "entries" if isinstance(field, fields.List) else "characters"
    expected = f"Must have {_between(rule.equal or rule.min, rule.equal or rule.max)} {what}"
    expected = expected.replace("at least 1 entries", "at least one entry").replace(
        "at least 1 characters", "at least one character"
    )
    if not isinstance(place.value, Sized):
        return f"{expected}."
    has = len(place.value) or "none"
    return (
        f"{expected}, not {has}."
        if place.secret or isinstance(field, fields.List)
        else f"{expected}; {shown(place.value)} has {has}."
    )


def _between(least: Any, most: Any) -> str:
    if most is None:
        return f"at least {least}"
    if least is None or least == most:
        return f"at most {most}" if least is None else f"{least}"
    return f"{least} to {most}"


def _json_kind(field: fields.Field[Any]) -> str:
    kinds: tuple[tuple[Any, str], ...] = (
        (fields.Boolean, "a boolean"), (fields.Number, "a number"), (fields.List, "a list"),
        (fields.Dict | fields.Nested, "an object"),
    )  # fmt: skip
    return next((name for kind, name in kinds if isinstance(field, kind)), "a string")


def _expected(field: fields.Field[Any]) -> str:
    """Return what would be right in a field, with its example or range.

    A field's class may say so itself, by an attribute ``expected``.
    """
    example = field.metadata.get("example")
    such = "" if example is None else f", such as {shown(example)}"
    if own := getattr(field, "expected", None):
        return own if " such as " in own else f"{own}{such}"
    if choices := _choices(field):
        return listed(choices)
    return next(say(field, such) for kind, say in _EXPECTED if isinstance(field, kind))


def _choices(field: fields.Field[Any]) -> list[str]:
    if isinstance(field, fields.Enum):
        return [str(one.value) for one in field.enum]
    return next(
        ([str(one) for one in rule.choices] for rule in field.validators if isinstance(rule, validate.OneOf)), []
    )


def _number(field: fields.Field[Any], _: str) -> str:
    what = "an integer" if isinstance(field, fields.Integer) else "a number"
    rule = next((one for one in field.validators if isinstance(one, validate.Range)), None)
    if rule is None:
        return what
    if rule.min is not None and not rule.min_inclusive:
        return f"{what} above {rule.min}" + ("" if rule.max is None else f", {_between(None, rule.max)}")
    return (
        f"{what} from {rule.min} to {rule.max}"
        if rule.min is not None and rule.max is not None
        else f"{what}, {_between(rule.min, rule.max)}"
    )


_EXPECTED: Sequence[tuple[type[fields.Field[Any]], Callable[[fields.Field[Any], str], str]]] = (
    (fields.Number, _number),
    (fields.Boolean, lambda _, such: "true or false"),
    (fields.UUID, lambda _, such: f"a UUID, such as {EXAMPLE_ID}"),
    (fields.List, lambda _, such: f"a list{such}"),
    (fields.Dict, lambda _, such: f"an object{such}"),
    (fields.Nested, lambda _, such: f"an object{such}"),
    (fields.Field, lambda _, such: f"a string{such}"),
)
