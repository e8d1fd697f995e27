"""Says in words what a refusal means, and what a person can do about it."""

from types import MappingProxyType

#: A retry goes to the same address.
_NEW_ADDRESS = "Send a new message to the right address."

#: By cause: what it means, and what helps.
_WORDS = MappingProxyType(
    {
        "invalid_mailbox": ("there is no such mailbox", _NEW_ADDRESS),
        "invalid_domain": ("there is no such domain", _NEW_ADDRESS),
        "mailbox_moved": ("the recipient has another address now", "Ask for the new address."),
        "no_mail_accepted": ("the domain takes no mail", _NEW_ADDRESS),
        "mailbox_full": ("the mailbox is full", "Tell the recipient by another way, or send it later."),
        "mailbox_disabled": ("the mailbox is disabled", "Ask the recipient by another way."),
        "greylisted": ("the server lets strangers wait", "It is usually taken at a later try."),
        "throttled": ("too much mail came in a short time", "Send more slowly: limits of an SMTP account do that."),
        "too_many_connections": ("there were too many connections", "Lower the account's max_connections."),
        "message_too_big": ("the message is too big", "Send it with smaller files, or with links to them."),
        "expired": ("the next server could not deliver it in time", "Look whether the recipient's server works."),
        "network_error": ("a server could not be reached", "Look whether the recipient's server works."),
        "routing_loop": ("servers pass it around in a circle", "Tell the recipient's postmaster."),
        "system_full": ("the server is full", "Send it later."),
        "system_error": ("the server has trouble of its own", "Send it later."),
        "mailer_error": ("a program of the recipient failed", "Tell the recipient by another way."),
        "recipient_refuses": ("the recipient refuses this mail", "Ask the recipient by another way."),
        "sender_rejected": (
            "the sender is refused",
            "Look at From and mail_from, and at who may write to that address.",
        ),
        "reputation": (
            "the sending server has a bad reputation",
            "Follow the reply's link to have it removed from a list.",
        ),
        "no_reverse_dns": ("the sending server has no reverse DNS", "Add a PTR record for its IP address."),
        "authentication": (
            "SPF, DKIM or DMARC fail",
            "GET /domains/{domain} says which records the sender's domain lacks.",
        ),
        "spam": ("it is taken for spam", "Look at the content and at the sender's DNS records."),
        "virus": ("it is taken for a virus", "Send it without the file."),
        "content": ("the content is refused", "Change the content or the files."),
        "policy": ("a rule of the receiver forbids it", "Read the reply, and ask the recipient's postmaster."),
        "relaying_denied": ("the server does not pass mail on for us", "Look at the SMTP account's user and senders."),
        "protocol": ("the server did not understand us", "Look at the server's log."),
    }
)


def means(cause: str | None) -> tuple[str, str]:
    """Return "because …", with a comma before it, and advice; both empty if nothing is known."""
    words, advice = _WORDS.get(cause or "", ("", ""))
    return (f", because {words}", advice) if words else ("", "")
