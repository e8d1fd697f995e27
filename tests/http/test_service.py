"""Health, readiness, documentation and start-up."""

import json
import os
import re
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime, timedelta
from urllib.parse import urljoin
from uuid import uuid4

import pytest
from sqlalchemy import delete, insert

from mailbbgun import schema, services
from mailbbgun.app import create_app
from mailbbgun.core.caller import Scope
from mailbbgun.core.errors import ConfigurationError
from mailbbgun.database.db import Database
from mailbbgun.deliver.models import RegisteredWorker
from mailbbgun.exposure import check_exposure
from mailbbgun.http.gate import needs
from mailbbgun.install import install
from mailbbgun.preflight import preflight
from mailbbgun.services import build
from mailbbgun.settings.load import load
from tests.conftest import application
from tests.http.all_routes import ROUTES
from tests.http.conftest import ROOT
from tests.servers.process import free_port
from tests.waiting import PATIENCE, pause


def beat(door, ago):
    with door.services.db.write() as session:
        now = datetime.now(UTC)
        session.execute(delete(RegisteredWorker))
        session.execute(
            insert(RegisteredWorker).values(
                id=uuid4(), host="here", pid=1, started_at=now, beat_at=now - timedelta(seconds=ago)
            )
        )


def test_health_says_that_the_process_is_alive(door):
    assert door.get("/health") == {"status": "ok"}


def test_the_front_page_says_where_to_read_on(door):
    found = door.get("/")
    assert (found["service"], found["documentation"]) == ("Mail BB Gun", f"{door.url}/docs")
    assert door.call("GET", "/docs").headers["Content-Type"].startswith("text/html")


def test_ready_names_the_part_that_does_not_work(door):
    beat(door, ago=60)
    answer = door.call("GET", "/ready")
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
    worker = "no worker is running, or none has reported in 30 s"
    assert answer.json() == {
        "status": "unavailable",
        "parts": {"database": "ok", "queue": "ok", "blobs": "ok", "worker": worker},
    }
    beat(door, ago=-3600)  # as after a restore from a machine whose clock was ahead
    assert door.call("GET", "/ready").json()["parts"]["worker"] == worker
    beat(door, ago=1)
    assert door.get("/ready") == {
        "status": "ok",
        "parts": {"database": "ok", "queue": "ok", "blobs": "ok", "worker": "ok"},
    }


def test_without_a_database_ready_posts_and_lists_answer_503_in_bounded_time(tmp_path):
    settings = load(
        {"MAILBBGUN_VAR": str(tmp_path), "MAILBBGUN_DATABASE_URL": f"postgresql+psycopg2://x@127.0.0.1:{free_port()}/x"}
    )
    client = create_app(settings).test_client()
    ready = client.get("/ready")
    assert (ready.status_code, ready.json["parts"]["database"]) == (503, "the database does not answer")
    for answer in (
        client.get("/messages"),
        client.post("/messages", json={"to": "ann@example.com", "subject": "x", "text": "x"}),
    ):
        assert (answer.status_code, answer.json["error"]["code"], answer.headers["Retry-After"]) == (
            503,
            "unavailable",
            "5",
        )


def test_an_unexpected_error_is_500_with_its_traceback_in_the_log_alone(embedded_settings, capfd):
    app = create_app(embedded_settings)
    schema.upgrade(Database(embedded_settings.DATABASE_URL))
    app.add_url_rule("/broken", view_func=needs(Scope.READ)(lambda: 1 / 0))
    answer = app.test_client().get("/broken")
    assert (answer.status_code, answer.json["error"]["code"]) == (500, "internal_error")
    assert "division" not in answer.text
    assert "ZeroDivisionError" in capfd.readouterr().err


@pytest.mark.parametrize("path", ["/docs", "/redoc"])
def test_documentation_is_a_page_whose_every_asset_is_ours(door, path):
    page = door.call("GET", path)
    assert page.status_code == 200
    assert "text/html" in page.headers["Content-Type"]
    assert not re.findall(r"(?:https?:)?//[a-z]", page.text)
    assets = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert assets
    for asset in assets:
        answer = door.call("GET", urljoin(path, asset))
        assert answer.status_code == 200
        assert "javascript" in answer.headers["Content-Type"] or "css" in answer.headers["Content-Type"]
    assert "default-src 'self'" in page.headers["Content-Security-Policy"]
    assert "http" not in page.headers["Content-Security-Policy"]


def references(node):
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for below in node.values():
            yield from references(below)
    elif isinstance(node, list):
        for below in node:
            yield from references(below)


def test_the_openapi_document_is_whole(door):
    spec = door.get("/openapi.json")
    assert (spec["openapi"], spec["info"]["title"]) == ("3.0.3", "Mail BB Gun")
    for reference in set(references(spec)):
        node = spec
        for step in reference.removeprefix("#/").split("/"):
            node = node[step]
    routes = {(path, method) for path, methods in spec["paths"].items() for method in methods if method != "parameters"}
    assert routes == ROUTES
    for path, method in routes:
        operation = spec["paths"][path][method]
        assert operation["summary"]
        assert {"default"} <= operation["responses"].keys()
        declared = [one["name"] for one in spec["paths"][path].get("parameters", []) if one["in"] == "path"]
        assert declared == re.findall(r"\{(\w+)\}", path)
    post = spec["paths"]["/messages"]["post"]
    assert {"201", "400", "413", "415", "422", "503"} <= post["responses"].keys()
    assert [one["name"] for one in post["parameters"]] == ["dry_run", "Idempotency-Key"]


