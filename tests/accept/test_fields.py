"""The declarations of fields: schema, checks and columns follow from them."""

from dataclasses import fields

import pytest

from mailbbgun.accept.checks import check
from mailbbgun.accept.fields import KEPT, SHAPES, Fields, Options, name_in_json
from mailbbgun.accept.quick import submission_of
from mailbbgun.accept.schema import NewMessage
from mailbbgun.core.caller import ANYBODY
from mailbbgun.core.errors import InvalidInput
from mailbbgun.messages.models import MESSAGES
from mailbbgun.messages.schemas import Details

BODY = {"to": "ann@example.com", "subject": "s", "text": "t"}


@pytest.mark.parametrize("name", KEPT)
def test_a_kept_option_has_a_column_of_its_name_and_is_shown(name):
    assert name in MESSAGES.columns
    assert name in {shown.data_key or field for field, shown in Details().fields.items()}


@pytest.mark.parametrize("name", sorted(SHAPES))
def test_a_declared_field_is_taken_from_json_and_explained_with_an_example(name):
    shape = NewMessage().fields[name]
    assert (shape.data_key or name) == name_in_json(name)
    assert shape.metadata["description"].endswith(".")
    example = shape.metadata["example"]
    submission, options = NewMessage().load(BODY | {name_in_json(name): example})
    assert submission_of(BODY | {name_in_json(name): example}) == (submission, options)
    part = submission if name in {one.name for one in fields(Fields)} else options
    assert getattr(part, name) in (example, [example], shape.deserialize(example))


def test_every_field_that_a_client_may_give_is_declared_but_for_one_old_name():
    assert set(NewMessage().fields) == set(SHAPES) | {"old_message_id"}
    besides = {"idempotency_key", "brought"}  # a header, and the files of a form
    assert {one.name for kind in (Fields, Options) for one in fields(kind)} == set(SHAPES) | besides


def test_what_is_too_long_is_not_read_at_all(embedded_settings):
    lists = '{"category": [' + "[]," * 20_000 + "[]]}"
    given = Fields(to=["ann@example.com"], subject="s", text="t", headers={"X-SMTPAPI": lists})
    with pytest.raises(InvalidInput) as caught:
        check(given, Options(), embedded_settings, ANYBODY)
    assert caught.value.fields == {"headers.X-SMTPAPI": [f"Has {len(lists)} characters, and 4096 are the most."]}
