"""201 is answered after the commit is on disk: strace shows the system calls in between.

Needs root on machines where only root may trace processes.
"""

import re
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.chaos.load import Load, addresses
from tests.chaos.scenarios.processes import members
from tests.flow.service import Service, until
from tests.servers import install
from tests.waiting import PATIENCE, pause

MESSAGES = 20
PAUSE = 0.1  # seconds between messages: by then the hint of the last one is stored, too
CALLS = "fdatasync,fsync,pwrite64,write,recvfrom,sendto"
_LOG = re.compile(r"-wal>|/pg_wal/")  # SQLite's and PostgreSQL's


@contextmanager
def traced(pids: Sequence[int], log: Path) -> Iterator[None]:
    """Record the system calls of these processes, their threads and their children."""
    argv = [
        str(install.strace()),
        "-f",
        "-y",
        "-s",
        "16",
        "-e",
        f"trace={CALLS}",
        "-o",
        str(log),
        *(f"--attach={pid}" for pid in pids),
    ]
    with (log.with_suffix(".err")).open("w+") as said, subprocess.Popen(argv, stderr=said) as tracer:
        until(
            lambda: log.with_suffix(".err").read_text().count(" attached") >= len(pids) or tracer.poll(), what="strace"
        )
        assert tracer.poll() is None, log.with_suffix(".err").read_text()
        try:
            yield
        finally:
            tracer.send_signal(signal.SIGINT)
            tracer.wait(PATIENCE)


def answers(trace: str) -> list[tuple[bool, bool]]:
    """Return for each 201 whether the log was written since its request came, and synced by then.

    The first process to write wrote the message. What others write later may be its hint, for which
    nobody waits.
    """
    found, unfinished = [], {}
    writer, synced = "", False
    for line in trace.splitlines():
        pid, call = line.split(maxsplit=1)
        if call.endswith("<unfinished ...>"):
            unfinished[pid] = call
            if "sync(" in call:
                continue  # a sync counts when it ends; a write and an answer when they begin
        elif call.startswith("<... "):
            begun = unfinished.pop(pid, "")
            if "sync(" not in begun and "recvfrom(" not in begun:
                continue
            call = begun + call
        if call.startswith("recvfrom(") and '"POST /messages' in call:
            writer, synced = "", False
        elif call.startswith("sendto(") and '"HTTP/1.1 201' in call:
            found.append((bool(writer), synced))
        elif _LOG.search(call):
            if call.startswith(("pwrite64(", "write(")):
                writer = writer or pid
                synced = synced and pid != writer
            elif "sync(" in call and call.endswith("= 0"):
                synced = synced or bool(writer)
    return found


@pytest.mark.parametrize("level", ["FULL", "NORMAL"])
def test_sqlite_has_synced_a_message_before_its_201_and_would_not_have_with_less_than_full(embedded_settings, level):
    with Service(embedded_settings, SQLITE_SYNCHRONOUS=level, ALLOW_WEAK_DURABILITY=level != "FULL") as service:
        api = service.processes["api"].pid
        _print_and_check(service, [api, *members(api)], level == "FULL")


def test_postgresql_has_synced_a_message_before_its_201(real_settings, breakable_postgresql):
    with Service(real_settings) as service:
        Load(service).send("first@example.test")  # its connection is traced as well
        api, server = service.processes["api"].pid, breakable_postgresql.pid
        _print_and_check(service, [api, *members(api), server, *members(server)], True)


def _print_and_check(service: Service, pids: Sequence[int], durable: bool) -> None:
    load, log = Load(service), service.var / "strace"
    with traced(pids, log):
        for address in addresses("u", MESSAGES):
            load.send(address)
            pause(PAUSE)
    found = answers(log.read_text())
    print(f"{len(found)} answers of 201, {sum(synced for _, synced in found)} after a sync of what was written")
    assert found == [(True, durable)] * MESSAGES
