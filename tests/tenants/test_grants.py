"""A caller grants nothing that it lacks itself."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import delete, update

from mailbbgun.core.caller import KeyKind, Scope
from mailbbgun.core.ids import DEFAULT_TENANT
from mailbbgun.http.provided import provided
from mailbbgun.services import Services
from mailbbgun.settings.load import load
from mailbbgun.tenants import keys, repo
from mailbbgun.tenants.models import ApiKey
from tests.conftest import application

ALL = tuple(Scope)
SOON, LATER = (datetime.now(UTC) + timedelta(days=days) for days in (1, 2))
DEFAULT_RATE = 60


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flask]:
    with application(
        load({"MAILBBGUN_VAR": str(tmp_path_factory.mktemp("grants")), "MAILBBGUN_HOSTNAME": "mail.example.com"})
    ) as made:
        yield made


@pytest.fixture(scope="module")
def paced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flask]:
    """An app in which keys without a limit of their own may make DEFAULT_RATE requests a minute."""
    folder = str(tmp_path_factory.mktemp("paced"))
    given = {"VAR": folder, "HOSTNAME": "mail.example.com", "RATE_LIMIT_PER_MINUTE": str(DEFAULT_RATE)}
    with application(load({f"MAILBBGUN_{name}": value for name, value in given.items()})) as made:
        yield made


def another(app: Flask, name: str) -> Any:
    with app.app_context(), provided(Services).db.write() as session:
        return repo.add_tenant(session, {"name": name}).id


def made(app: Flask, tenant: Any = DEFAULT_TENANT, **values: Any) -> keys.Minted:
    with app.app_context(), provided(Services).db.write() as session:
        return keys.create(
            session, provided(Services).vault, tenant, keys.KeySpec(**{"name": "k", "scopes": ALL} | values)
        )


def mint(app: Flask, caller: keys.Minted | None, tenant: Any = DEFAULT_TENANT, **values: Any) -> Any:
    headers = {"Authorization": f"Bearer {caller.token}"} if caller else {}
    return app.test_client().post(f"/tenants/{tenant}/keys", json={"name": "new"} | values, headers=headers)


def rotate(app: Flask, caller: keys.Minted | None, old: keys.Minted) -> Any:
    headers = {"Authorization": f"Bearer {caller.token}"} if caller else {}
    return app.test_client().post(
        f"/tenants/{old.key.tenant_id}/keys/{old.key.id}/rotate", json={"hours": 1}, headers=headers
    )


def refused(answer: Any, *words: str) -> bool:
    error = answer.json["error"]
    return (
        answer.status_code == 403 and error["code"] == "forbidden" and all(word in error["message"] for word in words)
    )


def test_a_caller_without_a_key_makes_no_key_that_reveals_passwords(app: Flask) -> None:
    assert refused(mint(app, None, scopes=list(ALL)), "accounts:reveal")
    assert refused(mint(app, None, scopes=["accounts:reveal"]), "accounts:reveal")
    assert mint(app, None, scopes=[one for one in ALL if one is not Scope.REVEAL]).status_code == 201
    assert mint(app, None).status_code == 201


@pytest.mark.parametrize("lacking", [scope for scope in Scope if scope is not Scope.ADMIN])
def test_a_scope_that_the_caller_lacks_is_not_granted_in_any_tenant(app: Flask, lacking: Scope) -> None:
    caller = made(app, scopes=tuple(scope for scope in Scope if scope is not lacking))
    other = another(app, f"without {lacking.name}")
    for tenant in (DEFAULT_TENANT, other):
        assert refused(mint(app, caller, tenant, scopes=[lacking]), lacking)
        assert mint(app, caller, tenant, scopes=["admin"]).status_code == 201


def test_only_a_caller_with_all_scopes_of_a_key_rotates_it_since_it_sees_the_copy(app: Flask) -> None:
    whole, lesser = made(app), made(app, scopes=(Scope.ADMIN, Scope.READ))
    for caller in (None, lesser):
        assert refused(rotate(app, caller, whole), "accounts:reveal")
    with app.app_context(), provided(Services).db.read() as session:
        still = repo.key(session, DEFAULT_TENANT, whole.key.id)
        assert still is not None
        assert still.expires_at is None  # a refused rotation changes nothing
    assert rotate(app, lesser, lesser).status_code == 201
    assert rotate(app, whole, lesser).status_code in (201, 409)
    assert rotate(app, whole, whole).status_code == 201


# Limits of a caller's key; keys that it may make; keys that it may not make.
LIMITED: list[tuple[dict[str, Any], list[dict[str, Any]], list[dict[str, Any]]]] = [
    ({"senders": ("shop.test", "ann@mill.test")},
     [{"senders": ["shop.test"]}, {"senders": ["bob@shop.test", "ann@mill.test"]}],
     [{}, {"senders": ["mill.test"]}, {"senders": ["shop.test", "bob@mill.test"]}, {"senders": ["x.shop.test"]}]),
    ({"networks": ("192.0.2.0/24", "127.0.0.0/8")},
     [{"networks": ["192.0.2.0/25"]}, {"networks": ["192.0.2.7", "127.0.0.1"]}],
     [{}, {"networks": ["192.0.0.0/16"]}, {"networks": ["192.0.2.7", "198.51.100.1"]}, {"networks": ["0.0.0.0/0"]},
      {"networks": ["::/0"]}]),
    ({"max_requests_per_minute": 500}, [{"max_requests_per_minute": 500}], [{}, {"max_requests_per_minute": 501}]),
    ({"kind": KeyKind.TEAM, "guests": ("team.test",)},
     [{"kind": "team", "guests": ["ann@team.test"]}, {"kind": "test"}],
     [{}, {"kind": "live"}, {"kind": "team", "guests": ["ann@team.test", "bob@evil.test"]}]),
    ({"expires_at": SOON}, [{"expires_at": SOON.strftime("%Y-%m-%dT%H:%M:%SZ")}],
     [{}, {"expires_at": LATER.strftime("%Y-%m-%dT%H:%M:%SZ")}]),
]  # fmt: skip


@pytest.mark.parametrize(("limits", "granted", "more"), LIMITED, ids=[next(iter(limits)) for limits, _, _ in LIMITED])
def test_a_new_key_in_the_callers_tenant_may_do_no_more_than_the_callers(
    app: Flask, limits: dict[str, Any], granted: list[dict[str, Any]], more: list[dict[str, Any]]
) -> None:
    caller = made(app, **limits)
    for values in granted:
        assert mint(app, caller, **values).status_code == 201, values
    for values in more:
        assert refused(mint(app, caller, **values), "own tenant"), values
    assert refused(rotate(app, caller, made(app)), "own tenant")
    assert rotate(app, caller, caller).status_code == 201


@pytest.mark.parametrize(("limits", "granted", "more"), LIMITED, ids=[next(iter(limits)) for limits, _, _ in LIMITED])
def test_a_new_key_in_another_tenant_may_do_no_more_than_the_callers(
    app: Flask, limits: dict[str, Any], granted: list[dict[str, Any]], more: list[dict[str, Any]]
) -> None:
    caller, other, field = made(app, **limits), another(app, f"of {next(iter(limits))}"), next(iter(limits))
    for scopes in (["admin", "messages:write"], ["messages:write"], ["accounts", "messages:read"]):
        for values in granted:
            assert mint(app, caller, other, scopes=scopes, **values).status_code == 201, values
        for values in more:
            assert refused(mint(app, caller, other, scopes=scopes, **values), "in no tenant", field), values
        theirs = made(app, other, scopes=[Scope(scope) for scope in scopes])  # rotation makes a key, too
        assert refused(rotate(app, caller, theirs), "in no tenant", field)
    equal = made(app, other, **limits)
    assert rotate(app, caller, equal).status_code == 201


@pytest.mark.parametrize(("limits", "granted", "more"), LIMITED, ids=[next(iter(limits)) for limits, _, _ in LIMITED])
def test_no_chain_of_keys_and_tenants_leads_further_than_its_first_key(
    app: Flask, limits: dict[str, Any], granted: list[dict[str, Any]], more: list[dict[str, Any]]
) -> None:
    first, field = made(app, **limits), next(iter(limits))
    headers = {"Authorization": f"Bearer {first.token}"}
    tenant = app.test_client().post("/tenants", json={"name": f"chain of {field}"}, headers=headers).json["id"]
    goes_on = [
        values
        for values in granted
        if values.get("kind") != "test" and "127.0.0.1" in values.get("networks", ["127.0.0.1"])
    ]
    assert goes_on
    for place in (DEFAULT_TENANT, tenant):
        for values in goes_on:
            hop = {"Authorization": f"Bearer {mint(app, first, place, scopes=list(ALL), **values).json['key']}"}
            for target in (DEFAULT_TENANT, tenant):
                for last in more:
                    answer = app.test_client().post(
                        f"/tenants/{target}/keys", json={"name": "last"} | last, headers=hop
                    )
                    assert refused(answer, field), (place, values, target, last)


def test_a_refusal_says_which_values_would_be_accepted(app: Flask) -> None:
    caller = made(
        app,
        networks=["127.0.0.0/8", *(f"192.0.2.{n}/32" for n in range(6))],
        max_requests_per_minute=5,
        expires_at=SOON,
    )
    said = mint(app, caller).json["error"]["message"]
    for words in (
        "max_requests_per_minute (at most 5)",
        "192.0.2.3/32 and 2 more",
        f"at the latest {SOON.strftime('%Y-%m-%dT%H:%M:%S')}",
    ):
        assert words in said
    assert "192.0.2.4" not in said


# The limit of the caller's key, the limit of the wanted key, and the status of the answer.
RATES: list[tuple[int | None, int | None, int]] = [
    (None, None, 201),
    (None, DEFAULT_RATE, 201),
    (None, DEFAULT_RATE + 1, 201),
    (None, 1_000_000, 201),
    (DEFAULT_RATE - 1, None, 403),
    (DEFAULT_RATE + 1, None, 403),  # such a key could grant any limit
    (DEFAULT_RATE + 1, DEFAULT_RATE + 1, 201),
    (DEFAULT_RATE + 1, DEFAULT_RATE + 2, 403),
    (0, DEFAULT_RATE + 1, 403),
]


@pytest.mark.parametrize(("own", "wanted", "status"), RATES)
def test_grants_are_bound_by_the_limit_of_the_key_and_not_by_the_default_limit(
    paced: Flask, own: int | None, wanted: int | None, status: int
) -> None:
    other = another(paced, f"paced {own} {wanted}")
    values = {"max_requests_per_minute": wanted}
    for answer in (
        mint(paced, made(paced, max_requests_per_minute=own), **values),
        mint(paced, made(paced, max_requests_per_minute=own), other, scopes=["admin"], **values),
        mint(paced, made(paced, max_requests_per_minute=own), other, **values),
        rotate(paced, made(paced, max_requests_per_minute=own), made(paced, max_requests_per_minute=wanted)),
        rotate(paced, made(paced, max_requests_per_minute=own), made(paced, other, max_requests_per_minute=wanted)),
    ):
        assert answer.status_code == status, answer.json
        if status == 403:
            assert f"at most {own}" in answer.json["error"]["message"]


def test_a_caller_without_a_key_grants_no_more_requests_than_the_default_limit(paced: Flask) -> None:
    other = another(paced, "of nobody")
    assert refused(mint(paced, None, max_requests_per_minute=DEFAULT_RATE + 1), f"at most {DEFAULT_RATE}")
    assert refused(
        mint(paced, None, other, scopes=["admin"], max_requests_per_minute=DEFAULT_RATE + 1), f"at most {DEFAULT_RATE}"
    )
    for tenant in (DEFAULT_TENANT, other):
        assert refused(mint(paced, None, tenant), f"at most {DEFAULT_RATE}")  # the next key could grant any limit
        assert mint(paced, None, tenant, max_requests_per_minute=DEFAULT_RATE).status_code == 201


def test_a_key_without_a_limit_grants_in_its_tenant_up_to_the_tenants_limit(paced: Flask) -> None:
    tenant = another(paced, "most of all")
    change_tenant(paced, tenant, max_requests_per_minute=500)
    its, elsewhere = made(paced, tenant), made(paced)
    assert refused(mint(paced, its, tenant, max_requests_per_minute=501), "at most 500, as its tenant")
    for values in ({}, {"max_requests_per_minute": DEFAULT_RATE + 1}, {"max_requests_per_minute": 500}):
        assert mint(paced, its, tenant, **values).status_code == 201, values
    # The tenant's limit applies to such a key when it is used.
    assert mint(paced, elsewhere, tenant, max_requests_per_minute=501).status_code == 201
    # The tenant's limit may have been lowered since the key was made.
    assert rotate(paced, its, made(paced, tenant, max_requests_per_minute=501)).status_code == 201


def change_tenant(app: Flask, tenant: Any, **values: Any) -> None:
    with app.app_context(), provided(Services).db.write() as session:
        repo.change_tenant(session, tenant, values)


BOUNDS = [{"max_messages_per_day": 10}, {"max_requests_per_minute": 1000}]


@pytest.mark.parametrize("bound", BOUNDS, ids=[next(iter(bound)) for bound in BOUNDS])
@pytest.mark.parametrize(
    ("limits", "values"),
    [(limits, granted[0]) for limits, granted, _ in LIMITED],
    ids=[next(iter(one[0])) for one in LIMITED],
)
def test_an_administrator_with_limits_in_a_tenant_with_limits_is_confined_to_it(
    app: Flask, bound: dict[str, Any], limits: dict[str, Any], values: dict[str, Any]
) -> None:
    name = f"inside {next(iter(bound))} {next(iter(limits))}"
    tenant, other = another(app, name), another(app, f"{name} other")
    change_tenant(app, tenant, **bound)
    change_tenant(app, other, max_messages_per_day=5, max_requests_per_minute=5)
    free, caller = made(app, tenant), made(app, tenant, **limits)

    def ask(key: keys.Minted, method: str, path: str, **body: Any) -> Any:
        return app.test_client().open(path, method=method, json=body, headers={"Authorization": f"Bearer {key.token}"})

    why = (next(iter(limits)), next(iter(bound)))
    assert mint(app, caller, tenant, **values).status_code == 201
    assert refused(mint(app, caller, other, **values), *why, "other tenants")
    assert refused(rotate(app, caller, made(app, other, **limits)), *why, "other tenants")
    assert refused(ask(caller, "POST", "/tenants", name=f"{name} new"), *why, "makes no tenants")
    for field, lower in (("max_messages_per_day", 4), ("max_requests_per_minute", 900)):
        for value in (None, 1_000_000):
            if field in bound:  # a tenant without this limit cannot exceed it
                assert refused(ask(caller, "PATCH", f"/tenants/{tenant}", **{field: value}), *why, field)
        assert ask(caller, "PATCH", f"/tenants/{tenant}", **{field: lower}).status_code == 200
    for change in (
        {"max_messages_per_day": None},
        {"max_requests_per_minute": 1},
        {"status": "suspended"},
        {"status": "active"},
        {"name": f"{name} renamed"},
        {},
    ):
        assert refused(ask(caller, "PATCH", f"/tenants/{other}", **change), *why, "other tenants"), change
    assert refused(ask(caller, "PATCH", f"/tenants/{tenant}", status="suspended"), *why, "status")
    assert ask(caller, "PATCH", f"/tenants/{tenant}", name=f"{name} renamed").status_code == 200
    # A key without limits decides what tenants may use.
    lifted = {"max_messages_per_day": None, "max_requests_per_minute": None}
    assert ask(free, "PATCH", f"/tenants/{tenant}", **lifted).status_code == 200
    assert ask(free, "POST", "/tenants", name=f"{name} new").status_code == 201
    # A tenant without limits confines nobody.
    assert mint(app, caller, other, **values).status_code == 201
    assert ask(caller, "POST", "/tenants", name=f"{name} newer").status_code == 201


PAST = SOON - timedelta(days=2)


@pytest.mark.parametrize(
    "ended", [{"revoked_at": PAST}, {"expires_at": PAST}, None], ids=["revoked", "expired", "gone"]
)
def test_a_key_that_has_ended_makes_none_even_while_it_is_still_known(app: Flask, ended: dict[str, Any] | None) -> None:
    caller, other = made(app), another(app, f"of one that is {next(iter(ended), '') if ended else 'gone'}")
    assert mint(app, caller).status_code == 201  # from now on it is known, for up to a second
    its = (ApiKey.id == caller.key.id,)
    with app.app_context(), provided(Services).db.write() as session:
        session.execute(update(ApiKey).where(*its).values(**ended) if ended else delete(ApiKey).where(*its))
    for answer in (
        mint(app, caller),
        mint(app, caller, other),
        rotate(app, caller, made(app, other, scopes=(Scope.READ,))),
    ):
        assert (answer.status_code, answer.json["error"]["code"]) == (401, "unauthorized")


def test_a_test_key_makes_no_key_at_all(app: Flask) -> None:
    test = made(app, kind=KeyKind.TEST)
    for answer in (
        mint(app, test),
        mint(app, test, kind="test"),
        rotate(app, test, test),
        rotate(app, test, made(app)),
    ):
        assert (answer.status_code, answer.json["error"]["code"]) == (403, "test_key")


def test_an_unknown_tenant_is_404(app: Flask) -> None:
    assert mint(app, made(app), "00000000-0000-7000-8000-00000000000f").status_code == 404
