"""The verb: try an account now, while somebody waits, with a mail or without."""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP, SMTPUTF8
from email.utils import format_datetime
from uuid import UUID

from mailbbgun.base.errors import Unavailable
from mailbbgun.base.ids import new_id
from mailbbgun.base.net import Allowed, Guard
from mailbbgun.base.settings import Settings
from mailbbgun.smtp.endpoint import Timeouts
from mailbbgun.smtp.envelope import Envelope
from mailbbgun.smtp.probe import LIMIT, Probe, probe
from mailbbgun.smtp_accounts.book import endpoint
from mailbbgun.smtp_accounts.models import SMTPAccount
from mailbbgun.smtp_accounts.sender import trial_sender

MOST = 4  # at once in a process: each has a thread that other requests want
MOST_OF_TENANT = 2  # of these


class Trials:
    """Tries accounts, a few at once. Thread-safe."""

    def __init__(self, settings: Settings) -> None:
        self.guard = Guard(allowed=Allowed.read(settings.ALLOW_PRIVATE_HOSTS))
        self._settings = settings
        self._timeouts = Timeouts(**asdict(settings.SMTP_TIMEOUTS))
        self._lock = threading.Lock()
        self._running: Counter[UUID] = Counter()

    def run(self, tenant_id: UUID, account: SMTPAccount, password: str, to: str | None) -> Probe:
        """Try an account of a tenant's, which need not be saved, for up to :data:`LIMIT` seconds; send a mail to ``to`` if it is given.

        Raises :class:`Unavailable` while too many are being tried.
        """
        ca_file = self._settings.SMTP_CA_FILE or None
        with self._place(tenant_id):
            return probe(endpoint(account, password, self.guard, ca_file), self._settings.HOSTNAME, self._timeouts, self._mail(account, to), LIMIT)

    @contextmanager
    def _place(self, tenant_id: UUID) -> Iterator[None]:
        with self._lock:
            if self._running.total() >= MOST or self._running[tenant_id] >= MOST_OF_TENANT:
                raise Unavailable("Too many accounts are being tried just now.", retry_after=int(LIMIT))
            self._running[tenant_id] += 1
        try:
            yield
        finally:
            with self._lock:
                self._running[tenant_id] -= 1
                self._running += Counter()  # drops who has none

    def _mail(self, account: SMTPAccount, to: str | None) -> Envelope | None:
        if to is None:
            return None
        name, sender = trial_sender(account, account.smtp_username, self._settings.DEFAULT_FROM)
        mail_from = account.envelope_from or sender
        smtputf8 = not (sender + mail_from + to).isascii()
        mail = EmailMessage(policy=SMTPUTF8 if smtputf8 else SMTP)
        mail["From"], mail["To"] = _mailbox(name, sender), _mailbox("", to)
        mail["Subject"] = f"Test of {account.setting_name}"
        mail["Message-ID"] = f"<{new_id()}@{self._settings.HOSTNAME}>"
        mail["Date"] = format_datetime(datetime.now(UTC))
        mail.set_content(f"This mail left by the SMTP account {account.setting_name!r} of Mail BB Gun, which works.\n")
        return Envelope(mail_from, (to,), mail.as_bytes(), smtputf8)


def _mailbox(name: str, address: str) -> Address:
    local, _, domain = address.rpartition("@")
    return Address(name, local, domain)
