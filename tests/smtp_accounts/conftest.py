"""A real API that asks for keys, on each database, a tenant of it, and a provider's mail server."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from uuid import uuid4

import pytest
import requests

from tests.servers.mailserver import MailServer
from tests.tenants.conftest import Locked, code, opened

PASSWORD = "s3cret-Pässword-of-the-account"
USER = "shop"
MANAGER = ["accounts", "messages:write", "messages:read"]
HELLO = {"to": "ann@example.com", "subject": "Hello", "text": "Hi"}


class Tenant:
    """A tenant with a key of its own, which makes requests."""

    def __init__(self, locked: Locked, *scopes: str) -> None:
        self.locked = locked
        self.id = locked.tenant(uuid4().hex)
        self.key = self.another(*(scopes or MANAGER))

    def another(self, *scopes: str) -> str:
        return self.locked.key(self.id, scopes=list(scopes))["key"]

    def ask(self, method: str, path: str, **options) -> requests.Response:
        return self.locked.ask(method, f"/smtp-accounts{path}", options.pop("key", self.key), **options)

    def post(self, message: dict) -> requests.Response:
        return self.locked.ask("POST", "/messages", self.key, json=message)

    def account(self, **fields) -> dict:
        made = self.ask("POST", "", json={"setting_name": uuid4().hex, "smtp_host": "smtp.example.com"} | fields)
        assert made.status_code == 201, made.text
        return made.json()

    def shown(self, account: dict) -> dict:
        answer = self.ask("GET", f"/{account['id']}")
        assert answer.status_code == 200, answer.text
        return answer.json()


@pytest.fixture(scope="package", params=["sqlite", "postgresql"])
def locked(request, tmp_path_factory) -> Iterator[Locked]:
    settings = {"ALLOW_PRIVATE_HOSTS": "127.0.0.1,localhost", "LOG_LEVEL": "DEBUG"}
    if request.param == "postgresql":
        server = request.getfixturevalue("postgresql")
        settings["DATABASE_URL"] = server.url(server.create_database())
    with opened(tmp_path_factory.mktemp("accounts"), 2, **settings) as door:
        yield door


@pytest.fixture
def tenant(locked) -> Tenant:
    return Tenant(locked)


@pytest.fixture(scope="package")
def provider(tmp_path_factory) -> Iterator[MailServer]:
    """A provider's server: STARTTLS with a certificate of a private authority, and AUTH."""
    with closing(MailServer(tmp_path_factory.mktemp("provider"), {USER: PASSWORD})) as server:
        server.start()
        yield server


def settings_of(server: MailServer) -> dict:
    return {
        "setting_name": "main", "smtp_host": "localhost", "smtp_port": server.port,
        "smtp_username": USER, "smtp_password": PASSWORD, "ca_certificate": Path(server.ca_file).read_text(),
        "from_email": "shop@example.com", "from_name": 'The "Shop" <x>',
    }  # fmt: skip


def wrong(answer: requests.Response) -> list[str]:
    assert code(answer) == (400, "validation_error"), answer.text
    return sorted(answer.json()["error"]["fields"])


def step(answer: requests.Response, name: str) -> dict:
    assert answer.status_code == 200, answer.text
    return next(one for one in answer.json()["steps"] if one["name"] == name)
