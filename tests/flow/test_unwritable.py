"""A database that lets us in but cannot be used: it is read-only, another program's, or lacks a right."""

import os
import sqlite3
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg2
import pytest
from sqlalchemy.engine import URL, make_url

from mailbbgun.migrations import HEAD
from mailbbgun.settings.settings import Settings
from tests.flow.service import Service, last_words, until
from tests.servers import PostgreSQL

API = [sys.executable, "api.py"]
WORKER = [sys.executable, "worker.py"]
INITDB = [sys.executable, "initdb.py"]
REQUEUE = ["bin/requeue-pending"]
STATUS = ["bin/mailbbgun", "status"]
TENANT = ["bin/mailbbgun", "tenant", "create", "acme"]
READER = "mailbbgun_reader"
NEWER, NEWER_TOLD = f"{int(HEAD) + 1:04}", "the database is of a newer version of Mail BB Gun"


def said(service: Service, *programs: list[str], code: int, **settings: str) -> list[str]:
    """Start programs that must end with that exit code; return the one line of each without its name."""
    return [line.partition(": ")[2] for line in last_words(service, *programs, code=code, **settings)]


@contextmanager
def administering(postgresql: PostgreSQL, database: str | None) -> Iterator[psycopg2.extensions.cursor]:
    url = make_url(postgresql.url()).set(drivername="postgresql", database=database)
    connection = psycopg2.connect(url.render_as_string(hide_password=False))
    connection.autocommit = True
    with connection.cursor() as cursor:
        yield cursor
    connection.close()


@pytest.fixture
def empty(postgresql: PostgreSQL) -> Iterator[URL]:
    database = postgresql.create_database()
    yield make_url(postgresql.url(database))
    postgresql.drop_database(database)


@pytest.fixture
def prepared(embedded_settings: Settings, empty: URL) -> Service:
    """A service on PostgreSQL whose tables are made, and nothing started."""
    service = Service(embedded_settings, DATABASE_URL=empty.render_as_string(hide_password=False))
    service.install()
    return service


@pytest.mark.long
def test_a_database_that_may_only_be_read_is_an_outage_and_ends_no_process(
    prepared: Service, postgresql: PostgreSQL, empty: URL
) -> None:
    told = "the database may only be read at present"
    with prepared as service, administering(postgresql, "postgres") as server:
        worker = service.start_worker()
        service.ended(service.post(to="ann@example.test")["id"], "DELIVERED")
        server.execute(f'ALTER DATABASE "{empty.database}" SET default_transaction_read_only = on')
        try:
            postgresql.terminate(str(empty.database))

            def refused() -> bool:
                answer = service.http.post(
                    f"{service.url}/messages", json={"to": "ann@example.test", "subject": "x", "text": "x"}
                )
                assert answer.status_code == 503, answer.text
                return told in answer.json()["error"]["message"]

            until(refused)
            until(lambda: told in service.http.get(f"{service.url}/ready").json()["parts"]["database"])
            until(lambda: told in (service.var / "worker.out").read_text())
            lines = said(service, TENANT, INITDB, REQUEUE, code=1)
            assert all(line.startswith(told) for line in lines)
            service.start_worker("second")
            until(lambda: told in (service.var / "second.out").read_text())
            assert worker.poll() is None
        finally:
            server.execute(f'ALTER DATABASE "{empty.database}" RESET default_transaction_read_only')
        postgresql.terminate(str(empty.database))
        until(lambda: service.http.get(f"{service.url}/ready").status_code == 200)
        service.ended(service.post(to="ann@example.test")["id"], "DELIVERED")
        assert (service.stop("worker"), service.stop("second")) == (0, 0)
        for name in ("api", "worker", "second"):
            assert "Traceback" not in (service.var / f"{name}.out").read_text()


@pytest.mark.long
def test_tables_that_are_away_while_a_backup_is_restored_are_an_outage_and_end_no_process(
    prepared: Service, postgresql: PostgreSQL, empty: URL
) -> None:
    told = "the database has lost its tables"
    with prepared as service, administering(postgresql, empty.database) as server:
        worker = service.start_worker()
        service.ended(service.post(to="ann@example.test")["id"], "DELIVERED")
        server.execute("ALTER SCHEMA public RENAME TO away; CREATE SCHEMA public")
        mail = {"to": "ann@example.test", "subject": "x", "text": "x"}
        answer = service.http.post(f"{service.url}/messages", json=mail)
        assert (answer.status_code, told in answer.json()["error"]["message"]) == (503, True), answer.text
        until(lambda: told in (service.var / "worker.out").read_text())
        server.execute("DROP SCHEMA public; ALTER SCHEMA away RENAME TO public")
        until(lambda: service.http.get(f"{service.url}/ready").status_code == 200)
        service.ended(service.post(to="ann@example.test")["id"], "DELIVERED")
        assert worker.poll() is None
        assert (service.stop("worker"), service.stop("api")) == (0, 0)
        for name in ("api", "worker"):
            assert "Traceback" not in (service.var / f"{name}.out").read_text()


