"""bin/postgresql-create-user and create-role.sh on a real PostgreSQL that asks for passwords."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from sqlalchemy.engine import make_url

from tests.servers import PostgreSQL, install

ROOT = Path(__file__).parents[2]
HBA = "host all postgres 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 scram-sha-256\n"


@pytest.fixture(scope="module")
def server() -> Iterator[PostgreSQL]:
    """Our own server, on which only the superuser needs no password."""
    with PostgreSQL(own=True) as own:
        (file,) = _query(own.url(), "SHOW hba_file")
        Path(file).write_text(HBA)
        _query(own.url(), "SELECT pg_reload_conf()")
        yield own


def _query(url: str, statement: str) -> Any:
    connection = psycopg2.connect(
        make_url(url).set(drivername="postgresql").render_as_string(hide_password=False), connect_timeout=5
    )
    try:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchone() if cursor.description else None
    finally:
        connection.close()


def _script(server: PostgreSQL, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "MAILBBGUN_"))}
    clean |= {"PGHOST": "127.0.0.1", "PGPORT": str(server.port), "PATH": f"{install.postgresql()}:{os.environ['PATH']}"}
    command = [str(ROOT / "bin" / "postgresql-create-user"), *arguments]
    return subprocess.run(command, env=clean | environment, cwd="/", capture_output=True, text=True, check=False)


def _url(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1].removeprefix('DATABASE_URL = "').removesuffix('"')


def test_the_printed_url_opens_a_database_of_ones_own_and_nothing_more(server: PostgreSQL) -> None:
    url = _url(_script(server))
    assert make_url(url).render_as_string() == f"postgresql+psycopg2://mailbbgun:***@127.0.0.1:{server.port}/mailbbgun"
    _query(url, "CREATE TABLE mine (id int)")
    assert _query(
        url,
        "SELECT rolsuper OR rolcreatedb OR rolcreaterole OR rolbypassrls FROM pg_roles WHERE rolname = current_user",
    ) == (False,)
    other = _url(_script(server, "other"))
    with pytest.raises(psycopg2.OperationalError, match="permission denied"):
        _query(make_url(other).set(database="mailbbgun").render_as_string(hide_password=False), "SELECT 1")


def test_repeated_it_leaves_the_password_unless_one_is_given(server: PostgreSQL) -> None:
    first = _url(_script(server, "again"))
    second = _script(server, "again")
    assert "ITS-PASSWORD" in _url(second)
    assert "its password: as it was" in second.stdout
    assert _query(first, "SELECT 1") == (1,)
    third = _url(_script(server, "again", PG_PASSWORD="grüße' \"$x\\ %"))
    assert _query(third, "SELECT 1") == (1,)
    with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
        _query(first, "SELECT 1")


def test_names_and_password_of_a_new_role_come_from_database_url(server: PostgreSQL) -> None:
    configured = f"postgresql+psycopg2://shop%40home:s%2Fcret@127.0.0.1:{server.port}/shop"
    url = _url(_script(server, MAILBBGUN_DATABASE_URL=configured))
    assert make_url(url) == make_url(configured)
    assert _query(url, "SELECT current_user, current_database()") == ("shop@home", "shop")


def test_names_cannot_be_sql(server: PostgreSQL) -> None:
    role, database = 'x"; DROP ROLE postgres; --', "d'; SELECT 1"
    assert _query(_url(_script(server, role, database)), "SELECT current_user, current_database()") == (role, database)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["postgres"], "the role postgres exists and is a superuser"),
        (["newcomer", "postgres"], "the database postgres exists and belongs to postgres"),
        (["x" * 64], "is not a name"),
        (["a\nb"], "is not a name"),
    ],
)
def test_what_belongs_to_others_is_left_alone(server: PostgreSQL, arguments: list[str], told: str) -> None:
    done = _script(server, *arguments)
    assert done.returncode == 1
    assert told in done.stderr
    assert _query(server.url(), "SELECT count(*) FROM pg_roles WHERE rolname = 'newcomer'") == (0,)


def test_exit_codes_tell_what_was_wrong(server: PostgreSQL) -> None:
    assert _script(server, "a", "b", "c").returncode == 2
    assert _script(server, MAILBBGUN_PORT="x").returncode == os.EX_CONFIG
    assert _script(server, PG_PASSWORD="").returncode == 1


@pytest.mark.parametrize(
    ("environment", "told", "advice"),
    [
        ({"PGPORT": "1"}, "Connection refused", "PostgreSQL does not run on 127.0.0.1, port 1: "),
        (
            {"PGHOST": "/nowhere"},
            "No such file or directory",
            "PostgreSQL does not run on the socket in /nowhere, port ",
        ),
        ({"PGHOST": "nowhere.invalid"}, "could not translate host name", "say in PGHOST where PostgreSQL runs"),
        ({"PGPORT": "many"}, 'invalid integer value "many"', "PGPORT must be a port number"),
        (
            {"PGUSER": "nobody_knows"},
            "no password supplied",
            "say the superuser in PGUSER and its password in PGPASSWORD",
        ),
    ],
    ids=["nothing listens", "no socket", "no such machine", "no port", "no such superuser"],
)
def test_the_advice_fits_the_reason_why_a_server_cannot_be_asked(
    server: PostgreSQL, environment: dict[str, str], told: str, advice: str
) -> None:
    done = _script(server, **environment)
    (line,) = done.stderr.splitlines()
    assert (done.returncode, done.stdout) == (1, "")
    assert line.startswith("postgresql-create-user: ")
    assert told in line
    assert advice in line.partition("; ")[2]
    assert "as root" not in line


def test_the_role_of_the_compose_file_owns_its_database(server: PostgreSQL) -> None:
    own = {"PGHOST": "127.0.0.1", "PGPORT": str(server.port), "PG_PASSWORD": "it's"}
    for name in ("mailbbgun", "mailbbgun_test"):
        _query(server.url(), f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
    _query(server.url(), "DROP ROLE IF EXISTS mailbbgun")
    script = ROOT / "deploy" / "compose" / "create-role.sh"
    subprocess.run([str(script)], env=os.environ | own, check=True)
    url = (
        make_url(server.url("mailbbgun"))
        .set(username="mailbbgun", password="it's")
        .render_as_string(hide_password=False)
    )
    role = "FROM pg_roles, pg_database WHERE rolname = current_user AND datname = rolname"
    assert _query(url, f"SELECT rolsuper, pg_get_userbyid(datdba) {role}") == (False, "mailbbgun")
