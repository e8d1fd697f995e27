"""Workers stopped, paused, replaced and lost with their machine: one copy of each message, or a
mark.
"""

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mailbbgun.deliver.journal import read
from tests.chaos.check import check
from tests.chaos.load import Load, addresses
from tests.conftest import MOSTLY_REAL
from tests.flow.service import ROOT, Service, until
from tests.waiting import PATIENCE, pause

LEASE = 4


def in_hand(service: Service) -> bool:
    """Return whether a worker has claimed anything."""
    return service.sql("SELECT count(*) FROM deliveries WHERE lease_owner IS NOT NULL") != [(0,)]


def start(service: Service, name: str) -> None:
    """Start a worker and wait until it can be told to stop."""
    service.start_worker(name)
    until(lambda: "worker_started" in (service.var / f"{name}.out").read_text(), what=f"the start of {name}")


@pytest.mark.long
def test_a_worker_paused_beyond_its_lease_neither_sends_nor_overwrites_when_it_goes_on(real_settings):
    with Service(real_settings, LEASE_SECONDS=LEASE, SWEEP_SECONDS=1) as service:
        zombie = service.start_worker("zombie")
        unsent = service.post(to="hesitate-2-ann@example.test")["id"]  # paused before the dot
        until(lambda: in_hand(service))
        sent = service.post(to="slow-ben@example.test")["id"]  # paused between the dot and its answer
        until(lambda: service.copies()["slow-ben@example.test"])
        zombie.send_signal(signal.SIGSTOP)
        service.start_worker()
        until(lambda: service.events("worker_lost") and service.events("outcome_unknown"), what="the end of its leases")

        def arrived() -> bool:
            # Hints that RabbitMQ gave to the paused consumer come back when it misses heartbeats,
            # or by the sweep after a minute.
            service.age(70)
            return service.count("DELIVERED") == 2

        until(arrived, 30, "both, by the other worker")
        zombie.send_signal(signal.SIGCONT)
        until(lambda: "fenced" in (service.var / "zombie.out").read_text(), what="the zombie's awakening")
        assert service.stop("zombie") == 0
        assert service.copies() == {"hesitate-2-ann@example.test": 1, "slow-ben@example.test": 2}
        assert service.kinds(unsent) == ["accepted", "worker_lost", "delivered"]
        assert service.kinds(sent) == ["accepted", "outcome_unknown", "delivered"]


@pytest.mark.long
def test_a_worker_that_gets_back_what_it_lost_while_it_was_paused_sends_it_once(real_settings):
    with Service(real_settings, LEASE_SECONDS=LEASE, SWEEP_SECONDS=1) as service:
        zombie = service.start_worker("zombie")
        identifier = service.post(to="hesitate-14-ann@example.test")["id"]
        until(lambda: in_hand(service))
        zombie.send_signal(signal.SIGSTOP)
        # It takes the delivery from the paused worker, and dies before it can send it.
        other = service.start_worker("other", fault="replay.committed:1:kill")
        until(lambda: other.poll() is not None, what="the end of its lease")
        zombie.send_signal(signal.SIGCONT)
        until(lambda: in_hand(service), what="its next claim, while its sender still waits for an answer by the first")
        service.ended(identifier, "DELIVERED", 40)
        assert service.copies() == {"hesitate-14-ann@example.test": 1}
        assert service.kinds(identifier) == ["accepted", "worker_lost", "delivered"]


@pytest.mark.long
def test_a_worker_that_is_told_to_stop_keeps_what_it_sends_until_the_reply_however_short_its_leases_are(real_settings):
    with Service(real_settings, LEASE_SECONDS=LEASE, SWEEP_SECONDS=1, SHUTDOWN_GRACE=60, RETRY_DELAYS="1") as service:
        start(service, "leaving")
        identifier = service.post(to="late-12-ann@example.test")["id"]
        until(lambda: service.taken())
        service.processes["leaving"].terminate()
        start(service, "other")  # would find the lease expired, and the dot in the journal without a reply
        assert service.processes["leaving"].wait(PATIENCE) == 0
        service.ended(identifier, "DELIVERED")
        assert service.kinds(identifier) == ["accepted", "delivered"]
        assert service.copies() == {"late-12-ann@example.test": 1}


