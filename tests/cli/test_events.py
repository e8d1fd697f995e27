"""``bin/mailbbgun events`` lists the log and follows it."""

import os
import signal
import subprocess

from mailbbgun.core.ids import DEFAULT_TENANT
from mailbbgun.events import log
from mailbbgun.events.kinds import Kind
from tests.cli.conftest import ROOT


def happen(shell, **data) -> str:
    event = log.event(DEFAULT_TENANT, None, None, Kind.CIRCUIT_OPENED, data)
    with shell.services.db.write() as session:
        log.append(session, [event])
    return str(event["id"])


def test_the_log_is_listed_by_filters_and_followed(shell):
    first, second = happen(shell, account="events-one"), happen(shell, account="events-two", reply="busy")
    listed = shell.json("events", "list", "--limit", "2")
    assert [one["id"] for one in listed["events"]] == [second, first]
    table = shell.run("events", "list", "--account", "events-two", "--kind", "circuit_opened").output
    assert "reply=busy" in table
    assert "events-one" not in table
    assert "'nothing' is not a kind of event" in shell.run("events", "list", "--kind", "nothing", code=2).output
    argv = [str(ROOT / "bin" / "mailbbgun"), "events", "follow", "--after", listed["events"][1]["position"]]
    with subprocess.Popen(argv, env=shell.environment(), stdout=subprocess.PIPE, text=True) as follower:
        assert follower.stdout is not None
        assert "events-two" in follower.stdout.readline()
        happen(shell, account="events-three", reply="\x1b[2J")
        line = follower.stdout.readline()
        assert "events-three" in line
        assert "\\u001b[2J" in line
        os.kill(follower.pid, signal.SIGINT)
