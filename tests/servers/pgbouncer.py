"""A private PgBouncer in transaction mode, in front of a PostgreSQL.

Each transaction may run on another of its few connections.
"""

import os
import signal
import socket
from types import TracebackType
from typing import Self

from sqlalchemy.engine import make_url

from tests.servers import install
from tests.servers.postgresql import PostgreSQL
from tests.servers.process import Sandbox, free_port

_CONFIGURATION = """\
[databases]
* = host=127.0.0.1 port={server} user=postgres
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = {size}
max_client_conn = 500
"""


class PgBouncer:
    """One PgBouncer, with ``size`` connections to each database of one of our servers."""

    def __init__(self, server: PostgreSQL, size: int = 5) -> None:
        self.port = free_port()
        self._program = install.pgbouncer()
        self._sandbox = Sandbox("pgbouncer", "postgres")  # it refuses to run as root
        (self._sandbox.folder / "pgbouncer.ini").write_text(
            _CONFIGURATION.format(server=server.port, port=self.port, size=size)
        )

    def url(self, url: str) -> str:
        """Return the URL of one of the server's databases, through PgBouncer."""
        return make_url(url).set(port=self.port).render_as_string(hide_password=False)

    def __enter__(self) -> Self:
        self._sandbox.spawn("pgbouncer", [str(self._program), "pgbouncer.ini"], {"PATH": os.environ["PATH"]})
        self._sandbox.wait_until("pgbouncer", self._answers)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._sandbox.end("pgbouncer", signal.SIGINT)
        self._sandbox.close()

    def _answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0
