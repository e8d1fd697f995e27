"""Renders templates by MiniJinja, with every cost bounded.

:mod:`mailbbgun.template_language.language` refuses what could cost much in one step; the engine's fuel bounds
the number of steps, the bytes printed, and what the filters read. A render ends within about 50 ms
of CPU in the worst case known, and takes 5 to 30 µs in the usual one. It needs no process of its own.
"""

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from typing import Any, NamedTuple
from uuid import UUID

from markupsafe import Markup, escape
from minijinja import Environment, TemplateError

from mailbbgun.core.errors import InvalidInput, TooLarge
from mailbbgun.template_language import language
from mailbbgun.template_language.expression import FUNCTIONS
from mailbbgun.template_language.tokens import LanguageFault

#: Characters of a subject's template, and of a body's, at most.
SUBJECT_SIZE, BODY_SIZE = 2_000, 500_000
#: Weight of a mail's variables, at most: about their bytes as JSON. And objects and lists inside each other.
VARIABLES_SIZE, VARIABLES_DEPTH = 64 * 1024, 10
#: Compiled templates that a process keeps.
KEPT_TEMPLATES = 512

#: Steps that a body may take, by the weight of the variables: the heavier they are, the more a step may cost.
#: A row of a table with four columns takes 27; 64 bytes of output take one.
_KIB = 1024
_FUEL = (
    (8 * _KIB, 25_000),
    (12 * _KIB, 17_000),
    (16 * _KIB, 12_500),
    (24 * _KIB, 9_000),
    (32 * _KIB, 6_200),
    (VARIABLES_SIZE, 3_500),
)
#: The weight of light variables, at most, and the steps that a body may take with them.
LIGHTEST = _FUEL[0]

#: Characters of a variable that make it a long text, steps that a body may take with one, and a subject.
_LONG_TEXT, _LONG_TEXT_FUEL, _SUBJECT_FUEL = 16 * 1024, 2_500, 2_000

#: What is printed as it is. Markup is text that a filter has escaped, or ``safe`` has declared to be HTML.
_PRINTED = frozenset((str, int, float, bool, Markup))
_SPACE = re.compile(r"[\s\x1c-\x1f\x85\u2028\u2029]+")
_QUOTED = re.compile(r"`([\w.]+)` is undefined")


class TemplateRefused(InvalidInput):
    """A template cannot be used, or not with these variables. ``fields`` says which part and why."""

    code = "template_error"


class Sources(NamedTuple):
    """The texts of a template. ``text`` or ``html`` may be None; ``locale`` is that of the variant."""

    subject: str
    text: str | None = None
    html: str | None = None
    locale: str | None = None
    version_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class Rendered:
    """What a mail says. A part that the template lacks is None."""

    subject: str
    text: str | None
    html: str | None


class _Part(NamedTuple):
    """One compiled text of a template."""

    name: str
    environment: Environment


class _PartRefused(Exception):
    """One part cannot be rendered. The sentence says why."""


class _Refusal(ValueError):
    """A value cannot be printed or formatted. The sentence is for the author of the template."""


def check(sources: Sources) -> None:
    """Compile the texts of a template. Raises :class:`TemplateRefused`, with the line of each fault."""
    faults = {name: [why] for name, source in _texts(sources) if (why := _fault_of(name, source))}
    if faults:
        raise TemplateRefused("The template cannot be used.", fields=faults)


def render(sources: Sources, variables: Mapping[str, Any]) -> Rendered:
    """Fill in the variables of one mail: a mapping as JSON has them. Thread-safe.

    The subject is one line whatever the variables hold. Raises :class:`TemplateRefused` if the template is
    faulty, or a variable that it needs is missing; :class:`TooLarge` if the variables are.
    """
    parts = _compiled(sources, _fuel_for(variables))
    try:
        texts = [_rendered(part, variables) for part in parts]
    except _PartRefused:
        raise _refused(parts, variables) from None
    subject, *bodies = texts
    text = bodies.pop(0) if sources.text is not None else None
    return Rendered(_subject(subject), text, bodies[0] if bodies else None)


def names(sources: Sources) -> tuple[str, ...]:
    """Return the names of the variables that a template uses, sorted, such as ``name`` and ``order.id``.

    Raises :class:`TemplateRefused` as :func:`check` does.
    """
    found: set[str] = set()
    for part in _compiled(sources, _SUBJECT_FUEL):
        found |= part.environment.undeclared_variables_in_template(part.name, True)
    return tuple(sorted(name for name in found if name.partition(".")[0] not in FUNCTIONS))


