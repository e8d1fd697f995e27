"""What a caller may grant: no more than it has."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import delete, update

from mailbbgun.core.caller import KeyKind, Scope
from mailbbgun.core.ids import DEFAULT_TENANT
from mailbbgun.http.web import provided
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
    """One in which a key without a limit of its own may ask DEFAULT_RATE times a minute."""
    folder = str(tmp_path_factory.mktemp("paced"))
    given = {"VAR": folder, "HOSTNAME": "mail.example.com", "RATE_LIMIT_PER_MINUTE": str(DEFAULT_RATE)}
    with application(load({f"MAILBBGUN_{name}": value for name, value in given.items()})) as made:
        yield made


def another(app: Flask, name: str) -> Any:
    with app.app_context(), provided(Services).db.write() as session:
        return repo.add_tenant(session, {"name": name}).id


def made(app: Flask, tenant: Any = DEFAULT_TENANT, **wish: Any) -> keys.Minted:
    with app.app_context(), provided(Services).db.write() as session:
        return keys.create(session, provided(Services).vault, tenant, keys.Wish(**{"name": "k", "scopes": ALL} | wish))


def mint(app: Flask, caller: keys.Minted | None, tenant: Any = DEFAULT_TENANT, **wish: Any) -> Any:
    headers = {"Authorization": f"Bearer {caller.token}"} if caller else {}
    return app.test_client().post(f"/tenants/{tenant}/keys", json={"name": "new"} | wish, headers=headers)


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


def test_who_shows_no_key_makes_none_that_reveals_passwords(app: Flask) -> None:
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
    assert refused(rotate(app, caller, made(app)), "own tenant")
    assert rotate(app, caller, caller).status_code == 201


@pytest.mark.parametrize(("limits", "granted", "more"), LIMITED, ids=[next(iter(limits)) for limits, _, _ in LIMITED])
def test_no_key_of_another_tenant_may_do_more_than_ones_own(
    app: Flask, limits: dict[str, Any], granted: list[dict[str, Any]], more: list[dict[str, Any]]
) -> None:
    caller, other, field = made(app, **limits), another(app, f"of {next(iter(limits))}"), next(iter(limits))
    for scopes in (["admin", "messages:write"], ["messages:write"], ["accounts", "messages:read"]):
        for wish in granted:
            assert mint(app, caller, other, scopes=scopes, **wish).status_code == 201, wish
        for wish in more:
            assert refused(mint(app, caller, other, scopes=scopes, **wish), "in no tenant", field), wish
        theirs = made(app, other, scopes=[Scope(scope) for scope in scopes])  # a copy of the secret is a key, too
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
        wish for wish in granted if wish.get("kind") != "test" and "127.0.0.1" in wish.get("networks", ["127.0.0.1"])
    ]
    assert goes_on
    for place in (DEFAULT_TENANT, tenant):
        for wish in goes_on:
            hop = {"Authorization": f"Bearer {mint(app, first, place, scopes=list(ALL), **wish).json['key']}"}
            for target in (DEFAULT_TENANT, tenant):
                for last in more:
                    answer = app.test_client().post(
                        f"/tenants/{target}/keys", json={"name": "last"} | last, headers=hop
                    )
                    assert refused(answer, field), (place, wish, target, last)


def test_a_refusal_names_what_would_be_right(app: Flask) -> None:
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


RATES: list[tuple[int | None, int | None, int]] = [  # the caller's own limit, the one asked for, the answer
    (None, None, 201),
    (None, DEFAULT_RATE, 201),
    (None, DEFAULT_RATE + 1, 201),
    (None, 1_000_000, 201),
    (DEFAULT_RATE - 1, None, 403),
    (DEFAULT_RATE + 1, None, 403),  # it could grant any limit, and has any once the setting is lifted
    (DEFAULT_RATE + 1, DEFAULT_RATE + 1, 201),
    (DEFAULT_RATE + 1, DEFAULT_RATE + 2, 403),
    (0, DEFAULT_RATE + 1, 403),
]


@pytest.mark.parametrize(("own", "wanted", "status"), RATES)
def test_a_default_limit_bounds_no_grant_and_a_keys_own_limit_bounds_each(
    paced: Flask, own: int | None, wanted: int | None, status: int
) -> None:
    other = another(paced, f"paced {own} {wanted}")
    wish = {"max_requests_per_minute": wanted}
    for answer in (
        mint(paced, made(paced, max_requests_per_minute=own), **wish),
        mint(paced, made(paced, max_requests_per_minute=own), other, scopes=["admin"], **wish),
        mint(paced, made(paced, max_requests_per_minute=own), other, **wish),
        rotate(paced, made(paced, max_requests_per_minute=own), made(paced, max_requests_per_minute=wanted)),
        rotate(paced, made(paced, max_requests_per_minute=own), made(paced, other, max_requests_per_minute=wanted)),
    ):
        assert answer.status_code == status, answer.json
        if status == 403:
            assert f"at most {own}" in answer.json["error"]["message"]


def test_who_shows_no_key_makes_none_that_asks_more_often_than_all_without_a_key(paced: Flask) -> None:
    other = another(paced, "of nobody")
    assert refused(mint(paced, None, max_requests_per_minute=DEFAULT_RATE + 1), f"at most {DEFAULT_RATE}")
    assert refused(
        mint(paced, None, other, scopes=["admin"], max_requests_per_minute=DEFAULT_RATE + 1), f"at most {DEFAULT_RATE}"
    )
    for tenant in (DEFAULT_TENANT, other):
        assert refused(mint(paced, None, tenant), f"at most {DEFAULT_RATE}")  # the next key could grant any limit
        assert mint(paced, None, tenant, max_requests_per_minute=DEFAULT_RATE).status_code == 201


def test_a_key_without_a_limit_of_its_own_grants_in_its_tenant_as_much_as_that_has(paced: Flask) -> None:
    tenant = another(paced, "most of all")
    change_tenant(paced, tenant, max_requests_per_minute=500)
    its, elsewhere = made(paced, tenant), made(paced)
    assert refused(mint(paced, its, tenant, max_requests_per_minute=501), "at most 500, as its tenant")
    for wish in ({}, {"max_requests_per_minute": DEFAULT_RATE + 1}, {"max_requests_per_minute": 500}):
        assert mint(paced, its, tenant, **wish).status_code == 201, wish
    assert (
        mint(paced, elsewhere, tenant, max_requests_per_minute=501).status_code == 201
    )  # of which the tenant's bounds 500
    assert (
        rotate(paced, its, made(paced, tenant, max_requests_per_minute=501)).status_code == 201
    )  # it was lowered since


def change_tenant(app: Flask, tenant: Any, **values: Any) -> None:
    with app.app_context(), provided(Services).db.write() as session:
        repo.change_tenant(session, tenant, values)


BOUNDS = [{"max_messages_per_day": 10}, {"max_requests_per_minute": 1000}, {"status": "suspended"}]


@pytest.mark.parametrize("bound", BOUNDS, ids=[next(iter(bound)) for bound in BOUNDS])
@pytest.mark.parametrize(
    ("limits", "wish"),
    [(limits, granted[0]) for limits, granted, _ in LIMITED],
    ids=[next(iter(one[0])) for one in LIMITED],
)
def test_a_limited_administrator_of_a_limited_tenant_stays_in_it(
    app: Flask, bound: dict[str, Any], limits: dict[str, Any], wish: dict[str, Any]
) -> None:
    name = f"inside {next(iter(bound))} {next(iter(limits))}"
    tenant, other = another(app, name), another(app, f"{name} other")
    change_tenant(app, tenant, **bound)
    change_tenant(app, other, max_messages_per_day=5, max_requests_per_minute=5)
    free, caller = made(app, tenant), made(app, tenant, **limits)

    def ask(key: keys.Minted, method: str, path: str, **body: Any) -> Any:
        return app.test_client().open(path, method=method, json=body, headers={"Authorization": f"Bearer {key.token}"})

    why = (next(iter(limits)), next(iter(bound)))
    assert mint(app, caller, tenant, **wish).status_code == 201
    assert refused(mint(app, caller, other, **wish), *why, "other tenants")
    assert refused(rotate(app, caller, made(app, other, **limits)), *why, "other tenants")
    assert refused(ask(caller, "POST", "/tenants", name=f"{name} new"), *why, "makes no tenants")
    for path in (f"/tenants/{tenant}", f"/tenants/{other}"):
        for field in ("max_messages_per_day", "max_requests_per_minute"):
            for value in (None, 1_000_000):
                if path.endswith(str(tenant)) and field not in bound:
                    continue  # of what it has no limit, nothing is more
                assert refused(ask(caller, "PATCH", path, **{field: value}), *why, field)
            lower = {"max_messages_per_day": 4, "max_requests_per_minute": 4 if path.endswith(str(other)) else 900}
            assert ask(caller, "PATCH", path, **{field: lower[field]}).status_code == 200
    change_tenant(app, tenant, **bound)
    if "status" in bound:
        assert refused(ask(caller, "PATCH", f"/tenants/{tenant}", status="active"), *why)
    assert ask(caller, "PATCH", f"/tenants/{tenant}", name=f"{name} renamed").status_code == 200
    # Whoever has no limits of its own decides what tenants may use.
    assert (
        ask(
            free,
            "PATCH",
            f"/tenants/{tenant}",
            max_messages_per_day=None,
            max_requests_per_minute=None,
            status="active",
        ).status_code
        == 200
    )
    assert ask(free, "POST", "/tenants", name=f"{name} new").status_code == 201
    # And a tenant without limits bounds nobody's.
    assert mint(app, caller, other, **wish).status_code == 201
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


def test_of_a_tenant_that_is_not_there_is_said_so_first(app: Flask) -> None:
    assert mint(app, made(app), "00000000-0000-7000-8000-00000000000f").status_code == 404
