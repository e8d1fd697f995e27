"""All routes with two tenants: neither can see or change the other's data.

Neither can tell whether something of the other exists. Every route has a policy.
"""

import hashlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from mailbbgun.app import create_app
from mailbbgun.assembly import OPEN
from mailbbgun.core.caller import KeyKind, Scope
from mailbbgun.core.ids import DEFAULT_TENANT
from mailbbgun.http.gate import needs
from mailbbgun.http.provided import provided
from mailbbgun.install import install
from mailbbgun.services import Services, build
from mailbbgun.settings.settings import Settings
from mailbbgun.tenants import keys
from tests.tenants.conftest import HELLO, Locked, code
from tests.tenants.owner import ACCOUNT, SECRET, Owner
from tests.waiting import PATIENCE

MISSING = "00000000-0000-7000-8000-00000000000f"
#: What the machines of tenants' customers ask, with the token of a licence.
OF_LICENCES = tuple(f"/licences/{one}" for one in ("verify", "activate", "heartbeat", "deactivate", "revoked"))
#: Paths with signatures: of uploads, links in mail and licences. They need no key, and have tests of their own.
OF_LINKS = ("/attachments/uploads/", "/files/links/", "/unsubscribe/", "/o/", "/c/")
SIGNED = (*OF_LINKS, "/.well-known/", *OF_LICENCES)
WITHOUT_BODY = ("GET", "DELETE", "HEAD")


def routes(door: Locked) -> Iterator[tuple[str, str]]:
    """Yield method and path of every documented operation.

    ``tests/test_house.py`` compares these with the real routes.
    """
    for path, operations in door.call("GET", "/openapi.json").json()["paths"].items():
        for method in operations:
            if method in ("get", "post", "put", "patch", "delete"):
                yield method.upper(), path


def missing_of(owner: Owner) -> dict[str, str]:
    """Return values of parameters that nobody has anything of. The number of a version is no id."""
    return dict.fromkeys(owner.ids, MISSING) | {"number": "1"}


@pytest.fixture(scope="module")
def owners(locked: Locked) -> tuple[Owner, Owner]:
    return Owner(locked, "ours"), Owner(locked, "theirs")


def ask(door: Locked, method: str, path: str, key: str, ids: dict[str, str]) -> Any:
    body = {} if method in WITHOUT_BODY else {"json": {}}
    return door.ask(method, path.format(**ids), key, **body)


def test_no_route_shows_or_changes_what_another_tenant_has(locked: Locked, owners: tuple[Owner, Owner]) -> None:
    ours, theirs = owners
    asked = []
    for method, path in routes(locked):
        if "{" not in path or path.startswith(("/tenants", *SIGNED)) or (method, path) == ("PUT", "/cursors/{name}"):
            continue  # the last one makes a cursor of its own
        asked.append(path)
        foreign = ask(locked, method, path, ours.key["key"], theirs.ids)
        missing = ask(locked, method, path, ours.key["key"], missing_of(theirs))
        assert code(foreign) == (404, "not_found"), (method, path)
        assert foreign.content == missing.content
        assert {**foreign.headers, "Date": "", "RateLimit-Remaining": ""} == {
            **missing.headers,
            "Date": "",
            "RateLimit-Remaining": "",
        }
    assert len(asked) >= 10
    for foreign in ({"account": theirs.slack_account}, {"thread": theirs.slack_message}):
        refused = locked.ask("POST", "/slack/messages", ours.key["key"], json={"text": "x", "channel": "#x"} | foreign)
        assert code(refused) == (400, "validation_error"), refused.text
    own = locked.ask("GET", f"/messages/{theirs.message}", theirs.key["key"]).json()
    assert own["status"] == "PENDING"
    assert locked.ask("GET", f"/smtp-accounts/{theirs.account}", theirs.key["key"]).json()["setting_name"] == SECRET


def test_no_list_shows_what_another_tenant_has_whatever_it_is_filtered_by(
    locked: Locked, owners: tuple[Owner, Owner]
) -> None:
    _, theirs = owners
    empty = locked.key(locked.tenant("empty"), scopes=[scope for scope in Scope if scope is not Scope.ADMIN])["key"]
    queries = (
        "",
        "?tag=shared",
        "?to=ann@example.com",
        "?status=PENDING",
        "?limit=1000",
        f"?after={MISSING}",
        "?since=2020-01-01",
    )
    for method, path in routes(locked):
        if method != "GET" or "{" in path or path in ("/", "/health", "/ready"):
            continue
        for query in queries if path == "/messages" else queries[:1]:
            answer = locked.ask("GET", path + query, empty)
            assert SECRET not in answer.text, path
            if path == "/suppressions/export" or path.startswith("/exports/"):
                continue  # which is no JSON
            assert not [
                one for one in (*theirs.ids.values(), theirs.key["prefix"]) if len(one) > 1 and one in answer.text
            ], path
            if answer.status_code == 200 and "count" in answer.json() and path != "/smtp-accounts/presets":
                assert answer.json()["count"] == 0, path


