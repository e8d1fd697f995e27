"""Finds the blocks of commands in README and manual, and how a test runs each of them.

Before each block of ``sh``, ``python`` or ``javascript`` stands one of these comments, which
readers do not see::

    .. run                                  it succeeds
    .. run: TEXT                            it succeeds, and TEXT is in its output
    .. run until: TEXT                      repeat it until TEXT is in its output
    .. run beside: TEXT                     leave it running; go on once TEXT is in its output
    .. settings                             it is a config.py, or a part of one, that loads
    .. not run: REASON                      why no test can run it
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
LANGUAGES = ("sh", "python", "javascript")
HOW = ("run", "run until", "run beside", "settings", "not run")

_BLOCK = re.compile(
    r"(?:^(?P<under>[ ]*)\.\. (?P<mark>\S.*)\n\n?)?"
    r"^(?P<indent>[ ]*)\.\. code-block:: (?P<language>\w+)\n(?:[ ]+:.*\n)*\n",
    re.MULTILINE,
)


@dataclass(frozen=True)
class Block:
    """One block of code.

    ``how`` is one of HOW, or "" without a comment; ``told`` is the text after its colon.
    """

    page: str
    line: int
    language: str
    how: str
    told: str
    text: str

    @property
    def beginning(self) -> str:
        """Its first line that is not a comment."""
        return next(line for line in self.text.splitlines() if line.strip() and not line.startswith("#"))


def pages() -> list[Path]:
    """Return every page that has commands for readers."""
    top = [ROOT / name for name in ("README.rst", "CONTRIBUTING.rst", "SECURITY.rst")]
    return [*top, *sorted(path for path in (ROOT / "docs").rglob("*.rst") if "_build" not in path.parts)]


def blocks(page: Path) -> Iterator[Block]:
    """Yield the blocks of commands of a page, in order."""
    text = page.read_text()
    for found in _BLOCK.finditer(text):
        if found["language"] in LANGUAGES:
            how, _, told = (found["mark"] or "").partition(": ")
            body = _body(text[found.end() :], len(found["indent"]))
            line = text.count("\n", 0, found.start("indent")) + 1
            yield Block(str(page.relative_to(ROOT)), line, found["language"], how if how in HOW else "", told, body)


def _body(text: str, indent: int) -> str:
    lines = []
    for line in text.splitlines():
        if line.strip() and len(line) - len(line.lstrip()) <= indent:
            break
        lines.append(line)
    width = min(len(line) - len(line.lstrip()) for line in lines if line.strip())
    return "\n".join(line[width:] for line in lines).strip("\n") + "\n"
