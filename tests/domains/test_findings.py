"""What the DNS has of a domain, in words."""

from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from mailbbgun.domains.dkim import ED25519, RSA
from mailbbgun.domains.dns import findings
from mailbbgun.domains.dns.findings import MailHosts, Unanswered, tags_of
from mailbbgun.domains.dns.records import Record, records


@dataclass(frozen=True)
class Key:
    """A key as a record shows it."""

    selector: str = "s"
    algorithm: str = RSA
    public_key: str = "MIIBIjAN"


@pytest.mark.parametrize(("there", "state", "words"), [
    (["v=DKIM1; k=rsa; p=MIIBIjAN"], "ok", "there"),
    (["p=MIIBIjAN"], "ok", "there"),
    (["v=DKIM1;p=MIIB IjAN ;"], "ok", "there"),
    (["k = rsa ; p = MIIB\tIjAN; n=note"], "ok", "there"),
    (["v=DKIM1; p=MIIBIjAN; t=y:s"], "ok", "t=y"),
    (["v=DKIM2; p=MIIBIjAN"], "wrong", "v=DKIM2"),
    (["v=DKIM1; k=ed25519; p=MIIBIjAN"], "wrong", "k=ed25519"),
    (["v=DKIM1; k=rsa; p="], "wrong", "withdrawn"),
    (["v=DKIM1; k=rsa; p=MIIB"], "wrong", "cut off"),
    (["v=DKIM1; k=rsa; p=XIIBIjAN"], "wrong", "another key"),
    (["v=spf1 -all"], "wrong", "no p="),
    (["v=DKIM1; p=MIIBIjAN", "v=DKIM1; p=MIIBIjAN"], "wrong", "2 TXT records"),
    ([], "missing", "publish"),
    (Unanswered("SERVFAIL"), "unknown", "SERVFAIL"),
])  # fmt: skip
def test_the_record_of_a_key(there, state, words):
    found = findings.of_key("example.com", Key(), there)
    assert (found.about, found.name, found.state) == ("dkim", "s._domainkey.example.com", state)
    assert words in found.words


def test_an_ed25519_key_needs_its_type_in_the_record():
    key = Key(algorithm=ED25519)
    assert findings.of_key("example.com", key, ["v=DKIM1; p=MIIBIjAN"]).state == "wrong"
    assert findings.of_key("example.com", key, ["v=DKIM1; k=ed25519; p=MIIBIjAN"]).state == "ok"


@pytest.mark.parametrize(("there", "mechanisms", "state", "words"), [
    (["v=spf1 include:x.test ~all", "other"], [], "ok", "one SPF record"),
    (["V=SPF1 INCLUDE:X.test -ALL"], ["include:x.test"], "ok", "names the servers"),
    (["v=spf1 +include:x.test ?all"], ["include:x.test"], "ok", ""),
    (["v=spf1 redirect=x.test"], [], "ok", ""),
    (["v=spf1 mx ~all"], ["include:x.test"], "unknown", "include:x.test"),
    (["v=spf1 mx +all"], [], "wrong", "every server"),
    (["v=spf1 mx all"], [], "wrong", "every server"),
    (["v=spf1 mx"], [], "wrong", "does not end"),
    (["v=spf1", "v=spf1 mx ~all"], [], "wrong", "2 SPF records"),
    (["v=spf10 mx ~all", "xv=spf1 ~all"], ["a:mail.test"], "missing", "v=spf1 a:mail.test ~all"),
    ([], [], "missing", "your provider"),
    (Unanswered("timed out"), [], "unknown", "timed out"),
])  # fmt: skip
def test_the_spf_record(there, mechanisms, state, words):
    found = findings.of_spf("example.com", there, mechanisms)
    assert (found.about, found.state) == ("spf", state)
    assert words in found.words


OWN, PARENT = "_dmarc.a.example.com", "_dmarc.example.com"


