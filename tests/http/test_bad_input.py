"""Sentences about bad input. No schema of ours answers in marshmallow's own words."""

import re
from collections.abc import Iterator

import pytest
from marshmallow import Schema, ValidationError, fields, validate

from mailbbgun.assembly import ROOMS
from mailbbgun.http.bad_input import DEFAULTS, SECRET, listed, printable, sentences, shown, summed_up
from mailbbgun.http.schemas import Time
from mailbbgun.smtp_accounts.schemas import NewAccount

ID = "019cdb4a-7c00-7000-8000-00000000002a"


class Inner(Schema):
    n = fields.Integer()


class Sample(Schema):
    text = fields.String(required=True, metadata={"example": "Hello"})
    number = fields.Integer(strict=True, validate=validate.Range(0, 9))
    least = fields.Integer(strict=True, validate=validate.Range(min=1))
    real = fields.Float(validate=validate.Range(0.5, 2))
    positive = fields.Float(validate=validate.Range(0, min_inclusive=False))
    part = fields.Float(validate=validate.Range(0, 1, min_inclusive=False))
    flag = fields.Boolean()
    identifier = fields.UUID(data_key="id")
    choice = fields.String(validate=validate.OneOf(["red", "green", "blue"]))
    name = fields.String(validate=validate.Length(1, 5))
    code = fields.String(validate=validate.Length(equal=2))
    several = fields.List(
        fields.String(validate=validate.Length(max=3)), validate=validate.Length(1, 2), metadata={"example": ["a"]}
    )
    some = fields.List(fields.String(), validate=validate.Length(1))
    table = fields.Dict(fields.String(), fields.String(), metadata={"example": {"X-Order": "17"}})
    nested = fields.Nested(Inner)
    at = Time()
    odd = fields.String(validate=validate.Regexp("a+", error="Not made of a alone."))
    password = fields.String(load_only=True, validate=validate.Length(2, 4))
    token = fields.List(fields.String(validate=validate.OneOf(["x"])), metadata={**SECRET})


def told(schema: Schema, given: object) -> dict[str, list[str]]:
    with pytest.raises(ValidationError) as caught:
        schema.load(given)  # type: ignore[arg-type]  # what a client sends is not always an object
    return sentences(caught.value.messages, schema, given)


@pytest.mark.parametrize(
    ("given", "path", "sentence"),
    [
        ({}, "text", "`text` is required."),
        ({"text": None}, "text", '`text` must not be null. It must be a string, such as "Hello".'),
        ({"text": 5}, "text", 'Must be a string, such as "Hello"; 5 is a number.'),
        ({"text": True}, "text", 'Must be a string, such as "Hello"; true is a boolean.'),
        ({"text": ["a"]}, "text", 'Must be a string, such as "Hello"; ["a"] is a list.'),
        ({"number": "5"}, "number", 'Must be an integer from 0 to 9; "5" is a string.'),
        ({"number": 10}, "number", "Must be an integer from 0 to 9, not 10."),
        ({"number": 1.5}, "number", "Must be an integer from 0 to 9, not 1.5."),
        ({"number": True}, "number", "Must be an integer from 0 to 9; true is a boolean."),
        ({"least": 0}, "least", "Must be an integer, at least 1, not 0."),
        ({"real": 3}, "real", "Must be a number from 0.5 to 2, not 3."),
        ({"positive": 0}, "positive", "Must be a number above 0, not 0."),
        ({"part": 2}, "part", "Must be a number above 0, at most 1, not 2."),
        ({"real": "x"}, "real", 'Must be a number from 0.5 to 2; "x" is a string.'),
        ({"flag": "maybe"}, "flag", 'Must be true or false; "maybe" is a string.'),
        ({"id": "17"}, "id", f'Must be a UUID, such as {ID}, not "17".'),
        ({"id": 17}, "id", f"Must be a UUID, such as {ID}; 17 is a number."),
        ({"choice": "yellow"}, "choice", 'Must be red, green or blue, not "yellow".'),
        ({"name": ""}, "name", 'Must have 1 to 5 characters; "" has none.'),
        ({"name": "x" * 100}, "name", f'Must have 1 to 5 characters; "{"x" * 59}…" has 100.'),
        ({"code": "abc"}, "code", 'Must have 2 characters; "abc" has 3.'),
        ({"several": ["a", "b", "c"]}, "several", "Must have 1 to 2 entries, not 3."),
        ({"several": ["a", "long"]}, "several.1", 'Must have at most 3 characters; "long" has 4.'),
        ({"several": "a"}, "several", 'Must be a list, such as ["a"]; "a" is a string.'),
        ({"several": ["a", 5]}, "several.1", "Must be a string; 5 is a number."),
        ({"some": []}, "some", "Must have at least one entry, not none."),
        ({"table": 5}, "table", 'Must be an object, such as {"X-Order": "17"}; 5 is a number.'),
        ({"table": {"a": 5}}, "table.a", "Must be a string; 5 is a number."),
        ({"table": {"a": None}}, "table.a", "`table.a` must not be null. It must be a string."),
        ({"nested": []}, "nested", "Must be an object; [] is a list."),
        ({"nested": {"n": "x"}}, "nested.n", 'Must be an integer; "x" is a string.'),
        ({"nested": {"m": 1}}, "nested.m", "Unknown field `m`; the fields here are `n`."),
        ({"at": "noon"}, "at", 'Must be a time as in RFC 3339, such as 2026-01-31T12:00:00Z, or a date, not "noon".'),
        ({"at": 5}, "at", "Must be a time as in RFC 3339, such as 2026-01-31T12:00:00Z, or a date; 5 is a number."),
        ({"odd": "b"}, "odd", '"b": Not made of a alone.'),
        ({"odd": "\u202e\x07\x7f"}, "odd", '"\\u202e\\u0007\\x7f": Not made of a alone.'),
        ({"txet": 1}, "txet", "Unknown field `txet`; did you mean `text`?"),
        ({"identifier": 1}, "identifier", "Unknown field `identifier`; did you mean `id`?"),
        ({"x\n": 1}, "x\n",
            "Unknown field `x\\n`; the fields here are `text`, `number`, `least`, `real`, `positive`, `part`, `flag`, "
            "`id`, `choice`, `name`, `code`, `several`, `some`, `table`, `nested`, `at`, `odd`, `password` and "
            "`token`."),
        ({"password": "S3CRET"}, "password", "Must have 2 to 4 characters, not 6."),
        ({"password": ["S3CRET"]}, "password", "Must be a string; what was given is a list."),
        ({"token": "S3CRET"}, "token", "Must be a list; what was given is a string."),
        ({"token": ["S3CRET"]}, "token.0", "Must be x."),
        ({"token": [5]}, "token.0", "Must be x; what was given is a number."),
    ],
)  # fmt: skip
def test_a_sentence_names_what_was_given_and_what_would_be_right(
    given: dict[str, object], path: str, sentence: str
) -> None:
    schema = Sample()
    found = told(schema, ({} if "text" in given or not given else {"text": "x"}) | given)
    assert found == {path: [sentence]}


