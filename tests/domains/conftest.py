"""A real API that asks for keys, on each database, with a private name server."""

from collections.abc import Iterator
from uuid import uuid4

import pytest
import requests

from tests.domains.verifiers import quoted
from tests.smtp.name_server import NameServer
from tests.tenants.conftest import Locked, opened

#: Records of a domain that receives mail.
RECEIVES = {"MX": ["10 mx.test."], "TXT": ['"v=spf1 mx ~all"', '"other=x"']}


@pytest.fixture(scope="package")
def dns() -> Iterator[NameServer]:
    """A name server, which knows only what tests put into its ``zone``. Nobody may keep its answers."""
    with NameServer({"mx.test": {"A": ["192.0.2.1"]}}, ttl=0) as server:
        yield server


@pytest.fixture(scope="package", params=["sqlite", "postgresql"])
def locked(request: pytest.FixtureRequest, dns: NameServer, tmp_path_factory) -> Iterator[Locked]:
    settings = {"DNS_SERVERS": f"127.0.0.1:{dns.port}", "ALLOW_PRIVATE_HOSTS": "127.0.0.1"}
    if request.param == "postgresql":
        server = request.getfixturevalue("postgresql")
        settings["DATABASE_URL"] = server.url(server.create_database())
    with opened(tmp_path_factory.mktemp("domains"), 1, **settings) as door:
        yield door


class Tenant:
    """A tenant with a key of its own, and a domain name that nobody else uses."""

    def __init__(self, locked: Locked, dns: NameServer) -> None:
        self.locked, self.dns = locked, dns
        self.id = locked.tenant(uuid4().hex)
        self.key = self.another()
        self.name = f"{uuid4().hex}.test"

    def another(self, *scopes: str, **values: object) -> str:
        """Return a further API key of the tenant."""
        given = list(scopes or ("domains", "accounts", "messages:write", "messages:read"))
        return self.locked.key(self.id, scopes=given, **values)["key"]

    def ask(self, method: str, path: str = "", **options) -> requests.Response:
        return self.locked.ask(method, f"/domains{path}", options.pop("key", self.key), **options)

    def add(self, name: str = "") -> dict:
        """Add a domain, by default :attr:`name`."""
        made = self.ask("POST", json={"name": name or self.name})
        assert made.status_code == 201, made.text
        return made.json()

    def publish(self, domain: dict) -> dict:
        """Publish all records that a domain is to have, and let it receive mail."""
        self.dns.zone[domain["name"]] = RECEIVES
        for record in domain["records"]:
            if record["purpose"] != "spf":
                self.dns.zone[record["name"]] = {"TXT": [quoted(record["value"])]}
        return domain

    def check(self, name: str = "", **options) -> dict:
        done = self.ask("POST", f"/{name or self.name}/check", json=options)
        assert done.status_code == 200, done.text
        return done.json()

    def states(self, name: str = "") -> dict[str, str]:
        """Return the state of each key by its selector."""
        return {key["selector"]: key["state"] for key in self.ask("GET", f"/{name or self.name}").json()["keys"]}


@pytest.fixture
def tenant(locked: Locked, dns: NameServer) -> Tenant:
    return Tenant(locked, dns)


def finding(domain: dict, about: str, name: str = "") -> dict:
    """Return the first finding about one thing, at ``name`` if that is given."""
    return next(one for one in domain["findings"] if one["about"] == about and name in ("", one["name"]))
