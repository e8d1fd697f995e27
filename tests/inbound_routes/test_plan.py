"""Which routes match, and what they want together."""

from uuid import uuid4

import pytest

from mailbbgun.inbound_routes.patterns import LONGEST, fits, why_no_pattern
from mailbbgun.inbound_routes.plan import RouteRule, planned

ANN = "Ann@Example.com"


@pytest.mark.parametrize(
    ("pattern", "text", "fitting"),
    [
        ("ann@example.com", ANN, True),
        ("ann@example.co", ANN, False),
        ("*", "", True),
        ("**", ANN, True),
        ("*@example.com", ANN, True),
        ("*@example.com", "ann@sub.example.com.evil.test", False),
        ("a*@*.com", ANN, True),
        ("a*a", "a", False),
        ("a*a", "aa", True),
        ("*ab*ba*", "aba", False),
        ("*ab*ba*", "abba", True),
        ("ann.@example.com", ANN, False),
        ("[a-z]*", "abc", False),
        ("*ÄPFEL*", "drei äpfel", True),
    ],
)
def test_a_star_is_any_text_and_all_else_is_itself(pattern, text, fitting):
    assert fits(pattern, text) is fitting


def test_the_worst_pattern_and_text_are_matched_in_no_time():
    assert not fits("*a" * 10 + "b", "a" * 100_000)


@pytest.mark.parametrize("text", ["", "a" * (LONGEST + 1), "*" * 11, "a\r\nb"])
def test_a_pattern_that_is_too_much_is_refused(text):
    assert why_no_pattern(text)


def rule(name, matching=None, *actions, stop=False):
    return RouteRule.of(uuid4(), name, matching or {}, actions, stop=stop)


URGENT = {"header": {"name": "X-Urgent", "value": "*"}}
POST = {"post": {"url": "https://app.test/", "form": "json"}}


@pytest.mark.parametrize(
    ("rules", "header", "wanted"),
    [
        ([], None, {"to_own_mailbox": True, "leaves": False, "open": False}),
        ([rule("r", URGENT, POST)], None, {"to_own_mailbox": True, "leaves": False, "open": True}),
        ([rule("r", URGENT, POST)], [("x-urgent", "yes")], {"leaves": True, "open": False}),
        ([rule("r", URGENT, POST)], [("Subject", "x")], {"leaves": False, "open": False}),
        ([rule("r", {"recipient": "bob@*"} | URGENT, POST)], None, {"leaves": False, "open": False}),
        ([rule("r", stop=True)], None, {"to_own_mailbox": False, "dropped": True}),
        ([rule("r", None, {"store": {}}, stop=True)], None, {"to_own_mailbox": True, "dropped": False}),
        (
            [rule("r", None, {"store": {"mailbox": "ann@example.com"}}, stop=True), rule("r", None, POST)],
            None,
            {"own": True, "stores": {}, "leaves": False},
        ),
        # Before DATA nobody knows whether the first ends the list.
        ([rule("r", URGENT, stop=True), rule("r", None, POST)], None, {"leaves": True, "to_own_mailbox": True}),
    ],
)
def test_rules_add_up_until_one_stops(rules, header, wanted):
    plan = planned(rules, ANN, header)
    assert {name: getattr(plan, name) for name in wanted} == wanted
