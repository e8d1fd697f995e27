"""The values of a list's filters, brought into the form that is stored, and the conditions of some. Pure."""

import re
from contextlib import suppress
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, and_, literal

from mailbbgun.core import addresses
from mailbbgun.database.db import ascii_lower
from mailbbgun.database.texts import cases_of, contains, domain_of, folded, has_part
from mailbbgun.relays.slack.medium import SLACK, SLACK_PREFIX

_ID = re.compile(r"<([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})@")


def stored_address(address: str) -> str:
    """Return an address as accept stores it, with its domain in lower case.

    A text that is no address is returned as it is: no stored address will equal it.
    """
    text = address.strip()
    with suppress(ValueError):  # no address, or one with a display name
        text = addresses.address(text)
    local, at, domain = text.rpartition("@")
    return f"{local}{at}{domain.lower()}"


def of_medium(sender: ColumnElement[str], medium: str) -> ColumnElement[bool]:
    """Return the condition that a message is of a medium. ``sender`` is the address in its From, in lower case.

    It is a range of the index for lists by sender: ";" follows ":".
    """
    in_slack = and_(sender >= SLACK_PREFIX, sender < SLACK_PREFIX.replace(":", ";"))
    return in_slack if medium == SLACK else ~in_slack


def to_channel(address: Any, channel: str) -> list[ColumnElement[bool]]:
    """Return the conditions that an address is this channel of Slack. The first is for the index on domains."""
    return [domain_of(address) == domain_of(literal(channel)), address == channel]


def stored_message_id(header: str) -> str:
    """Return a Message-ID as accept stores it: in angle brackets."""
    return f"<{header.strip().removeprefix('<').removesuffix('>')}>"


def id_within(message_id: str) -> UUID | None:
    """Return the message id that a Message-ID of our own begins with; None if it begins with none."""
    found = _ID.match(message_id)
    return UUID(found[1]) if found else None


def has_text(subject: Any, text: str) -> ColumnElement[bool]:
    """Return the condition that a subject contains a text, in any case.

    A text in ASCII costs the database a few µs a message. Other letters take a regular expression,
    whose time may grow with the square of its length; ``find.LIST_SECONDS`` limits that.
    """
    if text.isascii():
        return contains(ascii_lower(subject), literal(text.lower()))
    return has_part(subject, literal(part_as_regex(text)), literal(folded(text)))


def part_as_regex(text: str) -> str:
    """Return a PostgreSQL regular expression that finds a text, in any case and locale.

    It has no repetitions, which could make matching slow.
    """
    return "".join(
        _any_of(one) or (f"\\{one}" if one.isascii() and not one.isalnum() and one != " " else one) for one in text
    )


def _any_of(character: str) -> str | None:
    """Return a bracket expression of a letter's cases; None if it has only one."""
    cases = cases_of(character)
    return f"[{cases}]" if len(cases) > 1 else None
