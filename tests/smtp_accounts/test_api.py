"""SMTP accounts through the front door: a real API that asks for keys, on each database, and real mail servers."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from email import message_from_bytes, policy
from pathlib import Path
from uuid import UUID, uuid4

import pytest
import requests
from sqlalchemy import insert, text, update

from mailbbgun.database.db import db_now
from mailbbgun.deliver import workers
from mailbbgun.deliver.models import RegisteredWorker
from mailbbgun.limits.models import PermitCount
from mailbbgun.smtp_accounts import repo
from mailbbgun.smtp_accounts.health import look
from mailbbgun.smtp_accounts.presets import PRESETS
from tests.flow.service import until
from tests.servers.mailserver import Failure, MailServer
from tests.servers.process import free_port
from tests.smtp.authority import Authority
from tests.smtp.behaviours import only, silent
from tests.smtp.peers import Peer
from tests.tenants.test_keys import Locked, code
from tests.waiting import PATIENCE

PASSWORD = "s3cret-Pässword-of-the-account"
USER = "shop"
MANAGER = ["accounts", "messages:write", "messages:read"]
HELLO = {"to": "ann@example.com", "subject": "Hello", "text": "Hi"}


class Tenant:
    """A tenant with a key of its own, and what it asks."""

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


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def locked(request, tmp_path_factory) -> Iterator[Locked]:
    var = tmp_path_factory.mktemp("accounts")
    environment = {
        "MAILBBGUN_VAR": str(var), "MAILBBGUN_PORT": str(free_port()), "MAILBBGUN_HOSTNAME": "mail.example.com",
        "MAILBBGUN_ALLOW_WEAK_DURABILITY": "true", "MAILBBGUN_AUTH_REQUIRED": "true", "MAILBBGUN_API_PROCESSES": "2",
        "MAILBBGUN_ENCRYPTION_KEYS": "A" * 43 + "=", "MAILBBGUN_ALLOW_PRIVATE_HOSTS": "127.0.0.1,localhost", "MAILBBGUN_LOG_LEVEL": "DEBUG",
    }  # fmt: skip
    if request.param == "postgresql":
        server = request.getfixturevalue("postgresql")
        environment["MAILBBGUN_DATABASE_URL"] = server.url(server.create_database())
    opened = Locked(var, environment)
    yield opened
    opened.close()


@pytest.fixture
def tenant(locked) -> Tenant:
    return Tenant(locked)


@pytest.fixture(scope="module")
def provider(tmp_path_factory) -> Iterator[MailServer]:
    """A provider's server: STARTTLS with a certificate of a private authority, and AUTH."""
    with closing(MailServer(tmp_path_factory.mktemp("provider"), {USER: PASSWORD})) as server:
        server.start()
        yield server


def settings_of(server: MailServer) -> dict:
    return {
        "setting_name": "main", "smtp_host": "localhost", "smtp_port": server.port, "smtp_username": USER, "smtp_password": PASSWORD,
        "ca_certificate": Path(server.ca_file).read_text(), "from_email": "shop@example.com", "from_name": 'The "Shop" <x>',
    }  # fmt: skip


def wrong(answer: requests.Response) -> list[str]:
    assert code(answer) == (400, "validation_error"), answer.text
    return sorted(answer.json()["error"]["fields"])


def step(answer: requests.Response, name: str) -> dict:
    assert answer.status_code == 200, answer.text
    return next(one for one in answer.json()["steps"] if one["name"] == name)


# -- setting up


def test_an_account_is_set_up_shown_listed_changed_and_deleted(tenant, provider):
    made = tenant.ask("POST", "", json=settings_of(provider))
    account = made.json()
    assert made.status_code == 201
    assert made.headers["Location"].endswith(f"/smtp-accounts/{account['id']}")
    usual = {
        "priority": 10,
        "weight": 1,
        "max_connections": 5,
        "max_per_day": None,
        "recipient_domains": [],
        "enabled": True,
        "preset": None,
    }
    usual |= {"envelope_from": None, "max_recipients_per_message": None}
    assert (
        account.items() >= (usual | {"security_protocol": "STARTTLS", "is_default": True, "has_password": True}).items()
    )
    shown = tenant.shown(account)
    assert {name: value for name, value in shown.items() if name != "health"} == account
    listed = tenant.ask("GET", "").json()
    assert (listed["smtp_accounts"], listed["count"]) == ([account], 1)
    wanted = {
        "priority": 3,
        "recipient_domains": ["Example.com", "*.bücher.example"],
        "max_per_second": 0.5,
        "enabled": False,
    }
    wanted |= {"envelope_from": "bounces@example.com", "max_recipients_per_message": 25}
    changed = tenant.ask("PATCH", f"/{account['id']}", json=wanted).json()
    assert (
        changed.items()
        >= (wanted | {"recipient_domains": ["example.com", "*.xn--bcher-kva.example"], "setting_name": "main"}).items()
    )
    assert changed["updated_at"] > account["updated_at"]
    gone = tenant.ask("DELETE", f"/{account['id']}")
    assert (gone.status_code, gone.content) == (204, b"")
    assert code(tenant.ask("GET", f"/{account['id']}")) == (404, "not_found")