def weigh(variables: Mapping[str, Any]) -> int:
    """Return the weight of a mail's variables: about their bytes as JSON.

    Raises :class:`TooLarge` beyond :data:`VARIABLES_SIZE`, :class:`TemplateRefused` beyond :data:`VARIABLES_DEPTH`.
    """
    weight = _weight(variables, VARIABLES_DEPTH)
    if weight > VARIABLES_SIZE:
        raise TooLarge(
            f"variables: they are about {weight} bytes, and {VARIABLES_SIZE} are the most. "
            "Long texts belong into the template or an attachment."
        )
    return weight


def _weight(value: Any, depth: int) -> int:
    kind = type(value)
    if kind is str:
        return len(value) * (1 if value.isascii() else 3) + 3
    if kind is not dict and kind is not list:
        return 8
    if not depth:
        why = f"{VARIABLES_DEPTH} objects and lists inside each other are the most."
        raise TemplateRefused("The variables are nested too deeply.", fields={"variables": [why]})
    if kind is list:
        return sum([_weight(one, depth - 1) for one in value]) + 2
    return sum([len(name) + 4 + _weight(one, depth - 1) for name, one in value.items()]) + 2


def _fuel_for(variables: Mapping[str, Any]) -> int:
    weight = weigh(variables)
    for most, fuel in _FUEL:  # noqa: B007 - the loop always breaks: weigh refuses heavier variables
        if weight <= most:
            break
    return _LONG_TEXT_FUEL if weight > _LONG_TEXT and _has_long_text(variables) else fuel


def _has_long_text(value: Any) -> bool:
    if isinstance(value, dict):
        return any(len(name) > _LONG_TEXT or _has_long_text(one) for name, one in value.items())
    if isinstance(value, list):
        return any(_has_long_text(one) for one in value)
    return isinstance(value, str) and len(value) > _LONG_TEXT


def _texts(sources: Sources) -> Iterator[tuple[str, str]]:
    """Yield the name and text of each part that there is."""
    yield "subject", sources.subject
    if sources.text is not None:
        yield "text", sources.text
    if sources.html is not None:
        yield "html", sources.html


def _fault_of(name: str, source: str) -> str:
    most = SUBJECT_SIZE if name == "subject" else BODY_SIZE
    if len(source) > most:
        return f"Has {len(source)} characters, and {most} are the most."
    try:
        language.check(source)
        _part(name, source, _SUBJECT_FUEL)
    except LanguageFault as fault:
        return _as_sentence(str(fault))
    except TemplateError as error:
        return _sentence(error, {})
    return ""


@lru_cache(KEPT_TEMPLATES)
def _compiled(sources: Sources, fuel: int) -> Sequence[_Part]:
    """Return the compiled parts of a template. Raises :class:`TemplateRefused`."""
    check(sources)
    return [_part(name, source, _SUBJECT_FUEL if name == "subject" else fuel) for name, source in _texts(sources)]


def _part(name: str, source: str, fuel: int) -> _Part:
    """Compile one text that :func:`language.check` has passed. Raises ``TemplateError``."""
    html = name == "html"
    environment = Environment(
        fuel=fuel,
        undefined_behavior="strict",
        auto_escape_callback=lambda _: html,
        finalizer=_escaped if html else _shown,
        keep_trailing_newline=True,
    )
    for unwanted in _BUILT_IN.filters:
        environment.remove_filter(unwanted)
    for unwanted in _BUILT_IN.tests:
        environment.remove_test(unwanted)
    for unwanted in _BUILT_IN.globals:
        environment.remove_global(unwanted)
    environment.add_template(name, source)
    return _Part(name, environment)


class _BuiltIn(NamedTuple):
    filters: Sequence[str]
    tests: Sequence[str]
    globals: Sequence[str]


# What MiniJinja 3 has and our language has not. That a template cannot name them is checked before; this is
# for names that a filter is given as a text, such as map('pprint').
_BUILT_IN = _BuiltIn(
    filters=("attr", "chain", "pprint", "wordwrap", "xmlattr", "zip"),
    tests=(
        "callable",
        "endingwith",
        "escaped",
        "filter",
        "in",
        "lower",
        "safe",
        "sameas",
        "startingwith",
        "test",
        "upper",
    ),
    globals=("cycler", "debug", "dict", "joiner", "namespace"),
)


