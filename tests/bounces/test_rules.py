"""The operator's rules come before the tables; wrong ones are told."""

import json

import pytest

from mailbbgun.bounces import rules
from mailbbgun.bounces.read import read
from mailbbgun.bounces.report import BounceClass
from mailbbgun.core.errors import ConfigurationError
from tests.bounces.letters import dsn

RULE = {"pattern": "No Such User", "class": "soft", "reason": "our_gateway"}


def test_a_rule_decides_before_the_tables_in_any_case_for_replies_and_reports():
    ours = rules.classifier(json.dumps([RULE]))
    found = ours.classify(550, "5.1.1", "no such USER here")
    assert (found.reason, found.class_) == ("our_gateway", BounceClass.SOFT)
    assert read(dsn(), ours).recipients[0].reason == "our_gateway"
    assert ours.classify(550, "5.1.1", "unknown user").reason == "invalid_mailbox"


def test_the_classes_of_a_pattern_keep_their_case():
    ours = rules.classifier(json.dumps([RULE | {"pattern": r"^\S+ User\b"}]))
    assert ours.classify(550, None, "odd user").reason == "our_gateway"


def test_rules_may_be_in_a_file(tmp_path):
    path = tmp_path / "rules.json"
    path.write_text(json.dumps([RULE]))
    assert rules.classifier(str(path)).classify(550, None, "No such user").reason == "our_gateway"
    assert rules.classifier("").classify(550, None, "No such user").reason == "invalid_mailbox"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("[", "no JSON"),
        ("/nowhere/rules.json", "cannot be read"),
        (json.dumps([RULE | {"more": "x"}]), "exactly pattern, class and reason"),
        (json.dumps([RULE | {"pattern": 1}]), "must be texts"),
        (json.dumps([RULE | {"pattern": "("}]), "no regular expression"),
        (json.dumps([RULE | {"class": "firm"}]), "one of hard, soft, block, unknown"),
        (json.dumps([RULE | {"reason": "Mailbox full"}]), "a to z"),
        (json.dumps([RULE] * 501), "at most 500"),
        ("[" * 100_000, "no JSON"),
    ],
)
def test_wrong_rules_are_told(given, words):
    with pytest.raises(ConfigurationError, match=words):
        rules.classifier(given)
