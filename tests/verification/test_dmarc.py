"""Whether the domain in From is proven, and what its owner wants if not."""

import pytest

from mailbbgun.verification.dmarc import DMARCRecord, check, from_domains, organizational, parsed
from mailbbgun.verification.verdict import DKIMResult, DMARCResult, SPFResult
from tests.verification.senders import asking, txt

ZONE = {
    "_dmarc.example.com": txt("v=DMARC1; p=reject; sp=quarantine"),
    "_dmarc.strict.test": txt("v=DMARC1; p=reject; adkim=s; aspf=s"),
    "_dmarc.none.test": txt("v=DMARC1; p=none"),
    "_dmarc.own.strict.test": txt("v=DMARC1; p=quarantine"),
    "_dmarc.two.test": txt("v=DMARC1; p=reject", "v=DMARC1; p=none"),
    "_dmarc.one.test": txt("v=DMARC1; p=reject", "v=spf1 -all"),
    "_dmarc.broken.test": "SERVFAIL",
    "_dmarc.co.uk": txt("v=DMARC1; p=reject"),
}


def spf(domain: str, result: str = "pass") -> SPFResult:
    return SPFResult(result, domain, "mailfrom")


def dkim(domain: str, result: str = "pass") -> DKIMResult:
    return DKIMResult(result, domain)


NO_SPF = spf("", "none")


def judged(author: str, of_spf: SPFResult = NO_SPF, *signatures: DKIMResult) -> DMARCResult:
    with asking(ZONE) as queries:
        return check(f"From: {author}\r\nSubject: x\r\n".encode(), of_spf, signatures, queries)


@pytest.mark.parametrize(
    ("domain", "of_spf", "signatures", "result"),
    [
        ("example.com", spf("example.com"), (), "pass"),
        ("example.com", spf("bounces.example.com"), (), "pass"),
        ("news.example.com", spf("example.com"), (), "pass"),
        ("EXAMPLE.com", spf("example.com"), (), "pass"),
        ("example.com", spf("example.com", "softfail"), (), "fail"),
        ("example.com", spf("evil.test"), (), "fail"),
        ("example.com", spf("example.com.evil.test"), (), "fail"),
        ("example.com", spf("notexample.com"), (), "fail"),
        ("example.com", NO_SPF, (dkim("example.com"),), "pass"),
        ("example.com", NO_SPF, (dkim("evil.test"), dkim("mail.example.com")), "pass"),
        ("example.com", NO_SPF, (dkim("example.com", "fail"), dkim("evil.test")), "fail"),
        ("example.com", NO_SPF, (dkim("example.com", "policy"),), "fail"),
        ("example.com", spf("example.com", "temperror"), (dkim("evil.test"),), "temperror"),
        ("example.com", spf("evil.test", "temperror"), (), "fail"),
        ("example.com", NO_SPF, (dkim("example.com", "temperror"),), "temperror"),
        ("example.com", spf("example.com", "temperror"), (dkim("example.com"),), "pass"),
        ("strict.test", spf("strict.test"), (), "pass"),
        ("strict.test", spf("mail.strict.test"), (dkim("mail.strict.test"),), "fail"),
        ("strict.test", NO_SPF, (dkim("strict.test"),), "pass"),
        ("missing.test", spf("missing.test"), (), "none"),
        ("two.test", NO_SPF, (), "none"),
        ("one.test", NO_SPF, (), "fail"),
        ("broken.test", spf("broken.test"), (), "temperror"),
    ],
)
def test_a_domain_passes_if_spf_or_a_signature_is_aligned(
    domain: str, of_spf: SPFResult, signatures: tuple[DKIMResult, ...], result: str
) -> None:
    found = judged(f"Ann <ann@{domain}>", of_spf, *signatures)
    assert (found.result, found.domain) == (result, domain.lower())


@pytest.mark.parametrize(
    ("domain", "wish"),
    [
        ("example.com", "reject"),
        ("news.example.com", "quarantine"),
        ("a.b.c.example.com", "quarantine"),
        ("own.strict.test", "quarantine"),
        ("other.strict.test", "reject"),
        ("none.test", "none"),
    ],
)
def test_subdomains_have_the_wish_of_the_organization_unless_they_publish_one(domain: str, wish: str) -> None:
    found = judged(f"ann@{domain}")
    assert (found.result, found.wish) == ("fail", wish)


