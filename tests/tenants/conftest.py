"""Real APIs that require keys, each with its first admin key."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests

from mailbbgun.core.caller import Scope
from mailbbgun.core.ids import DEFAULT_TENANT
from mailbbgun.tenants import keys
from tests.http.conftest import Door
from tests.servers.process import free_port

ADMIN = keys.KeySpec(name="root", scopes=tuple(Scope))
HELLO = {"to": "ann@example.com", "from": "shop@example.com", "subject": "Hello", "text": "Hi"}


class Locked(Door):
    """An API that requires keys, and its first admin key."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        with self.services.db.write() as session:
            self.admin = keys.create(session, self.services.vault, DEFAULT_TENANT, ADMIN).token

    def ask(self, method: str, path: str, key: str | None = None, **options) -> requests.Response:
        headers = options.pop("headers", {}) | ({"Authorization": f"Bearer {key}"} if key else {})
        return self.call(method, path, headers=headers, **options)

    def tenant(self, name: str, **limits: int) -> str:
        made = self.ask("POST", "/tenants", self.admin, json={"name": name} | limits)
        assert made.status_code == 201, made.text
        return made.json()["id"]

    def key(self, tenant: str, **values) -> dict:
        made = self.ask("POST", f"/tenants/{tenant}/keys", self.admin, json={"name": "k"} | values)
        assert made.status_code == 201, made.text
        return made.json()


def code(answer: requests.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


@contextmanager
def opened(var: Path, processes: int, **settings: str) -> Iterator[Locked]:
    """An API of so many processes.

    Wrong keys and requests about licences are not limited unless the settings say so.
    """
    environment = {
        "VAR": str(var), "PORT": str(free_port()), "HOSTNAME": "mail.example.com", "ALLOW_WEAK_DURABILITY": "true",
        "AUTH_REQUIRED": "true", "API_PROCESSES": str(processes), "ENCRYPTION_KEYS": "A" * 43 + "=",
        "UNAUTHORIZED_PER_MINUTE": "0", "LICENCE_REQUESTS_PER_MINUTE": "0",
    } | settings  # fmt: skip
    locked = Locked(var, {f"MAILBBGUN_{name}": value for name, value in environment.items()})
    try:
        yield locked
    finally:
        locked.close()


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def locked(request, tmp_path_factory) -> Iterator[Locked]:
    settings = {}
    if request.param == "postgresql":
        server = request.getfixturevalue("postgresql")
        settings["DATABASE_URL"] = server.url(server.create_database())
    with opened(tmp_path_factory.mktemp("locked"), 2, **settings) as door:
        yield door
