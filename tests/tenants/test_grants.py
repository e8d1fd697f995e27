"""What a caller may grant: no more than it has."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from flask import Flask

from mailbbgun.base.caller import KeyKind, Scope
from mailbbgun.base.ids import DEFAULT_TENANT
from mailbbgun.base.settings import load
from mailbbgun.base.web import provided
from mailbbgun.services import Services
from mailbbgun.tenants import keys, repo
from tests.conftest import application

ALL = tuple(Scope)
SOON, LATER = (datetime.now(UTC) + timedelta(days=days) for days in (1, 2))


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flask]:
    with application(load({"MAILBBGUN_VAR": str(tmp_path_factory.mktemp("grants")), "MAILBBGUN_HOSTNAME": "mail.example.com"})) as made:
        yield made


def made(app: Flask, tenant: Any = DEFAULT_TENANT, **wish: Any) -> keys.Minted:
    with app.app_context(), provided(Services).db.write() as session:
        return keys.create(session, provided(Services).vault, tenant, keys.Wish(**{"name": "k", "scopes": ALL} | wish))


def mint(app: Flask, caller: keys.Minted | None, tenant: Any = DEFAULT_TENANT, **wish: Any) -> Any:
    headers = {"Authorization": f"Bearer {caller.token}"} if caller else {}
    return app.test_client().post(f"/tenants/{tenant}/keys", json={"name": "new"} | wish, headers=headers)


def rotate(app: Flask, caller: keys.Minted | None, old: keys.Minted) -> Any:
    headers = {"Authorization": f"Bearer {caller.token}"} if caller else {}
    return app.test_client().post(f"/tenants/{old.key.tenant_id}/keys/{old.key.id}/rotate", json={"hours": 1}, headers=headers)


def refused(answer: Any, *words: str) -> bool:
    error = answer.json["error"]
    return answer.status_code == 403 and error["code"] == "forbidden" and all(word in error["message"] for word in words)


def test_who_shows_no_key_makes_none_that_reveals_passwords(app: Flask) -> None:
    assert refused(mint(app, None, scopes=list(ALL)), "accounts:reveal")
    assert refused(mint(app, None, scopes=["accounts:reveal"]), "accounts:reveal")
    assert mint(app, None, scopes=[one for one in ALL if one is not Scope.REVEAL]).status_code == 201
    assert mint(app, None).status_code == 201


@pytest.mark.parametrize("lacking", [scope for scope in Scope if scope is not Scope.ADMIN])
def test_a_scope_that_the_caller_lacks_is_not_granted_in_any_tenant(app: Flask, lacking: Scope) -> None:
    caller = made(app, scopes=tuple(scope for scope in Scope if scope is not lacking))
    with app.app_context(), provided(Services).db.write() as session:
        other = repo.add_tenant(session, {"name": f"without {lacking.name}"}).id
    for tenant in (DEFAULT_TENANT, other):
        assert refused(mint(app, caller, tenant, scopes=[lacking]), lacking)
        assert mint(app, caller, tenant, scopes=["admin"]).status_code == 201


def test_a_key_is_rotated_only_by_who_has_its_scopes_for_its_copy_is_told(app: Flask) -> None:
    whole, lesser = made(app), made(app, scopes=(Scope.ADMIN, Scope.READ))
    for caller in (None, lesser):
        assert refused(rotate(app, caller, whole), "accounts:reveal")
    with app.app_context(), provided(Services).db.read() as session:
        still = repo.key(session, DEFAULT_TENANT, whole.key.id)
        assert still is not None
        assert still.expires_at is None  # what is refused has not begun to end
    assert rotate(app, lesser, lesser).status_code == 201
    assert rotate(app, whole, lesser).status_code in (201, 409)
    assert rotate(app, whole, whole).status_code == 201


LIMITED: list[tuple[dict[str, Any], list[dict[str, Any]], list[dict[str, Any]]]] = [
    ({"senders": ("shop.test", "ann@mill.test")},
     [{"senders": ["shop.test"]}, {"senders": ["bob@shop.test", "ann@mill.test"]}],
     [{}, {"senders": ["mill.test"]}, {"senders": ["shop.test", "bob@mill.test"]}, {"senders": ["x.shop.test"]}]),
    ({"networks": ("192.0.2.0/24", "127.0.0.0/8")},
     [{"networks": ["192.0.2.0/25"]}, {"networks": ["192.0.2.7", "127.0.0.1"]}],
     [{}, {"networks": ["192.0.0.0/16"]}, {"networks": ["192.0.2.7", "198.51.100.1"]}, {"networks": ["0.0.0.0/0"]}, {"networks": ["::/0"]}]),
    ({"max_requests_per_minute": 500}, [{"max_requests_per_minute": 500}], [{}, {"max_requests_per_minute": 501}]),
    ({"kind": KeyKind.TEAM, "guests": ("team.test",)},
     [{"kind": "team", "guests": ["ann@team.test"]}, {"kind": "test"}],
     [{}, {"kind": "live"}, {"kind": "team", "guests": ["ann@team.test", "bob@evil.test"]}]),
    ({"expires_at": SOON}, [{"expires_at": SOON.strftime("%Y-%m-%dT%H:%M:%SZ")}], [{}, {"expires_at": LATER.strftime("%Y-%m-%dT%H:%M:%SZ")}]),
]  # fmt: skip


@pytest.mark.parametrize(("limits", "granted", "more"), LIMITED, ids=[next(iter(limits)) for limits, _, _ in LIMITED])
def test_a_key_of_ones_own_tenant_may_do_no_more_than_ones_own(
    app: Flask, limits: dict[str, Any], granted: list[dict[str, Any]], more: list[dict[str, Any]]
) -> None:
    caller = made(app, **limits)
    for wish in granted:
        assert mint(app, caller, **wish).status_code == 201, wish
    for wish in more:
        assert refused(mint(app, caller, **wish), "own tenant"), wish
    with app.app_context(), provided(Services).db.write() as session:
        other = repo.add_tenant(session, {"name": f"of {next(iter(limits))}"}).id
    assert mint(app, caller, other).status_code == 201  # what limits the administrator's own key is not about other tenants
    assert refused(rotate(app, caller, made(app)), "own tenant")
    assert rotate(app, caller, caller).status_code == 201


def test_a_test_key_makes_no_key_at_all(app: Flask) -> None:
    test = made(app, kind=KeyKind.TEST)
    for answer in (mint(app, test), mint(app, test, kind="test"), rotate(app, test, test), rotate(app, test, made(app))):
        assert (answer.status_code, answer.json["error"]["code"]) == (403, "test_key")


def test_of_a_tenant_that_is_not_there_is_said_so_first(app: Flask) -> None:
    assert mint(app, made(app), "00000000-0000-7000-8000-00000000000f").status_code == 404
