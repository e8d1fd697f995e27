"""Copies of tables are what the steps of the schema make."""

from pathlib import Path

import psycopg2
import pytest
from sqlalchemy import inspect, text

from mailbbgun import schema
from mailbbgun.database.db import Database
from tests import tables
from tests.servers import PostgreSQL

#: What a database says of its tables, columns, indexes and constraints.
PARTS = {
    "sqlite": ["SELECT type, name, sql FROM sqlite_master"],
    "postgresql": [
        "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'",
        "SELECT table_name, column_name, data_type, is_nullable, column_default FROM information_schema.columns "
        "WHERE table_schema = 'public'",
        "SELECT conrelid::regclass::text, pg_get_constraintdef(oid) FROM pg_constraint "
        "WHERE connamespace = 'public'::regnamespace",
    ],
}


def shape(db: Database) -> dict[str, object]:
    """Return what tables there are, how many rows the steps wrote, and the version."""
    with db.read() as session:
        names = inspect(session.connection()).get_table_names()
        rows = {name: session.execute(text(f'SELECT count(*) FROM "{name}"')).scalar() for name in names}
        version = session.execute(text("SELECT version_num FROM alembic_version")).all()
        parts = [sorted(map(str, session.execute(text(part)).all())) for part in PARTS[db.dialect]]
        return {"rows": rows, "version": version, "parts": parts}


def same(copy: Database, made: Database) -> None:
    with_tables = shape(copy)
    for db in (copy, made):
        schema.upgrade(db)  # finds nothing to do in the copy
    assert with_tables == shape(copy) == shape(made)
    assert with_tables["rows"]
    copy.close()
    made.close()


def test_a_copy_for_sqlite_is_what_the_steps_make(tmp_path: Path) -> None:
    copy, made = (Database(f"sqlite:///{tmp_path}/{name}.db") for name in ("copy", "made"))
    tables.put_into(copy)
    same(copy, made)
    assert (tmp_path / "copy.db").stat().st_mode & 0o777 == (tmp_path / "made.db").stat().st_mode & 0o777


def test_what_is_there_stays(tmp_path: Path) -> None:
    (tmp_path / "empty.db").touch()
    tables.put_into(Database(f"sqlite:///{tmp_path}/empty.db"))
    assert (tmp_path / "empty.db").stat().st_size == 0


def test_a_copy_for_postgresql_is_what_the_steps_make(postgresql: PostgreSQL) -> None:
    names = [tables.database_of(postgresql), postgresql.create_database(), postgresql.create_database()]
    copy, put, made = (Database(postgresql.url(name)) for name in names)
    tables.put_into(put)
    same(copy, made)
    same(put, Database(postgresql.url(names[2])))
    for name in names:
        postgresql.drop_database(name)


@pytest.mark.parametrize(
    "before",
    [
        "CREATE TABLE theirs (id int)",
        "CREATE SCHEMA theirs CREATE TABLE theirs (id int)",
        "ALTER DATABASE {name} SET synchronous_commit = off",
        "SELECT 1",
    ],
)
def test_a_database_that_was_touched_stays(postgresql: PostgreSQL, before: str) -> None:
    db = Database(postgresql.url(name := postgresql.create_database()))
    with db.write() as session:
        session.execute(text(before.format(name=name)))
    if before != "SELECT 1":  # then it stays because its connection is still open
        db.close()
    tables.put_into(db)
    with db.read() as session:
        assert "tenants" not in inspect(session.connection()).get_table_names("public")
    db.close()
    postgresql.drop_database(name)


def test_a_database_for_which_there_is_no_copy_stays(postgresql: PostgreSQL, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "_postgresql", lambda _server: "missing")
    db = Database(postgresql.url(name := postgresql.create_database()))
    with pytest.raises(psycopg2.Error):
        tables.put_into(db)
    with db.read() as session:
        assert session.execute(text("SELECT 1")).scalar_one() == 1
    db.close()
    postgresql.drop_database(name)


@pytest.mark.parametrize("name", ["one", "two"])
def test_copies_share_nothing(tmp_path: Path, name: str) -> None:
    db = Database(f"sqlite:///{tmp_path}/x.db")
    tables.put_into(db)
    with db.write() as session:
        assert session.execute(text("SELECT count(*) FROM tenants")).scalar() == 1
        session.execute(text("DELETE FROM tenants"))
    db.close()
