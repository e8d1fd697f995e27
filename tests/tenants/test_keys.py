"""Tenants and keys through the front door: a real API that asks for keys, on each database."""

import base64
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
import requests
from sqlalchemy import case, update

from mailbbgun.core.caller import Scope
from mailbbgun.core.ids import DEFAULT_TENANT
from mailbbgun.messages.models import Delivery
from mailbbgun.tenants.models import ApiKey
from tests.flow.service import until
from tests.tenants.conftest import HELLO, Locked, code
from tests.waiting import PATIENCE, growing, wait_until


def test_without_a_key_or_with_none_of_ours_nothing_is_answered(locked):
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


def test_a_key_is_shown_once_and_the_database_keeps_nothing_that_it_could_be_made_of(locked):
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


def test_a_tenant_sees_only_its_own(locked):
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


def test_a_tenant_is_made_once_for_one_idempotency_key_and_a_key_is_never_told_twice(locked):
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


@pytest.mark.parametrize(("scopes", "reads", "sends", "administers"), [
    (["messages:read"], 200, 403, 403), (["messages:write"], 403, 201, 403), (["admin"], 403, 403, 200), (["accounts"], 403, 403, 403),
])  # fmt: skip
def test_a_key_does_what_its_scopes_say(locked, scopes, reads, sends, administers):
    key = locked.key(str(DEFAULT_TENANT), scopes=scopes)["key"]
    assert locked.ask("GET", "/messages", key).status_code == reads
    assert locked.ask("POST", "/messages", key, json=HELLO).status_code == sends
    assert locked.ask("GET", "/tenants", key).status_code == administers


@pytest.mark.parametrize("scope", ["templates", "webhooks", "smtp", "everything", "", "Admin"])
def test_a_scope_that_allows_nothing_is_not_granted_and_those_that_are_there_are_named(locked, scope):
    refused = locked.ask(
        "POST", f"/tenants/{DEFAULT_TENANT}/keys", locked.admin, json={"name": "k", "scopes": ["admin", scope]}
    )
    assert code(refused) == (400, "validation_error")
    (said,) = refused.json()["error"]["fields"]["scopes.1"]
    assert all(known in said for known in [f'"{scope}"', *Scope]), said


def test_a_key_of_an_older_version_with_scopes_that_allow_nothing_works_and_is_rotated_without_them(locked):
    tenant = locked.tenant("older")
    old = locked.key(tenant)
    with locked.services.db.write() as session:
        had = ["messages:read", "messages:write", "smtp", "templates", "webhooks"]
        session.execute(update(ApiKey).where(ApiKey.prefix == old["prefix"]).values(scopes=had))
    assert locked.ask("POST", "/messages", old["key"], json=HELLO).status_code == 201
    assert locked.ask("GET", "/messages", old["key"]).status_code == 200
    assert locked.ask("GET", f"/tenants/{tenant}/keys/{old['id']}", locked.admin).json()["scopes"] == had
    rotated = locked.ask("POST", f"/tenants/{tenant}/keys/{old['id']}/rotate", locked.admin, json={"hours": 1})
    assert (rotated.status_code, rotated.json()["scopes"]) == (201, ["messages:read", "messages:write"])
    assert locked.ask("GET", "/messages", rotated.json()["key"]).status_code == 200


def test_a_key_may_be_for_some_senders_networks_and_guests_only(locked):
    tenant = locked.tenant("narrow")
    sender = locked.key(tenant, senders=["Shop@Example.com", "news.example.com"])["key"]
    wanted = {
        "shop@example.com": 201,
        "Any One <any@News.example.com>": 201,
        "other@example.com": 400,
        "a@x.news.example.com": 400,
    }
    for address, status in wanted.items():
        answer = locked.ask("POST", "/messages", sender, json=HELLO | {"from": address})
        assert answer.status_code == status, answer.text
    assert "from" in answer.json()["error"]["fields"]
    elsewhere = locked.key(tenant, networks=["192.0.2.0/24"])["key"]
    assert code(locked.ask("GET", "/messages", elsewhere)) == (403, "forbidden")
    assert locked.ask("GET", "/messages", locked.key(tenant, networks=["127.0.0.0/8"])["key"]).status_code == 200
    team = locked.key(tenant, kind="team", guests=["ann@example.com", "team.example.com"])["key"]
    for to, status in (("ann@example.com", 201), ("bob@team.example.com", 201), ("bob@example.com", 400)):
        assert locked.ask("POST", "/messages", team, json=HELLO | {"to": to}).status_code == status
    assert locked.ask("POST", "/messages", team, json=HELLO | {"bcc": "bob@example.com"}).json()["error"][
        "fields"
    ].keys() == {"bcc"}


