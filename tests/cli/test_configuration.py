"""``bin/mailbbgun config`` and ``restart``, on each database."""

import pytest

from mailbbgun.core.outages import Outages
from mailbbgun.runtime.follow import RuntimeFollower
from mailbbgun.runtime.live import LIVE, LiveSettings
from tests.cli.conftest import Shell


class Process:
    """A process of the service, as far as it follows the settings."""

    def __init__(self, shell: Shell) -> None:
        services = shell.with_settings()
        self.settings, self.restarts = services.settings, 0
        self._follower = RuntimeFollower(services.db, LiveSettings(services.settings), Outages(), restart=self._restart)
        self.close = services.close
        self.look()

    def look(self) -> None:
        """Look once for changes, as a process does each second."""
        self._follower.look()

    def _restart(self) -> None:
        self.restarts += 1


@pytest.fixture
def process(shell: Shell):
    found = Process(shell)
    yield found
    found.close()


def test_settings_are_changed_and_reset_audited_and_followed(shell: Shell, process: Process) -> None:
    before = process.settings.MAX_RECIPIENTS
    changed = shell.json(
        "config", "set", "MAX_RECIPIENTS=50", "CASE_SENSITIVE_LOCAL_PARTS=yes", "SMTP_TIMEOUTS=connect=7"
    )
    assert changed["settings"]["MAX_RECIPIENTS"].items() >= {"value": 50, "file_value": before}.items()
    process.look()
    assert (process.settings.MAX_RECIPIENTS, process.settings.CASE_SENSITIVE_LOCAL_PARTS) == (50, True)
    assert process.settings.SMTP_TIMEOUTS.connect == 7
    changes = shell.json("config", "show", "--changed")["settings"]
    assert changes.keys() == {"MAX_RECIPIENTS", "CASE_SENSITIVE_LOCAL_PARTS", "SMTP_TIMEOUTS"}
    audited = [one for one in shell.json("audit")["audit"] if one["action"] == "configuration.changed"]
    assert {one["name"] for one in audited} == changes.keys()
    assert "MAX_RECIPIENTS" in shell.run("config", "reset", "MAX_RECIPIENTS").stdout
    process.look()
    restored = process.settings.MAX_RECIPIENTS
    assert (restored, process.settings.CASE_SENSITIVE_LOCAL_PARTS) == (before, True)
    printed = shell.run("config", "reset", "--all").stdout
    assert ("SMTP_TIMEOUTS" in printed, "MAX_RECIPIENTS" in printed) == (True, False)
    process.look()
    assert process.settings.SMTP_TIMEOUTS.connect != 7


def test_settings_are_shown_as_they_can_be_set(shell: Shell) -> None:
    table = shell.run("config", "show").stdout
    assert all(name in table for name in LIVE)
    assert "connect=" in table
    one = shell.run("config", "show", "MAX_RECIPIENTS").stdout
    assert "description" in one
    assert [line.split() for line in one.splitlines() if line.startswith("least")] == [["least", "1"]]
    assert len(shell.run("config", "show", "MAX_RECIPIENTS", "--changed").stdout.splitlines()) == 1


def test_what_cannot_be_a_setting_is_told_and_nothing_is_changed(shell: Shell) -> None:
    for changes, why in {
        ("MAX_RECIPIENTS=50", "LOG_LEVEL=LOUD"): "LOG_LEVEL: 'LOUD' is not one of",
        ("MAX_RECIPIENTS=0",): "MAX_RECIPIENTS: 0 is less than",
        ("MAX_RECIPIENT=1",): "did you mean `MAX_RECIPIENTS`?",
        ("DATABASE_URL=x",): "does not change while programs run",
        ("MAX_RECIPIENTS",): "is not NAME=VALUE",
        (): "Missing argument",
    }.items():
        assert why in shell.run("config", "set", *changes, code=2).stderr
    assert shell.json("config", "show", "--changed")["settings"] == {}
    assert "Unknown setting" in shell.run("config", "show", "NOTHING", code=2).stderr
    assert "give --all" in shell.run("config", "reset", code=2).stderr
    assert "give --all" in shell.run("config", "reset", "LOG_LEVEL", "--all", code=2).stderr


def test_the_smtp_door_is_asked_to_restart_and_that_is_audited(shell: Shell, process: Process) -> None:
    assert shell.json("restart", "smtpd") == {"of": "smtpd", "restarts": 1}
    process.look()
    assert process.restarts == 1
    assert "within two seconds" in shell.run("restart", "smtpd").stdout
    assert [one["action"] for one in shell.json("audit")["audit"]].count("smtpd.restart") == 2
    assert "'worker' is not 'smtpd'" in shell.run("restart", "worker", code=2).stderr
