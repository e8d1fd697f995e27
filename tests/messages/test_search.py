"""Filters of a list are checked in linear time."""

import pytest

from mailbbgun.messages import schemas
from tests.waiting import cpu_of, growth


@pytest.mark.parametrize(
    ("field", "text", "ending"),
    [
        ("message_id_header", "@", " x"), ("message_id_header", "a@", " x"), ("message_id_header", " ", "x"),
        ("message_id_header", "a", " x"),
        ("to", " ", "x"), ("to", "@", " <"), ("to", "a@", "<"), ("from", " ", "x"), ("from", "<", ">"),
        ("domain", "a.", " x"), ("domain", "ä", " x"),
        ("tag", "@", ""), ("subject", " ", ""),
    ],
)  # fmt: skip
def test_a_filter_is_checked_in_linear_time(field, text, ending):
    filters = schemas.Filters()
    assert (
        growth(lambda length: cpu_of(lambda: filters.validate({field: text * length + ending})), 2_000, 32_000) < 64
    )  # 256, were it quadratic


@pytest.mark.parametrize("rule", [schemas._BARE[1], schemas._MESSAGE_ID[1]])
@pytest.mark.parametrize("text", ["@", "a@", " ", "a", "a @", "<", "@a"])
def test_the_form_of_an_address_is_checked_in_linear_time(rule, text):
    def cost(length: int) -> float:
        return cpu_of(lambda: [rule.regex.match(text * length + ending) for ending in (" x", "<", "@", "")])

    assert growth(cost, 2_000, 32_000) < 64