@pytest.mark.long
@pytest.mark.parametrize("rights", ["", "SELECT"], ids=["none", "to read"])
def test_a_role_that_lacks_rights_is_one_line_of_every_program(
    prepared: Service, postgresql: PostgreSQL, empty: URL, rights: str
) -> None:
    with administering(postgresql, empty.database) as server:
        server.execute(f"DROP ROLE IF EXISTS {READER}")
        server.execute(f"CREATE ROLE {READER} LOGIN")
        try:
            if rights:
                server.execute(f"GRANT {rights} ON ALL TABLES IN SCHEMA public TO {READER}")
            url = empty.set(username=READER, password=None).render_as_string(hide_password=False)
            programs = (
                [API, WORKER, INITDB, REQUEUE, TENANT] if rights else [API, WORKER, REQUEUE, STATUS, TENANT, INITDB]
            )
            lines = said(prepared, *programs, code=os.EX_CONFIG, DATABASE_URL=url)
        finally:
            server.execute(f"DROP OWNED BY {READER}; DROP ROLE {READER}")
    assert all(line.startswith(f"DATABASE_URL: the user '{READER}' lacks a right in the database") for line in lines)
    assert all("bin/postgresql-create-user" in line for line in lines)


@pytest.mark.long
def test_a_search_path_without_a_schema_is_one_line_of_every_program(prepared: Service, empty: URL) -> None:
    url = empty.update_query_dict({"options": "-c search_path=nope"}).render_as_string(hide_password=False)
    lines = said(prepared, API, WORKER, INITDB, TENANT, code=os.EX_CONFIG, DATABASE_URL=url)
    assert len({line for line in lines if line.startswith("DATABASE_URL: search_path names no schema")}) == 1


@pytest.mark.parametrize(
    ("version", "programs", "told"),
    [
        (NEWER, [WORKER], NEWER_TOLD),
        pytest.param(NEWER, [API, WORKER, INITDB], NEWER_TOLD, marks=pytest.mark.long),
        pytest.param(
            "4f0c2aa1", [API, WORKER, INITDB], "the database's tables are another program's", marks=pytest.mark.long
        ),
    ],
)
def test_tables_of_a_newer_version_or_of_another_program_are_left_alone(
    embedded_settings: Settings, version: str, programs: list[list[str]], told: str
) -> None:
    service = Service(embedded_settings)
    service.install()
    service.sql("UPDATE alembic_version SET version_num = :version", version=version)
    lines = said(service, *programs, code=os.EX_CONFIG)
    assert all(line.startswith(told) and "initdb" not in line for line in lines)
    assert service.sql("SELECT version_num FROM alembic_version") == [(version,)]


@pytest.mark.parametrize("kind", ["TABLE messages (body TEXT)", "VIEW messages AS SELECT 'x' AS body"])
def test_a_sqlite_file_of_another_program_is_named_and_left_alone(
    embedded_settings: Settings, tmp_path: Path, kind: str
) -> None:
    file = tmp_path / "chat.db"
    with sqlite3.connect(file) as connection:
        connection.execute(f"CREATE {kind}")
    (line,) = said(Service(embedded_settings), INITDB, code=os.EX_CONFIG, DATABASE_URL=f"sqlite:///{file}")
    assert f"the database sqlite:///{file} is another program's: it has a table or view 'messages'" in line
    with sqlite3.connect(file) as connection:
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("messages",)]


def test_a_database_that_cannot_hold_every_letter_is_refused(
    embedded_settings: Settings, postgresql: PostgreSQL
) -> None:
    """PostgreSQL makes such databases where it was installed without a locale."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    url = make_url(postgresql.url()).set(drivername="postgresql")
    server = psycopg2.connect(url.render_as_string(hide_password=False))
    server.autocommit = True
    with server.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE {name} ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
        (line,) = said(Service(embedded_settings), INITDB, code=os.EX_CONFIG, DATABASE_URL=postgresql.url(name))
        cursor.execute(f"DROP DATABASE {name}")
    server.close()
    told = f"DATABASE_URL: the database '{name}' has the encoding SQL_ASCII, and mail needs UTF8"
    assert line == f"{told}; bin/postgresql-create-user makes such a database"
