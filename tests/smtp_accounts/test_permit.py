"""A key with senders uses and changes only SMTP accounts that send as its senders."""

from typing import Any
from uuid import uuid4

import pytest
import requests

from tests.flow.service import until
from tests.smtp_accounts.conftest import HELLO, MANAGER, Tenant, settings_of, wrong
from tests.tenants.conftest import Locked, code

NEW = {"smtp_host": "smtp.example.com"}


def limited(locked: Locked, tenant: Tenant, *senders: str) -> str:
    key: str = locked.key(tenant.id, scopes=[*MANAGER, "accounts:reveal"], senders=list(senders))["key"]
    return key


def new(tenant: Tenant, key: str, **fields: Any) -> requests.Response:
    return tenant.ask("POST", "", key=key, json=NEW | {"setting_name": uuid4().hex} | fields)


def defaults(tenant: Tenant) -> list[str]:
    return [one["id"] for one in tenant.ask("GET", "").json()["smtp_accounts"] if one["is_default"]]


# Accounts that are not of a key with the sender shop@example.com.
FOREIGN: list[dict[str, Any]] = [
    {"from_email": "ceo@example.com"},
    {"from_email": "example.com", "enabled": False},
    {"from_email": None},
    {"from_email": "shop@example.com", "envelope_from": "bounces@example.com"},
    {"from_email": None, "envelope_from": "shop@example.com"},
]
CHANGES: list[dict[str, Any]] = [
    {"is_default": True},
    {"is_default": False},
    {"from_email": None},
    {"from_email": "shop@example.com"},
    {"from_email": "shop@example.com", "envelope_from": None},
    {"from_name": "PayPal"},
    {"from_name": "PayPal", "is_default": True},
    {"envelope_from": "shop@example.com"},
    {"envelope_from": None},
    {"recipient_domains": ["example.net"]},
    {"priority": 0},
    {"weight": 1000},
    {"enabled": False},
    {"enabled": True},
    {"max_per_day": 1},
    {"setting_name": "renamed"},
    {"smtp_host": "evil.example", "smtp_username": None},
    {},
]


@pytest.mark.parametrize("fields", FOREIGN, ids=lambda fields: " ".join(f"{name}={fields[name]}" for name in fields))
def test_an_account_that_sends_as_others_is_not_changed_deleted_tested_or_revealed(tenant, locked, fields):
    tenant.account(from_email="shop@example.com")  # the default
    theirs = tenant.account(**fields)
    key = limited(locked, tenant, "shop@example.com")
    before = tenant.shown(theirs)
    for change in CHANGES:
        answer = tenant.ask("PATCH", f"/{theirs['id']}", key=key, json=change)
        assert code(answer) == (403, "forbidden"), change
        assert theirs["setting_name"] in answer.json()["error"]["message"]
    for method, path, body in (
        ("DELETE", "", None),
        ("POST", "/test", {}),
        ("POST", "/test", {"to": "a@example.net"}),
        ("GET", "/credentials", None),
    ):
        assert code(tenant.ask(method, f"/{theirs['id']}{path}", key=key, json=body)) == (403, "forbidden"), path
    assert tenant.shown(theirs) == before
    assert tenant.ask("GET", f"/{theirs['id']}", key=key).json() == before  # it may read all but the password
    # A key without senders may do all this.
    assert tenant.ask("PATCH", f"/{theirs['id']}", json={"from_name": "Boss", "is_default": True}).status_code == 200
    assert code(tenant.ask("GET", "/default/credentials", key=key)) == (403, "forbidden")
    assert tenant.ask("DELETE", f"/{theirs['id']}").status_code == 204


def test_an_account_of_its_own_is_set_up_changed_tested_revealed_and_deleted(tenant, locked, provider):
    tenant.account(from_email="boss@example.net", is_default=False)
    key = limited(locked, tenant, "example.com", "ann@example.org")
    made = tenant.ask("POST", "", key=key, json=settings_of(provider) | {"envelope_from": "bounces@example.com"})
    assert made.status_code == 201, made.text
    path = f"/{made.json()['id']}"
    for change in (
        {"from_email": "ann@example.org"},
        {"from_email": "example.com"},
        {"from_email": "Shop@example.com", "from_name": "Shop"},
        {"envelope_from": "ann@example.org"},
        {"envelope_from": "bounces@example.com"},
        {"recipient_domains": ["example.net"]},
        {"recipient_domains": [], "priority": 0, "weight": 2},
        {"enabled": False},
        {"enabled": True, "is_default": True},
    ):
        assert tenant.ask("PATCH", path, key=key, json=change).status_code == 200, change
    before = len(provider.taken())
    assert tenant.ask("POST", f"{path}/test", key=key, json={"to": "ann@example.com"}).json()["ok"]
    assert provider.taken()[before]["from"] == "bounces@example.com"
    for shown in (f"{path}/credentials", "/default/credentials"):
        assert tenant.ask("GET", shown, key=key).json()["smtp_host"] == "localhost"
    assert tenant.ask("DELETE", path, key=key).status_code == 204


