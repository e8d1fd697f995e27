"""One service for the tests of webhooks, on each configuration, and receivers on this machine."""

from collections.abc import Iterator

import pytest

from mailbbgun.settings.load import load
from tests.chaos.round import REAL, settings_of
from tests.conftest import BACKENDS
from tests.flow.service import Service
from tests.webhooks.receiver import WebhookReceiver

SETTINGS = {"LEASE_SECONDS": 8, "SWEEP_SECONDS": 1, "ALLOW_PRIVATE_HOSTS": "127.0.0.0/8", "RETRY_DELAYS": "1,1"}


@pytest.fixture(scope="module", params=BACKENDS)
def running(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    var = tmp_path_factory.mktemp("webhooks") / "var"
    if request.param != REAL:
        settings = load({"MAILBBGUN_VAR": str(var), "MAILBBGUN_HOSTNAME": "mail.example.com"})
        with Service(settings, **SETTINGS) as service:
            service.start_worker()
            yield service
        return
    with settings_of(REAL, var, request.getfixturevalue("postgresql"), request.getfixturevalue("rabbitmq")) as settings:
        with Service(settings, **SETTINGS) as service:
            service.start_worker()
            yield service


@pytest.fixture
def receiver() -> Iterator[WebhookReceiver]:
    with WebhookReceiver() as made:
        yield made