def test_a_body_that_is_no_object_is_told_so() -> None:
    assert told(Sample(), [1]) == {"": ["Must be an object; [1] is a list."]}


def test_of_a_body_with_a_million_wrong_fields_the_first_are_told_and_the_rest_is_not_looked_at() -> None:
    found = told(Sample(), {f"{'x' * 300}{n}": n for n in range(100_000)})
    assert len(found) == 20
    assert max(len(sentence) for (sentence,) in found.values()) < 400


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"), (True, "true"), (-1.5, "-1.5"), ("a\"b", '"a\\"b"'), ("ü 日", '"ü 日"'),
        ("\ud800\n", '"\\ud800\\n"'), ([1, {"a": None}], '[1, {"a": null}]'),
        (["x" * 10] * 1_000_000, '["xxxxxxxxxx", "xxxxxxxxxx", "xxxxxxxxxx", "xxxxxxxxxx", "x…'),
    ],
)  # fmt: skip
def test_a_value_is_shown_on_one_short_line_that_prints(value: object, text: str) -> None:
    assert shown(value) == text
    assert all(one.isprintable() for one in shown(value))


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"to": ["`to` is required."]}, "`to` is required."),
        ({"to": ["'x': Not an address."]}, "`to`: 'x': Not an address."),
        ({"to": ["One.", "Two."]}, "Some fields are not valid: `to`."),
        ({"to": ["One."], "cc": ["Two."]}, "Some fields are not valid: `to` and `cc`."),
    ],
)
def test_one_sentence_sums_up_what_is_wrong(wrong: dict[str, list[str]], sentence: str) -> None:
    assert summed_up(wrong) == sentence


def test_words_are_listed_as_people_do() -> None:
    assert [listed(one) for one in ([], ["a"], ["a", "b"], ["a", "b", "c"])] == ["nothing", "a", "a or b", "a, b or c"]
    assert printable("x" * 100) == "x" * 59 + "…"


def schemas() -> Iterator[tuple[Schema, str]]:
    """Yield the schema of every route's arguments, and where these stand in the request."""
    for room in ROOMS:
        for docs in room.blueprint._docs.values():
            for method in docs.values():
                yield from _arguments(method)


def _arguments(method: object) -> list[tuple[Schema, str]]:
    found = method.get("arguments", {}) if isinstance(method, dict) else {}  # flask-smorest keeps its documentation so
    return [(one["schema"], one["in"]) for one in found.get("parameters", []) if isinstance(one.get("schema"), Schema)]


BAD = [
    None,
    True,
    5,
    -1,
    1.5,
    10**30,
    "",
    "x",
    "\0",
    "x" * 1000,
    [],
    [None],
    [5],
    ["\n"],
    {},
    {"a": 5},
    {"a": None},
    {"": "x"},
    [[]],
    [{}],
]
DEFAULT_WORDS = re.compile(
    r"^(?:Must be (?:one of:|greater|less|equal to)|Shorter than|Longer than (?:maximum)|Length must"
    r"|One or more|String does not match|Invalid )"
)


def test_no_schema_answers_in_marshmallows_own_words() -> None:
    known = list(schemas())
    assert len({type(one) for one, _ in known}) >= 12
    for schema, place in known:
        names = [field.data_key or name for name, field in schema.fields.items()]
        for name in [*names, "unknown_to_all"]:
            for value in BAD if place == "json" else [one for one in BAD if isinstance(one, str)]:
                try:
                    schema.load({name: value})
                except ValidationError as error:
                    for sentence in (
                        one for wrong in sentences(error.messages, schema, {name: value}).values() for one in wrong
                    ):
                        assert sentence not in DEFAULTS, (schema, name, value)
                        assert not DEFAULT_WORDS.match(sentence), (schema, name, value, sentence)
                        assert all(one.isprintable() for one in sentence)


def test_no_sentence_about_an_account_repeats_a_secret() -> None:
    for name in ("smtp_password", "smtp_username", "ca_certificate"):
        for value in ("S3CRET\0", "S3CRET" * 100_000, ["S3CRET"], {"S3CRET": "S3CRET"}, {"a": {"S3CRET": 1}}):
            found = told(NewAccount(), {"setting_name": "x", name: value})
            assert name in found
            assert "S3CRET" not in str(found), found