def test_an_account_of_its_own_stays_its_own(tenant, locked, provider):
    key = limited(locked, tenant, "example.com", "ann@example.org")
    for foreign in ("bob@example.org", "example.org", "shop@sub.example.com", None):
        assert wrong(new(tenant, key, from_email=foreign)) == ["from_email"]
    assert wrong(new(tenant, key)) == ["from_email"]
    assert wrong(new(tenant, key, preset="gmail", smtp_username="ann@example.org", smtp_password="x")) == ["from_email"]
    foreign = {"envelope_from": "bounces@example.org"}
    assert wrong(new(tenant, key, from_email="example.com", **foreign)) == ["envelope_from"]
    assert wrong(new(tenant, key, **foreign)) == ["envelope_from", "from_email"]
    assert wrong(tenant.ask("POST", "/test", key=key, json=settings_of(provider) | foreign)) == ["envelope_from"]
    account = new(tenant, key, from_email="Shop@example.com", envelope_from="bounces@example.com").json()
    for field, values in (
        ("from_email", ["bob@example.org", "example.org", None]),
        ("envelope_from", [*foreign.values()]),
    ):
        for value in values:
            for more in ({}, {"is_default": True, "from_name": "x"}, {"enabled": False}):
                assert wrong(tenant.ask("PATCH", f"/{account['id']}", key=key, json={field: value} | more)) == [field]
    assert {name: value for name, value in tenant.shown(account).items() if name != "health"} == account
    # A key without senders may set them; then the account is no longer this key's own.
    assert tenant.ask("PATCH", f"/{account['id']}", json=foreign).status_code == 200
    assert code(tenant.ask("PATCH", f"/{account['id']}", key=key, json={"priority": 2})) == (403, "forbidden")
    assert code(tenant.ask("PATCH", f"/{account['id']}", key=key, json={"envelope_from": None})) == (403, "forbidden")


def test_only_a_default_account_of_its_own_is_replaced(tenant, locked):
    boss = tenant.account(from_email="boss@example.com")
    key = limited(locked, tenant, "shop@example.com")
    mine = new(tenant, key, from_email="shop@example.com").json()
    assert code(tenant.ask("PATCH", f"/{mine['id']}", key=key, json={"is_default": True})) == (403, "forbidden")
    assert code(new(tenant, key, from_email="shop@example.com", is_default=True)) == (403, "forbidden")
    assert defaults(tenant) == [boss["id"]]
    tenant.ask("PATCH", f"/{mine['id']}", json={"is_default": True})
    other = new(tenant, key, from_email="shop@example.com", is_default=True).json()
    assert defaults(tenant) == [other["id"]]
    assert tenant.ask("PATCH", f"/{mine['id']}", key=key, json={"is_default": True}).status_code == 200
    assert tenant.ask("PATCH", f"/{mine['id']}", key=key, json={"is_default": False}).status_code == 200
    assert tenant.ask("PATCH", f"/{other['id']}", key=key, json={"is_default": True}).status_code == 200
    assert defaults(tenant) == [other["id"]]


def test_the_only_enabled_account_stays_since_without_it_all_keys_could_send_as_anybody(tenant, locked):
    evil = HELLO | {"from": "evil@example.net"}
    key = limited(locked, tenant, "shop@example.com")
    mine = new(tenant, key, from_email="shop@example.com").json()
    spare = new(tenant, key, from_email="shop@example.com", enabled=False).json()
    until(lambda: all(tenant.post(evil).status_code == 400 for _ in range(10)))
    assert code(tenant.ask("DELETE", f"/{mine['id']}", key=key)) == (403, "forbidden")
    assert code(tenant.ask("PATCH", f"/{mine['id']}", key=key, json={"enabled": False})) == (403, "forbidden")
    assert tenant.post(evil).status_code == 400
    assert tenant.ask("PATCH", f"/{spare['id']}", key=key, json={"enabled": False}).status_code == 200
    assert tenant.ask("PATCH", f"/{spare['id']}", key=key, json={"enabled": True}).status_code == 200
    assert tenant.ask("PATCH", f"/{mine['id']}", key=key, json={"enabled": False}).status_code == 200
    assert tenant.ask("DELETE", f"/{mine['id']}", key=key).status_code == 204
    assert tenant.ask("DELETE", f"/{spare['id']}").status_code == 204  # by a key without senders
