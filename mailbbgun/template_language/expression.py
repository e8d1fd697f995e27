"""The expressions of templates: which filters, tests and methods there are, and what they may be given.

Why something is refused: see :mod:`mailbbgun.template_language.language`. Pure.
"""

import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches

from mailbbgun.template_language.tokens import Token

#: Additions in one tag, at most: each may make a list as long as both of its sides.
MOST_ADDITIONS = 10

#: What a filter or method takes in brackets: nothing, literals only, or any expression.
NOTHING, LITERALS, ANYTHING = "nothing", "literals", "anything"

_PLAIN_FILTERS = """
abs bool capitalize count e escape filesizeformat first float int items last length lines list lower max min
reverse safe string striptags title tojson upper urlencode
"""
_FILTERS_WITH_LITERALS = """
batch dictsort groupby indent join map pluralize reject rejectattr replace round select selectattr slice sort
split sum trim truncate unique
"""
FILTERS = {
    **dict.fromkeys(_PLAIN_FILTERS.split(), NOTHING),
    **dict.fromkeys(_FILTERS_WITH_LITERALS.split(), LITERALS),
    **dict.fromkeys(("d", "default", "format"), ANYTHING),
}
_TESTS = """
boolean defined divisibleby eq equalto even false float ge greaterthan gt integer iterable le
lessthan lt mapping ne none number odd sequence string true undefined
"""
TESTS = frozenset(_TESTS.split())
METHODS = {
    **dict.fromkeys(("items", "keys", "values", "lower", "upper", "title", "capitalize"), NOTHING),
    **dict.fromkeys(("split", "strip", "lstrip", "rstrip", "startswith", "endswith", "cycle"), LITERALS),
    "get": ANYTHING,
}
#: Methods and a filter that copy a mapping without counting it. A loop over all of the copy is counted.
_VIEWS = frozenset({"items", "keys", "values"})
FUNCTIONS = frozenset({"range"})

#: Filters whose cost depends on a check of what is written before or behind them.
_NOT_MAPPED = _VIEWS | {"format", "map"}
_FORMAT = re.compile(r"%(?:%|[-+ 0#]{0,4}[0-9]{0,2}(?:\.[0-9]{0,2})?[sdifeEgGxXo])")

_NUMBERS = frozenset({"int", "float", "round", "abs", "length", "count", "sum"})
_SINGLE = _NUMBERS | {"string", "lower", "upper", "title", "capitalize", "trim", "truncate", "replace", "join"}
_CONSTANTS = frozenset({"true", "false", "none", "True", "False", "None"})
WORDS = frozenset({"and", "or", "not", "in", "is", "if", "else"})


class BadTag(Exception):
    """What is wrong in a tag. The caller knows the line."""


