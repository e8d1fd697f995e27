"""Looks at the content of a received message: for viruses by ClamAV, for spam by rspamd, if they are configured."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Self

from mailbbgun.core.errors import ScannerUnavailable
from mailbbgun.safety.scanner import Scanner, ScannerTurns
from mailbbgun.settings.settings import Settings
from mailbbgun.verification.rspamd import MailOrigin, Rspamd, SpamFilterUnavailable, SpamVerdict

log = logging.getLogger(__name__)

_BLOCK = 65_536

#: Seconds that a message waits for its turn at the virus scanner.
_TURN_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class ContentVerdict:
    """What was found.

    ``virus`` is its name. ``deferred`` says why the message cannot be judged now and has to come again; empty if it
    can. ``unchecked`` says what could not be asked, and went on without.
    """

    virus: str = ""
    spam: SpamVerdict | None = None
    deferred: str = ""
    unchecked: tuple[str, ...] = ()

    @property
    def fields(self) -> dict[str, str]:
        """The fields that a message gets before its header, by name."""
        if self.spam is None:
            return {}
        return {
            "X-Spam-Score": f"{self.spam.score:g} / {self.spam.required:g}",
            "X-Spam-Flag": "NO" if self.spam.action in ("accept", "defer") else "YES",
        }


class ContentScan:
    """Asks the virus scanner and the spam filter. Thread-safe. Make one for a process."""

    def __init__(
        self,
        scanner: Scanner | None,
        rspamd: Rspamd | None,
        *,
        scanner_down: Literal["hold", "reject", "allow"] = "hold",
        rspamd_down: Literal["accept", "defer"] = "accept",
    ) -> None:
        self._scanner, self._rspamd, self._turns = scanner, rspamd, ScannerTurns()
        self._scanner_down, self._rspamd_down = scanner_down, rspamd_down

    @classmethod
    def of(cls, settings: Settings, scanner: Scanner | None) -> Self:
        """Return the scan that the settings ask for. Raises :class:`ConfigurationError`."""
        url = settings.RSPAMD_URL
        rspamd = Rspamd(url, settings.RSPAMD_SECONDS, settings.HTTP_CA_FILE) if url else None
        return cls(scanner, rspamd, scanner_down=settings.SCANNER_DOWN, rspamd_down=settings.RSPAMD_DOWN)

    def scan(self, raw: bytes, origin: MailOrigin) -> ContentVerdict:
        """Return what is found in a message. It waits for servers, so call it in a thread.

        A message with a virus is not shown to the spam filter.
        """
        unchecked = []
        try:
            if virus := self._virus(raw):
                return ContentVerdict(virus)
        except ScannerUnavailable as error:
            log.warning("received_mail_unscanned", extra={"error": str(error)})
            if self._scanner_down != "allow":  # a message on its way can be held only by its sender
                return ContentVerdict(deferred="The virus scanner does not answer. Try again later.")
            unchecked.append("virus scanner")
        try:
            spam = self._rspamd.check(raw, origin) if self._rspamd else None
        except SpamFilterUnavailable as error:
            log.warning("spam_filter_unavailable", extra={"error": str(error)})
            if self._rspamd_down == "defer":
                return ContentVerdict(deferred="The spam filter does not answer. Try again later.")
            return ContentVerdict(unchecked=(*unchecked, "spam filter"))
        return ContentVerdict(spam=spam, unchecked=tuple(unchecked))

    def close(self) -> None:
        """Close all connections."""
        if self._rspamd:
            self._rspamd.close()

    def _virus(self, raw: bytes) -> str:
        """Return the name of a virus, or why the message cannot be scanned; empty if it is clean."""
        if self._scanner is None:
            return ""
        with self._turns.one(_TURN_SECONDS):
            verdict = self._scanner.scan(_blocks(raw))
        return "" if verdict.state == "clean" else verdict.words or verdict.state


def _blocks(raw: bytes) -> Iterator[bytes]:
    return (raw[start : start + _BLOCK] for start in range(0, len(raw), _BLOCK))
