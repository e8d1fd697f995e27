"""What the filters of a list look for, in the form in which it is stored. Pure."""

import re
from contextlib import suppress
from uuid import UUID

from mailbbgun.core import addresses
from mailbbgun.database.texts import cases_of

_ID = re.compile(r"<([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})@")


def stored_address(address: str) -> str:
    """Return an address as accept stores it, with its domain in lower case; a text that is no address as it is."""
    text = address.strip()
    with suppress(ValueError):  # with a name before it, or nothing that accept would have taken
        text = addresses.address(text)
    local, at, domain = text.rpartition("@")
    return f"{local}{at}{domain.lower()}"


def stored_message_id(header: str) -> str:
    """Return a Message-ID as accept stores it: in angle brackets."""
    return f"<{header.strip().removeprefix('<').removesuffix('>')}>"


def id_within(message_id: str) -> UUID | None:
    """Return the message's id that a Message-ID of our own making begins with; None if it begins with no id."""
    found = _ID.match(message_id)
    return UUID(found[1]) if found else None


def part_as_regex(text: str) -> str:
    """Return a PostgreSQL regular expression that finds a text, in upper and lower case, in whatever locale. Nothing in it repeats."""
    return "".join(
        _any_of(one) or (f"\\{one}" if one.isascii() and not one.isalnum() and one != " " else one) for one in text
    )


def _any_of(character: str) -> str | None:
    """Return a bracket expression of a letter's cases; None if it has but one."""
    cases = cases_of(character)
    return f"[{cases}]" if len(cases) > 1 else None
