"""``mailbbgun encryption``: rotation beside a running service, interrupted, with unreadable secrets."""

import json
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import insert, make_url, select, update

from mailbbgun import schema
from mailbbgun.core.ids import DEFAULT_TENANT, new_id
from mailbbgun.database.crypto import Vault, new_key
from mailbbgun.database.reencrypt import BATCH, places
from mailbbgun.smtp_accounts.models import SMTPAccount
from mailbbgun.tenants import keys as api_keys
from tests.cli.conftest import ROOT, Shell
from tests.flow.service import until
from tests.waiting import PATIENCE

ACCOUNTS = 15 * BATCH
MOSTLY_POSTGRESQL = pytest.mark.parametrize(
    "shell", [pytest.param("sqlite", marks=pytest.mark.long), "postgresql"], indirect=True
)


@pytest.fixture
def old(shell: Shell) -> Iterator[str]:
    """The key in use. Afterwards no secret encrypted by another key is left."""
    yield shell.settings["ENCRYPTION_KEYS"]
    with shell.services.db.write() as session:
        session.execute(SMTPAccount.__table__.delete())


def fill(shell: Shell, number: int, vault: Vault) -> dict[UUID, str]:
    """Add ``number`` accounts; return their passwords."""
    now = datetime.now(UTC)
    common: dict[str, Any] = {
        "tenant_id": DEFAULT_TENANT,
        "smtp_host": "smtp.example.com",
        "smtp_port": 587,
        "security_protocol": "STARTTLS",
        "is_default": False,
        "priority": 0,
        "weight": 1,
        "max_connections": 5,
        "recipient_domains": [],
        "enabled": True,
        "created_at": now,
        "updated_at": now,
    }
    passwords = {new_id(): f"hunter{place}" for place in range(number)}
    rows = [
        common | {"id": one, "setting_name": str(one), "smtp_password": vault.encrypt(password)}
        for one, password in passwords.items()
    ]
    with shell.services.db.write() as session:
        session.execute(insert(SMTPAccount), rows)
    return passwords


def tokens(shell: Shell) -> dict[UUID, str]:
    """Return the stored form of every password."""
    with shell.services.db.read() as session:
        return {row.id: row.smtp_password for row in session.execute(select(SMTPAccount.id, SMTPAccount.smtp_password))}


@contextmanager
def changing(shell: Shell, vault: Vault, passwords: dict[UUID, str]) -> Iterator[None]:
    """Change passwords at random during the block, as a service would, and record them in
    ``passwords``.
    """
    stop, some = threading.Event(), sorted(passwords)

    def change() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            one = random.choice(some)
            with shell.services.db.write() as session:
                session.execute(
                    update(SMTPAccount)
                    .where(SMTPAccount.id == one)
                    .values(smtp_password=vault.encrypt(f"changed{number}"))
                )
            passwords[one] = f"changed{number}"

    writer = threading.Thread(target=change)
    writer.start()
    yield
    stop.set()
    writer.join()


@pytest.mark.long
@MOSTLY_POSTGRESQL
def test_every_secret_is_encrypted_anew_while_passwords_are_being_changed(shell: Shell, old: str) -> None:
    new = new_key()
    both = shell.with_keys(new, old)
    passwords = fill(shell, 5 * BATCH, shell.services.vault)
    with changing(shell, both.vault, passwords):
        done = shell.process("mailbbgun", "encryption", "rotate", ENCRYPTION_KEYS=f"{new},{old}")
    assert done.stdout == f"encrypted by the first key: {len(passwords) + 1} of {len(passwords) + 1}\n"
    alone = shell.with_keys(new)
    kept = tokens(shell)
    assert {one: alone.vault.decrypt(token) for one, token in kept.items()} == passwords
    api_keys.check(alone.db, alone.vault)  # the pepper was encrypted again as well, so the old key may go
    shell.run("encryption", "rotate", ENCRYPTION_KEYS=f"{new},{old}")
    assert tokens(shell) == kept
    shell.run("encryption", "rotate", ENCRYPTION_KEYS=f"{old},{new}")  # and back
    both.close()
    alone.close()


