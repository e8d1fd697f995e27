"""Connection tests through the API, with real mail servers."""

from concurrent.futures import ThreadPoolExecutor
from email import message_from_bytes, policy
from pathlib import Path

import pytest
import requests

from tests.flow.service import until
from tests.servers.mailserver import Failure
from tests.servers.process import free_port
from tests.smtp.authority import Authority
from tests.smtp.behaviours import only, silent
from tests.smtp.peers import Peer
from tests.smtp_accounts.conftest import MANAGER, PASSWORD, USER, Tenant, settings_of, step, wrong
from tests.tenants.conftest import code
from tests.waiting import PATIENCE


def test_a_server_with_a_private_authority_is_tested_step_by_step_and_takes_a_test_mail(tenant, provider):
    account = tenant.ask("POST", "", json=settings_of(provider)).json()
    tried = tenant.ask("POST", f"/{account['id']}/test")
    assert tried.json()["ok"], tried.text
    assert [one["name"] for one in tried.json()["steps"]] == [
        "resolve",
        "connect",
        "banner",
        "ehlo",
        "starttls",
        "tls",
        "ehlo",
        "auth",
    ]
    assert all(one["ok"] and one["milliseconds"] >= 0 for one in tried.json()["steps"])
    tls = step(tried, "tls")["tls"]
    assert tls["version"].startswith("TLSv1.")
    assert tls["certificate"]["names"] == ["localhost", "127.0.0.1"]
    assert tls["certificate"]["issuer"] == "CN=test authority"
    assert tls["certificate"]["not_after"].endswith("Z")
    assert (step(tried, "auth")["code"], step(tried, "connect")["code"]) == (235, 0)
    before = len(provider.taken())
    for path, body in ((f"/{account['id']}/test", {}), ("/test", settings_of(provider))):
        sent = tenant.ask("POST", path, json=body | {"to": "Ann@bücher.example"})
        assert (sent.json()["ok"], step(sent, "dot")["code"]) == (True, 250), sent.text
    for taken in provider.taken()[before:]:
        assert (taken["from"], taken["to"], taken["user"]) == ("shop@example.com", ["Ann@xn--bcher-kva.example"], USER)
        assert taken["id"].endswith("@mail.example.com>")
    assert len(provider.taken()) == before + 2


@pytest.mark.parametrize("from_email", ["news.example.com", None])
def test_a_test_mail_has_a_from_that_the_account_may_send_as(tenant, provider, from_email):
    before = len(provider.taken())
    body = settings_of(provider) | {"from_email": from_email, "to": "ann@example.com"}
    assert tenant.ask("POST", "/test", json=body).json()["ok"]
    assert provider.taken()[before]["from"] == (
        "noreply@news.example.com" if from_email else "noreply@mail.example.com"
    )


def test_a_refused_mechanism_is_reported_and_the_next_one_is_tried(tenant):
    with Peer(users={USER: PASSWORD}, at={"auth": only("LOGIN", b"504 5.5.4 not that\r\n")}) as peer:
        body = {
            "smtp_host": "127.0.0.1",
            "smtp_port": peer.port,
            "security_protocol": "NONE",
            "smtp_username": USER,
            "smtp_password": PASSWORD,
        }
        tried = tenant.ask("POST", "/test", json=body).json()
    assert tried["ok"]
    told = [(one["mechanism"], one["ok"], one["code"]) for one in tried["steps"] if one["name"] == "auth"]
    assert told == [("CRAM-MD5", False, 504), ("PLAIN", False, 504), ("LOGIN", True, 235)]


