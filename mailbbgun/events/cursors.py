"""Places in the log of a tenant, and the named places of its readers.

The log keeps events whether or not they were read. Names that begin with a dot are those of the service's
own readers.
"""

import re
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import delete, select, tuple_, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from mailbbgun.database.db import db_now, dialect_of
from mailbbgun.events.models import CURSORS

_C = CURSORS.c
_SHOWN = re.compile(r"([0-9a-f]{1,16})-([0-9a-f]{32})")


class Position(NamedTuple):
    """A place in the log of a tenant: that of an event, or before all. Positions compare as the log is ordered.

    ``str(position)`` is a text for clients. Texts sort as their positions do, and say nothing else.
    """

    number: int
    event_id: UUID

    def __str__(self) -> str:
        """Return the text that :meth:`parse` reads."""
        return f"{self.number:016x}-{self.event_id.hex}"

    @classmethod
    def parse(cls, shown: str) -> "Position":
        """Return the position of a text. Raises ``ValueError`` if it is not one of ours."""
        if (found := _SHOWN.fullmatch(shown)) is None or (number := int(found[1], 16)) >= 1 << 63:
            raise ValueError(f"{shown[:80]!r} is not a position in the log")
        return cls(number, UUID(found[2]))


START = Position(0, UUID(int=0))
"""Before every event."""


def place(session: Session, tenant_id: UUID, name: str) -> Position | None:
    """Return the place of a cursor; None if there is no such cursor."""
    its = select(_C.position, _C.event_id).where(_C.tenant_id == tenant_id, _C.name == name)
    found = session.execute(its).one_or_none()
    return None if found is None else Position(found.position, found.event_id)


def places(session: Session, name: str) -> dict[UUID, Position]:
    """Return the places of the cursors of this name, by tenant. For the service's own readers."""
    found = session.execute(select(_C.tenant_id, _C.position, _C.event_id).where(_C.name == name))
    return {one.tenant_id: Position(one.position, one.event_id) for one in found}


def move(session: Session, tenant_id: UUID, name: str, to: Position) -> None:
    """Move a cursor to a place, forwards or backwards; make it if there is none. The caller commits."""
    insert = postgresql.insert if dialect_of(session) == "postgresql" else sqlite.insert
    new = {"position": to.number, "event_id": to.event_id, "updated_at": db_now()}
    statement = insert(CURSORS).values(tenant_id=tenant_id, name=name, **new)
    session.execute(statement.on_conflict_do_update(index_elements=[_C.tenant_id, _C.name], set_=new))


def advance(session: Session, tenant_id: UUID, name: str, to: Position) -> bool:
    """Move a cursor to a place if that is further on; return whether it was. The caller commits."""
    behind = tuple_(_C.position, _C.event_id) < tuple_(to.number, to.event_id)
    statement = update(CURSORS).where(_C.tenant_id == tenant_id, _C.name == name, behind)
    new = {"position": to.number, "event_id": to.event_id, "updated_at": db_now()}
    return session.scalar(statement.values(new).returning(_C.name)) is not None


def forget(session: Session, tenant_id: UUID, name: str) -> bool:
    """Delete a cursor; return whether there was one. The caller commits."""
    statement = delete(CURSORS).where(_C.tenant_id == tenant_id, _C.name == name).returning(_C.name)
    return session.scalar(statement) is not None


def listed(session: Session, tenant_id: UUID) -> list[dict[str, Any]]:
    """Return the cursors of a tenant by name, without those of the service's own readers."""
    its = select(_C.name, _C.position, _C.event_id, _C.updated_at).where(_C.tenant_id == tenant_id)
    return [dict(one) for one in session.execute(its.where(~_C.name.startswith(".")).order_by(_C.name)).mappings()]
