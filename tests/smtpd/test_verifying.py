"""The MX port verifies who sent a mail, and does what the policy of the recipient's domain says."""

import asyncio
import smtplib

import pytest

from mailbbgun.core.ids import new_id
from mailbbgun.settings.load import load
from mailbbgun.smtpd.taking import verifying
from tests.flow.service import Service, until
from tests.servers.process import free_port
from tests.smtp.name_server import NameServer
from tests.smtpd.conftest import running, services_at
from tests.smtpd.mx import add_domains, send
from tests.verification.senders import DOMAIN, MESSAGE, RSA, ZONE, signed
from tests.waiting import PATIENCE

HOST = "mail.example.com"
#: A field that pretends to be ours.
FORGED = b"X-MBG-Quarantine: forged\r\nAuthentication-Results: mail.example.com; dmarc=pass\r\n"
OTHERS = b"Authentication-Results: mx.other.test; dmarc=fail\r\n"
#: Names that the DNS does not tell now: a key of a sender whose owner asks for reject, and all of another.
AWAY = {
    "away.test": {"TXT": ['"v=spf1 -all"']},
    "_dmarc.away.test": {"TXT": ['"v=DMARC1; p=reject"']},
    f"{RSA.selector}._domainkey.away.test": "SERVFAIL",
    "gone.test": "SERVFAIL",
    "_dmarc.gone.test": "SERVFAIL",
}


@pytest.fixture(scope="module")
def dns():
    with NameServer({**ZONE, **AWAY}) as server:
        yield server


@pytest.fixture(scope="module")
def door(dns, tmp_path_factory):
    given = {"DNS_SERVERS": f"127.0.0.1:{dns.port}", "RETURN_PATH_DOMAIN": "reject.test"}
    with services_at(tmp_path_factory.mktemp("door"), **given) as services:
        add_domains(services)
        with running(services, mx_port=0) as one:
            yield one


def unfolded(raw: bytes) -> str:
    return raw.replace(b"\r\n ", b" ").replace(b"\r\n\t", b" ").decode()


def mail_of(sender: str) -> bytes:
    return MESSAGE.replace(b"ann@example.com", f"ann@{sender}".encode()).replace(b"<1@", f"<{new_id()}@".encode())


def test_what_was_found_is_written_into_the_mail_and_what_pretends_to_be_that_is_removed(door):
    mail = signed(mail_of(DOMAIN))
    reply, (raw,) = send(door, FORGED + OTHERS + mail, "ann@reject.test")
    assert reply.startswith("250 ")
    added = raw.removesuffix(OTHERS + mail)
    received, results = unfolded(added).split("\r\n")[:2]
    assert received.startswith("Received: from mx.far.test ")
    assert results.startswith(f"Authentication-Results: {HOST}; spf=fail smtp.mailfrom=example.com; dkim=pass ")
    assert "; dmarc=pass (p=reject) header.from=example.com" in results
    assert added.count(b"Authentication-Results:") == 1
    assert b"forged" not in raw


def test_a_forged_sender_is_refused_or_quarantined_or_marked_as_the_domain_says(door):
    forged = mail_of(DOMAIN)
    assert send(door, forged, "ann@reject.test") == ("550 5.7.26 example.com does not permit this message (DMARC).", [])
    reply, (raw,) = send(door, forged, "ann@quarantine.test")
    assert reply.startswith("250 ")
    assert raw.startswith(b"X-MBG-Quarantine: DMARC of example.com fails, and its owner asks for reject.\r\nReceived: ")
    reply, (raw,) = send(door, forged, "ann@none.test")
    assert reply.startswith("250 ")
    assert raw.startswith(b"Received: ")
    assert b"dmarc=fail" in raw


def test_mail_to_several_domains_gets_one_reply_and_each_domain_does_what_it_can(door):
    forged = mail_of(DOMAIN)
    for _ in range(2):  # the client sends it again: it is known
        reply, stored = send(door, forged, "ann@none.test", "ann@reject.test")
        assert reply.startswith("250 ")
    assert stored == []
    stored = {next(iter(door.recipients(one))): bytes(one.raw) for one in door.stored()[-2:]}
    assert stored["ann@reject.test"].startswith(b"X-MBG-Quarantine: ")
    assert stored["ann@none.test"].startswith(b"Received: ")


def test_a_report_is_taken_whatever_the_policy_is(door):
    forged = mail_of(DOMAIN)
    reply, (raw,) = send(door, forged, "bounces@reject.test", sender="")
    assert reply.startswith("250 ")
    assert b"dmarc=fail" in raw


