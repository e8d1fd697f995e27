"""Mail of test keys from the door to the catcher, beside live mail, with every process real."""

from collections.abc import Iterator
from email import message_from_bytes
from pathlib import Path
from typing import Any

import pytest

from mailbbgun.core.ids import DEFAULT_TENANT
from mailbbgun.settings.load import load
from tests.flow.service import Service, until
from tests.servers.process import free_port
from tests.waiting import PATIENCE, at_least

CONNECTIONS = 4
MAGIC = ("ann", "bounce", "bounce+17", "defer", "slow+0.7", "complain", "complain+17")


class Tried(Service):
    """A service with a sink for live mail and a catcher for mail of a test key."""

    def __init__(self, *args: Any, **overrides: object) -> None:
        super().__init__(
            *args, CATCHER_PORT=free_port(), RETRY_DELAYS="1,1,2,2,2,2,2", WORKER_CONNECTIONS=CONNECTIONS, **overrides
        )
        self.test = ""
        self.catchers = 0  # starts of the catcher

    def __enter__(self) -> "Tried":
        super().__enter__()
        self.test = self.key("test")
        return self

    def key(self, kind: str) -> str:
        """Make a key."""
        guests = {"guests": ["example.test", "simulator"]} if kind == "team" else {}
        made = self.http.post(
            f"{self.url}/tenants/{DEFAULT_TENANT}/keys", json={"name": kind, "kind": kind} | guests, timeout=PATIENCE
        )
        assert made.status_code == 201, made.text
        return str(made.json()["key"])

    def start_catcher(self) -> None:
        """Start the catcher; return when it listens."""
        self._spawn("catcher", "-m", "mailbbgun.catcher")
        self.catchers += 1
        until(lambda: (self.var / "catcher.out").read_text().count(" catching ") == self.catchers, what="the catcher")

    def ask(self, key: str | None, **message: Any) -> Any:
        """Send a message with a key, or without; return the answer."""
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        return self.http.post(
            f"{self.url}/messages",
            json={"subject": "hello", "text": "hello"} | message,
            headers=headers,
            timeout=PATIENCE,
        )

    def try_out(self, **message: Any) -> str:
        """Send a message with the test key; return its id."""
        answer = self.ask(self.test, **message)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    def timeline(self, identifier: str, address: str) -> list[dict[str, Any]]:
        """Return one recipient's events, oldest first."""
        events = self.get(f"/messages/{identifier}/events?limit=1000")["events"]
        return sorted((event for event in events if event["address"] == address), key=lambda event: event["id"])

    def caught(self) -> list[str]:
        """Return whom the catcher took mail for."""
        mails = [message_from_bytes(file.read_bytes()) for file in (self.var / "mail" / "new").iterdir()]
        return sorted(address for mail in mails for address in mail.get_all("X-Envelope-To"))


@pytest.fixture(scope="module", params=[pytest.param("sqlite", marks=pytest.mark.long), "postgresql"])
def service(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tried]:
    var: Path = tmp_path_factory.mktemp("tried") / "var"
    environment = {"MAILBBGUN_VAR": str(var), "MAILBBGUN_HOSTNAME": "mail.example.com"}
    if request.param == "postgresql":
        server = request.getfixturevalue("postgresql")
        environment["MAILBBGUN_DATABASE_URL"] = server.url(server.create_database())
    with Tried(load(environment)) as started:
        started.start_catcher()
        started.start_worker()
        yield started


def test_mail_of_a_test_key_is_caught_and_all_other_mail_leaves(service):
    live = service.post(to=["ann@whole.test", "ben@whole.test"])["id"]
    test = service.try_out(to="cis@whole.test", cc="dot+whole@simulator", bcc="eve@whole.test", tags=["tried"])
    keyed = service.ask(service.key("live"), to="fay@whole.test").json()["id"]
    for identifier in (live, test, keyed):
        service.ended(identifier, "DELIVERED")
    copies = {address: count for address, count in service.copies().items() if address.endswith("@whole.test")}
    assert copies == {"ann@whole.test": 1, "ben@whole.test": 1, "fay@whole.test": 1}
    assert [one for one in service.caught() if "whole" in one] == [
        "cis@whole.test",
        "dot+whole@simulator",
        "eve@whole.test",
    ]
    assert [service.message(identifier)["test"] for identifier in (live, test, keyed)] == [False, True, False]


def test_a_message_and_each_line_about_it_say_by_whose_key_it_came(service):
    made = service.http.post(
        f"{service.url}/tenants/{DEFAULT_TENANT}/keys", json={"name": "told"}, timeout=PATIENCE
    ).json()
    sent = service.ask(made["key"], to=["ann@told.test", "never@told.test"]).json()["id"]
    without, tried = service.post(to="ben@told.test")["id"], service.try_out(to="ann@simulator")
    for identifier, status in ((sent, "DELIVERED"), (without, "DELIVERED"), (tried, "DELIVERED")):
        until(lambda: service.message(identifier)["status"] in (status, "ERROR"))  # noqa: B023 - asked at once
    assert [service.message(identifier)["key_id"] for identifier in (sent, without)] == [made["id"], None]
    assert service.message(tried)["key_id"] not in (made["id"], None)  # the test key's own
    for program, kind in (("api", "accepted"), ("worker", "delivered")):
        lines = [line for line in (service.var / f"{program}.out").read_text().splitlines() if f" {kind} " in line]
        assert [
            line for line in lines if f"message_id={sent} tenant_id={DEFAULT_TENANT} key_id={made['id']} " in line
        ], program
        assert [
            line
            for line in lines
            if f"message_id={without} tenant_id={DEFAULT_TENANT}" in line and "key_id" not in line
        ], program


