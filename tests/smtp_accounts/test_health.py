"""The health of accounts: open circuits, mails used today, unreadable passwords."""

import time
from uuid import UUID, uuid4

from sqlalchemy import insert, text, update

from mailbbgun.database.db import db_now
from mailbbgun.deliver import workers
from mailbbgun.deliver.models import RegisteredWorker
from mailbbgun.limits.models import PermitCount
from mailbbgun.smtp_accounts import repo
from mailbbgun.smtp_accounts.health import look
from tests.smtp_accounts.conftest import PASSWORD, Tenant
from tests.tenants.conftest import Locked, code

FRESH = {
    "enabled": True, "circuit": "closed", "workers": 0, "since": None, "failures": 0, "reply": None,
    "used_today": 0, "max_per_day": 100, "password_readable": True,
}  # fmt: skip


def limited_account(tenant: Tenant) -> dict:
    return tenant.account(max_per_day=100, smtp_username="u", smtp_password=PASSWORD)


def open_circuits(locked: Locked, account: dict) -> None:
    """Let a live, a silent and a deleted worker report an open circuit after 5, 7 and 9 failures."""
    alive, silent, gone = uuid4(), uuid4(), uuid4()
    with locked.services.db.write() as session:
        for worker in (alive, silent):
            workers.enter(session, worker)
        late = db_now(-workers.ALIVE_SECONDS - 1)
        session.execute(update(RegisteredWorker).where(RegisteredWorker.id == silent).values(beat_at=late))
        for worker, failures in ((alive, 5), (silent, 7), (gone, 9)):
            circuit = {"failures": failures, "reply": f"421 {failures}"}
            repo.report_circuits(session, worker, {UUID(account["id"]): circuit})


def count_mails(locked: Locked, account: dict, day: int) -> None:
    """Count 17 mails of an account on a day, in days since 1970."""
    with locked.services.db.write() as session:
        values = {"account_id": UUID(account["id"]), "free_at": 0.0, "day": day, "used": 17, "granted": 1}
        session.execute(insert(PermitCount).values(**values))


def test_a_new_account_is_healthy_and_shows_only_what_it_has(tenant):
    none = {"enabled": False, "used_today": None, "max_per_day": None, "password_readable": None}
    assert tenant.shown(limited_account(tenant))["health"] == FRESH
    assert tenant.shown(tenant.account(enabled=False))["health"] == FRESH | none


def test_health_shows_the_open_circuits_of_live_workers_only(tenant, locked):
    account = limited_account(tenant)
    open_circuits(locked, account)
    health = tenant.shown(account)["health"]
    assert health.pop("since") is not None
    expected = FRESH | {"circuit": "open", "workers": 1, "failures": 5, "reply": "421 5"}
    assert health == {name: value for name, value in expected.items() if name != "since"}


def test_health_shows_the_mails_of_this_day_unless_redis_counts_them(tenant, locked):
    today = int(time.time() // 86_400)
    account, earlier = limited_account(tenant), limited_account(tenant)
    count_mails(locked, account, today)
    count_mails(locked, earlier, today - 1)
    assert [tenant.shown(one)["health"]["used_today"] for one in (account, earlier)] == [17, 0]
    with locked.services.db.read() as session:
        row = repo.account(session, UUID(tenant.id), UUID(account["id"]))
        (elsewhere,) = look(session, locked.services.vault, [row], counted_here=False)
        assert elsewhere.used_today is None


def test_an_unreadable_password_shows_in_health_and_is_503_when_it_is_needed(tenant, locked):
    account, plain = limited_account(tenant), tenant.account()
    with locked.services.db.write() as session:
        spoil = text("UPDATE smtp_accounts SET smtp_password = 'gAAAAA' WHERE setting_name = :name")
        session.execute(spoil.bindparams(name=account["setting_name"]))
    listed = tenant.ask("GET", "/health").json()["smtp_accounts"]
    assert [(one["id"], one["password_readable"]) for one in listed] == [(plain["id"], None), (account["id"], False)]
    reveal = tenant.another("accounts:reveal")
    assert code(tenant.ask("GET", f"/{account['id']}/credentials", key=reveal)) == (503, "secret_unreadable")
    assert code(tenant.ask("POST", f"/{account['id']}/test")) == (503, "secret_unreadable")
    assert locked.ask("GET", "/audit", tenant.key).json()["count"] == 0


def test_a_deleted_account_leaves_no_counter_and_no_circuit(tenant, locked):
    account = limited_account(tenant)
    open_circuits(locked, account)
    count_mails(locked, account, 1)
    assert tenant.ask("DELETE", f"/{account['id']}").status_code == 204
    with locked.services.db.read() as session:
        for table in ("smtp_pace", "smtp_circuits"):
            ids = [UUID(str(row[0])) for row in session.execute(text(f"SELECT account_id FROM {table}"))]
            assert UUID(account["id"]) not in ids


def test_a_worker_is_gone_after_the_same_time_in_both_rooms():
    assert repo.ALIVE_SECONDS == workers.ALIVE_SECONDS
