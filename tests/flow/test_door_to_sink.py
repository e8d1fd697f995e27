"""Mail from the HTTP door to an SMTP server, on both configurations, with real processes only."""

import os
import signal
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from mailbbgun.settings.settings import Settings
from tests.conftest import MOSTLY_EMBEDDED, MOSTLY_REAL
from tests.flow.service import Service, until


@pytest.fixture
def shared(running: Service) -> Service:
    """The service that the tests of this file share, without pending mail."""
    running.renew()
    return running


@pytest.fixture
def service(backend: Settings) -> Iterator[Service]:
    """A service of its own, for tests that end the worker."""
    with Service(backend, LEASE_SECONDS=8, SWEEP_SECONDS=1) as started:
        started.start_worker()
        yield started


@pytest.mark.both
def test_a_message_arrives_and_its_timeline_says_so(shared):
    sent = shared.post(
        to=["ann@example.test", "ben@example.test"], cc="cis@example.test", bcc="dot@example.test", tags=["greeting"]
    )
    shown = shared.ended(sent["id"], "DELIVERED")
    assert {one["address"]: one["status"] for one in shown["deliveries"]} == dict.fromkeys(
        ["ann@example.test", "ben@example.test", "cis@example.test", "dot@example.test"], "DELIVERED"
    )
    assert shared.kinds(sent["id"]) == ["accepted"] + ["delivered"] * 4
    assert [sorted(message["to"]) for message in shared.taken()] == [
        sorted(one["address"] for one in shown["deliveries"])
    ]


def test_what_was_sent_is_in_the_statistics_and_exports_once_a_worker_has_counted_it(shared):
    good = shared.post(to=["ann@figures.test", "later-1-ben@figures.test"], tags=["figures"])
    bad = shared.post(to="never-cis@figures.test", tags=["figures"])
    shared.ended(good["id"], "DELIVERED")
    shared.ended(bad["id"], "ERROR")
    wanted = {"messages": 2, "accepted": 3, "delivered": 2, "failed": 1, "deferred": 1, "reasons": {"bounced": 1}}

    def counted():
        total = shared.get("/statistics?tag=figures")["total"]
        return {name: total[name] for name in wanted} == wanted and total

    total = until(counted, what="figures of all events")
    assert 0 < total["time_to_deliver"]["p50"] <= total["time_to_deliver"]["p99"]
    exported = shared.http.get(f"{shared.url}/exports/events?tag=figures&kind=delivered", timeout=60)
    assert len(exported.text.splitlines()) == 2


def test_a_worker_that_has_nothing_to_write_keeps_its_journal_young(shared):
    (path,) = until(lambda: list((shared.var / "journal").glob("*.journal")), what="the worker's journal")
    os.utime(path, (0, 0))
    until(lambda: path.stat().st_mtime > 0, what="a journal that its worker touched")


def test_quoted_local_parts_are_sent_unchanged_and_each_mailbox_gets_one_copy(shared):
    recipients = ['"a..b"@docomo.test', '"a@b,c"@example.test', "ann@example.test"]
    sent = shared.post(to=[*recipients, "ANN@EXAMPLE.test", '"ann"@example.test'], bcc='"A..B"@Docomo.test')
    shared.ended(sent["id"], "DELIVERED")
    assert [sorted(message["to"]) for message in shared.taken()] == [sorted(recipients)]


def test_a_4xx_is_retried_through_the_delay_queue_byte_for_byte_and_a_5xx_ends_with_its_reply(shared):
    later = shared.post(to="later-1-ann@example.test")
    never = shared.post(to="never-ann@example.test")
    failed = shared.ended(never["id"], "ERROR")["deliveries"][0]
    assert (failed["reason"], failed["last_reply"]) == ("bounced", "550 no such user here")
    assert (failed["cause"], failed["class"]) == ("invalid_mailbox", "hard")
    (why,) = shared.get(f"/messages/{never['id']}/explain")["deliveries"]
    assert "because there is no such mailbox" in why["text"]
    bounced = [one for one in shared.get(f"/messages/{never['id']}/events")["events"] if one["kind"] == "bounced"]
    assert [(one["data"]["code"], one["data"]["enhanced"], one["data"]["phase"]) for one in bounced] == [
        (550, "5.1.1", "rcpt")
    ]
    assert (bounced[0]["data"]["cause"], bounced[0]["data"]["class"]) == ("invalid_mailbox", "hard")
    shared.ended(later["id"], "DELIVERED")
    assert shared.kinds(later["id"]) == ["accepted", "deferred", "delivered"]
    (arrived,) = shared.get(f"/messages/{later['id']}")["deliveries"]
    assert (arrived["cause"], arrived["class"]) == (None, None)
    assert (shared.attempts(later["id"]), shared.attempts(never["id"])) == ([2], [1])
    events = {
        one["kind"]: datetime.fromisoformat(one["at"])
        for one in shared.get(f"/messages/{later['id']}/events")["events"]
    }
    assert (events["delivered"] - events["deferred"]).total_seconds() > 1.7
    assert shared.copies() == {"later-1-ann@example.test": 1}