def _shown(value: Any) -> Any:
    """Return a value as it is printed into text. Raises :class:`_Refusal` for what is no text or number."""
    if type(value) in _PRINTED:
        return value
    if value is None:
        return ""
    raise _Refusal(
        f"{_brief(value)} is {_kind(value)}, and a template prints texts and numbers: name a part of it, loop over it, "
        "or use `|join(', ')` or `|tojson`."
    )


def _escaped(value: Any) -> Any:
    """Return a value as it is printed into HTML. Raises what :func:`_shown` does."""
    return escape(value) if type(value) is str else value if type(value) in _PRINTED else _shown(value)


def _brief(value: Any) -> str:
    text = repr(value) if isinstance(value, list | dict) else "The value"
    return text if len(text) <= 60 else f"{text[:60]}…"


def _kind(value: Any) -> str:
    return "a list" if isinstance(value, list | tuple) else "an object" if isinstance(value, dict) else "no text"


def _rendered(part: _Part, variables: Mapping[str, Any]) -> str:
    """Return one part with its variables filled in. Raises :class:`_PartRefused`."""
    try:
        text: str = part.environment.render_template(part.name, **variables)
    except TemplateError as error:
        raise _PartRefused(_sentence(error, variables)) from None
    except _Refusal as error:
        raise _PartRefused(str(error)) from None
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise _PartRefused(_as_sentence(str(error))) from None  # of a variable, such as a list without items()
    if "\0" in text:
        raise _PartRefused("It would have a NUL character.")
    return text


def _refused(parts: Sequence[_Part], variables: Mapping[str, Any]) -> TemplateRefused:
    """Return the error that says what is wrong in each part."""
    faults = {}
    for part in parts:
        try:
            _rendered(part, variables)
        except _PartRefused as refused:
            faults[part.name] = [str(refused)]
    return TemplateRefused("The template cannot be rendered with these variables.", fields=faults)


def _subject(text: str) -> str:
    """Return a rendered subject as one line: line breaks and runs of blanks become one blank (RFC 5322 §2.2)."""
    line = _SPACE.sub(" ", text).strip()
    if line.isprintable():
        return line
    return "".join(sign for sign in line if unicodedata.category(sign) not in ("Cc", "Cs"))


def _sentence(error: TemplateError, variables: Mapping[str, Any]) -> str:
    """Return what went wrong in a template, with the line and what would be right."""
    detail = error.detail or ""
    if error.kind == "OutOfFuel":
        detail = "this is too much work for one mail: fewer rounds of `for`, or shorter variables"
    elif error.kind == "UndefinedError":
        detail = _undefined(detail, variables)
    elif error.kind in ("TooManyArguments", "MissingArgument"):
        detail = f"a filter or function is given too {'many' if error.kind.startswith('TooMany') else 'few'} values"
    elif error.kind in ("UnknownFilter", "UnknownTest"):
        detail = detail or "a filter or test of this name is not available"
    elif "expected end of block" in detail:
        detail = "an `if`, `for`, `with` or `set` is not closed; write its end, such as `{% endif %}` or `{% endfor %}`"
    elif "unexpected identifier, expected end of variable block" in detail:
        detail = "there is a blank within a name; write it as one word, such as `{{ first_name }}`"
    line = f"line {error.line}: " if error.line else ""
    return _as_sentence(f"{line}{detail or error.kind}")


def _as_sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}{'' if text.endswith(('.', '?')) else '.'}"


def _undefined(detail: str, variables: Mapping[str, Any]) -> str:
    """Say which variable is missing, and which of those given is meant, if one is like it."""
    found = _QUOTED.search(detail)
    if not found:
        return detail or "a value is undefined"
    name = found[1]
    known = sorted(_names_in(variables))
    near = get_close_matches(name, known, 1, 0.6)
    if near:
        return f"`{name}` is not among the variables; did you mean `{near[0]}`?"
    return f"`{name}` is not among the variables; give it, or write `{{{{ {name}|default('') }}}}`"


def _names_in(variables: Mapping[str, Any]) -> Iterator[str]:
    for name, value in list(variables.items())[:200]:
        yield name
        if isinstance(value, dict):
            yield from (f"{name}.{inner}" for inner in list(value)[:200])
