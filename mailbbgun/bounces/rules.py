"""Reads the operator's rules for causes: the setting BOUNCE_RULES."""

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mailbbgun.bounces.classify import Cause, Classifier, Rule
from mailbbgun.bounces.report import BounceClass
from mailbbgun.core.errors import ConfigurationError

#: Rules, and bytes of a file of them, at most.
MOST_RULES, LARGEST_FILE = 500, 1_000_000


def classifier(given: str) -> Classifier:
    """Return the classifier with the rules of BOUNCE_RULES: a JSON list, or the path of a file with one.

    Raises :class:`ConfigurationError` that says what is wrong.
    """
    try:
        return Classifier(parse(given if given.lstrip()[:1] in ("", "[") else _file(given)))
    except ValueError as error:
        raise ConfigurationError(f"BOUNCE_RULES: {error}") from error


def _file(path: str) -> str:
    try:
        with Path(path).open(encoding="utf-8") as file:
            text = file.read(LARGEST_FILE + 1)
    except OSError as error:
        raise ValueError(f"the file {path} cannot be read: {error.strerror}") from error
    if len(text) > LARGEST_FILE:
        raise ValueError(f"the file {path} is larger than {LARGEST_FILE:,} characters")
    return text


def parse(text: str) -> tuple[Rule, ...]:
    """Return the rules in a JSON list. Raises ValueError, saying what is wrong."""
    try:
        given = json.loads(text or "[]")
    except (ValueError, RecursionError) as error:
        raise ValueError(f"it is no JSON: {error}") from error
    if not isinstance(given, list) or len(given) > MOST_RULES:
        raise ValueError(f"it must be a JSON list of at most {MOST_RULES} rules")
    return rules_of(given)


def rules_of(given: Iterable[Mapping[str, Any]]) -> tuple[Rule, ...]:
    """Return rules from a list of ``{"pattern", "class", "reason"}``. Raises ValueError, saying what is wrong."""
    rules = []
    for number, one in enumerate(given, 1):
        if not isinstance(one, Mapping) or set(one) != {"pattern", "class", "reason"}:
            raise ValueError(f"rule {number} must have exactly pattern, class and reason")
        if not all(isinstance(one[name], str) and 0 < len(one[name]) <= 500 for name in one):
            raise ValueError(f"rule {number}: pattern, class and reason must be texts of 1 to 500 characters")
        if not re.fullmatch(r"[a-z][a-z0-9_]{0,39}", one["reason"]):
            raise ValueError(f"rule {number}: a reason is made of a to z, 0 to 9 and _, such as mailbox_full")
        try:
            pattern = re.compile(one["pattern"], re.IGNORECASE)
            cause = Cause(BounceClass(one["class"]), one["reason"])
        except re.error as error:
            raise ValueError(f"rule {number}: the pattern is no regular expression: {error}") from error
        except ValueError as error:
            names = ", ".join(one.value for one in BounceClass)
            raise ValueError(f"rule {number}: the class must be one of {names}") from error
        rules.append(Rule(pattern, cause))
    return tuple(rules)
