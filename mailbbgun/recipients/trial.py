"""Tries the texts of a batch with the variables of each recipient, before anything is stored.

Rendering every text of a thousand messages would take longer than all the rest. Most templates only
name variables: then a message renders if they are all there, and only its subject is made here. Any
other template is rendered by the engine. Pure.
"""

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

from mailbbgun.accept.fields import texts_broken
from mailbbgun.core.errors import InvalidInput
from mailbbgun.settings.settings import Settings
from mailbbgun.template_language.expression import FUNCTIONS
from mailbbgun.templates import engine
from mailbbgun.templates.engine import Sources

#: Weight of all values, at most, that are tried without the engine, and steps that it takes with these.
LIGHT, STEPS = engine.LIGHTEST

_BEGIN = re.compile(r"\{[{%#]")
_NAMED = re.compile(r"\{\{ *([A-Za-z_][A-Za-z0-9_]*) *\}\}")
# Names that the engine gives a meaning of its own.
_WORDS = frozenset("true false none True False None and or not in is if else for self super loop".split()) | frozenset(  # noqa: SIM905
    FUNCTIONS
)
# How many characters a value other than a text takes, at most.
_NUMBER_SIZE = 24
_NUMBERS = frozenset((int, float, bool, type(None)))
# At most so much is added to the weight of a name and a value by what is between them.
_BETWEEN = 7
# Steps of the engine for each variable printed, and bytes that one step prints. Escaping makes five of one.
_STEPS_OF_ONE, _BYTES_OF_STEP = 4, 64 // 5


class Trial:
    """The texts of one content."""

    def __init__(self, sources: Sources, settings: Settings) -> None:
        """Compile the texts. Raises :class:`TemplateRefused` if one is faulty."""
        engine.check(sources)
        self._sources, self._settings = sources, settings
        # Characters of texts that are shorter than MAX_TEXT_SIZE in bytes, whatever they are.
        self._surely_short = settings.MAX_TEXT_SIZE // 4
        texts = [sources.subject, sources.text or "", sources.html or ""]
        self._names: frozenset[str] | None = None
        if all(map(_only_names, texts)):
            found = Counter(name for text in texts for name in _NAMED.findall(text))
            self._names, self._times = frozenset(found), tuple(found.items())
            self._fixed = sum(len(_NAMED.sub("", text).encode()) for text in texts)
            self._form = _NAMED.sub("%s", sources.subject.replace("%", "%%"))
            self._steps = _STEPS_OF_ONE * sum(found.values())
            self._in_subject = tuple(_NAMED.findall(sources.subject))

    def of(self, variables: Mapping[str, Any]) -> tuple[str, int]:
        """Return the subject of the message with these variables, and about how many bytes its texts have.

        Raises :class:`TemplateRefused` if it cannot be rendered, :class:`TooLarge` if the variables are too
        large, and :class:`InvalidInput` if a text is too long.
        """
        if self._names is not None and self._names <= variables.keys() and _light(variables):
            subject = self._form % tuple([variables[name] for name in self._in_subject])
            if self._as_the_engine(subject, variables):
                size = self._fixed
                for name, times in self._times:
                    value = variables[name]
                    size += times * (len(value) if type(value) is str else _NUMBER_SIZE)
                few = self._steps + size // _BYTES_OF_STEP < STEPS
                if few and size <= self._surely_short and len(subject) <= self._settings.MAX_SUBJECT_SIZE:
                    return subject, size
        made = engine.render(self._sources, variables)
        broken: dict[str, list[str]] = {}
        for name, why in texts_broken(made.subject, made.text, made.html, self._settings):
            broken.setdefault(name, []).append(f"With these variables: {why}")
        if broken:
            raise InvalidInput("The texts cannot be sent with these variables.", fields=broken)
        return made.subject, sum(len((text or "").encode()) for text in (made.text, made.html))

    def _as_the_engine(self, subject: str, variables: Mapping[str, Any]) -> bool:
        """Return whether the engine would make this subject, too: of texts and whole numbers, with single blanks."""
        return (
            all(type(variables[name]) is str or type(variables[name]) is int for name in self._in_subject)
            and subject.isprintable()
            and "  " not in subject
            and subject[:1] != " " != subject[-1:]
        )


def _light(variables: Mapping[str, Any]) -> bool:
    """Return whether all variables are texts and numbers, of little weight. The engine prints all of these."""
    size = 0
    for name, value in variables.items():
        kind = type(value)
        if kind is str:
            size += len(value) * (1 if value.isascii() else 3) + len(name) + _BETWEEN
        elif kind in _NUMBERS:
            size += _NUMBER_SIZE + len(name) + _BETWEEN
        else:
            return False
    return size <= LIGHT


def _only_names(source: str) -> bool:
    """Return whether a template has nothing in it but text and names of variables."""
    named = {found.start(): found[1] for found in _NAMED.finditer(source)}
    return named.keys() == {found.start() for found in _BEGIN.finditer(source)} and _WORDS.isdisjoint(named.values())
