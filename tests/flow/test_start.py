"""A program that must not start says why in one line."""

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pika
import psycopg2
import pytest
from sqlalchemy.engine import make_url

from mailbbgun.database.crypto import new_key
from mailbbgun.install import install
from mailbbgun.queues.topology import work_queue
from mailbbgun.services import build
from mailbbgun.settings.load import load
from mailbbgun.tenants import keys
from tests.flow.service import CANARY, ROOT, Service, last_words, until
from tests.waiting import PATIENCE

WORKER = [sys.executable, "worker.py"]
API = [sys.executable, "-m", "gunicorn", "api:app"]
PROGRAMS = {
    "api": [sys.executable, "api.py"],
    "worker": WORKER,
    "initdb": [sys.executable, "initdb.py"],
    "run": [sys.executable, "-m", "mailbbgun.run"],
    **{"catcher": [sys.executable, "-m", "mailbbgun.catcher"], "smtpd": [sys.executable, "smtpd.py"]},
    "requeue-pending": ["bin/requeue-pending"],
    "mailbbgun": ["bin/mailbbgun", "encryption", "status"],
    "postgresql-create-user": ["bin/postgresql-create-user"],
}


def some(*names: str) -> list[object]:
    """Return names as test parameters; all but the first run with ``--all`` only."""
    return [names[0], *(pytest.param(name, marks=pytest.mark.long) for name in names[1:])]


def refusals(service: Service, *programs: list[str], **settings: str) -> list[str]:
    """Start programs that must refuse to start; return the one line that each prints."""
    return last_words(service, *programs, code=os.EX_CONFIG, **settings)


@pytest.mark.parametrize("name", some(*PROGRAMS))
def test_every_program_reports_a_wrong_setting_in_the_same_way(embedded_settings, name):
    (line,) = refusals(Service(embedded_settings), PROGRAMS[name], SMTP_TIMEOUTS="dot=soon")
    assert line == f"{name}: SMTP_TIMEOUTS: dot: 'soon' is not a number"


@pytest.mark.long
def test_programs_also_report_a_wrong_setting_that_they_do_not_need(embedded_settings):
    names = ("api", "worker", "smtpd", "initdb", "run", "requeue-pending", "mailbbgun")
    lines = refusals(Service(embedded_settings), *(PROGRAMS[name] for name in names), DEFAULT_FROM="nobody")
    assert [line.partition(": 'nobody'")[0] for line in lines] == [f"{name}: DEFAULT_FROM" for name in names]


@pytest.mark.parametrize("name", some("worker", "api", "smtpd", "initdb", "catcher", "requeue-pending"))
def test_every_program_reports_a_folder_that_cannot_be_made_in_the_same_way(prepared, name):
    (line,) = refusals(prepared, PROGRAMS[name], VAR="/proc/nowhere")
    assert line.startswith(f"{name}: VAR: the folder /proc/nowhere")


WORK_ON_WHAT_IS_THERE = ("api", "worker", "smtpd", "requeue-pending", "mailbbgun")


@pytest.mark.parametrize(
    ("var", "names"),
    [
        ("none", ("api", "worker")),
        *(pytest.param(var, WORK_ON_WHAT_IS_THERE, marks=pytest.mark.long) for var in ("none", ".")),
    ],
)
def test_without_a_database_file_programs_say_what_to_run_and_make_no_file(embedded_settings, tmp_path, var, names):
    service, programs = Service(embedded_settings), [PROGRAMS[name] for name in names]
    var, before = tmp_path / var, sorted(tmp_path.iterdir())
    database = var / "mailbbgun.db"
    lines = refusals(service, *programs, VAR=str(var), DATABASE_URL=f"sqlite:///{database}")
    assert lines == [f"{name}: there is no database {database}: run python initdb.py" for name in names]
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.long
def test_with_an_empty_sqlite_file_programs_say_what_to_run_and_make_no_file(embedded_settings, tmp_path):
    service, programs = Service(embedded_settings), [PROGRAMS[name] for name in WORK_ON_WHAT_IS_THERE]
    (tmp_path / "empty.db").touch()
    lines = refusals(service, *programs, DATABASE_URL=f"sqlite:///{tmp_path}/empty.db")
    assert [line.partition(", this version")[0] for line in lines] == [
        f"{name}: the database's schema is missing" for name in WORK_ON_WHAT_IS_THERE
    ]
    assert all(line.endswith(": run python initdb.py") for line in lines)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty.db", "var"]


