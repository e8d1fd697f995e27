"""``.. http-operations:: TAG`` and ``.. http-shapes::`` describe the HTTP API.

The text comes from the OpenAPI document that the application itself serves.
"""

import json
import re
import tempfile
from collections.abc import Iterator
from functools import cache
from typing import Any

from docutils.nodes import Node
from rst import code, inline, literal, table, title
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

from mailbbgun.app import close, create_app
from mailbbgun.settings.load import load

VERBS = ("get", "post", "put", "patch", "delete")
#: Answers that all operations have in common. The page describes them once.
EVERYWHERE = ("401", "429", "default")
#: How OpenAPI 3.0 says that a shape may be null.
NULL = {"type": "object", "nullable": True}
#: Sentences in place of the bare names of statuses.
PLAIN = {
    "OK": "",
    "No Content": "Done. The answer has no body.",
    "Bad Request": "The request is wrong: see :doc:`errors`.",
}

log = logging.getLogger(__name__)


@cache
def document() -> dict[str, Any]:
    """Return the OpenAPI document of an application with default settings.

    It needs neither a database nor a queue.
    """
    with tempfile.TemporaryDirectory() as folder:
        app = create_app(load({"MAILBBGUN_VAR": folder}))
        found: dict[str, Any] = json.loads(app.test_client().get("/openapi.json").data)
        close(app)
    return found


def _operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, verbs in document()["paths"].items():
        yield from ((verb.upper(), path, verbs[verb]) for verb in VERBS if verb in verbs)


def _label(verb: str, path: str) -> str:
    return "-".join(["http", verb.lower(), *re.findall(r"[a-z]+", path)])


def _type_of(schema: dict[str, Any]) -> str:
    if name := schema.get("$ref", "").rpartition("/")[2]:
        return f":ref:`{name} <shape-{name}>`"
    if choices := schema.get("oneOf") or schema.get("anyOf") or schema.get("allOf"):
        shapes = [_type_of(one) for one in choices if one != NULL]
        return " or ".join([*shapes, "null"] if NULL in choices else shapes)
    if schema.get("nullable"):
        return f"{_type_of({**schema, 'nullable': False})} or null"
    if schema.get("type") == "array":
        return f"list of {_type_of(schema.get('items', {}))}"
    return " ".join(filter(None, [schema.get("type", "any"), f"({schema['format']})" if "format" in schema else ""]))


def _number(value: float) -> str:
    return f"{int(value) if value == int(value) else value:,}"


def _meaning(schema: dict[str, Any], told: str = "") -> str:
    """Return a field's description with its bounds."""
    parts = [inline(told or schema.get("description", ""))]
    if choices := [one for one in schema.get("enum", ()) if one is not None]:
        parts.append("One of " + ", ".join(code(str(one)) for one in choices) + ".")
    least, most = schema.get("minimum", schema.get("minLength")), schema.get("maximum", schema.get("maxLength"))
    unit = " characters" if "maxLength" in schema else ""
    if least is not None and most is not None:
        parts.append(f"From {_number(least)} to {_number(most)}{unit}.")
    elif most is not None:
        parts.append(f"At most {_number(most)}{unit}.")
    if schema.get("default") is not None:
        default = str(schema["default"])
        parts.append(f"Default: {code(default)}." if default else "Default: empty.")
    if schema.get("deprecated"):
        parts.append("Deprecated.")
    return " ".join(filter(None, parts))


def _fields(schema: dict[str, Any]) -> str:
    needed = schema.get("required", ())
    rows = [
        (code(name) + (" *needed*" if name in needed else ""), _type_of(one), _meaning(one))
        for name, one in schema.get("properties", {}).items()
    ]
    return table(("Field", "Type", "Meaning"), rows, "22 20 58") if rows else "It has no fields.\n"


def _has_fields(schema: dict[str, Any]) -> bool:
    name = schema.get("$ref", "").rpartition("/")[2]
    return bool((document()["components"]["schemas"][name] if name else schema).get("properties"))