@pytest.mark.long
def test_claims_of_a_machine_that_is_gone_with_its_journal_are_unknown_and_arrive(embedded_settings):
    with Service(embedded_settings, LEASE_SECONDS=LEASE, SWEEP_SECONDS=1, RETRY_DELAYS="1") as service:
        service.start_worker()
        sent = service.post(to="slow-ann@example.test")["id"]
        until(lambda: service.taken())
        service.kill("worker")
        (journal,) = (service.var / "journal").iterdir()
        journal.unlink()
        service.age(2 * LEASE, "lease_until")
        service.start_worker()
        service.ended(sent, "DELIVERED")
        assert service.kinds(sent) == ["accepted", "outcome_unknown", "delivered"]


@pytest.mark.long
@MOSTLY_REAL
def test_workers_replaced_one_after_the_other_under_load_send_nothing_twice_and_wonder_about_nothing(backend, request):
    with Service(backend, LEASE_SECONDS=8, SWEEP_SECONDS=1) as service:
        load = Load(service)
        load.send_all(addresses("waiting", 150))
        start(service, "worker-0")
        with load.in_the_background(connections=2):
            for number in range(5 if request.config.getoption("all") else 2):  # only two, so that bin/test stays short
                start(service, f"worker-{number + 1}")  # for a while two workers share the queue
                before = len(service.taken())
                until(lambda: len(service.taken()) > before + 20, 30, "mail on its way")  # noqa: B023 - asked at once
                assert service.stop(f"worker-{number}") == 0
        until(lambda: service.count("PENDING") == 0, 30, "the rest")
        assert check(service, load.accepted).unknown == 0
        assert len(load.accepted) > 200
        assert service.events("worker_lost") == 0


@pytest.mark.long
@MOSTLY_REAL
def test_what_a_killed_api_had_not_hinted_yet_is_hinted_by_a_worker_within_seconds(backend):
    with Service(backend, LEASE_SECONDS=8, SWEEP_SECONDS=1) as service:
        worker = service.start_worker()
        load = Load(service)
        service.ended(load.send("first@example.test"), "DELIVERED")
        worker.send_signal(signal.SIGSTOP)
        load.send_all(addresses("u", 40), connections=8)
        service.kill("api")
        # An API killed between commit and publish leaves rows like these, and no hints.
        service.sql("UPDATE deliveries SET published_at = NULL WHERE status = 'PENDING'")
        service.sql("DELETE FROM queue_hints")
        worker.send_signal(signal.SIGCONT)
        until(lambda: len(service.taken()) == 41, 15, "all of it")
        service.start_api()
        until(lambda: service.count("PENDING") == 0)
        assert check(service, load.accepted).unknown == 0


