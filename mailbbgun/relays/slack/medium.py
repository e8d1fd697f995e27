"""Tells messages to Slack from mail, by the address that a message is from.

A message to Slack is from ``slack:<id of the Slack account>@slack``. No mail can be: a local part
with a colon must be quoted (RFC 5321 §4.1.2), and then the address begins with a quotation mark.
"""

from uuid import UUID

SLACK, MAIL = MEDIA = ("slack", "mail")

#: How the sender of a message to Slack begins. The sender is also the name of the message's route.
SLACK_PREFIX = "slack:"

#: The sender of messages of test keys. They are simulated.
SIMULATED = f"{SLACK_PREFIX}test@slack"


def slack_sender(account_id: UUID) -> str:
    """Return the sender of messages that go through a Slack account."""
    return f"{SLACK_PREFIX}{account_id}@slack"


def slack_account_of(sender: str) -> UUID:
    """Return the id of the account in a sender. Raises ``ValueError`` for the sender of test keys, and for mail."""
    return UUID(sender.removeprefix(SLACK_PREFIX).removesuffix("@slack"))


def medium_of(sender: str) -> str:
    """Return the medium of a message, by the address in its From."""
    return SLACK if sender.startswith(SLACK_PREFIX) else MAIL