def test_all_who_ask_first_and_at_once_get_one_openapi_document(embedded_settings):
    with application(embedded_settings) as app, ThreadPoolExecutor(8) as pool:
        documents = set(pool.map(lambda _: app.test_client().get("/openapi.json").data, range(8)))
    (document,) = documents
    assert json.loads(document)["paths"]


def run(tmp_path, **given):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAILBBGUN_")}
    environment |= {"MAILBBGUN_VAR": str(tmp_path), "MAILBBGUN_PORT": str(free_port())} | {
        f"MAILBBGUN_{name}": value for name, value in given.items()
    }
    return subprocess.run(
        [sys.executable, str(ROOT / "api.py")],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({}, "there is no database "),
        ({"PORT": "x"}, "PORT: 'x' is not a number"),
        ({"HOST": "0.0.0.0"}, "HOST: anybody who reaches 0.0.0.0 could send mail"),
        (
            {"HOST": "0.0.0.0", "ALLOW_UNAUTHENTICATED": "1"},
            "ALLOWED_HOSTS: say by which names clients reach 0.0.0.0, or set PUBLIC_URL",
        ),
    ],
)
def test_a_wrong_setting_or_a_missing_database_stops_the_start_with_one_line(tmp_path, given, why):
    done = run(tmp_path, **given)
    assert done.returncode == os.EX_CONFIG
    assert "Traceback" not in done.stderr
    assert f"api: {why}" in [line for line in done.stderr.splitlines() if "gunicorn" not in line][-1]


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"SQLITE_SYNCHRONOUS": "OFF"}, "a power cut would lose accepted mail"),
        ({"DEFAULT_FROM": "nobody"}, "DEFAULT_FROM: 'nobody': Not a valid e-mail address"),
    ],
)
def test_the_preflight_refuses_settings_that_would_fail_later(tmp_path, given, why):
    settings = load({"MAILBBGUN_VAR": str(tmp_path)} | {f"MAILBBGUN_{name}": value for name, value in given.items()})
    services = build(settings)
    install(services)
    services.close()
    with pytest.raises(ConfigurationError, match=why):
        preflight(settings)


@pytest.mark.parametrize(
    ("host", "exposed"),
    [
        ("127.0.0.1", False),
        ("127.9.9.9", False),
        ("::1", False),
        ("localhost", False),
        ("::", True),
        ("example.com", True),
    ],
)
def test_without_keys_the_api_may_listen_only_on_loopback_addresses(embedded_settings, host, exposed):
    with pytest.raises(ConfigurationError) if exposed else nullcontext():
        check_exposure([host], embedded_settings)


@contextmanager
def api(var, port, **given):
    """Yield ``python api.py`` on new tables, once it listens."""
    built = services.build(load({"MAILBBGUN_VAR": str(var)}))
    schema.upgrade(built.db)
    built.close()
    environment = {"MAILBBGUN_VAR": str(var), "MAILBBGUN_PORT": str(port)} | given
    argv = [sys.executable, str(ROOT / "api.py")]
    with subprocess.Popen(argv, cwd=var, env=os.environ | environment, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert any("Listening at:" in line for line in process.stderr)
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("seconds", [0, *(pytest.param(one, marks=pytest.mark.long) for one in (0.02, 0.1, 0.3, 0.6))])
def test_the_api_listens_elsewhere_if_told_so_and_stops_when_told_however_young_it_is(tmp_path, seconds):
    port = free_port()
    with api(
        tmp_path,
        port,
        MAILBBGUN_HOST="0.0.0.0",
        MAILBBGUN_ALLOW_UNAUTHENTICATED="1",
        MAILBBGUN_ALLOWED_HOSTS="mail.test",
    ) as process:
        socket.create_connection(("127.0.0.2", port), timeout=PATIENCE).close()  # not the default address
        pause(seconds)
        process.terminate()
        # gunicorn kills a process that does not stop within 30 s, and logs that.
        assert process.wait(PATIENCE) == 0
        assert "SIGKILL" not in process.stderr.read()


@pytest.mark.long
def test_connections_that_say_nothing_or_half_a_request_do_not_keep_the_api_from_stopping(tmp_path):
    port = free_port()
    with (
        api(tmp_path, port) as process,
        socket.create_connection(("127.0.0.1", port)),
        socket.create_connection(("127.0.0.1", port)) as half,
    ):
        half.sendall(b"POST /messages HTTP/1.1\r\nHost: localhost\r\n")
        with socket.create_connection(
            ("127.0.0.1", port), timeout=PATIENCE
        ) as third:  # the API reads it after the others
            third.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert third.recv(100).startswith(b"HTTP/1.1 200")
        process.terminate()
        assert process.wait(PATIENCE) == 0
