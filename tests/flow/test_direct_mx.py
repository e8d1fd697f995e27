"""``SMTP_URL = "mx:"``: mail goes to the MX of each domain, found by a real name server."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from mailbbgun.settings.settings import Settings
from tests.conftest import MOSTLY_REAL
from tests.flow.service import Service, until
from tests.smtp.behaviours import silent
from tests.smtp.name_server import NameServer
from tests.smtp.peers import Dialogue, Peer
from tests.waiting import pause

#: Messages to a silent server: sixty times as many as a worker holds.
STUCK = 700

ZONE = {
    "one.test": {"MX": ["10 mx.one.test."]},
    "mx.one.test": {"A": ["127.0.0.1"]},
    "two.test": {"MX": ["20 mx.one.test.", "10 dead.two.test."]},
    "dead.two.test": {"A": ["127.0.0.2"]},  # nothing listens there
    "null.test": {"MX": ["0 ."]},
    "broken.test": "SERVFAIL",
    "inner.test": {"MX": ["10 localhost.", "20 mx.inner.test."]},  # only internal hosts
    "localhost": {"A": ["127.0.0.9"]},
    "mx.inner.test": {"A": ["10.0.0.1"], "AAAA": ["::1"]},
    "nearly.test": {"MX": ["10 localhost.", "20 mx.one.test."]},
    "tarpit.test": {"MX": ["10 mx.tarpit.test."]},
    "mx.tarpit.test": {"A": ["127.0.0.3"]},
}


@pytest.fixture
def names() -> Iterator[NameServer]:
    with NameServer(ZONE) as server:
        yield server


@contextmanager
def direct(settings: Settings, names: NameServer, **overrides: object) -> Iterator[Service]:
    permitted = {"ALLOW_PRIVATE_HOSTS": "127.0.0.1,127.0.0.2,127.0.0.3"}
    dns = f"127.0.0.1:{names.port}"
    service = Service(
        settings, SMTP_URL="mx:", DNS_SERVERS=dns, LEASE_SECONDS=8, SWEEP_SECONDS=1, **permitted, **overrides
    )
    service.environment["MAILBBGUN_MX_PORT"] = str(service.sink_port)
    with service:
        service.start_worker()
        yield service


def dns_event(service: Service, identifier: str) -> dict[str, object]:
    events = service.get(f"/messages/{identifier}/events")["events"]
    return next(one["data"] for one in events if one["kind"] in ("bounced", "deferred"))


def test_mail_goes_to_the_mx_of_each_domain_and_bounces_at_once_on_a_definite_dns_answer(embedded_settings, names):
    with direct(embedded_settings, names) as service:
        sent = service.post(to=["ann@one.test", "ben@ONE.test", "cis@two.test"])["id"]
        null, gone, broken = (
            service.post(to=f"ann@{domain}")["id"] for domain in ("null.test", "gone.test", "broken.test")
        )
        # One transaction for each domain; a dead server is skipped for the next one.
        service.ended(sent, "DELIVERED")
        assert sorted(sorted(message["to"]) for message in service.taken()) == [
            ["ann@one.test", "ben@one.test"],
            ["cis@two.test"],
        ]
        assert service.kinds(sent) == ["accepted"] + ["delivered"] * 3
        assert ("dead.two.test", "A") in names.asked
        events = service.get(f"/messages/{sent}/events")["events"]
        assert {(one["data"]["host"], one["data"]["ip"]) for one in events if one["kind"] == "delivered"} == {
            ("mx.one.test", "127.0.0.1")
        }
        for identifier, enhanced in ((null, "5.1.10"), (gone, "5.1.2")):
            assert service.ended(identifier, "ERROR")["deliveries"][0]["reason"] == "bounced"
            assert service.kinds(identifier) == ["accepted", "bounced"]
            told = dns_event(service, identifier)
            assert (told["phase"], told["enhanced"], "host" in told) == ("dns", enhanced, False)
        # After a failed DNS query the delivery is tried again.
        until(lambda: "deferred" in service.kinds(broken))
        assert dns_event(service, broken)["phase"] == "dns"
        assert service.message(broken)["status"] == "PENDING"
        names.zone["broken.test"] = {"MX": ["10 mx.one.test."]}
        service.ended(broken, "DELIVERED")
        assert service.copies()["ann@broken.test"] == 1


def test_mail_to_a_domain_with_internal_servers_only_bounces_without_a_connection(embedded_settings, names):
    with direct(embedded_settings, names) as service, Peer(host="127.0.0.9", port=service.sink_port) as inner:
        bounced, nearly = (service.post(to=f"ann@{domain}")["id"] for domain in ("inner.test", "nearly.test"))
        assert service.ended(bounced, "ERROR")["deliveries"][0]["reason"] == "bounced"
        told = dns_event(service, bounced)
        assert (told["phase"], told["enhanced"]) == ("dns", "5.4.4")
        assert "no public address" in str(told)
        service.ended(nearly, "DELIVERED")
        assert service.copies() == {"ann@nearly.test": 1}
        assert inner.connections == 0


@pytest.mark.long
@MOSTLY_REAL
def test_a_silent_server_delays_neither_other_mail_nor_the_shutdown(backend, names):
    with direct(backend, names, WORKER_CONNECTIONS=4, CONNECTIONS_PER_DOMAIN=2, SHUTDOWN_GRACE=1) as service:
        with Peer(at={"banner": silent}, host="127.0.0.3", port=service.sink_port) as tarpit:
            addresses = [f"u{number}@tarpit.test" for number in range(STUCK)]
            with ThreadPoolExecutor(4) as pool:
                list(pool.map(lambda address: service.post(to=address), addresses))
            until(lambda: tarpit.connections == 2, what="the tarpit is full")
            for number in range(20):
                service.post(to=f"u{number}@one.test")
            until(lambda: service.count("DELIVERED") == 20, 20, "the other domain's mail")
            assert tarpit.connections == 2
            # Mail that went back to the database comes back bit by bit, and delays nothing again.
            waiting = "WHERE status = 'PENDING' AND attempt > 0 AND lease_owner IS NULL AND published_at IS NULL"
            ((put_off, moments),) = service.sql(
                f"SELECT count(*), count(DISTINCT next_attempt_at) FROM deliveries {waiting}"
            )
            assert moments > put_off / 2 > STUCK / 4
            for number in range(5):
                sent = service.post(to=f"later{number}@one.test")
                service.ended(sent["id"], "DELIVERED")
                pause(1.0)
            # At SIGTERM the worker waits for the grace period only. No mail looks as if it had been
            # sent, or had killed a worker.
            assert service.stop("worker") == 0
            assert service.sql(
                "SELECT count(*) FROM deliveries WHERE lease_owner IS NOT NULL OR crashes > 0 OR unknowns > 0"
            ) == [(0,)]
            assert list((service.var / "journal").iterdir()) == []
        assert service.count("PENDING") == STUCK


@pytest.mark.long
def test_a_slow_server_is_kept_busy_while_most_of_its_mail_waits_in_the_database(embedded_settings, names):
    with direct(embedded_settings, names, WORKER_CONNECTIONS=4, CONNECTIONS_PER_DOMAIN=2) as service:
        # For each dot: whether the server was also working on another one at some time.
        accompanied: list[bool] = []

        def answer(dialogue: Dialogue) -> None:
            others = list(answering)
            answering[dialogue] = bool(others)
            answering.update(dict.fromkeys(others, True))
            pause(2.0)
            accompanied.append(answering.pop(dialogue))
            dialogue.say(b"250 ok\r\n")

        answering: dict[Dialogue, bool] = {}
        with Peer(at={"dot": answer}, host="127.0.0.3", port=service.sink_port) as slow:
            for number in range(100):  # one a second
                service.post(to=f"u{number}@tarpit.test")
            until(lambda: len(slow.messages) >= 10, what="the room has been full for a while")
            before = len(slow.messages)
            until(lambda: len(slow.messages) >= before + 20, what="twenty more")
            assert sum(accompanied[before:]) > 0.6 * len(accompanied[before:]), (
                "of two connections one was idle most of the time"
            )
            assert service.sql("SELECT count(*) FROM deliveries WHERE attempt > 1")[0][0] > 50
