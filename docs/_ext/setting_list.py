"""``.. settings:: NAME …`` describes settings; ``:setting:`NAME``` refers to one.

The text comes from ``mailbbgun/settings/settings.py``.
"""

from dataclasses import asdict, fields, is_dataclass
from textwrap import indent
from typing import Any, Literal, get_args, get_origin, get_type_hints

from described import compare
from docutils.nodes import Node
from rst import code, inline
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from mailbbgun.settings.given import PREFIX
from mailbbgun.settings.settings import Settings

SETTINGS = {one.name: one for one in fields(Settings)}
TYPES = get_type_hints(Settings)


def _shown(value: Any) -> str:
    return repr(asdict(value)) if is_dataclass(value) and not isinstance(value, type) else repr(value)


def _described(name: str) -> str:
    setting = SETTINGS[name]
    least, most = setting.metadata["least"], setting.metadata["most"]
    bounds = (
        f" From {least:,} to {most:,}."
        if least is not None and most is not None
        else f" At least {least:,}."
        if least is not None
        else ""
    )
    choices = get_args(TYPES[name]) if get_origin(TYPES[name]) is Literal else ()
    if choices:
        bounds = f" One of {', '.join(map(code, choices))}."
    default = f"Default: {code(_shown(setting.default))}.{bounds} In the environment: {code(PREFIX + name)}."
    text = f"{inline(setting.metadata['doc'])}\n\n{default}\n"
    return f".. setting:: {name}\n\n{indent(text, '   ')}\n"


class SettingsDirective(SphinxDirective):
    """Describes the named settings."""

    required_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[Node]:
        """Return a description of each setting."""
        names = self.arguments[0].split()
        if unknown := [name for name in names if name not in SETTINGS]:
            raise self.error(f"there is no setting {unknown[0]}")
        return self.parse_text_to_nodes("".join(map(_described, names)))


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive. Sphinx warns if a setting is on no page."""
    app.add_directive("settings", SettingsDirective)
    compare(app, "setting", lambda: SETTINGS, "reference/settings")
    return {"parallel_read_safe": True}
