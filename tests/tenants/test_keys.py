"""Tenants and keys through the front door: a real API that asks for keys, on each database."""

import base64
from datetime import UTC, datetime, timedelta

import pytest
import requests

from mailbbgun.core.ids import DEFAULT_TENANT
from tests.flow.service import until
from tests.tenants.conftest import HELLO, Locked, code
from tests.waiting import PATIENCE, growing, wait_until


def test_a_request_without_a_valid_key_is_401(locked):
    real = locked.admin
    other = real[:-1] + ("a" if real[-1] != "a" else "b")
    for key in (
        None,
        "",
        "nonsense",
        real[:-1],
        other,
        f"mbg_{'x' * 12}_{'y' * 43}",
        real + "é".encode().decode("latin-1"),
    ):
        assert code(locked.ask("GET", "/messages", key)) == (401, "unauthorized"), key
        assert code(locked.ask("POST", "/messages", key, json=HELLO)) == (401, "unauthorized"), key
    assert "WWW-Authenticate" in locked.ask("GET", "/messages").headers
    for open_ in ("/", "/health", "/openapi.json", "/docs"):
        assert locked.ask("GET", open_).status_code == 200


def test_a_key_is_shown_as_bearer_or_as_the_password_of_basic(locked):
    basic = base64.b64encode(f"api:{locked.admin}".encode()).decode()
    for value in (f"Bearer {locked.admin}", f"bearer {locked.admin}", f"Basic {basic}"):
        assert locked.call("GET", "/messages", headers={"Authorization": value}).status_code == 200
    assert locked.call("POST", "/messages", json=HELLO, auth=("api", locked.admin)).status_code == 201


def test_a_key_is_shown_once_and_cannot_be_recovered_from_the_database(locked):
    tenant = locked.tenant("once")
    made = locked.key(tenant)
    secret = made["key"].rpartition("_")[2]
    shown = locked.ask("GET", f"/tenants/{tenant}/keys", locked.admin).json()["keys"]
    assert [one["id"] for one in shown] == [made["id"]]
    assert secret not in str(shown)
    with locked.services.db.read() as session:
        kept = str(session.connection().exec_driver_sql("SELECT * FROM api_keys").all())
        kept += str(session.connection().exec_driver_sql("SELECT * FROM secrets").all())
    assert secret not in kept
    assert made["prefix"] in kept
    assert secret not in (locked.var / "api.out").read_text()


def test_a_tenant_sees_only_its_own_messages(locked):
    one, other = (locked.key(locked.tenant(name))["key"] for name in ("one", "other"))
    sent = locked.ask("POST", "/messages", one, json=HELLO | {"tags": ["both"]}).json()["id"]
    theirs = locked.ask("POST", "/messages", other, json=HELLO | {"tags": ["both"]}).json()["id"]
    for query in ("", "?tag=both", "?to=ann@example.com", "?status=PENDING"):
        listed = locked.ask("GET", f"/messages{query}", one).json()
        assert ([message["id"] for message in listed["messages"]], listed["count"]) == ([sent], 1)
    for method, path in (("GET", ""), ("GET", "/raw"), ("GET", "/events"), ("DELETE", ""), ("POST", "/retry")):
        foreign = locked.ask(method, f"/messages/{theirs}{path}", one)
        missing = locked.ask(method, f"/messages/{locked.services and '0' * 8}-0000-7000-8000-000000000000{path}", one)
        assert code(foreign) == (404, "not_found")
        assert foreign.content == missing.content


def test_two_tenants_may_use_one_idempotency_key(locked):
    one, other = (locked.key(locked.tenant(name))["key"] for name in ("idem one", "idem other"))
    with_key = {"headers": {"Idempotency-Key": "order 1"}, "json": HELLO}
    first, theirs, again = (locked.ask("POST", "/messages", key, **with_key) for key in (one, other, one))
    assert [answer.status_code for answer in (first, theirs, again)] == [201, 201, 201]
    assert first.json()["id"] == again.json()["id"] != theirs.json()["id"]


