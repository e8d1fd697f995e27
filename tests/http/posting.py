"""Messages that tests post, and what they read of the answers."""

from email import message_from_bytes, policy

ANOTHER_WAY = {"X-Unknown": "so the framework has it"}
GOOD = {"to": "ann@example.com", "subject": "Hello", "text": "It works."}


def parsed(door, identifier):
    return message_from_bytes(door.call("GET", f"/messages/{identifier}/raw").content, policy=policy.default)


def wrong(answer, *fields, status=400, code="validation_error"):
    error = answer.json()["error"]
    assert (answer.status_code, error["status"], error["code"]) == (status, status, code), answer.text
    assert error["message"]
    assert sorted(error.get("fields", {})) == sorted(fields), error
