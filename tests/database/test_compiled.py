"""Compiled statements on each database.

They are committed together or not at all, survive restarts of the server, and leave nothing on a
connection.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from sqlalchemy import bindparam, delete, func, insert, select, text, update
from sqlalchemy.exc import IntegrityError

from mailbbgun.core.errors import DatabaseUnavailable, UnfilteredQuery
from mailbbgun.database.compiled import CompiledStatement, StatementStep
from mailbbgun.database.db import Database, db_now
from mailbbgun.deliver.models import RegisteredWorker
from mailbbgun.events.models import Event
from mailbbgun.messages.models import DELIVERIES, Delivery, MessageTag
from tests import tables
from tests.servers import PostgreSQL
from tests.waiting import PATIENCE, wait_until

pytestmark = pytest.mark.both

AT = datetime(2026, 11, 28, 12, 0, 0, 5, UTC)
NEW = CompiledStatement(
    insert(RegisteredWorker).values(
        id=bindparam("id"), host=bindparam("host"), pid=bindparam("pid"), started_at=bindparam("at"), beat_at=db_now()
    )
)
BEAT = CompiledStatement(
    update(RegisteredWorker)
    .where(RegisteredWorker.id == bindparam("worker"))
    .values(pid=RegisteredWorker.pid + bindparam("more"))
)


def new(identifier: UUID, host: str | None = "100% 'my' \\host", pid: int = 1) -> dict[str, object]:
    return {"id": identifier, "host": host, "pid": pid, "at": AT}


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    if request.param == "sqlite":
        opened = Database(f"sqlite:///{tmp_path}/x.db", pool_size=2)
        tables.put_into(opened)
        yield opened
        opened.close()
    else:
        server: PostgreSQL = request.getfixturevalue("breakable_postgresql")
        opened = Database(server.url(tables.database_of(server)), pool_size=2)
        yield opened
        opened.close()
        server.drop_database(str(opened.url.database))


def workers(database: Database) -> list[tuple[UUID, str, int, datetime]]:
    with database.read() as session:
        return [
            (one.id, one.host, one.pid, one.started_at)
            for one in session.scalars(select(RegisteredWorker).order_by(RegisteredWorker.pid))
        ]


def test_steps_are_committed_together(database: Database) -> None:
    first, second = uuid4(), uuid4()
    database.commit([StatementStep(NEW, [new(first)])])
    database.commit(
        [
            StatementStep(NEW, [new(second, pid=5)]),
            StatementStep(BEAT, [{"worker": first, "more": 2}, {"worker": second, "more": 2}]),
        ]
    )
    assert workers(database) == [(first, "100% 'my' \\host", 3, AT), (second, "100% 'my' \\host", 7, AT)]


GROWN = CompiledStatement(
    update(RegisteredWorker)
    .where(RegisteredWorker.pid < bindparam("below"))
    .values(pid=RegisteredWorker.pid + 1)
    .returning(
        RegisteredWorker.id,
        RegisteredWorker.pid,
        RegisteredWorker.started_at,
        RegisteredWorker.pid / 4.0,
        RegisteredWorker.host,
    )
)


def test_rows_that_a_statement_returns_have_python_types_and_are_committed(database: Database) -> None:
    first, second, third = (uuid4() for _ in range(3))
    database.commit([StatementStep(NEW, [new(first, "a", 1), new(second, "b", 2), new(third, "c", 30)])])
    found = sorted(database.ask(GROWN, {"below": 10}), key=lambda row: row[1])
    assert found == [(first, 2, AT, 0.5, "a"), (second, 3, AT, 0.75, "b")]
    assert [type(value) for value in found[0]] == [UUID, int, datetime, float, str]
    assert [pid for _, _, pid, _ in workers(database)] == [2, 3, 30]
    assert database.ask(GROWN, {"below": 0}) == []
    assert database.engine.pool.checkedout() == 0  # type: ignore[attr-defined]  # of a QueuePool


def test_a_statement_that_fails_leaves_nothing_and_the_next_one_succeeds(database: Database) -> None:
    returning = NEW.statement.returning(RegisteredWorker.host)  # type: ignore[attr-defined]  # it is an INSERT
    made = CompiledStatement(returning)
    with pytest.raises(IntegrityError):
        database.ask(made, new(uuid4(), host=None))
    assert database.ask(made, new(uuid4(), host="good")) == [("good",)]
    assert len(workers(database)) == 1


@pytest.mark.parametrize("alone", [True, False])
def test_steps_of_which_one_fails_leave_nothing_and_the_next_ones_succeed(database: Database, alone: bool) -> None:
    good, bad = StatementStep(NEW, [new(uuid4())]), StatementStep(NEW, [new(uuid4(), host=None)])
    with pytest.raises(IntegrityError) as caught:
        database.commit([bad] if alone else [good, bad])
    assert caught.value.orig is not None
    assert workers(database) == []
    database.commit([good])
    assert len(workers(database)) == 1


def test_a_parameter_without_a_value_is_null_unless_the_statement_has_one(database: Database) -> None:
    with pytest.raises(IntegrityError):
        database.commit([StatementStep(NEW, [{"id": uuid4(), "pid": 1, "at": AT}])])


def test_a_statement_whose_text_or_values_python_makes_each_time_cannot_be_compiled_once(database: Database) -> None:
    listed = CompiledStatement(
        update(RegisteredWorker).where(RegisteredWorker.id.in_([uuid4(), uuid4()])).values(pid=1)
    )
    with pytest.raises(TypeError, match="depends on its parameters"):
        database.commit([StatementStep(listed, [{}])])
    # The model makes an id for each row.
    made = CompiledStatement(insert(DELIVERIES).values(tenant_id=bindparam("tenant_id"), address="x"))
    with pytest.raises(TypeError, match="has to compute defaults"):
        database.commit([StatementStep(made, [{"tenant_id": uuid4()}])])


def test_sessions_and_ready_statements_share_connections_and_neither_disturbs_the_other(database: Database) -> None:
    ids = [uuid4() for _ in range(6)]
    for number, one in enumerate(ids):
        if number % 2:
            database.commit([StatementStep(NEW, [new(one)])])
        else:
            with database.write() as session:
                session.execute(insert(RegisteredWorker).values(id=one, host="x", pid=1, started_at=AT, beat_at=AT))
                session.rollback()  # with autocommit there would be nothing to roll back
    assert {identifier for identifier, *_ in workers(database)} == set(ids[1::2])
    assert database.engine.pool.checkedout() == 0  # type: ignore[attr-defined]  # of a QueuePool


def test_after_an_error_in_the_middle_no_connection_is_left_in_a_transaction(database: Database) -> None:
    class Unbindable:
        pass

    second = new(uuid4(), host=Unbindable())  # type: ignore[arg-type]  # this is the error
    with pytest.raises(Exception, match=r"(adapt|type 'Unbindable'|supported)"):
        database.commit([StatementStep(NEW, [new(uuid4()), second])])
    database.commit([StatementStep(NEW, [new(uuid4())])])
    assert len(workers(database)) == 1


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_no_settings_or_prepared_statements_stay_in_the_session_of_the_server(database: Database) -> None:
    database.commit([StatementStep(NEW, [new(uuid4())])])
    with database.read() as session:
        changed = text("SELECT name FROM pg_settings WHERE source = 'session' AND name LIKE '%transaction%'")
        assert session.execute(changed).all() == []
        assert session.execute(text("SELECT count(*) FROM pg_prepared_statements")).scalar_one() == 0
        assert session.execute(text("SHOW application_name")).scalar_one() == "mailbbgun"


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
@pytest.mark.parametrize("how", ["terminated", "restarted", pytest.param("killed", marks=pytest.mark.long)])
def test_idle_connections_that_the_server_ends_are_replaced_unnoticed(
    database: Database, breakable_postgresql: PostgreSQL, how: str
) -> None:
    name = database.url.database or ""
    with database.read() as one, database.read() as other:  # both connections of the pool
        assert one.scalar(select(func.count()).select_from(Event)) == 0
        assert other.scalar(select(func.count()).select_from(MessageTag)) == 0
    for kind in ("ready", "session") * 2:
        if how == "terminated":
            assert breakable_postgresql.terminate(name) > 0
        elif how == "restarted":
            breakable_postgresql.restart()
        else:
            breakable_postgresql.kill9()
            breakable_postgresql.start()
        if kind == "ready":
            database.commit([StatementStep(NEW, [new(uuid4())])])
        else:
            with database.write() as session:
                session.execute(insert(RegisteredWorker).values(id=uuid4(), host="x", pid=1, started_at=AT, beat_at=AT))
    assert len(workers(database)) == 4


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_a_server_that_is_away_is_unavailable_and_used_again_when_it_is_back(
    database: Database, breakable_postgresql: PostgreSQL
) -> None:
    database.commit([StatementStep(NEW, [new(uuid4())])])
    breakable_postgresql.stop()
    try:
        with pytest.raises(DatabaseUnavailable):
            database.commit([StatementStep(NEW, [new(uuid4())])])
    finally:
        breakable_postgresql.start()
    database.commit([StatementStep(NEW, [new(uuid4())])])
    assert len(workers(database)) == 2


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_a_connection_that_breaks_in_the_middle_is_an_error_and_empties_the_pool(
    database: Database,
) -> None:
    identifier = uuid4()
    database.commit([StatementStep(NEW, [new(identifier)])])
    suicide = CompiledStatement(
        update(RegisteredWorker)
        .where(RegisteredWorker.id == bindparam("worker"))
        .values(host=func.concat(func.pg_terminate_backend(func.pg_backend_pid())))
    )
    with pytest.raises(DatabaseUnavailable):
        database.commit([StatementStep(suicide, [{"worker": identifier}])])
    assert database.engine.pool.checkedin() == 0  # type: ignore[attr-defined]  # of a QueuePool
    database.commit([StatementStep(BEAT, [{"worker": identifier, "more": 1}])])
    assert [pid for _, _, pid, _ in workers(database)] == [2]


COUNTED = CompiledStatement(
    select(RegisteredWorker.id, RegisteredWorker.pid).where(RegisteredWorker.pid >= bindparam("least"))
)


def test_statements_of_one_transaction_are_committed_with_the_last_and_see_those_before(database: Database) -> None:
    first, second = uuid4(), uuid4()
    with database.statements() as statements:
        statements.ask(GROWN, {"below": 0})
        statements.last([StatementStep(NEW, [new(first), new(second, pid=5)]), StatementStep(BEAT, [grow(first)])])
    with database.statements() as statements:
        assert [(one, pid) for one, pid, *_ in statements.ask(GROWN, {"below": 4})] == [(first, 4)]
        assert database.find(COUNTED, {"least": 4}) == [(second, 5)]  # others do not see it yet
        assert sorted(statements.ask(COUNTED, {"least": 4}), key=lambda row: row[1]) == [(first, 4), (second, 5)]
        statements.last([])
    with database.statements() as statements:
        assert len(statements.ask(GROWN, {"below": 10})) == 2
        assert [pid for _, pid in statements.ask(COUNTED, {"least": 6}, last=True)] == [6]
    assert [pid for _, _, pid, _ in workers(database)] == [5, 6]
    assert database.engine.pool.checkedout() == 0  # type: ignore[attr-defined]  # of a QueuePool


def test_statements_may_run_between_others_and_are_committed_or_undone_with_them(database: Database) -> None:
    first, second = uuid4(), uuid4()
    with database.statements() as statements:
        statements.run([StatementStep(NEW, [new(first), new(second)]), StatementStep(BEAT, [grow(first)])])
        assert sorted(pid for _, pid in statements.ask(COUNTED, {"least": 0})) == [1, 3]
        statements.last([StatementStep(BEAT, [grow(second)])])
    with database.statements() as statements:
        statements.run([StatementStep(BEAT, [grow(first)])])
    assert sorted(pid for _, pid in database.find(COUNTED, {"least": 0})) == [3, 3]


def grow(worker: UUID) -> dict[str, object]:
    return {"worker": worker, "more": 2}


@pytest.mark.parametrize("how", ["an error of the database", "an error of ours", "no last statement"])
def test_a_transaction_that_ends_early_leaves_nothing_behind(database: Database, how: str) -> None:
    first = uuid4()
    database.commit([StatementStep(NEW, [new(first)])])

    def begin() -> None:
        with database.statements() as statements:
            assert len(statements.ask(GROWN, {"below": 10})) == 1
            if how == "an error of the database":
                statements.last([StatementStep(BEAT, [grow(first)]), StatementStep(NEW, [new(uuid4(), host=None)])])
            if how == "an error of ours":
                raise RuntimeError("a bug")

    for _ in range(3):  # more often than the pool has connections
        if how == "no last statement":
            begin()
        else:
            with pytest.raises(RuntimeError if how == "an error of ours" else IntegrityError):
                begin()
    with database.read() as one, database.read() as other:  # both connections: none is in a transaction, or locked
        assert [session.scalar(select(RegisteredWorker.pid)) for session in (one, other)] == [1, 1]
    database.commit([StatementStep(BEAT, [grow(first)])])
    assert [pid for _, _, pid, _ in workers(database)] == [3]


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_a_transaction_whose_connection_breaks_is_unavailable_and_empties_the_pool(
    database: Database, breakable_postgresql: PostgreSQL
) -> None:
    database.commit([StatementStep(NEW, [new(uuid4())])])

    def breaks() -> None:
        with database.statements() as statements:
            assert len(statements.ask(GROWN, {"below": 10})) == 1
            breakable_postgresql.terminate(database.url.database or "")
            statements.last([])

    with pytest.raises(DatabaseUnavailable):
        breaks()
    assert database.engine.pool.checkedin() == 0  # type: ignore[attr-defined]  # of a QueuePool
    assert [pid for _, _, pid, _ in workers(database)] == [1]


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_each_statement_of_one_round_trip_sees_what_others_have_committed_meanwhile(database: Database) -> None:
    """The second statement waits for a lock here, and the third must see what the lock's holder wrote."""
    first, second = uuid4(), uuid4()
    database.commit([StatementStep(NEW, [new(first), new(second, pid=10)])])
    locked = select(RegisteredWorker.id).where(RegisteredWorker.id == bindparam("worker")).with_for_update()
    of_second = select(RegisteredWorker.pid).where(RegisteredWorker.id == bindparam("worker")).scalar_subquery()
    summed = update(RegisteredWorker).where(RegisteredWorker.id == bindparam("to")).values(pid=of_second)
    steps = [
        StatementStep(CompiledStatement(locked), [{"worker": first}]),
        StatementStep(CompiledStatement(summed), [{"worker": second, "to": first}]),
    ]
    other = Database(database.url.render_as_string(hide_password=False))

    def waits() -> bool:
        with other.read() as session:
            of_ours = "FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
            return bool(session.execute(text(f"SELECT count(*) {of_ours}")).scalar_one())

    with ThreadPoolExecutor(1) as pool:
        with database.write() as session:
            session.execute(update(RegisteredWorker).values(pid=RegisteredWorker.pid + 5))
            writer = pool.submit(database.commit, steps)
            wait_until(waits, "a writer that waits for the lock")
        writer.result(PATIENCE)
    other.close()
    assert [pid for _, _, pid, _ in workers(database)] == [15, 15]


def test_a_search_that_is_meant_for_rows_of_all_tenants_can_be_compiled_but_changes_none() -> None:
    found = select(Delivery.id).where(Delivery.status == "PENDING")
    assert CompiledStatement(found, of_all_tenants=True).statement is found
    gone = delete(DELIVERIES).returning(DELIVERIES.c.id)
    for statement in (gone, found.add_cte(gone.cte("gone")), text("SELECT 1")):
        with pytest.raises(UnfilteredQuery):
            CompiledStatement(statement, of_all_tenants=True)