def test_an_idempotency_key_makes_one_tenant_and_is_refused_for_keys(locked):
    with_key = {"headers": {"Idempotency-Key": "tenant 1"}, "json": {"name": "made once"}}
    first, again = (locked.ask("POST", "/tenants", locked.admin, **with_key) for _ in range(2))
    assert (first.status_code, again.status_code, again.headers["Idempotent-Replayed"]) == (201, 201, "true")
    assert (first.json(), first.headers["Location"]) == (again.json(), again.headers["Location"])
    assert locked.ask("GET", first.headers["Location"].removeprefix(locked.url), locked.admin).json() == first.json()
    other = locked.ask("POST", "/tenants", locked.admin, **with_key | {"json": {"name": "another"}})
    assert code(other) == (422, "idempotency_mismatch")
    keys_of = f"/tenants/{first.json()['id']}/keys"
    made = locked.key(first.json()["id"])
    for path, body in ((keys_of, {"name": "k"}), (f"{keys_of}/{made['id']}/rotate", {})):
        refused = locked.ask("POST", path, locked.admin, json=body, headers=with_key["headers"])
        assert (code(refused), list(refused.json()["error"]["fields"])) == (
            (400, "validation_error"),
            ["Idempotency-Key"],
        )
    assert locked.ask("GET", keys_of, locked.admin).json()["count"] == 1


def refused_by_all(locked: Locked, key: str) -> None:
    """Wait until every process refuses a key that has ended: 40 answers in a row."""

    def status() -> int:
        with requests.Session() as fresh:  # new connections are spread over all processes
            return fresh.get(
                f"{locked.url}/messages", headers={"Authorization": f"Bearer {key}"}, timeout=PATIENCE
            ).status_code

    wait_until(lambda: all(status() == 401 for _ in range(40)), "the end of a key in every process")