@pytest.mark.long
def test_with_an_empty_postgresql_database_programs_say_what_to_run_and_make_no_file(
    embedded_settings, postgresql, tmp_path
):
    service, programs = Service(embedded_settings), [PROGRAMS[name] for name in WORK_ON_WHAT_IS_THERE]
    lines = refusals(
        service, *programs, VAR=str(tmp_path / "none"), DATABASE_URL=postgresql.url(postgresql.create_database())
    )
    assert all(
        ": the database's schema is missing" in line and line.endswith(": run python initdb.py") for line in lines
    )
    assert not (tmp_path / "none").exists()


def test_nobody_else_may_read_the_database_in_a_folder_that_everybody_may_enter(embedded_settings):
    service = Service(embedded_settings)
    service.var.chmod(0o755)
    service.install()
    files = {file.name: file.stat().st_mode & 0o077 for file in service.var.glob("mailbbgun.db*")}
    assert files["mailbbgun.db"] == 0
    assert set(files.values()) == {0}


def test_a_folder_of_another_user_is_told_in_one_line(prepared):
    loaded = "import os, sqlalchemy.dialects.sqlite, sqlite3; from mailbbgun.core.process import run; "
    # It becomes another user only now, since that one may be unable to read this Python's libraries.
    become = "" if os.geteuid() else "os.setresgid(*[65534] * 3); os.setresuid(*[65534] * 3); "
    worker = f"{loaded}from mailbbgun.worker.main import main; {become}run('worker', main)"
    prepared.var.chmod(0o700 if become else 0)
    (line,) = refusals(prepared, [sys.executable, "-c", worker])
    prepared.var.chmod(0o700)
    above = [*reversed(prepared.var.parents), prepared.var]
    folder = next(one for one in above if not one.stat().st_mode & 0o001) if become else prepared.var
    assert line.startswith(f"worker: DATABASE_URL: the folder '{folder}' is closed to this user, who must own it")


@pytest.mark.long
def test_only_programs_that_connect_to_mail_servers_check_the_file_of_authorities(prepared):
    lines = refusals(prepared, PROGRAMS["api"], WORKER, PROGRAMS["run"], SMTP_CA_FILE="/nowhere/ca.pem")
    told = ": SMTP_CA_FILE: '/nowhere/ca.pem' cannot be read: No such file or directory"
    assert lines == [f"{name}{told}" for name in ("api", "worker", "run")]
    prepared.environment["MAILBBGUN_SMTP_CA_FILE"] = "/nowhere/ca.pem"
    assert "are ready" in prepared.run("initdb.py")
    assert "default" in prepared.run("bin/mailbbgun", "tenant", "list")
    assert prepared.run("bin/requeue-pending") == "requeued 0\n"


def test_the_api_reports_a_port_in_use_in_one_line(prepared):
    with socket.create_server(("127.0.0.1", prepared.port)):
        done = subprocess.run(
            PROGRAMS["api"], cwd=ROOT, env=prepared.environment, capture_output=True, text=True, timeout=PATIENCE
        )
    assert (done.returncode, done.stdout) == (1, "")
    why = f"cannot listen on 127.0.0.1:{prepared.port}: Address already in use; MAILBBGUN_PORT sets another port"
    assert done.stderr == f"api: {why}\n"


