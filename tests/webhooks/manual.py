"""The receiver of the manual, as a process."""

import os
import re
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing, suppress
from pathlib import Path

from tests.flow.service import ROOT
from tests.servers.process import free_port


class ManualsReceiver:
    """The receiver that docs/howto/webhooks.rst shows, as a process on a port of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder, self.port, self.secret = folder, free_port(), ""
        page = (ROOT / "docs/howto/webhooks.rst").read_text()
        found = re.search(r"\.\. code-block:: python\n\n((?:   .*\n|\n)+)", page)
        assert found
        code = re.sub(r"^   ", "", found[1], flags=re.MULTILINE)
        assert "8080" in code
        (folder / "receiver.py").write_text(code.replace("8080", str(self.port)))
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/mail-events"

    def start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "receiver.py"],
            cwd=self._folder,
            env=os.environ | {"WEBHOOK_SECRET": self.secret},
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def kill(self) -> None:
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def ids(self) -> dict[str, str]:
        """Return webhook-id → id of its event, of all events it has committed."""
        with closing(sqlite3.connect(self._folder / "events.db")) as database, suppress(sqlite3.OperationalError):
            sql = "SELECT id, json_extract(body, '$.data.id') FROM events WHERE body NOT LIKE '%webhook.test%'"
            return dict(database.execute(sql).fetchall())
        return {}
