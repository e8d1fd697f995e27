"""The parser of addresses as people write them: with display names, several in one text.

Examples: ``ann@example.com``, ``"Ann Lee" <ann@example.com>``, either of them several times with
commas or semicolons between. ``core/addresses.py`` checks the bare address in each.
"""

import re
from collections.abc import Iterable, Iterator

from mailbbgun.composing.mime import Mailbox, one_line
from mailbbgun.core import addresses
from mailbbgun.core.errors import ConfigurationError
from mailbbgun.settings.settings import Settings

#: Characters of a display name, at most.
NAME_SIZE = 256
#: Characters of an address that an error message shows.
SHOWN_SIZE = 60
#: Error messages for one field, at most.
MOST_TOLD = 10
#: White space that is stripped. Line breaks are not: they are refused everywhere.
BLANK = " \t"

# All of these match in linear time: the possessive quantifiers (``*+``) never backtrack.
_QUOTES = r'"(?:[^"\\]|\\.)*+"'
_QUOTED = re.compile(_QUOTES, re.DOTALL)
_SPECIALS = re.compile(r'["<>]')
_NAMED = re.compile(rf'((?:[^"<>]++|{_QUOTES})*+)<((?:[^"<>]++|{_QUOTES})*+)>', re.DOTALL)
# One address of several. A quote that is not closed goes on to the end of the text.
_PIECE = re.compile(r'((?:"(?:[^"\\]|\\.)*+(?:"|\\?\Z)|[^",;]++)*+)(?:[,;]|\Z)', re.DOTALL)
# A display name and an address without angle brackets.
_NO_BRACKETS = re.compile(r'([^"<>]*[^"<>@ ]) +([^"<>@ ]+@[^"<>@ ]+)')


def mailboxes(texts: Iterable[str], longest: int, most: int = 1000) -> tuple[list[Mailbox], list[str]]:
    """Return the mailboxes in the texts, and for each piece that is no address a sentence why not.

    Commas and semicolons separate addresses; blank pieces between them are ignored. The sentences are
    safe to show. ``longest``: characters of an address, at most. After ``MOST_TOLD`` sentences, or
    more than ``most`` mailboxes, the rest is not looked at.
    """
    found: list[Mailbox] = []
    wrong: list[str] = []
    for text in texts:
        if "," not in text and ";" not in text:  # nearly always
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
    """Parse one address, with or without a display name.

    ``longest``: characters of the address, at most. Raises ``ValueError`` with a sentence that is
    safe to show.
    """
    text = text.strip(BLANK)
    if "<" not in text and ">" not in text:
        return Mailbox("", _address(text, longest))
    if named := _NAMED.fullmatch(text):
        return Mailbox(_name(named[1].strip(BLANK), named[2]), _address(named[2].strip(BLANK), longest))
    if not _quoted_address(text):
        name, _, address = text.rpartition("<")
        _name(name.strip(BLANK), address.rstrip("> \t"))  # raises a better error if the name is wrong
        raise ValueError(
            "Not a valid e-mail address: angle brackets stand around the address alone: Ann <ann@example.com>."
        )
    return Mailbox("", _address(text, longest))


def check_default_sender(settings: Settings) -> None:
    """Raise :class:`ConfigurationError` unless ``DEFAULT_FROM`` is an address."""
    try:
        mailbox(settings.DEFAULT_FROM, settings.MAX_EMAIL_ADDRESS_SIZE)
    except ValueError as error:
        raise ConfigurationError(f"DEFAULT_FROM: {settings.DEFAULT_FROM!r}: {error}") from error


def shown(text: str) -> str:
    """Return an address as error messages show it: short, in quotes, and printable."""
    text = text.strip(BLANK)
    return repr(text if len(text) <= SHOWN_SIZE else text[: SHOWN_SIZE - 1] + "…")


def written(box: Mailbox) -> str:
    """Return a mailbox as a text that :func:`mailbox` makes the same mailbox of."""
    if not box.name:
        return box.address
    escaped = box.name.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}" <{box.address}>'


def _sentences(text: str, longest: int, most: int, found: list[Mailbox]) -> Iterator[str]:
    """Add the mailboxes of a text to ``found``; yield a sentence for each piece that is no address."""
    # Pieces that are no address, and why not. They may be the beginning of the next one's display name.
    pending: list[tuple[str, str]] = []
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
    """Return the sentence about a display name with commas that lacks its quotes."""
    name = ", ".join([*parts, box.name])
    return (
        f"{shown(', '.join([*parts, last]))}: Has a comma or semicolon outside quotes. If it is one address, "
        f"put its display name in quotes: {_in_quotes(name, box.address)}; else {shown(parts[0])} is no address."
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
    """Say whether a text begins with a quoted local part and an @ (RFC 5321 §4.1.2)."""
    quoted = _QUOTED.match(text)
    return quoted is not None and text[quoted.end() :].startswith("@")


def _name(text: str, address: str) -> str:
    if text.startswith('"') and _QUOTED.fullmatch(text):
        text = re.sub(r"\\(.)", r"\1", text[1:-1], flags=re.DOTALL)
    elif _SPECIALS.search(text):
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
    """Split at the commas and semicolons outside quotes, in linear time. Blank pieces are left out."""
    pieces = (found[1].strip(BLANK) for found in _PIECE.finditer(text))
    return [piece for piece in pieces if piece]
