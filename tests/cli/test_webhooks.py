"""``bin/mailbbgun webhook``, with a receiver on this machine."""

from tests.cli.conftest import Shell
from tests.webhooks.receiver import WebhookReceiver


def test_a_webhook_is_added_tested_rotated_replayed_and_deleted(shell: Shell) -> None:
    private = {"ALLOW_PRIVATE_HOSTS": "127.0.0.1"}
    assert "no public" in shell.run("webhook", "add", "http://127.0.0.1/", code=2).stderr
    with WebhookReceiver() as receiver:
        made = shell.json("webhook", "add", receiver.url, "--kind", "bounced", "--description", "mine", **private)
        receiver.secret, called = made["secret"], made["id"]
        assert (made["kinds"], made["state"], made["description"]) == (["bounced"], "active", "mine")
        assert shell.json("webhook", "test", called, **private)["status"] == 204
        assert receiver.acknowledged("webhook.test") == 1
        receiver.answers = lambda _: 500
        assert "It answered 500" in shell.run("webhook", "test", called, code=1, **private).stderr
    assert [one["status"] for one in shell.json("webhook", "attempts", called)["attempts"]] == [500, 204]
    assert "500" in shell.run("webhook", "attempts", called).stdout
    rotated = shell.json("webhook", "rotate", called, "--keep-hours", "2")
    assert rotated["secret"] != made["secret"]
    assert rotated["two_secrets_until"]
    assert shell.json("webhook", "disable", called)["state"] == "disabled"
    window = ("--from", "2026-01-01", "--to", "2026-01-02")
    assert "disabled" in shell.run("webhook", "replay", called, *window, code=1).stderr
    assert shell.json("webhook", "enable", called)["state"] == "active"
    assert "started" in shell.run("webhook", "replay", called, *window).stdout
    assert "no event" in shell.run("webhook", "redeliver", called, "1-" + "0" * 32, code=1, **private).stderr
    assert "position" in shell.run("webhook", "redeliver", called, "x", code=2).stderr
    shown = shell.json("webhook", "show", called)
    assert "secret" not in shown
    assert [one["id"] for one in shell.json("webhook", "list")["webhooks"]] == [called]
    assert receiver.url in shell.run("webhook", "list").stdout
    assert "no id" in shell.run("webhook", "show", "x", code=1).stderr
    assert "deleted" in shell.run("webhook", "delete", called, "--yes").stdout
    assert shell.json("webhook", "list")["count"] == 0
