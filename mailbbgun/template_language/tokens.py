"""Reads the tags of a template, and splits each into tokens. Pure."""

import re
from collections.abc import Iterator
from typing import NamedTuple

#: Tokens in one tag, and brackets inside each other, at most. The engine parses operators by recursion,
#: and a stack that overflows ends the process.
MOST_TOKENS, MOST_BRACKETS = 120, 16

_START = re.compile(r"\{[{%#]")
_RAW = re.compile(r"\{%[-+]?[ \t\r\n]*raw\b")
_RAW_WHOLE = re.compile(r"\{%-?[ \t\r\n]*raw[ \t\r\n]*-?%\}")
_END_RAW = re.compile(r"\{%[-+]?\s*endraw")
_END_RAW_WHOLE = re.compile(r"\{%-?[ \t\r\n]*endraw[ \t\r\n]*-?%\}")
_BLANK = re.compile(r"[ \t\r\n]+")
_TOKEN = re.compile(
    r"(?P<name>[A-Za-z_][A-Za-z0-9_]*)"
    r"|(?P<number>[0-9]{1,15}(?:\.[0-9]{1,15})?)(?![\w.])"
    r"|(?P<text>'(?:[^'\\]|\\.)*+'|\"(?:[^\"\\]|\\.)*+\")"
    r"|(?P<operator>\*\*|//|==|!=|<=|>=|[-+*/%~<>|.,:()\[\]=])",
    re.DOTALL,
)


class LanguageFault(ValueError):
    """A template uses what the language does not have. ``line`` counts from 1."""

    def __init__(self, line: int, why: str) -> None:
        super().__init__(f"line {line}: {why}")
        self.line = line


class Token(NamedTuple):
    """A piece of a tag: a name, number, text or operator."""

    kind: str
    value: str


class Tag(NamedTuple):
    """The inside of ``{{ … }}`` (``output``) or ``{% … %}``, its line, and its place in the source."""

    output: bool
    line: int
    tokens: list[Token]
    start: int
    end: int


def tags(source: str) -> Iterator[Tag]:
    """Yield the tags of a template, without comments and what is between ``raw`` and ``endraw``.

    Raises :class:`LanguageFault` for a tag that is not closed, or holds a character that is not of
    the language.
    """
    place, line, counted = 0, 1, 0
    while found := _START.search(source, place):
        start = found.start()
        line += source.count("\n", counted, start)
        counted = start
        if found[0] == "{#":
            place = _after(source, "#}", start, line)
        elif _RAW.match(source, start):
            place = _after_raw(source, start, line)
        else:
            output = found[0] == "{{"
            tokens, place = _tokens(source, start + 2, "}}" if output else "%}", line)
            yield Tag(output, line, tokens, start, place)


def _after(source: str, end: str, start: int, line: int) -> int:
    place = source.find(end, start + 2)
    if place < 0:
        raise LanguageFault(line, f"`{source[start : start + 2]}` is not closed by `{end}`.")
    return place + len(end)


def _after_raw(source: str, start: int, line: int) -> int:
    # Both ends must be written in the usual form, so that the engine sees the same text as raw.
    begin, end = _RAW_WHOLE.match(source, start), _END_RAW.search(source, start)
    whole = end and _END_RAW_WHOLE.match(source, end.start())
    if not begin or not whole:
        raise LanguageFault(line, "write `{% raw %}` and `{% endraw %}` around the text.")
    return whole.end()


def _tokens(source: str, place: int, end: str, line: int) -> tuple[list[Token], int]:
    """Return the tokens up to ``end``, and the place behind it."""
    tokens: list[Token] = []
    open_brackets: list[str] = []
    if source[place : place + 1] in ("-", "+"):
        place += 1
    while True:
        if blank := _BLANK.match(source, place):
            place = blank.end()
        if not open_brackets and source.startswith((end, f"-{end}"), place):
            return tokens, source.index(end, place) + 2
        found = _TOKEN.match(source, place)
        if not found:
            raise LanguageFault(line, _unreadable(source, place, end, bool(open_brackets)))
        token = Token(found.lastgroup or "", found[0])
        if token.value in ("(", "["):
            open_brackets.append(")" if token.value == "(" else "]")
        elif token.value in (")", "]") and (not open_brackets or open_brackets.pop() != token.value):
            raise LanguageFault(line, f"`{token.value}` closes no bracket.")
        tokens.append(token)
        if len(tokens) > MOST_TOKENS or len(open_brackets) > MOST_BRACKETS:
            raise LanguageFault(line, f"the tag is too long; {MOST_TOKENS} names and signs are the most.")
        place = found.end()


def _unreadable(source: str, place: int, end: str, bracket: bool) -> str:
    here = source[place : place + 1]
    if not here:
        return f"the tag is not closed by `{end}`."
    if bracket and here in "}%":
        return "a bracket is not closed."
    if here in "'\"":
        return f"the text that begins with {here} is not closed."
    if here == "{":
        return "`{` inside a tag: a template makes no mappings; give them as variables."
    if here.isdigit():
        return f"{source[place : place + 20].split()[0]!r} is not a number such as 12 or 12.5."
    if here.isalpha():
        return f"{here!r}: names have the letters A to Z, digits and _. Others: `{{{{ data['größe'] }}}}`."
    return f"{here!r} is not of the language of templates."