@pytest.mark.parametrize(
    ("text", "record"),
    [
        ("v=DMARC1; p=none", DMARCRecord("none", "none", False, False)),
        ("v=DMARC1;p=reject;", DMARCRecord("reject", "reject", False, False)),
        (" v = DMARC1 ; P = Reject ; ADKIM=s", DMARCRecord("reject", "reject", True, False)),
        ("v=DMARC1; p=quarantine; sp=none; aspf=s", DMARCRecord("quarantine", "none", False, True)),
        ("v=DMARC1; p=reject; pct=100", DMARCRecord("reject", "reject", False, False)),
        ("v=DMARC1; p=reject; pct=99", DMARCRecord("quarantine", "quarantine", False, False)),
        ("v=DMARC1; p=quarantine; pct=0", DMARCRecord("none", "none", False, False)),
        ("v=DMARC1; p=reject; sp=quarantine; t=y", DMARCRecord("quarantine", "none", False, False)),
        ("v=DMARC1; p=reject; pct=many", DMARCRecord("reject", "reject", False, False)),
        ("v=DMARC1; p=odd; rua=mailto:a@b.test", DMARCRecord("none", "none", False, False)),
        ("v=DMARC1; rua=mailto:a@b.test", DMARCRecord("none", "none", False, False)),
        ("v=DMARC1; p=odd", None),
        ("v=DMARC1", None),
        ("v=dmarc1; p=reject", None),
        ("v=DMARC10; p=reject", None),
        ("p=reject; v=DMARC1", None),
        ("v=spf1 -all", None),
        ("", None),
        (";" * 4000, None),
        ("v=DMARC1" + "; p=reject" * 400, DMARCRecord("reject", "reject", False, False)),
    ],
)
def test_records_are_read_as_the_standard_says(text: str, record: DMARCRecord | None) -> None:
    assert parsed(text.encode()) == record


@pytest.mark.parametrize(
    ("header", "domains"),
    [
        (b"From: ann@example.com\r\n", ["example.com"]),
        (b"FROM: Ann <ann@example.com>\r\n", ["example.com"]),
        (b"From : Ann\r\n <ann@Example.COM>\r\n", ["example.com"]),
        (b'From: "bob@good.test" <eve@evil.test>\r\n', ["evil.test"]),
        (b"From: eve@evil.test (bob@good.test)\r\n", ["evil.test"]),
        (b"From: a@one.test, b@two.test\r\n", ["one.test", "two.test"]),
        (b"From: a@one.test\r\nFrom: b@two.test\r\n", ["one.test", "two.test"]),
        (b"From: A: a@one.test, b@one.test;\r\n", ["one.test"]),
        ("From: ann@grüße.test\r\n".encode(), ["xn--gre-6ka8l.test"]),
        (b"From: =?utf-8?q?x=40y.test?= <ann@example.com>\r\n", ["example.com"]),
        (b"From: ann@my-shop.example.com.\r\n", ["my-shop.example.com"]),
        (b"From: good@good.test <eve@evil.test>\r\n", ["good.test", "evil.test"]),
        (b"From: \r\n", None),
        (b"From: undisclosed\r\n", None),
        (b"From: ann@[192.0.2.1]\r\n", None),
        (b"Subject: x\r\n", None),
        (b"", None),
        (b"From: " + b", ".join(b"a@d%d.test" % one for one in range(5)) + b"\r\n", None),
        (b"From: " + b"a" * 10_000 + b"@example.com\r\n", None),
        (b"From: " + b"(a" * 2000 + b" ann@example.com\r\n", None),
        (b"From: \xff\xfe@\xff\r\n", None),
    ],
)
def test_every_domain_that_a_reader_may_be_shown_counts(header: bytes, domains: list[str] | None) -> None:
    assert from_domains(header) == domains


def test_of_several_domains_in_from_the_worst_counts() -> None:
    found = judged("a@none.test, b@example.com", spf("none.test"))
    assert (found.result, found.domain, found.wish) == ("fail", "example.com", "reject")
    assert judged("undisclosed").result == "permerror"


@pytest.mark.parametrize(
    ("domain", "organization"),
    [
        ("example.com", "example.com"),
        ("a.b.example.com", "example.com"),
        ("a.b.example.co.uk", "example.co.uk"),
        ("co.uk", "co.uk"),
        ("com", "com"),
        ("someone.github.io", "someone.github.io"),
        ("a.someone.github.io", "someone.github.io"),
        ("a.b.unknown-end", "b.unknown-end"),
        ("localhost", "localhost"),
        ("a.xn--55qx5d.cn", "a.xn--55qx5d.cn"),
        ("b.a.xn--55qx5d.cn", "a.xn--55qx5d.cn"),
    ],
)
def test_the_organizational_domain_is_one_label_below_the_public_suffix(domain: str, organization: str) -> None:
    assert organizational(domain) == organization
