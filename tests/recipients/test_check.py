"""The recipients of one content: which are taken, and what is said of the others."""

import pytest

from mailbbgun.batches.personal import personal_row
from mailbbgun.composing.contents import Personal
from mailbbgun.core.caller import ANYBODY, Caller, KeyKind
from mailbbgun.core.ids import DEFAULT_TENANT, new_id, new_ids
from mailbbgun.recipients.check import check
from mailbbgun.settings.load import load


@pytest.fixture
def settings(tmp_path):
    return load({"MAILBBGUN_VAR": str(tmp_path), "MAILBBGUN_HOSTNAME": "mail.example.com"})


def test_a_team_key_sends_a_batch_to_its_guests_only(settings):
    team = Caller(DEFAULT_TENANT, kind=KeyKind.TEAM, guests=frozenset({"example.com"}))
    found, faults = check([{"to": "a@example.com"}, {"to": "b@example.org"}], {}, settings, team)
    assert [one.box.address for one in found] == ["a@example.com"]
    assert "guests" in faults[1]["to"][0]


def test_only_a_test_key_sends_to_the_simulator(settings):
    items = [{"to": "bounce@simulator"}]
    assert check(items, {}, settings, ANYBODY)[1]
    assert not check(items, {}, settings, Caller(DEFAULT_TENANT, kind=KeyKind.TEST))[1]


def test_null_counts_as_nothing(settings):
    found, faults = check([{"to": "a@example.com", "variables": None, "metadata": None}], {"x": 1}, settings, ANYBODY)
    assert (found[0].variables, found[0].metadata, faults) == ({"x": 1}, {}, {})


def test_every_fault_of_a_recipient_is_told(settings):
    _, faults = check([{"to": 7, "colour": 1, "x": 2}], {}, settings, ANYBODY)
    assert set(faults[0]) == {"to", "colour", "x"}


@pytest.mark.parametrize("item", [{"to": "Ann <a@example.com>", "variables": {"a": 1}}, {"to": "a@example.com"}])
def test_the_row_of_a_recipient_is_that_of_any_composed_message(settings, item):
    (one,), _ = check([item], {}, settings, ANYBODY)
    row = personal_row(one)
    assert Personal.of_row(row) == Personal(to=(one.box,), variables=one.variables)
    assert {name: [*map(list, value)] if name == "to" else value for name, value in row.items()} == Personal(
        to=[one.box], variables=one.variables
    ).row()


def test_many_ids_at_once_are_in_order_and_between_no_others():
    before, many, after = new_id(), new_ids(5000), new_id()
    assert [before, *many, after] == sorted({before, *many, after})
    assert {one.version for one in many} == {7}
