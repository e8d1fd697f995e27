"""E-mail addresses as people write them: ``ann@example.com``, ``"Ann Lee" <ann@example.com>``, several with commas or semicolons. The one parser."""

import re
from collections.abc import Iterable, Iterator

from mailbbgun.core import addresses
from mailbbgun.messages.mime import Mailbox, one_line

NAME_SIZE = 256  # characters of a display name
SHOWN_SIZE = 60  # characters of an address in a sentence about it
MOST_TOLD = 10  # addresses of one field
BLANK = " \t"  # not line breaks: those are refused wherever they stand

# Linear, all of them: what is matched once is never given back.
_QUOTES = r'"(?:[^"\\]|\\.)*+"'
_QUOTED = re.compile(_QUOTES, re.DOTALL)
_NAMED = re.compile(rf'((?:[^"<>]++|{_QUOTES})*+)<((?:[^"<>]++|{_QUOTES})*+)>', re.DOTALL)
_PIECE = re.compile(
    r'((?:"(?:[^"\\]|\\.)*+(?:"|\\?\Z)|[^",;]++)*+)(?:[,;]|\Z)', re.DOTALL
)  # quotes that nobody closes go on to the end
_NO_BRACKETS = re.compile(r'([^"<>]*[^"<>@ ]) +([^"<>@ ]+@[^"<>@ ]+)')  # a name and an address


def mailboxes(texts: Iterable[str], longest: int, most: int = 1000) -> tuple[list[Mailbox], list[str]]:
    """Return the mailbox of each address in each text, and a sentence, safe to show, for each that is none: which, and why.

    Commas and semicolons separate addresses; what is blank between them is nothing. After ``MOST_TOLD`` sentences, and after more than ``most``
    mailboxes, the rest is not looked at.
    """
    found: list[Mailbox] = []
    wrong: list[str] = []
    for text in texts:
        if "," not in text and ";" not in text:  # as nearly all
            try:
                if not text.isspace() and text:
                    found.append(mailbox(text, longest))
                continue
            except ValueError as error:
                sentences: Iterable[str] = (f"{shown(text)}: {error}",)
        else:
            sentences = _sentences(text, longest, most, found)
        for sentence in sentences:
            wrong.append(sentence)
            if len(wrong) == MOST_TOLD:
                return found, wrong
    return found, wrong


def mailbox(text: str, longest: int) -> Mailbox:
    """Parse one address, with or without a display name. ``longest``: characters of the address. Raises ``ValueError`` with a
    sentence that is safe to show.
    """
    text = text.strip(BLANK)
    if "<" not in text and ">" not in text:
        return Mailbox("", _address(text, longest))
    if named := _NAMED.fullmatch(text):
        return Mailbox(_name(named[1].strip(BLANK), named[2]), _address(named[2].strip(BLANK), longest))
    if not _quoted_address(text):
        name, _, address = text.rpartition("<")
        _name(name.strip(BLANK), address.rstrip("> \t"))  # which says what is wrong with it, if it is the name
        raise ValueError(
            "Not a valid e-mail address: angle brackets stand around the address alone: Ann <ann@example.com>."
        )
    return Mailbox("", _address(text, longest))


def shown(text: str) -> str:
    """Return an address as a sentence about it shows it: short, and nothing in it that does not print."""
    text = text.strip(BLANK)
    return repr(text if len(text) <= SHOWN_SIZE else text[: SHOWN_SIZE - 1] + "…")


def _sentences(text: str, longest: int, most: int, found: list[Mailbox]) -> Iterator[str]:
    """Add the mailboxes of a text to ``found``, and give a sentence for each address that is none."""
    pending: list[tuple[str, str]] = []  # that are none, and why: perhaps the beginning of a display name
    for piece in split(text):
        try:
            box = mailbox(piece, longest)
        except ValueError as error:
            pending.append((piece, str(error)))
            if len(pending) == MOST_TOLD:
                break
            continue
        if pending and box.name and not any(special in piece for piece, _ in pending for special in '"<>'):
            yield _unquoted([piece for piece, _ in pending], piece, box)
        else:
            yield from (f"{shown(piece)}: {why}" for piece, why in pending)
        pending = []
        found.append(box)
        if len(found) > most:
            return
    yield from (f"{shown(piece)}: {why}" for piece, why in pending)


def _unquoted(parts: list[str], last: str, box: Mailbox) -> str:
    name = ", ".join([*parts, box.name])
    return (
        f"{shown(', '.join([*parts, last]))}: Has a comma or semicolon outside quotes. If it is one address, put its display name in quotes: "
        f"{_in_quotes(name, box.address)}; else {shown(parts[0])} is no address."
    )


def _address(text: str, longest: int) -> str:
    if len(text) > longest:
        raise ValueError(f"Longer than {longest} characters.")
    try:
        return addresses.address(text)
    except ValueError as error:
        if _quoted_address(text):
            raise
        if (unbracketed := _NO_BRACKETS.fullmatch(text)) and text.isprintable():
            name, address = unbracketed.groups()
            written = f"{name} <{address}>" if name.replace(" ", "").isalnum() else _in_quotes(name, address)
            raise ValueError(
                f"Not a valid e-mail address: after a display name it stands in angle brackets: {written}."
            ) from error
        if text.lower() in ("undisclosed-recipients:", "undisclosed recipients:"):
            raise ValueError(
                "Not an address: leave to out where all are cc or bcc; the header is written for you."
            ) from error
        raise


def _quoted_address(text: str) -> bool:
    """Say whether a text begins as an address does whose local part is in quotes."""
    quoted = _QUOTED.match(text)
    return quoted is not None and text[quoted.end() :].startswith("@")


def _name(text: str, address: str) -> str:
    if text.startswith('"') and _QUOTED.fullmatch(text):
        text = re.sub(r"\\(.)", r"\1", text[1:-1], flags=re.DOTALL)
    elif any(special in text for special in '"<>'):
        text = text if text.count('"') > 1 else text.strip('"')
        example = (
            (text, address)
            if len(text) <= SHOWN_SIZE and len(address) <= SHOWN_SIZE
            else ('Ann "the cat" Lee', "ann@example.com")
        )
        raise ValueError(
            f"Put the display name in quotes, and a backslash before each quote in it: {_in_quotes(*example)}."
        )
    if len(text) > NAME_SIZE:
        raise ValueError(f"The display name is longer than {NAME_SIZE} characters.")
    if not one_line(text):
        raise ValueError("The display name must be one line without control characters.")
    return text.strip(BLANK)


def _in_quotes(name: str, address: str) -> str:
    escaped = name.replace("\\", "\\\\").replace('"', '\\"')
    written = f'"{escaped}" <{address}>'
    return written if written.isprintable() and len(written) <= 2 * SHOWN_SIZE else '"Lee, Ann" <ann@example.com>'


def split(text: str) -> list[str]:
    """Split at the commas and semicolons outside quotes, in linear time; blank pieces are left out."""
    pieces = (found[1].strip(BLANK) for found in _PIECE.finditer(text))
    return [piece for piece in pieces if piece]
