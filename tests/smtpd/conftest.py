"""A door with real services behind it, in a thread of this process, and clients that talk to it."""

import asyncio
import base64
import smtplib
import socket
import ssl
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pytest
from cryptography.fernet import Fernet
from sqlalchemy.orm import undefer

from mailbbgun import schema
from mailbbgun.accept.accept import Acceptor
from mailbbgun.accept.attached import Attached
from mailbbgun.accept.store import Store
from mailbbgun.attachments.inspection import Inspector
from mailbbgun.core.caller import Scope
from mailbbgun.core.ids import DEFAULT_TENANT
from mailbbgun.limits.request_rates import Rates
from mailbbgun.messages.models import Delivery, Message
from mailbbgun.messages.publisher import Publisher
from mailbbgun.services import Services, build
from mailbbgun.settings.load import load
from mailbbgun.smtp_accounts.sender import identities
from mailbbgun.smtpd.door import Door
from mailbbgun.smtpd.options import DoorOptions
from mailbbgun.suppressions.links import UnsubscribeLinks
from mailbbgun.templates.resolve import Templates
from mailbbgun.tenants import keys
from mailbbgun.tenants.authenticate import Authenticator
from mailbbgun.tenants.keys import KeySpec
from mailbbgun.tracking.keys import TrackingKeys
from tests import tables
from tests.smtp.authority import Authority
from tests.smtp.name_server import NameServer
from tests.waiting import PATIENCE

T = TypeVar("T")
MAIL = b"From: shop@example.com\r\nTo: ann@example.com\r\nSubject: Hello\r\n\r\nText\r\n"


class RunningDoor:
    """A door that listens, and the database behind it."""

    def __init__(self, services: Services, options: DoorOptions) -> None:
        self.services = services
        self.failed = 0
        self.database = True
        settings = services.settings
        self.store, self.publisher = Store(services.db, 86_400), Publisher(services.db, services.queue)
        links = UnsubscribeLinks(services.db, services.vault, settings.PUBLIC_URL)
        tracking = TrackingKeys(services.db, services.vault, settings.PUBLIC_URL)
        attached = Attached(services, Inspector(services))
        acceptor = Acceptor(settings, self.store, self.publisher, attached, Templates(services.db), links, tracking)
        self.rates = Rates(processes=1, unauthorized=settings.UNAUTHORIZED_PER_MINUTE)
        self.authenticator = Authenticator(
            services.db, services.vault, identities, required=True, per_minute=settings.RATE_LIMIT_PER_MINUTE
        )
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="door")
        self._thread.start()

        async def made() -> Door:
            door = Door(
                services,
                acceptor,
                self.authenticator,
                self.rates,
                options,
                failed_login=self._count,
                database_found=lambda: self.database,
            )
            await door.start()
            return door

        self.door = self.run(made())
        self.addresses = self.door.addresses
        self.port = self.addresses["submission"][1]

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run something in the door's loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE)

    def call(self, work: Callable[[], T]) -> T:
        """Call something in the door's thread."""

        async def called() -> T:
            return work()

        return self.run(called())

    def close(self, grace: float = PATIENCE) -> None:
        """Close the door."""
        self.run(self.door.close(grace))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self.store.close()
        self.publisher.close()
        self.rates.close()
        self.authenticator.close()

    def key(self, **given: Any) -> str:
        """Return a new API key, by default one with the scope smtp."""
        spec = replace(KeySpec(name="door", scopes=(Scope.SMTP,)), **given)
        with self.services.db.write() as session:
            return keys.create(session, self.services.vault, DEFAULT_TENANT, spec).token

    def stored(self) -> list[Message]:
        """Return the messages, oldest first."""
        with self.services.db.read() as session:
            found = session.query(Message).options(undefer(Message.raw)).order_by(Message.id).all()
            session.expunge_all()
            return found

    def recipients(self, message: Message) -> dict[str, str]:
        """Return a message's recipients with their kinds."""
        with self.services.db.read() as session:
            rows = session.query(Delivery.address, Delivery.kind).filter(Delivery.message_id == message.id)
            return {row.address: row.kind for row in rows}

    def _count(self) -> None:
        self.failed += 1


