"""How a setting is declared."""

from dataclasses import field
from typing import Any


def setting(default: Any, doc: str, *, least: float | None = None, most: float | None = None) -> Any:
    """Return a field for a setting. ``least`` and ``most`` bound each of its numbers."""
    return field(default=default, metadata={"doc": doc, "least": least, "most": most})
