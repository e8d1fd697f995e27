"""``bin/mailbbgun`` as it is typed: tenants, API keys, SMTP accounts, completion."""

import base64
import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from mailbbgun import install
from mailbbgun.cli.main import main
from mailbbgun.core.caller import Scope
from mailbbgun.core.ids import DEFAULT_TENANT, new_id
from mailbbgun.smtp_accounts.models import SMTPAccount
from mailbbgun.smtp_accounts.sender import identities
from mailbbgun.tenants.authenticate import Authenticator
from tests.cli.conftest import ROOT, Shell
from tests.waiting import PATIENCE

TOKEN = re.compile(r"mbg_[a-z0-9]{12}_[A-Za-z0-9]{43}")


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


def test_a_tenant_is_created_shown_limited_renamed_suspended_and_resumed(sqlite: Shell) -> None:
    made = sqlite.told("tenant", "create", "shop", "--max-messages-per-day", "5")
    assert (made["name"], made["status"], made["max_messages_per_day"], made["max_requests_per_minute"]) == (
        "shop",
        "active",
        5,
        None,
    )
    changed = sqlite.told(
        "tenant",
        "set",
        "shop",
        "--name",
        "the shop",
        "--max-messages-per-day",
        "none",
        "--max-requests-per-minute",
        "60",
    )
    assert (changed["id"], changed["max_messages_per_day"], changed["max_requests_per_minute"]) == (
        made["id"],
        None,
        60,
    )
    assert sqlite.told("tenant", "suspend", "the shop")["status"] == "suspended"
    assert sqlite.told("tenant", "show", made["id"])["status"] == "suspended"
    assert sqlite.told("tenant", "resume", made["id"])["status"] == "active"
    listed = sqlite.told("tenant", "list")
    assert ([one["name"] for one in listed["tenants"]], listed["count"]) == (["the shop", "default"], 2)


def test_tables_are_aligned_whole_and_without_colours(sqlite: Shell) -> None:
    long = "x" * 64
    sqlite.run("tenant", "create", long)
    head, *rows = sqlite.run("tenant", "list").stdout.splitlines()
    assert all(row[head.index("status") :].startswith(("active", "suspended")) for row in rows)
    assert any(row.startswith(f"{long} ") for row in rows)
    assert "\x1b" not in "".join(rows)


def test_the_first_admin_key_is_made_once_and_printed_alone(sqlite: Shell) -> None:
    first, second = (sqlite.run("--admin-key", command=install.main) for _ in range(2))
    token = first.stdout.strip()
    assert TOKEN.fullmatch(token)
    assert second.stdout == ""
    assert f"there is an admin key, {token[:17]}…" in second.stderr
    authenticator = Authenticator(sqlite.services.db, sqlite.services.vault, identities, required=True)
    assert authenticator.caller(f"Bearer {token}", "192.0.2.1").scopes == frozenset(Scope)
    authenticator.close()


def test_a_key_is_created_shown_rotated_and_revoked_and_printed_once(sqlite: Shell) -> None:
    token = sqlite.process("mailbbgun", "key", "create", "--admin", "--quiet").stdout
    assert TOKEN.fullmatch(token.removesuffix("\n"))
    prefix = token.split("_")[1]
    shown = sqlite.told("key", "show", prefix)
    assert (shown["name"], set(shown["scopes"]), shown["revoked_at"]) == ("admin", set(Scope), None)
    made = sqlite.told(
        "key",
        "create",
        "--kind",
        "team",
        "--guest",
        "Ann@example.com",
        "--guest",
        "example.org",
        "--scope",
        "messages:read",
        "--sender",
        "example.com",
        "--network",
        "192.0.2.0/24",
        "--expires",
        "2100-01-01",
        "--name",
        "guests",
    )
    assert (made["kind"], made["guests"], made["scopes"]) == (
        "team",
        ["ann@example.com", "example.org"],
        ["messages:read"],
    )
    assert (made["senders"], made["networks"], made["expires_at"]) == (
        ["example.com"],
        ["192.0.2.0/24"],
        "2100-01-01T00:00:00.000Z",
    )
    new = sqlite.run("key", "rotate", made["id"], "--hours", "1")
    (printed,) = TOKEN.findall(new.stdout)
    assert printed != made["key"]
    assert sqlite.told("key", "show", made["prefix"])["expires_at"] < "2100"
    assert sqlite.told("key", "revoke", made["key"])["revoked_at"]
    assert "has ended" in sqlite.run("key", "rotate", made["id"], code=1).stderr
    listed = sqlite.run("key", "list")
    assert all(secret not in listed.stdout + listed.stderr for secret in (token.strip(), made["key"], printed))
    assert prefix in listed.stdout


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
    assert sqlite.told("account", "disable", "first")["enabled"] is False
    assert sqlite.told("account", "enable", kept)["enabled"] is True
    assert (
        "There is nobody to confirm it: --yes does not ask." in sqlite.run("account", "delete", "second", code=2).stderr
    )
    assert sqlite.run("account", "delete", gone, "--yes").stdout == "deleted second\n"
    assert sqlite.told("account", "list")["count"] == 1
    sqlite.run("tenant", "create", "elsewhere")
    assert (
        "There is no account 'first'." in sqlite.run("account", "show", "first", "--tenant", "elsewhere", code=1).stderr
    )


