"""All mail leaves through one server: TLS, a password, and what happens if either is wrong."""

import time
from itertools import pairwise
from pathlib import Path

import pytest

from tests.flow.service import Service, until
from tests.servers.process import free_port
from tests.smtp.authority import Authority
from tests.smtp.peers import Dialogue, Peer, hang_up
from tests.waiting import pause

MESSAGES = 24
CONNECTIONS = 2


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def relayed(
    settings, authority: Authority, peer: Peer, password: str = "open%20sesame", security: str = "starttls"
) -> Service:
    return Service(
        settings,
        SMTP_URL=f"smtp://robot:{password}@127.0.0.1:{peer.port}?security={security}",
        SMTP_CA_FILE=authority.ca_file,
        WORKER_CONNECTIONS=CONNECTIONS,
        REFUSED_PAUSE_SECONDS=1,
        LEASE_SECONDS=8,
        SWEEP_SECONDS=1,
    )


def test_mail_leaves_through_a_server_with_tls_and_a_password(embedded_settings, authority):
    with Peer(tls=authority.server("127.0.0.1"), implicit=True, users={"robot": "open sesame"}) as peer:
        with relayed(embedded_settings, authority, peer, security="tls") as service:
            service.start_worker()
            sent = service.post(to=["ann@example.test", "ben@example.test"])
            service.ended(sent["id"], "DELIVERED")
            assert [sorted(message.recipients) for message in peer.messages] == [
                ["ann@example.test", "ben@example.test"]
            ]


def test_while_a_server_refuses_us_it_is_rarely_asked_and_the_mail_waits(embedded_settings, authority):
    addresses = [f"u{number}@example.test" for number in range(MESSAGES)]

    def refused_at(phase: str) -> bool:
        return bool(
            service.sql(f"SELECT 1 FROM events WHERE kind = 'refused' AND CAST(data AS text) LIKE '%\"{phase}\"%'")
        )

    with (
        Peer(tls=authority.server("127.0.0.1", self_signed=True), users={"robot": "another"}) as peer,
        relayed(embedded_settings, authority, peer) as service,
    ):
        service.start_worker()
        for address in addresses:
            service.post(to=address)
        until(lambda: refused_at("tls"), what="the refusal of a self-signed certificate")
        until(lambda: peer.connections > CONNECTIONS, what="another attempt after the pause")
        # Each pause allows one connection by each sender that had started already, not by each
        # message.
        assert peer.connections <= 3 * CONNECTIONS
        peer.tls = authority.server("127.0.0.1")
        until(lambda: refused_at("auth"), what="the refusal of the password")
        assert service.count("PENDING") == MESSAGES
        assert peer.messages == []
        peer.users = {"robot": "open sesame"}
        until(lambda: service.count("DELIVERED") == MESSAGES, 30, "all mail once the server accepts us")
        assert sorted(address for message in peer.messages for address in message.recipients) == sorted(addresses)


@pytest.mark.long
def test_after_each_pause_one_message_tries_the_server_and_the_others_wait_for_its_result(embedded_settings):
    senders, rest = 8, 2
    logins: list[float] = []

    def slow(dialogue: Dialogue) -> None:
        logins.append(time.monotonic())
        pause(0.5)  # time for all senders to start
        dialogue.normal(dialogue)

    # With one mechanism there is one login in each connection.
    with Peer(at={"auth": slow}, users={"robot": "another"}, mechanisms="PLAIN") as peer:
        url = f"smtp://robot:secret@127.0.0.1:{peer.port}?security=none"
        with Service(
            embedded_settings, SMTP_URL=url, WORKER_CONNECTIONS=senders, REFUSED_PAUSE_SECONDS=rest, SWEEP_SECONDS=1
        ) as service:
            for number in range(3 * senders):
                service.post(to=f"u{number}@example.test")
            service.start_worker()

            def close() -> list[bool]:
                """Return for each login but the first: did it come within a pause of the last?"""
                return [second - first <= rest for first, second in pairwise(logins)]

            until(lambda: close().count(False) >= 4, what="login after login")
            # Only senders that had started before the first refusal come early, once each.
            assert close().count(True) < senders
            peer.users = {"robot": "secret"}
            until(lambda: service.count("DELIVERED") == 3 * senders, 30, "all mail once the password is right")


@pytest.mark.long
def test_a_probe_without_a_result_does_not_lock_the_server_out(embedded_settings):
    port = free_port()
    refusing = Peer(port=port, users={"robot": "another"})
    hanging_up = Peer(port=port, users={"robot": "secret"}, at={"auth": hang_up})
    willing = Peer(port=port, users={"robot": "secret"})
    url = f"smtp://robot:secret@127.0.0.1:{port}?security=none"
    with Service(
        embedded_settings, SMTP_URL=url, RETRY_DELAYS="2," * 20, REFUSED_PAUSE_SECONDS=1, SWEEP_SECONDS=1
    ) as service:
        with refusing:
            for number in range(4):
                service.post(to=f"u{number}@example.test")
            service.start_worker()
            until(lambda: service.events("refused"), what="a refusal")
        until(
            lambda: service.sql("SELECT 1 FROM events WHERE kind = 'deferred' AND CAST(data AS text) LIKE '%connect%'"),
            what="a deferral while nothing listens",
        )
        with hanging_up:
            until(lambda: hanging_up.connections > 1, what="probe after probe")
        with willing:
            until(lambda: service.count("DELIVERED") == 4, 30, "all mail")


