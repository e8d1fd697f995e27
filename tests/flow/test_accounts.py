"""Mail leaves through its tenant's SMTP accounts: real providers with TLS of a private authority and AUTH, killed and started again."""

import random
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest
import requests

from mailbbgun.core.caller import Scope
from mailbbgun.database.crypto import key_file, new_key
from mailbbgun.services import build
from mailbbgun.settings.settings import Settings
from mailbbgun.tenants import keys
from mailbbgun.tenants.models import Tenant
from tests.chaos.check import check
from tests.chaos.load import Load, addresses
from tests.conftest import MOSTLY_EMBEDDED, MOSTLY_REAL
from tests.flow.service import Service, load, until
from tests.servers.mailserver import Failure, MailServer
from tests.smtp.peers import Peer
from tests.waiting import PATIENCE

USERS = {"user": "secret"}
PAUSES = {"CIRCUIT_PAUSE_SECONDS": 1, "REFUSED_PAUSE_SECONDS": 1, "SWEEP_SECONDS": 1}
SETTINGS = {"ALLOW_PRIVATE_HOSTS": "127.0.0.0/8", "RETRY_DELAYS": "2,2,2,2", **PAUSES}


@pytest.fixture(scope="module")
def providers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[MailServer]]:
    made = [MailServer(Path(tmp_path_factory.mktemp(f"server{n}")), USERS) for n in range(3)]
    for server in made:
        server.start()
    yield made
    for server in made:
        server.close()


@pytest.fixture
def service(backend: Settings, providers: list[MailServer]) -> Iterator[Service]:
    for server in providers:
        server.heal()
    with Service(backend, **SETTINGS) as opened:
        opened.use(*providers)
        opened.start_worker()
        yield opened


def by_server(service: Service, identifiers: list[str]) -> list[int]:
    """Return how many of these messages each server took."""
    wanted = set(identifiers)
    return [sum(message["id"][1:37] in wanted for message in server.taken()) for server in service.servers]


def send(service: Service, count: int, **more: object) -> list[str]:
    return [service.post(to=f"u{n}@example.test", **more)["id"] for n in range(count)]


def delivered(service: Service, identifiers: list[str], seconds: float = 30) -> None:
    for identifier in identifiers:
        service.ended(identifier, "DELIVERED", seconds)


def event(service: Service, identifier: str, kind: str) -> dict:
    return next(one["data"] for one in service.get(f"/messages/{identifier}/events")["events"] if one["kind"] == kind)


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
    service.ended(returning, "DELIVERED")  # whose account it is From decides, and not who hears of bounces
    assert [message["from"] for message in providers[0].taken() if message["id"][1:37] == returning] == [
        "bounces@x.test"
    ]
    split = service.post(**{"from": "a@x.test", "to": ["b@corp.test", "b@x.test"]})["id"]
    service.ended(split, "DELIVERED")
    assert by_server(service, [split]) == [0, 1, 1]
    assert {message["user"] for server in providers for message in server.taken()} == {"user"}


def test_an_accounts_bounce_address_and_its_most_recipients_are_kept_to(embedded_settings: Settings) -> None:
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
        # A message that names its own sender keeps it, and its way is chosen by its From all the same.
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