def test_revoked_expired_and_rotated_keys_end_soon_in_every_process(locked):
    tenant = locked.tenant("ends")
    revoked, rotated = locked.key(tenant), locked.key(tenant)
    for key in (revoked, rotated):
        for _ in range(20):
            assert (
                requests.get(
                    f"{locked.url}/messages", headers={"Authorization": f"Bearer {key['key']}"}, timeout=PATIENCE
                ).status_code
                == 200
            )
    gone = locked.ask("DELETE", f"/tenants/{tenant}/keys/{revoked['id']}", locked.admin)
    assert gone.json()["revoked_at"]
    refused_by_all(locked, revoked["key"])
    new = locked.ask("POST", f"/tenants/{tenant}/keys/{rotated['id']}/rotate", locked.admin, json={"hours": 0})
    assert new.status_code == 201
    refused_by_all(locked, rotated["key"])
    assert locked.ask("GET", "/messages", new.json()["key"]).status_code == 200
    kept = locked.ask("POST", f"/tenants/{tenant}/keys/{new.json()['id']}/rotate", locked.admin)
    assert (kept.status_code, locked.ask("GET", "/messages", new.json()["key"]).status_code) == (201, 200)
    assert code(locked.ask("POST", f"/tenants/{tenant}/keys/{revoked['id']}/rotate", locked.admin)) == (409, "conflict")
    for seconds in growing(1.0):
        soon = locked.key(
            tenant, expires_at=(datetime.now(UTC) + timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")
        )
        if locked.ask("GET", "/messages", soon["key"]).status_code == 200:  # before it has ended
            break
    refused_by_all(locked, soon["key"])


def test_a_key_is_rotated_only_once(locked):
    tenant = locked.tenant("rotating")
    key = locked.key(tenant, expires_at="2100-01-01")
    path = f"/tenants/{tenant}/keys/{{}}/rotate"
    first = locked.ask("POST", path.format(key["id"]), locked.admin, json={"hours": 1})
    assert (first.status_code, first.json()["expires_at"]) == (201, "2100-01-01T00:00:00.000Z")
    again = locked.ask("POST", path.format(key["id"]), locked.admin, json={"hours": 1})
    assert code(again) == (409, "conflict")
    assert "rotated before" in again.json()["error"]["message"]
    assert locked.ask("POST", path.format(first.json()["id"]), locked.admin, json={"hours": 1}).status_code == 201


def test_a_suspended_tenant_reads_and_changes_nothing_within_a_second(locked):
    tenant = locked.tenant("suspended")
    key = locked.key(tenant)["key"]
    sent = locked.ask("POST", "/messages", key, json=HELLO).json()["id"]
    assert (
        locked.ask("PATCH", f"/tenants/{tenant}", locked.admin, json={"status": "suspended"}).json()["status"]
        == "suspended"
    )
    until(lambda: locked.ask("POST", "/messages", key, json=HELLO).status_code == 403, 1.0)
    assert code(locked.ask("DELETE", f"/messages/{sent}", key)) == (403, "tenant_suspended")
    assert locked.ask("GET", f"/messages/{sent}", key).status_code == 200
    locked.ask("PATCH", f"/tenants/{tenant}", locked.admin, json={"status": "active"})
    until(lambda: locked.ask("POST", "/messages", key, json=HELLO).status_code == 201, 1.5)


def test_the_last_use_of_a_key_is_recorded(locked):
    tenant = locked.tenant("used")
    made = locked.key(tenant)
    path = f"/tenants/{tenant}/keys/{made['id']}"
    assert locked.ask("GET", path, locked.admin).json()["last_used_at"] is None
    locked.ask("GET", "/messages", made["key"])
    until(lambda: locked.ask("GET", path, locked.admin).json()["last_used_at"], 12)


@pytest.mark.parametrize(("body", "field"), [
    ({"name": ""}, "name"), ({"name": "x" * 101}, "name"), ({"kind": "dead"}, "kind"),
    ({"scopes": ["root"]}, "scopes.0"), ({"scopes": []}, "scopes"), ({"networks": ["10.0.0.1/8"]}, "networks.0"),
    ({"networks": ["x"]}, "networks.0"), ({"senders": ["a b@c"]}, "senders.0"),
    ({"senders": ["a.test"] * 101}, "senders"), ({"kind": "team"}, "guests"), ({"guests": ["a@b.test"]}, "guests"),
    ({"expires_at": "2020-01-01"}, "expires_at"), ({"tenant_id": "x"}, "tenant_id"), ({"hash": "x"}, "hash"),
    ({"max_requests_per_minute": 0}, "max_requests_per_minute"),
])  # fmt: skip
def test_an_impossible_value_of_a_key_is_400_and_names_its_field(locked, body, field):
    answer = locked.ask("POST", f"/tenants/{DEFAULT_TENANT}/keys", locked.admin, json={"name": "k"} | body)
    assert code(answer) == (400, "validation_error")
    assert field in answer.json()["error"]["fields"]


def test_tenants_are_listed_and_renamed_and_have_unique_names(locked):
    first, second = locked.tenant("list a"), locked.tenant("list b")
    assert code(locked.ask("POST", "/tenants", locked.admin, json={"name": "list a"})) == (409, "conflict")
    assert code(locked.ask("PATCH", f"/tenants/{second}", locked.admin, json={"name": "list a"})) == (409, "conflict")
    page = locked.ask("GET", "/tenants?limit=2", locked.admin)
    assert [one["name"] for one in page.json()["tenants"]] == ["list b", "list a"]
    after = locked.call(
        "GET", page.links["next"]["url"].removeprefix(locked.url), headers={"Authorization": f"Bearer {locked.admin}"}
    )
    assert first not in str(after.json())
    wanted = {"name": "list c", "max_messages_per_day": 5}
    changed = locked.ask("PATCH", f"/tenants/{first}", locked.admin, json=wanted).json()
    assert tuple(changed[name] for name in ("name", "max_messages_per_day", "status")) == ("list c", 5, "active")
    missing = "00000000-0000-7000-8000-00000000000f"
    key = f"/keys/{missing}"
    for method, path in (
        ("GET", ""),
        ("PATCH", ""),
        ("GET", "/keys"),
        ("POST", "/keys"),
        ("GET", key),
        ("DELETE", key),
    ):
        body = {"json": {"name": "x"}} if method in ("POST", "PATCH") else {}
        assert code(locked.ask(method, f"/tenants/{missing}{path}", locked.admin, **body)) == (404, "not_found")
