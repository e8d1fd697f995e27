"""The guard against duplicates: the mail that a key has just sent is not sent again.

What a key sends is claimed in the transaction that stores the message. So of two equal requests at
once one makes the message, and the other waits for its commit and finds it.
"""

import hashlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Self
from uuid import UUID

from sqlalchemy import ColumnElement, Uuid, delete, literal_column, or_, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from mailbbgun.database.db import db_now, dialect_of
from mailbbgun.limits.models import RecentMail

#: How many expired rows one statement deletes.
BATCH = 1000
#: Seconds for which an expired row is kept: a transaction that has found it may still want to read it.
SPARE = 60

Answer = Mapping[str, Any]
Unsent = Callable[[ColumnElement[UUID]], ColumnElement[bool]]
"""Takes the id of a message, and returns an SQL condition: it has ended, and nobody can have got it."""

#: The message in a row that is there already. By the column itself, a subquery would read the whole table.
_FIRST = literal_column(f"{RecentMail.__tablename__}.message_id", Uuid())


@dataclass(frozen=True, slots=True)
class DuplicateGuard:
    """A claim on a mail: no other like it by the same key for so many ``seconds``."""

    digest: str
    seconds: int
    #: Whether a duplicate is stored, unsent; otherwise it is answered as the first was.
    holds: bool

    @classmethod
    def of(cls, key_id: UUID, sent: bytes, seconds: int, *, holds: bool) -> Self:
        """Return the guard of a key's mail. ``sent``: equal for equal mail to equal recipients."""
        return cls(hashlib.sha256(key_id.bytes + sent).hexdigest(), seconds, holds)


def take(
    session: Session,
    wanted: Mapping[DuplicateGuard, tuple[UUID, Answer]],
    unsent: Unsent,
) -> dict[DuplicateGuard, tuple[UUID, Answer]]:
    """Claim mail, each with the id of its message and the answer; the guards must differ.

    Return the first message, and its answer, of each mail that another message has claimed. A claim
    has no effect after its seconds, nor if its message is ``unsent``. PostgreSQL waits for another
    transaction that has claimed one of them and has not committed.
    """
    taken: set[str] = set()
    # In one order, so that two processes cannot deadlock. A key never changes its seconds.
    for seconds in sorted({guard.seconds for guard in wanted}):
        its = sorted((guard.digest, *given) for guard, given in wanted.items() if guard.seconds == seconds)
        taken |= _take(session, [_row(*one) for one in its], seconds, unsent)
    if not (left := {guard.digest: guard for guard in wanted if guard.digest not in taken}):
        return {}
    found = session.execute(
        select(RecentMail.guard, RecentMail.message_id, RecentMail.response).where(RecentMail.guard.in_(left))
    )
    return {left[digest]: (message_id, response) for digest, message_id, response in found}


def give_back(session: Session, guards: Collection[DuplicateGuard]) -> None:
    """Delete claims of this transaction, because their messages are refused."""
    if guards:
        session.execute(delete(RecentMail).where(RecentMail.guard.in_([guard.digest for guard in guards])))


def forget_expired(session: Session, limit: int = BATCH) -> int:
    """Delete up to ``limit`` claims that have expired, and return how many."""
    old = select(RecentMail.guard).where(RecentMail.expires_at <= db_now(-SPARE)).limit(limit)
    statement = delete(RecentMail).where(RecentMail.guard.in_(old)).returning(RecentMail.guard)
    return len(session.execute(statement.execution_options(synchronize_session=False)).all())


def _row(digest: str, message_id: UUID, response: Answer) -> dict[str, Any]:
    return {"guard": digest, "message_id": message_id, "response": dict(response)}


def _take(
    session: Session,
    rows: list[dict[str, Any]],
    seconds: int,
    unsent: Unsent,
) -> set[str]:
    dialect = postgresql if dialect_of(session) == "postgresql" else sqlite
    statement = dialect.insert(RecentMail).values(expires_at=db_now(seconds))
    new = statement.excluded
    statement = statement.on_conflict_do_update(
        index_elements=["guard"],
        set_={name: new[name] for name in ("message_id", "response", "expires_at")},
        where=or_(
            RecentMail.expires_at <= db_now(),
            RecentMail.message_id == new.message_id,  # a commit whose end we did not hear of came through
            # A message that another transaction has just committed may not be visible to this statement.
            # Then the condition is false, and the mail is a duplicate.
            unsent(_FIRST),
        ),
    )
    return set(session.execute(statement.returning(RecentMail.guard), rows).scalars())