def test_a_failure_is_reported_at_its_step_without_the_password(tenant, provider, tmp_path):
    settings = settings_of(provider)
    refused = tenant.ask("POST", "/test", json=settings | {"smtp_password": "not-the-pass-word"})
    assert (refused.json()["ok"], step(refused, "auth")["ok"], step(refused, "auth")["code"]) == (False, False, 535)
    assert step(refused, "auth")["enhanced"] == "5.7.8"
    assert "not-the-pass-word" not in refused.text
    stranger = tenant.ask(
        "POST", "/test", json=settings | {"ca_certificate": Path(Authority(tmp_path).ca_file).read_text()}
    )
    assert not stranger.json()["ok"]
    assert stranger.json()["steps"][-1]["name"] == "tls"
    assert step(stranger, "tls")["tls"]["certificate"]["issuer"] == "CN=test authority"
    closed = tenant.ask("POST", "/test", json=settings | {"smtp_port": free_port()})
    assert (closed.json()["ok"], closed.json()["steps"][-1]["name"]) == (False, "connect")
    provider.fail(Failure.RCPT)
    try:
        later = tenant.ask("POST", "/test", json=settings | {"to": "ann@example.com"})
    finally:
        provider.heal()
    assert (later.json()["ok"], step(later, "rcpt")["code"]) == (False, 450)
    assert wrong(tenant.ask("POST", "/test", json=settings | {"to": "nobody"})) == ["to"]


def test_a_few_connection_tests_run_at_once_and_no_more(locked):
    tenant = Tenant(locked)
    with Peer(at={"banner": silent}) as peer, ThreadPoolExecutor(8) as threads:
        body = {"smtp_host": "127.0.0.1", "smtp_port": peer.port, "security_protocol": "NONE"}

        def attempt(_: int) -> requests.Response:
            headers = {"Authorization": f"Bearer {tenant.key}"}
            return requests.post(f"{locked.url}/smtp-accounts/test", json=body, headers=headers, timeout=PATIENCE)

        running = [threads.submit(attempt, n) for n in range(8)]
        # Two processes run two tests of a tenant each. The kernel decides which process gets a
        # request.
        until(
            lambda: sum(one.done() for one in running) + peer.connections == 8,
            what="a refusal or a connection for each",
        )
        refused = [one.result() for one in running if one.done()]
        assert len(refused) >= 4
        assert {code(one) for one in refused} == {(503, "unavailable")}
        assert all(one.headers["Retry-After"] == "30" for one in refused)
        assert locked.ask("GET", "/smtp-accounts", tenant.key).status_code == 200
        peer.__exit__(None, None, None)  # ends the tests that wait for a banner
        assert {one.result().status_code for one in running if one.result() not in refused} == {200}


EVIL_NAME = "=?UTF-8?Q?a=22_<x@y>=0D=0ABcc:_evil@x.test=0D=0AContent-Type:_text/html=0D=0A=0D=0A<h1>no</h1>?="


def test_no_name_of_an_account_becomes_a_header_of_its_test_mail(tenant):
    with Peer() as peer:
        body = {
            "smtp_host": "127.0.0.1", "smtp_port": peer.port, "security_protocol": "NONE",
            "from_email": "shop@example.com", "from_name": EVIL_NAME,
            "setting_name": "=?UTF-8?Q?a=0D=0AReply-To:_evil@x.test?=", "to": '"a;b"@example.com',
        }  # fmt: skip
        assert tenant.ask("POST", "/test", json=body).json()["ok"]
        [taken] = peer.messages
    mail = message_from_bytes(taken.raw, policy=policy.default)
    assert sorted(mail.keys()) == sorted(
        ["From", "To", "Subject", "Date", "Message-ID", "Content-Type", "Content-Transfer-Encoding", "MIME-Version"]
    )
    assert (mail.get_content_type(), str(mail["To"])) == ("text/plain", '"a;b"@example.com')


def test_a_key_sends_no_test_mail_from_an_address_it_may_not_send_as(tenant, locked, provider):
    key = locked.key(tenant.id, scopes=MANAGER, senders=["example.org"])["key"]
    body = settings_of(provider)
    assert tenant.ask("POST", "/test", key=key, json=body).json()["ok"]
    assert wrong(tenant.ask("POST", "/test", key=key, json=body | {"to": "ann@example.com"})) == ["to"]
