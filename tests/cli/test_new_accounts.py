"""``bin/mailbbgun account``: create with a password, list, show, switch and delete."""

import json
import os
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from mailbbgun.core.ids import DEFAULT_TENANT, new_id
from mailbbgun.smtp_accounts.models import SMTPAccount
from tests.cli.conftest import ROOT, Shell
from tests.waiting import PATIENCE

SERVER = ("--smtp-host", "smtp.example.com")


def account(shell: Shell, setting_name: str, **columns: Any) -> str:
    """Add an SMTP account with the password hunter2; return its id."""
    now = datetime.now(UTC)
    values: dict[str, Any] = {
        "id": new_id(),
        "tenant_id": DEFAULT_TENANT,
        "smtp_host": "smtp.example.com",
        "smtp_port": 587,
        "smtp_username": "shop",
        "smtp_password": shell.services.vault.encrypt("hunter2"),
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
    with shell.services.db.write() as session:
        session.add(SMTPAccount(setting_name=setting_name, **values | columns))
    return str(values["id"])


def password_of(shell: Shell, setting_name: str) -> str:
    """Return an account's password as it is in the database."""
    with shell.services.db.read() as session:
        kept = next(one.smtp_password for one in session.query(SMTPAccount) if one.setting_name == setting_name)
    return shell.services.vault.decrypt(str(kept))


def test_accounts_are_listed_switched_and_deleted_and_no_password_is_shown(sqlite: Shell) -> None:
    kept, gone = account(sqlite, "first"), account(sqlite, "second")
    with sqlite.services.db.read() as session:
        tokens = [one.smtp_password for one in session.query(SMTPAccount)]
    listed = sqlite.run("account", "list", "--json").stdout
    assert [one["setting_name"] for one in json.loads(listed)["smtp_accounts"]] == ["second", "first"]
    shown = sqlite.run("account", "show", "first", "--json").stdout
    assert json.loads(shown)["id"] == kept
    for secret in ("hunter2", "password", *map(str, tokens)):
        assert secret not in listed + shown
    assert sqlite.json("account", "disable", "first")["enabled"] is False
    assert sqlite.json("account", "enable", kept)["enabled"] is True
    assert (
        "There is nobody to confirm it: --yes does not ask." in sqlite.run("account", "delete", "second", code=2).stderr
    )
    assert sqlite.run("account", "delete", gone, "--yes").stdout == "deleted second\n"
    assert sqlite.json("account", "list")["count"] == 1
    sqlite.run("tenant", "create", "elsewhere")
    assert (
        "There is no account 'first'." in sqlite.run("account", "show", "first", "--tenant", "elsewhere", code=1).stderr
    )


def test_an_account_is_created_with_a_password_that_is_no_argument(sqlite: Shell, tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text("open sesame\nand nothing else")
    sender = ["--smtp-username", "a@gmail.com", "--from-email", "a@gmail.com", "--envelope-from", "bounces@example.com"]
    routing = [
        "--no-is-default",
        "--weight",
        "3",
        "--recipient-domains",
        "example.com",
        "--recipient-domains",
        "*.example.org",
    ]
    limits = ["--send-interval", "0.5", "--max-recipients-per-message", "20"]
    options = [*sender, *routing, *limits, "--password-file", str(secret)]
    made = sqlite.json("account", "create", "gmail", "--preset", "gmail", *options)
    assert (made["envelope_from"], made["max_recipients_per_message"]) == ("bounces@example.com", 20)
    assert made.items() >= {"setting_name": "gmail", "smtp_host": "smtp.gmail.com", "smtp_port": 587}.items()
    assert made.items() >= {"weight": 3, "is_default": False, "send_interval": 0.5, "max_per_day": 500}.items()
    assert made["recipient_domains"] == ["example.com", "*.example.org"]
    assert password_of(sqlite, "gmail") == "open sesame"


def test_a_terminal_is_asked_for_the_password_of_a_new_account(sqlite: Shell) -> None:
    shown, code = typed(sqlite, "account", "create", "asked", *SERVER, "--smtp-username", "u", text="hush\n")
    assert (code, "Password: " in shown, "hush" in shown) == (0, True, False)
    assert password_of(sqlite, "asked") == "hush"
    assert "There is an account of that name." in sqlite.run("account", "create", "asked", *SERVER, code=1).stderr


def test_wrong_options_of_a_new_account_are_named(sqlite: Shell, tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text("open sesame")
    for arguments, said in {
        (): "smtp_host: `smtp_host` is required unless a `preset` says it.",
        ("--smtp-host", "127.0.0.1"): "smtp_host: ",
        (*SERVER, "--smtp-port", "0"): "smtp_port: Must be an integer from 1 to 65535, not 0.",
        (
            *SERVER,
            "--password-file",
            str(secret),
        ): "smtp_username: `smtp_username` is required beside `smtp_password`.",
        ("--preset", "none"): "is not one of",
    }.items():
        assert said in sqlite.run("account", "create", "wrong", *arguments, code=2).stderr


def typed(shell: Shell, *arguments: str, text: str) -> tuple[str, int]:
    """Run ``bin/mailbbgun`` at a terminal and type ``text`` when it asks.

    Returns what the terminal showed, and the exit code.
    """
    ours, theirs = os.openpty()
    command = [str(ROOT / "bin" / "mailbbgun"), *arguments]
    process = subprocess.Popen(
        command, env=shell.environment(), stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
    )
    os.close(theirs)
    shown = ""
    try:
        while chunk := os.read(ours, 4096):
            shown += chunk.decode()
            if text and shown.rstrip(" ").endswith(":"):
                os.write(ours, text.encode())
                text = ""
    except OSError:  # the end of a terminal that no process has open
        pass
    finally:
        os.close(ours)
    return shown, process.wait(PATIENCE)


@pytest.mark.parametrize("given", ["hush\n", None], ids=["a pipe", "no standard input"])
def test_without_a_terminal_it_is_told_how_to_give_a_password_and_how_to_confirm(
    sqlite: Shell, given: str | None
) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        closed = "" if given is not None else "<&-"
        command = ["sh", "-c", f'exec "$0" "$@" {closed}', str(ROOT / "bin" / "mailbbgun"), *arguments]
        return subprocess.run(
            command,
            input=given,
            env=sqlite.environment(),
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            start_new_session=True,
        )

    user = [*SERVER, "--smtp-username", "u"]
    done = run("account", "create", "unasked", *user)
    (line,) = done.stderr.splitlines()
    assert (done.returncode, done.stdout) == (2, "")
    assert line.startswith("mailbbgun: There is no terminal to ask for the password at: --password-file FILE reads it")
    if given:
        assert run("account", "create", "piped", *user, "--password-file", "-").returncode == 0
        done = run("account", "delete", "piped")  # "hush" is neither yes nor no, and nothing follows
    else:
        account(sqlite, kept := f"kept {given}")
        done = run("account", "delete", kept)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines()[-1] == "mailbbgun: There is nobody to confirm it: --yes does not ask."
