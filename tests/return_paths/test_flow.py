"""Bounces and complaints from a real attempt to what the API tells, with a real worker, on each database."""

import re
from concurrent.futures import ThreadPoolExecutor

import pytest

from mailbbgun.accept.accept import Acceptor
from mailbbgun.accept.attached import Attached
from mailbbgun.accept.fields import Options, Received
from mailbbgun.accept.store import Store
from mailbbgun.attachments.inspection import Inspector
from mailbbgun.core.caller import Caller
from mailbbgun.core.ids import DEFAULT_TENANT
from mailbbgun.messages.publisher import Publisher
from mailbbgun.services import build
from mailbbgun.settings.load import load
from mailbbgun.templates.resolve import Templates
from tests.flow.service import Service, until
from tests.return_paths import reports
from tests.return_paths.conftest import DOMAIN

PATH = re.compile(rf"b\+[a-z2-7]{{48}}@{re.escape(DOMAIN)}")
FAULTS = ("claim.committed", "results.commit", "results.committed")


class World:
    """A service, and a door to it for mail that other servers send."""

    def __init__(self, service, acceptor):
        self.service, self._acceptor = service, acceptor

    def sent(self, name, **message):
        """Send a message to one recipient; return its id and its return path once it is delivered."""
        address = f"{name}@example.com"
        identifier = self.service.post(to=address, **message)["id"]
        self.service.ended(identifier, "DELIVERED")
        return identifier, self.sender_to(address)

    def sender_to(self, address):
        return until(lambda: [one["from"] for one in self.service.taken() if one["to"] == [address]])[-1]

    def report(self, path, mime, *, status="DELIVERED"):
        """Let another server send a report; return its message once it has this status."""
        received = Received(mime=mime, mail_from="", recipients=[path])
        found = self._acceptor.accept(received, Caller(DEFAULT_TENANT), Options()).result()
        return self.service.ended(str(found.id), status)

    def header(self, identifier):
        return self.service.message(identifier)["message_id_header"]

    def last(self, identifier, kind):
        """Return the data of the only event of a kind."""
        events = self.service.get(f"/messages/{identifier}/events")["events"]
        (found,) = (one["data"] for one in events if one["kind"] == kind)
        return found

    def suppressed(self, name):
        found = self.service.get(f"/suppressions?address={name}@example.com")["suppressions"]
        return [one["reason"] for one in found]


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def world(request, tmp_path_factory):
    environment = {"MAILBBGUN_VAR": str(tmp_path_factory.mktemp("world") / "var")}
    if request.param == "postgresql":
        server = request.getfixturevalue("postgresql")
        environment["MAILBBGUN_DATABASE_URL"] = server.url(server.create_database())
    settings = {"RETURN_PATH_DOMAIN": DOMAIN, "LEASE_SECONDS": 4, "SWEEP_SECONDS": 1}
    with Service(load(environment), **settings) as service:
        service.start_worker()
        services = build(load(service.environment))
        store, publisher = Store(services.db, 86_400), Publisher(services.db, services.queue)
        attached = Attached(services, Inspector(services))
        yield World(service, Acceptor(services.settings, store, publisher, attached, Templates(services.db)))
        store.close()
        publisher.close()
        services.close()


def test_each_recipient_has_a_return_path_of_its_own_unless_the_message_names_an_envelope_sender(world):
    identifier = world.service.post(to=["one@example.com", "two@example.com"])["id"]
    world.service.ended(identifier, "DELIVERED")
    paths = {world.sender_to(f"{name}@example.com") for name in ("one", "two")}
    assert len(paths) == 2
    assert all(PATH.fullmatch(one) for one in paths)
    named = world.service.post(to=["x@example.com", "y@example.com"], envelope_from="me@shop.example")["id"]
    world.service.ended(named, "DELIVERED")
    assert ("me@shop.example", ["x@example.com", "y@example.com"]) in [
        (one["from"], sorted(one["to"])) for one in world.service.taken()
    ]


def test_a_hard_bounce_turns_a_delivered_mail_into_an_error_and_suppresses_its_recipient(world):
    identifier, path = world.sent("gone")
    report = world.report(path, reports.status("gone@example.com", world.header(identifier)))
    message = world.service.ended(identifier, "ERROR")
    (delivery,) = message["deliveries"]
    assert (delivery["status"], delivery["reason"], message["reason"]) == ("ERROR", "bounced", "bounced")
    event = world.last(identifier, "bounced")
    assert event["returned"] is True
    assert (event["class"], event["enhanced"], event["report_id"]) == ("hard", "5.1.1", report["id"])
    assert event["cause"]
    assert delivery["last_reply"] == f"550 {event['reply']}"
    assert "no such user" in event["reply"]
    assert not event["reply"].startswith("550")
    assert world.suppressed("gone") == ["bounced"]
    again = world.service.post(to="gone@example.com")["id"]
    assert world.service.ended(again, "ERROR")["reason"] == "suppressed"


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        ("full", "5.2.2", "552 5.2.2 mailbox full"),
        ("spam", "5.7.1", "554 5.7.1 message rejected as spam"),
        ("odd", "5.0.0", "554 something happened"),
    ],
)
def test_a_failure_that_may_not_last_ends_the_delivery_and_suppresses_nobody(world, name, code, words):
    identifier, path = world.sent(name)
    world.report(path, reports.status(f"{name}@example.com", world.header(identifier), code=code, words=words))
    world.service.ended(identifier, "ERROR")
    assert world.last(identifier, "bounced")["class"] != "hard"
    assert world.suppressed(name) == []


