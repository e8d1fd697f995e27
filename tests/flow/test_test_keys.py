"""Mail of test keys goes to the catcher, beside live mail, with real processes only."""

import pytest

from mailbbgun.core.ids import DEFAULT_TENANT
from tests.flow.service import until
from tests.flow.tried import CONNECTIONS, Tried
from tests.waiting import PATIENCE, at_least

MAGIC = ("ann", "bounce", "bounce+17", "defer", "slow+0.7", "complain", "complain+17")


@pytest.fixture(scope="module")
def service(tried: Tried) -> Tried:
    return tried


def test_mail_of_a_test_key_is_caught_and_other_mail_leaves(service):
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


def test_a_message_and_its_log_lines_name_the_key_that_sent_it(service):
    made = service.http.post(
        f"{service.url}/tenants/{DEFAULT_TENANT}/keys", json={"name": "told"}, timeout=PATIENCE
    ).json()
    sent = service.ask(made["key"], to=["ann@told.test", "never@told.test"]).json()["id"]
    without, tried = service.post(to="ben@told.test")["id"], service.try_out(to="ann@simulator")
    for identifier, status in ((sent, "DELIVERED"), (without, "DELIVERED"), (tried, "DELIVERED")):
        until(lambda: service.message(identifier)["status"] in (status, "ERROR"))  # noqa: B023 - asked at once
    assert [service.message(identifier)["key_id"] for identifier in (sent, without)] == [made["id"], None]
    assert service.message(tried)["key_id"] not in (made["id"], None)  # the id of the test key
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
    statuses = {"ann": "DELIVERED", "bounce": "ERROR", "complain": "DELIVERED"}
    for name, status in (statuses | {"bounce+17": "ERROR", "complain+17": "DELIVERED"}).items():
        service.ended(sent[name], status)
    until(lambda: "deferred" in service.kinds(sent["defer"]))
    service.ended(together, "ERROR")

    def told(identifier: str, name: str) -> list[tuple[str, int | None]]:
        events = service.timeline(identifier, f"{name}@simulator")
        return [(event["kind"], event["data"].get("code")) for event in events]

    delivered, complained, bounced = ("delivered", 250), ("complained", None), ("bounced", 550)
    for kinds, names in (
        ([delivered], ("ann", "slow+0.7")),
        ([bounced], ("bounce", "bounce+17")),
        ([delivered, complained], ("complain", "complain+17")),
    ):
        assert [told(sent[name], name) for name in names] == [kinds, kinds]
        assert told(together, names[0]) == kinds
    assert told(sent["defer"], "defer")[0] == ("deferred", 451)
    deferred = f"{service.url}/messages/{sent['defer']}"
    until(lambda: service.http.delete(deferred, timeout=PATIENCE).ok, what="a moment without an attempt")
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


def test_a_list_can_show_test_messages_or_live_messages_only(service):
    test = service.try_out(to="ann@simulator", tags=["listed"])
    live = service.post(to="ann@example.test", tags=["listed"])["id"]
    for query, ids in (("&test=true", [test]), ("&test=false", [live]), ("", [live, test])):
        page = service.get(f"/messages?tag=listed{query}")
        assert ([one["id"] for one in page["messages"]], page["count"]) == (ids, len(ids))
    assert all(one["test"] for one in service.get("/messages?test=true")["messages"])
    every, tried = (service.get(f"/messages?limit=0{query}")["count"] for query in ("", "&test=true"))
    assert every - tried == service.get("/messages?limit=0&test=false")["count"] > 0
    assert service.http.get(f"{service.url}/messages?test=maybe", timeout=PATIENCE).status_code == 400


def test_a_worker_that_dies_before_the_commit_leads_to_one_complaint_from_its_journal(service):
    until(lambda: service.count("PENDING") == 0, what="the end of earlier mail")
    service.kill("worker")
    service.start_worker(fault="results.commit:1:kill")
    sent = service.try_out(to="complain@simulator")
    service.processes.pop("worker").wait(PATIENCE)
    service.start_worker()
    service.ended(sent, "DELIVERED")
    assert [event["kind"] for event in service.timeline(sent, "complain@simulator")] == ["delivered", "complained"]
    assert service.struck("worker", "results.commit") == 1


def test_without_a_catcher_only_test_mail_waits(service):
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
    until(lambda: len(service.sql(under_way)) >= CONNECTIONS, what="the claims of most of it")
    service.ended(service.post(to="quick@example.test")["id"], "DELIVERED")
    # Test mail may use one of the four connections. If it used all of them, live mail would wait
    # for four slow messages.
    assert [service.message(identifier)["status"] for identifier in slow].count("DELIVERED") < CONNECTIONS
    assert service.copies()["quick@example.test"] == 1