ORDERS = [  # a header, and what it gets with a key: without limits, with senders, with guests
    ("X-MC-BccAddress", "eve@evil.test", (400, 400, 400)), ("X-SMTPAPI", '{"to": ["eve@evil.test"]}', (400, 400, 400)),
    ("x-msys-api", '{"cc": [{"email": "eve@evil.test"}]}', (400, 400, 400)), ("X-SES-SOURCE-ARN", "arn:aws:ses:other", (201, 400, 400)),
    ("X-Mailgun-Recipient-Variables", '{"eve@evil.test": {}}', (201, 400, 400)), ("X-PM-Unheard-Of", "1", (201, 400, 400)),
    ("X-PM-Message-Stream", "outbound", (201, 201, 201)), ("X-PM-Tag", "order", (201, 201, 201)), ("X-Mailgun-Tag", "order", (201, 201, 201)),
    ("X-SES-CONFIGURATION-SET", "main", (201, 201, 201)), ("X-MC-Tags", "order", (201, 201, 201)), ("X-Order", "17", (201, 201, 201)),
    ("X-SMTPAPI", '{"category": ["order"]}', (201, 201, 201)),
]  # fmt: skip


def test_no_header_makes_a_provider_send_to_others_or_as_others_than_the_key_may(locked):
    tenant = locked.tenant("orders")
    limits = ({}, {"senders": ["example.com"]}, {"kind": "team", "guests": ["example.com"]})
    keys = [locked.key(tenant, **one)["key"] for one in limits]
    for name, value, statuses in ORDERS:
        for key, status, limit in zip(keys, statuses, limits, strict=True):
            answer = locked.ask("POST", "/messages", key, json=HELLO | {"headers": {name: value}})
            assert answer.status_code == status, (name, limit, answer.text)
            if status == 400:
                ((field, (why,)),) = answer.json()["error"]["fields"].items()
                assert (field, name in why) == (f"headers.{name}", True)


def sent(locked: Locked, key: str, *failed: str, **message) -> str:
    """Send a message whose deliveries to these addresses have failed, and to others have ended well; return its id."""
    answer = locked.ask("POST", "/messages", key, json=HELLO | message)
    assert answer.status_code == 201, answer.text
    status = case((Delivery.address.in_(failed), "ERROR"), else_="DELIVERED")
    with locked.services.db.write() as session:
        session.execute(
            update(Delivery)
            .where(Delivery.message_id == UUID(answer.json()["id"]))
            .values(status=status, next_attempt_at=None)
        )
    return str(answer.json()["id"])


GUEST, STRANGER = "ann@example.com", "bob@example.com"


def test_a_team_key_moves_no_mail_to_others_than_its_guests(locked):
    tenant = locked.tenant("team")
    live, test = locked.key(tenant)["key"], locked.key(tenant, kind="test")["key"]
    team = locked.key(
        tenant, kind="team", guests=[GUEST, "team.example.com"], scopes=["messages:write", "messages:read", "accounts"]
    )["key"]
    for failed in ([STRANGER], [GUEST, STRANGER]):
        identifier = sent(locked, live, *failed, to=[GUEST, STRANGER])
        before = [locked.ask("GET", f"/messages/{identifier}{path}", team).json() for path in ("", "/events")]
        answer = locked.ask("POST", f"/messages/{identifier}/retry", team)
        assert code(answer) == (403, "forbidden")
        assert STRANGER in answer.json()["error"]["message"]
        assert [locked.ask("GET", f"/messages/{identifier}{path}", team).json() for path in ("", "/events")] == before
        assert locked.ask("POST", f"/messages/{identifier}/retry", live).status_code == 200
    for fields in (
        {"to": "Bob <bob@example.com>"},
        {"to": GUEST, "cc": STRANGER},
        {"to": GUEST, "bcc": STRANGER},
        {"to": "ann@sub.team.example.com"},
    ):
        identifier = sent(locked, live, STRANGER, "ann@sub.team.example.com", **fields)
        assert code(locked.ask("POST", f"/messages/{identifier}/retry", team)) == (403, "forbidden"), fields
    with locked.services.db.write() as session:  # what waits for its next try is moved by a retry, too
        its = Delivery.message_id == UUID(identifier)
        session.execute(
            update(Delivery).where(its).values(status="PENDING", next_attempt_at=datetime.now(UTC) + timedelta(hours=1))
        )
    assert code(locked.ask("POST", f"/messages/{identifier}/retry", team)) == (403, "forbidden")
    for whose, to, failed in (
        (live, [GUEST, STRANGER], [GUEST]),
        (live, "x@team.example.com", ["x@team.example.com"]),
        (test, STRANGER, [STRANGER]),
    ):
        identifier = sent(locked, whose, *failed, to=to)  # of a test message all goes to the catcher
        assert locked.ask("POST", f"/messages/{identifier}/retry", team).status_code == 200, to
    account = {"setting_name": "a", "smtp_host": "smtp.example.com", "smtp_port": 587, "security_protocol": "STARTTLS"}
    saved = locked.ask("POST", "/smtp-accounts", team, json=account).json()["id"]
    for path, body in (("/smtp-accounts/test", account), (f"/smtp-accounts/{saved}/test", {})):
        answer = locked.ask("POST", path, team, json=body | {"to": STRANGER})
        assert (answer.status_code, list(answer.json()["error"]["fields"])) == (400, ["to"])


