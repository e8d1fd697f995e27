"""Servers for all tests.

Each is started once, when a test needs it; no test is skipped without one.
"""

import gc
import signal
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import hypothesis
import pytest
from flask import Flask

from mailbbgun.app import close, create_app
from mailbbgun.http.provided import provided
from mailbbgun.install import install
from mailbbgun.services import Services
from mailbbgun.settings.load import load
from mailbbgun.settings.settings import Settings
from tests import tables, worlds
from tests.servers import RGW, PostgreSQL, RabbitMQ, Redis

BACKENDS = ("embedded", "real")

#: For slow tests that behave alike on both configurations: always on one of them, with ``--all`` on
#: both.
MOSTLY_REAL = pytest.mark.parametrize(
    "backend", [pytest.param("embedded", marks=pytest.mark.long), "real"], indirect=True
)
MOSTLY_EMBEDDED = pytest.mark.parametrize(
    "backend", ["embedded", pytest.param("real", marks=pytest.mark.long)], indirect=True
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--all``, which also runs tests marked ``long``, and more of the others."""
    parser.addoption("--all", action="store_true", help="run what is marked long, too, with more messages and examples")
    parser.addoption("--messages", type=int, help="how many messages a chaos test sends: 300, with --all 1000")
    parser.addoption("--backlog", type=int, help="how many messages wait on a deep queue: 3000, with --all 20000")


def pytest_configure(config: pytest.Config) -> None:
    """Deselect ``long`` tests and draw fewer examples, unless ``--all`` or ``-m`` was given.

    Also restores SIGINT: a shell starts background jobs with SIGINT ignored, and every child
    process would inherit that.
    """
    every = config.getoption("all")
    if not every and not config.option.markexpr:
        config.option.markexpr = "not long"
    hypothesis.settings.register_profile("some", deadline=None, max_examples=60)
    hypothesis.settings.register_profile("all", deadline=None, max_examples=500)
    hypothesis.settings.load_profile("all" if every else "some")
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark ``long`` what the quick run leaves out by ``tests/worlds.py``."""
    second = worlds.second(item.nodeid for item in items if not item.get_closest_marker("long"))
    for item in items:
        if item.nodeid in second and not item.get_closest_marker("both"):
            item.add_marker("long")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Look for garbage neither among the tests, of which there are many, nor while they are found."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.fixture(scope="session")
def messages(request: pytest.FixtureRequest) -> int:
    """Return how many messages a chaos test sends."""
    return int(request.config.getoption("--messages") or (1000 if request.config.getoption("all") else 300))


@pytest.fixture(scope="session")
def backlog(request: pytest.FixtureRequest) -> int:
    """Return how many messages a chaos test keeps waiting."""
    return int(request.config.getoption("--backlog") or (20_000 if request.config.getoption("all") else 3000))


Server = TypeVar("Server", PostgreSQL, RabbitMQ, Redis)


@dataclass(frozen=True)
class Servers:
    """The session's servers, not necessarily started."""

    postgresql: PostgreSQL
    rabbitmq: RabbitMQ
    redis: Redis
    rgw: RGW


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    """All servers. A fixture that needs one calls ``start()``."""
    every = Servers(PostgreSQL(), RabbitMQ(), Redis(), RGW())
    yield every
    every.rgw.close()
    every.redis.close()
    every.rabbitmq.close()
    every.postgresql.close()


@pytest.fixture(scope="session", autouse=True)
def _early_start(request: pytest.FixtureRequest) -> None:
    """Let the broker boot (5 s) while tests that do not need it run."""
    wanted = {name for item in request.session.items for name in getattr(item, "fixturenames", ())}
    real = any("[real" in item.nodeid or "-real" in item.nodeid for item in request.session.items)
    if wanted & {"rabbitmq", "breakable_rabbitmq"} or real:
        request.getfixturevalue("servers").rabbitmq.launch()


@pytest.fixture(scope="session")
def postgresql(servers: Servers) -> PostgreSQL:
    """The session's PostgreSQL, running. A test that stops it starts it again."""
    servers.postgresql.start()
    return servers.postgresql


@pytest.fixture(scope="session")
def rabbitmq(servers: Servers) -> RabbitMQ:
    """The session's RabbitMQ, running. A test that stops it starts it again."""
    servers.rabbitmq.start()
    return servers.rabbitmq


@pytest.fixture(scope="session")
def redis(servers: Servers) -> Redis:
    """The session's Redis, running. A test that stops it starts it again."""
    servers.redis.start()
    return servers.redis


@pytest.fixture(scope="session")
def rgw(servers: Servers) -> RGW:
    """The session's S3 store, running. A test that stops it starts it again."""
    servers.rgw.start()
    return servers.rgw


@pytest.fixture(scope="session")
def breakable_postgresql(postgresql: PostgreSQL) -> Iterator[PostgreSQL]:
    """A PostgreSQL that may be stopped and killed: ours, even if the session's was given from
    outside.
    """
    yield from _breakable(postgresql, PostgreSQL)


@pytest.fixture(scope="session")
def breakable_rabbitmq(rabbitmq: RabbitMQ) -> Iterator[RabbitMQ]:
    """A RabbitMQ that may be stopped, killed, paused and alarmed: ours, even if the session's was
    given from outside.
    """
    yield from _breakable(rabbitmq, RabbitMQ)


@pytest.fixture(scope="session")
def breakable_redis(redis: Redis) -> Iterator[Redis]:
    """A Redis that may be stopped, killed and paused: ours, even if the session's was given from
    outside.
    """
    yield from _breakable(redis, Redis)


@pytest.fixture(scope="session")
def breakable_rgw() -> Iterator[RGW]:
    """An S3 store that may be killed and paused. Not the session's: after a kill it makes buckets slowly."""
    with RGW(own=True) as own:
        yield own


def _breakable(server: Server, kind: type[Server]) -> Iterator[Server]:
    if server.ours:
        yield server
    else:
        with kind(own=True) as own:
            yield own


@pytest.fixture
def embedded_settings(tmp_path: Path) -> Settings:
    """Settings of the one-command configuration: SQLite and the embedded queue, in a temporary
    folder.
    """
    return load({"MAILBBGUN_VAR": str(tmp_path / "var"), "MAILBBGUN_HOSTNAME": "mail.example.com"})


@pytest.fixture
def real_settings(tmp_path: Path, postgresql: PostgreSQL, rabbitmq: RabbitMQ) -> Iterator[Settings]:
    """Settings with a fresh PostgreSQL database and a fresh virtual host of RabbitMQ."""
    database, vhost = postgresql.create_database(), rabbitmq.vhost()
    yield load(
        {
            "MAILBBGUN_VAR": str(tmp_path / "var"),
            "MAILBBGUN_HOSTNAME": "mail.example.com",
            "MAILBBGUN_DATABASE_URL": postgresql.url(database),
            "MAILBBGUN_QUEUE_URL": rabbitmq.url(vhost),
        }
    )
    rabbitmq.release(vhost)
    postgresql.drop_database(database)


@contextmanager
def application(settings: Settings) -> Iterator[Flask]:
    """The API inside this process, freshly installed, without a server around it."""
    made = create_app(settings)
    with made.app_context():
        tables.put_into(provided(Services).db)
        install(provided(Services))
    yield made
    close(made)


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> Settings:
    """Each configuration in turn. Nothing exists in it yet: no tables, no queues, no VAR folder."""
    settings = request.getfixturevalue(f"{request.param}_settings")
    assert isinstance(settings, Settings)
    return settings