@pytest.mark.parametrize(("given", "expected"), [
    ({"preset": "gmail", "smtp_username": "a@gmail.com"}, ("smtp.gmail.com", 587, "STARTTLS", "a@gmail.com", 500)),
    ({"preset": "gmail", "smtp_username": "a@gmail.com", "max_per_day": 2000}, ("smtp.gmail.com", 587, "STARTTLS", "a@gmail.com", 2000)),
    ({"preset": "gmail", "smtp_username": "a@gmail.com", "max_per_day": None, "smtp_port": 465}, ("smtp.gmail.com", 465, "TLS", "a@gmail.com", None)),
    ({"preset": "sendgrid"}, ("smtp.sendgrid.net", 587, "STARTTLS", "apikey", None)),
    ({"preset": "exmail", "smtp_username": "a", "smtp_host": "hwsmtp.exmail.qq.com"}, ("hwsmtp.exmail.qq.com", 465, "TLS", "a", None)),
    ({"preset": "exmail", "smtp_username": "a", "security_protocol": "STARTTLS"}, ("smtp.exmail.qq.com", 587, "STARTTLS", "a", None)),
    ({"smtp_host": "SMTP.Example.com.", "smtp_username": "a"}, ("smtp.example.com", 587, "STARTTLS", "a", None)),
    ({"smtp_host": "192.88.98.1", "smtp_username": "a", "smtp_port": 465}, ("192.88.98.1", 465, "TLS", "a", None)),
    ({"smtp_host": "smtp.example.com", "smtp_username": "a", "security_protocol": "NONE"}, ("smtp.example.com", 25, "NONE", "a", None)),
])  # fmt: skip
def test_a_preset_and_then_the_usual_fill_what_is_not_given(tenant, given, expected):
    made = tenant.ask("POST", "", json={"setting_name": "x", "smtp_password": "p"} | given)
    assert made.status_code == 201, made.text
    names = ("smtp_host", "smtp_port", "security_protocol", "smtp_username", "max_per_day")
    assert tuple(made.json()[name] for name in names) == expected
    assert made.json()["preset"] == given.get("preset")


def test_presets_are_listed_with_their_hints(tenant):
    listed = tenant.ask("GET", "/presets").json()
    assert [one["name"] for one in listed["presets"]] == list(PRESETS)
    assert listed["count"] == len(PRESETS)
    assert {one["name"]: one["max_recipients_per_message"] for one in listed["presets"]}["ses"] == 50
    gmail = listed["presets"][0]
    assert (gmail["smtp_host"], gmail["smtp_port"], gmail["security_protocol"], gmail["max_per_day"]) == (
        "smtp.gmail.com",
        587,
        "STARTTLS",
        500,
    )
    assert "app password" in gmail["username_hint"]


@pytest.mark.parametrize(("given", "field"), [
    ({"setting_name": ""}, "setting_name"), ({"setting_name": "a\nb"}, "setting_name"), ({"setting_name": " a"}, "setting_name"),
    ({"setting_name": "x" * 65}, "setting_name"), ({"setting_name": None}, "setting_name"), ({"smtp_host": "a b"}, "smtp_host"),
    ({"smtp_host": ""}, "smtp_host"), ({"smtp_host": "10.0.0.1"}, "smtp_host"), ({"smtp_host": "169.254.169.254"}, "smtp_host"),
    ({"smtp_host": "[::1]"}, "smtp_host"), ({"smtp_host": "::ffff:10.0.0.1"}, "smtp_host"), ({"smtp_host": "0x7f000001"}, "smtp_host"),
    ({"smtp_host": "10.0.0.1", "smtp_port": 22}, "smtp_port"), ({"smtp_port": 0}, "smtp_port"), ({"smtp_port": "25"}, "smtp_port"),
    ({"security_protocol": "SSL"}, "security_protocol"), ({"ca_certificate": "x"}, "ca_certificate"), ({"ca_certificate": ""}, "ca_certificate"),
    ({"smtp_password": "p"}, "smtp_username"), ({"smtp_username": "u"}, "smtp_password"),
    ({"smtp_username": "u", "smtp_password": ""}, "smtp_password"), ({"smtp_username": "u", "smtp_password": "x" * 1001}, "smtp_password"),
    ({"from_email": "a b@c.de"}, "from_email"),
    ({"from_email": "a@"}, "from_email"), ({"from_email": "Shop <a@b.cd>"}, "from_email"), ({"from_name": "a\r\nBcc: x@y.zz"}, "from_name"),
    ({"is_default": "yes"}, "is_default"), ({"is_default": None}, "is_default"), ({"enabled": 1}, "enabled"), ({"priority": -1}, "priority"),
    ({"weight": 0}, "weight"), ({"weight": 1001}, "weight"), ({"max_connections": 0}, "max_connections"), ({"max_per_second": 0}, "max_per_second"),
    ({"max_per_second": "1"}, "max_per_second"), ({"max_per_second": True}, "max_per_second"), ({"max_per_minute": 1.5}, "max_per_minute"),
    ({"max_per_day": 0}, "max_per_day"), ({"send_interval": -1}, "send_interval"), ({"recipient_domains": ["a@b.cd"]}, "recipient_domains.0"),
    ({"recipient_domains": ["*.*.cd"]}, "recipient_domains.0"), ({"recipient_domains": ["a.test"] * 101}, "recipient_domains"),
    ({"preset": "yahoo"}, "preset"), ({"smtp_host": None}, "smtp_host"), ({"envelope_from": "a b@c.de"}, "envelope_from"),
    ({"envelope_from": "Shop <a@b.cd>"}, "envelope_from"), ({"envelope_from": "b.cd"}, "envelope_from"), ({"envelope_from": ""}, "envelope_from"),
    ({"envelope_from": "rückläufer@example.com"}, "envelope_from"), ({"envelope_from": '"ü b"@example.com'}, "envelope_from"),
    ({"max_recipients_per_message": 0}, "max_recipients_per_message"), ({"max_recipients_per_message": "50"}, "max_recipients_per_message"),
])  # fmt: skip
def test_what_cannot_be_is_400_and_says_why_also_when_it_is_only_tried(tenant, given, field):
    body = {"setting_name": "x", "smtp_host": "smtp.example.com"} | given
    assert wrong(tenant.ask("POST", "", json=body)) == [field]
    assert wrong(tenant.ask("POST", "/test", json=body)) == [field]


