"""``bin/mailbbgun`` as it is typed: tenants, wrong usage, completion, and ``bin/generate-keys``."""

import base64
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner

from mailbbgun.cli.main import main
from tests.cli.conftest import ROOT, Shell
from tests.waiting import PATIENCE


def test_a_tenant_is_created_shown_limited_renamed_suspended_and_resumed(sqlite: Shell) -> None:
    made = sqlite.json("tenant", "create", "shop", "--max-messages-per-day", "5")
    assert made.items() >= {"name": "shop", "status": "active", "max_messages_per_day": 5}.items()
    assert made["max_requests_per_minute"] is None
    limits = ["--max-messages-per-day", "none", "--max-requests-per-minute", "60"]
    changed = sqlite.json("tenant", "set", "shop", "--name", "the shop", *limits)
    assert changed["id"] == made["id"]
    assert (changed["max_messages_per_day"], changed["max_requests_per_minute"]) == (None, 60)
    assert sqlite.json("tenant", "suspend", "the shop")["status"] == "suspended"
    assert sqlite.json("tenant", "show", made["id"])["status"] == "suspended"
    assert sqlite.json("tenant", "resume", made["id"])["status"] == "active"
    listed = sqlite.json("tenant", "list")
    assert ([one["name"] for one in listed["tenants"]], listed["count"]) == (["the shop", "default"], 2)


def test_tables_are_aligned_whole_and_without_colours(sqlite: Shell) -> None:
    long = "x" * 64
    sqlite.run("tenant", "create", long)
    head, *rows = sqlite.run("tenant", "list").stdout.splitlines()
    assert all(row[head.index("status") :].startswith(("active", "suspended")) for row in rows)
    assert any(row.startswith(f"{long} ") for row in rows)
    assert "\x1b" not in "".join(rows)


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
        (
            ["key", "create", "--duplicate-policy", "hold"],
            'duplicate_policy: "hold": Is for a key with `duplicate_seconds`',
        ),
        (["key", "create", "--duplicate-seconds", "86401"], "86401 is not in the range 0<=x<=86400"),
        (["key", "create", "--network", "10.0.0.1/8"], 'networks.0: "10.0.0.1/8": Not a network'),
        (["key", "create", "--expires", "2020-01-01"], 'expires_at: "2020-01-01": Is in the past.'),
        (["key", "create", "--admin", "--scope", "accounts"], "--admin is every --scope"),
        (["key", "rotate", "x", "--hours", "-1"], "hours: Must be an integer from 0 to 8760, not -1."),
    ],
)
def test_what_the_api_refuses_is_refused_before_anything_is_opened(arguments: Sequence[str], said: str) -> None:
    done = CliRunner().invoke(main, arguments, prog_name="mailbbgun")
    assert done.exit_code == 2
    assert said in done.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_there_are_completions_for_each_shell(sqlite: Shell, shell: str) -> None:
    assert "_MAILBBGUN_COMPLETE" in sqlite.run("completion", shell).stdout


@pytest.mark.long
def test_a_shell_completes_commands_and_choices(sqlite: Shell) -> None:
    script = f"""
        PATH={ROOT / "bin"}:$PATH
        eval "$(mailbbgun completion bash)"
        complete -p mailbbgun
        typed() {{
            COMP_WORDS=(mailbbgun "$@"); COMP_CWORD=$#; COMPREPLY=()
            _mailbbgun_completion mailbbgun; echo "${{COMPREPLY[@]}}"
        }}
        typed key create --kind ''
        typed inbound-route add --form ''
        typed config ''
        typed config reset MAX_REC
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
    told = ["complete -o nosort -F _mailbbgun_completion mailbbgun", "live test team", "json mailgun"]
    assert done.stdout.splitlines() == [*told, "reset set show", "MAX_RECIPIENTS"]


def test_new_encryption_keys_need_neither_settings_nor_a_database(sqlite: Shell) -> None:
    keys = sqlite.process(
        "generate-keys", "--count", "3", DATABASE_URL="nonsense", NO_SUCH_SETTING="x"
    ).stdout.splitlines()
    assert len(set(keys)) == 3
    assert {len(base64.urlsafe_b64decode(key)) for key in keys} == {32}
