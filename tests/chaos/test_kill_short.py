"""``kill -9`` of each process amid a thousand messages: none lost, none twice unmarked, statuses
true.
"""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from mailbbgun.settings.load import load as load_settings
from tests.chaos.check import check
from tests.chaos.load import Load, addresses
from tests.conftest import MOSTLY_EMBEDDED
from tests.flow.service import Service, until
from tests.waiting import pause


@contextmanager
def sending(service: Service, load: Load, messages: int, connections: int) -> Iterator[None]:
    """Send ``messages`` messages while the block runs, then wait for the end of every delivery."""
    with load.sending([[one] for one in addresses("u", messages)], connections):
        yield
    until(lambda: service.count("PENDING") == 0, 60 + messages / 50, "the end of every delivery")


@pytest.mark.long
@MOSTLY_EMBEDDED
def test_killing_worker_and_api_loses_nothing(backend, messages):
    with Service(backend, LEASE_SECONDS=8, SWEEP_SECONDS=1, API_PROCESSES=2) as service:
        service.start_worker()
        load, dice = Load(service, 2000), random.Random(20261120)
        with sending(service, load, messages, 8):
            for victim in ("worker", "api", "worker", "api", "worker"):
                pause(dice.uniform(0.3, 0.8))
                service.kill(victim)
                service.start_worker() if victim == "worker" else service.start_api()
        check(service, load.accepted)


@pytest.mark.long
def test_killing_the_worker_thrice_and_restarting_the_broker_loses_nothing_and_the_api_never_fails(
    real_settings, rabbitmq, messages
):
    with Service(real_settings, LEASE_SECONDS=8, SWEEP_SECONDS=1) as service:
        service.start_worker()
        load, rest = Load(service, 2000), messages / 1500
        with sending(service, load, messages, 16):
            for _ in range(3):
                pause(rest)
                service.kill("worker")
                service.start_worker()
            pause(rest)
            rabbitmq.restart()
        figures = check(service, load.accepted)
        assert (load.failures, load.unavailable) == (0, 0)
        assert figures.unknown <= 3 * load_settings(service.environment).WORKER_CONNECTIONS


@pytest.mark.long
def test_killing_the_broker_and_a_worker_at_once_loses_nothing(real_settings, rabbitmq, messages):
    with Service(real_settings, LEASE_SECONDS=8, SWEEP_SECONDS=1) as service:
        service.start_worker()
        load = Load(service, 2000)
        with sending(service, load, messages, 8):
            pause(0.7)
            rabbitmq.kill9()
            service.kill("worker")
            service.start_worker()
            rabbitmq.start()
        check(service, load.accepted)
