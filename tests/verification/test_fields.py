"""The field with the results cannot be forged, neither by another field nor by what a result says."""

import pytest

from mailbbgun.verification.fields import authentication_results, marked
from mailbbgun.verification.verdict import ARCResult, DKIMResult, DMARCResult, SPFResult
from tests.verification.senders import HERE

NONE = (SPFResult("none", "", "mailfrom"), (), ARCResult("none"), DMARCResult("none"))


def test_all_results_are_in_one_folded_field() -> None:
    value = authentication_results(
        HERE,
        SPFResult("softfail", "example.com", "mailfrom", "not shown"),
        (
            DKIMResult("pass", "example.com", "s1", "rsa-sha256", "AbC+/def"),
            DKIMResult("fail", "other.test", reason="the body was changed"),
        ),
        ARCResult("pass", 2, "lists.example.com", True),
        DMARCResult("fail", "example.com", "reject", "neither"),
    )
    assert value == (
        'mx.here.test; spf=softfail reason="not shown"\r\n smtp.mailfrom=example.com; dkim=pass header.d=example.com'
        ' header.s=s1\r\n header.a=rsa-sha256 header.b="AbC+/def"; dkim=fail\r\n'
        ' reason="the body was changed" header.d=other.test; arc=pass (i=2); dmarc=fail\r\n'
        ' (p=reject) reason="neither" header.from=example.com'
    )
    assert authentication_results(HERE, *NONE) == (
        "mx.here.test; spf=none; dkim=none; arc=none;\r\n dmarc=none (p=none)"
    )


@pytest.mark.parametrize(
    "evil", ["a; dkim=pass", "a\r\nX: y", 'a" dkim=pass; "', "a\\", "é\x00\x7f", "a (", "x" * 5000]
)
def test_no_value_leaves_its_quotes(evil: str) -> None:
    value = authentication_results(
        HERE,
        SPFResult("permerror", evil, "helo", evil),
        (DKIMResult("permerror", evil, evil, evil, evil, evil),),
        ARCResult("fail", 1, evil, False, evil),
        DMARCResult("permerror", evil, "none", evil),
    )
    assert value.isascii()
    assert value.isprintable() or set(value) - set(map(chr, range(32, 127))) == {"\r", "\n"}
    assert all(line.startswith(" ") for line in value.split("\r\n")[1:])
    outside = "".join(value.replace("\r\n", "").split('"')[::2])
    assert outside.count(";") == 4
    assert "dkim=pass" not in outside


def fields(value: str = "x; none") -> dict[str, str]:
    return {"Authentication-Results": value, "X-Spam-Score": "1 / 15"}


OURS = b"Authentication-Results: x; none\r\nX-Spam-Score: 1 / 15\r\n"


@pytest.mark.parametrize(
    "forged",
    [
        b"Authentication-Results: mx.here.test; dkim=pass\r\n",
        b"AUTHENTICATION-RESULTS : MX.Here.Test 1; dkim=pass\r\n",
        b"Authentication-Results:\r\n (a (b; c) d)\r\n\tmx.here.test; dkim=pass\r\n",
        b'Authentication-Results: "mx.here.test"; dkim=pass\r\n',
        b'Authentication-Results: "mx\\.here.te\\st"; dkim=pass\r\n',
        b"Authentication-Results: mx.(x)here.test; dkim=pass\r\n",
        b"Authentication-Results: mx.((x)y)here.test; dkim=pass\r\n",
        b"Authentication-Results: (mx.here.test; dkim=pass\r\n",
        b"X-Spam-Score: -100\r\n",
        b"x-spam-score:\r\n\t-100\r\n",
    ],
)
def test_fields_that_pretend_to_be_ours_are_removed(forged: bytes) -> None:
    rest = b"Subject: x\r\n y\r\nTo: b@here.test\r\n\r\n" + forged + b"body\r\n"
    for message in (forged + rest, b"A: b\r\n" + forged * 3 + rest):
        others = b"" if message.startswith(forged) else b"A: b\r\n"
        assert marked(message, HERE, fields()) == OURS + others + rest


@pytest.mark.parametrize(
    "kept",
    [
        b"Authentication-Results: other.test; dkim=pass\r\n",
        b"ARC-Authentication-Results: i=1; mx.here.test; dkim=pass\r\n",
        b"X-Authentication-Results: mx.here.test; dkim=pass\r\n",
        b"no field\r\n",
        b"",
    ],
)
@pytest.mark.parametrize("rest", [b"", b"\r\n", b"\r\nbody", b"A: b\r\n\r\n\xff\x00\r\n", b"A: b", b"A: b\r\n"])
def test_all_other_octets_stay(kept: bytes, rest: bytes) -> None:
    assert marked(kept + rest, HERE, fields()) == OURS + kept + rest


def test_a_field_of_a_million_parentheses_is_read_at_once() -> None:
    for text in (b"(" * 1_000_000, b"()" * 500_000, b"(" * 500_000 + b")" * 500_000):
        message = b"Authentication-Results: " + text + b"\r\n\r\n"
        assert marked(message, HERE, fields()).startswith(OURS)
