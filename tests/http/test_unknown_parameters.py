"""A parameter in the URL of a request that changes something is never passed over."""

import pytest

BATCH = {"subject": "s", "text": "t", "recipients": [{"to": "ann@example.com"}]}


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/messages/batch?dry_run=true", BATCH),
        ("POST", "/slack/messages?dry_run=true", {"text": "x", "channel": "#x"}),
        ("POST", "/suppressions?dry_run=1", {"address": "ann@example.com"}),
        ("POST", "/messages?dryrun=true", {"to": "ann@example.com", "subject": "s", "text": "t"}),
    ],
)
def test_a_request_with_an_unknown_parameter_does_nothing(door, method, path, body):
    before = door.get("/messages", limit=0)["count"], door.get("/batches")["batches"][:1]
    answer = door.call(method, path, json=body)
    assert answer.status_code == 400, answer.text
    (why,) = answer.json()["error"]["fields"].values()
    assert "Unknown parameter" in why[0]
    assert (door.get("/messages", limit=0)["count"], door.get("/batches")["batches"][:1]) == before
