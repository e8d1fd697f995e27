"""Reads the YAML files that describe how the service is run."""

from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

ROOT = Path(__file__).parents[2]


def documents(path: str) -> list[Any]:
    """Return the documents of a file, merge keys resolved."""
    return list(YAML(typ="safe").load_all((ROOT / path).read_text()))
