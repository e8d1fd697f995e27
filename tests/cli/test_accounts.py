"""``bin/mailbbgun account update`` and ``account test``, the second with a real mail server."""

import fcntl
import os
import pty
import subprocess
import termios
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import ROOT, Shell
from tests.servers.mailserver import Failure, MailServer
from tests.waiting import PATIENCE

USER, PASSWORD = "shop", "s3cret of the account"
PRIVATE = {"ALLOW_PRIVATE_HOSTS": "127.0.0.1,localhost"}


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MailServer]:
    """A provider's server: STARTTLS with a certificate of a private authority, and AUTH."""
    with closing(MailServer(tmp_path_factory.mktemp("provider"), {USER: PASSWORD})) as server:
        server.start()
        yield server


@pytest.fixture
def password_file(tmp_path: Path) -> str:
    (tmp_path / "password").write_text(f"{PASSWORD}\n")
    return str(tmp_path / "password")


def password_of(shell: Shell, setting_name: str) -> str | None:
    """Return an account's password as it is in the database."""
    with shell.services.db.read() as session:
        kept = (
            session.connection()
            .exec_driver_sql(f"SELECT smtp_password FROM smtp_accounts WHERE setting_name = '{setting_name}'")
            .scalar()
        )
    return None if kept is None else shell.services.vault.decrypt(kept)


def updated(shell: Shell, *arguments: str) -> Any:
    return shell.json("account", "update", *arguments, **PRIVATE)


def refused(shell: Shell, *arguments: str, code: int = 2) -> str:
    return shell.run("account", "update", *arguments, code=code, **PRIVATE).stderr


def test_what_is_given_of_an_account_changes_and_the_rest_stays(shell: Shell, password_file: str) -> None:
    user = ["--smtp-username", USER, "--password-file", password_file]
    options = "--smtp-host smtp.example.com --max-per-day 500 --recipient-domains example.com --from-email example.com"
    made = shell.json("account", "create", "main", *user, *options.split())
    options = (
        "--max-per-minute 60 --weight 3 --no-enabled --recipient-domains a.example --recipient-domains *.b.example"
    )
    changed = updated(shell, "main", *options.split())
    wanted = {"max_per_minute": 60, "weight": 3, "enabled": False, "recipient_domains": ["a.example", "*.b.example"]}
    assert changed == made | wanted | {"updated_at": changed["updated_at"]}
    options = "--clear max-per-day --clear recipient-domains --clear from-email --enabled"
    cleared = updated(shell, made["id"], *options.split())
    wanted |= {"max_per_day": None, "recipient_domains": [], "from_email": None, "enabled": True}
    assert cleared == made | wanted | {"updated_at": cleared["updated_at"]}
    renamed = updated(shell, "main", "--setting-name", "the main one")
    assert (renamed["id"], renamed["setting_name"]) == (made["id"], "the main one")
    assert password_of(shell, "the main one") == PASSWORD


def test_an_update_needs_the_password_when_it_would_go_elsewhere_and_never_as_an_argument(
    shell: Shell, password_file: str, tmp_path: Path
) -> None:
    shell.json(
        "account",
        "create",
        "moving",
        "--smtp-host",
        "smtp.example.com",
        "--smtp-username",
        USER,
        "--password-file",
        password_file,
    )
    (tmp_path / "new").write_text("another\n")
    new = str(tmp_path / "new")
    moved = updated(shell, "moving", "--smtp-host", "smtp.example.org", "--password-file", new)
    assert (moved["smtp_host"], password_of(shell, "moving")) == ("smtp.example.org", "another")
    updated(shell, "moving", "--password-file", password_file)
    assert password_of(shell, "moving") == PASSWORD
    updated(shell, "moving", "--clear", "smtp-username")
    assert password_of(shell, "moving") is None
    updated(shell, "moving", "--smtp-username", "robot", "--password-file", new)
    assert password_of(shell, "moving") == "another"
    # An empty line is no password. The account does not change.
    (tmp_path / "empty").write_text("\n")
    assert "smtp_password: Must have" in refused(
        shell, "moving", "--smtp-port", "465", "--password-file", str(tmp_path / "empty")
    )
    assert shell.json("account", "show", "moving")["smtp_port"] == 587


