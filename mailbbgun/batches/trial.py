"""Tries the texts of a batch with the variables of each recipient, before anything is stored.

Rendering every text of a thousand messages would take longer than all the rest. Most templates only
name variables: then a message renders if they are all there, and only its subject is made here. Any
other template is rendered.
"""

import re
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from mailbbgun.core.errors import InvalidInput
from mailbbgun.messages.mime import one_line

#: Renders all texts with variables: subject, text and HTML. Raises :class:`InvalidInput`.
Render = Callable[[Mapping[str, Any]], tuple[str, str | None, str | None]]

_BEGIN = re.compile(r"\{[{%#]")
_NAMED = re.compile(r"\{\{ *([A-Za-z_][A-Za-z0-9_]*) *\}\}")
# Names that the engine gives a meaning of its own.
_WORDS = frozenset(
    "true false none True False None and or not in is if else for self super loop range dict debug namespace "  # noqa: SIM905
    "lipsum cycler joiner caller varargs kwargs".split()
)


class Trial:
    """The texts of one content. ``subject`` and the others are sources of templates."""

    def __init__(self, subject: str, text: str | None, html: str | None, render: Render, longest: int) -> None:
        """``longest``: characters of a subject, at most."""
        self._render, self._longest = render, longest
        sources = [subject, text or "", html or ""]
        self._names: frozenset[str] | None = None
        if all(map(_only_names, sources)):
            found = Counter(name for source in sources for name in _NAMED.findall(source))
            self._names, self._counts = frozenset(found), tuple(found.items())
            self._fixed = sum(len(_NAMED.sub("", source).encode()) for source in sources)
            self._form = _NAMED.sub("%s", subject.replace("%", "%%"))
            self._in_subject = tuple(_NAMED.findall(subject))

    def of(self, variables: Mapping[str, Any]) -> tuple[str, int]:
        """Return the subject of the message with these variables, and about how many bytes its texts have.

        Raises :class:`InvalidInput` if it cannot be rendered, or if the subject is too long or not one line.
        """
        if self._names is not None and self._names <= variables.keys():
            values = [variables[name] for name in self._in_subject]
            if all(type(value) is str or type(value) is int for value in values):
                size = self._fixed
                for name, times in self._counts:
                    value = variables[name]
                    size += times * len(value if type(value) is str else str(value))
                return self._checked(self._form % tuple(values)), size
        subject, text, html = self._render(variables)
        return self._checked(subject), len(subject) + len(text or "") + len(html or "")

    def _checked(self, subject: str) -> str:
        if len(subject) > self._longest:
            raise InvalidInput(
                "The subject is too long.", fields={"subject": [f"Longer than {self._longest} characters."]}
            )
        if not one_line(subject):
            raise InvalidInput(
                "The subject is not one line.", fields={"subject": ["Must be one line without control characters."]}
            )
        return subject


def _only_names(source: str) -> bool:
    """Return whether a template has nothing in it but text and names of variables."""
    named = {found.start(): found[1] for found in _NAMED.finditer(source)}
    return named.keys() == {found.start() for found in _BEGIN.finditer(source)} and _WORDS.isdisjoint(named.values())
