"""A good message to post, and checks of the response."""

from email import message_from_bytes, policy

#: A header that the quick way does not know, so that Flask handles the request.
ANOTHER_WAY = {"X-Unknown": "so the framework has it"}
GOOD = {"to": "ann@example.com", "subject": "Hello", "text": "It works."}


def parsed(door, identifier):
    """Return the MIME of a message, parsed."""
    return message_from_bytes(door.call("GET", f"/messages/{identifier}/raw").content, policy=policy.default)


def wrong(answer, *fields, status=400, code="validation_error"):
    """Check that a response is an error about exactly these fields."""
    error = answer.json()["error"]
    assert (answer.status_code, error["status"], error["code"]) == (status, status, code), answer.text
    assert error["message"]
    assert sorted(error.get("fields", {})) == sorted(fields), error
