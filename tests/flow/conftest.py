"""Whole services that the tests of a file share: starting one takes longer than most tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from mailbbgun.settings.load import load
from mailbbgun.settings.settings import Settings
from tests.chaos.round import REAL, settings_of
from tests.conftest import BACKENDS
from tests.flow.accounts import SETTINGS, USERS
from tests.flow.service import Service
from tests.flow.tried import Tried
from tests.servers.mailserver import MailServer


@pytest.fixture(scope="module", params=BACKENDS)
def running(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """API, worker and sink on each configuration, for tests that leave the processes as they are.

    Call ``renew()`` before each test, and use addresses that no other test of the file uses.
    """
    var = tmp_path_factory.mktemp("running") / "var"
    if request.param != REAL:
        with Service(
            load({"MAILBBGUN_VAR": str(var), "MAILBBGUN_HOSTNAME": "mail.example.com"}),
            LEASE_SECONDS=8,
            SWEEP_SECONDS=1,
        ) as service:
            service.start_worker()
            yield service
        return
    with settings_of(REAL, var, request.getfixturevalue("postgresql"), request.getfixturevalue("rabbitmq")) as settings:
        with Service(settings, LEASE_SECONDS=8, SWEEP_SECONDS=1) as service:
            service.start_worker()
            yield service


@pytest.fixture(scope="module")
def providers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[MailServer]]:
    """Three mail servers with TLS of a private authority and AUTH."""
    made = [MailServer(Path(tmp_path_factory.mktemp(f"server{n}")), USERS) for n in range(3)]
    for server in made:
        server.start()
    yield made
    for server in made:
        server.close()


@pytest.fixture
def with_providers(backend: Settings, providers: list[MailServer]) -> Iterator[Service]:
    """A service whose mail may also leave through the three servers."""
    for server in providers:
        server.heal()
    with Service(backend, **SETTINGS) as opened:
        opened.use(*providers)
        opened.start_worker()
        yield opened


@pytest.fixture(scope="module", params=[pytest.param("sqlite", marks=pytest.mark.long), "postgresql"])
def tried(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tried]:
    """API, worker, sink and catcher, with a test key."""
    var = tmp_path_factory.mktemp("tried") / "var"
    environment = {"MAILBBGUN_VAR": str(var), "MAILBBGUN_HOSTNAME": "mail.example.com"}
    if request.param == "postgresql":
        server = request.getfixturevalue("postgresql")
        environment["MAILBBGUN_DATABASE_URL"] = server.url(server.create_database())
    with Tried(load(environment)) as started:
        started.start_catcher()
        started.start_worker()
        yield started
