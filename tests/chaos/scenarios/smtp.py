"""Damage to the SMTP door while mail comes in."""

import os
import signal
import smtplib
import textwrap
import threading
from collections.abc import Mapping
from typing import Any
from uuid import UUID, uuid4

from mailbbgun.core.faults import POINTS
from mailbbgun.core.ids import DEFAULT_TENANT
from tests.chaos.check import check
from tests.chaos.load import Load
from tests.chaos.round import EMBEDDED, REAL, Round
from tests.chaos.scenarios.processes import members
from tests.chaos.scenarios.table import scenario
from tests.flow.service import Service
from tests.waiting import PATIENCE


@scenario(EMBEDDED, REAL)
def smtp(round_: Round) -> None:
    """kill -9 of the SMTP door at random moments and at fault points: what got 250 arrives exactly once."""
    processes = round_.dice.choice([1, 2] if round_.real else [1])
    with round_.service(SMTPD_PROCESSES=processes) as service, service:
        service.start_worker()
        service.start_smtpd()
        load = SmtpLoad(service, round_.dice.choice([10, 1000, 100_000]))
        with load.sending(round_.mail(), round_.dice.choice([2, 4, 8]), 5.0):
            for _ in range(round_.dice.randint(2, 5)):
                round_.pause()
                found = members(service.processes["smtpd"].pid) if processes > 1 else []
                if found and round_.dice.random() < 0.5:
                    os.kill(round_.dice.choice(found), signal.SIGKILL)  # the supervisor replaces it
                    continue
                service.kill("smtpd")
                point = round_.dice.choice([None, *(one for one in POINTS if one.startswith("accept."))])
                service.start_smtpd(f"{point}:{round_.dice.randint(1, 9)}:kill" if point and processes == 1 else None)
            if service.processes["smtpd"].poll() is not None or processes == 1:  # a fault may still be armed
                service.kill("smtpd")
                service.start_smtpd()
        round_.settle(service)
        tried = ((load.unavailable, "times 4xx"), (load.failures, "broken connections"))
        round_.say(*(f"{count} {what}" for count, what in tried if count))
        round_.figures = check(_Known(service, load.ids), load.accepted)


class SmtpLoad(Load):
    """Submits each message until it gets 250. ``ids``: Message-IDs of clients → ids of messages."""

    def __init__(self, service: Service, size: int) -> None:
        super().__init__(service, size)
        asked = {"name": "chaos", "scopes": ["smtp"]}
        made = service.http.post(f"{service.url}/tenants/{DEFAULT_TENANT}/keys", json=asked, timeout=PATIENCE)
        assert made.status_code == 201, made.text
        self._key = str(made.json()["key"])
        self._mine = threading.local()
        self.ids: dict[str, str] = {}

    def send(self, *to: str, **more: object) -> str:
        """Submit one message until it gets 250; return its id.

        By turns the client gives it a Message-ID, as most do, or a key: repeated, both are known again.
        """
        own, marked = str(uuid4()), len(to[0]) % 2 == 0
        mark = f"Message-ID: <{own}@client.example.test>" if marked else f"X-MBG-Idempotency-Key: {own}"
        lines = ["From: load@example.test", f"To: {', '.join(to)}", "Subject: load", mark, ""]
        lines += [*textwrap.wrap(self._text, 998), ""]
        mail = "\r\n".join(lines).encode()
        while (identifier := self._submitted(to, mail)) is None:
            assert not self._over.wait(0.1), "given up"
        if marked:
            self.ids[own] = identifier
        self.accepted.update(dict.fromkeys(to, identifier))
        return identifier

    def _submitted(self, to: tuple[str, ...], mail: bytes) -> str | None:
        """Try once; return the message's id, None if the client has to try again."""
        try:
            client = self._connection()
            code, text = client.mail("load@example.test")
            for one in to:
                if code == 250:
                    code, text = client.rcpt(one)
            if code == 250:
                code, text = client.data(mail)
        except smtplib.SMTPResponseException as error:
            code, text = error.smtp_code, error.smtp_error if isinstance(error.smtp_error, bytes) else b""
        except OSError:  # smtplib's other errors are OSErrors, too
            code, text = 0, b""
        if code == 250:
            return text.decode().split()[-1]
        if getattr(self._mine, "client", None):
            self._mine.client.close()
        self._mine.client = None
        assert code < 500, (to, code, text)
        if code:
            self.unavailable += 1
        else:
            self.failures += 1
        return None

    def _connection(self) -> smtplib.SMTP:
        if getattr(self._mine, "client", None) is None:
            client = smtplib.SMTP("127.0.0.1", self._service.smtp_port, timeout=PATIENCE)
            try:
                client.login("chaos", self._key)
            except BaseException:
                client.close()
                raise
            self._mine.client = client
        kept: smtplib.SMTP = self._mine.client
        return kept


class _Known:
    """A service whose mails are called by the ids of their messages, whatever Message-ID the client gave them."""

    def __init__(self, service: Service, ids: Mapping[str, str]) -> None:
        self._service, self._ids = service, ids

    def __getattr__(self, name: str) -> Any:
        return getattr(self._service, name)

    def taken(self) -> list[dict[str, Any]]:
        """Return what the sink took."""
        return [one | {"id": f"<{self._id(one['id'][1:37])}@"} for one in self._service.taken()]

    def _id(self, found: str) -> UUID:
        return UUID(self._ids.get(found, found))