@pytest.mark.parametrize(("given", "field", "words"), [
    ({"smtp_host": "10.0.0.1", "smtp_port": 8025}, "smtp_port", ("port 8025", "2525", "10.0.0.1 is no public host", "on any port")),
    ({"smtp_host": "::1", "smtp_port": 8025}, "smtp_port", ("port 8025", "::1 is no public host")),
    ({"smtp_host": "192.88.98.1", "smtp_port": 8025}, "smtp_port", ("port 8025", "2525", "permits the host")),
    ({"smtp_host": "10.0.0.1"}, "smtp_host", ("10.0.0.1: no public address",)),
])  # fmt: skip
def test_a_refusal_of_a_host_or_a_port_names_all_that_is_wrong_and_the_setting(tenant, given, field, words):
    for path, method in (("", "POST"), ("/test", "POST"), (f"/{tenant.account()['id']}", "PATCH")):
        body = given if method == "PATCH" else {"setting_name": "x"} | given
        (said,) = tenant.ask(method, path, json=body).json()["error"]["fields"][field]
        assert all(word in said for word in (*words, "ALLOW_PRIVATE_HOSTS")), said


def test_a_password_that_no_database_or_server_could_be_given_is_400(tenant):
    for password in ("a\\u0000b", "a\\ud800b"):
        body = f'{{"setting_name": "x", "smtp_host": "a.example", "smtp_username": "u", "smtp_password": "{password}"}}'
        answer = tenant.ask("POST", "", data=body, headers={"Content-Type": "application/json"})
        assert answer.status_code == 400, answer.text


@pytest.mark.parametrize("name", [
    "id", "tenant_id", "has_password", "created_at", "updated_at", "health", "Setting_name", "smtp_accounts", "__class__",
])  # fmt: skip
def test_what_is_not_a_tenants_to_set_is_400_and_never_changes(tenant, name):
    account = tenant.account()
    for method, path in (("POST", ""), ("PATCH", f"/{account['id']}"), ("POST", "/test")):
        assert wrong(
            tenant.ask(method, path, json={"setting_name": "x", "smtp_host": "a.example", name: str(uuid4())})
        ) == [name]
    assert {key: value for key, value in tenant.shown(account).items() if key != "health"} == account
    assert wrong(tenant.ask("PATCH", f"/{account['id']}", json={"preset": "gmail"})) == ["preset"]
    assert wrong(tenant.ask("POST", f"/{account['id']}/test", json={"smtp_host": "a.example"})) == ["smtp_host"]


def test_of_a_pasted_file_only_the_certificates_are_kept(tenant, tmp_path):
    authority = Authority(tmp_path)
    pasted = "a note\n" + authority.issue("a.example").read_text() + Path(authority.ca_file).read_text()
    kept = tenant.account(ca_certificate=pasted)["ca_certificate"]
    assert kept.count("BEGIN CERTIFICATE") == 2
    assert "PRIVATE" not in kept
    assert "note" not in kept


def test_the_first_account_is_the_default_and_there_is_never_more_than_one(tenant):
    first, second = tenant.account(), tenant.account()
    assert (first["is_default"], second["is_default"]) == (True, False)
    third = tenant.account(is_default=True)
    assert [tenant.shown(one)["is_default"] for one in (first, second, third)] == [False, False, True]
    assert tenant.ask("PATCH", f"/{second['id']}", json={"is_default": True}).json()["is_default"]
    assert [tenant.shown(one)["is_default"] for one in (first, second, third)] == [False, True, False]
    tenant.ask("DELETE", f"/{second['id']}")
    assert not tenant.account()["is_default"]
    assert not Tenant(tenant.locked).account(is_default=False)["is_default"]