@pytest.mark.long
@MOSTLY_POSTGRESQL
def test_interrupted_it_has_lost_nothing_and_the_next_run_does_the_rest(shell: Shell, old: str) -> None:
    new = new_key()
    passwords = fill(shell, ACCOUNTS, shell.services.vault)
    first, before = min(passwords), tokens(shell)
    environment = shell.environment(ENCRYPTION_KEYS=f"{new},{old}")
    argv = [str(ROOT / "bin" / "mailbbgun"), "encryption", "rotate"]
    with subprocess.Popen(argv, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        until(lambda: _token(shell, first) != before[first], what="the first batch")
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=PATIENCE)
    assert (process.returncode, errors) == (
        130,
        "mailbbgun: interrupted; what is done is kept, and the next run does the rest\n",
    )
    both, between = shell.with_keys(new, old), tokens(shell)
    changed = sum(between[one] != before[one] for one in passwords)
    assert 0 < changed < ACCOUNTS
    assert changed % BATCH == 0
    assert {one: both.vault.decrypt(token) for one, token in between.items()} == passwords
    status = shell.json("encryption", "status", ENCRYPTION_KEYS=f"{new},{old}")
    assert sum(key["secrets"] for key in status["keys"]) == ACCOUNTS + 1
    assert status["keys"][1]["secrets"] == ACCOUNTS - changed
    shell.run("encryption", "rotate", ENCRYPTION_KEYS=f"{new},{old}")
    after, alone = tokens(shell), shell.with_keys(new)
    assert {one: alone.vault.decrypt(token) for one, token in after.items()} == passwords
    assert all(after[one] == between[one] for one in passwords if between[one] != before[one])
    shell.run("encryption", "rotate", ENCRYPTION_KEYS=f"{old},{new}")
    both.close()
    alone.close()


def test_what_no_key_opens_is_named_and_left_as_it_is(shell: Shell, old: str) -> None:
    lost_key, new = new_key(), new_key()
    lost_vault = shell.with_keys(lost_key)
    fill(shell, 3, shell.services.vault)
    lost = fill(shell, 2, lost_vault.vault)
    lost_vault.close()
    before = tokens(shell)
    done = shell.run("encryption", "rotate", code=1, ENCRYPTION_KEYS=f"{new},{old}")
    assert done.stdout == "encrypted by the first key: 4 of 6\n"
    assert [line for line in done.stderr.splitlines() if line.startswith(" ")] == [
        f"  smtp_accounts: default: {one}" for one in sorted(lost)
    ]
    assert not [token for token in before.values() if token in done.stderr]
    after = tokens(shell)
    assert {one for one in before if after[one] == before[one]} == set(lost)
    database = shell.services.db.shown
    done = shell.process("mailbbgun", "encryption", "status", "--json", code=1, ENCRYPTION_KEYS=f"{new},{old}")
    assert json.loads(done.stdout) == {
        "database": database,
        "keys": [{"key": 1, "secrets": 4}, {"key": 2, "secrets": 0}],
        "unreadable": [{"table": "smtp_accounts", "tenant": "default", "name": str(one)} for one in sorted(lost)],
    }
    told = (
        f"mailbbgun: no key opens 2 of 6 secrets in {database}; "
        "they are left as they are, and readable again when their key is back:"
    )
    assert done.stderr.splitlines()[0] == told
    shown = shell.run("encryption", "status", code=1, ENCRYPTION_KEYS=f"{new},{old}")
    assert [line.split()[:2] for line in shown.stdout.splitlines()] == [
        ["database", database],
        [],
        ["key", "secrets"],
        ["1", "4"],
        ["2", "0"],
    ]
    assert "may go" in shown.stdout
    assert shown.stderr.splitlines()[0] == told
    done = shell.run("encryption", "rotate", ENCRYPTION_KEYS=f"{old},{new},{lost_key}")  # it was found
    assert done.stdout == "encrypted by the first key: 6 of 6\n"


def test_the_database_that_was_looked_at_is_named_without_its_password(shell: Shell) -> None:
    url = make_url(shell.services.settings.DATABASE_URL)
    if url.get_backend_name() == "postgresql":
        url = url.set(password="hunter2").update_query_dict({"password": "hunter3"})
    shown = shell.run("encryption", "status", DATABASE_URL=url.render_as_string(hide_password=False)).stdout
    assert shown.splitlines()[0].split() == ["database", shell.services.db.shown.replace("postgres@", "postgres:***@")]
    assert "hunter" not in shown


def test_a_database_of_which_no_key_opens_anything_is_no_success(shell: Shell) -> None:
    done = shell.run("encryption", "status", code=1, ENCRYPTION_KEYS=new_key())
    told = "they are left as they are, and readable again when their key is back:"
    assert done.stderr.splitlines()[0] == f"mailbbgun: no key opens 1 of 1 secrets in {shell.services.db.shown}; {told}"


def test_scripts_may_call_the_group_by_its_former_name_which_no_help_shows(shell: Shell) -> None:
    assert shell.json("keys", "status") == shell.json("encryption", "status")
    assert shell.run("keys", "rotate").stdout == shell.run("encryption", "rotate").stdout
    shown = [line.split()[0] for line in shell.run("--help").stdout.splitlines() if line.strip()]
    assert "encryption" in shown
    assert "keys" not in shown


def test_every_column_that_is_encrypted_is_known_to_the_command() -> None:
    known = "import mailbbgun.cli.service.encryption as e; print(len(e._places()))"
    done = subprocess.run(
        [sys.executable, "-c", known], cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE, check=True
    )
    assert int(done.stdout) == len(places(schema.METADATA)) >= 2


def _token(shell: Shell, account: UUID) -> str | None:
    with shell.services.db.read() as session:
        return session.scalar(select(SMTPAccount.smtp_password).where(SMTPAccount.id == account))
