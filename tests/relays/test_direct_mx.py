"""Direct delivery to the mail exchangers of a domain."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from mailbbgun.core.net import Allowed, Guard
from mailbbgun.relays import relay
from mailbbgun.relays.mx import Resolver
from mailbbgun.relays.relay import DirectMX
from mailbbgun.smtp.envelope import Envelope
from mailbbgun.smtp.outcome import (
    AnsweringServer,
    Bounced,
    Deferred,
    Delivered,
    Phase,
    Unknown,
)
from mailbbgun.smtp.reply import Reply
from tests.relays.relaying import LOOPBACK, RAW, attempt, kinds, pool
from tests.smtp.behaviours import reset, then_close
from tests.smtp.name_server import NameServer
from tests.smtp.peers import Behaviour, Peer, hang_up


@contextmanager
def exchangers(*peers: Peer, zone: dict[str, object] | None = None, **more: object) -> Iterator[DirectMX]:
    """Peers at 127.0.0.1, .2, … on one port: mx1, mx2, … of b.test, in that order of preference."""
    with ExitStack() as stack:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        for number, peer in enumerate(peers, 1):
            peer.host, peer.port = f"127.0.0.{number}", port
            stack.enter_context(peer)
        records: dict[str, object] = {
            "b.test": {"MX": [f"{number}0 mx{number}.b.test." for number in range(1, len(peers) + 1)]},
            **{f"mx{number}.b.test": {"A": [f"127.0.0.{number}"]} for number in range(1, len(peers) + 1)},
            **(zone or {}),
        }
        server = stack.enter_context(NameServer(records))
        connections = stack.enter_context(pool())
        resolver = Resolver(["127.0.0.1"], server.port, lifetime=2)
        yield DirectMX(resolver, connections, port, **{"guard": LOOPBACK, **more})


def test_the_best_exchanger_gets_the_mail_for_all_recipients_in_one_transaction() -> None:
    first, second = Peer(), Peer()
    with exchangers(first, second) as relay:
        outcomes = attempt(relay, Envelope("a@a.test", ("x@b.test", "y@b.test"), RAW))
        assert kinds(outcomes) == [Delivered, Delivered]
    assert ([m.recipients for m in first.messages], second.messages) == ([["x@b.test", "y@b.test"]], [])


@pytest.mark.parametrize(
    "at",
    [
        {"banner": b"554 no\r\n"},
        {"banner": hang_up},
        {"banner": b"junk\r\n"},
        {"ehlo": b"550 no\r\n"},
        {"mail": hang_up},
        {"mail": then_close(b"421 no\r\n")},
        {"rcpt": reset},
        {"data": hang_up},
    ],
    ids=lambda at: " ".join(at),
)
def test_the_next_exchanger_is_tried_when_one_cannot_be_talked_to(at: dict[str, Behaviour]) -> None:
    first, second = Peer(at=at), Peer()
    with exchangers(first, second) as relay:
        assert kinds(attempt(relay)) == [Delivered]
    assert (first.connections, len(second.messages)) == (1, 1)


def test_the_next_address_is_tried_when_nobody_listens_at_the_first() -> None:
    only = Peer()
    with exchangers(
        only,
        zone={
            "b.test": {"MX": ["1 gone.b.test.", "2 dead.b.test.", "3 mx1.b.test."]},
            "dead.b.test": {"A": ["127.0.0.77"]},
        },
    ) as relay:
        assert kinds(attempt(relay)) == [Delivered]


@pytest.mark.parametrize(
    ("at", "kind", "phase"),
    [
        ({"mail": b"450 4.7.1 grey\r\n"}, Deferred, Phase.MAIL),
        ({"rcpt": b"450 4.7.1 grey\r\n"}, Deferred, Phase.RCPT),
        ({"rcpt": b"550 5.1.1 no\r\n"}, Bounced, Phase.RCPT),
        ({"dot": hang_up}, Unknown, Phase.DOT),
        ({"dot": b"451 4.3.0 later\r\n"}, Deferred, Phase.DOT),
        ({"dot": then_close(b"421 bye\r\n")}, Deferred, Phase.DOT),
    ],
)
def test_a_verdict_of_one_exchanger_stands(at: dict[str, Behaviour], kind: type, phase: Phase) -> None:
    first, second = Peer(at=at), Peer()
    with exchangers(first, second) as relay:
        (outcome,) = attempt(relay).values()
    assert (type(outcome), outcome.phase) == (kind, phase)
    assert second.connections == 0


def test_no_exchanger_answering_is_deferred_with_the_last_reason() -> None:
    with exchangers(Peer(at={"banner": b"554 one\r\n"}), Peer(at={"banner": b"421 two\r\n"})) as relay:
        (outcome,) = attempt(relay).values()
    assert outcome == Deferred(Reply(421, None, "two"), Phase.BANNER, server=AnsweringServer("mx2.b.test", "127.0.0.2"))


@pytest.mark.parametrize(
    ("zone", "kind", "enhanced"),
    [
        ({"b.test": {"MX": ["0 ."]}}, Bounced, "5.1.10"),
        ({"b.test": "SERVFAIL"}, Deferred, "4.4.3"),
        ({"b.test": {"MX": ["1 gone.b.test."]}}, Bounced, "5.4.4"),
        ({"b.test": {"MX": ["1 gone.b.test.", "2 ill.b.test."]}, "ill.b.test": "SERVFAIL"}, Deferred, "4.4.3"),
        ({"b.test": {"MX": ["1 ill.b.test.", "2 gone.b.test."]}, "ill.b.test": "SERVFAIL"}, Deferred, "4.4.3"),
    ],
)
def test_a_domain_without_an_exchanger_has_the_outcome_that_the_dns_decides(
    zone: dict[str, object], kind: type, enhanced: str
) -> None:
    with exchangers(zone=zone) as relay:
        (outcome,) = attempt(relay).values()
    assert (type(outcome), outcome.phase, outcome.reply.enhanced) == (kind, Phase.DNS, enhanced)


def test_an_address_that_is_not_permitted_is_never_connected_to() -> None:
    first, second = Peer(), Peer()
    with exchangers(first, second, guard=Guard(allowed=Allowed.read(["127.0.0.2"]))) as relay:
        assert kinds(attempt(relay)) == [Delivered]
    assert (first.connections, len(second.messages)) == (0, 1)


PRIVATE = [
    "127.0.0.1",
    "0.0.0.0",
    "10.0.0.1",
    "100.64.0.1",
    "169.254.169.254",
    "172.16.0.1",
    "192.168.1.1",
    "198.18.0.1",
    "224.0.0.1",
    "255.255.255.255",
]
PRIVATE_V6 = [
    "::1",
    "::",
    "::ffff:127.0.0.1",
    "::127.0.0.1",
    "64:ff9b::7f00:1",
    "2002:7f00:1::1",
    "fe80::1",
    "fc00::1",
    "ff02::1",
    "2001:db8::1",
]


@pytest.mark.parametrize("address", PRIVATE + PRIVATE_V6)
def test_a_domain_that_leads_to_an_address_that_is_not_public_bounces_and_is_not_connected_to(address: str) -> None:
    kind = "AAAA" if ":" in address else "A"
    for zone in ({"mx1.b.test": {kind: [address]}}, {"b.test": {kind: [address]}}):
        with exchangers(only := Peer(), zone=zone, guard=Guard()) as relay:
            (outcome,) = attempt(relay).values()
        assert (type(outcome), outcome.phase, outcome.reply.enhanced) == (Bounced, Phase.DNS, "5.4.4")
        assert "no public address; to send there, set ALLOW_PRIVATE_HOSTS" in outcome.reply.text
        assert address not in outcome.reply.text
        assert only.connections == 0


@pytest.mark.parametrize(
    "domain", ["[127.0.0.1]", "[10.0.0.1]", "[IPv6:::1]", "[IPv6:::ffff:127.0.0.1]", "[IPv6:64:ff9b::7f00:1]"]
)
def test_an_address_literal_that_is_not_public_bounces(domain: str) -> None:
    with exchangers(only := Peer(), guard=Guard()) as relay:
        (outcome,) = attempt(relay, Envelope("", (f"x@{domain}",), RAW)).values()
    assert (type(outcome), outcome.reply.enhanced, only.connections) == (Bounced, "5.4.4", 0)


@pytest.mark.parametrize("other", ["localhost.", "127.0.0.1.", "inner.b.test."])
def test_a_host_that_is_not_public_is_skipped_where_another_exists(other: str) -> None:
    first, second = Peer(), Peer()
    zone = {
        "b.test": {"MX": [f"1 {other}", "20 mx2.b.test."]},
        "localhost": {"A": ["127.0.0.1"]},
        "inner.b.test": {"A": ["127.0.0.1", "127.0.0.2"]},
    }
    with exchangers(first, second, zone=zone, guard=Guard(allowed=Allowed.read(["127.0.0.2"]))) as relay:
        assert kinds(attempt(relay)) == [Delivered]
    assert (first.connections, len(second.messages)) == (0, 1)


def test_a_host_that_cannot_be_looked_up_beside_one_that_is_not_public_is_waited_for() -> None:
    for first, second in (("ill", "mx1"), ("mx1", "ill")):
        zone = {"b.test": {"MX": [f"1 {first}.b.test.", f"2 {second}.b.test."]}, "ill.b.test": "SERVFAIL"}
        with exchangers(Peer(), zone=zone, guard=Guard()) as relay:
            assert kinds(attempt(relay)) == [Deferred]


def test_a_host_that_the_operator_names_may_be_anywhere() -> None:
    with exchangers(Peer(), guard=Guard(allowed=Allowed.read(["mx1.b.test"]))) as relay:
        assert kinds(attempt(relay)) == [Delivered]


def test_there_is_no_account_to_pause_so_nothing_is_refused() -> None:
    with exchangers(Peer(at={"mail": b"530 5.7.0 authentication required\r\n"})) as relay:
        assert kinds(attempt(relay)) == [Deferred]
    with exchangers(Peer(), security="starttls") as relay:
        assert kinds(attempt(relay)) == [Deferred]


def test_an_address_literal_needs_no_dns() -> None:
    only = Peer()
    with exchangers(only) as relay:
        assert kinds(attempt(relay, Envelope("", ("x@[127.0.0.1]",), RAW))) == [Delivered]


def test_no_more_than_five_servers_are_tried() -> None:
    peers = [Peer(at={"banner": b"554 no\r\n"}) for _ in range(7)]
    with exchangers(*peers) as relay:
        assert kinds(attempt(relay)) == [Deferred]
    assert [peer.connections for peer in peers] == [1] * 5 + [0] * 2


def test_no_recipients_are_no_work() -> None:
    with exchangers() as relay:
        assert attempt(relay, Envelope("a@a.test", (), RAW)) == {}


def test_name_servers_that_take_too_long_defer_the_mail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay, "LOOK_UP_SECONDS", 0.05)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent, pool() as connections:
        silent.bind(("127.0.0.1", 0))
        direct = DirectMX(Resolver(["127.0.0.1"], silent.getsockname()[1], lifetime=2), connections)
        (outcome,) = attempt(direct).values()
    assert outcome == Deferred(Reply(0, "4.4.3", "timed out waiting for the name servers"), Phase.DNS)