def test_an_account_is_created_with_a_password_that_is_no_argument(sqlite: Shell, tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text("open sesame\nand nothing else")
    made = sqlite.told(
        "account",
        "create",
        "gmail",
        "--preset",
        "gmail",
        "--smtp-username",
        "a@gmail.com",
        "--from-email",
        "a@gmail.com",
        "--weight",
        "3",
        "--recipient-domains",
        "example.com",
        "--recipient-domains",
        "*.example.org",
        "--no-is-default",
        "--send-interval",
        "0.5",
        "--password-file",
        str(secret),
        "--envelope-from",
        "bounces@example.com",
        "--max-recipients-per-message",
        "20",
    )
    assert (made["envelope_from"], made["max_recipients_per_message"]) == ("bounces@example.com", 20)
    named = {
        "setting_name": "gmail",
        "smtp_host": "smtp.gmail.com",
        "smtp_port": 587,
        "weight": 3,
        "is_default": False,
        "send_interval": 0.5,
    }
    assert made.items() >= (named | {"recipient_domains": ["example.com", "*.example.org"], "max_per_day": 500}).items()
    with sqlite.services.db.read() as session:
        kept = next(one.smtp_password for one in session.query(SMTPAccount) if one.setting_name == "gmail")
    assert sqlite.services.vault.decrypt(str(kept)) == "open sesame"
    ask = ["account", "create", "asked", "--smtp-host", "smtp.example.com", "--smtp-username", "u"]
    shown, code = typed(sqlite, *ask, text="hush\n")
    assert (code, "Password: " in shown, "hush" in shown) == (0, True, False)
    with sqlite.services.db.read() as session:
        kept = next(one.smtp_password for one in session.query(SMTPAccount) if one.setting_name == "asked")
    assert sqlite.services.vault.decrypt(str(kept)) == "hush"
    assert (
        "There is an account of that name."
        in sqlite.run("account", "create", "asked", "--smtp-host", "smtp.example.com", code=1).stderr
    )
    for arguments, said in {
        (): "smtp_host: `smtp_host` is required unless a `preset` says it.",
        ("--smtp-host", "127.0.0.1"): "smtp_host: ",
        (
            "--smtp-host",
            "smtp.example.com",
            "--smtp-port",
            "0",
        ): "smtp_port: Must be an integer from 1 to 65535, not 0.",
        (
            "--smtp-host",
            "smtp.example.com",
            "--password-file",
            str(secret),
        ): "smtp_username: `smtp_username` is required beside `smtp_password`.",
        ("--preset", "none"): "is not one of",
    }.items():
        assert said in sqlite.run("account", "create", "wrong", *arguments, code=2).stderr


def typed(shell: Shell, *arguments: str, text: str) -> tuple[str, int]:
    """Run ``bin/mailbbgun`` at a terminal, type ``text`` when it asks, and return what the terminal showed, and the exit code."""
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
    except OSError:  # so a terminal ends that nobody has open any more
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

    done = run("account", "create", "unasked", "--smtp-host", "smtp.example.com", "--smtp-username", "u")
    (line,) = done.stderr.splitlines()
    assert (done.returncode, done.stdout) == (2, "")
    assert line.startswith("mailbbgun: There is no terminal to ask for the password at: --password-file FILE reads it")
    if given:
        assert (
            run(
                "account",
                "create",
                "piped",
                "--smtp-host",
                "smtp.example.com",
                "--smtp-username",
                "u",
                "--password-file",
                "-",
            ).returncode
            == 0
        )
        done = run("account", "delete", "piped")  # "hush" is no answer, and nothing follows
    else:
        account(sqlite, kept := f"kept {given}")
        done = run("account", "delete", kept)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines()[-1] == "mailbbgun: There is nobody to confirm it: --yes does not ask."


@pytest.mark.parametrize(
    ("where", "form"),
    [(">/dev/full", ()), ("| sleep 0", ("--json",)), (">&-", ("--quiet",))],
    ids=["a full disk", "a reader that has gone", "no standard output"],
)
def test_a_key_that_could_not_be_printed_is_not_valid(
    sqlite: Shell, tmp_path: Path, where: str, form: Sequence[str]
) -> None:
    def valid() -> set[str]:
        return {one["prefix"] for one in sqlite.told("key", "list")["keys"] if one["revoked_at"] is None}

    def unseen(*command: object) -> None:
        # The reader of a pipe is gone before anything is written: the command starts when writing to it fails.
        waits = "trap '' PIPE; while echo 2>/dev/null; do sleep 0.1; done;" if "|" in where else ""
        gone = f"{{ {waits} \"$@\"; echo $? >'{tmp_path}/code'; }} {where}"
        argv = ["sh", "-c", gone, "sh", *map(str, command)]
        done = subprocess.run(argv, env=sqlite.environment(), capture_output=True, text=True, timeout=PATIENCE)
        line = done.stderr.splitlines()[-1]
        assert (tmp_path / "code").read_text() == "1\n"
        assert "could not be" in line
        assert line.endswith(("so it is not valid", "nothing was done"))
        assert "Traceback" not in done.stderr
        assert TOKEN.search(done.stdout + done.stderr) is None

    old = sqlite.told("key", "create", "--expires", "2100-01-01")
    before = valid()
    unseen(ROOT / "bin" / "mailbbgun", "key", "create", *form)
    unseen(ROOT / "bin" / "mailbbgun", "key", "rotate", old["prefix"], *form)
    assert valid() == before
    assert sqlite.told("key", "show", old["prefix"])["expires_at"] == old["expires_at"]
    assert sqlite.told("key", "rotate", old["prefix"])["key"]  # it was not rotated before


def test_a_first_admin_key_that_could_not_be_printed_is_made_anew(tmp_path: Path) -> None:
    shell = Shell(tmp_path / "var")
    for where, code in ((">/dev/full", 1), (">&-", 1), ("", 0)):
        done = subprocess.run(
            ["sh", "-c", f'exec "$@" {where}', "sh", sys.executable, str(ROOT / "initdb.py"), "--admin-key"],
            env=shell.environment(),
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        assert (done.returncode, bool(TOKEN.search(done.stdout))) == (code, code == 0)
    assert [one["revoked_at"] is None for one in shell.told("key", "list")["keys"]] == [True, False]
    shell.services.close()


def test_what_is_not_there_is_one_line_and_exit_code_1(sqlite: Shell, tmp_path: Path) -> None:
    for arguments, line in {
        ("tenant", "show", "nobody"): "mailbbgun: There is no tenant 'nobody'.\n",
        ("key", "list", "--tenant", "nobody"): "mailbbgun: There is no tenant 'nobody'.\n",
        ("key", "revoke", "mbg_none"): "mailbbgun: There is no such key.\n",
        ("tenant", "create", "default"): "mailbbgun: There is a tenant of that name.\n",
    }.items():
        done = sqlite.run(*arguments, code=1)
        assert (done.stdout, done.stderr) == ("", line)
    assert (
        sqlite.process("mailbbgun", "tenant", "show", "x\ny", code=1).stderr
        == "mailbbgun: There is no tenant 'x\\ny'.\n"
    )
    done = sqlite.run("tenant", "list", code=1, DATABASE_URL="postgresql+psycopg2://nobody@127.0.0.1:1/none")
    assert done.stderr.startswith("mailbbgun: the database does not answer (")
    done = sqlite.run("tenant", "list", code=os.EX_CONFIG, DATABASE_URL=f"sqlite:///{tmp_path}/new.db")
    assert done.stderr == f"mailbbgun: there is no database {tmp_path}/new.db: run python initdb.py\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["tenant", "create", "a/b"], 'name: "a/b": Must be 1 to 64 letters'),
        (["tenant", "set", "default"], "Nothing is to be changed"),
        (
            ["tenant", "set", "default", "--max-messages-per-day", "-1"],
            "max_messages_per_day: Must be an integer from 0 to 1000000000, not -1.",
        ),
        (["tenant", "set", "default", "--max-messages-per-day", "many"], "neither a whole number nor none"),
        (["key", "create", "--scope", "root"], "'root' is not one of"),
        (["key", "create", "--kind", "team"], "guests: `guests` is required: a team key sends to them only."),
        (["key", "create", "--network", "10.0.0.1/8"], 'networks.0: "10.0.0.1/8": Not a network'),
        (["key", "create", "--expires", "2020-01-01"], 'expires_at: "2020-01-01": Is in the past.'),
        (["key", "create", "--admin", "--scope", "smtp"], "--admin is every --scope"),
        (["key", "rotate", "x", "--hours", "-1"], "hours: Must be an integer from 0 to 8760, not -1."),
    ],
)
def test_what_the_api_refuses_is_refused_before_anything_is_opened(arguments: Sequence[str], said: str) -> None:
    done = CliRunner().invoke(main, arguments, prog_name="mailbbgun")
    assert done.exit_code == 2
    assert said in done.stderr


def test_a_shell_completes_commands_and_choices(sqlite: Shell) -> None:
    for shell in ("bash", "zsh", "fish"):
        assert "_MAILBBGUN_COMPLETE" in sqlite.run("completion", shell).stdout
    script = f"""
        PATH={ROOT / "bin"}:$PATH
        eval "$(mailbbgun completion bash)"
        complete -p mailbbgun
        COMP_WORDS=(mailbbgun key create --kind ''); COMP_CWORD=4; _mailbbgun_completion mailbbgun; echo "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(
        ["bash", "-euc", script],
        env=sqlite.environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "complete -o nosort -F _mailbbgun_completion mailbbgun\nlive test team\n"


def test_new_encryption_keys_need_neither_settings_nor_a_database(sqlite: Shell) -> None:
    keys = sqlite.process(
        "generate-keys", "--count", "3", DATABASE_URL="nonsense", NO_SUCH_SETTING="x"
    ).stdout.splitlines()
    assert len(set(keys)) == 3
    assert {len(base64.urlsafe_b64decode(key)) for key in keys} == {32}