def test_the_refusal_of_one_recipient_does_not_affect_the_others(shared):
    sent = shared.post(to=["ann@example.test", "never-ben@example.test", "later-1-cis@example.test"])
    shown = shared.ended(sent["id"], "ERROR")
    assert {one["address"]: one["status"] for one in shown["deliveries"]} == {
        "ann@example.test": "DELIVERED",
        "never-ben@example.test": "ERROR",
        "later-1-cis@example.test": "DELIVERED",
    }
    assert shared.attempts(sent["id"]) == [1, 1, 2]
    assert shared.copies() == {"ann@example.test": 1, "later-1-cis@example.test": 1}
    events = shared.get(f"/messages/{sent['id']}/events")["events"]
    told = {(one["kind"], one["data"]["host"], one["data"]["ip"]) for one in events if one["kind"] != "accepted"}
    assert told == {(kind, "127.0.0.1", "127.0.0.1") for kind in ("delivered", "bounced", "deferred")}


def test_a_reply_lost_after_data_is_recorded_as_unknown_and_sent_again_with_the_same_bytes(shared):
    sent = shared.post(to="lost-ann@example.test")
    shared.ended(sent["id"], "DELIVERED")
    assert shared.kinds(sent["id"]) == ["accepted", "outcome_unknown", "delivered"]
    assert shared.attempts(sent["id"]) == [2]
    assert shared.copies() == {"lost-ann@example.test": 2}
    assert len({(message["sha"], message["id"]) for message in shared.taken()}) == 1


@pytest.mark.long
@MOSTLY_EMBEDDED
def test_a_delivery_expires_at_the_end_of_its_retry_schedule(service):
    sent = service.post(to="later-9-ann@example.test")
    shown = service.ended(sent["id"], "ERROR", 30)
    assert shown["deliveries"][0]["reason"] == "expired"
    assert service.kinds(sent["id"]) == ["accepted", "deferred", "deferred", "deferred", "expired"]
    assert service.attempts(sent["id"]) == [4]
    again = service.http.post(f"{service.url}/messages/{sent['id']}/retry")
    assert again.status_code == 200, again.text
    until(lambda: service.kinds(sent["id"])[5:7] == ["retried", "deferred"], what="the new attempt")
    service.stop("worker")
    assert service.attempts(sent["id"]) == [len(service.kinds(sent["id"])) - 2]  # all but accepted and retried


@pytest.mark.long
def test_a_deferral_by_an_open_circuit_is_no_attempt(embedded_settings):
    # One after the other: mail that leaves at the same time finds the circuit closed.
    with Service(
        embedded_settings, WORKER_CONNECTIONS=1, CIRCUIT_FAILURES=2, CIRCUIT_PAUSE_SECONDS=1, SWEEP_SECONDS=1
    ) as service:
        service.kill("sink")
        service.start_worker()
        sent = [service.post(to=[f"u{n}@example.test", f"v{n}@example.test"])["id"] for n in range(6)]
        for identifier in sent:
            service.ended(identifier, "ERROR", 60)
        spared = 0
        for identifier in sent:
            told = [
                one
                for one in service.get(f"/messages/{identifier}/events")["events"]
                if one["kind"] in ("deferred", "expired")
            ]
            assert len(told) == 8  # for each recipient three deferrals and the expiry
            asked = [one["address"] for one in told if not one["data"]["reply"].startswith("not tried, ")]
            spared += len(told) - len(asked)
            shown = {one["address"]: one["attempts"] for one in service.message(identifier)["deliveries"]}
            assert shown == {address: asked.count(address) for address in shown}
        assert spared
        assert spared < 6 * 8  # some deliveries were attempted


