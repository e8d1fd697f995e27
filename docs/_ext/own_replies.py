"""``.. cause:: CODE`` describes an enhanced code of a reply in the service's own words.

Every such code that the service can write must be described.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from described import compare
from sphinx.application import Sphinx

import mailbbgun

#: What makes such replies: the class itself with 0 for a code, the exception of an envelope, and
#: functions that end in one of the two.
MAKERS = frozenset({"Reply", "EnvelopeError", "_refused", "_bounced"})

_CODE = re.compile(r"[245]\.[0-9]{1,3}\.[0-9]{1,3}")


def written() -> list[str]:
    """Return every enhanced code (RFC 3463) that the sending side gives to a reply of its own."""
    found: set[str] = set()
    for path in Path(mailbbgun.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            found.update(_codes(node))
    assert found, "no reply of our own has an enhanced code any more"
    return sorted(found)


def _codes(node: ast.AST) -> Iterator[str]:
    """Find the codes in a call of a maker, and in the default values of one that is defined here."""
    parts: list[ast.expr] = []
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in MAKERS:
        parts = [*node.args, *(keyword.value for keyword in node.keywords)]
    elif isinstance(node, ast.FunctionDef) and node.name in MAKERS:
        parts = node.args.defaults
    for part in parts:
        for inner in ast.walk(part):
            if isinstance(inner, ast.Constant) and isinstance(inner.value, str) and _CODE.fullmatch(inner.value):
                yield inner.value


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive."""
    compare(app, "cause", written, "reference/events")
    return {"parallel_read_safe": True}