@pytest.mark.long
def test_a_refusal_of_one_recipient_that_looks_like_one_of_us_delays_other_mail_by_one_pause_at_most(
    embedded_settings,
):
    def answer(address: str) -> bytes:
        return b"550 5.7.1 authentication required\r\n" if address.startswith("closed") else b"250 2.1.5 ok\r\n"

    with Peer(rcpt=answer) as peer:
        url = f"smtp://127.0.0.1:{peer.port}?security=none"
        with Service(
            embedded_settings, SMTP_URL=url, RETRY_DELAYS="8,8,8", REFUSED_PAUSE_SECONDS=4, SWEEP_SECONDS=1
        ) as service:
            service.start_worker()
            closed = service.post(to="closed@example.test")["id"]  # the first recipient, so the refusal may mean us
            until(lambda: service.kinds(closed) == ["accepted", "refused"])
            sent = 0
            # It is tried again, and follows its retry schedule once others are accepted.
            while "deferred" not in service.kinds(closed):
                sent += 1
                service.post(to=f"u{sent}@example.test")
                pause(0.4)
            until(lambda: service.count("DELIVERED") == sent, what="the mail to all others")
            assert sent > 0


@pytest.mark.long
def test_a_transaction_that_is_refused_at_the_dot_for_too_many_recipients_is_split(embedded_settings):
    def count(dialogue: Dialogue) -> None:
        many = len(peer.messages[-1].recipients) > 50
        dialogue.do(
            b"554 Transaction failed: Expected fewer. Recipient count exceeds 50\r\n" if many else dialogue.normal
        )

    addresses = [f"u{number}@example.test" for number in range(60)]
    with Peer(at={"dot": count}) as peer:
        with Service(
            embedded_settings, SMTP_URL=f"smtp://127.0.0.1:{peer.port}?security=none", SWEEP_SECONDS=1
        ) as service:
            service.start_worker()
            for _ in range(2):
                sent = service.post(to=addresses)["id"]
                service.ended(sent, "DELIVERED")
                assert service.kinds(sent) == ["accepted"] + ["delivered"] * 60
            # The second message is split from the start.
            assert [len(message.recipients) for message in peer.messages] == [60, 50, 10, 50, 10]


def test_only_the_recipient_that_needs_smtputf8_bounces_at_a_server_without_it(embedded_settings):
    with Peer(extensions=("PIPELINING", "8BITMIME")) as peer:
        with Service(
            embedded_settings, SMTP_URL=f"smtp://127.0.0.1:{peer.port}?security=none", SWEEP_SECONDS=1
        ) as service:
            service.start_worker()
            shown = service.post(to=["ann@example.test", "j\u00f6rg@example.test"])["id"]
            hidden = service.post(to=["ann@example.test"], bcc=["j\u00f6rg@example.test"])["id"]
            for identifier in (shown, hidden):
                until(
                    lambda identifier=identifier: (
                        {one["status"] for one in service.message(identifier)["deliveries"]} == {"DELIVERED", "ERROR"}
                    )
                )
                ends = {
                    one["address"]: (one["status"], one["reason"]) for one in service.message(identifier)["deliveries"]
                }
                assert ends == {"ann@example.test": ("DELIVERED", None), "j\u00f6rg@example.test": ("ERROR", "bounced")}
            assert [message.recipients for message in peer.messages] == [["ann@example.test"]] * 2
            assert all(message.raw.isascii() for message in peer.messages)
            assert b"SMTPUTF8" not in b"".join(peer.commands)


@pytest.mark.long
def test_with_on_unknown_hold_an_unknown_outcome_is_resent_only_by_a_manual_retry(embedded_settings):
    with Service(embedded_settings, ON_UNKNOWN="hold", LEASE_SECONDS=8, SWEEP_SECONDS=1) as service:
        service.start_worker()
        sent = service.post(to="lost-ann@example.test")
        assert service.ended(sent["id"], "ERROR")["deliveries"][0]["reason"] == "outcome_unknown"
        assert service.kinds(sent["id"]) == ["accepted", "outcome_unknown"]
        assert service.copies() == {"lost-ann@example.test": 1}
        again = service.http.post(f"{service.url}/messages/{sent['id']}/retry")
        assert again.status_code == 200, again.text
        service.ended(sent["id"], "DELIVERED")
        assert service.kinds(sent["id"]) == ["accepted", "outcome_unknown", "retried", "delivered"]
        assert service.copies() == {"lost-ann@example.test": 2}
