"""The systemd units, checked by systemd-analyze; systemd need not run.

As root on Debian a missing systemd-analyze is installed.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from mailbbgun.settings.settings import Settings
from tests.servers import install

ROOT = Path(__file__).parents[2]
UNITS = sorted((ROOT / "deploy" / "systemd").glob("*.service")) + sorted((ROOT / "deploy" / "systemd").glob("*.timer"))
SERVICES = [unit for unit in UNITS if unit.suffix == ".service"]
EXPOSURE = 20  # tenths


@pytest.fixture(scope="module")
def analyze() -> str:
    """Return the path of systemd-analyze."""
    return str(install.systemd_analyze())


@pytest.fixture
def units(tmp_path: Path) -> list[Path]:
    """The units with paths of this machine: ``verify`` wants the programs to exist."""
    for unit in UNITS:
        text = (
            unit.read_text()
            .replace("/opt/mailbbgun/.venv/bin/python", sys.executable)
            .replace("/opt/mailbbgun/bin", str(ROOT / "bin"))
        )
        (tmp_path / unit.name).write_text(text)
    return [tmp_path / unit.name for unit in UNITS]


def test_systemd_finds_nothing_to_object_to(analyze: str, units: list[Path]) -> None:
    done = subprocess.run(
        [analyze, "verify", "--recursive-errors=yes", *map(str, units)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("service", [unit.name for unit in SERVICES])
def test_exposure_is_at_most_2(analyze: str, units: list[Path], service: str) -> None:
    unit = next(one for one in units if one.name == service)
    judged = [analyze, "security", "--offline=true", f"--threshold={EXPOSURE}", "--no-pager", str(unit)]
    done = subprocess.run(judged, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("service", SERVICES, ids=lambda unit: unit.name)
def test_what_a_unit_starts_is_in_the_repository(service: Path) -> None:
    started = re.findall(r"^ExecStart(?:Pre)?=(.+)$", service.read_text(), re.MULTILINE)
    assert started
    for command in started:
        program, *arguments = command.split()
        if program.endswith("/python"):
            assert arguments[0] == "-m" or (ROOT / arguments[0]).exists()
        else:
            assert os.access(ROOT / program.removeprefix("/opt/mailbbgun/"), os.X_OK)


@pytest.mark.parametrize("service", SERVICES, ids=lambda unit: unit.name)
def test_a_unit_that_reads_journals_can_read_the_boot_id(service: Path) -> None:
    text = service.read_text()
    reads_none = service.name in ("mailbbgun-api.service", "mailbbgun-catcher.service", "mailbbgun-smtpd.service")
    assert ("\nProcSubset=pid" in text) == reads_none, "ProcSubset=pid hides /proc/sys"


@pytest.mark.parametrize("name", ["worker", "smtpd"])
def test_worker_and_smtp_door_get_the_time_they_need_to_stop(name: str) -> None:
    text = (ROOT / "deploy" / "systemd" / f"mailbbgun-{name}.service").read_text()
    (seconds,) = re.findall(r"^TimeoutStopSec=(\d+)$", text, re.MULTILINE)
    assert int(seconds) > Settings().SHUTDOWN_GRACE + 10
