"""Mail of sending domains leaves signed: real API, worker, mail server and name server."""

from base64 import b64encode
from collections.abc import Iterator
from email import message_from_bytes
from uuid import uuid4

import pytest
from cryptography.fernet import Fernet

from mailbbgun.accept.accept import Acceptor
from mailbbgun.accept.fields import Raw
from mailbbgun.app import close, create_app
from mailbbgun.core.caller import ANYBODY
from mailbbgun.database.crypto import new_key
from mailbbgun.http.provided import provided
from mailbbgun.settings.load import load
from tests.domains.conftest import RECEIVES
from tests.domains.verifiers import by_dkimpy, by_mail_dkim, quoted
from tests.flow.service import Service, until
from tests.smtp.name_server import NameServer
from tests.smtp.peers import EXTENSIONS, Peer
from tests.waiting import PATIENCE

KEY = new_key()

#: A file of half a megabyte, in base64.
FILE = b64encode(b"a;b;c\r\n1;2;3\r\n" * 33_000).decode()


class Signing(Service):
    """A service with a name server and a mail server whose mail can be looked at."""

    def __init__(self, settings, dns: NameServer, peer: Peer, **overrides: object) -> None:
        given = {
            "SMTP_URL": f"smtp://127.0.0.1:{peer.port}?security=none",
            "DNS_SERVERS": f"127.0.0.1:{dns.port}",
            "RETRY_DELAYS": "1,1,1,1",
            "MESSAGES_PER_CONNECTION": 1,  # each message finds what the server offers now
            "ENCRYPTION_KEYS": KEY,
        }
        super().__init__(settings, **(given | overrides))
        self.dns, self.peer = dns, peer

    def ask(self, method: str, path: str, **options) -> dict:
        answer = self.http.request(method, f"{self.url}{path}", timeout=PATIENCE, **options)
        assert answer.ok, answer.text
        return answer.json() if answer.content else {}

    def add(self, name: str) -> dict:
        """Add a domain whose records are in the DNS."""
        domain = self.ask("POST", "/domains", json={"name": name})
        self.publish(domain)
        return self.ask("POST", f"/domains/{name}/check", json={})

    def publish(self, domain: dict) -> None:
        self.dns.zone[domain["name"]] = RECEIVES
        for record in domain["records"]:
            if record["purpose"] == "dkim":
                self.dns.zone[record["name"]] = {"TXT": [quoted(record["value"])]}

    def zone(self) -> dict[str, str]:
        """Return all DKIM records in the DNS."""
        names = [name for name in self.dns.zone if "._domainkey." in name]
        return {name: self.dns.zone[name]["TXT"][0].replace('" "', "").strip('"') for name in names}

    def active(self, name: str) -> set[str]:
        keys = self.ask("GET", f"/domains/{name}")["keys"]
        return {key["selector"] for key in keys if key["state"] == "active"}

    def signs(self, name: str, *, wanted: bool = True) -> None:
        """Wait until the worker knows whether the mail of a domain is signed."""

        def seen() -> bool:
            message = self.post(**{"from": f"a@{name}", "to": f"{uuid4().hex}@probe.test"})["id"]
            self.ended(message, "DELIVERED")
            return (b"DKIM-Signature" in self.got(message)) is wanted

        until(seen, what="the worker's knowledge of the keys")

    def got(self, message_id: str) -> bytes:
        """Return the last copy of a message that the server got."""
        return self.copies_of(message_id)[-1]

    def copies_of(self, message_id: str) -> list[bytes]:
        name = f"<{message_id}@".encode()
        raws = [one.raw.replace(b"\r\n..", b"\r\n.") for one in self.peer.messages]
        return [raw for raw in raws if name in raw.partition(b"\r\n\r\n")[0]]

    def raw(self, message_id: str) -> bytes:
        answer = self.http.get(f"{self.url}/messages/{message_id}/raw", timeout=PATIENCE)
        assert answer.status_code == 200, answer.text
        return answer.content

    def delivered(self, message_id: str) -> dict:
        """Return the data of a message's last event "delivered"."""
        events = self.get(f"/messages/{message_id}/events?limit=1000")["events"]
        return next(event for event in events if event["kind"] == "delivered")["data"]


