"""The seals of forwarders are verified, all of them or none."""

import pytest

from mailbbgun.verification.chain import MOST_SETS, check
from mailbbgun.verification.message import SignedMessage
from mailbbgun.verification.verdict import ARCResult
from tests.verification.senders import MESSAGE, RSA, ZONE, asking, sealed, signed

ONCE = sealed(signed(), "arc=none; dmarc=pass header.from=example.com")
TWICE = sealed(ONCE, "arc=pass; dmarc=fail header.from=example.com")
THRICE = sealed(TWICE, "arc=pass; spf=pass (dmarc=fail) smtp.mailfrom=x.test; dmarc=pass (ok) header.from=example.com")


def result(message: bytes, zone: dict | None = None, **limits: object) -> ARCResult:
    with asking(zone, **limits) as queries:
        return check(SignedMessage(message), queries)


@pytest.mark.parametrize(("message", "sets", "passed"), [(ONCE, 1, True), (TWICE, 2, False), (THRICE, 3, True)])
def test_a_chain_of_valid_seals_passes_and_the_last_forwarder_says_what_it_found(
    message: bytes, sets: int, passed: bool
) -> None:
    assert result(message) == ARCResult("pass", sets, "example.com", passed)


def test_a_message_without_seals_has_none() -> None:
    for message in (MESSAGE, signed(), b"", b"ARC-Other: x\r\n" + MESSAGE):
        assert result(message) == ARCResult("none")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"all is well", b"all is ill!"),
        (b"dmarc=pass header.from", b"dmarc=fail header.from"),
        (b"ARC-Seal: i=1", b"ARC-Seal: i=3"),
        (b"ARC-Seal: i=1", b"ARC-Seal: i=" + b"9" * 5000),
        (b"ARC-Seal: i=2", b"X-Seal: i=2"),
        (b"cv=pass", b"cv=none"),
    ],
)
def test_a_chain_that_was_changed_fails(old: bytes, new: bytes) -> None:
    assert old in TWICE
    found = result(TWICE.replace(old, new))
    assert (found.result, found.passed_before, found.sealer) == ("fail", False, "")
    assert found.reason


def test_a_chain_fails_if_a_key_is_missing_or_the_dns_does_not_answer() -> None:
    name = f"{RSA.selector}._domainkey.example.com"
    assert result(ONCE, {}).result == "fail"
    assert result(ONCE, ZONE | {name: "SERVFAIL"}).result == "fail"
    assert result(ONCE, seconds=0.0).result == "fail"


@pytest.mark.parametrize(
    "fields",
    [
        b"ARC-Seal: i=1; cv=none\r\n" * (3 * MOST_SETS + 1),
        b"ARC-Seal: i=1\r\n",
        b"ARC-Seal:\r\nARC-Message-Signature:\r\nARC-Authentication-Results:\r\n",
        b"ARC-Message-Signature: i=1\r\n",
        b"ARC-Seal: i=1;" + b" " * 5000 + b"\r\n",
        b"ARC-Seal: i=1; b=" + b"a" * 20_000 + b"\r\n",
        b" \r\nARC-Seal: i=1\r\n",
        b"ARC-Seal: i=0\r\n",
        b"ARC-Seal: i=-1\r\n",
    ],
)
def test_fields_that_are_no_chain_fail(fields: bytes) -> None:
    assert result(fields + MESSAGE).result in ("fail", "none")