def test_a_deferral_says_when_the_next_attempt_is_due(shared):
    sent = shared.post(to="later-1-eve@example.test")

    def deferral() -> dict | None:
        return next(
            (one for one in shared.get(f"/messages/{sent['id']}/events")["events"] if one["kind"] == "deferred"), None
        )

    found = until(deferral, what="the refusal")
    # RETRY_DELAYS is 2 seconds with a jitter of a tenth. The event has the time of our clock; due
    # times are of the database's clock.
    due, at = datetime.fromisoformat(found["data"]["retry_at"]), datetime.fromisoformat(found["at"])
    assert (due - at).total_seconds() > 1.7
    assert (due - datetime.now(UTC)).total_seconds() < 2.3
    assert found["data"]["retry_at"].endswith("Z")
    assert found["data"]["retry_in"] == 2
    shared.ended(sent["id"], "DELIVERED")
    ended = shared.get(f"/messages/{sent['id']}/events?limit=1")["events"][0]
    assert ended["kind"] == "delivered"
    assert not ended["data"].keys() & {"retry_in", "retry_at"}


@pytest.mark.long
@MOSTLY_REAL
def test_a_manual_retry_of_a_deferred_message_is_sent_at_once_and_its_old_delay_hint_does_no_harm(backend):
    with Service(backend, RETRY_DELAYS="6,600", LEASE_SECONDS=8, SWEEP_SECONDS=1) as service:
        service.start_worker()

        def retried(identifier: str) -> list[str]:
            assert service.http.post(f"{service.url}/messages/{identifier}/retry").status_code == 200
            return service.kinds(identifier)

        twice = service.post(to="later-2-ann@example.test", priority=9)["id"]
        until(lambda: service.kinds(twice) == ["accepted", "deferred"], what="the first refusal")
        assert retried(twice)[:3] == ["accepted", "deferred", "retried"]
        # It is refused again and continues on its schedule. The delay hint of the first deferral
        # comes before that of the other message, which was deferred later.
        until(lambda: service.kinds(twice)[2:] == ["retried", "deferred"], what="the second refusal")
        service.ended(service.post(to="later-1-ben@example.test", priority=9)["id"], "DELIVERED")
        assert service.kinds(twice) == ["accepted", "deferred", "retried", "deferred"]
        assert service.message(twice)["deliveries"][0]["attempts"] == 2
        retried(twice)
        service.ended(twice, "DELIVERED")  # without waiting for the 600 s
        assert service.kinds(twice) == ["accepted", "deferred", "retried", "deferred", "retried", "delivered"]
        assert service.message(twice)["deliveries"][0]["attempts"] == 3
        assert service.copies() == {"later-1-ben@example.test": 1, "later-2-ann@example.test": 1}


def test_a_pending_message_can_be_cancelled_and_a_delivered_one_cannot(shared):
    sent = shared.post(to="ann@example.test")
    shared.ended(sent["id"], "DELIVERED")
    assert shared.http.delete(f"{shared.url}/messages/{sent['id']}").status_code == 409
    waiting = shared.post(to="later-1-fay@example.test")
    until(lambda: "deferred" in shared.kinds(waiting["id"]))
    assert shared.http.delete(f"{shared.url}/messages/{waiting['id']}").status_code == 200
    assert shared.message(waiting["id"])["status"] == "CANCELLED"
    # A message that is deferred later by the same delay arrives later, so the wait is over by then.
    shared.ended(shared.post(to="later-1-gus@example.test")["id"], "DELIVERED")
    assert shared.copies()["later-1-fay@example.test"] == 0


@MOSTLY_REAL
def test_a_worker_killed_between_dot_and_answer_marks_the_outcome_unknown(service):
    sent = service.post(to="slow-ann@example.test")
    until(lambda: service.taken())
    service.kill("worker")
    service.start_worker()
    service.ended(sent["id"], "DELIVERED", 30)
    assert service.kinds(sent["id"]) == ["accepted", "outcome_unknown", "delivered"]
    assert service.attempts(sent["id"]) == [2]


@MOSTLY_EMBEDDED
def test_a_worker_finishes_the_current_transaction_at_sigterm(service):
    sent = service.post(to="slow-ann@example.test")
    until(lambda: service.taken())
    assert service.stop("worker") == 0
    assert service.message(sent["id"])["status"] == "DELIVERED"
    assert list((service.var / "journal").iterdir()) == []


@pytest.mark.long
@MOSTLY_EMBEDDED
def test_a_second_sigterm_ends_a_worker_at_once_and_its_journal_keeps_the_outcome(service):
    sent = service.post(to="mute-ann@example.test")  # its dot gets no reply, so the worker cannot finish it first
    until(lambda: service.taken())
    worker = service.processes.pop("worker")

    def told_again() -> bool:
        worker.send_signal(signal.SIGTERM)  # two signals at once count as one
        return worker.poll() is not None

    until(told_again, what="the end of a worker after a second signal")
    assert worker.returncode == 1
    service.start_worker()
    until(lambda: service.kinds(sent["id"])[1:2] == ["outcome_unknown"], what="the outcome from the journal")


