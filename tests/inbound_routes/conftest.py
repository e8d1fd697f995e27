"""A service whose MX port is open, on each database, and an application that mail is posted to."""

import smtplib
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from mailbbgun.settings.load import load
from tests.flow.service import Service, until
from tests.inbound_routes.receiver import MailReceiver
from tests.servers.process import free_port
from tests.waiting import PATIENCE

MAIL = b"From: Zo\xc3\xab <zoe@far.test>\r\nTo: x@y.test\r\nSubject: %b\r\nMessage-ID: <%b@far.test>\r\n%b\r\nhi\r\n"
CAFE = b"=?utf-8?q?caf=C3=A9?="


class MXService(Service):
    """A service with an MX port."""

    def __init__(self, *args: Any, **overrides: object) -> None:
        self.mx_port = free_port()
        super().__init__(*args, MX_LISTEN_PORT=self.mx_port, **overrides)

    def domain(self, name: str, *mailboxes: str) -> str:
        """Make a local domain with mailboxes; return its name."""
        self.made("/domains", name=name, local=True)
        for one in mailboxes:
            self.made("/mailboxes", address=f"{one}@{name}")
        return name

    def route(self, *actions: dict[str, Any], code: int = 201, **route: Any) -> dict[str, Any]:
        """Add an inbound route."""
        return self.made("/inbound-routes", code, **{"actions": [*actions]} | route)

    def made(self, path: str, code: int = 201, **body: Any) -> dict[str, Any]:
        """Post something, and return the answer."""
        answer = self.http.post(f"{self.url}{path}", json=body, timeout=PATIENCE)
        assert answer.status_code == code, answer.text
        return dict(answer.json())

    def receive(self, *recipients: str, **mail: Any) -> str:
        """Send mail to the MX port as another server does; return the id of its message."""
        code, reply = self.try_to_send(recipients, **mail)
        assert code == 250, reply
        return reply.rpartition(" ")[2]

    def try_to_send(
        self,
        recipients: Sequence[str],
        *,
        header: bytes = b"",
        name: str = "",
        sender: str = "zoe@far.test",
        subject: bytes = CAFE,
    ) -> tuple[int, str]:
        """Send mail to the MX port; return the first reply that refuses, or that to the mail."""
        with smtplib.SMTP("127.0.0.1", self.mx_port, "mx.far.test", timeout=PATIENCE) as client:
            client.ehlo()
            client.mail(sender)
            for one in recipients:
                code, reply = client.rcpt(one)
                if code != 250:
                    return code, reply.decode()
            its_name = (name or recipients[0].replace("@", ".")).encode()
            code, reply = client.data(MAIL % (subject, its_name, header))
            return code, reply.decode()

    def mailed(self, address: str) -> list[dict[str, Any]]:
        """Return what is in a mailbox."""
        return list(self.get(f"/mailboxes/{address}/messages")["messages"])

    def forwarded(self, address: str) -> list[dict[str, Any]]:
        """Return what the sink got for an address."""
        return [one for one in self.taken() if address in one["to"]]

    def ends(self, identifier: str, status: str) -> dict[str, Any]:
        """Return the deliveries of a message, by address, once all have ended and it has this status."""
        found = until(
            lambda: (one := self.message(identifier))["status"] != "PENDING" and one, what=f"the end of {identifier}"
        )
        assert found["status"] == status, found
        return {one["address"]: one for one in found["deliveries"]}


SETTINGS = {"LEASE_SECONDS": 8, "SWEEP_SECONDS": 1, "ALLOW_PRIVATE_HOSTS": "127.0.0.0/8", "RETRY_DELAYS": "1,1"}


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def service(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MXService]:
    environment = {"MAILBBGUN_VAR": str(tmp_path_factory.mktemp("inbound") / "var")}
    if request.param == "postgresql":
        server = request.getfixturevalue("postgresql")
        environment["MAILBBGUN_DATABASE_URL"] = server.url(server.create_database())
    with MXService(load(environment), **SETTINGS) as opened:
        opened.start_worker()
        opened.start_smtpd()
        yield opened


@pytest.fixture(scope="module")
def listening(service: MXService) -> Iterator[MailReceiver]:
    with MailReceiver() as made:
        yield made


@pytest.fixture
def receiver(listening: MailReceiver) -> MailReceiver:
    """An application that takes everything, unless the test changes that."""
    listening.answers = lambda _path, _before: 200
    return listening
