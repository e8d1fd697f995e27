"""Sentences about unknown paths and wrong methods."""

import pytest

from mailbbgun.http.unknown_routes import not_offered, nothing_at

RULES = [
    "/", "/health", "/messages", "/messages/<uuid:message_id>", "/messages/<uuid:message_id>/raw",
    "/messages/<uuid:message_id>/events",
    "/tenants/<uuid:tenant_id>/keys/<uuid:key_id>", "/smtp-accounts", "/smtp-accounts/presets",
    "/smtp-accounts/<uuid:account_id>",
    "/docs/assets/<path:name>",
]  # fmt: skip
ID = "019cdb4a-7c00-7000-8000-00000000002a"


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("/messages/123", f'"123" is no UUID: in /messages/{{message_id}}, message_id is one, such as {ID}.'),
        ("/messages/123/raw", f'"123" is no UUID: in /messages/{{message_id}}/raw, message_id is one, such as {ID}.'),
        (
            f"/messages/{ID.replace('-', '')}",
            f'"{ID.replace("-", "")}" is no UUID: in /messages/{{message_id}}, message_id is one, such as {ID}.',
        ),
        (
            f"/tenants/{ID}/keys/x",
            f'"x" is no UUID: in /tenants/{{tenant_id}}/keys/{{key_id}}, key_id is one, such as {ID}.',
        ),
        (
            "/messages/\0\u202e",
            f'"\\u0000\\u202e" is no UUID: in /messages/{{message_id}}, message_id is one, such as {ID}.',
        ),
        ("/mesages", "There is nothing at /mesages; did you mean /messages?"),
        ("/message", "There is nothing at /message; did you mean /messages?"),
        ("/messages/", "There is nothing at /messages/; did you mean /messages?"),
        (
            f"/messages/{ID}/cancel",
            f"There is nothing at /messages/{ID}/cancel; to cancel a message: DELETE /messages/{{message_id}}.",
        ),
        (
            f"/messages/{ID}/event",
            f"There is nothing at /messages/{ID}/event; did you mean /messages/{{message_id}}/events?",
        ),
        ("/smtp_accounts", "There is nothing at /smtp_accounts; did you mean /smtp-accounts?"),
        ("/wp-login.php", "There is nothing at /wp-login.php; /docs shows all addresses."),
        ("/\n\x1b[31m", "There is nothing at /\\n\\x1b[31m; /docs shows all addresses."),
        ("/" + "x" * 10_000, f"There is nothing at /{'x' * 58}…; /docs shows all addresses."),
    ],
)
def test_a_path_that_leads_nowhere_is_told_why_and_what_is_near(path: str, sentence: str) -> None:
    assert nothing_at(path, RULES) == sentence


def test_a_method_that_is_not_offered_is_told_which_are() -> None:
    assert (
        not_offered("PUT", "/messages", ["POST", "GET", "HEAD", "OPTIONS"])
        == "PUT is not possible at /messages; GET and POST are."
    )
    assert not_offered("POST", "/health", ["GET", "HEAD", "OPTIONS"]) == "POST is not possible at /health; GET is."
