"""Webhooks let mail go first where cores are busy, and go on all the same."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from mailbbgun.webhooks.serving.pace import LONGEST, SHARE, resting
from tests.flow.service import Service, until
from tests.webhooks.conftest import SETTINGS
from tests.webhooks.receiver import WebhookReceiver
from tests.webhooks.test_child import send, senders, watch


@pytest.mark.parametrize(
    ("cpu", "elapsed", "rest"),
    [
        (0.0, 0.05, 0.0),
        (0.001, 0.05, 0.0),
        (0.02, 0.05, 0.35),  # so that it has worked for 0.02 of 0.4 seconds
        (0.05, 0.05, 0.95),
        (0.06, 0.05, LONGEST),
        (3.0, 3.0, LONGEST),  # a look at many endpoints
        (9.0, 3.0, LONGEST),  # several threads
    ],
)
def test_it_rests_until_it_has_had_its_share(cpu, elapsed, rest):
    assert resting(cpu, elapsed) == pytest.approx(rest)
    assert 0.0 < SHARE < 1.0


@contextmanager
def kept_busy(pid: int) -> Iterator[None]:
    """Let a process, all whose threads move to one core, share that with programs that never end."""
    core = min(os.sched_getaffinity(0))
    for thread in os.listdir(f"/proc/{pid}/task"):
        with suppress(ProcessLookupError):  # it has ended
            os.sched_setaffinity(int(thread), {core})
    endless = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(3)]
    try:
        for one in endless:
            os.sched_setaffinity(one.pid, {core})
        yield
    finally:
        for one in endless:
            one.kill()
            one.wait()


@pytest.mark.long
@pytest.mark.parametrize("backend", ["embedded"], indirect=True)
def test_events_arrive_although_its_core_is_never_free(backend, receiver: WebhookReceiver):
    with Service(backend, **SETTINGS) as service:
        watch(service, receiver)
        service.start_worker()
        send(service, 1)
        until(lambda: receiver.acknowledged() == 2)
        (sender,) = senders(service)
        with kept_busy(sender):
            send(service, 50)
            until(lambda: receiver.acknowledged() == 102)
        assert service.stop("worker") == 0
