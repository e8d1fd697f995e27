"""Signatures are verified as their standard says, whoever made them, and hostile ones cost little."""

import re
from hashlib import sha256

import pytest
from dkim.canonicalization import Relaxed, Simple
from hypothesis import given
from hypothesis import strategies as st

from mailbbgun.verification.message import MOST_FIELDS, SignedMessage
from mailbbgun.verification.signatures import LONGEST_FIELD, MOST_SIGNATURES, check
from mailbbgun.verification.verdict import DKIMResult
from tests.verification.senders import (
    DOMAIN,
    ED25519,
    MESSAGE,
    RSA,
    ZONE,
    asking,
    signed,
    signed_by_dkimpy,
    txt,
)


def results(message: bytes, zone: dict | None = None, **limits: object) -> list[DKIMResult]:
    with asking(zone, **limits) as queries:
        return list(check(SignedMessage(message), queries))


def words(message: bytes, zone: dict | None = None) -> list[str]:
    return [one.result for one in results(message, zone)]


def test_signatures_of_our_own_domains_are_valid() -> None:
    found = results(signed())
    assert [(one.result, one.domain, one.selector, one.algorithm) for one in found] == [
        ("pass", DOMAIN, RSA.selector, "rsa-sha256"),
        ("pass", DOMAIN, ED25519.selector, "ed25519-sha256"),
    ]
    assert all(len(one.start) == 8 for one in found)


@pytest.mark.parametrize("form", ["relaxed/relaxed", "relaxed/simple", "simple/relaxed", "simple/simple"])
@pytest.mark.parametrize("body", [b"", b"\r\n", b"\r\n\r\n", b"a", b" a \r\n", b"a\r\n \r\n\r\n", b"\t\r\n"])
def test_all_forms_of_all_bodies_are_valid(form: str, body: bytes) -> None:
    message = MESSAGE.partition(b"\r\n\r\n")[0] + b"\r\n\r\n" + body
    assert words(signed_by_dkimpy(message, form)) == ["pass"]
    assert words(signed_by_dkimpy(message, form) + b"x") == ["fail"]


RFC_8463 = b"""\
DKIM-Signature: v=1; a=ed25519-sha256; c=relaxed/relaxed;
 d=football.example.com; i=@football.example.com;
 q=dns/txt; s=brisbane; t=1528637909; h=from : to :
 subject : date : message-id : from : subject : date;
 bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;
 b=/gCrinpcQOoIfuHNQIbq4pgh9kyIK3AQUdt9OdqQehSwhEIug4D11Bus
 Fa3bT3FY5OsU7ZbnKELq+eXdp1Q1Dw==
DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed;
 d=football.example.com; i=@football.example.com;
 q=dns/txt; s=test; t=1528637909; h=from : to : subject :
 date : message-id : from : subject : date;
 bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;
 b=F45dVWDfMbQDGHJFlXUNB2HKfbCeLRyhDXgFpEL8GwpsRe0IeIixNTe3
 DhCVlUrSjV4BwcVcOF6+FF3Zo9Rpo1tFOeS9mPYQTnGdaSGsgeefOsk2Jz
 dA+L10TeYt9BgDfQNZtKdN1WO//KgIqXP7OdEFE4LjFYNcUxZQ4FADY+8=
From: Joe SixPack <joe@football.example.com>
To: Suzie Q <suzie@shopping.example.net>
Subject: Is dinner ready?
Date: Fri, 11 Jul 2003 21:00:37 -0700 (PDT)
Message-ID: <20030712040037.46341.5F8J@football.example.com>

Hi.

We lost the game.  Are you hungry yet?

Joe.
""".replace(b"\n", b"\r\n")
RFC_8463_ZONE = {
    "brisbane._domainkey.football.example.com": txt(
        "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="
    ),
    "test._domainkey.football.example.com": txt(
        "v=DKIM1; k=rsa; p=MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDkHlOQoBTzWRiGs5V6NpP3idY6Wk08a5qhdR6wy5bdOKb2jLQi"
        "Y/J16JYi0Qvx/byYzCNb3W91y3FutACDfzwQ/BC/e/8uBsCR+yz1Lxj+PL6lHvqMKrM3rG4hstT5QjvHO9PzoxZyVYLzBfO2EeC3Ip3G+2kr"
        "yOTIKT+l/K4w3QIDAQAB"
    ),
}


