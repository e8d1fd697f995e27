"""Mail to local domains is in mailboxes, from either door, and nowhere else."""

from datetime import UTC, datetime

import pytest
from sqlalchemy import insert, select

from mailbbgun.accept.accept import Acceptor
from mailbbgun.accept.fields import Options, Received
from mailbbgun.assembly import Attached, Inspector, Publisher, Store, Templates
from mailbbgun.core.caller import Caller
from mailbbgun.core.ids import DEFAULT_TENANT, new_id
from mailbbgun.mailboxes.models import MAILBOX_CONTENTS, MAILBOX_MESSAGES, MAILBOXES
from mailbbgun.services import Services, build
from mailbbgun.settings.load import load
from tests.flow.conftest import running as running
from tests.flow.service import Service, until

MIME = b"From: \xff bad\r\nFrom: Zo\xc3\xab <zoe@far.test>\r\nSubject: =?utf-8?q?caf=C3=A9?=\r\n\r\nhi\r\n"


@pytest.fixture
def service(running: Service) -> Service:
    running.renew()
    return running


def services_of(service: Service) -> Services:
    return build(load(service.environment))


def add_mailbox(service: Service, address: str, **columns: object) -> None:
    services = services_of(service)
    row = {"id": new_id(), "tenant_id": DEFAULT_TENANT, "address": address, "created_at": datetime.now(UTC)}
    with services.db.write() as session:
        session.execute(insert(MAILBOXES), [row | columns])
    services.close()


def add_domain(service: Service, name: str) -> None:
    answer = service.http.post(f"{service.url}/domains", json={"name": name, "local": True})
    assert answer.status_code == 201, answer.text


def mail_for(service: Service, address: str) -> list[dict[str, object]]:
    """Return the mail that was addressed to a recipient, with its bytes, oldest first."""
    services = services_of(service)
    mail, contents = MAILBOX_MESSAGES.c, MAILBOX_CONTENTS.c
    found = select(*mail, contents.raw).join(MAILBOX_CONTENTS, contents.id == mail.content_id)
    with services.db.read() as session:
        rows = session.execute(found.where(mail.rcpt_to == address).order_by(mail.id)).mappings().all()
    services.close()
    return [dict(row) for row in rows]


def receive(service: Service, *recipients: str, mime: bytes = MIME, mail_from: str = "zoe@far.test") -> str:
    """Take mail from another server, as the MX port does; return the message's id."""
    services = services_of(service)
    store, publisher = Store(services.db, 60), Publisher(services.db, services.queue, services.outages)
    acceptor = Acceptor(
        services.settings, store, publisher, Attached(services, Inspector(services)), Templates(services.db)
    )
    submission = Received(mime=mime, mail_from=mail_from, recipients=recipients)
    accepted = acceptor.accept(submission, Caller(DEFAULT_TENANT), Options()).result()
    store.close()
    publisher.close()
    services.close()
    return accepted.id


def test_a_message_of_the_api_to_a_local_recipient_is_in_the_mailbox_and_others_leave(service):
    add_domain(service, "api.test")
    add_mailbox(service, "ann@api.test")
    sent = service.post(to=["Ann@api.test", "nobody@api.test", "far@elsewhere.test"], subject="Grüße")["id"]
    found = until(lambda: (one := service.message(sent))["status"] != "PENDING" and one)
    assert {one["address"]: (one["status"], one["reason"]) for one in found["deliveries"]} == {
        "Ann@api.test": ("DELIVERED", None),
        "nobody@api.test": ("ERROR", "bounced"),
        "far@elsewhere.test": ("DELIVERED", None),
    }
    (mail,) = mail_for(service, "Ann@api.test")
    assert (mail["subject"], mail["folder"], mail["read"]) == ("Grüße", "INBOX", False)
    assert b"hello" in mail["raw"]
    found = service.get("/mailboxes/ann@api.test/messages?search=HELLO")["messages"]
    assert [one["id"] for one in found] == [str(mail["id"])]
    assert service.copies() == {"far@elsewhere.test": 1}
    told = {one["address"]: one["text"] for one in service.get(f"/messages/{sent}/explain")["deliveries"]}
    assert told["Ann@api.test"].startswith("It is in the mailbox ann@api.test, in the folder INBOX, since 20")
    assert told["nobody@api.test"].startswith("It was refused here")
    assert told["far@elsewhere.test"].startswith("The next server took it")


def test_mail_of_another_server_is_kept_byte_for_byte_and_is_told_from_what_was_sent(service):
    add_domain(service, "mx.test")
    add_mailbox(service, "bob@mx.test")
    add_mailbox(service, "eve@mx.test")
    came = receive(service, "bob@mx.test", "eve@mx.test")
    service.ended(came, "DELIVERED")
    assert service.kinds(came) == ["received", "delivered", "delivered"]
    (mail,), (other,) = mail_for(service, "bob@mx.test"), mail_for(service, "eve@mx.test")
    assert mail["raw"] == MIME
    assert mail["content_id"] == other["content_id"]
    assert (mail["mail_from"], mail["subject"]) == ("zoe@far.test", "café")
    listed = {one["id"] for one in service.get("/messages?received=true")["messages"]}
    assert came in listed
    assert came not in {one["id"] for one in service.get("/messages?received=false&limit=1000")["messages"]}
    assert service.taken() == []


def test_messages_that_come_together_do_not_exceed_a_quota_together(service):
    add_domain(service, "quota.test")
    add_mailbox(service, "ann@quota.test", quota_messages=1)
    sent = service.post(to=["ann+1@quota.test", "ann+2@quota.test"])["id"]
    found = until(lambda: all((one := service.message(sent))["deliveries"][n]["attempts"] for n in (0, 1)) and one)
    kept, waiting = sorted(found["deliveries"], key=lambda one: one["status"])
    assert (kept["status"], waiting["status"], waiting["cause"]) == ("DELIVERED", "PENDING", "mailbox_full")
    assert "4.2.2" in waiting["last_reply"] or "full" in waiting["last_reply"]
    mailbox = f"{service.url}/mailboxes/ann@quota.test"
    (mail,) = mail_for(service, kept["address"])
    assert mail_for(service, waiting["address"]) == []
    its = service.http.get(mailbox).json()
    assert (its["messages"], its["size"]) == (1, mail["size"])
    assert service.http.delete(f"{mailbox}/messages/{mail['id']}").status_code == 204
    its = service.http.get(mailbox).json()
    assert (its["messages"], its["size"]) == (0, 0)
    assert service.http.post(f"{service.url}/messages/{sent}/retry").status_code == 200
    service.ended(sent, "DELIVERED")
    assert len(mail_for(service, waiting["address"])) == 1


def test_received_mail_shows_how_its_header_names_each_recipient(service):
    add_domain(service, "named.test")
    mime = (
        b"From: zoe@far.test\r\nTo: =?utf-8?q?=3Ceve=40named.test=3E?= <Ann@NAMED.test>, team: bob@named.test;\r\n"
        b"Cc: bob@named.test, (x) carl@named.test, eve\r\n\r\nhi\r\n"
    )
    came = receive(service, *(f"{one}@named.test" for one in ("Ann", "bob", "carl", "eve")), mime=mime)
    found = service.message(came)
    assert (found["to"], found["cc"], found["bcc"]) == (
        ["Ann@named.test", "bob@named.test"],
        ["carl@named.test"],
        ["eve@named.test"],
    )
