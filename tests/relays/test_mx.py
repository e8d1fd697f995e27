"""The hosts that accept mail for a domain (RFC 5321 §5.1, RFC 7505), by a real name server."""

import threading

import pytest

from mailbbgun.relays.mx import MXHost, NoAnswer, Resolver, addresses, lookup
from mailbbgun.smtp.outcome import Bounced, Deferred, Phase
from tests.smtp.name_server import NameServer
from tests.waiting import PATIENCE, bounded, growing

ZONE = {
    "three.test": {"MX": ["20 c.three.test.", "10 b.three.test.", "10 a.three.test."]},
    "bare.test": {"A": ["192.0.2.7"]},
    "bare6.test": {"AAAA": ["2001:db8::7"]},
    "nothing.test": {"TXT": ["hello"]},
    "null.test": {"MX": ["0 ."]},
    "nullish.test": {"MX": ["0 .", "10 mx.nullish.test."]},
    "fail.test": "SERVFAIL",
    "refused.test": "REFUSED",
    "silent.test": "silent",
    "no-name.test": "NXDOMAIN",
    "no-data.test": "NOERROR",
    "large.test": "truncated",
    "large.test/tcp": {"MX": [f"{n} mx{n}.large.test." for n in range(60)]},
    "both.test": {"A": ["192.0.2.1", "192.0.2.2"], "AAAA": ["2001:db8::1"]},
    "xn--bcher-kva.test": {"MX": ["10 mx.test."]},
}


def resolver(server: NameServer, lifetime: float = PATIENCE) -> Resolver:
    return Resolver(["127.0.0.1"], server.port, lifetime)


def test_hosts_come_by_preference_and_equal_ones_in_random_order() -> None:
    with NameServer(ZONE) as server:
        asked = resolver(server)
        orders = set()
        for _ in range(60):
            hosts = lookup("three.test", asked)
            assert isinstance(hosts, list)
            assert hosts[2] == MXHost("c.three.test", 20)
            orders.add(tuple(host.name for host in hosts[:2]))
        assert orders == {("a.three.test", "b.three.test"), ("b.three.test", "a.three.test")}
        assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("domain", "found"),
    [
        ("bare.test", MXHost("bare.test", 0)),
        ("bare6.test", MXHost("bare6.test", 0)),
        ("nullish.test", MXHost("mx.nullish.test", 10)),
        ("b\u00fccher.test", MXHost("mx.test", 10)),
        ("[192.0.2.1]", MXHost("192.0.2.1", 0)),
        ("[IPv6:2001:db8::1]", MXHost("2001:db8::1", 0)),
    ],
)
def test_a_domain_with_one_exchanger_gives_that_host(domain: str, found: MXHost) -> None:
    with NameServer(ZONE) as server:
        assert lookup(domain, resolver(server)) == [found]


@pytest.mark.parametrize(
    ("domain", "kind", "enhanced"),
    [
        ("null.test", Bounced, "5.1.10"),
        ("no-such.test", Bounced, "5.1.2"),
        ("nothing.test", Bounced, "5.4.4"),
        ("fail.test", Deferred, "4.4.3"),
        ("refused.test", Deferred, "4.4.3"),
        ("no-name.test", Deferred, "4.4.3"),
        ("no-data.test", Deferred, "4.4.3"),
        ("[192.0.2.300]", Bounced, "5.1.2"),
        ("[2001:db8::1]", Bounced, "5.1.2"),
        ("[192.0.2.1", Bounced, "5.1.2"),
        ("a..b", Bounced, "5.1.2"),
        ("x" * 64 + ".test", Bounced, "5.1.2"),
        ("", Bounced, "5.4.4"),
    ],
)
def test_what_the_dns_says_for_certain_is_permanent_and_the_rest_temporary(
    domain: str, kind: type, enhanced: str
) -> None:
    zone = {**ZONE, "": {"TXT": ["root"]}}
    with NameServer(zone) as server:
        outcome = lookup(domain, resolver(server))
    assert isinstance(outcome, kind)
    assert (outcome.phase, outcome.reply.enhanced) == (Phase.DNS, enhanced)


def test_a_silent_name_server_is_given_up_in_time() -> None:
    with NameServer(ZONE) as server:
        outcome = lookup("silent.test", resolver(server, lifetime=0.3))
    assert isinstance(outcome, Deferred)
    assert outcome.reply.text == "silent.test: the DNS gives no answer (127.0.0.1: timed out)"


