"""What clients do with named cursors: make, move and delete them, and acknowledge events."""

import re
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from mailbbgun.core.clock import rfc3339
from mailbbgun.core.errors import Conflict, InvalidInput, NotFound
from mailbbgun.events import cursors
from mailbbgun.events.cursors import START, Position
from mailbbgun.events.following.pages import FIRST, place_of
from mailbbgun.events.reading import end

#: Cursors of a tenant, at most.
MOST = 100

_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}")


def every(session: Session, tenant_id: UUID) -> list[dict[str, Any]]:
    """Return the cursors of a tenant, as they are shown."""
    return [_shown(one) for one in cursors.listed(session, tenant_id)]


def one(session: Session, tenant_id: UUID, name: str) -> dict[str, Any]:
    """Return a cursor, as it is shown. Raises :class:`NotFound`."""
    found = next((each for each in cursors.listed(session, tenant_id) if each["name"] == name), None)
    if found is None:
        raise missing()
    return _shown(found)


def place(session: Session, tenant_id: UUID, name: str) -> Position:
    """Return the place of a client's cursor. Raises :class:`NotFound`."""
    found = None if name.startswith(".") else cursors.place(session, tenant_id, name)
    if found is None:
        raise missing()
    return found


def put(session: Session, tenant_id: UUID, name: str, text: str | None) -> dict[str, Any]:
    """Make a cursor, or move it forwards or backwards; return it. The caller commits.

    Without a place it is before the first event.

    Raises :class:`InvalidInput` for a wrong name or place, and :class:`Conflict` beyond :data:`MOST` cursors.
    """
    if not _NAME.fullmatch(name):
        why = "Has 1 to 64 of the characters A-Z a-z 0-9 . _ -, and does not begin with a dot."
        raise InvalidInput("Some fields are not valid.", fields={"name": [why]})
    known = cursors.place(session, tenant_id, name)
    to = _settled_place(session, tenant_id, FIRST if text is None else text, known or START)
    if known is None and len(cursors.listed(session, tenant_id)) >= MOST:
        raise Conflict(f"There are {MOST} cursors already, and there may be no more: delete one that nobody reads by.")
    cursors.move(session, tenant_id, name, to)
    return one(session, tenant_id, name)


def acknowledge(session: Session, tenant_id: UUID, name: str, text: str | None) -> dict[str, Any]:
    """Move a cursor forwards to a place; return it. The caller commits.

    A place that the cursor has passed already changes nothing, so two readers of one cursor may acknowledge
    in any order. Raises :class:`InvalidInput`, :class:`NotFound`.
    """
    reached = place(session, tenant_id, name)
    if text is None:
        why = "Is missing: give the `position` of the last event that is done with."
        raise InvalidInput("Some fields are not valid.", fields={"position": [why]})
    cursors.advance(session, tenant_id, name, _settled_place(session, tenant_id, text, reached))
    return one(session, tenant_id, name)


def delete(session: Session, tenant_id: UUID, name: str) -> None:
    """Delete a cursor. The caller commits. Raises :class:`NotFound`."""
    if name.startswith(".") or not cursors.forget(session, tenant_id, name):
        raise missing()


def missing() -> NotFound:
    """Return the error for a cursor that does not exist."""
    return NotFound("There is no such cursor: PUT /cursors/{name} makes one.")


def _settled_place(session: Session, tenant_id: UUID, text: str, reached: Position) -> Position:
    """Return the place of a text. ``reached``: that of the cursor, whose event may have been deleted since."""
    found = place_of(session, tenant_id, "position", text)
    if found > max(reached, end(session, tenant_id)):
        why = "Is after the last event of the log, so nobody was given it."
        raise InvalidInput("Some fields are not valid.", fields={"position": [why]})
    return found


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    position = Position(row["position"], row["event_id"])
    return {"name": row["name"], "position": str(position), "updated_at": rfc3339(row["updated_at"])}
