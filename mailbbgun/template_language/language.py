"""The language of templates: the part of Jinja whose cost is bounded. Checked before a template is compiled.

MiniJinja counts the work of most of what it does (its fuel), but not of all: ``['a'] * 100000000`` is
one step, and so is printing a list that holds itself twice, thirty times over. This module reads the
tags of a template, and refuses whatever could make a value much larger than the variables. Every rule
here stands for an attack in ``tests/templates/attacks.py``.

Four ideas carry it:

- Statements, filters, tests and methods are those in the tables below; nothing else exists.
- A value that is kept (``set``, ``with``) or looped over is no larger than those that it is made of. So lists
  written in the template hold only texts and numbers there, and arguments of filters are literals.
- What ``in`` seeks is a text or number: a list would be written out, to be sought in a text.
- ``*``, and ``+`` where the sum is kept, take only numbers: both would repeat or join lists.
"""

from mailbbgun.template_language.expression import BadTag, Expression, has, outside
from mailbbgun.template_language.tokens import LanguageFault, Token, tags

#: Tags of a template, and blocks inside each other, at most.
MOST_TAGS, MOST_BLOCKS = 5_000, 24

_OPENERS = {"if": "endif", "for": "endfor", "with": "endwith"}
_BARE = frozenset({"else", "endif", "endfor", "endwith", "endset", "continue"})
_REFUSED = {
    **dict.fromkeys(
        ("include", "import", "from", "extends", "block"), "a template is complete in itself and loads no other"
    ),
    **dict.fromkeys(("macro", "call"), "repeat with `for` instead"),
    "break": "select the items beforehand, such as `{% for item in items[:10] %}`",
    "do": "a template changes no values",
    "filter": "use `{{ value|filter }}`",
    "autoescape": "HTML is always escaped; `{{ value|safe }}` prints HTML that you trust",
}


def check(source: str) -> None:
    """Raise :class:`LanguageFault` for the first thing in a template that the language does not have.

    What passes may still be malformed (a missing ``endif``); the engine's parser says so.
    """
    blocks: list[str] = []
    for number, tag in enumerate(tags(source), 1):
        if number > MOST_TAGS:
            raise LanguageFault(tag.line, f"more than {MOST_TAGS} tags.")
        try:
            if tag.output:
                Expression(tag.tokens).check()
            else:
                _check_statement(tag.tokens, blocks)
        except BadTag as wrong:
            raise LanguageFault(tag.line, str(wrong)) from None


def _check_statement(tokens: list[Token], blocks: list[str]) -> None:
    word = tokens[0].value if tokens and tokens[0].kind == "name" else ""
    rest = tokens[1:]
    if word in _REFUSED:
        raise BadTag(f"`{word}` is not available: {_REFUSED[word]}.")
    if word in _BARE:
        if rest:
            raise BadTag(f"`{word}` stands alone.")
        if word.startswith("end") and blocks:
            blocks.pop()
        return
    if word in _OPENERS or (word == "set" and not has(rest, "=")):
        blocks.append(word)
        if len(blocks) > MOST_BLOCKS:
            raise BadTag(f"more than {MOST_BLOCKS} blocks inside each other.")
    if word == "for":
        _check_for(rest)
    elif word in ("if", "elif"):
        Expression(rest).check()
    elif word in ("set", "with"):
        _check_kept(word, rest)
    else:
        raise BadTag(f"`{word}` is not a statement; there are if, elif, else, for, set, with and raw.")


def _check_for(tokens: list[Token]) -> None:
    place = next((i for i, token in enumerate(tokens) if token.value == "in" and token.kind == "name"), None)
    if place is None or any(token.kind != "name" and token.value not in "(,)" for token in tokens[:place]):
        raise BadTag("write `for item in items` or `for key, value in mapping.items()`.")
    looped = tokens[place + 1 :]
    if looped and looped[-1] == Token("name", "recursive"):
        raise BadTag("`recursive` is not available: write a `for` inside a `for`.")
    Expression(looped, kept=True, loop=True).check()


def _check_kept(word: str, tokens: list[Token]) -> None:
    place = next((i for i, token in enumerate(tokens) if token.value == "="), len(tokens))
    if any(token.kind != "name" and token.value not in "(,)" for token in tokens[:place]):
        raise BadTag(f"`{word}` gives a value to a name: `{word} total = 12`.")
    kept = tokens[place + 1 :]
    if word == "set" and has(outside(kept), ","):
        raise BadTag("`set` keeps one value; give lists as variables.")
    Expression(kept, kept=True).check()
