"""The header fields that a client may name: which are reserved, free text or structured. Pure.

Also here: which values of a field cannot be sent.
"""

import re

#: Octets of a line without its CRLF (RFC 5322 §2.1.1).
LONGEST_LINE = 998

_ASCII = re.compile(r"[\x20-\x7e\t]*")
_BEYOND = re.compile(r"[^\x20-\x7e\t]")

#: Fields of free text that is encoded if it does not fit a line; in other fields it is refused.
TEXT = frozenset(("subject", "comments", "keywords", "thread-topic", "organization"))

# Fields of the IANA registry, or in wide use, whose value has a grammar. An encoded word in them is an
# error (RFC 2047 §5): programs compare or parse them as they are. Any other field is taken for free text.
_STRUCTURED = frozenset(
    (
        # messages and threads: RFC 5322 §3.6.4, RFC 2156, RFC 5536
        "in-reply-to", "references", "original-message-id", "x-message-id", "x-original-message-id", "supersedes",
        "obsoletes", "thread-index", "archived-at",
        # lists: RFC 2369, RFC 2919 and RFC 8058 (all of list-*), and their elders
        "mailing-list", "x-mailing-list", "x-loop", "x-been-there", "x-list-id",
        # how it is to be taken: RFC 3834, RFC 2156, RFC 2076, RFC 3458, RFC 8689, RFC 6758
        "auto-submitted", "precedence", "importance", "priority", "sensitivity", "x-priority", "x-msmail-priority",
        "x-auto-response-suppress", "message-context", "message-type", "expires", "expiry-date", "reply-by",
        "latest-delivery-time", "deferred-delivery", "language", "accept-language", "mt-priority", "tls-required",
        "autosubmitted", "autoforwarded", "conversion", "conversion-with-loss", "alternate-recipient",
        "disclose-recipients", "prevent-nondelivery-report", "generate-delivery-report", "incomplete-copy",
        # who is told: RFC 8098, RFC 9477, RFC 7293
        "disposition-notification-to", "disposition-notification-options", "original-recipient", "feedback-id",
        "x-feedback-id", "cfbl-address", "cfbl-feedback-id", "mail-followup-to", "mail-reply-to",
        "x-complaints-to", "x-abuse-reports-to", "x-csa-complaints", "require-recipient-valid-since",
        # identities and signatures
        "autocrypt", "openpgp", "bimi-location", "bimi-selector", "x-face", "face", "x-entity-ref-id",
        "x-originating-ip", "x-uidl",
        # news: RFC 5536
        "newsgroups", "followup-to", "distribution", "path", "control", "approved", "xref", "lines",
    )
)  # fmt: skip
_STRUCTURED_KINDS = ("list-",)

#: Fields that a client cannot name in ``headers``: the service or a mail server on the way sets them, or a
#: request has a field of its own for them.
RESERVED = frozenset(
    (
        "from", "sender", "reply-to", "to", "cc", "bcc", "subject", "date", "message-id", "mime-version",
        # trace fields and what servers on the way decide by: RFC 5321 §4.4, RFC 6376, RFC 8601, RFC 7208
        "received", "return-path", "delivered-to", "errors-to", "apparently-to", "dkim-signature",
        "domainkey-signature", "authentication-results", "received-spf", "return-receipt-to",
    )
)  # fmt: skip
_RESERVED_KINDS = ("content-", "resent-", "arc-")


def reserved(name: str) -> bool:
    """Say whether a client cannot name this header field."""
    lower = name.lower()
    return lower in RESERVED or lower.startswith(_RESERVED_KINDS)


def structured(name: str) -> bool:
    """Say whether programs read a header field, so that its value must not be encoded."""
    lower = name.lower()
    return lower in _STRUCTURED or lower.startswith(_STRUCTURED_KINDS)


def refusal(name: str, value: str) -> str | None:
    """Return a sentence that says why this field cannot take a value, which is one line; None: it can."""
    if structured(name):
        if found := _BEYOND.search(value):
            return (
                f"{name} is read by programs, so it takes ASCII only (RFC 2047 §5): "
                f"{_shown(found[0])} cannot be sent in it."
            )
    elif name.lower() in TEXT or not _ASCII.fullmatch(value):
        return None  # ``mime`` encodes it if it must
    size, room = longest_word(name, value)
    if size <= room:
        return None
    return (
        f"Has {size} octets without a space, and a line takes {LONGEST_LINE} (RFC 5322 §2.1.1), which leaves {room} "
        f"for the value of {name} here: put spaces where it may be folded, or make it shorter."
    )


def longest_word(name: str, value: str) -> tuple[int, int]:
    """Return the octets of the word that fits its line least, and the room on that line.

    The first word stands beside the field's name; any other may have a line to itself.
    """
    first, *others = value.split() or [""]
    beside_name, alone = (
        (len(first), LONGEST_LINE - len(name) - 2),
        (max(map(len, others), default=0), LONGEST_LINE - 1),
    )
    return max(beside_name, alone, key=lambda one: one[0] - one[1])


def _shown(character: str) -> str:
    return repr(character) if character.isprintable() else f"U+{ord(character):04X}"