@pytest.mark.parametrize(("there", "name", "state", "words"), [
    ({OWN: ["v=DMARC1; p=none"]}, OWN, "ok", "only to report"),
    ({OWN: ["v=DMARC1;p=reject;rua=mailto:x@x.test"]}, OWN, "ok", "p=reject"),
    ({OWN: [], PARENT: ["v=DMARC1; p=reject; sp=quarantine"]}, PARENT, "ok", "p=quarantine"),
    ({OWN: ["hello"], PARENT: ["v=DMARC1; p=reject"]}, PARENT, "ok", "p=reject"),
    ({OWN: ["v=DMARC1; p=none; adkim=s"]}, OWN, "ok", "adkim=s"),
    ({OWN: ["v=DMARC1; p=none; aspf=s"]}, OWN, "ok", "b.example.net"),
    ({OWN: ["v=DMARC1; rua=mailto:x@x.test"]}, OWN, "wrong", "needs a policy"),
    ({OWN: ["v=DMARC1; p=no"]}, OWN, "wrong", "needs a policy"),
    ({OWN: ["v=DMARC1; p=none"] * 2}, OWN, "wrong", "2 DMARC records"),
    ({OWN: [], PARENT: []}, OWN, "missing", "Publish"),
    ({OWN: Unanswered("x"), PARENT: ["v=DMARC1; p=none"]}, OWN, "unknown", "ask again later: x"),
])  # fmt: skip
def test_the_dmarc_record(there, name, state, words):
    found = findings.of_dmarc("a.example.com", there, ["b.example.net", "a.example.com"])
    assert (found.about, found.name, found.state) == ("dmarc", name, state)
    assert words in found.words


@pytest.mark.parametrize(("there", "mx", "returned", "words"), [
    (MailHosts(["mx.test"]), "ok", "ok", "only DKIM counts"),
    (MailHosts((), "no such domain"), "missing", "wrong", "no such domain"),
    (Unanswered("x"), "unknown", "unknown", "x"),
])  # fmt: skip
def test_who_takes_mail_and_bounces(there, mx, returned, words):
    assert findings.of_mx("example.com", there).state == mx
    found = findings.of_return_path("example.com", "bounces.test", there)
    assert (found.about, found.state) == ("return_path", returned)
    assert words in found.words


@pytest.mark.parametrize(("one", "other", "wanted"), [
    ("example.com", "example.com", True), ("a.example.com", "example.com", True),
    ("example.com", "a.example.com", True), ("example.com", "badexample.com", False),
    ("example.com", "example.net", False),
])  # fmt: skip
def test_relaxed_alignment(one, other, wanted):
    assert findings.aligned(one, other) is wanted


def test_a_finding_shows_a_bounded_part_of_what_a_stranger_has_in_its_dns():
    shown = findings.of_key("example.com", Key(), ["x" * 60_000] * 50).as_json()["found"]
    assert sum(map(len, shown)) == 3000


def test_tags_are_read_as_rfc_6376_says():
    assert tags_of(" a = b c ;; d ; =x; e=f=g;") == {"a": "bc", "": "x", "e": "f=g"}


def test_records_to_publish_fit_into_strings_and_zone_files():
    key = Key(public_key="A" * 392)
    found: Sequence[Record] = records("example.com", [key], ["include:x.test", "a:y.test"])
    assert [(one.purpose, one.name) for one in found] == [
        ("dkim", "s._domainkey.example.com"), ("spf", "example.com"), ("dmarc", "_dmarc.example.com"),
    ]  # fmt: skip
    assert [len(one) for one in found[0].strings] == [255, 392 + len("v=DKIM1; k=rsa; p=") - 255]
    assert found[1].value == "v=spf1 include:x.test a:y.test ~all"
    assert Record("spf", "x.test", 'a"b\\').zone == 'x.test. IN TXT "a\\"b\\\\"'
    assert [one.purpose for one in records("example.com", [], [])] == ["dmarc"]