def test_of_accounts_set_up_at_once_one_is_the_default(locked):
    tenant = Tenant(locked)
    with ThreadPoolExecutor(8) as threads:
        made = list(threads.map(lambda n: requests.post(
            f"{locked.url}/smtp-accounts", json={"setting_name": f"{n}", "smtp_host": "a.example"},
            headers={"Authorization": f"Bearer {tenant.key}"}, timeout=PATIENCE), range(8)))  # fmt: skip
    assert [answer.status_code for answer in made] == [201] * 8
    assert [one["is_default"] for one in tenant.ask("GET", "").json()["smtp_accounts"]].count(True) == 1


def test_names_are_of_their_own_within_a_tenant_and_there_is_a_most(tenant, locked):
    account = tenant.account(setting_name="main")
    again = {"setting_name": "main", "smtp_host": "a.example"}
    assert code(tenant.ask("POST", "", json=again)) == (409, "conflict")
    other = tenant.account()
    assert code(tenant.ask("PATCH", f"/{other['id']}", json={"setting_name": "main"})) == (409, "conflict")
    assert Tenant(locked).account(setting_name="main")["setting_name"] == account["setting_name"]
    for n in range(98):
        tenant.account(setting_name=f"{n}")
    assert code(tenant.ask("POST", "", json=again | {"setting_name": "one more"})) == (409, "conflict")
    page = tenant.ask("GET", "?limit=60")
    rest = tenant.locked.ask("GET", page.links["next"]["url"].removeprefix(locked.url), tenant.key).json()
    assert (len(page.json()["smtp_accounts"]), len(rest["smtp_accounts"]), rest["count"]) == (60, 40, 100)


def test_one_idempotency_key_makes_one_account_and_keeps_nothing_of_the_password(tenant, locked):
    body = {"setting_name": "once", "smtp_host": "a.example", "smtp_username": "u", "smtp_password": PASSWORD}
    with_key = {"headers": {"Idempotency-Key": "account 1"}}
    first, again = (tenant.ask("POST", "", json=body, **with_key) for _ in range(2))
    assert (first.status_code, again.status_code, again.headers["Idempotent-Replayed"]) == (201, 201, "true")
    assert (first.json(), first.headers["Location"]) == (again.json(), again.headers["Location"])
    for other in ({"smtp_password": "another"}, {"setting_name": "twice"}):
        assert code(tenant.ask("POST", "", json=body | other, **with_key)) == (422, "idempotency_mismatch")
    assert tenant.ask("GET", "").json()["count"] == 1
    taken = {"headers": {"Idempotency-Key": "account 2"}}
    assert code(tenant.ask("POST", "", json=body, **taken)) == (409, "conflict")
    assert tenant.ask("POST", "", json=body | {"setting_name": "free again"}, **taken).status_code == 201


def test_where_a_password_goes_is_changed_only_with_the_password(tenant, provider):
    account = tenant.ask("POST", "", json=settings_of(provider)).json()
    path = f"/{account['id']}"
    elsewhere = (
        {"smtp_host": "evil.example", "smtp_port": 25},
        {"smtp_port": 26},
        {"security_protocol": "NONE"},
        {"ca_certificate": None},
    )
    for given in elsewhere:
        assert wrong(tenant.ask("PATCH", path, json=given)) == ["smtp_password"]
    assert (
        tenant.ask("PATCH", path, json={"smtp_host": "LOCALHOST", "smtp_port": provider.port, "weight": 2}).status_code
        == 200
    )
    assert tenant.ask("PATCH", path, json={"security_protocol": "TLS", "smtp_password": "new"}).json()["has_password"]
    without = tenant.ask(
        "PATCH", path, json={"smtp_username": None, "smtp_host": "evil.example", "smtp_port": 25}
    ).json()
    assert (without["has_password"], without["smtp_host"]) == (False, "evil.example")
    assert wrong(tenant.ask("PATCH", path, json={"smtp_host": "10.0.0.1"})) == ["smtp_host"]
    assert wrong(tenant.ask("PATCH", path, json={"smtp_username": "u"})) == ["smtp_password"]


# -- who sees what


def test_another_tenants_account_is_as_one_that_is_not_there(tenant, locked, provider):
    theirs = Tenant(locked, *MANAGER, "accounts:reveal")
    account = theirs.ask("POST", "", json=settings_of(provider)).json()
    mine = Tenant(locked, *MANAGER, "accounts:reveal")
    for method, path, body in (
        ("GET", "", None), ("PATCH", "", {"weight": 2}), ("DELETE", "", None), ("GET", "/credentials", None), ("POST", "/test", {}),
    ):  # fmt: skip
        foreign = mine.ask(method, f"/{account['id']}{path}", json=body)
        missing = mine.ask(method, f"/00000000-0000-7000-8000-000000000000{path}", json=body)
        assert code(foreign) == (404, "not_found")
        assert foreign.content == missing.content
    assert code(mine.ask("GET", "/default/credentials")) == (404, "not_found")
    for path, name in (("", "smtp_accounts"), ("/health", "smtp_accounts")):
        assert mine.ask("GET", path).json() == {name: [], "count": 0}
    assert theirs.shown(account)["weight"] == 1