def test_a_terminal_is_asked_for_a_password_that_would_go_elsewhere(sqlite: Shell, password_file: str) -> None:
    sqlite.json(
        "account",
        "create",
        "asked",
        "--smtp-host",
        "smtp.example.com",
        "--smtp-username",
        USER,
        "--password-file",
        password_file,
    )
    ours, theirs = pty.openpty()
    argv = [str(ROOT / "bin" / "mailbbgun"), "account", "update", "asked", "--smtp-port", "465"]
    with subprocess.Popen(
        argv,
        env=sqlite.environment(),
        stdin=theirs,
        stdout=subprocess.DEVNULL,
        stderr=theirs,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    ) as process:
        os.close(theirs)
        written = b""
        while b"Password: " not in written:
            written += os.read(ours, 1024)
        os.write(ours, b"hush\n")
        assert process.wait(PATIENCE) == 0
    os.close(ours)
    assert (sqlite.json("account", "show", "asked")["smtp_port"], password_of(sqlite, "asked")) == (465, "hush")


def test_what_cannot_be_changed_so_says_why(shell: Shell, password_file: str) -> None:
    for name in ("one", "two"):
        shell.json("account", "create", name, "--smtp-host", "smtp.example.com")
    for arguments, said in {
        (): "Nothing is to be changed: see --help.",
        ("--smtp-port", "0"): "smtp_port: Must be an integer from 1 to 65535, not 0.",
        (
            "--max-per-day",
            "5",
            "--clear",
            "max-per-day",
        ): "--clear max-per-day and a new value of it: give one or the other.",
        ("--clear", "priority"): "'priority' is not one of",
        ("--password-file", password_file): "smtp_username: `smtp_username` is required beside `smtp_password`.",
        ("--password-file", password_file, "--ask-password"): "give one or the other",
        ("--smtp-host", "10.0.0.1"): "smtp_host: ",
        ("--envelope-from", "nobody"): "envelope_from: ",
        ("--ask-password",): "There is no terminal to ask for the password at",
    }.items():
        assert said in refused(shell, "one", *arguments), arguments
    assert "There is an account of that name." in refused(shell, "one", "--setting-name", "two", code=1)
    assert "There is no account 'three'." in refused(shell, "three", "--weight", "2", code=1)


def test_an_account_is_tried_step_by_step_with_a_test_mail_if_one_is_wanted(
    shell: Shell, provider: MailServer, password_file: str
) -> None:
    shell.run(
        "account",
        "create",
        "tried",
        "--smtp-host",
        "localhost",
        "--smtp-port",
        str(provider.port),
        "--smtp-username",
        USER,
        "--password-file",
        password_file,
        "--ca-file",
        provider.ca_file,
        "--from-email",
        "shop@example.com",
        **PRIVATE,
    )
    answer = shell.json("account", "test", "tried", **PRIVATE)
    assert answer["ok"]
    assert [one["name"] for one in answer["steps"]][-1] == "auth"
    sent = len(provider.taken())
    done = shell.run("account", "test", "tried", "--to", "ann@example.com", **PRIVATE)
    head, *rows = done.stdout.splitlines()
    assert head.split() == ["name", "ok", "milliseconds", "words"]
    assert [row.split()[0] for row in rows][-2:] == ["data", "dot"]
    assert all(row.split()[1] == "yes" for row in rows)
    (taken,) = provider.taken()[sent:]
    assert (taken["from"], taken["to"]) == ("shop@example.com", ["ann@example.com"])
    assert 'to: "nobody": ' in shell.run("account", "test", "tried", "--to", "nobody", code=2, **PRIVATE).stderr


def test_an_account_that_does_not_work_is_told_with_the_servers_words_and_exit_code_1(
    shell: Shell, provider: MailServer, password_file: str
) -> None:
    shell.run(
        "account",
        "create",
        "broken",
        "--smtp-host",
        "localhost",
        "--smtp-port",
        str(provider.port),
        "--smtp-username",
        USER,
        "--password-file",
        password_file,
        "--ca-file",
        provider.ca_file,
        **PRIVATE,
    )
    provider.fail(Failure.AUTH)
    try:
        done = shell.run("account", "test", "broken", code=1, **PRIVATE)
        as_json = shell.run("account", "test", "broken", "--json", code=1, **PRIVATE)
    finally:
        provider.heal()
    (line,) = done.stderr.splitlines()
    assert line.startswith("mailbbgun: The account broken does not work: auth: ")
    assert "535" in line
    assert [row.split()[:2] for row in done.stdout.splitlines()][-1] == ["auth", "no"]
    assert '"ok": false' in as_json.stdout
    assert PASSWORD not in done.output + as_json.output
    (line,) = shell.run(
        "account", "test", "broken", code=os.EX_CONFIG, SMTP_CA_FILE="/nowhere", **PRIVATE
    ).stderr.splitlines()
    assert line == "mailbbgun: SMTP_CA_FILE: '/nowhere' cannot be read: No such file or directory"
    # Without ALLOW_PRIVATE_HOSTS no connection is tried.
    assert "does not work" in shell.run("account", "test", "broken", code=1).stderr
