"""E-mail addresses as people write them: ``ann@example.com``, ``"Ann Lee" <ann@example.com>``, several with commas. The one parser."""

import re
from collections.abc import Iterable

from mailbbgun.base import addresses
from mailbbgun.messages.mime import Mailbox, one_line

NAME_SIZE = 256  # characters of a display name
SHOWN_SIZE = 60  # characters of an address in a sentence about it
MOST_TOLD = 10  # addresses of one field
BLANK = " \t"  # not line breaks: those are refused wherever they stand

_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"')


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
    return Mailbox(name, addresses.address(address))


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
