"""A limited administrator of a limited tenant stays inside it; one of a suspended tenant only reads."""

from typing import Any
from uuid import uuid4

import pytest
import requests

from mailbbgun.core.caller import Scope
from mailbbgun.core.ids import DEFAULT_TENANT
from tests.flow.service import until
from tests.tenants.conftest import Locked, code

ALL = [scope.value for scope in Scope]
LESSER = ["admin", "messages:write", "accounts"]


def revoke(locked: Locked, whose: str, tenant: str, key: dict[str, Any]) -> requests.Response:
    return locked.ask("DELETE", f"/tenants/{tenant}/keys/{key['id']}", whose)


def works(locked: Locked, tenant: str, key: dict[str, Any]) -> bool:
    return locked.ask("GET", f"/tenants/{tenant}/keys/{key['id']}", locked.admin).json()["revoked_at"] is None


# Limits of a confined admin key; keys that it may revoke; keys that it may not revoke.
CONFINED: list[tuple[dict[str, Any], list[dict[str, Any]], list[dict[str, Any]]]] = [
    ({"senders": ["shop.test"]}, [{"senders": ["ann@shop.test"]}], [{}, {"senders": ["mill.test"]}]),
    ({"networks": ["127.0.0.0/8"]}, [{"networks": ["127.0.0.1"]}], [{}, {"networks": ["127.0.0.1", "192.0.2.1"]}]),
    ({"max_requests_per_minute": 900}, [{"max_requests_per_minute": 900}], [{}, {"max_requests_per_minute": 901}]),
    ({"kind": "team", "guests": ["team.test"]}, [{"kind": "team", "guests": ["ann@team.test"]}, {"kind": "test"}],
     [{}, {"kind": "team", "guests": ["ann@evil.test"]}]),
    ({"expires_at": "2099-01-01T00:00:00Z"}, [{"expires_at": "2098-01-01T00:00:00Z"}],
     [{}, {"expires_at": "2099-01-01T00:00:01Z"}]),
]  # fmt: skip


@pytest.mark.parametrize(("limits", "lesser", "greater"), CONFINED, ids=[next(iter(one[0])) for one in CONFINED])
def test_a_confined_administrator_revokes_only_keys_that_it_could_have_made(locked, limits, lesser, greater):
    tenant = locked.tenant(uuid4().hex, max_messages_per_day=5)
    made = locked.key(tenant, scopes=LESSER, **limits)
    caller, field = made["key"], next(iter(limits))
    for values in lesser:
        assert revoke(locked, caller, tenant, locked.key(tenant, scopes=["accounts"], **values)).status_code == 200
    for values in greater:
        key = locked.key(tenant, scopes=["accounts"], **values)
        answer = revoke(locked, caller, tenant, key)
        assert code(answer) == (403, "forbidden"), values
        assert field in answer.json()["error"]["message"]
        assert works(locked, tenant, key)
    more = locked.key(tenant, scopes=["accounts:reveal"], **limits)
    refused = revoke(locked, caller, tenant, more)
    assert (refused.status_code, "accounts:reveal" in refused.json()["error"]["message"]) == (403, True)
    assert revoke(locked, caller, tenant, made).status_code == 200  # itself


def test_a_confined_administrator_changes_nothing_of_other_tenants(locked):
    tenant, other = locked.tenant(uuid4().hex, max_requests_per_minute=900), locked.tenant(uuid4().hex)
    limits = {"senders": ["shop.test"]}
    caller = locked.key(tenant, scopes=ALL, **limits)["key"]
    before = locked.ask("GET", f"/tenants/{other}", locked.admin).json()
    for change in (
        {"status": "suspended"},
        {"status": "active"},
        {"max_messages_per_day": 10},
        {"max_requests_per_minute": None},
        {"name": uuid4().hex},
    ):
        assert code(locked.ask("PATCH", f"/tenants/{other}", caller, json=change)) == (403, "forbidden"), change
    assert locked.ask("GET", f"/tenants/{other}", caller).json() == before  # it may read
    for place in (other, str(DEFAULT_TENANT)):
        for values in ({}, limits):
            key = locked.key(place, **values)
            assert code(revoke(locked, caller, place, key)) == (403, "forbidden")
            path = f"/tenants/{place}/keys/{key['id']}/rotate"
            assert code(locked.ask("POST", path, caller, json={"hours": 0})) == (403, "forbidden")
            assert works(locked, place, key)
    # An administrator without limits of its own is not confined.
    free = locked.key(tenant, scopes=ALL)["key"]
    assert revoke(locked, free, other, locked.key(other)).status_code == 200
    assert locked.ask("PATCH", f"/tenants/{other}", free, json={"max_messages_per_day": 7}).status_code == 200


@pytest.mark.parametrize("limits", [{}, {"senders": ["shop.test"]}], ids=["without limits", "with limits"])
def test_an_administrator_of_a_suspended_tenant_reads_and_changes_nothing(locked, limits):
    tenant, other = locked.tenant(uuid4().hex), locked.tenant(uuid4().hex)
    caller, key, theirs = locked.key(tenant, scopes=ALL, **limits)["key"], locked.key(tenant), locked.key(other)
    assert locked.ask("GET", f"/tenants/{tenant}", caller).status_code == 200  # from now on the key is known
    locked.ask("PATCH", f"/tenants/{tenant}", locked.admin, json={"status": "suspended"})
    asked: list[tuple[str, str, dict[str, Any] | None]] = [
        ("POST", "/tenants", {"name": uuid4().hex}),
        ("PATCH", f"/tenants/{tenant}", {"status": "active"}),
        ("PATCH", f"/tenants/{tenant}", {"name": uuid4().hex}),
        ("PATCH", f"/tenants/{other}", {"status": "suspended"}),
        ("POST", f"/tenants/{tenant}/keys", {"name": "k", **limits}),
        ("POST", f"/tenants/{other}/keys", {"name": "k", **limits}),
        ("DELETE", f"/tenants/{tenant}/keys/{key['id']}", None),
        ("DELETE", f"/tenants/{other}/keys/{theirs['id']}", None),
        ("POST", f"/tenants/{tenant}/keys/{key['id']}/rotate", {}),
        ("POST", f"/tenants/{other}/keys/{theirs['id']}/rotate", {}),
    ]
    for method, path, body in asked:  # at once, even in a process that has not heard of the suspension
        assert code(locked.ask(method, path, caller, json=body)) == (403, "tenant_suspended"), (method, path)
    account = {"setting_name": "a", "smtp_host": "smtp.example.com", "from_email": "shop.test"}
    until(lambda: locked.ask("POST", "/smtp-accounts", caller, json=account).status_code == 403, 1.5)
    for path in ("/tenants", f"/tenants/{other}", f"/tenants/{tenant}/keys", "/smtp-accounts", "/audit"):
        assert locked.ask("GET", path, caller).status_code == 200, path
    for place, one in ((tenant, key), (other, theirs)):
        assert works(locked, place, one)
    locked.ask("PATCH", f"/tenants/{tenant}", locked.admin, json={"status": "active"})
    until(
        lambda: locked.ask("POST", f"/tenants/{tenant}/keys", caller, json={"name": "k", **limits}).status_code == 201
    )