def test_a_key_with_senders_tries_nothing_again_that_it_could_not_have_sent(locked):
    tenant = locked.tenant("senders")
    live, shop = locked.key(tenant)["key"], locked.key(tenant, senders=["shop.example.com", "ann@example.com"])["key"]
    for fields, status in (
        ({"from": "x@shop.example.com"}, 200),
        ({"from": "Ann <Ann@Example.com>"}, 200),
        ({"from": "bob@example.com"}, 403),
        ({"from": '"ann@example.com" <bob@example.com>'}, 403),
        ({"from": "ann@example.com", "envelope_from": "bob@example.com"}, 403),
    ):
        identifier = sent(locked, live, "eve@example.com", to="eve@example.com", **fields)
        answer = locked.ask("POST", f"/messages/{identifier}/retry", shop)
        assert answer.status_code == status, fields
        assert locked.ask("POST", f"/messages/{identifier}/retry", live).status_code == (409 if status == 200 else 200)
    assert "bob@example.com" in answer.json()["error"]["message"]


def refused_by_all(locked: Locked, key: str) -> None:
    """Wait until a key that has ended is refused by every process: 40 answers in a row."""

    def status() -> int:
        with requests.Session() as fresh:  # connections are spread over processes
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


def test_a_key_is_rotated_once_for_the_next_one_would_end_with_it(locked):
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


def test_when_a_key_was_used_last_is_noted(locked):
    tenant = locked.tenant("used")
    made = locked.key(tenant)
    path = f"/tenants/{tenant}/keys/{made['id']}"
    assert locked.ask("GET", path, locked.admin).json()["last_used_at"] is None
    locked.ask("GET", "/messages", made["key"])
    until(lambda: locked.ask("GET", path, locked.admin).json()["last_used_at"], 12)


@pytest.mark.parametrize(("body", "field"), [
    ({"name": ""}, "name"), ({"name": "x" * 101}, "name"), ({"kind": "dead"}, "kind"), ({"scopes": ["root"]}, "scopes.0"),
    ({"scopes": []}, "scopes"), ({"networks": ["10.0.0.1/8"]}, "networks.0"), ({"networks": ["x"]}, "networks.0"),
    ({"senders": ["a b@c"]}, "senders.0"), ({"senders": ["a.test"] * 101}, "senders"), ({"kind": "team"}, "guests"),
    ({"guests": ["a@b.test"]}, "guests"),
    ({"expires_at": "2020-01-01"}, "expires_at"), ({"tenant_id": "x"}, "tenant_id"), ({"hash": "x"}, "hash"),
    ({"max_requests_per_minute": 0}, "max_requests_per_minute"),
])  # fmt: skip
def test_a_key_that_cannot_be_is_400_and_says_why(locked, body, field):
    answer = locked.ask("POST", f"/tenants/{DEFAULT_TENANT}/keys", locked.admin, json={"name": "k"} | body)
    assert code(answer) == (400, "validation_error")
    assert field in answer.json()["error"]["fields"]


def test_tenants_are_listed_renamed_and_have_names_of_their_own(locked):
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
