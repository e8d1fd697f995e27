"""The rules that single fields of a new message keep. ``fields.py`` says which is whose.

A rule takes a value that is not empty, and yields for each fault the part of the value that has it ("" for all of it)
and a sentence.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import orjson

from mailbbgun.messages.headers import refusal, structured
from mailbbgun.messages.mime import LONGEST_NAME, one_line
from mailbbgun.settings.settings import Settings

MOST_TAGS, TAG_SIZE = 10, 128  # characters
METADATA_SIZE = 4096  # bytes of JSON
MOST_HEADERS, HEADER_SIZE, STRUCTURED_SIZE = 50, 4096, 10_000  # characters of a value; a long thread has a hundred References
MESSAGE_ID_SIZE = 250

Broken = Iterator[tuple[str, str]]  # part of the value, what is wrong with it
Rule = Callable[[Any, Settings], Broken]

_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_MESSAGE_ID = re.compile(r"<?([!-;=?A-~]+@[!-;=?A-~]+)>?")  # one @, no angle bracket inside: linear
# Headers we set, the transport sets, or that carry meaning only their own field may give.
_STRUCTURAL = frozenset(
    "from sender reply-to to cc bcc subject date message-id mime-version received return-path delivered-to errors-to apparently-to "  # noqa: SIM905
    "dkim-signature domainkey-signature authentication-results received-spf return-receipt-to".split()
)
_STRUCTURAL_KINDS = ("content-", "resent-", "arc-")


def body(value: str, settings: Settings) -> Broken:
    # UTF-8 needs at most 4 bytes a character: most texts need no encoding to be measured.
    if len(value) * 4 > settings.MAX_TEXT_SIZE and len(value.encode()) > settings.MAX_TEXT_SIZE:
        yield "", f"Longer than {settings.MAX_TEXT_SIZE} bytes."
    if "\0" in value:
        yield "", "Has a NUL character."


def subject(value: str, settings: Settings) -> Broken:
    if len(value) > settings.MAX_SUBJECT_SIZE:
        yield "", f"Longer than {settings.MAX_SUBJECT_SIZE} characters."
    if not one_line(value):
        yield "", "Must be one line without control characters."


def headers(value: Mapping[str, str], _: Settings) -> Broken:
    if len(value) > MOST_HEADERS:
        yield "", f"More than {MOST_HEADERS} headers."
    if len({name.lower() for name in value}) < len(value):
        yield "", "The same header twice."
    for name, text in value.items():
        if not _HEADER_NAME.fullmatch(name) or len(name) > LONGEST_NAME:
            yield "", f"Not the name of a header: {name[:LONGEST_NAME]!r}."
        elif name.lower() in _STRUCTURAL or name.lower().startswith(_STRUCTURAL_KINDS):
            yield name, "Is set by the service and cannot be given."
        elif not one_line(text.replace("\t", " ") if structured(name) else text):
            yield name, "Must be one line without control characters."
        elif len(text) > (most := STRUCTURED_SIZE if structured(name) else HEADER_SIZE):
            yield name, f"Has {len(text)} characters, and {most} are the most."
        elif why := refusal(name, text):
            yield name, why


def tags(value: Sequence[str], _: Settings) -> Broken:
    if len(value) > MOST_TAGS:
        yield "", f"More than {MOST_TAGS} tags."
    if any(not tag or len(tag) > TAG_SIZE or not one_line(tag) for tag in value):
        yield "", f"Each must be one line of 1 to {TAG_SIZE} characters."


def metadata(value: Mapping[str, Any], _: Settings) -> Broken:
    if not all(one is None or isinstance(one, str | int | float) for one in value.values()):
        yield "", "Must be flat: strings, numbers, true, false and null."
    elif len(orjson.dumps(value)) > METADATA_SIZE:
        yield "", f"Longer than {METADATA_SIZE} bytes of JSON."


def message_id(value: str, _: Settings) -> Broken:
    found = _MESSAGE_ID.fullmatch(value) if len(value) <= MESSAGE_ID_SIZE else None
    if not found or any(c in found[1] for c in '()[],;:\\"'):
        yield "", "Not a message id like <something@example.com>."


def in_brackets(value: str) -> str:
    """Return a Message-ID that keeps its rule in angle brackets."""
    return value if value.startswith("<") and value.endswith(">") else f"<{value.removeprefix('<').removesuffix('>')}>"


def priority(value: int, _: Settings) -> Broken:
    if not 0 <= value <= 9:
        yield "", "Must be from 0 to 9, 9 first."
