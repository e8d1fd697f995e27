"""Leases on a table that is none of ours: nothing in them knows of deliveries."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from uuid import UUID

import pytest
from sqlalchemy import String, bindparam, insert, select, update
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from mailbbgun.core.ids import new_id
from mailbbgun.database import leasing
from mailbbgun.database.db import Database, dialect_of
from mailbbgun.database.leasing import LeaseColumns
from mailbbgun.database.sql import id_rows, ids
from tests.waiting import PATIENCE, wait_until

pytestmark = pytest.mark.both

OPEN, DONE = "open", "done"
ONE, OTHER = UUID(int=1), UUID(int=2)


class _Base(DeclarativeBase):
    pass


class Call(LeaseColumns, _Base):
    """A call to somebody's server, several for one event."""

    __tablename__ = "calls"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    event_id: Mapped[UUID]
    state: Mapped[str] = mapped_column(String(8), default=OPEN)


CALLS = Call.metadata.tables["calls"]


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    url = f"sqlite:///{tmp_path}/calls.db"
    if request.param == "postgresql":
        server = request.getfixturevalue("postgresql")
        url = server.url(server.create_database())
    made = Database(url)
    Call.metadata.create_all(made.engine)
    yield made
    made.close()


def add(database: Database, events: int, calls: int) -> list[UUID]:
    made = [new_id() for _ in range(events)]
    with database.write() as session:
        session.execute(
            insert(CALLS),
            [{"id": new_id(), "event_id": event, "state": OPEN, "attempt": 0} for event in made for _ in range(calls)],
        )
    return made


def take(database: Database, owner: UUID, events: list[UUID], seconds: int = 60) -> list[tuple[UUID, int]]:
    """Lease what is open and in nobody's hands of these events; return id and attempt of each."""
    with database.write() as session:
        dialect = dialect_of(session)
        free = select(CALLS.c.id).where(CALLS.c.state == OPEN, CALLS.c.lease_owner.is_(None))
        chosen = leasing.locked(dialect, ids(dialect, "events"), CALLS.c.event_id, free)
        statement = leasing.taken(dialect, CALLS, chosen).returning(CALLS.c.id, CALLS.c.attempt)
        given = {"owner": owner, "seconds": seconds, "events": id_rows(dialect, sorted(events))}
        return [(identifier, attempt) for identifier, attempt in session.execute(statement, given)]


def prolong(database: Database, owner: UUID, identifiers: list[UUID]) -> list[tuple[UUID, int]]:
    """Prolong leases by a minute; return id and attempt of each that stood."""
    with database.write() as session:
        given = leasing.prolonging(database.dialect, owner, identifiers, 60)
        return [tuple(row) for row in session.execute(leasing.prolonged(database.dialect, CALLS), given)]


def end(database: Database, owner: UUID, identifier: UUID, attempt: int) -> bool:
    """Write that a call is done, and let go of it; say whether its lease stood."""
    stands = leasing.standing(CALLS, bindparam("which", attempt), CALLS.c.state == OPEN)
    statement = (
        update(CALLS).where(CALLS.c.id == identifier, stands).values(state=DONE, **leasing.ENDED).returning(CALLS.c.id)
    )
    with database.write() as session:
        return session.execute(statement, {"owner": owner}).scalar_one_or_none() is not None


def rows(database: Database) -> list[tuple[str, UUID | None, int]]:
    with database.read() as session:
        columns = (CALLS.c.state, CALLS.c.lease_owner, CALLS.c.attempt)
        return [
            (state, owner, attempt)
            for state, owner, attempt in session.execute(select(*columns).order_by(CALLS.c.state))
        ]


def test_a_row_is_in_one_workers_hands_until_its_result_is_written(database: Database) -> None:
    events = add(database, 2, 3)
    held = take(database, ONE, events)
    assert [attempt for _, attempt in held] == [1] * 6
    assert take(database, OTHER, events) == []
    with database.read() as session:
        assert {owner: number for owner, (number, _) in leasing.by_owner(session, CALLS).items()} == {ONE: 6}
    assert not end(database, OTHER, *held[0])
    assert [end(database, ONE, *one) for one in (held[0], held[0])] == [True, False]
    assert rows(database)[0] == (DONE, None, 1)
    assert take(database, OTHER, events) == []


def test_a_lease_that_was_taken_from_a_worker_ends_nothing_and_is_not_prolonged(database: Database) -> None:
    events = add(database, 1, 1)
    ((identifier, first),) = take(database, ONE, events)
    with database.write() as session:
        session.execute(update(CALLS).values(leasing.ENDED))
    ((_, second),) = take(database, ONE, events)
    assert second == first + 1
    assert prolong(database, ONE, [identifier]) == [(identifier, second)]
    assert prolong(database, OTHER, [identifier]) == []
    assert not end(database, ONE, identifier, first)
    assert end(database, ONE, identifier, second)


def test_a_lease_that_has_run_out_is_found_with_its_owner_until_it_is_prolonged(database: Database) -> None:
    events = add(database, 1, 2)
    held = take(database, ONE, events, seconds=-1)
    take(database, OTHER, add(database, 1, 1))

    def found(*, expired_only: bool) -> int:
        with database.read() as session:
            owners = leasing.expired_owners(session, CALLS)
            its = leasing.held_by(CALLS, ONE, expired_only=expired_only)
            return (
                len(session.execute(select(CALLS.c.id).where(*its)).all()) if owners == [ONE] or not expired_only else 0
            )

    assert (found(expired_only=True), found(expired_only=False)) == (2, 2)
    prolong(database, ONE, [identifier for identifier, _ in held])
    assert (found(expired_only=True), found(expired_only=False)) == (0, 2)


def test_workers_that_want_the_same_rows_at_once_share_them_and_none_locks_another_out(database: Database) -> None:
    events, workers, gate = add(database, 20, 5), [UUID(int=n) for n in range(1, 7)], Barrier(6)

    def work(number: int) -> list[tuple[UUID, int]]:
        gate.wait(PATIENCE)
        turned = events[number:] + events[:number] if number % 2 else events[::-1]
        return take(database, workers[number], turned)

    with ThreadPoolExecutor(6) as pool:
        taken = [one for part in pool.map(work, range(6)) for one in part]
    assert len(taken) == len(set(taken)) == 100
    wait_until(lambda: all(attempt == 1 and owner for _, owner, attempt in rows(database)), "each row's owner")
