"""A real Postfix takes a mail, cannot deliver it, and sends its report to our MX port."""

from contextlib import ExitStack

import pytest

from bench.peers.postfix import Postfix
from mailbbgun.services import build
from mailbbgun.settings.load import load
from tests.flow.service import Service, until
from tests.return_paths.conftest import DOMAIN
from tests.smtp.name_server import NameServer
from tests.smtpd.conftest import Talk, running


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgresql", marks=pytest.mark.long)])
def opened(request, tmp_path_factory):
    """A service whose mail leaves through Postfix, and the port that takes mail for it."""
    environment = {"MAILBBGUN_VAR": str(tmp_path_factory.mktemp("postfix") / "var")}
    if request.param == "postgresql":
        server = request.getfixturevalue("postgresql")
        environment["MAILBBGUN_DATABASE_URL"] = server.url(server.create_database())
    with ExitStack() as stack:
        dns = stack.enter_context(NameServer({}))
        settings = {"RETURN_PATH_DOMAIN": DOMAIN, "DNS_SERVERS": f"127.0.0.1:{dns.port}"}
        service = Service(load(environment), SWEEP_SECONDS=1, **settings)
        postfix = stack.enter_context(Postfix(service.sink_port, 2, 2))
        service.environment["MAILBBGUN_SMTP_URL"] = f"smtp://127.0.0.1:{postfix.port}?security=none"
        stack.enter_context(service)
        services = build(load(service.environment))
        stack.callback(services.close)
        port = stack.enter_context(running(services, mx_port=0)).addresses["mx"][1]
        with (postfix._folder / "etc" / "main.cf").open("a") as settings:
            settings.write(f"transport_maps = inline:{{ {{ {DOMAIN} = smtp:[127.0.0.1]:{port} }} }}\n")
        postfix.open()
        postfix.shut()
        postfix.deliver()
        service.start_worker()
        yield service, port


def test_a_mail_that_postfix_took_and_could_not_deliver_becomes_an_error(opened):
    service, _ = opened
    arrives = service.post(to="ann@example.com")["id"]
    gone = service.post(to="never-ann@example.com")["id"]  # the sink behind Postfix refuses it
    message = service.ended(gone, "ERROR")
    assert service.kinds(gone) == ["accepted", "delivered", "bounced"]
    (event,) = (one for one in service.get(f"/messages/{gone}/events")["events"] if one["kind"] == "bounced")
    told = {name: event["data"][name] for name in ("returned", "class", "cause", "code", "enhanced")}
    assert told == {
        "returned": True,
        "class": "hard",
        "cause": "invalid_mailbox",
        "code": 550,
        "enhanced": "5.1.1",
    }
    assert message["reason"] == "bounced"
    (entry,) = service.get("/suppressions?address=never-ann@example.com")["suppressions"]
    assert entry["reason"] == "bounced"
    assert (
        b"never-ann@example.com" in service.http.get(f"{service.url}/messages/{event['data']['report_id']}/raw").content
    )
    until(lambda: len(service.taken()) == 1)
    assert service.message(arrives)["status"] == "DELIVERED"


def test_the_port_refuses_forged_return_paths_and_takes_real_ones_in_any_case(opened):
    service, port = opened
    service.ended(service.post(to="real@example.com")["id"], "DELIVERED")
    path = until(lambda: [one["from"] for one in service.taken() if one["to"] == ["real@example.com"]])[0]
    with Talk(port) as talk:
        talk.say(b"EHLO mx.example.net")
        talk.say(b"MAIL FROM:<>")
        replies = {
            name: talk.say(f"RCPT TO:<{name}>".encode())
            for name in (
                path.upper(),
                f"fbl@{DOMAIN}",
                f"b+{'a' * 48}@{DOMAIN}",
                f"postmaster@{DOMAIN}",
                f"abuse@{DOMAIN}",
                "ann@example.com",
            )
        }
    assert [reply[:9] for reply in replies.values()] == [
        b"250 2.1.5", b"250 2.1.5", b"550 5.1.1", b"550 5.1.1", b"550 5.1.1", b"550 5.7.1",
    ]  # fmt: skip
