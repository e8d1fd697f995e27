"""``bin/mailbbgun alert``."""

from tests.cli.conftest import Shell


def test_an_alert_is_added_changed_silenced_tried_out_and_deleted(shell: Shell) -> None:
    given = ("--kind", "failure_rate", "--threshold", "5", "--for", "30", "--email", "a@x.test", "--email", "b@x.test")
    made = shell.json("alert", "add", "bounces", *given)
    assert (made["threshold"], made["for"], made["emails"]) == (5, 30, ["a@x.test", "b@x.test"])
    wrong = shell.run("alert", "add", "more", "--kind", "failure_rate", "--threshold", "200", code=2)
    assert "200 is more than 100" in wrong.stderr
    assert "There is an alert" in shell.run("alert", "add", "bounces", "--kind", "queue_age", code=1).stderr
    changed = shell.json("alert", "change", "bounces", "--name", "failures", "--resolve-threshold", "2")
    assert (changed["name"], changed["threshold"], changed["resolve_threshold"]) == ("failures", 5, 2)
    assert shell.json("alert", "silence", "failures", "--minutes", "5")["silenced_until"]
    assert shell.json("alert", "silence", made["id"], "--minutes", "0")["silenced_until"] is None
    assert shell.run("alert", "test", "failures").stdout == "1 to be sent\n"
    assert shell.json("alert", "change", "failures", "--email", "")["emails"] == []
    assert "failure_rate" in shell.run("alert", "list").stdout
    assert shell.json("alert", "add", "disk", "--kind", "disk_use")["all_tenants"] is True
    assert shell.json("alert", "incidents", "--state", "firing") == {"incidents": [], "count": 0}
    for name in ("failures", "disk"):
        shell.run("alert", "delete", name, "--yes")
    assert shell.json("alert", "list")["count"] == 0
    assert "There is no such alert" in shell.run("alert", "show", "failures", code=1).stderr
