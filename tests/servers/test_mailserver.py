"""The mail server that other tests rely on: it accepts like a real one, keeps mail, and fails when
told to.
"""

import hashlib
import smtplib
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mailbbgun.smtp.endpoint import Endpoint
from mailbbgun.smtp.envelope import Envelope
from mailbbgun.smtp.opening import CannotOpen
from mailbbgun.smtp.outcome import Deferred, Delivered, Outcome, Phase, Refused, TooMany
from tests.servers.mailserver import Failure, MailServer
from tests.smtp.authority import Authority
from tests.smtp.drivers import opened, quit_, sent
from tests.smtp.peers import PATIENT
from tests.waiting import at_least

MAIL = Envelope(
    "from@client.test", ("ann@peer.test", "ben@peer.test"), b"Message-ID: <one@client.test>\r\n\r\nHello\r\n"
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MailServer]:
    with MailServer(tmp_path_factory.mktemp("mailserver"), {"robot": "open sesame"}) as server:
        yield server


@pytest.fixture(autouse=True)
def healthy(server: MailServer) -> None:
    server.heal()


def endpoint(server: MailServer, security: str = "starttls", password: str = "open sesame") -> Endpoint:
    return Endpoint("localhost", server.port, security, "robot", password, ("127.0.0.1",), server.ca_file)


def send(to: Endpoint) -> dict[str, Outcome | TooMany]:
    connection = opened(to, "client.test", PATIENT)
    outcomes = sent(connection, MAIL)
    quit_(connection)
    return outcomes


def refusal(to: Endpoint) -> Deferred | Refused:
    with pytest.raises(CannotOpen) as caught:
        send(to)
    return caught.value.outcome


def delivered(outcomes: dict[str, Outcome | TooMany]) -> bool:
    return all(isinstance(outcome, Delivered) for outcome in outcomes.values())


def test_what_it_took_is_there_when_it_answers_and_after_it_was_killed(server: MailServer) -> None:
    before = time.time()
    assert delivered(send(endpoint(server)))
    taken = server.taken()[-1]
    assert (taken["from"], taken["to"], taken["user"]) == (MAIL.mail_from, list(MAIL.recipients), "robot")
    assert (taken["id"], taken["sha"]) == ("<one@client.test>", hashlib.sha256(MAIL.raw).hexdigest())
    assert before <= taken["at"] <= time.time()  # both by the same clock
    many, port, calls = len(server.taken()), server.port, server.connections()
    server.kill()
    assert refusal(endpoint(server)).phase is Phase.CONNECT
    server.start()
    assert len(server.taken()) == many
    assert delivered(send(endpoint(server)))
    assert (len(server.taken()), server.port, server.connections()) == (many + 1, port, calls + 1)


def test_it_wants_tls_and_then_the_right_password(server: MailServer) -> None:
    assert refusal(endpoint(server, "none")).phase is Phase.AUTH
    assert refusal(endpoint(server, password="wrong")).reply.code == 535
    there = Endpoint("localhost", server.port, "starttls", addresses=("127.0.0.1",), ca_file=server.ca_file)
    connection = opened(there, "c.test", PATIENT)
    outcomes = sent(connection, MAIL)
    assert {outcome.reply.code for outcome in outcomes.values()} == {530}
    quit_(connection)


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
def test_another_client_can_use_it_too(server: MailServer, mechanism: str) -> None:
    with smtplib.SMTP("localhost", server.port) as client:
        client.starttls(context=ssl.create_default_context(cafile=server.ca_file))
        client.ehlo()
        client.user, client.password = "robot", "open sesame"
        client.auth(mechanism, getattr(client, f"auth_{mechanism.lower()}"))
        client.sendmail(MAIL.mail_from, MAIL.recipients, MAIL.raw)
    assert server.taken()[-1]["user"] == "robot"


FAULTS: list[tuple[Failure, type, Phase, int]] = [
    (Failure.AUTH, Refused, Phase.AUTH, 535),
    (Failure.BANNER, Deferred, Phase.BANNER, 421),
    (Failure.CLOSE, Deferred, Phase.BANNER, 0),
]


@pytest.mark.parametrize(("failure", "kind", "phase", "code"), FAULTS, ids=[row[0].value for row in FAULTS])
def test_it_fails_as_it_is_told_also_when_started_again_until_it_is_healed(
    server: MailServer, failure: Failure, kind: type, phase: Phase, code: int
) -> None:
    server.fail(failure)
    outcome = refusal(endpoint(server))
    assert (type(outcome), outcome.phase, outcome.reply.code) == (kind, phase, code)
    server.restart()
    assert type(refusal(endpoint(server))) is kind
    server.heal()
    assert delivered(send(endpoint(server)))


def test_it_refuses_recipients_and_answers_late_when_told_to(server: MailServer) -> None:
    server.fail(Failure.RCPT)
    many = len(server.taken())
    assert {outcome.reply.code for outcome in send(endpoint(server)).values()} == {450}
    assert len(server.taken()) == many
    server.fail(Failure.SLOW, 0.3)
    with at_least(0.3):
        assert delivered(send(endpoint(server)))


def test_two_servers_share_an_authority_and_tls_may_come_first(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    with MailServer(tmp_path, {"robot": "open sesame"}, "tls", authority=authority) as first:
        with MailServer(tmp_path, {"robot": "open sesame"}, authority=authority) as second:
            assert first.ca_file == second.ca_file == authority.ca_file
            assert delivered(send(endpoint(first, "tls")))
            assert delivered(send(endpoint(second)))
            first.fail(Failure.CLOSE)
            assert isinstance(refusal(endpoint(first, "tls")), Deferred)
            assert delivered(send(endpoint(second)))
    assert not list(tmp_path.glob("mailbbgun-mailserver-*"))