@pytest.mark.long
@MOSTLY_REAL
def test_a_message_that_also_kills_its_isolated_process_is_parked(service):
    service.stop("worker")
    sent = service.post(to="kill-ann@example.test")
    service.sql("UPDATE deliveries SET crashes = 4")
    worker = service.start_worker()
    service.ended(sent["id"], "ERROR")
    assert service.kinds(sent["id"]) == ["accepted", "parked"]
    assert worker.poll() is None  # only its child process died


@pytest.mark.long
def test_a_message_that_kills_workers_is_isolated_and_parked_and_other_mail_arrives(service):
    sent = service.post(to="kill-ann@example.test")
    neighbours = [service.post(to=f"n{number}@example.test") for number in range(20)]

    def parked() -> bool:
        if "worker" in service.processes and service.processes["worker"].poll() is not None:
            service.start_worker()
        return bool(service.message(sent["id"])["status"] == "ERROR")

    until(parked, 120, "parking")
    assert service.message(sent["id"])["deliveries"][0]["reason"] == "parked"
    assert service.kinds(sent["id"]) == ["accepted"] + ["worker_lost"] * 4 + ["parked"]
    assert service.attempts(sent["id"]) == [0]  # no attempt came to an end
    deaths = service.processes["worker"].poll()
    assert deaths is None  # the last three crashes killed only the child process
    for number, neighbour in enumerate(neighbours):
        service.ended(neighbour["id"], "DELIVERED")
        assert service.copies()[f"n{number}@example.test"] == 1 + service.kinds(neighbour["id"]).count(
            "outcome_unknown"
        )


@pytest.mark.long
@MOSTLY_REAL
def test_an_isolated_delivery_may_take_longer_than_a_lease(backend):
    with Service(backend, LEASE_SECONDS=4, SWEEP_SECONDS=1) as service:
        slow = service.post(to="hesitate-7-ann@example.test")["id"]  # more than one and a half leases
        service.sql("UPDATE deliveries SET crashes = 2")
        service.start_worker()
        service.ended(slow, "DELIVERED", 30)
        assert service.kinds(slow) == ["accepted", "delivered"]
        assert service.copies() == {"hesitate-7-ann@example.test": 1}
        until(lambda: "sent_isolated" in (service.var / "worker.out").read_text(), what="the end of the child process")
        assert "fenced" not in (service.var / "worker.out").read_text()


@MOSTLY_REAL
def test_ready_names_the_part_that_is_not_ready(service):
    until(lambda: service.http.get(f"{service.url}/ready").status_code == 200, what="/ready")
    service.stop("worker")
    answer = service.http.get(f"{service.url}/ready")
    assert answer.status_code == 503
    assert "worker" in answer.text


@MOSTLY_REAL
def test_mail_of_high_priority_overtakes_bulk_mail_which_still_moves(backend):
    with Service(backend, WORKER_CONNECTIONS=1, MESSAGES_PER_CONNECTION=1000) as service:
        for number in range(60):
            service.post(to=f"bulk{number}@example.test", priority=0)
        high = service.post(to="high@example.test", priority=9)
        service.start_worker()
        service.ended(high["id"], "DELIVERED", 30)
        until(lambda: len(service.taken()) == 61, 30)
        order = [message["to"][0] for message in service.taken()]
        assert order.index("high@example.test") < 20


def test_mail_of_high_priority_goes_next_although_bulk_mail_fills_the_send_queue(backend):
    with Service(backend, WORKER_CONNECTIONS=1, MESSAGES_PER_CONNECTION=1000) as service:
        for number in range(40):
            service.post(to=f"bulk{number}@example.test", priority=0)
        service.processes["sink"].send_signal(signal.SIGSTOP)
        service.start_worker()
        claimed = "SELECT count(*) FROM deliveries WHERE lease_owner IS NOT NULL AND address LIKE :name"
        until(lambda: service.sql(claimed, name="bulk%")[0][0] >= 8, what="a full send queue")
        service.post(to="high@example.test", priority=9)
        until(lambda: service.sql(claimed, name="high%")[0][0] == 1, what="a claim of the mail of high priority")
        service.processes["sink"].send_signal(signal.SIGCONT)
        until(lambda: len(service.taken()) == 41, what="all mail")
        order = [message["to"][0] for message in service.taken()]
        assert order.index("high@example.test") <= 2  # after the one that was under way, and at most one turn of bulk
