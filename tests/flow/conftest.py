"""A whole service for the tests of a file that leave its processes as they are: starting one for each test takes longer than most tests."""

from collections.abc import Iterator

import pytest

from mailbbgun.settings.load import load
from tests.chaos.round import REAL, settings_of
from tests.conftest import BACKENDS
from tests.flow.service import Service


@pytest.fixture(scope="module", params=BACKENDS)
def running(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """API, worker and sink on each configuration. Call ``renew()`` before each test, and use addresses that no other test of the file uses."""
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
