"""A real API that asks for keys, on each database, and a tenant of it."""

from collections.abc import Iterator
from uuid import uuid4

import pytest
import requests

from tests.tenants.conftest import Locked, opened

WELCOME = {
    "name": "welcome",
    "subject": "Welcome, {{ name }}!",
    "html": '<h1>Hello {{ name }}</h1><p>Your order <a href="{{ link }}">{{ order.id }}</a>.</p>',
    "locales": {
        "ja": {
            "subject": "ようこそ、{{ name }}様",
            "text": "{{ name }}様\n\nご注文番号は {{ order.id }} です。{{ link }}\n",
        },
        "ar": {
            "subject": "مرحبا {{ name }}",
            "html": '<div dir="rtl" lang="ar"><p>مرحبا {{ name }}، طلبك رقم {{ order.id }}.</p></div>{{ link }}',
        },
    },
}
VALUES = {"name": "Ann <Lee>", "order": {"id": 17}, "link": "https://example.com/17"}


class Tenant:
    """A tenant with a key of its own, which makes requests."""

    def __init__(self, locked: Locked) -> None:
        self.locked = locked
        self.id = locked.tenant(uuid4().hex)
        self.key = self.another("templates", "messages:write", "messages:read")

    def another(self, *scopes: str, **values) -> str:
        return self.locked.key(self.id, scopes=list(scopes), **values)["key"]

    def ask(self, method: str, path: str, **options) -> requests.Response:
        return self.locked.ask(method, path, options.pop("key", self.key), **options)

    def template(self, **fields) -> dict:
        made = self.ask("POST", "/templates", json=WELCOME | fields)
        assert made.status_code == 201, made.text
        return made.json()

    def rendered(self, called: str = "welcome", **asked) -> dict:
        answer = self.ask("POST", f"/templates/{called}/render", json={"variables": VALUES} | asked)
        assert answer.status_code == 200, answer.text
        return answer.json()


@pytest.fixture(scope="package", params=["sqlite", "postgresql"])
def locked(request, tmp_path_factory) -> Iterator[Locked]:
    settings = {}
    if request.param == "postgresql":
        server = request.getfixturevalue("postgresql")
        settings["DATABASE_URL"] = server.url(server.create_database())
    with opened(tmp_path_factory.mktemp("templates"), 2, **settings) as door:
        yield door


@pytest.fixture
def tenant(locked) -> Tenant:
    return Tenant(locked)
