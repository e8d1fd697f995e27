"""``/ready`` while a part of the service hangs."""

import socket
import threading
from contextlib import suppress

from mailbbgun import preflight as checks
from mailbbgun import schema
from mailbbgun.preflight import DatabaseCheck, Readiness
from mailbbgun.services import build
from mailbbgun.settings.load import load
from tests.waiting import wait_until


def test_ready_makes_nobody_wait_for_a_queue_that_hangs_while_another_looks(tmp_path):
    given = {"MAILBBGUN_VAR": str(tmp_path / "var"), "MAILBBGUN_HOSTNAME": "mail.example.com"}
    with socket.create_server(("127.0.0.1", 0)) as silent:
        made = build(load(given | {"MAILBBGUN_QUEUE_URL": f"amqp://127.0.0.1:{silent.getsockname()[1]}"}))
        readiness = Readiness(made, DatabaseCheck(made, found=True))
        looking, asked = threading.Thread(target=readiness.parts), 0
        looking.start()
        while looking.is_alive():
            asked += 1
            assert readiness.parts()["queue"] != "ok"
        assert asked > 10  # without the bound, each would have waited as long as the first
        readiness.close()
        made.close()


def test_a_store_of_files_that_hangs_is_asked_once_and_takes_no_thread_of_other_parts(tmp_path, monkeypatch):
    monkeypatch.setattr(checks, "READY_SECONDS", 0.1)
    given = {"MAILBBGUN_VAR": str(tmp_path / "var"), "MAILBBGUN_HOSTNAME": "mail.example.com"}
    with socket.create_server(("127.0.0.1", 0)) as silent:
        bucket = f"s3+http://k:s@127.0.0.1:{silent.getsockname()[1]}/bucket"
        made = build(load(given | {"MAILBBGUN_BLOBS_URL": bucket}))
        schema.upgrade(made.db)
        readiness = Readiness(made, DatabaseCheck(made, found=True))
        looks = [readiness.parts() for _ in range(20)]
        assert {one["blobs"] for one in looks} <= {"no answer in 0 s", "the store of files is not available"}
        wait_until(lambda: readiness.parts()["database"] == "ok", "an answer of the database")
        silent.setblocking(False)
        asked = 0  # S3's client repeats a request that was not answered: each look would be 20
        with suppress(BlockingIOError):
            while True:
                silent.accept()[0].close()
                asked += 1
        assert asked < 10
        readiness.close()
        made.close()