def test_only_administrators_use_routes_of_tenants(locked: Locked, owners: tuple[Owner, Owner]) -> None:
    ours, theirs = owners
    for method, path in routes(locked):
        if path.startswith("/tenants"):
            for ids in (ours.ids, theirs.ids):
                assert code(ask(locked, method, path, ours.key["key"], ids)) == (403, "forbidden"), (method, path)


def world(door: Locked, owner: Owner) -> dict[str, Any]:
    """Return all live data of an owner: messages, accounts, tenant and keys."""
    message = f"/messages/{owner.message}"
    paths = (message, f"{message}/events", "/smtp-accounts", "/attachments", "/files")
    shown = {path: door.ask("GET", path, owner.key["key"]).json() for path in paths}
    shown |= {
        path: door.ask("GET", path, door.admin).json()
        for path in (f"/tenants/{owner.tenant}", f"/tenants/{owner.tenant}/keys")
    }
    for key in shown[f"/tenants/{owner.tenant}/keys"]["keys"]:
        key.pop("last_used_at")
    return shown


def test_no_route_shows_live_data_to_a_test_key_or_lets_it_change_them(
    locked: Locked, owners: tuple[Owner, Owner]
) -> None:
    ours, _ = owners
    made = locked.key(ours.tenant, kind="test", scopes=list(Scope))
    before, asked = world(locked, ours), 0
    bodies: tuple[Any, ...] = (
        {},
        {"name": "x"},
        {"hours": 1},
        HELLO,
        {"is_default": True},
        ACCOUNT | {"setting_name": "another"},
    )
    for method, path in routes(locked):
        if path in ("/", "/health", "/ready") or path.startswith(SIGNED):
            continue
        for body in bodies if method not in WITHOUT_BODY else [None]:
            options = {} if body is None else {"json": body}
            live = locked.ask(method, path.format(**ours.ids), made["key"], **options)
            missing = locked.ask(method, path.format(**missing_of(ours)), made["key"], **options)
            assert SECRET not in live.text, (method, path)
            if path.startswith(("/messages/", "/attachments/{", "/files/{")):
                assert (live.status_code, live.content) == (missing.status_code, missing.content), (method, path)
                assert live.status_code in (400, 404), (method, path)
            elif path.startswith(("/suppressions", "/batches", "/templates", "/events", "/exports")):
                # They have those of their own.
                assert (live.status_code, live.content) == (missing.status_code, missing.content), (method, path)
            elif not path.startswith(("/messages", "/attachments", "/files", "/statistics", "/slack/messages")):
                assert code(live) == (403, "test_key"), (method, path)
            asked += 1
    assert asked > 30
    assert world(locked, ours) == before


def test_a_test_key_works_with_test_data_and_a_live_key_sees_both(locked: Locked) -> None:
    tenant = locked.tenant("two worlds")
    live, test = locked.key(tenant)["key"], locked.key(tenant, kind="test")["key"]
    sent = {}
    for name, key in (("live", live), ("test", test)):
        sent[name] = locked.ask("POST", "/messages", key, json=HELLO | {"subject": name, "tags": ["both"]}).json()["id"]
    queries = ("", "?tag=both", "?to=ann@example.com", "?status=PENDING", "?since=2020-01-01", "?test=true", "?limit=1")
    for query in queries:
        page = locked.ask("GET", f"/messages{query}", test).json()
        assert ([one["id"] for one in page["messages"]], page["count"]) == ([sent["test"]], 1), query
    assert locked.ask("GET", "/messages?limit=0", test).json()["count"] == 1
    assert locked.ask("GET", "/messages?test=false", test).json() == {"messages": [], "count": 0}
    assert [one["id"] for one in locked.ask("GET", "/messages", live).json()["messages"]] == [
        sent["test"],
        sent["live"],
    ]
    for path in ("", "/raw", "/events"):
        assert locked.ask("GET", f"/messages/{sent['test']}{path}", test).status_code == 200
        assert locked.ask("GET", f"/messages/{sent['test']}{path}", live).status_code == 200
        assert code(locked.ask("GET", f"/messages/{sent['live']}{path}", test)) == (404, "not_found")
    assert code(locked.ask("POST", f"/messages/{sent['live']}/retry", test)) == (404, "not_found")
    assert code(locked.ask("DELETE", f"/messages/{sent['live']}", test)) == (404, "not_found")
    assert code(locked.ask("POST", f"/messages/{sent['test']}/retry", test)) == (409, "conflict")
    assert locked.ask("DELETE", f"/messages/{sent['test']}", test).json()["status"] == "CANCELLED"
    assert [
        event["kind"] for event in locked.ask("GET", f"/messages/{sent['test']}/events", test).json()["events"]
    ] == ["cancelled", "accepted"]
    assert locked.ask("GET", f"/messages/{sent['live']}", live).json()["status"] == "PENDING"


