"""The health check of containers."""

import fcntl
import http.server
import os
import subprocess
import sys
import threading
from pathlib import Path

from tests.servers.process import free_port
from tests.waiting import PATIENCE

ROOT = Path(__file__).parents[2]


def _healthy(part: str, **settings: object) -> bool:
    environment = os.environ | {f"MAILBBGUN_{name}": str(value) for name, value in settings.items()}
    done = subprocess.run(
        [sys.executable, "deploy/healthcheck.py", part], cwd=ROOT, env=environment, capture_output=True, check=False
    )
    assert done.stderr == b""
    return done.returncode == 0


def test_a_worker_lives_as_long_as_it_holds_its_journal(tmp_path: Path) -> None:
    assert not _healthy("worker", VAR=tmp_path)
    (tmp_path / "journal").mkdir()
    (tmp_path / "journal" / "dead.journal").touch()
    assert not _healthy("worker", VAR=tmp_path)
    with (tmp_path / "journal" / "living.journal").open("w") as journal:
        fcntl.flock(journal, fcntl.LOCK_EX)
        assert _healthy("worker", VAR=tmp_path)
    assert not _healthy("worker", VAR=tmp_path)


def test_the_host_name_in_the_setting_of_the_folder_is_filled_in(tmp_path: Path) -> None:
    (tmp_path / "mail.example.com" / "journal").mkdir(parents=True)
    with (tmp_path / "mail.example.com" / "journal" / "living.journal").open("w") as journal:
        fcntl.flock(journal, fcntl.LOCK_EX)
        assert _healthy("worker", VAR=tmp_path / "{HOSTNAME}", HOSTNAME="mail.example.com")
        assert not _healthy("worker", VAR=tmp_path / "{HOSTNAME}", HOSTNAME="other.example.com")


def test_a_catcher_lives_when_it_greets(tmp_path: Path) -> None:
    port = free_port()
    assert not _healthy("catcher", CATCHER_PORT=port)
    environment = os.environ | {"MAILBBGUN_VAR": str(tmp_path), "MAILBBGUN_CATCHER_PORT": str(port)}
    with subprocess.Popen(
        [sys.executable, "-m", "mailbbgun.catcher"], cwd=ROOT, env=environment, stderr=subprocess.PIPE
    ) as catcher:
        assert catcher.stderr
        assert b" catching " in catcher.stderr.readline()
        assert _healthy("catcher", CATCHER_PORT=port)
        catcher.terminate()
        assert catcher.wait(PATIENCE) == 0


def test_an_api_lives_when_health_answers_200() -> None:
    class Answers(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/health" else 404)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Answers) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        assert _healthy("api", PORT=server.server_port)
        server.shutdown()
        thread.join()
    assert not _healthy("api", PORT=free_port())


def test_wrong_usage_of_the_check_is_told_in_one_line() -> None:
    for arguments, code in (
        (["--help"], 0),
        (["-h"], 0),
        ([], 2),
        (["--version"], 2),
        (["wroker"], 2),
        (["api", "x"], 2),
    ):
        done = subprocess.run(
            [sys.executable, "deploy/healthcheck.py", *arguments], cwd=ROOT, capture_output=True, check=False, text=True
        )
        assert done.returncode == code
        told, other = (done.stdout, done.stderr) if code == 0 else (done.stderr, done.stdout)
        assert told.startswith("Usage: deploy/healthcheck.py api|worker|smtpd|catcher")
        assert other == ""