@pytest.mark.parametrize(("scope", "manages", "reveals"), [
    ("accounts", 200, 403), ("accounts:reveal", 403, 404), ("admin", 403, 403), ("messages:write", 403, 403),
])  # fmt: skip
def test_accounts_are_managed_by_one_scope_and_revealed_by_another(tenant, scope, manages, reveals):
    key = tenant.another(scope)
    for path in ("", "/health", "/presets"):
        assert tenant.ask("GET", path, key=key).status_code == manages
    assert tenant.ask("GET", "/default/credentials", key=key).status_code == reveals
    assert tenant.locked.ask("GET", "/audit", key).status_code == manages
    assert tenant.ask("POST", "/test", key=key, json={"smtp_host": "10.0.0.1"}).status_code == (
        400 if manages == 200 else 403
    )


def test_a_password_is_told_to_whom_it_may_be_and_each_telling_is_in_the_audit(tenant, locked, provider):
    account = tenant.ask("POST", "", json=settings_of(provider)).json()
    made = locked.key(tenant.id, scopes=["accounts:reveal"])
    for path in ("/default/credentials", f"/{account['id']}/credentials"):
        assert code(tenant.ask("GET", path)) == (403, "forbidden")
        told = tenant.ask("GET", path, key=made["key"])
        assert told.status_code == 200
        assert told.headers["Cache-Control"] == "no-store"
        names = ("smtp_host", "smtp_port", "smtp_username", "security_protocol", "smtp_password", "from_email")
        assert tuple(told.json()[name] for name in names) == (
            "localhost",
            provider.port,
            USER,
            "STARTTLS",
            PASSWORD,
            "shop@example.com",
        )
    entries = locked.ask("GET", "/audit", tenant.key).json()
    assert entries["count"] == 2
    for entry in entries["audit"]:
        assert (entry["action"], entry["key_id"], entry["address"]) == ("credentials.revealed", made["id"], "127.0.0.1")
        assert entry["data"] == {"account_id": account["id"], "setting_name": "main"}
    page = locked.ask("GET", "/audit?limit=1", tenant.key)
    after = locked.ask("GET", page.links["next"]["url"].removeprefix(locked.url), tenant.key).json()
    assert [page.json()["audit"][0], after["audit"][0]] == entries["audit"]
    assert locked.ask("GET", "/audit", Tenant(locked).key).json() == {"audit": [], "count": 0}
    until(
        lambda: (locked.var / "api.out").read_text().count(f"credentials_revealed account_id={account['id']}") == 2, 5
    )


def test_a_suspended_tenant_changes_no_account_and_tries_none(tenant, locked, provider):
    account = tenant.account()
    locked.ask("PATCH", f"/tenants/{tenant.id}", locked.admin, json={"status": "suspended"})
    until(lambda: tenant.ask("PATCH", f"/{account['id']}", json={"enabled": True}).status_code == 403, 1.5)
    for path in ("/test", f"/{account['id']}/test"):
        assert code(tenant.ask("POST", path, json={})) == (403, "tenant_suspended")
    assert tenant.shown(account)["weight"] == 1


# -- trying


def test_a_server_with_a_private_authority_is_tried_step_by_step_and_takes_a_test_mail(tenant, provider):
    account = tenant.ask("POST", "", json=settings_of(provider)).json()
    tried = tenant.ask("POST", f"/{account['id']}/test")
    assert tried.json()["ok"], tried.text
    assert [one["name"] for one in tried.json()["steps"]] == [
        "resolve",
        "connect",
        "banner",
        "ehlo",
        "starttls",
        "tls",
        "ehlo",
        "auth",
    ]
    assert all(one["ok"] and one["milliseconds"] >= 0 for one in tried.json()["steps"])
    tls = step(tried, "tls")["tls"]
    assert tls["version"].startswith("TLSv1.")
    assert tls["certificate"]["names"] == ["localhost", "127.0.0.1"]
    assert tls["certificate"]["issuer"] == "CN=test authority"
    assert tls["certificate"]["not_after"].endswith("Z")
    assert (step(tried, "auth")["code"], step(tried, "connect")["code"]) == (235, 0)
    before = len(provider.taken())
    for path, body in ((f"/{account['id']}/test", {}), ("/test", settings_of(provider))):
        sent = tenant.ask("POST", path, json=body | {"to": "Ann@bücher.example"})
        assert (sent.json()["ok"], step(sent, "dot")["code"]) == (True, 250), sent.text
    for taken in provider.taken()[before:]:
        assert (taken["from"], taken["to"], taken["user"]) == ("shop@example.com", ["Ann@xn--bcher-kva.example"], USER)
        assert taken["id"].endswith("@mail.example.com>")
    assert len(provider.taken()) == before + 2


