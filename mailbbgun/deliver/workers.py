"""The register of live workers, for ``/ready`` and for people."""

import os
import socket
from functools import cache
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import ColumnElement, bindparam, delete, exists, func, insert, select, update
from sqlalchemy.orm import Session

from mailbbgun.database.compiled import CompiledStatement
from mailbbgun.database.db import Database, db_now
from mailbbgun.deliver.models import RegisteredWorker

#: Seconds since its last report for which a worker counts as alive.
ALIVE_SECONDS = 30

#: Seconds after which a worker that has not reported is taken off the register.
FORGET_SECONDS = 86_400

NONE_ALIVE = f"no worker is running, or none has reported in {ALIVE_SECONDS} s"


def enter(session: Session, owner: UUID) -> None:
    """Register this process, and forget those that have not reported for a day."""
    session.execute(delete(RegisteredWorker).where(RegisteredWorker.beat_at < db_now(-FORGET_SECONDS)))
    session.execute(
        insert(RegisteredWorker).values(
            id=owner, host=socket.gethostname(), pid=os.getpid(), started_at=db_now(), beat_at=db_now()
        )
    )


def beat(database: Database, owner: UUID) -> None:
    """Report that this process is alive; register it if it is not on the register.

    Raises :class:`DatabaseUnavailable`.
    """
    if not database.ask(_BEAT, {"owner": owner}):
        with database.write() as session:
            enter(session, owner)


_BEAT = CompiledStatement(
    update(RegisteredWorker)
    .where(RegisteredWorker.id == bindparam("owner"))
    .values(beat_at=db_now())
    .returning(RegisteredWorker.id)
)


def leave(session: Session, owner: UUID) -> None:
    """Take this process off the register."""
    session.execute(delete(RegisteredWorker).where(RegisteredWorker.id == owner))


def count_alive(database: Database) -> int:
    """Return how many workers have reported lately; at least 1, the one that asks.

    Raises :class:`DatabaseUnavailable`.
    """
    ((alive,),) = database.find(_count(), {})
    return max(1, int(alive))


@cache
def _count() -> CompiledStatement:
    return CompiledStatement(select(func.count()).select_from(RegisteredWorker).where(_has_reported()))


def count_hosts(session: Session) -> int:
    """Return on how many machines workers have reported lately; at least 1."""
    return session.scalar(select(func.count(RegisteredWorker.host.distinct())).where(_has_reported())) or 1


def any_alive(session: Session) -> bool:
    """Return whether any worker has reported lately."""
    return bool(session.execute(select(exists().where(_has_reported()))).scalar_one())


def _has_reported() -> ColumnElement[bool]:
    """Return the condition that a worker has reported lately.

    Its upper bound excludes reports far in the future: they come with a backup from a database
    server whose clock was ahead.
    """
    return RegisteredWorker.beat_at.between(db_now(-ALIVE_SECONDS), db_now(ALIVE_SECONDS))


class Seen(NamedTuple):
    """A worker on the register, and whether it has reported lately."""

    worker: RegisteredWorker
    alive: bool


class Aged(NamedTuple):
    """A worker on the register, and for how many seconds it has not reported."""

    seen: Seen
    seconds: float


def registered_with_age(session: Session) -> list[Aged]:
    """Return every worker on the register with the age of its last report, latest report first."""
    now = session.scalars(select(db_now())).one()
    return [Aged(one, max((now - one.worker.beat_at).total_seconds(), 0.0)) for one in registered(session)]


def registered(session: Session) -> list[Seen]:
    """Return every worker on the register, latest report first."""
    rows = session.execute(select(RegisteredWorker, _has_reported()).order_by(RegisteredWorker.beat_at.desc()))
    return [Seen(worker, bool(alive)) for worker, alive in rows]
