"""When an SMTP account cannot take mail, the mail moves to another account or waits."""

import pytest

from mailbbgun.settings.settings import Settings
from tests.chaos.check import check
from tests.chaos.load import Load, addresses
from tests.conftest import MOSTLY_EMBEDDED, MOSTLY_REAL
from tests.flow.accounts import SETTINGS, by_server, delivered, event, send
from tests.flow.service import Service, until
from tests.servers.mailserver import Failure, MailServer
from tests.smtp.peers import Peer


@pytest.fixture
def service(with_providers: Service) -> Service:
    return with_providers


@MOSTLY_EMBEDDED
def test_mail_of_a_dead_account_moves_to_the_next_in_the_same_attempt_and_returns_after_a_probe(
    service: Service, providers: list[MailServer]
) -> None:
    service.add_account(providers[0], setting_name="first", priority=1)
    service.add_account(providers[1], setting_name="second", priority=2)
    before = send(service, 3)
    delivered(service, before)
    assert by_server(service, before) == [3, 0, 0]
    providers[0].kill()
    during = send(service, 12)
    delivered(service, during)
    assert by_server(service, during) == [0, 12, 0]
    assert all(service.kinds(identifier) == ["accepted", "delivered"] for identifier in during)  # no attempt failed
    assert all(service.attempts(identifier) == [1] for identifier in during)  # one attempt at two servers
    told = event(service, during[0], "delivered")
    assert (told["account"], told["before"][0]["account"]) == ("second", "first")
    until(lambda: service.sql("SELECT failures FROM smtp_circuits"), 5, "the row of the open circuit")
    providers[0].start()

    def back() -> bool:
        (identifier,) = send(service, 1)
        delivered(service, [identifier])
        return by_server(service, [identifier])[0] == 1

    until(back, 10, "mail through the first account again")
    until(lambda: not service.sql("SELECT * FROM smtp_circuits"), 5, "the end of that row")


@pytest.mark.long
def test_mail_that_moves_to_an_account_with_fewer_recipients_is_split_and_each_part_counts(
    embedded_settings: Settings,
) -> None:
    people = [f"u{number}@example.test" for number in range(10)]
    with (
        Peer(at={"banner": b"554 no\r\n"}) as first,
        Peer() as second,
        Service(embedded_settings, **SETTINGS) as service,
    ):
        for peer, priority, limits in (
            (first, 1, {}),
            (second, 2, {"max_recipients_per_message": 3, "max_per_day": 2}),
        ):
            where = {"smtp_host": "127.0.0.1", "smtp_port": peer.port, "security_protocol": "NONE"}
            made = service.http.post(
                f"{service.url}/smtp-accounts",
                json=where | {"setting_name": f"a{priority}", "priority": priority} | limits,
            )
            assert made.status_code == 201, made.text
        sent = service.post(to=people)["id"]
        service.start_worker()
        until(lambda: {"waiting", "deferred"} & set(service.kinds(sent)), what="an event that says why the rest waits")
        until(lambda: service.kinds(sent).count("delivered") == 6, what="as much mail as the limit allows")
        assert [len(message.recipients) for message in second.messages] == [3, 3]
        service.sql("UPDATE smtp_accounts SET max_per_day = 100")
        service.ended(sent, "DELIVERED")
        taken = [address for message in second.messages for address in message.recipients]
        assert sorted(taken) == people


@MOSTLY_REAL
def test_mail_of_an_account_with_a_refused_password_moves_to_the_next_or_waits(
    service: Service, providers: list[MailServer]
) -> None:
    service.add_account(providers[0], setting_name="wrong", priority=1)
    providers[0].fail(Failure.AUTH)
    (waiting,) = send(service, 1)
    until(lambda: "refused" in service.kinds(waiting), 10, "the refusal")
    assert service.message(waiting)["status"] == "PENDING"
    service.add_account(providers[1], setting_name="right", priority=2)
    delivered(service, [waiting, *send(service, 3)])