def _body(operation: dict[str, Any]) -> Iterator[str]:
    if request := operation.get("requestBody"):
        kind, told = next(iter(request["content"].items()))
        shape = _type_of(told["schema"]) if _has_fields(told["schema"]) else "``{}``"
        if kind != "application/json":
            shape = f"{shape} as {code(kind)}" if _has_fields(told["schema"]) else code(kind)
        yield f"Body: {shape}{'' if request.get('required') else ', or none'}.\n"
        if example := told.get("example"):
            yield literal(json.dumps(example, indent=2, ensure_ascii=False), "json")


def _answer(status: str, answer: dict[str, Any]) -> tuple[str, str]:
    if name := answer.get("$ref", "").rpartition("/")[2]:
        answer = document()["components"]["responses"][name]
    content = answer.get("content", {}).get("application/json", {}).get("schema")
    shape = f" {_type_of(content)}." if content and status < "300" else ""
    told = inline(answer.get("description", "")).rstrip(".")
    told = PLAIN.get(told, f"{told}.")
    return code(status), f"{told}{shape}".strip() or "Done."


def _described(verb: str, path: str, operation: dict[str, Any]) -> Iterator[str]:
    yield f".. _{_label(verb, path)}:\n"
    yield title(f"{verb} {path}", "~")
    yield inline(operation["summary"]) + ".\n"
    if told := operation.get("description"):
        yield inline(told) + "\n"
    if "security" not in operation:
        yield "Needs no API key.\n"
    if parameters := operation.get("parameters"):
        rows = [
            (code(one["name"]), one["in"], _meaning(one["schema"], one.get("description", ""))) for one in parameters
        ]
        yield table(("Parameter", "In", "Meaning"), rows, "22 10 68")
    yield from _body(operation)
    yield table(
        ("Answer", "Meaning"),
        [_answer(*one) for one in sorted(operation["responses"].items()) if one[0] not in EVERYWHERE],
        "12 88",
    )


class Operations(SphinxDirective):
    """Describes the operations of a tag."""

    required_arguments = 1

    def run(self) -> list[Node]:
        """Return a section for each operation."""
        self.env.note_reread()
        tag = self.arguments[0]
        parts = [
            part for verb, path, one in _operations() if tag in one["tags"] for part in _described(verb, path, one)
        ]
        return self.parse_text_to_nodes("\n".join(parts), allow_section_headings=True)


class Overview(SphinxDirective):
    """Lists all operations."""

    def run(self) -> list[Node]:
        """Return a table."""
        self.env.note_reread()
        rows = [
            (f":ref:`{verb} {path} <{_label(verb, path)}>`", f"{inline(one['summary'])}.")
            for verb, path, one in _operations()
        ]
        return self.parse_text_to_nodes(table(("Operation", "What it does"), rows, "50 50"))


class Shapes(SphinxDirective):
    """Describes every JSON object that operations take or answer."""

    def run(self) -> list[Node]:
        """Return a section for each object."""
        self.env.note_reread()
        used = set(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(document())))
        shapes = [
            (name, one)
            for name, one in sorted(document()["components"]["schemas"].items())
            if name in used and _has_fields(one)
        ]
        parts = [f".. _shape-{name}:\n\n{title(name, '~')}\n{_fields(one)}" for name, one in shapes]
        return self.parse_text_to_nodes("\n".join(parts), allow_section_headings=True)


def _complete(app: Sphinx, env: Any) -> None:
    """Warn of operations under a tag that no page shows."""
    labels = env.domains.standard_domain.anonlabels
    for verb, path, _ in _operations():
        if _label(verb, path) not in labels:
            log.warning("%s %s is not described", verb, path, location="reference/http")


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directives."""
    app.add_directive("http-operations", Operations)
    app.add_directive("http-overview", Overview)
    app.add_directive("http-shapes", Shapes)
    app.connect("env-check-consistency", _complete)
    return {"parallel_read_safe": True}
