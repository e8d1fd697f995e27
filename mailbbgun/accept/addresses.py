"""E-mail addresses as people write them: ``ann@example.com``, ``"Ann Lee" <ann@example.com>``, several with commas. The one parser.

No DNS. Domains become A-labels at once, so header, envelope and table agree; local parts keep their case and may be any script (RFC 6531).
"""

import re
from collections.abc import Iterable
from functools import lru_cache

import email_validator

from mailbbgun.messages.mime import Mailbox, one_line

NAME_SIZE = 256  # characters of a display name
SHOWN_SIZE = 60  # characters of an address in a sentence about it
MOST_TOLD = 10  # addresses of one field
BLANK = " \t"  # not line breaks: those are refused wherever they stand

# Mail of tests and of a LAN goes to names such as box.test, intranet.local and localhost; the list is the library's switch for that.
email_validator.SPECIAL_USE_DOMAIN_NAMES.clear()

_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"')
_DOT_ATOM = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")  # RFC 5322 §3.2.3
_IPV4 = re.compile(r"[0-9]+(?:\.[0-9]+){3}")


def mailboxes(texts: Iterable[str], longest: int) -> tuple[list[Mailbox], list[str]]:
    """Return the mailbox of each address in each text, and a sentence, safe to show, for each that is none: which, and why.

    After ``MOST_TOLD`` of those the rest is not looked at.
    """
    found: list[Mailbox] = []
    wrong: list[str] = []
    for one in (one for text in texts for one in _split(text)):
        try:
            found.append(mailbox(one, longest))
        except ValueError as error:
            wrong.append(f"{_shown(one)}: {error}")
            if len(wrong) == MOST_TOLD:
                break
    return found, wrong


def mailbox(text: str, longest: int) -> Mailbox:
    """Parse one address, with or without a display name. ``longest``: characters of the address. Raises ``ValueError`` with a
    sentence that is safe to show.
    """
    text = text.strip(BLANK)
    name, address = "", text
    if text.endswith(">") and "<" in text:
        name, _, address = text[:-1].rpartition("<")
        name = _name(name.strip(BLANK))
    if len(address) > longest:
        raise ValueError(f"Longer than {longest} characters.")
    return Mailbox(name, _address(address))


def _shown(text: str) -> str:
    text = text.strip(BLANK)
    return repr(text if len(text) <= SHOWN_SIZE else text[: SHOWN_SIZE - 1] + "…")  # nothing in it that does not print


def _name(text: str) -> str:
    if text.startswith('"') and _QUOTED.fullmatch(text):
        text = re.sub(r"\\(.)", r"\1", text[1:-1])
    elif any(special in text for special in '"<>'):
        raise ValueError('Put the display name in quotes: "Ann (sales)" <ann@example.com>.')
    if len(text) > NAME_SIZE:
        raise ValueError(f"The display name is longer than {NAME_SIZE} characters.")
    if not one_line(text):
        raise ValueError("The display name must be one line without control characters.")
    return text.strip(BLANK)


def _address(text: str) -> str:
    local, _, domain = text.rpartition("@")
    if len(local) < 64 and _DOT_ATOM.fullmatch(local) and len(found := _valid("a@" + domain)) < 190:
        return local + found[1:]  # as nearly all: a domain has many addresses, and it is what takes time
    return _valid(text)


@lru_cache(maxsize=4096)  # applications write from the same few addresses to the same few domains
def _valid(text: str) -> str:
    try:
        found = email_validator.validate_email(text, check_deliverability=False, globally_deliverable=False)
    except email_validator.EmailNotValidError as error:
        raise ValueError(f"Not a valid e-mail address: {error}") from error
    if _IPV4.fullmatch(found.ascii_domain):
        raise ValueError("Not a valid e-mail address: the part after the @-sign is an IP address.")
    return f"{found.local_part}@{found.ascii_domain}"


def _split(text: str) -> list[str]:
    """Split at the commas outside quotes, in linear time."""
    if "," not in text:
        return [text]
    parts, start, quoted, escaped = [], 0, False, False
    for position, character in enumerate(text):
        if escaped:
            escaped = False
        elif quoted and character == "\\":
            escaped = True
        elif character == '"':
            quoted = not quoted
        elif character == "," and not quoted:
            parts.append(text[start:position])
            start = position + 1
    return [*parts, text[start:]]