@pytest.fixture(scope="module")
def peer() -> Iterator[Peer]:
    with Peer(at={}) as server:
        yield server


@pytest.fixture(scope="module")
def service(dns: NameServer, peer: Peer, tmp_path_factory: pytest.TempPathFactory, request) -> Iterator[Signing]:
    server = request.getfixturevalue("postgresql")
    environment = {
        "MAILBBGUN_VAR": str(tmp_path_factory.mktemp("signing") / "var"),
        "MAILBBGUN_HOSTNAME": "mail.example.com",
        "MAILBBGUN_DATABASE_URL": server.url(server.create_database()),
    }
    with Signing(load(environment), dns, peer) as opened:
        opened.start_worker()
        yield opened


@pytest.fixture
def acceptor(service: Signing) -> Iterator[Acceptor]:
    """Accept as a door has it, in a process of its own beside the API and the worker."""
    app = create_app(load(service.environment))
    with app.app_context():
        yield provided(Acceptor)
    close(app)


@pytest.fixture
def domain(service: Signing, peer: Peer) -> str:
    """A domain that signs, and whose keys the worker knows."""
    peer.at.clear()
    peer.extensions, peer.rcpt = EXTENSIONS, None
    name = f"{uuid4().hex}.test"
    service.add(name)
    service.signs(name)
    return name


def verified(service: Signing, message: bytes, selectors: set[str]) -> None:
    """Check that a message has a valid signature of each of these keys, and no others."""
    assert by_dkimpy(message, service.zone()) == dict.fromkeys(selectors, True)
    told = by_mail_dkim(message, service.zone())
    assert set(told) == selectors
    assert [detail for detail in told.values() if "unsupported" not in detail] == ["pass"]


@pytest.mark.parametrize("message", [
    {"subject": "Grüße  aus  Köln", "text": "Hallo  \t Welt  \n\n.\n..\n日本 🎉\n \n\n", "html": "<p>Hallo</p>"},
    {"subject": "s " * 100, "text": "x", "cc": ["ben@x.test"], "reply_to": "c@x.test", "headers": {"X-Y": "z"}},
    {"text": "x" * 5000 + "\n" + "All work and no  play\n" * 40_000},
    {"text": "See below.", "attachments": [{"filename": name, "content": FILE} for name in ("Prüfung.csv", "b.csv")]},
])  # fmt: skip
def test_a_message_leaves_with_valid_signatures_and_raw_shows_it_as_it_left(service, domain, message):
    sent = service.post(**{"from": f"Ann <ann@{domain}>", "to": "bob@x.test"} | message)["id"]
    service.ended(sent, "DELIVERED")
    verified(service, service.got(sent), service.active(domain))
    # The API reads the keys by itself, some seconds after the worker perhaps.
    until(lambda: service.raw(sent) == service.got(sent), what="the message as it left")
    assert set(service.delivered(sent)["dkim"]) == service.active(domain)


def test_a_subdomain_is_signed_by_its_parent_and_by_itself_once_it_has_keys(service, domain):
    author = f"ann@news.shop.{domain}"
    sent = service.post(**{"from": author, "to": "bob@x.test"})["id"]
    service.ended(sent, "DELIVERED")
    verified(service, service.got(sent), service.active(domain))
    service.ask("POST", "/domains", json={"name": f"shop.{domain}"})  # its keys wait: the parent's still sign
    sent = service.post(**{"from": author, "to": "bob@x.test"})["id"]
    service.ended(sent, "DELIVERED")
    verified(service, service.got(sent), service.active(domain))
    service.ask("POST", f"/domains/shop.{domain}/check", json={"force": True})

    def by_itself() -> bool:
        sent = service.post(**{"from": author, "to": "bob@x.test"})["id"]
        service.ended(sent, "DELIVERED")
        return f"d=shop.{domain};".encode() in service.got(sent)

    until(by_itself, what="a signature of the subdomain")
    other = service.post(**{"from": f"ann@not{domain}", "to": "bob@x.test"})["id"]
    service.ended(other, "DELIVERED")
    assert b"DKIM-Signature" not in service.got(other)
    assert "dkim" not in service.delivered(other)


