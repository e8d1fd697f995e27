"""Which events are settled: no event can still appear before one of them, whoever is writing.

PostgreSQL: an event's position is the id of the transaction that wrote it. Ids are given in order, but
transactions commit in any order. So an event is settled when each transaction with a lower id has
ended: when its position is below ``pg_snapshot_xmin(pg_current_snapshot())``. Nobody waits for a lock.
SQLite has one writer at a time, so each committed event is settled.
"""

import logging

from sqlalchemy import BigInteger, ColumnElement, Text, cast, func, literal, select, text, true, update
from sqlalchemy.orm import Session

from mailbbgun.core.errors import ConfigurationError, DatabaseUnavailable
from mailbbgun.database.db import Database, dialect_of
from mailbbgun.database.refusal import NOT_PERMITTED
from mailbbgun.events.models import EVENTS, POSITIONS

_P = POSITIONS.c

#: The highest position of any event: one look into the index for each tenant and partition.
_HIGHEST = text(
    "SELECT max(e.position) FROM tenants t CROSS JOIN LATERAL "
    "(SELECT position FROM events WHERE tenant_id = t.id ORDER BY position DESC, id DESC LIMIT 1) e"
)
_NOW = text("SELECT pg_current_xact_id()::text::bigint")

log = logging.getLogger("mailbbgun.events")


def settled(dialect: str) -> ColumnElement[bool]:
    """Return the condition that an event is settled."""
    return EVENTS.c.position < horizon() if dialect == "postgresql" else true()


def horizon() -> ColumnElement[int]:
    """Return the position below which all events are settled, on PostgreSQL."""
    oldest = cast(cast(func.pg_snapshot_xmin(func.pg_current_snapshot()), Text), BigInteger)
    return oldest + select(_P.added).where(_P.id == 1).scalar_subquery()


def keep_growing(database: Database) -> None:
    """See to it that new events get higher positions than all that there were. A program calls it at its start.

    A database that was restored on another server has events of transactions that had higher ids there.
    Raises :class:`DatabaseUnavailable`, and :class:`ConfigurationError` if that would need rights on the table
    that our role lacks.
    """
    if database.dialect != "postgresql":
        return
    with database.write() as session:
        if _lacking(session) is None:
            return
    try:
        with database.write() as session:
            # No event is written meanwhile, so all that follow get the new default.
            session.execute(text("LOCK TABLE events IN ACCESS EXCLUSIVE MODE"))
            if (added := _lacking(session)) is not None:
                session.execute(update(POSITIONS).values(added=added))
                default = f"pg_current_xact_id()::text::bigint + {int(added)}"
                session.execute(text(f"ALTER TABLE events ALTER COLUMN position SET DEFAULT {default}"))
                log.warning("positions_moved", extra={"added": added, "why": "the database came from another server"})
    except DatabaseUnavailable as error:
        if getattr(getattr(error.__cause__, "orig", None), "pgcode", None) != NOT_PERMITTED:
            raise
        raise ConfigurationError(
            "DATABASE_URL: the database came from another server, so the positions of new events must be moved, and "
            f"the role {database.url.username} does not own the table events: run python initdb.py as its owner"
        ) from error


def _lacking(session: Session) -> int | None:
    """Return what must be added to the ids of transactions; None if what is added already is enough."""
    added, reached = session.execute(select(_P.added, _P.reached)).one()
    highest = max(session.scalar(_HIGHEST) or 0, reached)
    now: int = session.scalar(_NOW) or 0
    return None if now + added > highest else highest - now + 1


def remember_reached(session: Session) -> None:
    """Record how far positions have come. Whoever deletes events calls it first, in the same transaction.

    A cursor may point to an event that is deleted, and new events must come after it, too.
    """
    if dialect_of(session) == "postgresql":
        reached = cast(cast(func.pg_current_xact_id(), Text), BigInteger) + _P.added
        session.execute(update(POSITIONS).where(_P.id == literal(1)).values(reached=func.greatest(_P.reached, reached)))