@pytest.mark.long
@MOSTLY_EMBEDDED
def test_mail_that_waits_for_a_refused_account_says_why_in_few_events(
    backend: Settings, providers: list[MailServer]
) -> None:
    with Service(backend, **SETTINGS | {"REFUSED_PAUSE_SECONDS": 2}) as service:
        service.start_worker()
        service.add_account(providers[0], setting_name="wrong")
        providers[0].fail(Failure.AUTH)
        (first,) = send(service, 1)
        until(lambda: "refused" in service.kinds(first), 10, "the refusal")
        others = send(service, 3)
        for identifier in others:
            until(lambda: "waiting" in service.kinds(identifier), 10, "an event that says why")  # noqa: B023 - asked at once
        told = event(service, others[0], "waiting")
        assert told["account"] == "wrong"
        assert told["reply"].startswith("not tried, for the last one failed: ")
        assert told["retry_at"]
        until(lambda: service.sql("SELECT max(attempt) FROM deliveries")[0][0] >= 4, 30, "some more claims")
        providers[0].heal()
        delivered(service, [first, *others])
        for identifier in (first, *others):
            assert service.attempts(identifier) == [
                service.kinds(identifier).count("refused") + 1
            ]  # a claim without an attempt does not count
        claims = [row[0] for row in service.sql("SELECT attempt FROM deliveries")]
        waits = [service.kinds(identifier).count("waiting") for identifier in (first, *others)]
        assert max(waits) <= max(claims).bit_length()  # an event at claims 1, 2, 4, 8 and so on


@pytest.mark.long
@MOSTLY_REAL
def test_mail_beyond_a_daily_limit_says_that_it_waits_for_the_limit(
    service: Service, providers: list[MailServer]
) -> None:
    service.add_account(providers[0], setting_name="small", max_per_day=1)
    delivered(service, send(service, 1))
    (over,) = send(service, 1)
    until(lambda: "waiting" in service.kinds(over), 15, "an event that says why")
    assert "limits are used up" in event(service, over, "waiting")["reply"]
    assert service.attempts(over) == [0]


@MOSTLY_EMBEDDED
def test_mail_without_a_fitting_and_usable_account_waits_and_says_why(
    service: Service, providers: list[MailServer]
) -> None:
    narrow = service.add_account(providers[0], setting_name="narrow", recipient_domains=["corp.test"])
    (waiting,) = send(service, 1)
    until(lambda: "refused" in service.kinds(waiting), 10, "the refusal")
    assert "no SMTP account" in event(service, waiting, "refused")["reply"]
    assert service.attempts(waiting) == [0]
    unreadable = service.add_account(providers[1], setting_name="unreadable", smtp_password="not of our key")
    service.sql("UPDATE smtp_accounts SET enabled = false WHERE setting_name = 'narrow'")
    until(lambda: "cannot be decrypted" in str(service.get(f"/messages/{waiting}/events")), 15, "the other reason")
    assert service.message(waiting)["status"] == "PENDING"
    service.sql("DELETE FROM smtp_accounts")
    delivered(service, [waiting])  # a tenant without accounts sends by SMTP_URL
    assert service.attempts(waiting) == [1]
    assert narrow != unreadable


@pytest.mark.long
@MOSTLY_EMBEDDED
def test_three_accounts_fail_in_turn_and_nothing_is_lost_or_doubled(
    service: Service, providers: list[MailServer], messages: int
) -> None:
    for number, server in enumerate(providers):
        service.add_account(server, priority=number // 2)
    load_ = Load(service)
    failures = (Failure.AUTH, Failure.BANNER, Failure.CLOSE, Failure.RCPT)
    with load_.sending([[one] for one in addresses("turn", messages // 4)], seconds=6):
        for step, failure in enumerate(failures):
            server = providers[step % 3]
            server.fail(failure)
            until(lambda: len(service.taken()) > 0, 10)
            before = len(service.taken())
            until(lambda: len(service.taken()) > before + 3, 20, "mail through the other accounts")  # noqa: B023 - asked at once
            server.heal()
        providers[0].restart()
    until(lambda: service.count("PENDING") == 0, 90, "the end of every delivery")
    figures = check(service, load_.accepted)
    assert (figures.lost, figures.duplicated) == (0, 0)
