"""Checks the recipients of a batch: addresses, permissions, variables and metadata. Pure.

A batch has up to a thousand recipients, so each costs a few microseconds: what most of them are is
checked here in one pass, and only a fault takes longer.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from mailbbgun.accept.address_lists import mailbox
from mailbbgun.accept.address_lists import shown as shown_address
from mailbbgun.accept.checks import permissions
from mailbbgun.accept.fields import METADATA_SIZE, TO, rule_of
from mailbbgun.composing.mime import Mailbox
from mailbbgun.core.caller import Caller, KeyKind
from mailbbgun.http.bad_input import kind_of, name_of, shown
from mailbbgun.recipients.faults import Faults
from mailbbgun.relays import simulator
from mailbbgun.settings.settings import Settings

VARIABLES, METADATA = "variables", "metadata"
#: The fields of a recipient.
FIELDS = frozenset({TO, VARIABLES, METADATA})

_NOTHING: Mapping[str, Any] = {}
_metadata = rule_of(METADATA)


class Recipient(NamedTuple):
    """A recipient. ``place`` is its place in the request, from 0."""

    place: int
    box: Mailbox
    variables: Mapping[str, Any]
    metadata: Mapping[str, Any]


def check(
    items: Sequence[Any], common: Mapping[str, Any], settings: Settings, caller: Caller
) -> tuple[list[Recipient], dict[int, Faults]]:
    """Return the recipients that break no rule, and by index the faults of the others.

    ``common``: variables that each recipient has unless it gives others.
    """
    found: list[Recipient] = []
    faults: dict[int, Faults] = {}
    longest, watched = settings.MAX_EMAIL_ADDRESS_SIZE, caller.kind is not KeyKind.LIVE
    for index, item in enumerate(items):
        try:
            text, variables, metadata = item[TO], item.get(VARIABLES), item.get(METADATA)
            if len(item) != 1 + (VARIABLES in item) + (METADATA in item) or len(text) > 10 * longest:
                raise TypeError
            box = mailbox(text, longest)
        except (AttributeError, KeyError, TypeError, ValueError):
            faults[index] = _wrong_shape(item, longest)
            continue
        if variables is None:
            variables = common
        elif type(variables) is dict:
            variables = {**common, **variables} if common else variables
        else:
            faults[index] = {VARIABLES: [f'Is an object, such as {{"name": "Ann"}}; it is {kind_of(variables)}.']}
            continue
        if metadata is not None and (why := _wrong_metadata(metadata, settings)):
            faults[index] = {METADATA: why}
        elif (watched or simulator.simulated(box.address)) and (why := _not_permitted(box, caller)):
            faults[index] = {TO: why}
        else:
            found.append(Recipient(index, box, variables, metadata or _NOTHING))
    return found, faults


def _wrong_shape(item: Any, longest: int) -> Faults:
    """Return what is wrong with an item that is no recipient."""
    if not isinstance(item, dict):
        return {"": [f'Is an object, such as {{"to": "ann@example.com"}}; it is {kind_of(item)}.']}
    wrong: dict[str, list[str]] = {
        name: [f"A recipient has no field {name_of(name)}; it has {TO}, {VARIABLES} and {METADATA}."]
        for name in list(item)[:10]
        if name not in FIELDS
    }
    text = item.get(TO)
    if text is None or text == "":
        wrong[TO] = ["`to` is required: the address of a recipient."]
    elif not isinstance(text, str):
        wrong[TO] = [f"Is one address; it is {kind_of(text)}: {shown(text)}. Each recipient is an item of its own."]
    else:
        try:
            mailbox(text[: 10 * longest], longest)
        except ValueError as error:
            wrong[TO] = [f"{shown_address(text)}: {error}"]
    return wrong


def _wrong_metadata(metadata: Any, settings: Settings) -> list[str]:
    if not isinstance(metadata, dict):
        return [f"Is a flat object of up to {METADATA_SIZE} bytes; it is {kind_of(metadata)}."]
    return [why for _, why in _metadata(metadata, settings)]


def _not_permitted(box: Mailbox, caller: Caller) -> list[str]:
    return [why for _, why in permissions([], [], {box.address: TO}, caller, given=True)]