@pytest.mark.parametrize("name", some("initdb", "requeue-pending"))
def test_a_database_that_does_not_answer_is_one_line_and_exit_code_1(embedded_settings, name):
    service = Service(embedded_settings, DATABASE_URL=f"postgresql+psycopg2://nobody:{CANARY}@127.0.0.1:1/none")
    done = subprocess.run(
        PROGRAMS[name], cwd=ROOT, env=service.environment, capture_output=True, text=True, timeout=PATIENCE
    )
    (line,) = done.stderr.splitlines()
    assert (done.returncode, done.stdout) == (1, "")
    assert line.startswith(f"{name}: the ")
    assert "port 1 failed: Connection refused" in line
    assert CANARY not in line


@pytest.mark.long
def test_without_var_every_program_uses_the_same_database_from_any_folder(embedded_settings, tmp_path):
    clone, elsewhere = tmp_path / "a clone", tmp_path / "elsewhere"
    elsewhere.mkdir()
    shutil.copytree(ROOT / "mailbbgun", clone / "mailbbgun", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("api.py", "gunicorn.conf.py", "initdb.py", "worker.py"):
        shutil.copy(ROOT / name, clone)
    service = Service(embedded_settings)
    del service.environment["MAILBBGUN_VAR"], service.environment["MAILBBGUN_DATABASE_URL"]
    subprocess.run(
        [sys.executable, clone / "initdb.py"], cwd=elsewhere, env=service.environment, check=True, timeout=PATIENCE
    )
    for name, ready in (("api", "Listening at"), ("worker", "worker_started")):
        with subprocess.Popen(
            [sys.executable, clone / f"{name}.py"],
            cwd=elsewhere,
            env=service.environment,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            assert any(ready in line for line in process.stderr), "it would refuse a database without tables"
            process.terminate()
            assert process.wait(PATIENCE) == 0
    assert (clone / "var" / "mailbbgun.db").exists()
    assert list(elsewhere.iterdir()) == []


@pytest.fixture
def prepared(embedded_settings) -> Service:
    """A service with a database but without processes."""
    service = Service(embedded_settings)
    service.install()
    return service


# Each program reads its settings by load_checked(), of which tests/settings/test_unusable.py tries more.
@pytest.mark.parametrize(
    ("settings", "told"),
    [
        pytest.param({"SQLITE_SYNCHRONOUS": "NORMAL"}, "SQLite synchronous=1", id="weak durability"),
        pytest.param(
            {"SMTP_URL": f"smtp://robot:{CANARY}#x@host:25"},
            "SMTP_URL: a # in the user name or password must be written %23",
            id="# in a password",
        ),
        pytest.param(
            {"DATABASE_URL": f"mysql://robot:{CANARY}@host/x"}, "DATABASE_URL", id="database", marks=pytest.mark.long
        ),
        pytest.param(
            {"DATABASE_URL": f"sqlite:///{{VAR}}/{CANARY[:3]}.db"},
            "run python initdb.py",
            id="schema missing",
            marks=pytest.mark.long,
        ),
    ],
)
def test_worker_and_api_refuse_in_one_line(prepared, settings, told):
    for line in refusals(prepared, WORKER, API, **settings):
        assert told in line


def test_a_worker_that_cannot_keep_a_journal_refuses_in_one_line(prepared):
    (prepared.var / "journal").write_text("a file where the folder should be")
    (line,) = refusals(prepared, WORKER)
    assert line.startswith("worker: the journal ")


def test_weak_durability_is_accepted_with_a_warning_if_allowed(embedded_settings):
    with Service(embedded_settings, SQLITE_SYNCHRONOUS="OFF", ALLOW_WEAK_DURABILITY=True) as service:
        service.start_worker()
        service.ended(service.post(to="ann@example.test")["id"], "DELIVERED")
        for name in ("api", "worker"):
            assert "warning weak_durability" in (service.var / f"{name}.out").read_text()


@contextmanager
def altered(service: Service, statement: str, back: str) -> Iterator[None]:
    service.sql(statement)
    try:
        yield
    finally:
        service.sql(back)


@pytest.mark.long
def test_a_postgresql_that_may_forget_commits_is_refused_and_a_missing_queue_is_made(real_settings):
    service = Service(real_settings)
    service.install()
    database = service.environment["MAILBBGUN_DATABASE_URL"].rpartition("/")[2]
    with altered(
        service,
        f'ALTER DATABASE "{database}" SET synchronous_commit = off',
        f'ALTER DATABASE "{database}" RESET synchronous_commit',
    ):
        for line in refusals(service, WORKER, API):
            assert "synchronous_commit=off" in line

    # The API accepts mail without a broker, and so without a queue, and /ready says so. A worker
    # makes the missing queue.
    with service:
        connection = pika.BlockingConnection(pika.URLParameters(service.environment["MAILBBGUN_QUEUE_URL"]))
        connection.channel().queue_delete(work_queue("bulk"))
        connection.close()
        answer = service.http.get(f"{service.url}/ready")
        assert (answer.status_code, "is missing" in answer.json()["parts"]["queue"]) == (503, True)
        service.start_worker()
        until(lambda: f"queue_mended made={work_queue('bulk')}" in (service.var / "worker.out").read_text())
        service.ended(service.post(to="ann@example.test", priority=0)["id"], "DELIVERED")


@pytest.mark.long
def test_a_postgresql_without_fsync_is_refused(tmp_path, breakable_postgresql):
    database = breakable_postgresql.create_database()
    service = Service(
        load({"MAILBBGUN_VAR": str(tmp_path / "var"), "MAILBBGUN_DATABASE_URL": breakable_postgresql.url(database)})
    )
    service.run("initdb.py")
    server = psycopg2.connect(
        make_url(breakable_postgresql.url()).set(drivername="postgresql").render_as_string(hide_password=False)
    )
    server.autocommit = True  # ALTER SYSTEM needs it
    with server.cursor() as cursor:
        cursor.execute("ALTER SYSTEM SET fsync TO off")
        cursor.execute("SELECT pg_reload_conf()")
        try:
            until(lambda: service.sql("SHOW fsync") == [("off",)])
            for line in refusals(service, WORKER, API):
                assert "fsync=off" in line
        finally:
            cursor.execute("ALTER SYSTEM RESET fsync")
            cursor.execute("SELECT pg_reload_conf()")
            until(lambda: service.sql("SHOW fsync") == [("on",)])
    server.close()
    breakable_postgresql.drop_database(database)


def test_with_a_wrong_encryption_key_nothing_starts_and_nothing_is_lost(embedded_settings):
    service = Service(embedded_settings, ENCRYPTION_KEYS=new_key())
    services = build(load(service.environment))
    install(services)
    kept = service.sql("SELECT * FROM secrets")
    lines = refusals(service, PROGRAMS["api"], WORKER, PROGRAMS["initdb"], ENCRYPTION_KEYS=new_key())
    assert [line.partition(": ")[0] for line in lines] == ["api", "worker", "initdb"]
    assert all(": ENCRYPTION_KEYS: none of them opens what is encrypted in this database;" in line for line in lines)
    assert service.sql("SELECT * FROM secrets") == kept
    keys.check(services.db, services.vault)
    services.close()


@pytest.mark.long
def test_a_lost_key_file_is_not_replaced_and_programs_start_once_it_is_back(embedded_settings):
    service = Service(embedded_settings)
    install(services := build(load(service.environment)))
    services.close()
    file, away = service.var / "encryption.key", service.var / "away"
    file.rename(away)
    lines = refusals(service, PROGRAMS["api"], WORKER, PROGRAMS["initdb"])
    assert all(
        f": ENCRYPTION_KEYS: is not set, and {file} cannot be read (No such file or directory): " in line
        for line in lines
    )
    assert not file.exists()  # a new key would only get in the way of the old one
    away.rename(file)
    assert "are ready" in service.run("initdb.py")
