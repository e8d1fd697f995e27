"""Sentences about requests that no route takes: unknown path, malformed id, wrong method. Pure."""

import re
from collections.abc import Iterable, Sequence
from uuid import UUID

from mailbbgun.http.bad_input import EXAMPLE_ID, listed, nearest, printable, shown

_PARAMETER = re.compile(r"<(?:([a-z]+):)?([a-z_]+)>")


def nothing_at(path: str, rules: Iterable[str]) -> str:
    """Say why there is nothing at a path.

    ``rules`` are all routes, such as ``/messages/<uuid:message_id>``.
    """
    asked = path.split("/")
    templates = {}
    for rule in sorted(rules):
        template = _PARAMETER.sub(r"{\2}", rule)
        templates[template] = rule
        wrong = _malformed(asked, rule.split("/"))
        if wrong:
            value, name = wrong
            return f"{shown(value)} is no UUID: in {template}, {name} is one, such as {EXAMPLE_ID}."
    told = f"There is nothing at {printable(path)}"
    if path.startswith("/messages/") and asked[3:] == ["cancel"]:
        return f"{told}; to cancel a message: DELETE /messages/{{message_id}}."
    near = _nearest(asked, templates)
    return f"{told}; did you mean {near}?" if near else f"{told}; /docs shows all addresses."


def not_offered(method: str, path: str, offered: Iterable[str]) -> str:
    """Say which methods a path has instead of this one."""
    methods = sorted(set(offered) - {"HEAD", "OPTIONS"}) or sorted(offered)
    verb = "is" if len(methods) == 1 else "are"
    return f"{printable(method)} is not possible at {printable(path)}; {listed(methods, 'and')} {verb}."


def _malformed(asked: Sequence[str], rule: Sequence[str]) -> tuple[str, str] | None:
    """Return the first segment that is no UUID where the rule wants one, and the parameter's name.

    None if another segment does not fit the rule.
    """
    if len(asked) != len(rule):
        return None
    found = None
    for given, wanted in zip(asked, rule, strict=True):
        parameter = _PARAMETER.fullmatch(wanted)
        if parameter is None:
            if given != wanted:
                return None
        elif not given:
            return None
        elif parameter[1] == "uuid" and not _is_uuid(given):
            found = found or (given, parameter[2])
    return found


def _is_uuid(text: str) -> bool:
    try:
        return str(UUID(text)) == text.lower()
    except ValueError:
        return False


def _nearest(asked: Sequence[str], templates: Iterable[str]) -> str | None:
    """Return the known path that is most like the one asked for, whose UUIDs are parameters."""
    as_template = "/".join("{id}" if _is_uuid(one) else one for one in asked)
    compared = {re.sub(r"\{[a-z_]+\}", "{id}", one): one for one in templates if one != "/"}
    if (bare := as_template.rstrip("/")) in compared:
        return compared[bare]
    near = nearest(as_template, compared)
    return compared[near] if near else None