def test_a_report_of_a_code_without_words_has_class_and_cause(world):
    identifier, path = world.sent("bare")
    mime = reports.status("bare@example.com", world.header(identifier))
    world.report(path, re.sub(rb"(?m)^(Diagnostic-Code|<bare@example.com>): .*\r\n", b"", mime))
    (delivery,) = world.service.ended(identifier, "ERROR")["deliveries"]
    assert (delivery["last_reply"], delivery["class"], delivery["cause"]) == (None, "hard", "invalid_mailbox")
    (told,) = world.service.get(f"/messages/{identifier}/explain")["deliveries"]
    assert "there is no such mailbox" in told["text"]


def test_the_return_path_counts_whatever_the_report_says(world):
    identifier, path = world.sent("forwarded")
    mime = reports.status("elsewhere@example.org", "<another@example.org>")
    world.report(path.upper(), mime)
    world.service.ended(identifier, "ERROR")
    assert world.suppressed("forwarded") == ["bounced"]


def test_a_report_that_comes_twice_or_at_the_same_time_is_one_event(world):
    identifier, path = world.sent("twice")
    mime = reports.status("twice@example.com", world.header(identifier))
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda _: world.report(path, mime), range(8)))
    world.report(path, mime)
    assert world.service.kinds(identifier).count("bounced") == 1
    assert "returned" not in world.service.kinds(identifier)


def test_a_delay_is_told_and_a_failure_may_follow(world):
    identifier, path = world.sent("late")
    header = world.header(identifier)
    delay = reports.status("late@example.com", header, action="delayed", code="4.4.1", words="451 later")
    world.report(path, delay)
    world.report(path, delay)
    assert world.service.kinds(identifier)[-2:] == ["delivered", "delayed"]
    assert world.service.message(identifier)["status"] == "DELIVERED"
    world.report(path, reports.status("late@example.com", header, code="5.4.7", words="550 expired"))
    assert world.service.ended(identifier, "ERROR")["reason"] == "bounced"


def test_a_complaint_to_the_feedback_address_is_matched_by_the_return_path_in_it(world):
    identifier, path = world.sent("angry")
    mime = reports.complaint("redacted@example.com", "<redacted@example.com>", path)
    for _ in range(2):
        world.report(f"FBL@{DOMAIN}", mime)
    assert world.service.kinds(identifier).count("complained") == 1
    assert world.service.message(identifier)["status"] == "DELIVERED"
    assert world.last(identifier, "complained")["feedback_type"] == "abuse"
    assert world.suppressed("angry") == ["complained"]


def test_not_spam_and_an_automatic_reply_change_nothing_but_the_timeline(world):
    identifier, path = world.sent("away")
    world.report(path, reports.auto_reply("away@example.com", world.header(identifier)))
    world.report(path, reports.complaint("away@example.com", world.header(identifier), path, "not-spam"))
    events = world.service.get(f"/messages/{identifier}/events")["events"]
    assert {one["data"]["report"] for one in events if one["kind"] == "returned"} == {"auto_reply", "complaint"}
    assert world.suppressed("away") == []
    assert world.service.message(identifier)["status"] == "DELIVERED"


def test_a_report_without_a_return_path_is_told_if_it_names_message_and_recipient_and_changes_nothing(world):
    identifier, _ = world.sent("named")
    header = world.header(identifier)
    for mime in (
        reports.status("stranger@example.com", header),
        reports.status("named@example.com", header.replace(identifier[:8], "0" * 8)),
        reports.status("named@example.com", f"<{identifier}@elsewhere.example>"),
    ):
        world.report(f"bounces@{DOMAIN}", mime)
    assert world.service.kinds(identifier)[-1] == "delivered"
    world.report(f"bounces@{DOMAIN}", reports.status("NAMED@example.com", header))
    assert world.last(identifier, "returned")["proved"] is False
    assert world.service.message(identifier)["status"] == "DELIVERED"
    assert world.suppressed("named") == []


def test_a_forged_return_path_and_other_addresses_there_are_refused_and_change_nothing(world):
    identifier, path = world.sent("victim")
    mime = reports.status("victim@example.com", world.header(identifier))
    forged = path.replace(path[2:12], path[2:12][::-1], 1)
    for address in (forged, f"b+{'a' * 48}@{DOMAIN}", f"b+@{DOMAIN}", f"postmaster@{DOMAIN}", f"abuse@{DOMAIN}"):
        refused = world.report(address, mime, status="ERROR")
        (delivery,) = refused["deliveries"]
        assert delivery["reason"] == "bounced"
        assert delivery["last_reply"].startswith("550")
    assert world.service.kinds(identifier)[-1] == "delivered"
    assert world.suppressed("victim") == []
    assert "return_path_refused" in (world.service.var / "worker.out").read_text()


def test_nothing_that_comes_back_is_answered(world):
    identifier, path = world.sent("quiet")
    taken = len(world.service.taken())
    world.report(path, reports.status("quiet@example.com", world.header(identifier)))
    world.report(path, b"\xff\0 no mail at all")
    world.sent("after")
    assert len(world.service.taken()) == taken + 1


@pytest.mark.long
@pytest.mark.parametrize("point", FAULTS)
def test_a_report_is_applied_once_wherever_its_worker_dies(world, point):
    name = f"killed.{point}"
    identifier, path = world.sent(name)
    world.service.kill("worker")
    worker = world.service.start_worker(fault=f"{point}:1:kill")
    mime = reports.status(f"{name}@example.com", world.header(identifier))
    with ThreadPoolExecutor(1) as threads:
        reported = threads.submit(world.report, path, mime)
        until(lambda: worker.poll() is not None, what="the worker's death")
        world.service.start_worker()
        reported.result()
    world.service.ended(identifier, "ERROR")
    assert world.service.kinds(identifier).count("bounced") == 1
    assert world.suppressed(name) == ["bounced"]
