"""A received message is verified as a whole, whatever it and the DNS are."""

import random
import subprocess
import sys
from collections.abc import Iterator

import pytest

from mailbbgun.relays.mx import Resolver
from mailbbgun.verification.fields import marked
from mailbbgun.verification.policy import ReceivedMailPolicy, Treatment
from mailbbgun.verification.scan import ContentVerdict
from mailbbgun.verification.verdict import SenderVerdict
from mailbbgun.verification.verify import QUERIES, SPF_QUERIES, verify
from tests.smtp.name_server import NameServer
from tests.verification.senders import HERE, MESSAGE, ZONE, sealed, signed, txt
from tests.waiting import PATIENCE, bounded

CLIENT = ("ann@example.com", "mail.example.com", "192.0.2.1")


@pytest.fixture(scope="module")
def server() -> Iterator[NameServer]:
    with NameServer(ZONE) as running:
        yield running


def verdict(server: NameServer, raw: bytes, mail_from: str = CLIENT[0], client: str = CLIENT[2], **options: float):
    resolver = Resolver(["127.0.0.1"], server.port)
    return verify(raw, mail_from, CLIENT[1], client, resolver, HERE, **options)


def words(found: SenderVerdict) -> tuple[str, list[str], str, str]:
    return found.spf.result, [one.result for one in found.dkim], found.arc.result, found.dmarc.result


def test_a_genuine_message_passes(server: NameServer) -> None:
    found = verdict(server, signed())
    assert words(found) == ("pass", ["pass", "pass"], "none", "pass")
    field = found.authentication_results
    assert field.startswith("mx.here.test; spf=pass smtp.mailfrom=example.com;")
    assert "dmarc=pass (p=reject)" in field.replace("\r\n", "")
    again = marked(signed(), HERE, {"Authentication-Results": field})
    assert words(verdict(server, again)) == words(found)
    assert again.endswith(signed())


def test_a_forwarded_message_passes_by_its_signature(server: NameServer) -> None:
    found = verdict(server, sealed(signed(), "arc=none; dmarc=pass"), "list@other.test", "198.51.100.9")
    assert words(found) == ("none", ["pass", "pass"], "pass", "pass")


def test_a_forged_message_fails(server: NameServer) -> None:
    found = verdict(server, MESSAGE, "eve@evil.test", "198.51.100.9")
    assert words(found) == ("none", [], "none", "fail")
    assert found.dmarc.wish == "reject"
    assert words(verdict(server, MESSAGE, "ann@example.com", "198.51.100.9"))[0] == "fail"


@pytest.mark.parametrize(
    "more", [b", " + b", ".join(b"a@d%d.test" % one for one in range(5)), b", " + b"a:" * 3000, b", " + b"(" * 3000]
)
def test_nobody_escapes_dmarc_by_a_from_that_cannot_be_judged(server: NameServer, more: bytes) -> None:
    forged = MESSAGE.replace(b"ann@example.com", b"ann@example.com" + more, 1)
    found = verdict(server, forged, "eve@evil.test", "198.51.100.9")
    assert found.dmarc.result == "permerror"
    assert ReceivedMailPolicy().decide(found, ContentVerdict(), "reject").treatment is Treatment.QUARANTINE


def test_a_dns_that_is_silent_costs_only_the_time_limit() -> None:
    with NameServer(dict.fromkeys(ZONE, "silent")) as silent, bounded("verifying"):
        found = verdict(silent, signed(), seconds=0.3)
    assert words(found) == ("temperror", ["temperror", "temperror"], "none", "temperror")


def test_the_dns_is_asked_a_bounded_number_of_times() -> None:
    hosts = [f"{one} m{one}.test." for one in range(10)]
    zone = {f"d{one}.test": {"MX": hosts, "A": ["192.0.2.9"]} for one in range(10)}
    zone |= {f"m{one}.test": {"A": ["192.0.2.9"]} for one in range(10)}
    zone["example.com"] = txt("v=spf1 " + " ".join(f"mx:d{one}.test" for one in range(10)) + " -all")
    with NameServer(zone, ttl=0) as many:
        found = verdict(many, signed())
        assert found.spf.result == "fail"
        assert len(many.asked) <= SPF_QUERIES + QUERIES


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\r\n",
        b"\r\n\r\n",
        b"\x00" * 1000,
        b"From:" * 1000,
        b"From: " + b"<" * 4000 + b"\r\n\r\n",
        b"From: " + b"(" * 4000 + b"\r\n\r\n",
        b'From: "' + b"\\" * 4000 + b"\r\n\r\n",
        b"From: a@" + b"b." * 2000 + b"\r\n\r\n",
        b"DKIM-Signature: v=1; d=\xff; s=\xff; h=\xff; b=\xff; bh=\xff; a=rsa-sha256\r\n\r\n",
        b"DKIM-Signature\r\nARC-Seal\r\n\r\n",
        b"A: b\n\nbare",
        b"\r\n".join([b"From: a@example.com"] * 5000),
    ],
)
def test_any_octets_have_a_verdict(server: NameServer, raw: bytes) -> None:
    found = verdict(server, raw)
    assert found.authentication_results.startswith(f"{HERE}; ")
    marked(raw, HERE, {"Authentication-Results": found.authentication_results})


def test_random_changes_have_a_verdict(server: NameServer) -> None:
    dice = random.Random(14)
    message = sealed(signed(), "arc=none; dmarc=pass")
    for _ in range(150):
        octets = bytearray(message)
        for _ in range(dice.randrange(1, 8)):
            place = dice.randrange(len(octets))
            octets[place : place + dice.randrange(3)] = bytes(dice.choices(range(256), k=dice.randrange(3)))
        assert verdict(server, bytes(octets)).authentication_results.startswith(f"{HERE}; ")


@pytest.mark.parametrize("mail_from", ["", "@", "a@", "@b", "a@b@c", "\x00@\x00", "a@" + "b." * 300, "ä@ö.test"])
@pytest.mark.parametrize("client", ["192.0.2.1", "2001:db8::1", "nonsense", ""])
def test_any_envelope_has_a_verdict(server: NameServer, mail_from: str, client: str) -> None:
    assert verdict(server, MESSAGE, mail_from, client).spf.result in ("none", "neutral", "fail", "permerror")


def test_a_bug_of_a_library_is_logged_and_is_an_error_of_its_method(
    server: NameServer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RecursionError("as if a library had a bug")

    for name in ("spf.query.check", "dkim.DKIM.verify", "dkim.ARC.verify", "tldextract.TLDExtract.__call__"):
        monkeypatch.setattr(name, broken)
    assert words(verdict(server, sealed(signed(), "arc=none"))) == ("permerror", ["permerror"], "fail", "permerror")
    assert [record.message for record in caplog.records] == ["verification_failed"] * 4


def test_the_api_does_not_load_the_libraries() -> None:
    program = "import sys, mailbbgun.app; print(sorted({'spf', 'dkim', 'tldextract'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=PATIENCE, check=True)
    assert done.stdout.strip() == "[]"
