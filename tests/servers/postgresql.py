"""A private PostgreSQL. Durability keeps its defaults, so that crash tests are realistic."""

import contextlib
import os
import signal
import time
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import psycopg2
from sqlalchemy.engine import URL, make_url

from tests.servers import install
from tests.servers.process import START_SECONDS, Sandbox, free_port
from tests.waiting import wait_until

GIVEN = "MAILBBGUN_TEST_DATABASE_URL"
STANDBY = "standby"


class PostgreSQL:
    """One server.

    Unless ``own``, ``MAILBBGUN_TEST_DATABASE_URL`` may name another server to use, which is never
    stopped. The user of that URL must be allowed to create databases.
    """

    def __init__(
        self, *, own: bool = False, parent: Path | None = None, standby_of: "PostgreSQL | None" = None
    ) -> None:
        """Make a server in a folder below ``parent``, by default the folder for temporary files.

        With ``standby_of`` it is a copy of a running server and follows it.
        """
        given = None if own or standby_of else os.environ.get(GIVEN)
        self._primary = standby_of
        self.ours = given is None
        self._parent = parent
        self._sandbox: Sandbox | None = None
        if given:
            self._url = make_url(given).set(drivername="postgresql+psycopg2")
        else:
            self.port = free_port()
            self._url = URL.create(
                "postgresql+psycopg2", "postgres", host="127.0.0.1", port=self.port, database="postgres"
            )

    def url(self, database: str = "postgres") -> str:
        """Return the SQLAlchemy URL of a database."""
        return self._url.set(database=database).render_as_string(hide_password=False)

    def launch(self) -> None:
        """Start the server without waiting for it; :meth:`start` waits."""
        if not self.ours or (self._sandbox and self._sandbox.pid("postgresql")):
            return
        programs = install.postgresql()
        environment = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "LC_ALL": "C.UTF-8"}
        if self._sandbox is None:
            self._sandbox = Sandbox("postgresql", "postgres", self._parent)
            if os.geteuid() == 0 and not self._sandbox.user:
                raise install.Missing("PostgreSQL does not run as root and there is no user postgres")
            make = [
                f"{programs}/initdb",
                "-D",
                "data",
                "-U",
                "postgres",
                "-A",
                "trust",
                "--no-sync",
                "-E",
                "UTF8",
                "--locale=C.UTF-8",
            ]
            if self._primary:
                source = f"host=127.0.0.1 port={self._primary.port} user=postgres application_name={STANDBY}"
                make = [f"{programs}/pg_basebackup", "-D", "data", "-d", source, "-R", "-c", "fast", "--no-sync"]
            self._sandbox.run(make, environment)
        options = {"listen_addresses": "127.0.0.1", "max_connections": 200, "log_min_messages": "warning"}
        pairs = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        server = [f"{programs}/postgres", "-D", "data", "-p", str(self.port), "-k", str(self._sandbox.folder), *pairs]
        self._sandbox.spawn("postgresql", server, environment)

    @property
    def pid(self) -> int | None:
        """Its process id, the ancestor of all its processes.

        None if it is not running or not ours.
        """
        return self._sandbox.pid("postgresql") if self._sandbox else None

    @property
    def folder(self) -> Path:
        """Where our server keeps its files and its log."""
        return self._own().folder

    def start(self) -> None:
        """Start the server if it is not running, and wait until it answers."""
        self.launch()
        if self._sandbox:
            self._sandbox.wait_until("postgresql", self.answers)

    def answers(self) -> bool:
        """Return whether a query is answered now."""
        try:
            with self._execute() as cursor:
                cursor.execute("SELECT 1")
        except psycopg2.OperationalError:
            return False
        return True

    def follow_synchronously(self, wanted: bool) -> None:
        """Make every commit wait until it is on the standby's disk as well, or stop that.

        If ``wanted``, waits until a standby follows synchronously.
        """
        with self._execute() as cursor:
            cursor.execute(f"ALTER SYSTEM SET synchronous_standby_names = '{STANDBY if wanted else ''}'")
            cursor.execute("SELECT pg_reload_conf()")
        self._wait_for("SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'", 1 if wanted else 0)

    def promote(self) -> None:
        """Make a standby the primary, and wait until it accepts writes."""
        with self._execute() as cursor:
            cursor.execute("SELECT pg_promote(wait => false)")
        self._wait_for("SELECT count(*) FROM pg_is_in_recovery() AS standby WHERE standby", 0)
        self.follow_synchronously(False)  # as a copy it would wait for a standby of its own, too

    def stop(self) -> None:
        """Shut down (fast: clients are disconnected)."""
        self._own().end("postgresql", signal.SIGINT)

    def kill9(self) -> None:
        """Kill every process of the server at once."""
        sandbox = self._own()
        pid = sandbox.pid("postgresql")
        if pid:
            os.kill(pid, signal.SIGSTOP)  # no new children while they are listed; each is a process group of its own
            children = _children(pid)
            for one in (pid, *children):
                with contextlib.suppress(ProcessLookupError):  # a child that ended meanwhile
                    os.kill(one, signal.SIGKILL)
        sandbox.end("postgresql", signal.SIGKILL)

    def restart(self) -> None:
        """Stop and start; same port, same data."""
        self.stop()
        self.start()

    def create_database(self, name: str | None = None, like: str = "template1") -> str:
        """Create a database and return its name. It is empty, or a copy of another that nobody uses."""
        name = name or f"test_{uuid.uuid4().hex[:12]}"
        with self._execute() as cursor:
            cursor.execute(f'CREATE DATABASE "{name}" TEMPLATE "{like}"')
        return name

    def drop_database(self, name: str) -> None:
        """Drop a database, even if clients are connected."""
        with self._execute() as cursor:
            cursor.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def terminate(self, database: str) -> int:
        """End every connection to a database, wait until all have ended, and return how many there were."""
        with self._execute() as cursor:
            cursor.execute(
                "SELECT pid, pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (database,)
            )
            told = [pid for pid, _ in cursor.fetchall()]

            def ended() -> bool:
                cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE pid = ANY(%s)", (told,))
                return bool(cursor.fetchone()[0] == 0)

            wait_until(ended, "the end of the connections")
            return len(told)

    def close(self) -> None:
        """Stop the server and remove its folder. Safe to repeat."""
        if self._sandbox:
            self._sandbox.end("postgresql", signal.SIGINT)
            self._sandbox.close()
            self._sandbox = None

    def __enter__(self) -> "PostgreSQL":
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _own(self) -> Sandbox:
        if self._sandbox is None:
            raise RuntimeError(
                f"the server of {GIVEN} is not ours to stop" if not self.ours else "the server was never started"
            )
        return self._sandbox

    def _wait_for(self, query: str, count: int, seconds: float = START_SECONDS) -> None:
        until = time.monotonic() + seconds
        with self._execute() as cursor:
            while True:
                cursor.execute(query)
                if cursor.fetchone() == (count,):
                    return
                if time.monotonic() > until:
                    raise RuntimeError(f"not {count} after {seconds} s: {query}")
                time.sleep(0.02)

    def _execute(self) -> AbstractContextManager[Any]:
        return connected(self._url)


@contextmanager
def connected(url: URL) -> Iterator[Any]:
    """Yield a cursor on a database, each statement of which is committed."""
    connection = psycopg2.connect(
        url.set(drivername="postgresql").render_as_string(hide_password=False), connect_timeout=30
    )
    try:
        connection.autocommit = True
        with connection.cursor() as cursor:
            yield cursor
    finally:
        connection.close()


def _children(pid: int) -> list[int]:
    return [
        int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()
    ]
