"""Rows S15 and S16: the client connects to a server that a tenant named only where the guard
permits, and sends it nothing before it greets as SMTP.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import cycle
from pathlib import Path
from time import monotonic

import pytest

from mailbbgun.core.net import Allowed, Guard, LookUp, system_look_up
from mailbbgun.relays.mx import Resolver
from mailbbgun.relays.pool import Pool
from mailbbgun.relays.relay import SmartHost
from mailbbgun.smtp.endpoint import Endpoint, Security, Timeouts
from mailbbgun.smtp.envelope import Envelope
from mailbbgun.smtp.opening import CannotOpen
from mailbbgun.smtp.outcome import Deferred, Delivered, Phase, Refused
from mailbbgun.smtp.wire import Dropped, dial
from tests.smtp.authority import Authority
from tests.smtp.behaviours import reset
from tests.smtp.drivers import attempted, opened, quit_, run
from tests.smtp.name_server import NameServer
from tests.smtp.peers import PATIENT, Peer
from tests.tenants.canary import Canary
from tests.waiting import PATIENCE

HASTY = replace(PATIENT, banner=0.1, tls=0.1)
#: Tests reach only this machine: 127.0.0.2 is allowed and stands for a public address, 127.0.0.1 is
#: not allowed.
PUBLIC, PRIVATE = "127.0.0.2", "127.0.0.1"


def guard(look_up: LookUp = system_look_up, *allowed: str) -> Guard:
    return Guard(allowed=Allowed.read(allowed or [PUBLIC]), look_up=look_up)


def guarded(peer: Peer | Canary, allowed: Guard, security: Security = "none") -> Endpoint:
    return Endpoint("mx.test", peer.port, security, guard=allowed)


def failure(endpoint: Endpoint, timeouts: Timeouts = PATIENT) -> Deferred | Refused:
    with pytest.raises(CannotOpen) as caught:
        opened(endpoint, "client.test", timeouts)
    return caught.value.outcome


def alternating(*answers: Sequence[str]) -> Callable[[str, int], Sequence[str]]:
    """Return a look-up that gives each answer in turn."""
    turns, lock = cycle(answers), threading.Lock()

    def look_up(_host: str, _port: int) -> Sequence[str]:
        with lock:
            return next(turns)

    return look_up


def test_a_host_that_is_not_permitted_is_refused_in_our_own_words_and_never_bounces() -> None:
    with Canary() as canary:
        pool = Pool(PATIENT, "client.test")
        inner = Guard(frozenset({canary.port}), look_up=alternating([PRIVATE, "::1", "10.0.0.1"]))
        relay = SmartHost(Endpoint("mx.test", canary.port, "none", guard=inner), pool)
        (outcome,) = attempted(relay, Envelope("a@a.test", ("b@b.test",), b"x\r\n")).values()
        assert isinstance(outcome, Refused)
        assert (outcome.phase, outcome.reply.code, outcome.reply.enhanced) == (Phase.CONNECT, 0, "5.7.1")
        assert outcome.reply.text == "mx.test: no public address, and no other is permitted by ALLOW_PRIVATE_HOSTS"
        assert outcome.server is not None
        assert (outcome.server.host, outcome.server.ip) == ("mx.test", None)
    assert canary.connections == 0


@pytest.mark.parametrize(
    ("host", "told"),
    [("127.0.0.1", "127.0.0.1: no public address, and no other is permitted by ALLOW_PRIVATE_HOSTS"),
     ("127.1", "'127.1' is neither a host name nor an IP address"),
     ("localhost", "localhost: no public address, and no other is permitted by ALLOW_PRIVATE_HOSTS"),
     ("localhost:6379", "port 6379 is not permitted: only 25, 465, 587, 2525 are, and localhost is no public host; "
      "ALLOW_PRIVATE_HOSTS can permit it, on any port")],
)  # fmt: skip
def test_what_the_system_resolves_is_judged_and_the_port_as_well(host: str, told: str) -> None:
    name, _, port = host.partition(":")
    outcome = failure(Endpoint(name, int(port or 25), "none", guard=Guard()))
    assert (type(outcome), outcome.reply.text) == (Refused, told)


def test_a_host_that_does_not_resolve_is_deferred() -> None:
    outcome = failure(Endpoint("no-such-name.invalid", 25, "none", guard=Guard()))
    assert (type(outcome), outcome.phase, outcome.reply.enhanced) == (Deferred, Phase.DNS, "4.4.3")


def test_what_the_operator_allows_is_sent_through_and_its_connection_kept() -> None:
    with Peer() as peer:
        pool = Pool(PATIENT, "client.test")
        relay = SmartHost(Endpoint("localhost", peer.port, "none", guard=guard(system_look_up, "127.0.0.0/8")), pool)
        for _ in range(3):
            (outcome,) = attempted(relay, Envelope("a@a.test", ("b@b.test",), b"x\r\n")).values()
            assert isinstance(outcome, Delivered)
            # Equal rules are the same key.
            relay = SmartHost(replace(relay.endpoint, guard=guard(system_look_up, "127.0.0.0/8")), pool)
        run(pool.close_all())
    assert (peer.connections, len(peer.messages)) == (1, 3)


def test_a_guard_and_addresses_chosen_elsewhere_do_not_go_together() -> None:
    with pytest.raises(ValueError, match="guard"):
        Endpoint("mx.test", 25, addresses=("8.8.8.8",), guard=Guard())


# -- rebinding


def test_a_name_that_changes_its_address_with_every_question_never_leads_to_a_private_one() -> None:
    with Canary(host=PRIVATE) as private, Canary(b"421 busy\r\n", PUBLIC, private.port) as public:
        endpoint = guarded(public, guard(alternating([PUBLIC], [PRIVATE])))
        outcomes = [failure(endpoint) for _ in range(10_000)]
    assert (private.connections, public.connections, public.heard) == (0, 5000, b"")
    assert sum(isinstance(outcome, Refused) for outcome in outcomes) == 5000


def test_of_mixed_answers_only_the_permitted_address_is_connected_to() -> None:
    with Canary(host=PRIVATE) as private, Peer(host=PUBLIC, port=private.port) as public:
        for answer in ([PRIVATE, PUBLIC], [PUBLIC, PRIVATE], ["::1", PRIVATE, PUBLIC, f"::ffff:{PRIVATE}"]):
            connection = opened(guarded(public, guard(alternating(answer))), "client.test", PATIENT)
            assert connection.server.ip == PUBLIC
            quit_(connection)
    assert (private.connections, public.connections) == (0, 3)


class Rebinding(NameServer):
    """A name server that answers for mx.test with two addresses in turn, with a TTL of 0."""

    def __init__(self, *addresses: str) -> None:
        super().__init__({}, ttl=0)
        self._turns = cycle(addresses)

    def _answer(self, wire, transport):  # type: ignore[no-untyped-def]  # as the base has it
        self.zone["mx.test"] = {"A": [next(self._turns)]}
        return super()._answer(wire, transport)


def test_with_a_real_name_server_that_rebinds_the_address_that_was_judged_is_the_one_connected_to() -> None:
    with (
        Canary(host=PRIVATE) as private,
        Peer(host=PUBLIC, port=private.port) as public,
        Rebinding(PUBLIC, PRIVATE) as server,
    ):
        resolver = Resolver(["127.0.0.1"], server.port)

        def look_up(host: str, _port: int) -> list[str]:
            return [str(record) for record in resolver.ask(host, "A")]

        endpoint = guarded(public, guard(look_up))
        for _ in range(100):
            quit_(opened(endpoint, "client.test", PATIENT))
            assert isinstance(failure(endpoint), Refused)
    assert (private.connections, public.connections, len(server.asked)) == (0, 100, 200)


def test_this_test_would_notice_a_check_of_one_answer_and_a_connection_to_the_next() -> None:
    with Canary(host=PRIVATE) as private, Peer(host=PUBLIC, port=private.port) as public:
        look_up = alternating([PUBLIC], [PRIVATE])
        guard(look_up).addresses("mx.test", public.port)
        run(dial(look_up("mx.test", public.port), public.port, monotonic() + PATIENCE)).close()
    assert private.connections == 1


def test_an_address_that_leads_elsewhere_than_it_says_is_hung_up_on_without_a_byte() -> None:
    with Canary(b"220 mx.test\r\n") as canary:  # the kernel takes 0.0.0.0 for 127.0.0.1
        outcome = failure(guarded(canary, guard(alternating(["0.0.0.0"]), "0.0.0.0")))
        assert (type(outcome), outcome.phase) == (Refused, Phase.CONNECT)
    assert (canary.connections, canary.heard) == (1, b"")


def test_a_connection_reset_before_it_can_be_judged_is_deferred() -> None:
    with Peer(at={"banner": reset}) as peer:
        wire = run(dial(["127.0.0.1"], peer.port, monotonic() + PATIENCE))
        with pytest.raises(Dropped):
            run(wire.read_reply(Phase.BANNER, monotonic() + PATIENCE))
        with pytest.raises(Dropped) as caught:
            wire.peer_and_own_address()
        wire.close()
    assert (caught.value.phase, caught.value.reply.enhanced) == (Phase.CONNECT, "4.4.1")


# -- what is no SMTP server

SECRET = b"s3cret-7f3a"
OTHER_SERVICES: dict[str, bytes] = {
    "redis, which waits": b"",
    "redis, protected": b"-DENIED Redis is running in protected mode, " + SECRET + b"\r\n",
    "redis, dead clients": b"-ERR max number of clients reached " + SECRET + b"\r\n",
    "postgresql": b"E\x00\x00\x00\x60SFATAL\x00C53300\x00Mtoo many clients " + SECRET + b"\x00\x00",
    "postgresql of old": b"EFATAL:  sorry, " + SECRET + b"\n\x00",
    "http": b"HTTP/1.1 400 Bad Request\r\nServer: " + SECRET + b"\r\n\r\n",
    "http of old": b"<html>" + SECRET + b"</html>\n",
    "amqp": b"AMQP\x00\x00\x09\x01" + SECRET + b"\r\n",
    "mysql": b"J\x00\x00\x00\x0a8.0.36\x00" + SECRET + b"\n\x00",
    "ssh": b"SSH-2.0-OpenSSH_9.6 " + SECRET + b"\r\n",
    "pop3": b"+OK " + SECRET + b"\r\n",
    "imap": b"* OK [CAPABILITY IMAP4rev1] " + SECRET + b"\r\n",
    "memcached": b"ERROR " + SECRET + b"\r\n",
    "zookeeper": b"imok" + SECRET + b"\n",
    "nntp": b"200 news.internal " + SECRET + b"\r\n",
    "nntp, read only": b"201 news.internal " + SECRET + b"\r\n",
    "a line of 250": b"250 " + SECRET + b"\r\n",
    "a line of 354": b"354 " + SECRET + b"\r\n",
    "lines that differ": b"220-mx\r\n250 " + SECRET + b"\r\n",
    "a line that never ends": b"220 " + SECRET * 1000,
    "half a greeting": b"220-" + SECRET + b"\r\n220-more\r\n",
}


@pytest.mark.parametrize("greeting", OTHER_SERVICES.values(), ids=OTHER_SERVICES)
@pytest.mark.parametrize("security", ["none", "opportunistic", "starttls"])
def test_what_does_not_greet_as_smtp_hears_no_byte_and_is_not_quoted(security: Security, greeting: bytes) -> None:
    with Canary(greeting, PUBLIC) as canary:
        outcome = failure(guarded(canary, guard(alternating([PUBLIC])), security), HASTY)
    assert (canary.connections, canary.heard) == (1, b"")
    assert (type(outcome), outcome.phase, outcome.reply.code) == (Deferred, Phase.BANNER, 0)
    assert SECRET.decode() not in str(outcome)
    assert outcome.reply.text in ("the server's greeting is not SMTP", "timed out waiting for the server")


@pytest.mark.parametrize("greeting", [b"554 5.7.1 no\r\n", b"450 4.3.2 later\r\n", b"421 4.3.2 busy\r\n"])
def test_a_server_that_greets_with_a_refusal_hears_nothing_either(greeting: bytes) -> None:
    with Canary(greeting, PUBLIC) as canary:
        outcome = failure(guarded(canary, guard(alternating([PUBLIC]))))
    assert (canary.heard, type(outcome), outcome.reply.code) == (b"", Deferred, int(greeting[:3]))


def test_with_tls_from_the_start_what_is_no_tls_server_hears_a_handshake_without_a_word_of_the_tenant_but_the_host(
    tmp_path: Path,
) -> None:
    ca_file = Authority(tmp_path).ca_file
    for greeting in OTHER_SERVICES.values():
        with Canary(greeting, PUBLIC) as canary:
            endpoint = replace(
                guarded(canary, guard(alternating([PUBLIC])), "tls"),
                username="tenant-word",
                password="tenant-word",
                ca_file=ca_file,
            )
            outcome = failure(endpoint, HASTY)
        assert canary.heard[:2] in (b"", b"\x16\x03")  # a TLS record of a handshake (RFC 8446 §5.1)
        assert b"tenant-word" not in canary.heard
        assert outcome.phase is Phase.TLS
        assert SECRET.decode() not in str(outcome)


def test_the_operators_own_server_is_not_quoted_either_and_may_stand_anywhere() -> None:
    with Canary(OTHER_SERVICES["http"]) as canary:
        outcome = failure(Endpoint("127.0.0.1", canary.port, "none"))
    assert (canary.heard, outcome.reply.text) == (b"", "the server's greeting is not SMTP")
