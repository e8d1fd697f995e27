"""Every regular expression of the package, on text that a stranger made to keep it busy."""

import importlib
import pkgutil
import re
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

import pytest

import mailbbgun
from mailbbgun.smtp.server_limits import READ
from tests.waiting import cpu_of

LONG = 6000  # characters of a text

#: CPU seconds below which a search is too short to be compared with another.
MEASURABLE = 0.002

#: A text of four times the length may take eight times as long: four if the time grows with the
#: length, sixteen if it grows with the square.
MOST = 8

SOURCE = "\n".join(path.read_text() for path in Path(mailbbgun.__path__[0]).rglob("*.py"))
#: Patterns whose time may grow with the square of the length: of a reply they see so many characters.
SQUARE = dict.fromkeys(("smtp.server_limits._COUNTED", "smtp.server_limits._SESSION_LIMIT"), READ)
MOST_SQUARE = 2 * 16

PIECES = ("a", "1", " ", ".", "-", "@", "<", '"', "\\", "=?", "a.", "a@", '\\"', "1.1", "a ", "é", ":", ",", "[", "\n")


def patterns() -> Iterator[tuple[str, "re.Pattern[Any]"]]:
    """Give the patterns that are constants of modules, with their names."""
    for module in pkgutil.walk_packages(mailbbgun.__path__, "mailbbgun."):
        if ".migrations." in module.name or module.name.endswith("__main__"):
            continue
        for name, value in vars(importlib.import_module(module.name)).items():
            if isinstance(value, re.Pattern):
                yield f"{module.name.removeprefix('mailbbgun.')}.{name}", value


def pieces_of(pattern: "re.Pattern[Any]") -> set[str]:
    """Return what to repeat: the words that are in a pattern, and marks that grammars are made of."""
    source = pattern.pattern if isinstance(pattern.pattern, str) else pattern.pattern.decode("latin-1")
    words = set(re.findall(r"(?<!\\)[a-z]{3,}", source))
    return words | {f"{word} " for word in words} | set(PIECES)


def uses_of(name: str) -> set[str]:
    """Return how the code uses a pattern. A search tries each place of a text, a match only the first."""
    module, _, constant = name.rpartition(".")
    own = importlib.import_module(f"mailbbgun.{module}").__file__ or ""
    source = Path(own).read_text() if constant.startswith("_") else SOURCE
    used = set(re.findall(rf"\b{constant}\.(match|fullmatch|search|sub|subn|split|find\w+)\(", source))
    return (used & {"match", "fullmatch"}) | ({"search"} if used - {"match", "fullmatch"} else set())


def once(pattern: "re.Pattern[Any]", uses: set[str], text: str) -> float:
    """Return what using a pattern on a text cost, one time."""
    given: Any = text if isinstance(pattern.pattern, str) else text.encode()
    return cpu_of(lambda: [getattr(pattern, use)(given) for use in uses])


def seconds(pattern: "re.Pattern[Any]", uses: set[str], text: str) -> float:
    """Return what using a pattern on a text costs."""
    return median(once(pattern, uses, text) for _ in range(3))


@pytest.mark.parametrize(
    ("name", "pattern"),
    sorted(patterns(), key=lambda one: one[0]),
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_no_pattern_takes_much_longer_than_the_text_is_long(name: str, pattern: "re.Pattern[Any]") -> None:
    uses, size = uses_of(name), SQUARE.get(name, LONG)
    for piece, end in product(sorted(pieces_of(pattern)), ("", "!", "\0")):
        # The short text has the end, too: without it a pattern may match at once.
        text, short = (piece * (length // len(piece)) + end for length in (size, size // 4))
        most = MOST_SQUARE if name in SQUARE else MOST
        # One look at each tells most pairs apart; only those that it does not are measured carefully.
        if (cost := once(pattern, uses, text)) >= MEASURABLE and cost >= most * 3 / 4 * once(pattern, uses, short):
            ratios = (seconds(pattern, uses, text) / seconds(pattern, uses, short) for _ in range(3))
            assert any(ratio < most for ratio in ratios), (name, piece, end, uses)
