"""Mail leaves through the SMTP accounts of its tenant: real servers with TLS and AUTH."""

from collections import Counter
from datetime import UTC, datetime
from uuid import uuid4

import pytest

from mailbbgun.core.caller import Scope
from mailbbgun.services import build
from mailbbgun.settings.load import load
from mailbbgun.settings.settings import Settings
from mailbbgun.tenants import keys
from mailbbgun.tenants.models import Tenant
from tests.chaos.load import Load, addresses
from tests.conftest import MOSTLY_EMBEDDED, MOSTLY_REAL
from tests.flow.accounts import SETTINGS, by_server, delivered, event, send
from tests.flow.service import Service, until
from tests.servers.mailserver import MailServer
from tests.smtp.peers import Peer


@pytest.fixture
def service(with_providers: Service) -> Service:
    return with_providers


@MOSTLY_REAL
def test_mail_leaves_through_the_first_account_that_fits_and_its_timeline_names_it(
    service: Service, providers: list[MailServer]
) -> None:
    service.add_account(providers[0], setting_name="main", from_email="shop.test", priority=1)
    service.add_account(providers[1], setting_name="intern", recipient_domains=["*.corp.test", "corp.test"], priority=2)
    service.add_account(providers[2], setting_name="rest", priority=3)
    wanted = (
        ("a@shop.test", "b@x.test", 0),
        ("a@x.test", "b@corp.test", 1),
        ("a@x.test", "b@y.corp.test", 1),
        ("a@x.test", "b@x.test", 2),
    )
    for sender, to, number in wanted:
        identifier = service.post(**{"from": sender, "to": to})["id"]
        service.ended(identifier, "DELIVERED")
        assert by_server(service, [identifier]) == [int(n == number) for n in range(3)]
        assert event(service, identifier, "delivered")["account"] == ("main", "intern", "rest")[number]
    returning = service.post(**{"from": "Shop <a@shop.test>", "envelope_from": "bounces@x.test", "to": "b@x.test"})[
        "id"
    ]
    service.ended(returning, "DELIVERED")  # From decides the account, not the bounce address
    assert [message["from"] for message in providers[0].taken() if message["id"][1:37] == returning] == [
        "bounces@x.test"
    ]
    split = service.post(**{"from": "a@x.test", "to": ["b@corp.test", "b@x.test"]})["id"]
    service.ended(split, "DELIVERED")
    assert by_server(service, [split]) == [0, 1, 1]
    assert {message["user"] for server in providers for message in server.taken()} == {"user"}


def test_mail_obeys_the_bounce_address_and_the_most_recipients_of_its_account(embedded_settings: Settings) -> None:
    people = [f"u{number}@example.test" for number in range(10)]
    with Peer() as first, Peer() as second, Service(embedded_settings, **SETTINGS) as service:
        for peer, name, bounces_to in ((first, "shop.test", "bounces@shop.test"), (second, "other.test", None)):
            where = {"smtp_host": "127.0.0.1", "smtp_port": peer.port, "security_protocol": "NONE"}
            how = {
                "setting_name": name,
                "from_email": name,
                "envelope_from": bounces_to,
                "max_recipients_per_message": 4,
            }
            made = service.http.post(f"{service.url}/smtp-accounts", json=where | how)
            assert made.status_code == 201, made.text
            assert (made.json()["envelope_from"], made.json()["max_recipients_per_message"]) == (bounces_to, 4)
        # A message with a sender of its own keeps it; its From still decides the account.
        own = service.post(**{"from": "a@shop.test", "to": "own@example.test"})["id"]
        service.sql("UPDATE messages SET mail_from = 'own@other.test'")
        service.start_worker()
        service.ended(own, "DELIVERED")
        assert [message.mail_from for message in first.messages] == ["own@other.test"]
        for sender in ("a@shop.test", '"<x@y.test>" <a@other.test>'):
            service.ended(service.post(**{"from": sender, "to": people})["id"], "DELIVERED")
        assert sorted(len(message.recipients) for message in first.messages[1:]) == [2, 4, 4]
        assert {message.mail_from for message in first.messages[1:]} == {"bounces@shop.test"}
        assert all(b"From: a@shop.test\r\n" in message.raw for message in first.messages)
        assert {message.mail_from for message in second.messages} == {"a@other.test"}