@pytest.mark.parametrize(
    ("sender", "to", "reply", "word"),
    [
        ("gone.test", "none", "250 ", b"dmarc=temperror"),
        ("gone.test", "reject", "250 ", b"dmarc=temperror"),  # nobody knows what its owner asks for
        ("away.test", "none", "250 ", b"dmarc=temperror"),
        ("away.test", "quarantine", "250 ", b"dmarc=temperror"),
        ("away.test", "reject", "451 4.7.24 The sender away.test cannot be verified now.", None),
    ],
)
def test_mail_of_a_sender_that_the_dns_does_not_tell_now_is_never_lost(door, sender, to, reply, word):
    unproved = mail_of(sender)
    signature = signed(unproved).removesuffix(unproved).replace(b"example.com", sender.encode())
    answer, stored = send(door, signature + unproved, f"ann@{to}.test", sender=f"ann@{sender}")
    assert answer.startswith(reply)
    assert [word in raw for raw in stored] == ([True] if word else [])


def test_mail_that_waits_too_long_to_be_verified_is_to_come_again(door, monkeypatch):
    turns = door.door._verifier._turns

    async def take():
        for _ in range(verifying.THREADS):
            await asyncio.wait_for(turns.acquire(), PATIENCE)

    door.run(take())
    try:
        with monkeypatch.context() as patched:
            patched.setattr(verifying, "TURN_SECONDS", 0.01)
            assert send(door, mail_of(DOMAIN), "ann@none.test") == (verifying.BUSY, [])
    finally:
        door.call(lambda: [turns.release() for _ in range(verifying.THREADS)])
    assert send(door, mail_of(DOMAIN), "ann@none.test")[0].startswith("250 ")


@pytest.mark.parametrize(
    ("down", "reply"), [("hold", "451 4.7.1 The virus scanner does not answer"), ("allow", "250 ")]
)
def test_without_the_scanner_mail_comes_again_or_is_taken_as_the_settings_say(tmp_path, down, reply):
    with services_at(tmp_path, CLAMAV_URL=f"tcp://127.0.0.1:{free_port()}", SCANNER_DOWN=down) as services:
        add_domains(services)
        with running(services, mx_port=0) as door:
            assert send(door, mail_of("far.test"), "ann@none.test")[0].startswith(reply)


@pytest.fixture(scope="module")
def service(dns, tmp_path_factory):
    """API, worker and the MX port."""
    port, folder = free_port(), tmp_path_factory.mktemp("mx")
    environment = {"MAILBBGUN_VAR": str(folder), "MAILBBGUN_HOSTNAME": HOST}
    given = {"DNS_SERVERS": f"127.0.0.1:{dns.port}", "MX_LISTEN_PORT": port, "MAILDIR_ROOT": folder / "maildirs"}
    with Service(load(environment), SWEEP_SECONDS=1, **given) as service:
        service.start_worker()
        service.start_smtpd()
        yield service, port


def test_mail_is_in_the_folder_that_its_verification_says(service):
    one, port = service

    def ask(method, path, **body):
        answer = one.http.request(method, f"{one.url}{path}", json=body or None, timeout=PATIENCE)
        assert answer.status_code < 300, answer.text
        return answer

    def send(mail):
        with smtplib.SMTP("127.0.0.1", port, timeout=PATIENCE) as client:
            client.sendmail("ann@example.com", ["ann@in.test"], mail)

    # The domain has keys that sign: they must not sign what strangers send in its name.
    domain = ask("POST", "/domains", name="in.test", local=True).json()
    ask("POST", "/domains/in.test/check", force=True)
    assert domain["policy"] == "none"
    assert ask("PATCH", "/domains/in.test", policy="quarantine").json()["policy"] == "quarantine"
    ask("POST", "/mailboxes", address="ann@in.test")
    genuine, in_our_name = signed(mail_of(DOMAIN)), mail_of("in.test")
    send(genuine)
    send(mail_of(DOMAIN))
    send(in_our_name)
    path = "/mailboxes/ann@in.test"
    found = until(lambda: len(its := ask("GET", f"{path}/messages").json()["messages"]) == 3 and its)
    first = [mail for mail in found if mail["folder"] == "INBOX"]
    assert sorted(mail["folder"] for mail in found) == ["INBOX", "INBOX", "Quarantine"]
    raws = [ask("GET", f"{path}/messages/{mail['id']}/raw").content for mail in first]
    (passed,) = (raw for raw in raws if raw.endswith(genuine))
    (ours,) = (raw for raw in raws if raw.endswith(in_our_name))
    assert b"dmarc=pass" in passed.partition(genuine)[0]
    assert b"DKIM-Signature" not in ours
    maildir = one.var / "maildirs" / "in.test" / "ann"
    (quarantined,) = (maildir / ".Quarantine" / "new").iterdir()
    assert b"\r\nX-MBG-Quarantine: DMARC of example.com fails" in quarantined.read_bytes()
    assert len([*(maildir / "new").iterdir()]) == 2
    ask("PATCH", "/domains/in.test", policy="reject")
    with pytest.raises(smtplib.SMTPDataError, match=r"550, b'5\.7\.26 example\.com does not permit"):
        send(mail_of(DOMAIN))
