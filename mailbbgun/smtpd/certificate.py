"""The certificate of the door, which is read again when its file changes."""

import logging
import ssl
from pathlib import Path

from mailbbgun.core.errors import ConfigurationError

log = logging.getLogger("mailbbgun.smtpd")


class DoorCertificate:
    """A certificate with its key. :attr:`context` is for new connections."""

    def __init__(self, certificate: Path, key: Path) -> None:
        """Read the PEM files. Raises :class:`ConfigurationError`."""
        self._files = (certificate, key)
        self._seen = self._state()
        try:
            self.context = self._read()
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            raise ConfigurationError(f"the certificate {certificate} with the key {key}: {error}") from error

    def refresh(self) -> None:
        """Read the files again if they have changed. If they are no pair, the old certificate stays."""
        if (state := self._state()) == self._seen:
            return
        self._seen = state
        try:
            self.context = self._read()
        except (OSError, ValueError) as error:  # one of two files is written already: the next change comes soon
            log.warning("certificate_not_read", extra={"file": str(self._files[0]), "why": str(error)})
        else:
            log.info("certificate_read", extra={"file": str(self._files[0])})

    def _state(self) -> list[tuple[int, int, int]]:
        found = []
        for file in self._files:
            try:
                stat = file.stat()
            except OSError:
                found.append((0, 0, 0))
            else:
                found.append((stat.st_mtime_ns, stat.st_size, stat.st_ino))
        return found

    def _read(self) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        # Without a password, OpenSSL would ask for one at the terminal.
        context.load_cert_chain(*self._files, password=lambda: "")
        return context
