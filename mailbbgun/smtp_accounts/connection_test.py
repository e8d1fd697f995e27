"""Tests the connection of an account while the request waits, with or without a test mail."""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Protocol
from uuid import UUID

from mailbbgun.core.errors import Unavailable
from mailbbgun.core.ids import new_id
from mailbbgun.core.net import Allowed, Guard
from mailbbgun.relays.probe import LIMIT, Probe, probe
from mailbbgun.settings.settings import Settings
from mailbbgun.smtp.endpoint import Timeouts
from mailbbgun.smtp.envelope import Envelope
from mailbbgun.smtp_accounts.cache import endpoint
from mailbbgun.smtp_accounts.models import SMTPAccount
from mailbbgun.smtp_accounts.sender import test_mail_sender

#: Most tests at once in one process, and of these for one tenant.
MOST = 4
MOST_OF_TENANT = 2


def most_at_once(threads: int) -> int:
    """Return how many tests a process with so many threads may run at once.

    Each test occupies a thread; at least half of the threads stay free for other requests.
    """
    return min(MOST, threads // 2)


class Compose(Protocol):
    """Composes a mail in plain text from one address to another. No text can become a header."""

    def __call__(
        self, *, name: str, sender: str, to: str, subject: str, text: str, message_id_header: str, date: datetime
    ) -> bytes:
        """Return the message. Raises :class:`InvalidInput`."""


class ConnectionTests:
    """Runs connection tests, a few at once. Thread-safe."""

    def __init__(self, settings: Settings, compose: Compose) -> None:
        """``compose`` makes the test mails."""
        self._compose = compose
        self.guard = Guard(allowed=Allowed.read(settings.ALLOW_PRIVATE_HOSTS))
        self._settings = settings
        self._timeouts = Timeouts(**asdict(settings.SMTP_TIMEOUTS))
        self._lock = threading.Lock()
        self._running: Counter[UUID] = Counter()
        self._most = most_at_once(settings.API_THREADS)

    def run(self, tenant_id: UUID, account: SMTPAccount, password: str, to: str | None) -> Probe:
        """Test an account, saved or not, for up to :data:`LIMIT` seconds.

        Also sends a test mail to ``to`` if given.

        Raises :class:`Unavailable` while too many tests are running, and always if the process has
        only one thread, which other requests need.
        """
        ca_file = self._settings.SMTP_CA_FILE or None
        with self._place(tenant_id):
            return probe(
                endpoint(account, password, self.guard, ca_file),
                self._settings.HOSTNAME,
                self._timeouts,
                self._mail(account, to),
                LIMIT,
            )

    @contextmanager
    def _place(self, tenant_id: UUID) -> Iterator[None]:
        if not self._most:
            raise Unavailable(
                "With API_THREADS = 1 no account can be tried: all other requests would wait for the test. "
                "The sysadmin may set 2 or more.",
                retry_after=int(LIMIT),
            )
        with self._lock:
            if self._running.total() >= self._most or self._running[tenant_id] >= MOST_OF_TENANT:
                raise Unavailable("Too many accounts are being tried just now.", retry_after=int(LIMIT))
            self._running[tenant_id] += 1
        try:
            yield
        finally:
            with self._lock:
                self._running[tenant_id] -= 1
                self._running += Counter()  # drops tenants without a running test

    def _mail(self, account: SMTPAccount, to: str | None) -> Envelope | None:
        if to is None:
            return None
        name, sender = self.sender(account)
        raw = self._compose(
            name=name,
            sender=sender,
            to=to,
            subject=f"Test of {account.setting_name}",
            text=f"This mail left by the SMTP account {account.setting_name!r} of Mail BB Gun, which works.\n",
            message_id_header=f"<{new_id()}@{self._settings.HOSTNAME}>",
            date=datetime.now(UTC),
        )
        mail_from = account.envelope_from or sender
        return Envelope(mail_from, (to,), raw, smtputf8=not (sender + mail_from + to).isascii())

    def sender(self, account: SMTPAccount) -> tuple[str, str]:
        """Return the name and the address in From of an account's test mail."""
        return test_mail_sender(account, account.smtp_username, self._settings.DEFAULT_FROM)
