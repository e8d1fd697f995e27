"""One server for all mail: TLS, a password, and what happens when either is wrong."""

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


def test_a_server_that_refuses_us_is_left_alone_and_the_mail_waits_until_it_is_mended(embedded_settings, authority):
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
        until(lambda: refused_at("tls"), what="the refusal of a certificate nobody vouches for")
        until(lambda: peer.connections > CONNECTIONS, what="another try after the pause")
        # Once a pause by each of the senders that were already on their way; not by each message.
        assert peer.connections <= 3 * CONNECTIONS
        peer.tls = authority.server("127.0.0.1")
        until(lambda: refused_at("auth"), what="the refusal of the password")
        assert service.count("PENDING") == MESSAGES
        assert peer.messages == []
        peer.users = {"robot": "open sesame"}
        until(lambda: service.count("DELIVERED") == MESSAGES, 30, "all of it, once mended")
        assert sorted(address for message in peer.messages for address in message.recipients) == sorted(addresses)


def test_after_each_pause_one_message_asks_the_server_and_the_others_wait_for_its_answer(embedded_settings):
    senders, rest = 8, 2
    logins: list[float] = []

    def slow(dialogue: Dialogue) -> None:
        logins.append(time.monotonic())
        pause(0.5)  # time enough for all senders to come
        dialogue.normal(dialogue)

    with Peer(
        at={"auth": slow}, users={"robot": "another"}, mechanisms="PLAIN"
    ) as peer:  # one login for each connection
        url = f"smtp://robot:secret@127.0.0.1:{peer.port}?security=none"
        with Service(
            embedded_settings, SMTP_URL=url, WORKER_CONNECTIONS=senders, REFUSED_PAUSE_SECONDS=rest, SWEEP_SECONDS=1
        ) as service:
            for number in range(3 * senders):
                service.post(to=f"u{number}@example.test")
            service.start_worker()

            def close() -> list[bool]:
                """Say of each login but the first whether it came sooner than a pause after the one before."""
                return [second - first <= rest for first, second in pairwise(logins)]

            until(lambda: close().count(False) >= 4, what="login after login")
            # Only each sender that was on its way when the first one was refused, however long that took it; not each after each pause.
            assert close().count(True) < senders
            peer.users = {"robot": "secret"}
            until(lambda: service.count("DELIVERED") == 3 * senders, 30, "all of it, once the password is right")


def test_a_probe_that_learns_nothing_does_not_lock_the_server_out(embedded_settings):
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
            what="nobody listens",
        )
        with hanging_up:
            until(lambda: hanging_up.connections > 1, what="probe after probe")
        with willing:
            until(lambda: service.count("DELIVERED") == 4, 30, "all of it")


def test_one_recipient_whom_a_server_refuses_as_if_it_meant_us_holds_up_nobody_else_for_longer_than_one_pause(
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
            closed = service.post(to="closed@example.test")["id"]  # the first the server hears of: it may mean us
            until(lambda: service.kinds(closed) == ["accepted", "refused"])
            sent = 0
            while "deferred" not in service.kinds(
                closed
            ):  # it is tried again, and walks the schedule while others get in
                sent += 1
                service.post(to=f"u{sent}@example.test")
                pause(0.4)
            until(lambda: service.count("DELIVERED") == sent, what="the mail to everybody else")
            assert sent > 0


def test_a_server_that_counts_recipients_at_the_dot_gets_all_of_them_in_two_transactions(embedded_settings):
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
            assert [len(message.recipients) for message in peer.messages] == [
                60,
                50,
                10,
                50,
                10,
            ]  # the second was split at once


def test_a_recipient_whose_address_needs_smtputf8_bounces_alone_where_that_is_not_offered(embedded_settings):
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


def test_what_may_have_arrived_is_held_if_so_told_and_goes_again_only_by_hand(embedded_settings):
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
