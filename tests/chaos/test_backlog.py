"""A deep queue: ``bin/requeue-pending`` does not deepen it, and a broker that restarts recovers
soon.

``--backlog 200000`` makes it deeper.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from mailbbgun.services import Services, build
from mailbbgun.settings.load import load as load_settings
from mailbbgun.settings.settings import Settings
from mailbbgun.sweep.requeue import requeue
from tests.chaos.load import Load
from tests.chaos.scenarios.servers import PASSES, depth, most, purge
from tests.flow.service import Service, until

LEFT = 500  # hints on a lane that lost all others
WORKER_RSS = 150 << 10  # kB

# One message goes through the API, and its rows are copied: so many requests would take minutes.
COPIES = """
    INSERT INTO messages SELECT r.* FROM messages m, generate_series(2, :count) n,
        json_populate_record(m, json_build_object('id', gen_random_uuid(), 'n', n)) r
"""
THEIR_DELIVERIES = """
    INSERT INTO deliveries SELECT r.* FROM deliveries d, messages m,
        json_populate_record(d, json_build_object('id', gen_random_uuid(), 'message_id', m.id)) r
    WHERE m.id <> d.message_id
"""


@contextmanager
def waiting(settings: Settings, count: int) -> Iterator[tuple[Service, Services]]:
    """Run a service without a worker and with ``count`` messages, accepted two minutes ago.

    Only one of them has been hinted.
    """
    with Service(settings, LEASE_SECONDS=8, SWEEP_SECONDS=1) as service:
        Load(service, 10).send("ann@example.test")
        until(lambda: service.sql("SELECT count(published_at) FROM deliveries") == [(1,)], what="its hint")
        service.sql(COPIES, count=count)
        service.sql(THEIR_DELIVERIES)
        service.sql(
            "UPDATE deliveries SET published_at = NULL WHERE message_id <> (SELECT message_id FROM events LIMIT 1)"
        )
        service.sql("ANALYZE")  # without it, the first minute runs on wrong query plans
        service.age(120)
        services = build(load_settings(service.environment))
        try:
            yield service, services
        finally:
            services.close()


def rss(pid: int) -> int:
    """Return the resident memory of a process in kB."""
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))


@pytest.mark.long
def test_thirty_passes_of_requeue_pending_do_not_make_the_queue_deeper_than_the_backlog(real_settings, backlog):
    with waiting(real_settings, backlog) as (service, services):
        depths = [depth(services.queue)]

        def passes(count: int) -> int:
            total = 0
            for _ in range(count):
                if done := requeue(services, 60, dry_run=False):
                    service.age(120)  # so that the next pass finds these as old
                total += done
                depths.append(depth(services.queue))
            return total

        assert service.run("bin/requeue-pending") == f"requeued {backlog - 1}\n"
        service.age(120)
        assert passes(PASSES) == 0
        assert service.run("bin/requeue-pending") == "requeued 0\n"
        counts = f"{depths[0]} hints before the first, at most {max(depths)}, in the end {depths[-1]}"
        print(f"{PASSES} passes over {backlog}: {counts}")
        assert backlog <= depths[-1] == max(depths) < depths[0] + most(backlog)

        lost = purge(services.queue, backlog - LEFT)
        again = passes(PASSES)
        print(f"as many after {lost} hints were lost: {again} given again, at most {max(depths)} hints")
        assert lost == backlog - LEFT
        assert again == backlog
        assert backlog + LEFT <= depths[-1] == max(depths) < most(backlog) + most(LEFT)


@pytest.mark.long
def test_a_broker_that_restarts_with_a_deep_queue_is_soon_back(real_settings, rabbitmq, backlog):
    with waiting(real_settings, backlog) as (service, services):
        assert requeue(services, 60, dry_run=False) == backlog - 1
        rabbitmq.stop()
        worker = service.start_worker()
        began = time.monotonic()
        rabbitmq.start()
        started = time.monotonic()
        assert depth(services.queue) + len(service.taken()) > 0
        until(service.taken, what="the first message")
        first = time.monotonic() - began
        answered = f"the broker answered after {started - began:.1f} s"
        print(f"{backlog} deep: {answered}, the first message arrived after {first:.1f} s")
        until(lambda: len(service.taken()) > 500, what="more")
        print(f"resident: worker {rss(worker.pid) >> 10} MB, broker {rss(rabbitmq.pid) >> 10} MB")
        assert rss(worker.pid) < WORKER_RSS
