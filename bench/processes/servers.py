"""The private PostgreSQL and the private RabbitMQ of a run."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from bench import BenchError
from bench.processes import machine
from tests.servers import PostgreSQL, RabbitMQ


@dataclass(frozen=True, slots=True)
class Lent:
    """URLs of an empty database (for SQLAlchemy) and of an empty virtual host (AMQP)."""

    database_url: str
    amqp_url: str


class Servers(ExitStack):
    """Both servers, running."""

    def __enter__(self) -> "Servers":
        super().__enter__()
        try:
            self._broker = RabbitMQ(own=True)
            self.callback(self._broker.close)
            self._broker.launch()
            self._database = self.enter_context(PostgreSQL(own=True))
            self._broker.start()
        except BaseException:
            self.close()
            raise
        return self

    def versions(self) -> dict[str, str]:
        """Return the servers' versions."""
        return {
            "PostgreSQL": machine.postgresql_version(self._database.url()),
            "RabbitMQ": self._broker.ctl("version").strip(),
        }

    def pids(self) -> dict[str, int]:
        """Return the servers' process ids, by their names in the figures.

        Raises :class:`BenchError` if one has ended.
        """
        found = {"postgresql": self._database.pid, "rabbitmq": self._broker.pid}
        if gone := [name for name, pid in found.items() if pid is None]:
            raise BenchError(f"{gone[0]} died")
        return {name: pid for name, pid in found.items() if pid}

    @contextmanager
    def lend(self) -> Iterator[Lent]:
        """Lend a database and a virtual host to one installation; delete them afterwards."""
        database, vhost = self._database.create_database(), self._broker.vhost()
        try:
            yield Lent(self._database.url(database), self._broker.url(vhost))
        finally:
            self._broker.release(vhost)
            self._database.drop_database(database)