@MOSTLY_EMBEDDED
def test_a_dead_accounts_mail_moves_to_the_next_in_the_same_try_and_returns_after_the_probe(
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
    assert all(service.kinds(identifier) == ["accepted", "delivered"] for identifier in during)  # no try was lost
    assert all(service.attempts(identifier) == [1] for identifier in during)  # one, by two servers
    told = event(service, during[0], "delivered")
    assert (told["account"], told["before"][0]["account"]) == ("second", "first")
    until(lambda: service.sql("SELECT failures FROM smtp_circuits"), 5, "an open circuit that is told")
    providers[0].start()

    def back() -> bool:
        (identifier,) = send(service, 1)
        delivered(service, [identifier])
        return by_server(service, [identifier])[0] == 1

    until(back, 10, "mail through the first account again")
    until(lambda: not service.sql("SELECT * FROM smtp_circuits"), 5, "a closed circuit that is told")


def test_mail_that_moves_to_an_account_of_fewer_recipients_is_split_and_counted_for_each_part(
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
        until(
            lambda: {"waiting", "deferred"} & set(service.kinds(sent)), what="a timeline that says why the rest waits"
        )
        until(lambda: service.kinds(sent).count("delivered") == 6, what="what the limit lets go")
        assert [len(message.recipients) for message in second.messages] == [3, 3]
        service.sql("UPDATE smtp_accounts SET max_per_day = 100")
        service.ended(sent, "DELIVERED")
        taken = [address for message in second.messages for address in message.recipients]
        assert sorted(taken) == people


@MOSTLY_REAL
def test_a_refused_password_moves_mail_to_the_next_account_and_with_no_other_it_waits(
    service: Service, providers: list[MailServer]
) -> None:
    service.add_account(providers[0], setting_name="wrong", priority=1)
    providers[0].fail(Failure.AUTH)
    (waiting,) = send(service, 1)
    until(lambda: "refused" in service.kinds(waiting), 10, "the refusal")
    assert service.message(waiting)["status"] == "PENDING"
    service.add_account(providers[1], setting_name="right", priority=2)
    delivered(service, [waiting, *send(service, 3)])


@MOSTLY_EMBEDDED
def test_mail_that_is_not_even_tried_says_why_and_does_not_fill_its_timeline(
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
            until(lambda: "waiting" in service.kinds(identifier), 10, "a timeline that says why")  # noqa: B023 - asked at once
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
            ]  # and no claim besides
        claims = [row[0] for row in service.sql("SELECT attempt FROM deliveries")]
        waits = [service.kinds(identifier).count("waiting") for identifier in (first, *others)]
        assert max(waits) <= max(claims).bit_length()  # at claims 1, 2, 4, 8 and so on


@MOSTLY_REAL
def test_mail_over_a_days_limit_says_that_it_waits_for_it(service: Service, providers: list[MailServer]) -> None:
    service.add_account(providers[0], setting_name="small", max_per_day=1)
    delivered(service, send(service, 1))
    (over,) = send(service, 1)
    until(lambda: "waiting" in service.kinds(over), 15, "a timeline that says why")
    assert "limits are used up" in event(service, over, "waiting")["reply"]
    assert service.attempts(over) == [0]


@MOSTLY_EMBEDDED
def test_with_no_account_that_fits_or_can_be_used_mail_waits_and_says_why(
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
    delivered(service, [waiting])  # by SMTP_URL: a tenant with no account at all
    assert service.attempts(waiting) == [1]
    assert narrow != unreadable


@MOSTLY_REAL
def test_shares_are_as_the_weights(service: Service, providers: list[MailServer]) -> None:
    service.add_account(providers[0], weight=3)
    service.add_account(providers[1], weight=1)
    load_ = Load(service)
    load_.send_all(addresses("w", 200))
    until(lambda: service.count("PENDING") == 0, 60, "all")
    first, second, _ = by_server(service, list(load_.accepted.values()))
    assert first + second == 200
    assert 120 <= first <= 176  # 150, and four standard deviations; tests/smtp_accounts/test_account.py draws many more


@MOSTLY_EMBEDDED
def test_limits_hold_and_what_is_over_them_goes_through_the_next_account(
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
    assert (
        max(Counter(int(moment) for moment in moments).values()) <= 27
    )  # the rate, and its burst of a quarter of a second at either end


@MOSTLY_REAL
def test_a_suspended_tenants_mail_is_held_and_goes_when_it_is_active_again(service: Service) -> None:
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
            until(lambda: len(service.taken()) > before + 3, 20, "mail that goes on")  # noqa: B023 - asked at once
            server.heal()
        providers[0].restart()
    until(lambda: service.count("PENDING") == 0, 90, "the end of every delivery")
    figures = check(service, load_.accepted)
    assert (figures.lost, figures.duplicated) == (0, 0)


@pytest.mark.long
def test_encryption_keys_change_under_load_and_no_password_is_ever_unreadable(
    service: Service, providers: list[MailServer]
) -> None:
    old, new = (
        key_file(load(service.environment)).read_text().strip(),
        new_key(),
    )  # the one that initdb.py made, and one that is told

    def restart(keys_: str) -> None:
        """Every process with these keys, one after the other, as a rolling update does."""
        service.environment["MAILBBGUN_ENCRYPTION_KEYS"] = keys_
        for name, start in (("worker", service.start_worker), ("api", service.start_api)):
            service.stop(name)
            start()

    accounts = [service.add_account(server) for server in providers]
    token = service.run("bin/mailbbgun", "key", "create", "--admin", "--quiet").strip()
    told: Counter[object] = Counter()
    over = threading.Event()

    def reveal() -> None:
        while not over.wait(0.05):
            with suppress(requests.ConnectionError):  # the API is being started again
                url = f"{service.url}/smtp-accounts/{random.choice(accounts)}/credentials"
                answer = requests.get(url, headers={"Authorization": f"Bearer {token}"}, timeout=PATIENCE)
                told[answer.status_code, answer.json().get("smtp_password")] += 1

    def change() -> None:
        while not over.wait(0.1):
            with suppress(requests.ConnectionError):
                url = f"{service.url}/smtp-accounts/{random.choice(accounts)}"
                answer = requests.patch(
                    url,
                    json={"smtp_password": "secret"},
                    headers={"Authorization": f"Bearer {token}"},
                    timeout=PATIENCE,
                )
                told["changed", answer.status_code] += 1

    load_ = Load(service)
    with ThreadPoolExecutor(2) as pool:
        asking = [pool.submit(work) for work in (reveal, change)]
        try:
            with load_.in_the_background(connections=2, pause=0.02):
                restart(f"{new},{old}")
                service.run("bin/mailbbgun", "keys", "rotate")
                restart(new)  # the old one can go
                until(lambda: told[200, "secret"] > 10, what="credentials")
        finally:
            over.set()
        for one in asking:
            one.result()
    until(lambda: service.count("PENDING") == 0, 60, "the end of every delivery")
    assert set(told) == {(200, "secret"), ("changed", 200)}
    assert service.events("refused") == service.events("deferred") == 0
    figures = check(service, load_.accepted)
    assert (figures.lost, figures.duplicated) == (0, 0)