class Talk:
    """A client that sends exactly what it is told."""

    def __init__(self, port: int, address: str = "127.0.0.1", *, greeted: bool = True) -> None:
        self.link: socket.socket = socket.create_connection(("127.0.0.1", port), PATIENCE, (address, 0))
        self._lines = self.link.makefile("rb")
        if greeted:
            assert self.reply().startswith(b"220")

    def reply(self) -> bytes:
        """Return the last line of the next reply."""
        line = self._lines.readline()
        while line[3:4] == b"-":
            line = self._lines.readline()
        return line.rstrip(b"\r\n")

    def send(self, octets: bytes) -> None:
        """Send bytes."""
        self.link.sendall(octets)

    def say(self, line: bytes) -> bytes:
        """Send a command and return its reply."""
        self.send(line + b"\r\n")
        return self.reply()

    def login(self, key: str) -> "Talk":
        """Say EHLO, and log in."""
        assert self.say(b"EHLO client.test").startswith(b"250")
        assert self.say(b"AUTH PLAIN " + plain(key)).startswith(b"235")
        return self

    def begin(self, *to: str, sender: str = "shop@example.com", parameters: str = "") -> "Talk":
        """Say what comes before a message, up to DATA."""
        assert self.say(f"MAIL FROM:<{sender}>{parameters}".encode()).startswith(b"250")
        for one in to or ("ann@example.com",):
            assert self.say(f"RCPT TO:<{one}>".encode()).startswith(b"250")
        assert self.say(b"DATA").startswith(b"354")
        return self

    def closed(self) -> bool:
        """Say whether the door has closed the connection, after what it has sent."""
        try:
            return self._lines.read() is not None
        except ConnectionResetError:
            return True

    def secure(self, trusted: ssl.SSLContext) -> "Talk":
        """Change to TLS."""
        self._lines.close()
        self.link = trusted.wrap_socket(self.link, server_hostname="localhost")
        self._lines = self.link.makefile("rb")
        return self

    def __enter__(self) -> "Talk":
        return self

    def __exit__(self, *_: object) -> None:
        self._lines.close()
        self.link.close()


def plain(key: str, user: str = "anybody") -> bytes:
    """Return the initial response of AUTH PLAIN."""
    return base64.b64encode(f"\0{user}\0{key}".encode())


@contextmanager
def running(services: Services, **options: Any) -> Iterator[RunningDoor]:
    """A door that is closed at the end."""
    one = RunningDoor(services, replace(DoorOptions(port=0), **options))
    try:
        yield one
    finally:
        one.close()


@contextmanager
def services_at(folder: Path, database_url: str | None = None, **given: object) -> Iterator[Services]:
    """Services with fresh tables and the embedded queue. By default their DNS has no name at all."""
    with NameServer({}) as dns:
        built = build(load(_environment(folder, database_url, {"DNS_SERVERS": f"127.0.0.1:{dns.port}", **given})))
        tables.put_into(built.db)
        schema.upgrade(built.db)
        yield built
        built.close()


def _environment(folder: Path, database_url: str | None, given: Mapping[str, object]) -> dict[str, str]:
    return {
        "MAILBBGUN_VAR": str(folder),
        "MAILBBGUN_HOSTNAME": "mail.example.com",
        "MAILBBGUN_ALLOW_WEAK_DURABILITY": "1",
        "MAILBBGUN_ENCRYPTION_KEYS": Fernet.generate_key().decode(),
        "MAILBBGUN_MAX_BODY_SIZE": "300000",
        "MAILBBGUN_MAX_RECIPIENTS": "10",
        "MAILBBGUN_PUBLIC_URL": "http://mail.example.com",
        **({"MAILBBGUN_DATABASE_URL": database_url} if database_url else {}),
        **{f"MAILBBGUN_{name}": str(value) for name, value in given.items()},
    }


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def services(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """Services on each database."""
    server = database = url = None
    if request.param == "postgresql":
        server = request.getfixturevalue("postgresql")
        database = server.create_database()
        url = server.url(database)
    with services_at(tmp_path_factory.mktemp("door"), url) as built:
        yield built
    if server is not None:
        server.drop_database(database)


@pytest.fixture(scope="module")
def sqlite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """Services on SQLite, for what is said before anything is stored."""
    with services_at(tmp_path_factory.mktemp("door")) as built:
        yield built


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Who issues certificates."""
    return Authority(tmp_path_factory.mktemp("authority"))


def trusting(authority: Authority) -> ssl.SSLContext:
    """Return the context of a client that trusts these certificates."""
    return ssl.create_default_context(cafile=authority.ca_file)


def client(port: int) -> smtplib.SMTP:
    """Return a connected client of the standard library."""
    return smtplib.SMTP("127.0.0.1", port, "client.test", timeout=PATIENCE)