def test_the_example_of_rfc_8463_is_valid() -> None:
    assert words(RFC_8463, RFC_8463_ZONE) == ["pass", "pass"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"well.", b"ill.."),
        (b"Subject:  An", b"Subject: No"),
        (b"From: Ann <ann@example.com>\r\n", b"From: Ann <ann@example.com>\r\nFrom: Eve <eve@evil.test>\r\n"),
        (b"To: bob@here.test\r\n", b""),
        (b"\r\n\r\nHello", b"\r\nReply-To: eve@evil.test\r\n\r\nHello"),
    ],
)
def test_a_changed_message_fails(old: bytes, new: bytes) -> None:
    assert words(signed().replace(old, new, 1)) == ["fail", "fail"]


def test_a_field_that_is_added_on_the_way_does_no_harm() -> None:
    assert words(b"Received: from x\r\n" + signed()) == ["pass", "pass"]


def test_a_signature_of_a_part_of_the_body_does_not_count() -> None:
    message = signed_by_dkimpy(length=True)
    assert words(message) == ["pass"]
    assert words(message + b"Send money.\r\n") == ["policy"]


def test_a_message_without_signatures_has_no_result() -> None:
    assert results(MESSAGE) == []
    assert results(b"") == []


@pytest.mark.parametrize(
    ("record", "result"),
    [
        ({}, "permerror"),
        (txt("v=DKIM1; k=rsa; p="), "permerror"),
        (txt("v=DKIM1; k=rsa; p=!!!"), "permerror"),
        (txt("v=DKIM1; k=rsa; p=AAAA"), "permerror"),
        (txt("v=DKIM2; k=rsa; p=AAAA"), "permerror"),
        (txt("nonsense"), "permerror"),
        (txt("x" * 60_000), "permerror"),
        (txt("v=DKIM1; k=rsa; p=" + "A" * 4000), "permerror"),
        ("SERVFAIL", "temperror"),
    ],
)
def test_keys_that_cannot_be_used_are_permanent_errors_and_a_failing_dns_is_a_temporary_one(
    record: object, result: str
) -> None:
    name = f"{RSA.selector}._domainkey.{DOMAIN}"
    assert words(signed_by_dkimpy(), ZONE | {name: record}) == [result]


@pytest.mark.parametrize(
    ("tags", "identity", "result"),
    [
        ("", "ann@mail.example.com", "pass"),
        ("h=sha1:sha256; s=email; t=y; n=a note; ", "ann@mail.example.com", "pass"),
        ("s=*; ", "@example.com", "pass"),
        ("t=y:s; ", "@example.com", "pass"),
        ("t=s; ", "ann@mail.example.com", "permerror"),
        ("h=sha1; ", "@example.com", "permerror"),
        ("s=other; ", "@example.com", "permerror"),
        ("s=tlsrpt; ", "@example.com", "permerror"),
        ("p=; ", "@example.com", "permerror"),
    ],
)
def test_a_key_counts_for_what_its_owner_permits(tags: str, identity: str, result: str) -> None:
    name = f"{RSA.selector}._domainkey.{DOMAIN}"
    record = "".join(ZONE[name]["TXT"]).replace('" "', "").strip('"').replace("v=DKIM1; ", f"v=DKIM1; {tags}", 1)
    assert tags in record
    assert words(signed_by_dkimpy(identity=identity.encode()), ZONE | {name: txt(record)}) == [result]


def test_a_key_of_another_algorithm_or_of_512_bits_proves_nothing() -> None:
    of_ed25519 = ZONE[f"{ED25519.selector}._domainkey.{DOMAIN}"]
    name = f"{RSA.selector}._domainkey.{DOMAIN}"
    assert words(signed_by_dkimpy(), ZONE | {name: of_ed25519}) == ["permerror"]
    short = txt(
        "k=rsa; p=MFwwDQYJKoZIhvcNAQEBBQADSwAwSAJBANmBe10IgY+u7h3enWTukkqtUD5PR52Tb/mPfjC0QJTocVBq6Za/PlzfV+Py92VaCak1"
        "9F4WrbVTK5Gg5tW220MCAwEAAQ=="
    )
    assert words(signed_by_dkimpy(), ZONE | {name: short}) == ["permerror"]


