"""A server that refuses our settings ends a start; one that does not answer is waited for."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import psycopg2
import pytest
from sqlalchemy import text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import OperationalError

from mailbbgun.core.errors import ConfigurationError, DatabaseUnavailable, RedisUnavailable
from mailbbgun.core.outages import Outages
from mailbbgun.database.db import Database
from mailbbgun.database.refusal import DatabaseRefusal
from mailbbgun.limits.redis_permits import RedisPermitStore
from mailbbgun.startup import patiently
from tests.servers import PostgreSQL, Redis
from tests.servers.process import free_port

CANARY = "hunter2"


def refusal(url: str | URL) -> DatabaseUnavailable:
    """Return the error that a query at this URL raises."""
    database = Database(url if isinstance(url, str) else url.render_as_string(hide_password=False))
    try:
        with pytest.raises(DatabaseUnavailable) as caught, database.read() as session:
            session.execute(text("SELECT name FROM sqlite_master" if database.dialect == "sqlite" else "SELECT 1"))
    finally:
        database.close()
    assert CANARY not in str(caught.value)
    return caught.value


def test_a_full_disk_is_told_as_that(tmp_path):
    database = Database(f"sqlite:///{tmp_path}/full.db")

    def fill() -> None:
        with database.write() as session:
            session.execute(text("CREATE TABLE one (it TEXT)"))
            session.execute(text("PRAGMA max_page_count = 2"))  # SQLite says the same where the disk has no more
            session.execute(text("INSERT INTO one VALUES (zeroblob(100000))"))

    with pytest.raises(DatabaseUnavailable) as caught:
        fill()
    database.close()
    assert (str(caught.value), caught.value.refused) == ("the disk of the database is full", False)


@pytest.fixture(scope="module")
def guarded(breakable_postgresql: PostgreSQL) -> Iterator[URL]:
    """The URL of a role that must show its password."""
    url = make_url(breakable_postgresql.url())
    server = psycopg2.connect(url.set(drivername="postgresql").render_as_string(hide_password=False))
    server.autocommit = True
    rules = breakable_postgresql.folder / "data" / "pg_hba.conf"
    before = rules.read_text()
    with server.cursor() as cursor:
        cursor.execute("CREATE ROLE guarded LOGIN PASSWORD 'right'; CREATE ROLE idle NOLOGIN")
        rules.write_text("host all guarded all scram-sha-256\nhost all stranger all reject\n" + before)
        cursor.execute("SELECT pg_reload_conf()")
        yield url.set(username="guarded", password="right")
        rules.write_text(before)
        cursor.execute("SELECT pg_reload_conf()")
        cursor.execute("DROP ROLE guarded; DROP ROLE idle")
    server.close()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            {"password": CANARY},
            "DATABASE_URL: PostgreSQL refuses the password of the user 'guarded', or has no such role",
        ),
        ({"username": "nobody_here"}, "DATABASE_URL: PostgreSQL has no role 'nobody_here'"),
        ({"username": "idle"}, "DATABASE_URL: the role 'idle' may not log in to PostgreSQL"),
        ({"database": "none_such"}, "DATABASE_URL: PostgreSQL has no database 'none_such'"),
        ({"query": {"sslmode": "verify-full"}}, "DATABASE_URL: "),
        (
            {"query": {"sslmode": "require"}},
            "DATABASE_URL: PostgreSQL on 127.0.0.1 does not speak TLS, which sslmode demands",
        ),
    ],
)
def test_a_refusal_of_postgresql_is_explained_and_ends_a_start(
    guarded: URL, changes: dict[str, object], told: str
) -> None:
    error = refusal(guarded.set(**changes))  # type: ignore[arg-type]  # the names are those of URL.set
    assert error.refused
    assert str(error).startswith(told)

    def start() -> None:
        raise error

    with pytest.raises(ConfigurationError, match="DATABASE_URL"):
        patiently(start, Outages())


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("FATAL:  Passwort-Authentifizierung für Benutzer »u« fehlgeschlagen", "PostgreSQL refuses us"),
        ('ВАЖНО:  роль "u" не существует', "PostgreSQL refuses us"),
        ("FATAL:  the database system is starting up", "the database does not answer"),
        ("FATAL:  sorry, too many clients already", "the database does not answer"),
        ("Connection refused", "the database does not answer"),
    ],
)
def test_a_server_that_answers_in_another_language_is_said_to_refuse_us_and_is_waited_for(said: str, told: str) -> None:
    text_of_libpq = f'connection to server at "127.0.0.1", port 5432 failed: {said}\n'
    refusal = DatabaseRefusal(make_url("postgresql+psycopg2://u@h/d"))
    ours = refusal.translated(OperationalError(None, None, psycopg2.OperationalError(text_of_libpq)))
    assert ours is not None
    assert (str(ours), ours.refused) == (told, False)


def test_a_postgresql_that_is_away_is_waited_for() -> None:
    assert not refusal(f"postgresql+psycopg2://u:{CANARY}@127.0.0.1:{free_port()}/x").refused


def test_the_error_about_an_unusable_sqlite_file_names_it(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "text").write_text("no database at all, and longer than a header of SQLite's is " * 30)
    for name, told in (
        ("folder", "is a folder, not a file"),
        ("none/x.db", "there is no folder"),
        ("text", "is not a SQLite database"),
    ):
        error = refusal(f"sqlite:///{tmp_path}/{name}")
        assert error.refused
        assert told in str(error)
        assert str(tmp_path) in str(error)
    whole = tmp_path / "whole.db"
    sqlite3.connect(whole).close()
    Database(f"sqlite:///{whole}").close()


def test_a_refusal_of_redis_is_told_from_a_redis_that_is_away(redis: Redis) -> None:
    RedisPermitStore(redis.url()).check()
    address = redis.url().rpartition("@")[2]
    number = f"{redis.url().rpartition('/')[0]}/99999"
    for url in (f"redis://:{CANARY}@{address}", f"redis://{address}", f"redis://nobody:{CANARY}@{address}", number):
        counting = RedisPermitStore(url)
        with pytest.raises(RedisUnavailable, match=r"^REDIS_URL: ") as caught:
            counting.check()
        assert caught.value.refused
        assert CANARY not in str(caught.value)
        counting.close()
    away = RedisPermitStore(f"redis://127.0.0.1:{free_port()}/0")
    with pytest.raises(RedisUnavailable) as caught:
        away.check()
    assert not caught.value.refused