def test_each_attempt_makes_the_same_signature_also_when_the_keys_are_replaced_between_them(service, domain, peer):
    before = service.active(domain)
    peer.at["dot"] = b"451 4.7.1 come back later\r\n"
    sent = service.post(**{"from": f"ann@{domain}", "to": "bob@x.test"})["id"]
    until(lambda: service.copies_of(sent), what="the first attempt")
    service.publish(service.ask("POST", f"/domains/{domain}/rotate"))
    rotated = service.ask("POST", f"/domains/{domain}/check", json={})
    assert {key["selector"] for key in rotated["keys"] if key["state"] == "retired"} == before
    count = len(service.copies_of(sent))
    until(lambda: len(service.copies_of(sent)) > count, what="an attempt after the rotation")
    peer.at.clear()
    service.ended(sent, "DELIVERED")
    assert len(set(service.copies_of(sent))) == 1
    verified(service, service.got(sent), before)

    def with_new_keys() -> bool:
        later = service.post(**{"from": f"ann@{domain}", "to": "bob@x.test"})["id"]
        service.ended(later, "DELIVERED")
        verified(service, service.got(later), set(service.delivered(later)["dkim"]))
        return set(service.delivered(later)["dkim"]) == service.active(domain)

    until(with_new_keys, what="mail signed by the new keys")
    assert not before & service.active(domain)


def test_a_header_that_is_rewritten_for_a_server_is_signed_as_it_is_rewritten(service, domain, peer, acceptor):
    mime = (
        f"From: Jörg Müller <ann@{domain}>\r\nTo: Bjørn <bob@x.test>\r\nSubject: Grüße\r\n"
        "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
        "Grüße,  ganz \t roh \r\n" + "x" * 900 + "ß\r\n\r\n\r\n"
    ).encode()
    found = {}
    for extensions in (EXTENSIONS, [one for one in EXTENSIONS if one != "SMTPUTF8"]):
        peer.extensions = extensions
        raw = Raw(mime=mime, recipients=("bob@x.test",))
        sent = str(acceptor.accept(raw, ANYBODY).result().id)
        service.ended(sent, "DELIVERED")
        found[len(extensions)] = service.got(sent)
        verified(service, service.got(sent), service.active(domain))
    whole, rewritten = (message.partition(b"\r\n\r\n")[0] for message in found.values())
    assert (whole.isascii(), rewritten.isascii()) == (False, True)


@pytest.mark.parametrize("lines", [1, 60_000], ids=["in memory", "in a file"])
def test_a_body_that_is_encoded_for_a_server_is_signed_as_it_is_encoded(service, domain, peer, acceptor, lines):
    peer.extensions = [one for one in EXTENSIONS if one != "8BITMIME"]
    text = "Grüße,  ganz \t roh \r\n" * lines + "\r\n\r\n"
    mime = (
        f"From: ann@{domain}\r\nTo: bob@x.test\r\nSubject: x\r\n"
        "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
    )
    sent = str(acceptor.accept(Raw(mime=(mime + text).encode(), recipients=("bob@x.test",)), ANYBODY).result().id)
    service.ended(sent, "DELIVERED")
    got = service.got(sent)
    assert got.isascii()
    assert message_from_bytes(got).get_payload(decode=True) == text.encode()
    verified(service, got, service.active(domain))


