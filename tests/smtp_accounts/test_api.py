"""Who may see, change and use an account and its password."""

import pytest
from sqlalchemy import text

from tests.flow.service import until
from tests.smtp_accounts.conftest import MANAGER, PASSWORD, USER, Tenant, settings_of, step, wrong
from tests.tenants.conftest import code


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


def test_an_account_of_another_tenant_is_answered_like_one_that_does_not_exist(tenant, locked, provider):
    theirs = Tenant(locked, *MANAGER, "accounts:reveal")
    account = theirs.ask("POST", "", json=settings_of(provider)).json()
    mine = Tenant(locked, *MANAGER, "accounts:reveal")
    for method, path, body in (
        ("GET", "", None),
        ("PATCH", "", {"weight": 2}),
        ("DELETE", "", None),
        ("GET", "/credentials", None),
        ("POST", "/test", {}),
    ):
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


def test_only_the_scope_accounts_reveal_reads_a_password_and_each_reading_is_in_the_audit(tenant, locked, provider):
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


def test_a_suspended_tenant_changes_and_tests_no_account(tenant, locked, provider):
    account = tenant.account()
    locked.ask("PATCH", f"/tenants/{tenant.id}", locked.admin, json={"status": "suspended"})
    until(lambda: tenant.ask("PATCH", f"/{account['id']}", json={"enabled": True}).status_code == 403, 1.5)
    for path in ("/test", f"/{account['id']}/test"):
        assert code(tenant.ask("POST", path, json={})) == (403, "tenant_suspended")
    assert tenant.shown(account)["weight"] == 1


def test_no_password_is_in_a_log_or_in_a_dump_of_the_database(tenant, locked, provider, tmp_path):
    account = tenant.ask("POST", "", json=settings_of(provider)).json()
    refused = tenant.ask("POST", "/test", json=settings_of(provider) | {"smtp_password": "not-the-pass-word"})
    assert step(refused, "auth")["code"] == 535
    assert tenant.ask("GET", "/default/credentials", key=tenant.another("accounts:reveal")).ok
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
        for secret in (b"s3cret", b"not-the-pass-word"):  # ASCII, so that no escaping hides them
            assert secret not in shown