def test_each_name_server_that_fails_is_told_once() -> None:
    with NameServer(ZONE) as server:
        for lifetime in growing(0.5):
            outcome = lookup("fail.test", Resolver(["127.0.0.1", "127.0.0.2"], server.port, lifetime))
            assert isinstance(outcome, Deferred)
            if "SERVFAIL" in outcome.reply.text:
                break
    assert outcome.reply.text == "fail.test: the DNS gives no answer (127.0.0.1: SERVFAIL, 127.0.0.2: timed out)"


def test_a_large_answer_comes_by_tcp_and_is_cut() -> None:
    with NameServer(ZONE) as server:
        hosts = lookup("large.test", resolver(server))
    assert isinstance(hosts, list)
    assert [host.preference for host in hosts] == list(range(20))


def test_addresses_are_ipv4_first() -> None:
    with NameServer(ZONE) as server:
        found = addresses("both.test", resolver(server))
        assert isinstance(found, list)
        assert (set(found[:2]), found[2:]) == ({"192.0.2.1", "192.0.2.2"}, ["2001:db8::1"])
        assert addresses("192.0.2.9", resolver(server)) == ["192.0.2.9"]


@pytest.mark.parametrize(
    ("host", "kind"),
    [
        ("no-such.test", Bounced),
        ("nothing.test", Bounced),
        ("fail.test", Deferred),
        ("no-name.test", Deferred),
        ("no-data.test", Deferred),
    ],
)
def test_a_host_without_address_is_permanent_only_if_the_dns_said_so(host: str, kind: type) -> None:
    with NameServer(ZONE) as server:
        assert isinstance(addresses(host, resolver(server)), kind)


@pytest.mark.parametrize("answer", ["NXDOMAIN", "NOERROR"])
def test_there_is_none_without_an_soa_is_not_believed_and_not_kept(answer: str) -> None:
    with NameServer({"b.test": answer}) as server:
        asked = resolver(server)
        assert isinstance(lookup("b.test", asked), Deferred)
        server.zone["b.test"] = {"MX": ["10 mx.b.test."]}
        assert lookup("b.test", asked) == [MXHost("mx.b.test", 10)]


def test_answers_are_kept_by_their_ttl_but_failures_are_not() -> None:
    with NameServer(ZONE, ttl=0) as server:
        asked = resolver(server)
        for _ in range(3):
            lookup("three.test", asked)
            lookup("fail.test", asked)
        assert server.asked.count(("three.test", "MX")) == 3
        assert server.asked.count(("fail.test", "MX")) == 3
    with NameServer(ZONE, ttl=1_000_000) as server:
        asked = resolver(server)
        for _ in range(3):
            lookup("three.test", asked)
            lookup("no-such.test", asked)
        assert server.asked.count(("three.test", "MX")) == 1
        assert server.asked.count(("no-such.test", "MX")) == 1


def test_no_more_answers_are_kept_than_allowed() -> None:
    with NameServer(ZONE) as server:
        asked = Resolver(["127.0.0.1"], server.port, cached=2)
        for domain in ("three.test", "null.test", "nullish.test", "three.test", "nullish.test"):
            lookup(domain, asked)
        assert [name for name, _ in server.asked] == ["three.test", "null.test", "nullish.test", "three.test"]


def test_threads_share_a_resolver() -> None:
    def work() -> None:
        for domain in ("three.test", "bare.test", "null.test") * 10:
            results.append(lookup(domain, asked))

    results: list[object] = []
    with NameServer(ZONE, ttl=0) as server:
        asked = resolver(server)
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
    assert len(results) == 120
    assert not any(isinstance(result, Deferred) for result in results)


def test_a_large_answer_is_given_but_not_cached() -> None:
    zone = {"large.test": {"TXT": [" ".join(['"' + "x" * 255 + '"'] * 17)]}, "small.test": {"TXT": ['"x"']}}
    with NameServer(zone) as server:
        asked = resolver(server)
        for name, queries in (("large.test", 2), ("small.test", 1)):
            for _ in range(2):
                assert asked.ask(name, "TXT")
            assert server.asked.count((name, "TXT")) == queries


def test_one_query_may_have_less_time_than_others() -> None:
    with NameServer(ZONE) as server, bounded("the query"):
        with pytest.raises(NoAnswer):
            resolver(server).ask("silent.test", "TXT", 0.1)
