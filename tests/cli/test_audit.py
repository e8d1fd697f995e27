"""``bin/mailbbgun audit`` and ``key list --all``, of one tenant and of all."""

from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import update

from mailbbgun.app import close, create_app
from mailbbgun.database.db import db_now
from mailbbgun.tenants.models import ApiKey
from tests.cli.conftest import Shell


@pytest.fixture(scope="module")
def busy(shell: Shell, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The tenants shop and mill; keys of shop that have ended, and an account whose password was
    read.
    """
    for name in ("shop", "mill"):
        shell.run("tenant", "create", name)
    keys = {
        name: shell.json(
            *["key", "create", "--tenant", "shop", "--scope", "accounts:reveal", "--scope", "accounts", "--name"], name
        )
        for name in ("rotated", "revoked", "expired", "reader")
    }
    keys["of mill"] = shell.json("key", "create", "--tenant", "mill", "--name", "of mill")
    shell.run("key", "rotate", keys["rotated"]["id"])
    shell.run("key", "revoke", keys["revoked"]["id"])
    with shell.services.db.write() as session:
        session.execute(update(ApiKey).where(ApiKey.id == UUID(keys["expired"]["id"])).values(expires_at=db_now(-1)))
        session.execute(
            update(ApiKey).where(ApiKey.id == UUID(keys["revoked"]["id"])).values(expires_at=db_now(-86_400))
        )
    secret = tmp_path_factory.mktemp("secret") / "password"
    secret.write_text("hunter2\n")
    options = ["--tenant", "shop", "--smtp-host", "smtp.example.com", "--smtp-username", "u", "--password-file"]
    account = shell.json("account", "create", "main", *options, str(secret))
    shell.run("account", "update", "main", "--tenant", "shop", "--weight", "2")
    services = shell.with_settings(AUTH_REQUIRED="true")
    app = create_app(services=services)
    answer = app.test_client().get(
        f"/smtp-accounts/{account['id']}/credentials", headers={"Authorization": f"Bearer {keys['reader']['key']}"}
    )
    assert answer.status_code == 200, answer.text
    close(app)
    services.close()
    return {**keys, "account": account}


def actions(answer: Any) -> list[tuple[str, str]]:
    """Return what was done to which thing, without the prefixes of keys."""
    return [
        (one["action"], one["name"] if " " not in one["name"] else one["name"].split(" ", 1)[1])
        for one in answer["audit"]
    ]


def test_one_timeline_tells_what_was_done_to_a_tenant_newest_first(shell: Shell, busy: dict[str, Any]) -> None:
    answer = shell.json("audit", "--tenant", "shop")
    moments = [one["at"] for one in answer["audit"]]
    assert moments == sorted(moments, reverse=True)
    told = actions(answer)
    for wanted in (
        ("tenant.created", "shop"),
        ("key.created", "reader"),
        ("key.rotated", "rotated"),
        ("key.revoked", "revoked"),
        ("key.expired", "expired"),
        ("account.created", "main"),
        ("account.changed", "main"),
        ("credentials.revealed", "main"),
    ):
        assert told.count(wanted) == 1, wanted
    assert told.count(("key.created", "rotated")) == 2  # the rotated key and its successor
    assert answer["count"] == len(told)
    assert {one["tenant"] for one in answer["audit"]} == {"shop"}
    read = next(one for one in answer["audit"] if one["action"] == "credentials.revealed")
    assert (read["by_key"], read["address"], read["id"]) == (
        busy["reader"]["prefix"],
        "127.0.0.1",
        busy["account"]["id"],
    )


def test_a_key_that_was_revoked_after_its_end_had_expired_before(shell: Shell, busy: dict[str, Any]) -> None:
    """It expired a day before it was revoked."""
    assert ("key.expired", "revoked") in actions(shell.json("audit", "--tenant", "shop"))


def test_the_timeline_of_all_tenants_names_them_and_no_secret(shell: Shell, busy: dict[str, Any]) -> None:
    assert {"shop", "mill", "default"} <= {one["tenant"] for one in shell.json("audit", "--all")["audit"]}
    shown = shell.run("audit", "--all")
    assert shown.stdout.split("\n")[0].split() == ["at", "action", "tenant", "name", "by_key", "address", "id"]
    assert shown.stderr == ""
    assert "hunter2" not in shown.stdout
    assert not any(one["key"] in shown.stdout for one in busy.values() if "key" in one)


def test_only_the_newest_are_shown_and_how_many_there_are(shell: Shell, busy: dict[str, Any]) -> None:
    whole = shell.json("audit", "--tenant", "shop")
    done = shell.run("audit", "--tenant", "shop", "--limit", "3")
    assert len(done.stdout.splitlines()) == 4
    assert done.stderr == f"3 of {whole['count']}; --limit shows more\n"
    assert shell.json("audit", "--tenant", "shop", "--limit", "3") == {
        "audit": whole["audit"][:3],
        "count": whole["count"],
    }


def test_all_keys_of_all_tenants_are_listed_with_what_became_of_them(shell: Shell, busy: dict[str, Any]) -> None:
    listed = shell.json("key", "list", "--all")
    states = {(one["tenant"], one["name"], one["state"]) for one in listed["keys"]}
    assert states >= {
        ("shop", "rotated", "active"),
        ("shop", "revoked", "revoked"),
        ("shop", "expired", "expired"),
        ("shop", "reader", "active"),
        ("mill", "of mill", "active"),
    }
    assert listed["count"] == len(listed["keys"])
    head, *rows = shell.run("key", "list", "--all").stdout.splitlines()
    assert head.split()[:3] == ["tenant", "state", "prefix"]
    assert len(rows) == listed["count"]
    assert "state" not in shell.json("key", "list", "--tenant", "shop")["keys"][0]


@pytest.mark.parametrize("command", [["audit"], ["key", "list"]])
def test_all_tenants_and_one_are_not_asked_for_at_once(sqlite: Shell, command: list[str]) -> None:
    assert "give one or the other" in sqlite.run(*command, "--all", "--tenant", "default", code=2).stderr
    assert "There is no tenant 'nobody'." in sqlite.run(*command, "--tenant", "nobody", code=1).stderr
