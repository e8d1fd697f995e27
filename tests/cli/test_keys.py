"""``bin/mailbbgun key`` and ``initdb.py --admin-key``: a new key is printed once, or not valid."""

import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from mailbbgun import install
from mailbbgun.core.caller import Scope
from mailbbgun.smtp_accounts.sender import identities
from mailbbgun.tenants.authenticate import Authenticator
from tests.cli.conftest import ROOT, Shell
from tests.waiting import PATIENCE

TOKEN = re.compile(r"mbg_[a-z0-9]{12}_[A-Za-z0-9]{43}")


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
    shown = sqlite.json("key", "show", prefix)
    assert (shown["name"], set(shown["scopes"]), shown["revoked_at"]) == ("admin", set(Scope), None)
    guests = ["--kind", "team", "--guest", "Ann@example.com", "--guest", "example.org", "--name", "guests"]
    limits = [
        "--scope",
        "messages:read",
        "--sender",
        "example.com",
        "--network",
        "192.0.2.0/24",
        "--expires",
        "2100-01-01",
    ]
    made = sqlite.json("key", "create", *guests, *limits)
    assert (made["kind"], made["guests"]) == ("team", ["ann@example.com", "example.org"])
    assert (made["scopes"], made["senders"], made["networks"]) == (["messages:read"], ["example.com"], ["192.0.2.0/24"])
    assert made["expires_at"] == "2100-01-01T00:00:00.000Z"
    new = sqlite.run("key", "rotate", made["id"], "--hours", "1")
    (printed,) = TOKEN.findall(new.stdout)
    assert printed != made["key"]
    assert sqlite.json("key", "show", made["prefix"])["expires_at"] < "2100"
    assert sqlite.json("key", "revoke", made["key"])["revoked_at"]
    assert "has ended" in sqlite.run("key", "rotate", made["id"], code=1).stderr
    listed = sqlite.run("key", "list")
    assert all(secret not in listed.stdout + listed.stderr for secret in (token.strip(), made["key"], printed))
    assert prefix in listed.stdout


@pytest.mark.parametrize(
    ("where", "form"),
    [
        pytest.param(">/dev/full", (), id="a full disk"),
        pytest.param("| sleep 0", ("--json",), id="a reader that has gone", marks=pytest.mark.long),
        pytest.param(">&-", ("--quiet",), id="no standard output", marks=pytest.mark.long),
    ],
)
def test_a_key_that_could_not_be_printed_is_not_valid(
    sqlite: Shell, tmp_path: Path, where: str, form: Sequence[str]
) -> None:
    def valid() -> set[str]:
        return {one["prefix"] for one in sqlite.json("key", "list")["keys"] if one["revoked_at"] is None}

    def unseen(*command: object) -> None:
        # The reader of a pipe must be gone before anything is written: start when writing fails.
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

    old = sqlite.json("key", "create", "--expires", "2100-01-01")
    before = valid()
    unseen(ROOT / "bin" / "mailbbgun", "key", "create", *form)
    unseen(ROOT / "bin" / "mailbbgun", "key", "rotate", old["prefix"], *form)
    assert valid() == before
    assert sqlite.json("key", "show", old["prefix"])["expires_at"] == old["expires_at"]
    assert sqlite.json("key", "rotate", old["prefix"])["key"]  # it was not rotated before


@pytest.mark.parametrize("unprinted", [[">/dev/full"], pytest.param([">/dev/full", ">&-"], marks=pytest.mark.long)])
def test_a_first_admin_key_that_could_not_be_printed_is_made_anew(tmp_path: Path, unprinted: list[str]) -> None:
    shell = Shell(tmp_path / "var")
    for where, code in (*((one, 1) for one in unprinted), ("", 0)):
        done = subprocess.run(
            ["sh", "-c", f'exec "$@" {where}', "sh", sys.executable, str(ROOT / "initdb.py"), "--admin-key"],
            env=shell.environment(),
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        assert (done.returncode, bool(TOKEN.search(done.stdout))) == (code, code == 0)
    assert [one["revoked_at"] is None for one in shell.json("key", "list")["keys"]] == [True, False]
    shell.services.close()


def test_a_key_is_created_with_a_guard_against_duplicates(sqlite: Shell) -> None:
    made = sqlite.json("key", "create", "--duplicate-seconds", "600", "--duplicate-policy", "hold")
    assert (made["duplicate_seconds"], made["duplicate_policy"]) == (600, "hold")
    plain = sqlite.json("key", "show", sqlite.json("key", "create")["id"])
    assert (plain["duplicate_seconds"], plain["duplicate_policy"]) == (None, "answer")
