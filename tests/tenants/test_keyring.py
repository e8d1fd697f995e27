"""The cache of keys: it notices every change, and looks unknown keys up together."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import event, insert, text, update

from mailbbgun.core.errors import Unauthorized
from mailbbgun.core.ids import DEFAULT_TENANT, new_id
from mailbbgun.database.db import Database
from mailbbgun.install import install
from mailbbgun.services import Services, build
from mailbbgun.settings.load import load
from mailbbgun.smtp_accounts.models import SMTPAccount
from mailbbgun.smtp_accounts.sender import identities
from mailbbgun.tenants import keys, repo
from mailbbgun.tenants.authenticate import Authenticator
from mailbbgun.tenants.keyring import FRESH_SECONDS, MOST_ROWS, Keyring
from tests import tables
from tests.flow.service import until
from tests.waiting import PATIENCE, pause

ACCOUNT = {
    "setting_name": "first", "smtp_host": "smtp.example.com", "smtp_port": 587, "security_protocol": "STARTTLS",
    "is_default": True, "recipient_domains": [], "priority": 10, "weight": 1, "max_connections": 5, "enabled": True,
    "from_email": "shop@example.com",
}  # fmt: skip


@pytest.fixture(params=["sqlite", "postgresql"])
def services(request: pytest.FixtureRequest, tmp_path: Any) -> Iterator[Services]:
    environment = {"MAILBBGUN_VAR": str(tmp_path / "var"), "MAILBBGUN_HOSTNAME": "mail.example.com"}
    if request.param == "postgresql":
        server = request.getfixturevalue("postgresql")
        environment["MAILBBGUN_DATABASE_URL"] = server.url(tables.database_of(server))
    made = build(load(environment))
    tables.put_into(made.db)
    install(made)
    yield made
    made.close()


class Still(Keyring):
    """A keyring without a thread; it checks for changes when the test says so."""

    def _run(self) -> None:
        pass

    def look(self) -> None:
        self._check_for_changes()


@pytest.fixture
def ring(services: Services) -> Still:
    return Still(services.db, identities, None)


def mint(services: Services, **values: Any) -> keys.Minted:
    with services.db.write() as session:
        return keys.create(session, services.vault, DEFAULT_TENANT, keys.KeySpec(**{"name": "k"} | values))


class Statements:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.count = self.running = self.most = 0


@contextmanager
def watched(db: Database, seconds: float = 0.0) -> Iterator[Statements]:
    """Count statements that read keys, and how many run at once; slow each by ``seconds``."""
    seen = Statements()

    def begins(*args: Any) -> None:
        if "api_keys" in args[2]:
            with seen.lock:
                seen.count += 1
                seen.running += 1
                seen.most = max(seen.most, seen.running)
            pause(seconds)

    def ends(*args: Any) -> None:
        if "api_keys" in args[2]:
            with seen.lock:
                seen.running -= 1

    event.listen(db.engine, "before_cursor_execute", begins)
    event.listen(db.engine, "after_cursor_execute", ends)
    try:
        yield seen
    finally:
        event.remove(db.engine, "before_cursor_execute", begins)
        event.remove(db.engine, "after_cursor_execute", ends)


def test_keys_in_use_are_read_again_only_when_something_has_changed(services: Services, ring: Still) -> None:
    prefix = mint(services).key.prefix
    ring.look_up(prefix)
    ring.look()  # the first check knows no count yet, so it reads the keys
    with watched(services.db) as seen:
        for _ in range(5):
            ring.look()
        assert seen.count == 0
        assert ring.get(prefix) is not None
        mint(services)
        before = seen.count
        ring.look()
        assert seen.count == before + 1
        ring.look()
        assert seen.count == before + 1


def add_account(session: Any) -> None:
    now = datetime.now(UTC)
    session.execute(
        insert(SMTPAccount).values(id=new_id(), tenant_id=DEFAULT_TENANT, created_at=now, updated_at=now, **ACCOUNT)
    )


def change(services: Services, name: str, key: UUID) -> None:
    """Change something, as another process would."""
    with services.db.write() as session:
        if name == "revoked":
            repo.revoke(session, DEFAULT_TENANT, key)
        elif name == "rotated":
            repo.mark_rotated(session, DEFAULT_TENANT, key, 0)
        elif name == "suspended":
            repo.change_tenant(session, DEFAULT_TENANT, {"status": "suspended"})
        elif name == "limited":
            repo.change_tenant(session, DEFAULT_TENANT, {"max_messages_per_day": 5})
        elif name == "account":
            add_account(session)
        elif name == "account changed":
            session.execute(update(SMTPAccount).values(from_email="other@example.com"))
        elif name == "account deleted":
            session.execute(text("DELETE FROM smtp_accounts"))
        else:
            session.execute(
                text("DELETE FROM api_keys WHERE id = :id"), {"id": key.hex if services.db.dialect == "sqlite" else key}
            )


@pytest.mark.parametrize(
    "name",
    ["revoked", "rotated", "suspended", "limited", "account", "account changed", "account deleted", "key deleted"],
)
def test_the_next_check_notices_every_change(services: Services, ring: Still, name: str) -> None:
    key = mint(services).key
    with services.db.write() as session:
        if name.startswith("account "):
            add_account(session)
    before = ring.look_up(key.prefix)
    ring.look()
    change(services, name, key.id)
    ring.look()
    after = ring.get(key.prefix)
    if name == "key deleted":
        assert after is None
    elif name in ("revoked", "rotated"):
        assert after is not None
        assert (before.over, after.over) == (False, True)
    else:
        assert after is not None
        assert after.caller != before.caller


def test_the_use_of_a_key_is_no_change(services: Services, ring: Still) -> None:
    key = mint(services).key
    ring.look_up(key.prefix)
    ring.look()
    with services.db.write() as session:
        repo.record_uses(session, {key.id: datetime.now(UTC)})
    with watched(services.db) as seen:
        ring.look()
    assert seen.count == 0


def test_a_key_expires_without_a_check(services: Services, ring: Still) -> None:
    key = mint(services, expires_at=datetime.now(UTC) + timedelta(seconds=2)).key
    known = ring.look_up(key.prefix)
    assert until(lambda: known.over, what="the key's end")


def test_cached_keys_become_stale_while_the_database_cannot_be_read(services: Services, ring: Still) -> None:
    prefix = mint(services).key.prefix
    ring.look_up(prefix)
    ring.look()
    with services.db.write() as session:
        for table in ("key_changes", "tenants"):
            session.execute(text(f"ALTER TABLE {table} RENAME TO away_{table}"))
    with pytest.raises(Exception, match=r"."):
        ring.look()
    until(lambda: ring.get(prefix) is None, what=f"{FRESH_SECONDS} s")
    with services.db.write() as session:
        for table in ("key_changes", "tenants"):
            session.execute(text(f"ALTER TABLE away_{table} RENAME TO {table}"))
    ring.look()
    assert ring.get(prefix) is not None


def test_on_a_schema_without_the_count_of_changes_every_check_reads_the_keys(services: Services, ring: Still) -> None:
    key = mint(services).key
    ring.look_up(key.prefix)
    with services.db.write() as session:
        for table in ("api_keys", "tenants", "smtp_accounts"):
            for name in ("_insert", "_update", "_delete") if services.db.dialect == "sqlite" else ("",):
                session.execute(
                    text(f"DROP TRIGGER count_changes_of_{table}{name}" + (f" ON {table}" if not name else ""))
                )
        session.execute(text("DROP TABLE key_changes"))
    ring.look()
    change(services, "revoked", key.id)
    ring.look()
    known = ring.get(key.prefix)
    assert known is not None
    assert known.over


def test_the_count_of_changes_is_summed_up(services: Services, ring: Still) -> None:
    prefix = mint(services).key.prefix
    ring.look_up(prefix)
    ring.look()
    for _ in range(MOST_ROWS + 1):
        change(services, "limited", new_id())
    ring.look()
    with services.db.read() as session:
        counted = repo.changes(session, sure=True)
    assert counted is not None
    assert (counted.rows, counted.n > MOST_ROWS) == (1, True)
    with watched(services.db) as seen:
        ring.look()
    assert seen.count == 0


def test_many_guesses_at_once_are_looked_up_through_one_connection(services: Services) -> None:
    real = mint(services)
    authenticator = Authenticator(services.db, services.vault, identities, required=True)
    authenticator.caller(f"Bearer {real.token}", None)

    def guess(number: int) -> None:
        with pytest.raises(Unauthorized):
            authenticator.caller(f"Bearer mbg_{number:012}_{'y' * 43}", None)

    with watched(services.db, 0.02) as seen, ThreadPoolExecutor(16) as threads:
        list(threads.map(guess, range(160)))
        assert seen.most <= 2  # the guesses, and the check for changes
        assert seen.count < 100
    authenticator.close()


def test_a_valid_key_among_guesses_is_found(services: Services) -> None:
    tokens = [mint(services).token for _ in range(8)]
    authenticator = Authenticator(services.db, services.vault, identities, required=True)
    shown = [token for number in range(40) for token in (f"mbg_{number:012}_{'y' * 43}", tokens[number % 8])]

    def taken(token: str) -> bool:
        try:
            return bool(authenticator.caller(f"Bearer {token}", None))
        except Unauthorized:
            return False

    with ThreadPoolExecutor(16) as threads:
        assert list(threads.map(taken, shown)) == [token in tokens for token in shown]
    authenticator.close()


def test_malformed_keys_and_keys_that_were_just_unknown_are_not_looked_up(services: Services) -> None:
    authenticator = Authenticator(services.db, services.vault, identities, required=True)
    unknown = f"mbg_{'x' * 12}_{'y' * 43}"
    with pytest.raises(Unauthorized):
        authenticator.caller(f"Bearer {unknown}", None)
    with watched(services.db) as seen:
        for token in (unknown, unknown[:-1] + "z", "nonsense", unknown[:-1], unknown + "y", unknown.upper(), ""):
            assert authenticator.at_hand(f"Bearer {token}")
            with pytest.raises(Unauthorized):
                authenticator.caller(f"Bearer {token}", None)
        assert seen.count == 0
    authenticator.close()


class Held:
    """A database and a reader of identities that wait until the test lets them go.

    ``read`` waits in the thread ``look``, ``identities`` in the thread ``request``.
    """

    def __init__(self, db: Database) -> None:
        self._db = db
        self.write = db.write
        self.here = {name: threading.Event() for name in ("look", "request")}
        self.go = {name: threading.Event() for name in ("look", "request")}

    @contextmanager
    def read(self, *args: Any) -> Iterator[Any]:
        self._wait("look")  # as if for a connection of the pool
        with self._db.read(*args) as session:
            yield session

    def identities(self, session: Any, tenants: Any) -> Any:
        self._wait("request")  # its key has been read but not cached yet
        return identities(session, tenants)

    def _wait(self, name: str) -> None:
        if threading.current_thread().name == name:
            self.here[name].set()
            self.go[name].wait(PATIENCE)


def test_a_key_that_was_read_before_its_end_and_cached_after_a_check_is_read_again(services: Services) -> None:
    held, minted, other = Held(services.db), mint(services), mint(services)
    ring = Still(held, held.identities, None)  # type: ignore[arg-type]  # it only reads and writes
    ring.look_up(other.key.prefix)
    ring.look()
    threads = [
        threading.Thread(target=ring.look, name="look"),
        threading.Thread(target=ring.look_up, args=(minted.key.prefix,), name="request"),
    ]
    for thread in threads:
        thread.start()
        assert held.here[thread.name].wait(PATIENCE)
    change(services, "revoked", minted.key.id)
    for thread in threads:
        held.go[thread.name].set()
        thread.join(PATIENCE)
    pause(FRESH_SECONDS)
    ring.look()  # finds no new change
    assert ring.look_up(minted.key.prefix).over
