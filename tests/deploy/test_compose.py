"""docker-compose.yml, the Dockerfile and the content of the image.

Nothing is started; no Docker is needed.
"""

import fnmatch
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mailbbgun.settings.given import PREFIX
from mailbbgun.settings.load import load
from mailbbgun.settings.ports import check_ports
from mailbbgun.settings.settings import Settings
from tests.deploy.yamls import ROOT, documents

(COMPOSE,) = documents("docker-compose.yml")
SERVICES: dict[str, Any] = COMPOSE["services"]
OURS = ("api", "worker", "smtpd", "mx", "initdb")


def test_the_file_is_what_compose_understands() -> None:
    checked = [
        sys.executable,
        "-m",
        "check_jsonschema",
        "--builtin-schema",
        "vendor.compose-spec",
        "docker-compose.yml",
    ]
    done = subprocess.run(checked, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_services_are_all_there() -> None:
    assert set(SERVICES) == {"postgres", "rabbitmq", "minio", "initdb", "api", "worker", "smtpd", "mx", "catcher"}


@pytest.mark.parametrize("name", SERVICES)
def test_nothing_runs_as_root_or_may_become_it(name: str) -> None:
    service = SERVICES[name]
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", service["user"])
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in service
    assert "cap_add" not in service


@pytest.mark.parametrize("name", sorted(set(SERVICES) - {"initdb"}))
def test_long_running_services_have_a_health_check_and_restart(name: str) -> None:
    service = SERVICES[name]
    assert service["healthcheck"]["test"][0] == "CMD"
    assert service["restart"] == "unless-stopped"


def test_no_password_is_written_down() -> None:
    secret = re.compile(r"PASS|SECRET|_URL|_KEYS")
    values = [
        value
        for service in SERVICES.values()
        for name, value in service.get("environment", {}).items()
        if secret.search(name)
    ]
    assert len(values) >= 10
    for value in values:
        assert re.search(r"\$\{\w+:[?-]", value), value
        assert not re.search(r"\$\{\w+:-[^}]", value), f"{value} has a default"
        assert not re.search(r"://[^:/@]+:[^$@]+@", value), f"{value} has a password in it"


def test_api_and_worker_wait_for_the_schema() -> None:
    for name in ("api", "worker", "smtpd", "mx"):
        assert SERVICES[name]["depends_on"]["initdb"] == {"condition": "service_completed_successfully"}
    assert SERVICES["initdb"]["depends_on"]["postgres"] == {"condition": "service_healthy"}
    assert SERVICES["initdb"]["restart"] == "no"


def test_the_doors_are_published_on_loopback_only_and_nothing_else_is() -> None:
    assert SERVICES["api"]["ports"] == ["127.0.0.1:5000:5000"]
    assert SERVICES["smtpd"]["ports"] == ["127.0.0.1:2525:2525"]
    assert SERVICES["mx"]["ports"] == ["127.0.0.1:2526:2526"]
    assert [name for name, service in SERVICES.items() if "ports" in service] == ["api", "smtpd", "mx"]


@pytest.mark.parametrize(
    ("name", "profile", "ports"), [("smtpd", "smtp", (2525, 0, 0)), ("mx", "mx", (0, 0, 2526))], ids=["smtpd", "mx"]
)
def test_the_smtp_doors_start_only_for_those_who_have_a_certificate(
    name: str, profile: str, ports: tuple[int, int, int]
) -> None:
    settings = load({key: _interpolated(value) for key, value in SERVICES[name]["environment"].items()})
    check_ports(settings)
    assert ports == (settings.SMTPD_PORT, settings.SMTPD_TLS_PORT, settings.MX_LISTEN_PORT)
    assert settings.SMTPD_TLS_CERT.startswith("/tls/")
    assert SERVICES[name]["profiles"] == [profile]
    assert SERVICES[name]["healthcheck"]["test"][-1] == "smtpd"


def test_journals_outlive_the_container() -> None:
    assert SERVICES["worker"]["volumes"] == ["journal:/var/lib/mailbbgun"]
    assert "journal" in COMPOSE["volumes"]


def test_mail_of_test_keys_finds_the_catcher_and_outlives_its_container() -> None:
    catcher = SERVICES["catcher"]
    settings = load(catcher["environment"])
    assert settings.CATCHER_HOST == "0.0.0.0"
    assert SERVICES["worker"]["environment"]["MAILBBGUN_CATCHER_HOST"] == "catcher"
    assert catcher["volumes"] == ["mail:/var/lib/mailbbgun"]
    assert "mail" in COMPOSE["volumes"]
    assert "ports" not in catcher, "whoever reaches it may fill it"
    assert not [name for name in catcher["environment"] if name.endswith("_URL")], "it needs no passwords"


def test_worker_and_smtp_door_get_the_time_they_need_to_stop() -> None:
    for name in ("worker", "smtpd", "mx"):
        assert int(SERVICES[name]["stop_grace_period"].rstrip("s")) > Settings().SHUTDOWN_GRACE + 10


@pytest.mark.parametrize("name", OURS)
def test_the_settings_given_are_settings(name: str) -> None:
    given = {key: _interpolated(value) for key, value in SERVICES[name]["environment"].items()}
    assert all(key.startswith(PREFIX) for key in given)
    settings = load(given)
    assert settings.DATABASE_URL == "postgresql+psycopg2://mailbbgun:x@postgres/mailbbgun"
    assert settings.QUEUE_URL == "amqp://mailbbgun:x@rabbitmq/%2F"


def test_the_doors_ask_for_keys_and_all_have_the_same_encryption_keys() -> None:
    for name in ("api", "smtpd", "mx"):
        assert SERVICES[name]["environment"]["MAILBBGUN_AUTH_REQUIRED"] == "true"
    assert "MAILBBGUN_ALLOW_UNAUTHENTICATED" not in SERVICES["api"]["environment"]
    (given,) = {SERVICES[name]["environment"]["MAILBBGUN_ENCRYPTION_KEYS"] for name in OURS}
    assert given.startswith("${ENCRYPTION_KEYS:?")


def test_what_is_mounted_from_here_is_here() -> None:
    for service in SERVICES.values():
        for volume in service.get("volumes", ()):
            if volume.startswith("./"):
                assert os.access(ROOT / volume.split(":")[0], os.X_OK)


def test_the_image_is_built_in_stages_and_runs_as_nobody_in_particular() -> None:
    steps = _instructions((ROOT / "deploy" / "Dockerfile").read_text())
    stages = [number for number, (word, _) in enumerate(steps) if word == "FROM"]
    final = dict(steps[stages[-1] :])
    assert len(stages) == 2
    assert final["USER"] == "10001:10001"
    assert SERVICES["api"]["user"] == final["USER"]
    assert final["HEALTHCHECK"].endswith('CMD ["python", "deploy/healthcheck.py", "api"]')
    assert final["CMD"] == '["python", "-m", "gunicorn", "api:app"]'
    assert final["WORKDIR"] == "/opt/mailbbgun"
    known = {"ARG", "FROM", "ENV", "COPY", "RUN", "WORKDIR", "USER", "EXPOSE", "HEALTHCHECK", "CMD"}
    assert {word for word, _ in steps} <= known
    assert not re.search(r"apt-get|build-essential|gcc", str(steps)), "wheels only"


def test_only_what_the_service_runs_on_goes_into_the_image() -> None:
    programs = ("bin/requeue-pending", "bin/mailbbgun", "bin/generate-keys")
    for wanted in (
        "api.py",
        "worker.py",
        "smtpd.py",
        "initdb.py",
        "gunicorn.conf.py",
        "requirements.txt",
        "mailbbgun/run.py",
        *programs,
    ):
        assert (ROOT / wanted).exists()
        assert not _ignored(wanted), wanted
    assert not _ignored("deploy/healthcheck.py")
    for other in (
        ".git/config",
        ".venv/bin/python",
        "var/mailbbgun.db",
        "config.py",
        ".env",
        "tests/conftest.py",
        "mailbbgun/__pycache__/x.pyc",
    ):
        assert _ignored(other), other


def _ignored(path: str) -> bool:
    """Apply .dockerignore like Docker: the last line that matches the path or one of its folders
    decides.
    """
    ignored, parts = False, Path(path).parts
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        rule = line.removeprefix("!")
        if not rule or rule.startswith("#"):
            continue
        if rule.startswith("**/"):
            matches = any(fnmatch.fnmatch(part, rule[3:]) for part in parts)
        else:
            matches = any(fnmatch.fnmatch("/".join(parts[:depth]), rule) for depth in range(1, len(parts) + 1))
        if matches:
            ignored = not line.startswith("!")
    return ignored


def _instructions(dockerfile: str) -> list[tuple[str, str]]:
    lines = re.sub(r"\\\n\s*", "", dockerfile).splitlines()
    return [
        (word, rest.strip())
        for word, _, rest in (line.partition(" ") for line in lines if line and not line.startswith("#"))
    ]


def _interpolated(value: str) -> str:
    return re.sub(r"\$\{SMTP_URL[^}]*\}", "mx:", value) if "SMTP_URL" in value else re.sub(r"\$\{[^}]*\}", "x", value)