@pytest.mark.parametrize("from_email", ["news.example.com", None])
def test_a_test_mail_is_from_whom_the_account_may_send_as(tenant, provider, from_email):
    before = len(provider.taken())
    body = settings_of(provider) | {"from_email": from_email, "to": "ann@example.com"}
    assert tenant.ask("POST", "/test", json=body).json()["ok"]
    assert provider.taken()[before]["from"] == (
        "noreply@news.example.com" if from_email else "noreply@mail.example.com"
    )


def test_bounces_go_only_to_an_address_that_the_key_may_send_as(tenant, locked, provider):
    key = locked.key(tenant.id, scopes=MANAGER, senders=["example.com"])["key"]
    allowed, foreign = {"envelope_from": "bounces@example.com"}, {"envelope_from": "bounces@example.org"}
    settings = settings_of(provider)
    for method, path, body in (("POST", "", settings), ("POST", "/test", settings)):
        assert wrong(tenant.ask(method, path, key=key, json=body | foreign)) == ["envelope_from"]
    account = tenant.ask("POST", "", key=key, json=settings | allowed).json()
    assert wrong(tenant.ask("PATCH", f"/{account['id']}", key=key, json=foreign)) == ["envelope_from"]
    assert tenant.shown(account)["envelope_from"] == "bounces@example.com"
    before = len(provider.taken())
    assert tenant.ask("POST", f"/{account['id']}/test", key=key, json={"to": "ann@example.com"}).json()["ok"]
    assert provider.taken()[before]["from"] == "bounces@example.com"
    # What another key set stays when this one changes something else.
    assert tenant.ask("PATCH", f"/{account['id']}", json=foreign).status_code == 200
    assert (
        tenant.ask("PATCH", f"/{account['id']}", key=key, json={"priority": 2}).json()["envelope_from"]
        == "bounces@example.org"
    )


def test_an_account_sends_only_as_whom_the_key_may_that_sets_it_up(tenant, locked):
    key = locked.key(tenant.id, scopes=MANAGER, senders=["example.com", "ann@example.org"])["key"]
    body = {"setting_name": uuid4().hex, "smtp_host": "smtp.example.com"}
    for foreign in ("bob@example.org", "example.org", "shop@sub.example.com"):
        assert wrong(tenant.ask("POST", "", key=key, json=body | {"from_email": foreign})) == ["from_email"]
    account = tenant.ask("POST", "", key=key, json=body | {"from_email": "Shop@example.com"}).json()
    path = f"/{account['id']}"
    assert wrong(tenant.ask("PATCH", path, key=key, json={"from_email": "example.org", "is_default": True})) == [
        "from_email"
    ]
    for own in ("ann@example.org", "example.com", None):
        assert tenant.ask("PATCH", path, key=key, json={"from_email": own}).status_code == 200
    assert (
        tenant.ask("PATCH", path, json={"from_email": "example.org"}).status_code == 200
    )  # by a key without that limit


def test_the_address_that_bounces_go_to_is_kept_in_ascii(tenant, provider):
    account = tenant.ask("POST", "", json=settings_of(provider) | {"envelope_from": "bounces@BÜCHER.example"}).json()
    assert account["envelope_from"] == "bounces@xn--bcher-kva.example"
    refused = tenant.ask("PATCH", f"/{account['id']}", json={"envelope_from": "rückläufer@example.com"})
    assert wrong(refused) == ["envelope_from"]
    assert (
        "rückläufer@example.com is not ASCII before the @-sign" in refused.json()["error"]["fields"]["envelope_from"][0]
    )


def test_a_mechanism_that_is_offered_and_refused_is_told_and_another_is_tried(tenant):
    with Peer(users={USER: PASSWORD}, at={"auth": only("LOGIN", b"504 5.5.4 not that\r\n")}) as peer:
        body = {
            "smtp_host": "127.0.0.1",
            "smtp_port": peer.port,
            "security_protocol": "NONE",
            "smtp_username": USER,
            "smtp_password": PASSWORD,
        }
        tried = tenant.ask("POST", "/test", json=body).json()
    assert tried["ok"]
    told = [(one["mechanism"], one["ok"], one["code"]) for one in tried["steps"] if one["name"] == "auth"]
    assert told == [("CRAM-MD5", False, 504), ("PLAIN", False, 504), ("LOGIN", True, 235)]


def test_what_goes_wrong_is_told_at_its_step_and_the_password_never(tenant, provider, tmp_path):
    settings = settings_of(provider)
    refused = tenant.ask("POST", "/test", json=settings | {"smtp_password": "not-the-pass-word"})
    assert (refused.json()["ok"], step(refused, "auth")["ok"], step(refused, "auth")["code"]) == (False, False, 535)
    assert step(refused, "auth")["enhanced"] == "5.7.8"
    assert "not-the-pass-word" not in refused.text
    stranger = tenant.ask(
        "POST", "/test", json=settings | {"ca_certificate": Path(Authority(tmp_path).ca_file).read_text()}
    )
    assert not stranger.json()["ok"]
    assert stranger.json()["steps"][-1]["name"] == "tls"
    assert step(stranger, "tls")["tls"]["certificate"]["issuer"] == "CN=test authority"
    closed = tenant.ask("POST", "/test", json=settings | {"smtp_port": free_port()})
    assert (closed.json()["ok"], closed.json()["steps"][-1]["name"]) == (False, "connect")
    provider.fail(Failure.RCPT)
    try:
        later = tenant.ask("POST", "/test", json=settings | {"to": "ann@example.com"})
    finally:
        provider.heal()
    assert (later.json()["ok"], step(later, "rcpt")["code"]) == (False, 450)
    assert wrong(tenant.ask("POST", "/test", json=settings | {"to": "nobody"})) == ["to"]