@pytest.mark.long
@MOSTLY_REAL
def test_accounts_of_one_priority_get_mail_in_proportion_to_their_weights(
    service: Service, providers: list[MailServer]
) -> None:
    service.add_account(providers[0], weight=3)
    service.add_account(providers[1], weight=1)
    load_ = Load(service)
    load_.send_all(addresses("w", 200))
    until(lambda: service.count("PENDING") == 0, 60, "all")
    first, second, _ = by_server(service, list(load_.accepted.values()))
    assert first + second == 200
    assert 120 <= first <= 176  # 150 ± 4σ; tests/smtp_accounts/test_account.py has larger samples


@MOSTLY_EMBEDDED
def test_mail_beyond_the_limits_of_an_account_leaves_through_the_next_one(
    service: Service, providers: list[MailServer]
) -> None:
    service.add_account(providers[0], priority=1, max_per_day=5)
    service.add_account(providers[1], priority=2, max_per_second=20)
    sent = send(service, 5)
    delivered(service, sent)
    assert by_server(service, sent) == [5, 0, 0]
    more = send(service, 40)
    delivered(service, more)
    assert by_server(service, more) == [0, 40, 0]
    moments = sorted(message["at"] for message in providers[1].taken() if message["id"][1:37] in set(more))
    # 20 a second, and a burst of a quarter of a second at either end.
    assert max(Counter(int(moment) for moment in moments).values()) <= 27


@pytest.mark.long
@MOSTLY_REAL
def test_mail_of_a_suspended_tenant_is_held_until_it_is_active_again(service: Service) -> None:
    services = build(load(service.environment))
    tenant = uuid4()
    with services.db.write() as session:
        session.add(Tenant(id=tenant, name="other", status="active", created_at=datetime.now(UTC)))
        session.flush()
        other = keys.create(session, services.vault, tenant, keys.KeySpec(name="k", scopes=tuple(Scope))).token
    services.close()
    service.http.headers["Authorization"] = f"Bearer {other}"
    sent = send(service, 3)
    delivered(service, sent)
    service.stop("worker")
    held = send(service, 3)
    service.sql("UPDATE tenants SET status = 'suspended' WHERE name = 'other'")
    service.start_worker()
    for identifier in held:
        until(lambda: "held" in service.kinds(identifier), 10, "held")  # noqa: B023 - asked at once
        assert service.message(identifier)["deliveries"][0]["next_attempt_at"] is None
        assert service.attempts(identifier) == [0]
    service.sql("UPDATE tenants SET status = 'active' WHERE name = 'other'")
    delivered(service, held)


@pytest.mark.long
@MOSTLY_EMBEDDED
def test_the_limits_of_an_account_also_bind_mail_that_is_sent_alone(
    service: Service, providers: list[MailServer]
) -> None:
    service.add_account(providers[0], setting_name="small", max_per_day=1)
    first = service.post(to="ann@example.test")["id"]
    service.ended(first, "DELIVERED")
    second = service.post(to="ben@example.test")["id"]
    until(lambda: service.unhinted() == 1, what="mail that is given back, for the account's day is used up")
    service.sql("UPDATE deliveries SET crashes = 2 WHERE status = 'PENDING'")
    service.age(600)
    until(lambda: "sent_isolated" in (service.var / "worker.out").read_text(), what="the end of its process")
    assert (service.message(second)["status"], by_server(service, [second])[0]) == ("PENDING", 0)
    assert event(service, second, "waiting")["account"] == "small"
    service.sql("UPDATE smtp_accounts SET max_per_day = 9")
    service.age(600)
    service.ended(second, "DELIVERED")
