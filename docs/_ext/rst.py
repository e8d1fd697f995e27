"""Turns text from the code into reStructuredText, for the other extensions of this folder."""

import re
from collections.abc import Iterable, Sequence
from textwrap import indent

_SPECIAL = re.compile(r"([*`|\\_\[\]])|(?<=[a-z]):(?=//)")


def inline(text: str) -> str:
    """Return a sentence in which `single backticks` mark code and nothing else is markup."""
    parts = re.split(r"`([^`\n]+)`", text)
    return "".join(code(part) if place % 2 else _escaped(part) for place, part in enumerate(parts))


def code(text: str) -> str:
    """Return text as an inline literal."""
    return f"``{text}``"


def _escaped(text: str) -> str:
    return _SPECIAL.sub(lambda found: "\\" + found[0], text)


def title(text: str, underline: str) -> str:
    """Return a section's title."""
    return f"{text}\n{underline * len(text)}\n"


def literal(text: str, language: str = "none") -> str:
    """Return a block of code."""
    return f".. code-block:: {language}\n\n{indent(text, '   ')}\n"


def table(head: Sequence[str], rows: Iterable[Sequence[str]], widths: str = "auto") -> str:
    """Return a table. Each cell is reStructuredText."""
    lines = [".. list-table::", "   :header-rows: 1", f"   :widths: {widths}", ""]
    for row in [head, *rows]:
        for place, cell in enumerate(row):
            first = "   * - " if place == 0 else "     - "
            lines.append(first + cell.replace("\n", "\n       "))
    return "\n".join(lines) + "\n"