def test_a_few_accounts_are_tried_at_once_and_no_more(locked):
    tenant = Tenant(locked)
    with Peer(at={"banner": silent}) as peer, ThreadPoolExecutor(8) as threads:
        body = {"smtp_host": "127.0.0.1", "smtp_port": peer.port, "security_protocol": "NONE"}

        def attempt(_: int) -> requests.Response:
            headers = {"Authorization": f"Bearer {tenant.key}"}
            return requests.post(f"{locked.url}/smtp-accounts/test", json=body, headers=headers, timeout=PATIENCE)

        running = [threads.submit(attempt, n) for n in range(8)]
        # Two processes, two of a tenant in each; which process gets how many is the kernel's affair.
        until(
            lambda: sum(one.done() for one in running) + peer.connections == 8,
            what="a refusal or a connection for each",
        )
        refused = [one.result() for one in running if one.done()]
        assert len(refused) >= 4
        assert {code(one) for one in refused} == {(503, "unavailable")}
        assert all(one.headers["Retry-After"] == "30" for one in refused)
        assert locked.ask("GET", "/smtp-accounts", tenant.key).status_code == 200
        peer.__exit__(None, None, None)  # whoever waits for a word is let go
        assert {one.result().status_code for one in running if one.result() not in refused} == {200}


# -- health


