"""Every route there is, with two tenants: what one has the other cannot see, change or tell from what is missing; and none is without a policy."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mailbbgun.app import OPEN, create_app
from mailbbgun.base.caller import Scope
from mailbbgun.base.settings import Settings
from mailbbgun.install import install
from mailbbgun.services import build
from tests.tenants.conftest import HELLO, Locked, code
from tests.waiting import PATIENCE

MISSING = "00000000-0000-7000-8000-00000000000f"
SECRET = "their-secret"
WITHOUT_BODY = ("GET", "DELETE", "HEAD")
ACCOUNT = {"setting_name": SECRET, "smtp_host": "smtp.example.com", "smtp_port": 587, "security_protocol": "STARTTLS"}


def routes(door: Locked) -> Iterator[tuple[str, str]]:
    """Give method and path of every operation that is documented; the house test compares these with what is routed."""
    for path, operations in door.call("GET", "/openapi.json").json()["paths"].items():
        for method in operations:
            if method in ("get", "post", "put", "patch", "delete"):
                yield method.upper(), path


class Owner:
    """A tenant with one of everything."""

    def __init__(self, door: Locked, name: str) -> None:
        self.tenant = door.tenant(name)
        self.key = door.key(self.tenant, scopes=[scope for scope in Scope if scope is not Scope.ADMIN])
        sent = door.ask("POST", "/messages", self.key["key"], json=HELLO | {"subject": SECRET, "tags": ["shared"]})
        self.message = sent.json()["id"]
        made = door.ask("POST", "/smtp-accounts", self.key["key"], json=ACCOUNT | {"smtp_username": "u", "smtp_password": SECRET})
        assert made.status_code == 201, made.text
        self.account = made.json()["id"]
        assert door.ask("GET", f"/smtp-accounts/{self.account}/credentials", self.key["key"]).status_code == 200

    @property
    def ids(self) -> dict[str, str]:
        """Return what stands for each parameter of a path."""
        return {"message_id": self.message, "account_id": self.account, "tenant_id": self.tenant, "key_id": self.key["id"]}


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
        if "{" not in path or path.startswith("/tenants"):
            continue
        asked.append(path)
        foreign = ask(locked, method, path, ours.key["key"], theirs.ids)
        missing = ask(locked, method, path, ours.key["key"], dict.fromkeys(theirs.ids, MISSING))
        assert code(foreign) == (404, "not_found"), (method, path)
        assert foreign.content == missing.content
        assert {**foreign.headers, "Date": "", "RateLimit-Remaining": ""} == {**missing.headers, "Date": "", "RateLimit-Remaining": ""}
    assert len(asked) >= 10
    own = locked.ask("GET", f"/messages/{theirs.message}", theirs.key["key"]).json()
    assert own["status"] == "PENDING"
    assert locked.ask("GET", f"/smtp-accounts/{theirs.account}", theirs.key["key"]).json()["setting_name"] == SECRET


def test_no_list_shows_what_another_tenant_has_whatever_it_is_filtered_by(locked: Locked, owners: tuple[Owner, Owner]) -> None:
    _, theirs = owners
    empty = locked.key(locked.tenant("empty"), scopes=[scope for scope in Scope if scope is not Scope.ADMIN])["key"]
    queries = ("", "?tag=shared", "?to=ann@example.com", "?status=PENDING", "?limit=1000", f"?after={MISSING}", "?since=2020-01-01")
    for method, path in routes(locked):
        if method != "GET" or "{" in path or path in ("/", "/health", "/ready"):
            continue
        for query in queries if path == "/messages" else queries[:1]:
            answer = locked.ask("GET", path + query, empty)
            assert SECRET not in answer.text, path
            assert not [one for one in (*theirs.ids.values(), theirs.key["prefix"]) if one in answer.text], path
            if answer.status_code == 200 and "count" in answer.json() and path != "/smtp-accounts/presets":
                assert answer.json()["count"] == 0, path


def test_all_of_tenants_is_for_administrators(locked: Locked, owners: tuple[Owner, Owner]) -> None:
    ours, theirs = owners
    for method, path in routes(locked):
        if path.startswith("/tenants"):
            for ids in (ours.ids, theirs.ids):
                assert code(ask(locked, method, path, ours.key["key"], ids)) == (403, "forbidden"), (method, path)


def test_each_route_wants_its_scope_and_a_key_of_all_others_does_not_do(locked: Locked, owners: tuple[Owner, Owner]) -> None:
    ours, _ = owners
    app = create_app(locked.services.settings)
    keys = {scope: locked.key(ours.tenant, scopes=[one for one in Scope if one is not scope])["key"] for scope in Scope}
    by_path = {}
    for rule in app.url_map.iter_rules():
        for method in rule.methods or ():
            by_path[method, re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule)] = getattr(app.view_functions[rule.endpoint], "needs", None)
    for method, path in routes(locked):
        needed = by_path[method, path]
        if needed is not None:
            answer = ask(locked, method, path, keys[needed], dict.fromkeys(ours.ids, MISSING))
            assert code(answer) == (403, "forbidden"), (method, path)
            assert needed in answer.json()["error"]["message"]


def test_every_route_says_what_it_needs_or_is_listed_as_open_and_one_that_does_not_is_shut(embedded_settings: Settings) -> None:
    services = build(embedded_settings)
    install(services)
    services.close()
    app = create_app(embedded_settings)
    for endpoint, view in app.view_functions.items():
        assert (endpoint in OPEN) != hasattr(view, "needs"), endpoint
    app.add_url_rule("/forgotten", view_func=lambda: "everything")
    answer = app.test_client().get("/forgotten")
    assert (answer.status_code, answer.json["error"]["code"]) == (403, "forbidden")


@pytest.mark.parametrize("examples", ["3", pytest.param("40", marks=pytest.mark.long)])
def test_schemathesis_finds_no_5xx_and_no_answer_that_is_not_documented(
    locked: Locked, owners: tuple[Owner, Owner], tmp_path: Path, examples: str
) -> None:
    key = locked.key(owners[0].tenant, scopes=list(Scope))["key"]
    program = Path(sys.executable).with_name("schemathesis")
    checks = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance,response_headers_conformance"
    # Left out is what connects to a server that the request names, which may be any, and /ready, which is 503 for want of a worker.
    argv = [
        sys.executable, str(program), "run", f"{locked.url}/openapi.json", "-H", f"Authorization: Bearer {key}", "--checks", checks,
        "--exclude-path-regex", "/test$|^/ready$", "--phases", "examples,coverage,fuzzing", "--max-examples", examples, "--seed", "1", "--no-color",
        "--continue-on-failure", "--warnings", "off",
    ]  # fmt: skip
    done = subprocess.run(argv, cwd=tmp_path, env={**os.environ, "NO_COLOR": "1"}, capture_output=True, text=True, timeout=4 * PATIENCE)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
