"""Routes as the settings say, to real servers."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from uuid import uuid4

import pytest

from mailbbgun.core.errors import ConfigurationError
from mailbbgun.relays import client
from mailbbgun.routing.routes import SMARTHOST, Routes
from mailbbgun.routing.ways_out import check, endpoint
from mailbbgun.settings.load import load
from mailbbgun.settings.timeouts import SMTPTimeouts
from mailbbgun.smtp.envelope import Envelope
from mailbbgun.smtp.outcome import Deferred, Delivered, Outcome, Unknown
from mailbbgun.smtp_accounts.account import Account
from mailbbgun.smtp_accounts.cache import TenantAccounts
from tests.smtp.authority import Authority
from tests.smtp.behaviours import silent
from tests.smtp.drivers import attempted, run
from tests.smtp.peers import Peer
from tests.waiting import PATIENCE, bounded, pause

LIMIT = 0.3
PHASES = [one.name for one in fields(SMTPTimeouts)]
ONE = Envelope("a@a.test", ("b@b.test",), b"Subject: x\r\n\r\ny\r\n")


@contextmanager
def routed(port: int, timeouts: str, security: str = "none", user: str = "", ca_file: str = "") -> Iterator[Routes]:
    # Phases that are not under test must not end the wait first.
    others = ",".join(f"{phase}={2 * PATIENCE}" for phase in PHASES if phase not in timeouts)
    routes = Routes(
        load(
            {
                "MAILBBGUN_SMTP_URL": f"smtp://{user}127.0.0.1:{port}?security={security}",
                "MAILBBGUN_HOSTNAME": "client.test",
                "MAILBBGUN_SMTP_TIMEOUTS": f"{others},{timeouts}",
                "MAILBBGUN_SMTP_CA_FILE": ca_file,
            }
        )
    )
    yield routes
    run(routes.close())


def attempt(routes: Routes) -> Outcome:
    with bounded("an attempt"):
        (outcome,) = attempted(routes.relay(SMARTHOST), ONE).values()
    return outcome


@pytest.mark.parametrize("phase", ["banner", "ehlo", "auth", "mail", "rcpt", "data", "dot"])
def test_a_silent_server_is_given_up_at_the_limit_of_its_phase(phase: str) -> None:
    with (
        Peer(at={phase: silent}, users={"u": "p"}) as peer,
        routed(peer.port, f"{phase}={LIMIT}", user="u:p@") as routes,
    ):
        outcome = attempt(routes)
    assert isinstance(outcome, Unknown if phase == "dot" else Deferred)
    assert outcome.phase == phase


def test_a_server_silent_in_the_tls_handshake_is_given_up_at_its_limit(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    with Peer(at={"tls": silent}, tls=authority.server("127.0.0.1"), implicit=True) as peer:
        with routed(peer.port, f"tls={LIMIT}", security="tls", ca_file=authority.ca_file) as routes:
            outcome = attempt(routes)
    assert isinstance(outcome, Deferred)
    assert outcome.phase == "tls"


def test_a_machine_that_takes_no_connection_is_given_up_at_its_limit() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        port = full.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)), routed(port, f"connect={LIMIT}") as routes:
            outcome = attempt(routes)
    assert isinstance(outcome, Deferred)
    assert outcome.phase == "connect"


def test_a_kept_connection_whose_server_went_silent_costs_the_limits_of_rset_and_quit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(client, "PAUSE", 0.0)  # as if the connection had rested
    with (
        Peer(at={"rset": silent, "quit": silent}, extensions=()) as peer,
        routed(peer.port, f"rset={LIMIT},quit={LIMIT}") as routes,
    ):
        assert isinstance(attempt(routes), Delivered)
        assert isinstance(attempt(routes), Delivered)
        with bounded("a goodbye to a silent server"):
            run(routes.close())
    assert (peer.connections, len(peer.messages)) == (2, 2)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("smtp://u:CANARY#x@h", "%23"),
        ("smtp://u:x@CANARY@h", "%40"),
        ("smtp://u:CANARY[", "port"),
        ("mx:CANARY", "must be mx: and nothing else"),
        ("catcher://CANARY", "must be catcher: and nothing else"),
        ("smtp:CANARY", "must be smtp://"),
    ],
)
def test_a_way_out_that_would_lead_elsewhere_is_refused_without_saying_the_password(url: str, says: str) -> None:
    with pytest.raises(ConfigurationError, match=f"SMTP_URL: .*{says}") as caught:
        check(load({"MAILBBGUN_SMTP_URL": url, "MAILBBGUN_HOSTNAME": "client.test"}))
    assert "CANARY" not in str(caught.value)


def test_port_465_without_security_is_tls_as_it_is_with_an_account() -> None:
    found = endpoint(
        load({"MAILBBGUN_SMTP_URL": "smtp://u:p@mail.example.com:465", "MAILBBGUN_HOSTNAME": "client.test"})
    )
    assert (found.security, found.port) == ("tls", 465)


def test_an_account_that_mail_is_claimed_for_while_all_are_read_anew_is_not_forgotten() -> None:
    with routed(1, "banner=1") as routes:
        account = Account(uuid4(), "new", None)
        claiming = threading.Thread(target=routes.add_accounts, args=([TenantAccounts(True, (account,))],))

        def read() -> list[TenantAccounts]:
            claiming.start()
            pause(0.1)  # without the lock, add_accounts() would be done by now and its account overwritten
            return []

        assert routes.replace(read) == []
        claiming.join(PATIENCE)
        assert routes.known() == [account.id]
