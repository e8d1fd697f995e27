"""Peers start, accept without delivering, deliver all they accepted, and leave nothing behind."""

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from tqdm import tqdm

from bench import phases
from bench.peers import PEERS, PYTHON, environment
from bench.peers.postfix import Postfix
from bench.peers.program import USES, Program
from bench.phases import ACCEPT_WARM, Bench, Exactly
from bench.processes import postfix
from bench.processes.clients import Clients
from bench.processes.servers import Lent
from bench.processes.sink import Sink
from tests.servers.install import Missing
from tests.waiting import wait_until

MESSAGES, CONNECTIONS, SESSIONS = 50, 4, 3


@pytest.fixture
def bench():
    with Sink("auto") as sink, Clients() as clients:
        yield Bench(MESSAGES, CONNECTIONS, SESSIONS, sink, clients, tqdm(disable=True))


def measure(system, bench):
    """Run every phase and return the figures."""
    with Exactly(bench.sink, 0):
        figures = phases.accept(system, bench)
    with Exactly(bench.sink, MESSAGES + ACCEPT_WARM):
        figures |= phases.drain(system, bench)
    with Exactly(bench.sink, MESSAGES + ACCEPT_WARM):
        figures |= phases.through(system, bench)
    return figures


@pytest.mark.long
def test_a_private_postfix_accepts_drains_and_does_both_at_once(bench):
    if os.geteuid():
        with pytest.raises(Missing, match="only as root"):
            Postfix(bench.sink.port, SESSIONS, CONNECTIONS)
        return
    with Postfix(bench.sink.port, SESSIONS, CONNECTIONS) as instance:
        figures = measure(instance, bench)
        [master] = instance.own()
        folder = Path(f"/proc/{master}/cwd").resolve().parent
        log = (folder / "mail.log").read_text()
        settings = subprocess.run(
            [postfix.program("postconf"), "-c", folder / "etc", "-n"], capture_output=True, text=True, check=True
        )
    assert {"accept_rate", "send_rate", "through_rate", "send_memory_mb"} < set(figures)
    assert log.count("status=sent") == 2 * (MESSAGES + ACCEPT_WARM)
    # Postfix may complain about the machine's clocks: it has two that need not agree.
    assert not re.findall(r"(?:warning|error|fatal|panic): (?!file system clock|resetting file time stamps).*", log)
    assert settings.stderr == ""  # postconf would name unknown parameters here
    assert not folder.exists()
    assert not Path(f"/proc/{master}").exists()


@pytest.mark.long
def test_postfix_checks_the_certificate_and_keeps_sessions(bench):
    if os.geteuid():
        return  # its master runs only as root, which the test above shows
    with Sink("asyncio", tls=True, processes=2) as sink:
        bench = replace(bench, sink=sink)
        with Postfix(sink.port, SESSIONS, CONNECTIONS, sink.ca_file) as instance:
            pending = phases.backlog(instance, bench)
            figures = phases.drain_encrypted(instance, bench, pending, logs_in=False)
            log = instance.log()
        assert sink.count() == pending
        assert sink.counts()["logins"] == 0
    assert figures["encrypted_per_session"] > 2
    assert not re.findall(r"(?:warning|error|fatal|panic): (?!file system clock|resetting file time stamps).*", log)
    with (
        Sink("asyncio", tls=True) as sink,
        Sink("asyncio", tls=True) as other,
        Postfix(sink.port, SESSIONS, CONNECTIONS, other.ca_file) as instance,
    ):
        instance.open()
        bench.clients.run("programs.source", instance.port, 1, 1, "short")
        instance.shut()
        instance.deliver()
        wait_until(lambda: "status=deferred" in instance.log(), "its refusal of an unknown authority")
        assert "Server certificate not verified" in instance.log()


@pytest.mark.long
def test_the_design_of_2017_accepts_drains_and_does_both_at_once(bench, postgresql, rabbitmq):
    database, vhost = postgresql.create_database(), rabbitmq.vhost()
    lent = Lent(postgresql.url(database), rabbitmq.url(vhost))
    with Program("design_2017", Path(sys.executable), bench.sink.port, lent, {}) as program:
        figures = measure(program, bench)
    rabbitmq.release(vhost)
    postgresql.drop_database(database)
    assert {"accept_rate", "send_rate", "through_rate", "accept_client_cpu_us"} < set(figures)


def test_a_peer_that_cannot_be_installed_says_why(bench):
    with pytest.raises(RuntimeError, match="Connection refused"):
        Program(
            "design_2017",
            Path(sys.executable),
            bench.sink.port,
            Lent("postgresql://x@127.0.0.1:1/x", "amqp://127.0.0.1:1/"),
            {},
        ).__enter__()


def test_the_environment_of_the_python_peers_is_pinned():
    versions = environment.versions()
    assert {"celery", "django-post_office", "Django", "pika", "psycopg2-binary"} <= set(versions)
    assert all(re.fullmatch(r"[\d.]+(post\d+)?", version) for version in versions.values())
    assert set(USES) == set(PYTHON) < set(PEERS)