def test_health_tells_of_circuits_of_workers_that_live_of_what_was_used_and_of_passwords(tenant, locked):
    limited = tenant.account(max_per_day=100, smtp_username="u", smtp_password=PASSWORD)
    plain = tenant.account(enabled=False)
    fresh = {
        "enabled": True, "circuit": "closed", "workers": 0, "since": None, "failures": 0, "reply": None, "used_today": 0,
        "max_per_day": 100, "password_readable": True,
    }  # fmt: skip
    assert tenant.shown(limited)["health"] == fresh
    none = {"enabled": False, "used_today": None, "max_per_day": None, "password_readable": None}
    assert tenant.shown(plain)["health"] == fresh | none
    alive, silent_, gone = uuid4(), uuid4(), uuid4()
    today = int(time.time() // 86_400)
    with locked.services.db.write() as session:
        for worker in (alive, silent_):
            workers.enter(session, worker)
        session.execute(
            update(RegisteredWorker)
            .where(RegisteredWorker.id == silent_)
            .values(beat_at=db_now(-workers.ALIVE_SECONDS - 1))
        )
        for worker, failures in ((alive, 5), (silent_, 7), (gone, 9)):
            repo.report_circuits(
                session, worker, {UUID(limited["id"]): {"failures": failures, "reply": f"421 {failures}"}}
            )
        session.execute(
            insert(PermitCount).values(account_id=UUID(limited["id"]), free_at=0.0, day=today, used=17, granted=1)
        )
        session.execute(
            insert(PermitCount).values(account_id=UUID(plain["id"]), free_at=0.0, day=today - 1, used=17, granted=1)
        )
    health = tenant.shown(limited)["health"]
    assert health.pop("since") is not None
    expected = fresh | {"circuit": "open", "workers": 1, "failures": 5, "reply": "421 5", "used_today": 17}
    assert health == {name: value for name, value in expected.items() if name != "since"}
    with locked.services.db.read() as session:
        row = repo.account(session, UUID(tenant.id), UUID(limited["id"]))
        (elsewhere,) = look(session, locked.services.vault, [row], counted_here=False)
        assert elsewhere.used_today is None  # Redis counts
    with locked.services.db.write() as session:
        session.execute(
            text("UPDATE smtp_accounts SET smtp_password = 'gAAAAA' WHERE setting_name = :name").bindparams(
                name=limited["setting_name"]
            )
        )
    listed = tenant.ask("GET", "/health").json()
    assert [(one["id"], one["circuit"], one["password_readable"]) for one in listed["smtp_accounts"]] == [
        (plain["id"], "closed", None), (limited["id"], "open", False),
    ]  # fmt: skip
    reveal = tenant.another("accounts:reveal")
    assert code(tenant.ask("GET", f"/{limited['id']}/credentials", key=reveal)) == (503, "secret_unreadable")
    assert code(tenant.ask("POST", f"/{limited['id']}/test")) == (503, "secret_unreadable")
    assert locked.ask("GET", "/audit", tenant.key).json()["count"] == 0
    for one in (limited, plain):
        assert tenant.ask("DELETE", f"/{one['id']}").status_code == 204
    with locked.services.db.read() as session:
        for table in ("smtp_pace", "smtp_circuits"):
            ids = [UUID(str(row[0])) for row in session.execute(text(f"SELECT account_id FROM {table}"))]
            assert not {UUID(limited["id"]), UUID(plain["id"])} & set(ids)


def test_both_rooms_agree_on_when_a_worker_is_gone():
    assert repo.ALIVE_SECONDS == workers.ALIVE_SECONDS


# -- sending


def test_from_is_the_default_accounts_and_must_be_one_that_an_account_sends_as(tenant):
    assert tenant.post(HELLO | {"from": "who@ever.example"}).status_code == 201

    def sender() -> str | None:
        sent = tenant.post(HELLO)
        return (
            tenant.locked.ask("GET", f"/messages/{sent.json()['id']}", tenant.key).json()["from"] if sent.ok else None
        )

    first = tenant.account(from_email="Shop@example.com", from_name='The "Shop" \\ <x>')
    second = tenant.account(from_email="news.example.com")
    until(
        lambda: (
            tenant.post(HELLO | {"from": "Any <any@news.example.com>"}).ok
            and not tenant.post(HELLO | {"from": "who@ever.example"}).ok
        )
    )
    assert sender() == 'The "Shop" \\ <x> <Shop@example.com>'
    for address, status in {
        "shop@example.com": 201,
        "Any <any@news.example.com>": 201,
        "who@ever.example": 400,
        "a@x.news.example.com": 400,
    }.items():
        assert tenant.post(HELLO | {"from": address}).status_code == status
    refused = tenant.post(HELLO | {"from": "who@ever.example"}).json()["error"]
    assert refused["fields"] == {"from": ["No SMTP account of yours sends as who@ever.example."]}
    tenant.ask("PATCH", f"/{second['id']}", json={"from_email": None})
    until(lambda: all(tenant.post(HELLO | {"from": "who@ever.example"}).ok for _ in range(10)))
    tenant.ask("PATCH", f"/{second['id']}", json={"is_default": True})
    until(lambda: (sender() or "").endswith("noreply@mail.example.com>"))
    for account in (first, second):
        tenant.ask("DELETE", f"/{account['id']}")
    assert tenant.post(HELLO | {"from": "who@ever.example"}).status_code == 201


# -- secrets, last: all that the tests before have left


def test_no_password_is_in_any_log_nor_in_a_dump_of_the_database(tenant, locked, provider, tmp_path):
    account = tenant.ask("POST", "", json=settings_of(provider)).json()
    for answer in (tenant.ask("GET", ""), tenant.ask("GET", f"/{account['id']}"), tenant.ask("GET", "/health")):
        assert PASSWORD not in answer.text
        assert "smtp_password" not in answer.text
    db = locked.services.db
    if db.dialect == "sqlite":
        dump = b"".join(path.read_bytes() for path in locked.var.glob("mailbbgun.db*"))
    else:
        with db.read() as session:
            tables = session.scalars(text("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")).all()
            dump = "".join(str(session.execute(text(f"SELECT * FROM {table}")).all()) for table in tables).encode()
    assert b"shop@example.com" in dump
    for shown in (dump, (locked.var / "api.out").read_bytes()):
        for secret in (b"s3cret", b"not-the-pass-word"):  # both in ASCII: however it was escaped, that would be there
            assert secret not in shown


EVIL_NAME = "=?UTF-8?Q?a=22_<x@y>=0D=0ABcc:_evil@x.test=0D=0AContent-Type:_text/html=0D=0A=0D=0A<h1>no</h1>?="


def test_no_name_of_an_account_becomes_a_header_of_its_test_mail(tenant):
    with Peer() as peer:
        body = {"smtp_host": "127.0.0.1", "smtp_port": peer.port, "security_protocol": "NONE", "from_email": "shop@example.com",
                "from_name": EVIL_NAME, "setting_name": "=?UTF-8?Q?a=0D=0AReply-To:_evil@x.test?=", "to": '"a;b"@example.com'}  # fmt: skip
        assert tenant.ask("POST", "/test", json=body).json()["ok"]
        [taken] = peer.messages
    mail = message_from_bytes(taken.raw, policy=policy.default)
    assert sorted(mail.keys()) == sorted(
        ["From", "To", "Subject", "Date", "Message-ID", "Content-Type", "Content-Transfer-Encoding", "MIME-Version"]
    )
    assert (mail.get_content_type(), str(mail["To"])) == ("text/plain", '"a;b"@example.com')


def test_a_key_tries_only_with_a_test_mail_from_whom_it_may_send_as(tenant, locked, provider):
    key = locked.key(tenant.id, scopes=MANAGER, senders=["example.org"])["key"]
    body = settings_of(provider)
    assert tenant.ask("POST", "/test", key=key, json=body).json()["ok"]
    assert wrong(tenant.ask("POST", "/test", key=key, json=body | {"to": "ann@example.com"})) == ["to"]