def test_test_keys_and_live_keys_do_not_share_idempotency_keys(locked: Locked) -> None:
    tenant = locked.tenant("idempotent worlds")
    live, test = locked.key(tenant)["key"], locked.key(tenant, kind="test")["key"]
    with_key = {"headers": {"Idempotency-Key": "order 1"}, "json": HELLO}
    first, theirs, again = (locked.ask("POST", "/messages", key, **with_key) for key in (live, test, live))
    assert [answer.status_code for answer in (first, theirs, again)] == [201, 201, 201]
    assert first.json()["id"] == again.json()["id"] != theirs.json()["id"]


def test_no_idempotency_key_of_the_default_tenant_matches_one_of_another_tenant(locked: Locked) -> None:
    tenant = locked.tenant("met")
    theirs = locked.ask(
        "POST", "/messages", locked.key(tenant)["key"], json=HELLO, headers={"Idempotency-Key": "order 1"}
    )
    chosen = hashlib.sha256(UUID(tenant).bytes + b"order 1").hexdigest()
    for key in (locked.admin, locked.key(str(DEFAULT_TENANT), kind="test")["key"]):
        for _ in range(2):
            ours = locked.ask("POST", "/messages", key, json=HELLO, headers={"Idempotency-Key": chosen})
            assert (ours.status_code, ours.json()["id"] != theirs.json()["id"]) == (201, True)


def test_a_key_with_all_scopes_but_the_one_a_route_needs_is_403(locked: Locked, owners: tuple[Owner, Owner]) -> None:
    ours, _ = owners
    app = create_app(locked.services.settings)
    lacking = {
        scope: locked.key(ours.tenant, scopes=[one for one in Scope if one is not scope])["key"] for scope in Scope
    }
    by_path = {}
    for rule in app.url_map.iter_rules():
        for method in rule.methods or ():
            by_path[method, re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule)] = getattr(
                app.view_functions[rule.endpoint], "needs", None
            )
    for method, path in routes(locked):
        if path.startswith(SIGNED):
            continue
        needed = by_path[method, path]
        if needed is not None:
            answer = ask(locked, method, path, lacking[needed], missing_of(ours))
            assert code(answer) == (403, "forbidden"), (method, path)
            assert needed in answer.json()["error"]["message"]


def test_every_route_names_its_scope_or_is_listed_as_open_and_any_other_is_403(
    embedded_settings: Settings,
) -> None:
    services = build(embedded_settings)
    install(services)
    services.close()
    app = create_app(embedded_settings)
    for endpoint, view in app.view_functions.items():
        assert (endpoint in OPEN) != hasattr(view, "needs"), endpoint
    app.add_url_rule("/scoped", "scoped", view_func=needs(Scope.READ)(lambda: "everything live"))
    app.add_url_rule("/forgotten", "forgotten", view_func=lambda: "everything")
    with app.app_context(), provided(Services).db.write() as session:
        test_key = keys.create(
            session, provided(Services).vault, DEFAULT_TENANT, keys.KeySpec(name="t", kind=KeyKind.TEST)
        ).token
    shut = app.test_client().get("/scoped", headers={"Authorization": f"Bearer {test_key}"})
    assert (shut.status_code, shut.json["error"]["code"]) == (403, "test_key")
    answer = app.test_client().get("/forgotten")
    assert (answer.status_code, answer.json["error"]["code"]) == (403, "forbidden")


@pytest.mark.parametrize(
    ("locked", "phases", "examples"),
    [
        ("sqlite", "examples,fuzzing", "3"),
        *(
            pytest.param(database, "examples,coverage,fuzzing", most, marks=pytest.mark.long)
            for database, most in (("sqlite", "10"), ("postgresql", "40"))
        ),
    ],
    indirect=["locked"],
)
def test_schemathesis_finds_no_5xx_and_no_answer_that_is_not_documented(
    locked: Locked, owners: tuple[Owner, Owner], tmp_path: Path, phases: str, examples: str
) -> None:
    key = locked.key(owners[0].tenant, scopes=list(Scope))["key"]
    program = Path(sys.executable).with_name("schemathesis")
    conformance = ("status_code", "content_type", "response_schema", "response_headers")
    checks = ",".join(["not_a_server_error", *(f"{name}_conformance" for name in conformance)])
    # Routes that connect to a server named by the request are left out, since it may be any server;
    # so is /ready, which is 503 without a worker.
    argv = [
        sys.executable, str(program), "run", f"{locked.url}/openapi.json", "-H", f"Authorization: Bearer {key}",
        "--checks", checks, "--exclude-path-regex", "/test$|^/ready$|/check$", "--phases", phases,
        "--max-examples", examples, "--seed", "1", "--no-color", "--continue-on-failure", "--warnings", "off",
    ]  # fmt: skip
    done = subprocess.run(
        argv, cwd=tmp_path, env={**os.environ, "NO_COLOR": "1"}, capture_output=True, text=True, timeout=4 * PATIENCE
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