def test_a_signature_by_sha_1_proves_nothing() -> None:
    assert words(signed_by_dkimpy(signature_algorithm=b"rsa-sha1")) == ["permerror"]


FIELD = re.compile(rb"\r\n(?![ \t])").split(signed_by_dkimpy())[0]


@pytest.mark.parametrize(
    "field",
    [
        b"DKIM-Signature:",
        b"DKIM-Signature: ;;;",
        b"DKIM-Signature: v=1",
        b"DKIM-Signature: v=1; v=1",
        FIELD.replace(b"v=1", b"v=2"),
        FIELD.replace(b"c=relaxed/relaxed", b"c=odd/relaxed"),
        FIELD.replace(b"c=relaxed/relaxed", b"c=relaxed/odd"),
        FIELD.replace(b"a=rsa-sha256", b"a=rsa-md5"),
        FIELD.replace(b"d=example.com", b"d=ex\xc3\xa4mple.com"),
        FIELD.replace(b"d=example.com", b"d=" + b"a." * 5000),
        FIELD.replace(b"q=dns/txt", b"q=http"),
        FIELD.replace(b"bh=", b"bh=="),
        FIELD.replace(b" t=", b" l=99999999999999999999999999999999999999999999999999999999999999999999999999999; t="),
        FIELD.replace(b" t=", b" x=1; t="),
        FIELD.replace(b" h=", b" h=" + b"a:" * 5000),
        FIELD + b" " * 5000,
        FIELD + b"\r\n \t" * 3000,
        FIELD + b"a" * LONGEST_FIELD,
        FIELD + b";" * 10_000,
    ],
)
def test_a_field_that_is_no_signature_is_an_error_beside_one_that_is_valid(field: bytes) -> None:
    found = words(field + b"\r\n" + signed())
    assert found[0] in ("permerror", "fail", "policy")
    assert found[1:] == ["pass", "pass"]


def test_only_the_topmost_signatures_are_verified() -> None:
    assert len(results((FIELD + b"\r\n") * 50 + MESSAGE)) == MOST_SIGNATURES


@pytest.mark.parametrize(
    "message",
    [
        FIELD + b"\r\n" + b"X: y\r\n" * (MOST_FIELDS + 1) + MESSAGE,
        FIELD + b"\r\nX: " + b"y" * 600_000 + b"\r\n" + MESSAGE,
        FIELD + b"\r\nno field\r\n" + MESSAGE,
        b" begins with a blank\r\n" + FIELD + b"\r\n" + MESSAGE,
    ],
)
def test_a_header_that_is_too_large_or_none_is_an_error(message: bytes) -> None:
    assert words(message) == ["permerror"]


@pytest.mark.parametrize("line", [b" " * 998, b"\t " * 499, b"a b " * 249, b"", b"x"])
def test_large_bodies_have_dkimpys_digest_without_its_cost(line: bytes) -> None:
    body = (line + b"\r\n") * (3_000_000 // (len(line) + 2))
    message = signed_by_dkimpy(MESSAGE + b"end\r\n", "simple/simple")
    assert words(message) == ["pass"]
    assert words(message + body)[0] == ("pass" if not line else "fail")


PIECES = [b"a", b" ", b"\t", b"\r\n", b"\r\n\r\n", b".", b"\xff"]


@given(st.lists(st.sampled_from(PIECES), max_size=12).map(lambda pieces: b"".join((*pieces, b"\r\n"))))
def test_digests_are_those_of_dkimpys_canonical_forms(body: bytes) -> None:
    for form, of_dkimpy in ((b"relaxed", Relaxed), (b"simple", Simple)):
        canonical = of_dkimpy.canonicalize_body(body)
        found = SignedMessage(b"A: b\r\n\r\n" + body).body(form)
        assert (found.value, found.size) == (sha256(canonical).digest(), len(canonical))