def test_mail_whose_key_cannot_be_decrypted_waits_and_is_not_sent_unsigned(service, peer):
    name = f"{uuid4().hex}.test"
    domain = service.ask("POST", "/domains", json={"name": name})
    whose = "WHERE domain_id = (SELECT id FROM domains WHERE name = :name)"
    kept = dict(service.sql(f"SELECT selector, private_key FROM dkim_keys {whose}", name=name))
    other = Fernet(new_key()).encrypt(b"x").decode()
    service.sql(f"UPDATE dkim_keys SET private_key = :other {whose}", name=name, other=other)
    service.publish(domain)
    service.ask("POST", f"/domains/{name}/check", json={})

    def deferred() -> str:
        sent = service.post(**{"from": f"ann@{name}", "to": "bob@x.test"})["id"]
        tried = until(lambda: {"delivered", "deferred"} & set(service.kinds(sent)), what="an attempt")
        return sent if "deferred" in tried else ""  # the worker may not know the keys yet

    sent = until(deferred, what="the deferral")
    events = service.get(f"/messages/{sent}/events")["events"]
    assert "cannot be signed" in next(one for one in events if one["kind"] == "deferred")["data"]["reply"]
    assert service.http.get(f"{service.url}/messages/{sent}/raw", timeout=PATIENCE).status_code == 503
    assert not service.copies_of(sent)
    for selector, token in kept.items():
        service.sql(
            "UPDATE dkim_keys SET private_key = :token WHERE selector = :selector", token=token, selector=selector
        )

    def arrives() -> bool:
        if (status := service.message(sent)["status"]) == "ERROR":  # it waited for longer than its schedule
            service.ask("POST", f"/messages/{sent}/retry")
        return status == "DELIVERED"

    until(arrives, what="the mail whose key is back")
    verified(service, service.got(sent), set(kept))


def test_a_deleted_domain_signs_no_more(service, domain):
    service.ask("DELETE", f"/domains/{domain}")
    service.signs(domain, wanted=False)


def test_a_worker_finds_records_that_appear_and_removes_keys_that_were_replaced_long_ago(service):
    name = f"{uuid4().hex}.test"
    domain = service.ask("POST", "/domains", json={"name": name})
    service.publish(domain)
    service.sql("UPDATE domains SET created_at = created_at - interval '3 minutes' WHERE name = :name", name=name)
    until(lambda: len(service.active(name)) == 2, what="the worker's look at the DNS")
    old = service.active(name)
    service.ask("POST", f"/domains/{name}/rotate")
    service.ask("POST", f"/domains/{name}/check", json={"force": True})
    kept = {key["selector"] for key in service.ask("GET", f"/domains/{name}")["keys"]}
    assert old < kept
    service.sql("UPDATE dkim_keys SET retired_at = retired_at - interval '8 days' WHERE retired_at IS NOT NULL")
    until(
        lambda: not old & {key["selector"] for key in service.ask("GET", f"/domains/{name}")["keys"]},
        what="the removal of retired keys",
    )
    assert len(service.active(name)) == 2


def test_what_a_client_has_signed_for_the_domain_itself_is_not_signed_again(service, domain, acceptor):
    own = f"DKIM-Signature: v=1; a=rsa-sha256; d={domain}; s=own; h=from; bh=x;\r\n b=y\r\n"
    head = f"{own}From: ann@{domain}\r\nTo: bob@x.test\r\nSubject: x\r\n\r\n"
    raw = Raw(mime=head.encode() + b64encode(b"body") + b"\r\n", recipients=("bob@x.test",))
    sent = str(acceptor.accept(raw, ANYBODY).result().id)
    service.ended(sent, "DELIVERED")
    assert message_from_bytes(service.got(sent)).get_all("DKIM-Signature") == [own[16:-2]]
    assert "dkim" not in service.delivered(sent)


def test_an_8_bit_mail_that_others_have_signed_is_not_encoded_but_bounces(service, domain, peer, acceptor):
    head = f"DKIM-Signature: v=1; d=list.test; s=own; h=from; bh=x; b=y\r\nFrom: ann@{domain}\r\nTo: bob@x.test\r\n\r\n"
    raw = Raw(mime=f"{head}Grüße\r\n".encode(), recipients=("bob@x.test",))
    peer.extensions = [one for one in EXTENSIONS if one != "8BITMIME"]
    sent = str(acceptor.accept(raw, ANYBODY).result().id)
    assert service.ended(sent, "ERROR")["reason"] == "bounced"
    assert not service.copies_of(sent)
    peer.extensions = EXTENSIONS
    sent = str(acceptor.accept(raw, ANYBODY).result().id)
    service.ended(sent, "DELIVERED")
    assert service.got(sent).endswith(raw.mime)