@pytest.mark.long
def test_nothing_is_sent_while_the_journal_cannot_be_written_and_all_of_it_once_it_can(real_settings):
    with Service(real_settings, LEASE_SECONDS=8, SWEEP_SECONDS=1) as service:
        worker = service.start_worker()
        load = Load(service)
        service.ended(load.send("first@example.test"), "DELIVERED")
        (journal,) = (service.var / "journal").iterdir()
        # The worker's files may not grow beyond the journal's size plus 20 bytes. So the kernel
        # refuses a write in the middle of a line, as for a full quota.
        full = journal.stat().st_size + 20
        _, most = resource.prlimit(worker.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(worker.pid, resource.RLIMIT_FSIZE, (full, most))
        load.send_all(addresses("u", 30))
        until(
            lambda: (
                service.sql(
                    "SELECT count(*) FROM deliveries "
                    "WHERE status = 'PENDING' AND next_attempt_at > statement_timestamp()"
                )
                == [(30,)]
            )
        )
        pause(1.0)
        assert len(service.taken()) == 1
        resource.prlimit(worker.pid, resource.RLIMIT_FSIZE, (most, most))
        until(lambda: service.count("PENDING") == 0, 20, "all of it, with room again")
        assert check(service, load.accepted).unknown == 0
        assert service.events("deferred") == 0
        # All it wrote is whole: a successor could read it.
        found = read(journal, alive=True)
        assert found is not None
        assert found.same_boot


def members(leader: subprocess.Popen[bytes]) -> list[int]:
    """Return the processes that a supervisor started."""
    threads = Path(f"/proc/{leader.pid}/task").glob("*/children")
    return [int(pid) for thread in threads for pid in thread.read_text().split()]


def gone(pids: list[int]) -> bool:
    """Return whether none of these processes is left."""
    return not any(Path(f"/proc/{pid}").exists() for pid in pids)


def supervised(service: Service, log: str = "worker") -> tuple[subprocess.Popen[bytes], list[int]]:
    """Start a supervisor of two workers; return it and them, ready to be told to stop."""
    before = (
        (service.var / f"{log}.out").read_text().count("worker_started") if (service.var / f"{log}.out").exists() else 0
    )
    leader = service.start_worker(log)
    until(lambda: (service.var / f"{log}.out").read_text().count("worker_started") == before + 2, what="both members")
    return leader, members(leader)


@pytest.mark.long
def test_a_supervisor_replaces_processes_that_die_and_they_end_with_it(real_settings):
    with Service(real_settings, LEASE_SECONDS=8, SWEEP_SECONDS=1, WORKER_PROCESSES=2) as service:
        load = Load(service)
        load.send_all(addresses("waiting", 150))
        leader, both = supervised(service)
        assert len(both) == 2
        until(lambda: service.count("DELIVERED") == 150, 30, "the backlog")

        os.kill(both[0], signal.SIGKILL)
        load.send_all(addresses("later", 50))
        until(lambda: service.count("DELIVERED") == 200, 30, "what came later")
        until(lambda: len(members(leader)) == 2 and both[0] not in members(leader), what="a replacement")
        both = members(leader)
        leader.kill()
        until(lambda: gone(both), what="the end of the members")
        assert check(service, load.accepted).unknown == 0


@pytest.mark.long
def test_a_supervisor_told_to_stop_finishes_what_is_being_sent(real_settings):
    with Service(real_settings, LEASE_SECONDS=8, SWEEP_SECONDS=1, WORKER_PROCESSES=2) as service:
        _, both = supervised(service)
        sent = service.post(to="slow-ann@example.test")["id"]  # one worker sends it; the other has nothing to do
        until(lambda: service.taken())
        assert service.stop("worker") == 0
        assert gone(both)
        assert service.kinds(sent) == ["accepted", "delivered"]


@pytest.mark.long
def test_a_supervisor_works_from_any_folder_and_ends_if_it_is_set_up_wrongly(real_settings, tmp_path):
    with Service(real_settings, WORKER_PROCESSES=2) as service:
        environment = service.environment
        with subprocess.Popen([sys.executable, str(ROOT / "worker.py")], cwd=tmp_path, env=environment) as worker:
            service.ended(service.post(to="ann@example.test")["id"], "DELIVERED")
            # One that is stopped before it has its signal handlers leaves its journal behind.
            until(lambda: service.sql("SELECT count(*) FROM workers") == [(2,)], what="both members")
            worker.terminate()
            assert worker.wait(PATIENCE) == 0
        (service.var / "journal").rmdir()
        (service.var / "journal").write_text("not a folder")
        done = subprocess.run(
            [sys.executable, "worker.py"], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=PATIENCE
        )
        assert done.returncode == os.EX_CONFIG, done.stderr
        assert "the journal" in done.stderr


@pytest.mark.long
def test_a_worker_ends_and_says_why_if_a_thread_dies_that_mail_needs_and_outlives_errors_of_others(real_settings):
    with Service(real_settings) as service:
        worker = service.start_worker()
        until(lambda: service.sql("SELECT 1 FROM workers"), what="a heartbeat")
        said = service.var / "worker.out"
        # Errors that no driver reports as an outage. What is beside the mail does not stop it.
        renamed = (("webhook_endpoints", "enabled"), ("alerts", "kind"))
        for table, column in renamed:
            service.sql(f"ALTER TABLE {table} RENAME COLUMN {column} TO away")
        until(lambda: "webhooks_failed" in said.read_text() and "task_failed of=alerts" in said.read_text())
        service.ended(service.post(to="bob@example.test")["id"], "DELIVERED")
        for table, column in renamed:
            service.sql(f"ALTER TABLE {table} RENAME COLUMN away TO {column}")
        service.sql("ALTER TABLE workers RENAME COLUMN beat_at TO away")
        assert worker.wait(PATIENCE) == 1
        service.sql("ALTER TABLE workers RENAME COLUMN away TO beat_at")
        log = (service.var / "worker.out").read_text()
        assert "critical thread_died of=reporter" in log
        assert "UndefinedColumn" in log
        service.start_worker()
        service.ended(service.post(to="ann@example.test")["id"], "DELIVERED")
