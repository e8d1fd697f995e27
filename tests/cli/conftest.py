"""The command line on an installation of its own, once for each database."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from mailbbgun.cli.main import main
from mailbbgun.database.crypto import new_key
from mailbbgun.install import install
from mailbbgun.services import Services, build
from mailbbgun.settings.load import load
from tests import tables
from tests.waiting import PATIENCE

ROOT = Path(__file__).parents[2]


class Shell:
    """Runs commands on an installation, whose services are there to look behind the commands."""

    def __init__(self, var: Path, **settings: str) -> None:
        self.settings = {"VAR": str(var), "HOSTNAME": "mail.example.com", "ENCRYPTION_KEYS": new_key()} | settings
        self.services = self.with_keys()
        tables.put_into(self.services.db)
        install(self.services)

    def environment(self, **settings: str) -> dict[str, str]:
        """Return an environment with only our settings and those given."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith("MAILBBGUN_")}
        return clean | {f"MAILBBGUN_{name}": value for name, value in (self.settings | settings).items()}

    def with_keys(self, *keys: str) -> Services:
        """Return services with these encryption keys."""
        return self.with_settings(**({"ENCRYPTION_KEYS": ",".join(keys)} if keys else {}))

    def with_settings(self, **settings: str) -> Services:
        """Return services with these settings besides ours."""
        return build(load(self.environment(**settings)))

    def process(
        self, command: str, *arguments: str, code: int = 0, **settings: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a command of ``bin/`` to its end, in another folder."""
        argv = [str(ROOT / "bin" / command), *arguments]
        done = subprocess.run(
            argv,
            cwd="/",
            env=self.environment(**settings),
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert done.returncode == code, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr
        return done

    def run(self, *arguments: str, code: int = 0, command: click.Command = main, **settings: str) -> Result:
        """Run ``mailbbgun`` inside this process, which saves most of a second."""
        done = CliRunner().invoke(command, arguments, prog_name="mailbbgun", env=self.environment(**settings))
        assert done.exit_code == code, f"{arguments}: {done.exit_code}\n{done.output}\n{done.exc_info}"
        return done

    def json(self, *arguments: str, **settings: str) -> Any:
        """Run ``mailbbgun … --json``; return what it printed."""
        return json.loads(self.run(*arguments, "--json", **settings).stdout)


@pytest.fixture(scope="module")
def sqlite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """An installation on SQLite."""
    shell = Shell(tmp_path_factory.mktemp("cli"))
    yield shell
    shell.services.close()


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def shell(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """An installation on each database."""
    if request.param == "sqlite":
        yield request.getfixturevalue("sqlite")
        return
    server = request.getfixturevalue("postgresql")
    shell = Shell(tmp_path_factory.mktemp("cli"), DATABASE_URL=server.url(tables.database_of(server)))
    yield shell
    shell.services.close()