class Expression:
    """The tokens of an expression. ``kept``: its value is kept or looped over; ``loop``: looped over."""

    def __init__(self, tokens: Sequence[Token], *, kept: bool = False, loop: bool = False) -> None:
        self.tokens = tokens
        self.kept = kept
        self.loop = loop

    def check(self) -> None:
        """Raise :class:`BadTag` for what the language does not have."""
        for place, token in enumerate(self.tokens):
            if token.kind == "name":
                self._check_name(place)
            elif token.kind == "number" and self._is(place - 1, "."):
                raise BadTag("write an item's number in brackets: `items[0]`.")
            elif token.kind == "operator":
                self._check_operator(place)
        if sum(token == Token("operator", "+") for token in self.tokens) > MOST_ADDITIONS:
            raise BadTag(f"more than {MOST_ADDITIONS} `+` in one tag.")

    def _check_name(self, place: int) -> None:
        name = self.tokens[place].value
        called = self._is(place + 1, "(")
        if self._is(place - 1, "|"):
            self._check_filter(place, name)
        elif self._is(place - 1, "."):
            if name.startswith("_"):
                raise BadTag(f"`{name}`: names of parts do not begin with _.")
            if called:
                self._check_method(place, name)
        elif self._after_is(place):
            if name not in (*TESTS, "not", "in"):
                raise BadTag(f"there is no test `{name}`.{_nearest(name, TESTS)}")
            if name in TESTS:
                self._check_test(place, name)
        elif name == "in" and not self._single_before(place - (place and self.tokens[place - 1].value == "not")):
            raise BadTag("`in` takes a text or number before it; say so: `item.id|int in ids`, `name|lower in names`.")
        elif called and name not in WORDS and name not in FUNCTIONS:
            raise BadTag(f"there is no function `{name}`; there is `range`.")

    def _single_before(self, place: int) -> bool:
        """Whether the value before ``place`` is a text or number: a list sought in a text is written out each time."""
        last = self.tokens[place - 1] if place else Token("", "")
        if last.kind in ("text", "number") or last.value in _CONSTANTS:
            return True
        filtered = place - 1
        if last == Token("operator", ")"):
            filtered = self._opening(place - 1) - 1
        return self._is(filtered - 1, "|") and self.tokens[filtered].value in _SINGLE

    def _after_is(self, place: int) -> bool:
        before = [token.value for token in self.tokens[max(0, place - 2) : place] if token.kind == "name"]
        return before[-1:] == ["is"] or (before == ["is", "not"])

    def _check_filter(self, place: int, name: str) -> None:
        if name not in FILTERS:
            raise BadTag(f"there is no filter `{name}`.{_nearest(name, FILTERS)}")
        self._check_given(place, name, FILTERS[name])
        if name == "format":
            self._check_format(place)
        if name == "map":
            self._check_map(place)
        if name in _VIEWS:
            self._check_view(place, f"|{name}", place + 1)

    def _check_format(self, place: int) -> None:
        pattern = self.tokens[place - 2] if place > 1 else None
        if pattern is None or pattern.kind != "text" or "%" in _FORMAT.sub("", pattern.value) or "\\" in pattern.value:
            raise BadTag(
                "write the pattern before `|format`, with widths of at most two digits: `'%.2f'|format(price)`."
            )

    def _check_map(self, place: int) -> None:
        first = self.tokens[place + 2] if place + 2 < len(self.tokens) else None
        if first is None or first.value != "attribute":
            name = first.value[1:-1] if first and first.kind == "text" else ""
            if FILTERS.get(name) is None or name in _NOT_MAPPED:
                raise BadTag("write `map(attribute='name')` or `map('upper')`.")

    def _check_method(self, place: int, name: str) -> None:
        if name not in METHODS:
            raise BadTag(f"there is no method `{name}`.{_nearest(name, METHODS)}")
        self._check_given(place, name, METHODS[name])
        if name in _VIEWS:
            self._check_view(place, f".{name}()", place + 3)

    def _check_view(self, place: int, written: str, end: int) -> None:
        ends = end >= len(self.tokens) or self.tokens[end] == Token("name", "if")
        if not self.loop or not ends or self._in_brackets(place):
            raise BadTag(f"`{written}` stands at the end of a `for`: `{{% for key, value in mapping.items() %}}`.")

    def _check_test(self, place: int, name: str) -> None:
        self._check_given(place, name, LITERALS)
        after = self.tokens[place + 1] if place + 1 < len(self.tokens) else None
        if after and after.kind == "name" and after.value not in WORDS | _CONSTANTS:
            raise BadTag(f"the test `{name}` takes a text or a number, not `{after.value}`.")

    def _check_given(self, place: int, name: str, allowed: str) -> None:
        """Check what a filter, method or test is given in brackets."""
        if not self._is(place + 1, "(") or allowed == ANYTHING:
            return
        given = self.tokens[place + 2 : self._closing(place + 1)]
        if given and allowed == NOTHING:
            raise BadTag(f"`{name}` takes nothing in brackets.")
        for index, token in enumerate(given):
            named = index + 1 < len(given) and given[index + 1].value == "="
            literal = token.kind in ("text", "number") or token.value in _CONSTANTS
            if not (literal or named or token.value in (",", "=", "-")):
                raise BadTag(f"`{name}` takes only texts and numbers in brackets, not `{token.value}`.")

    def _check_operator(self, place: int) -> None:
        sign = self.tokens[place].value
        if sign == "**":
            raise BadTag("`**` is not available.")
        if sign == "*" and not (self._number_before(place) and self._number_after(place)):
            raise BadTag("`*` takes numbers only; say so of each side: `price|float * quantity|int`.")
        if sign == "+" and self.kept and not (self._number_before(place) or self._number_after(place)):
            raise BadTag("`+` takes numbers here; say so: `total + price|float`. `~` joins texts.")
        if sign == "(" and place and self._ends_value(place - 1) and self.tokens[place - 1].kind != "name":
            raise BadTag("only filters and methods take brackets.")
        if self.kept and sign in ("(", "[") and not (place and self._ends_value(place - 1)):
            self._check_literal(place)

    def _check_literal(self, place: int) -> None:
        """Refuse a list or tuple with names in it: kept and listed again, it would double each time."""
        inside = self.tokens[place + 1 : self._closing(place)]
        listed = self.tokens[place].value == "[" or has(outside(inside), ",")
        if listed and any(token.kind == "name" and token.value not in _CONSTANTS for token in inside):
            raise BadTag("a list in `for`, `set` or `with` holds texts and numbers only; give others as variables.")

    def _ends_value(self, place: int) -> bool:
        token = self.tokens[place]
        if token.kind == "operator":
            return token.value in ")]"
        return token.kind != "name" or token.value not in WORDS

    def _is(self, place: int, operator: str) -> bool:
        return 0 <= place < len(self.tokens) and self.tokens[place] == Token("operator", operator)

    def _closing(self, place: int) -> int:
        """Return the place of the bracket that closes the one at ``place``. The tokenizer saw that there is one."""
        depth = 0
        for here in range(place, len(self.tokens)):
            token = self.tokens[here]
            if token.kind == "operator":
                depth += (token.value in "([") - (token.value in ")]")
                if not depth:
                    return here
        raise BadTag("a bracket is not closed.")

    def _opening(self, place: int) -> int:
        return next(here for here in range(place, -1, -1) if self._opens(here) and self._closing(here) == place)

    def _opens(self, place: int) -> bool:
        return self.tokens[place].kind == "operator" and self.tokens[place].value in "(["

    def _in_brackets(self, place: int) -> bool:
        return any(self._opens(here) and self._closing(here) > place for here in range(place))

    def _number_before(self, place: int) -> bool:
        """Whether the value that ends before ``place`` is a number, whatever the variables are."""
        last = place - 1
        if last < 0:
            return False
        token = self.tokens[last]
        if token.kind == "number":
            return True
        if token == Token("operator", ")"):
            opening = self._opening(last)
            if opening and self._ends_value(opening - 1):
                return self._is(opening - 2, "|") and self.tokens[opening - 1].value in _NUMBERS
            return self._all_numbers(opening + 1, last)
        if token.kind != "name":
            return False
        return self._is(last - 1, "|") and token.value in _NUMBERS

    def _number_after(self, place: int) -> bool:
        return self._operand(place + 1)[0]

    def _operand(self, place: int) -> tuple[bool, int]:
        """Return whether the value that begins at ``place`` is a number, and the place behind it."""
        while self._is(place, "-") or self._is(place, "+"):
            place += 1
        if place >= len(self.tokens):
            return False, place
        number = self.tokens[place].kind == "number"
        if self._opens(place):
            end = self._closing(place)
            number = self.tokens[place].value == "(" and self._all_numbers(place + 1, end)
            place = end
        place += 1
        while place < len(self.tokens):
            if (self._is(place, ".") or self._is(place, "|")) and place + 1 < len(self.tokens):
                number = self._is(place, "|") and self.tokens[place + 1].value in _NUMBERS
                place += 2
            elif self._is(place, "["):
                number, place = False, self._closing(place) + 1
            elif self._is(place, "("):
                place = self._closing(place) + 1  # of a filter or method, which said what its value is
            else:
                break
        return number, place

    def _all_numbers(self, place: int, end: int) -> bool:
        """Whether the tokens up to ``end`` are numbers with arithmetic between them."""
        while True:
            number, place = self._operand(place)
            if not number or place >= end:
                return number
            if self.tokens[place].value not in ("+", "-", "*", "/", "//", "%"):
                return False
            place += 1


def has(tokens: Sequence[Token], operator: str) -> bool:
    """Return whether the operator is among the tokens."""
    return Token("operator", operator) in tokens


def outside(tokens: Sequence[Token]) -> list[Token]:
    """Return the tokens that are in no brackets."""
    depth, outside = 0, []
    for token in tokens:
        depth -= token.kind == "operator" and token.value in ")]"
        if not depth:
            outside.append(token)
        depth += token.kind == "operator" and token.value in "(["
    return outside


def _nearest(name: str, known: Iterable[str]) -> str:
    names = sorted(known)
    near = get_close_matches(name, names, 1)
    return f" Did you mean `{near[0]}`?" if near else f" There are: {', '.join(names)}."
