"""``bin/mailbbgun inbound-route``, on each database."""

import pytest

from tests.cli.conftest import Shell

URL = "https://93.184.216.34/mail"


@pytest.fixture(scope="module")
def local(shell: Shell) -> Shell:
    """An installation with the local domain ``in.test`` and a mailbox."""
    shell.run("domain", "add", "--local", "in.test")
    shell.run("mailbox", "add", "all@in.test")
    return shell


def test_a_route_is_added_shown_listed_and_deleted(local: Shell) -> None:
    told = ["--recipient", "support*@in.test", "--header", "List-Id=*a=b*", "--post", URL, "--form", "mailgun"]
    made = local.json("inbound-route", "add", "--name", "support", "--priority", "-2", *told)
    assert made["secret"].startswith("whsec_")
    wanted = {"name": "support", "priority": -2, "stop": False, "enabled": True}
    wanted["match"] = {"recipient": "support*@in.test", "header": {"name": "List-Id", "value": "*a=b*"}}
    wanted["actions"] = [{"post": {"url": URL, "form": "mailgun"}}]
    assert made.items() >= wanted.items()
    assert local.json("inbound-route", "show", made["id"]).items() >= wanted.items()
    assert "secret" not in local.json("inbound-route", "show", "support")
    listed = local.json("inbound-route", "list")
    assert [one["id"] for one in listed["inbound_routes"]] == [made["id"]]
    printed = local.run("inbound-route", "list").stdout
    assert "recipient support*@in.test, header List-Id=*a=b*" in printed
    assert f"post {URL} (mailgun)" in printed
    assert "--yes does not ask" in local.run("inbound-route", "delete", "support", code=2).stderr
    assert local.run("inbound-route", "delete", "support", "--yes").stdout == "deleted the inbound route support\n"
    assert "no such inbound route" in local.run("inbound-route", "show", made["id"], code=1).stderr


def test_what_is_not_given_stays_and_an_empty_option_takes_away(local: Shell) -> None:
    ways = ["--store", "own", "--forward", "ann@far.test", "--forward", "ben@far.test", "--post", URL]
    local.run("inbound-route", "add", "--name", "all", "--recipient", "*@in.test", *ways)

    def changed(*options: str) -> tuple[object, object]:
        shown = local.json("inbound-route", "set", "all", *options)
        return shown["match"], {kind: value for one in shown["actions"] for kind, value in one.items()}

    recipient, post = {"recipient": "*@in.test"}, {"url": URL, "form": "json"}
    everything = {"store": {}, "forward": ["ann@far.test", "ben@far.test"], "post": post}
    assert changed("--priority", "7") == (recipient, everything)
    with_header = recipient | {"header": {"name": "X-A", "value": "*"}}
    assert changed("--header", "X-A=*") == (with_header, everything)
    assert changed("--form", "mailgun")[1] == everything | {"post": post | {"form": "mailgun"}}
    assert changed("--recipient", "", "--post", "")[0] == {"header": with_header["header"]}
    assert changed("--header", "", "--forward", "", "--store", "all@in.test") == (
        {},
        {"store": {"mailbox": "all@in.test"}},
    )
    assert changed("--store", "", "--stop") == ({}, {})
    assert local.json("inbound-route", "set", "all", "--new-secret")["secret"].startswith("whsec_")
    assert "all mail" in local.run("inbound-route", "show", "all").stdout
    assert local.json("inbound-route", "set", "all", "--no-enabled")["enabled"] is False
    local.run("inbound-route", "delete", "all", "--yes")


def test_what_a_route_cannot_be_is_told_and_nothing_is_changed(local: Shell) -> None:
    for options, why in {
        ("--recipient", "*@in.test"): "A route needs an action, or stop",
        ("--store", "none@in.test"): "There is no mailbox none@in.test.",
        ("--forward", "no address"): "@",
        ("--post", "http://127.0.0.1/"): "127.0.0.1",
        ("--form", "json", "--stop"): "--form is for a route that posts",
        ("--header", "Subject", "--stop"): "must be the field's name, =, and its value",
        ("--priority", "99999", "--stop"): "priority",
    }.items():
        assert why in local.run("inbound-route", "add", *options, code=2).stderr
    assert local.json("inbound-route", "list")["count"] == 0
    for _ in range(2):
        local.run("inbound-route", "add", "--name", "twice", "--stop")
    twice = local.run("inbound-route", "show", "twice", code=1)
    assert twice.stderr == "mailbbgun: 2 inbound routes are called 'twice': name one by its id.\n"
    assert "no such inbound route" in local.run("inbound-route", "show", "", code=1).stderr
    first = local.json("inbound-route", "list")["inbound_routes"][0]["id"]
    assert "Nothing is to be changed" in local.run("inbound-route", "set", first, code=2).stderr
    assert "A route needs an action, or stop" in local.run("inbound-route", "set", first, "--no-stop", code=2).stderr
    assert local.json("inbound-route", "show", first)["stop"] is True
    for one in local.json("inbound-route", "list")["inbound_routes"]:
        local.run("inbound-route", "delete", one["id"], "--yes")


def test_routes_are_tried_without_mail(local: Shell) -> None:
    local.run("inbound-route", "add", "--name", "urgent", "--header", "Subject=*help*", "--forward", "ann@far.test")
    found = local.json("inbound-route", "try", "x@in.test", "--header", "Subject=Please help: a=b")
    assert found == {
        "routes": found["routes"],
        "stores": [],
        "forwards": ["ann@far.test"],
        "posts": [],
        "reply": "250 2.1.5 taken",
    }
    assert [one["name"] for one in found["routes"]] == ["urgent"]
    assert "if a route matches its header" in local.run("inbound-route", "try", "x@in.test").stdout
    assert "550 5.1.1" in local.run("inbound-route", "try", "x@in.test", "--header", "Subject=Hi", code=1).stdout
    assert "550 5.7.1" in local.run("inbound-route", "try", "x@far.test", code=1).stdout
    assert "recipient" in local.run("inbound-route", "try", "nobody", code=2).stderr