def test_magic_recipients_behave_and_their_timelines_show_it(service):
    with at_least(0.6):
        sent = {name: service.try_out(to=f"{name}@simulator") for name in MAGIC}
        service.ended(sent["slow+0.7"], "DELIVERED")
    together = service.try_out(to=["bounce@simulator", "complain@simulator", "ann@simulator"])
    for name, status in {
        "ann": "DELIVERED",
        "bounce": "ERROR",
        "bounce+17": "ERROR",
        "complain": "DELIVERED",
        "complain+17": "DELIVERED",
    }.items():
        service.ended(sent[name], status)
    until(lambda: "deferred" in service.kinds(sent["defer"]))
    service.ended(together, "ERROR")

    def told(identifier: str, name: str) -> list[tuple[str, int | None]]:
        return [
            (event["kind"], event["data"].get("code")) for event in service.timeline(identifier, f"{name}@simulator")
        ]

    delivered, complained, bounced = ("delivered", 250), ("complained", None), ("bounced", 550)
    assert told(sent["ann"], "ann") == told(sent["slow+0.7"], "slow+0.7") == told(together, "ann") == [delivered]
    assert (
        told(sent["bounce"], "bounce") == told(sent["bounce+17"], "bounce+17") == told(together, "bounce") == [bounced]
    )
    assert (
        told(sent["complain"], "complain")
        == told(sent["complain+17"], "complain+17")
        == told(together, "complain")
        == [delivered, complained]
    )
    assert told(sent["defer"], "defer")[0] == ("deferred", 451)
    until(
        lambda: service.http.delete(f"{service.url}/messages/{sent['defer']}", timeout=PATIENCE).ok,
        what="a moment in which it is not being tried",
    )
    (_, complaint) = service.timeline(sent["complain"], "complain@simulator")
    assert complaint["data"]["feedback_type"] == "abuse"
    assert service.message(sent["complain"])["deliveries"][0]["status"] == "DELIVERED"
    assert not [address for address in service.copies() if address.endswith("@simulator")]


def test_only_test_keys_write_to_the_simulator(service):
    for key in (None, service.key("live"), service.key("team")):
        for field in ("to", "cc", "bcc"):
            refused = service.ask(key, **({"to": "ann@example.test"} | {field: "Complain@Simulator"}))
            assert refused.status_code == 400
            assert list(refused.json()["error"]["fields"]) == [field]
    assert service.ask(None, to="complain@simulator.test").status_code == 201


def test_a_list_shows_what_test_keys_sent_or_what_others_did(service):
    test = service.try_out(to="ann@simulator", tags=["listed"])
    live = service.post(to="ann@example.test", tags=["listed"])["id"]
    for query, ids in (("&test=true", [test]), ("&test=false", [live]), ("", [live, test])):
        page = service.get(f"/messages?tag=listed{query}")
        assert ([one["id"] for one in page["messages"]], page["count"]) == (ids, len(ids))
    assert all(one["test"] for one in service.get("/messages?test=true")["messages"])
    every, tried = (service.get(f"/messages?limit=0{query}")["count"] for query in ("", "&test=true"))
    assert every - tried == service.get("/messages?limit=0&test=false")["count"] > 0
    assert service.http.get(f"{service.url}/messages?test=maybe", timeout=PATIENCE).status_code == 400


def test_of_a_worker_that_dies_before_the_commit_one_complaint_comes_by_its_journal(service):
    until(lambda: service.count("PENDING") == 0, what="the end of all that went before")
    service.kill("worker")
    service.start_worker(fault="results.commit:1:kill")
    sent = service.try_out(to="complain@simulator")
    service.processes.pop("worker").wait(PATIENCE)
    service.start_worker()
    service.ended(sent, "DELIVERED")
    assert [event["kind"] for event in service.timeline(sent, "complain@simulator")] == ["delivered", "complained"]
    assert service.struck("worker", "results.commit") == 1


def test_a_catcher_that_is_away_holds_back_test_mail_alone(service):
    service.stop("catcher")
    waiting = [service.try_out(to=f"wait{number}@example.test") for number in range(3)]
    for identifier in waiting:
        until(lambda: "deferred" in service.kinds(identifier))  # noqa: B023 - asked at once
    service.ended(service.post(to="live@example.test")["id"], "DELIVERED")
    assert {service.message(identifier)["status"] for identifier in waiting} == {"PENDING"}
    service.start_catcher()
    for identifier in waiting:
        service.ended(identifier, "DELIVERED")
    assert [address for address in service.caught() if address.startswith("wait")] == [
        f"wait{number}@example.test" for number in range(3)
    ]
    assert not [address for address in service.copies() if address.startswith("wait")]


def test_slow_recipients_of_test_mail_leave_connections_to_live_mail(service):
    slow = [service.try_out(to="slow+3@simulator") for _ in range(CONNECTIONS + 1)]
    under_way = "SELECT 1 FROM deliveries WHERE status = 'PENDING' AND address LIKE 'slow%' AND lease_owner IS NOT NULL"
    until(lambda: len(service.sql(under_way)) >= CONNECTIONS, what="a claim of most of it")
    service.ended(service.post(to="quick@example.test")["id"], "DELIVERED")
    # One after the other, by the one connection that test mail may have of four; were it all of them, live mail would be behind four.
    assert [service.message(identifier)["status"] for identifier in slow].count("DELIVERED") < CONNECTIONS
    assert service.copies()["quick@example.test"] == 1
