"""What is read from a mail, and the bounds of reading. Pure."""

from dataclasses import dataclass, field
from datetime import datetime

#: Multiparts within multiparts, at most. What is nested deeper is one attachment.
DEPTH = 50
#: Bytes that are looked at for delimiters, at most: of a mail of 50 MB, ten multiparts within each other.
LOOKS = 1_000_000_000
#: Parts of a mail, at most. What follows belongs to the last one.
PARTS = 1_000
#: Fields of a header that are read, at most, and their bytes together.
FIELDS, HEADER_BYTES = 1_000, 300_000
#: Bytes of a field that are read, at most.
FIELD_BYTES = 100_000
#: Bytes of text and of HTML of a mail that are shown, at most, after their transfer encoding is undone.
TEXT_BYTES, HTML_BYTES = 2_000_000, 1_000_000
#: Bytes of text and of HTML of a mail that can be searched, after their transfer encoding is undone.
SEARCHED_BYTES = 65_536
#: Addresses of a field, at most.
ADDRESSES = 1_000
#: Characters of a file's name, at most.
FILENAME = 200
#: Different problems that are told, at most.
PROBLEMS = 20


@dataclass(slots=True)
class Problems:
    """What could not be read as it stands, each told once."""

    told: list[str] = field(default_factory=list)

    def tell(self, problem: str | None) -> None:
        """Keep a problem, unless it is None."""
        if problem and problem not in self.told and len(self.told) < PROBLEMS:
            self.told.append(problem)


@dataclass(frozen=True, slots=True)
class ReadAttachment:
    """A file of a mail, or a part that no reader shows as text.

    Args:
        index: Its number among the attachments, from 0: as long as the bytes are the same, it is the same.
        filename: Without folders and control characters; None if it has no name.
        size: Bytes, without transfer encoding.
        content_id: Without angle brackets.
        inline: Whether the sender meant it to be shown within the text.
    """

    index: int
    filename: str | None
    content_type: str
    size: int
    content_id: str | None
    inline: bool


@dataclass(frozen=True, slots=True)
class ReadMail:
    """A mail as a person sees it.

    Args:
        headers: All fields in their order, decoded and on one line.
        sender: From, as ``Ann <ann@example.com>``; "" if there is none.
        date: The Date field, with its zone; None if it has none that can be read.
        text: The plain text; None if there is none.
        html: The HTML as it was sent; None if there is none. Never show it.
        html_safe: The HTML without all that runs, sends or loads.
        problems: What is broken, in sentences.
    """

    headers: tuple[tuple[str, str], ...]
    subject: str
    sender: str
    to: tuple[str, ...]
    cc: tuple[str, ...]
    date: datetime | None
    text: str | None
    html: str | None
    html_safe: str | None
    attachments: tuple[ReadAttachment, ...]
    problems: tuple[str, ...]
