"""A service whose SMTP door is open, with keys for it."""

import smtplib
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mailbbgun.core.ids import DEFAULT_TENANT
from tests.flow.tried import Tried
from tests.smtp.authority import Authority
from tests.waiting import PATIENCE

#: The name in the door's certificate.
DOOR = "localhost"


class SmtpService(Tried):
    """A service with an SMTP door that has a certificate of ``authority``."""

    def __init__(self, *args: Any, authority: Authority, **overrides: object) -> None:
        self.ca_file = authority.ca_file
        super().__init__(*args, SMTPD_TLS_CERT=authority.issue(DOOR, "127.0.0.1"), **overrides)
        self.smtp_key = ""

    def __enter__(self) -> "SmtpService":
        super().__enter__()
        try:
            self.smtp_key = self.smtp_key_of("live")
            self.start_smtpd()
        except BaseException:
            self._end()
            raise
        return self

    def smtp_key_of(self, kind: str, **more: object) -> str:
        """Make a key with the scope smtp."""
        asked = {"name": f"smtp {kind}", "kind": kind, "scopes": ["smtp"]} | more
        made = self.http.post(f"{self.url}/tenants/{DEFAULT_TENANT}/keys", json=asked, timeout=PATIENCE)
        assert made.status_code == 201, made.text
        return str(made.json()["key"])

    @contextmanager
    def smtp(self, key: str | None = None) -> Iterator[smtplib.SMTP]:
        """Yield a connection by STARTTLS that has logged in, by default with the live key."""
        with smtplib.SMTP("127.0.0.1", self.smtp_port, timeout=PATIENCE) as client:
            client.starttls(context=ssl.create_default_context(cafile=self.ca_file))
            client.login("anybody", key or self.smtp_key)
            yield client

    def sent_to(self, address: str) -> dict[str, Any] | None:
        """Return the one message to an address, if there is one."""
        found = self.get(f"/messages?to={address}")["messages"]
        assert len(found) <= 1, found
        return found[0] if found else None

    def raw(self, identifier: str, key: str = "") -> bytes:
        """Return the MIME of a message."""
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        answer = self.http.get(f"{self.url}/messages/{identifier}/raw", headers=headers, timeout=PATIENCE)
        assert answer.status_code == 200, answer.text
        return answer.content


def private(folder: Path, name: str, text: str) -> Path:
    """Write a file that only we can read, such as one with a password."""
    file = folder / name
    file.touch(0o600)
    file.write_text(text)
    return file
