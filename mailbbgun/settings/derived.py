"""Values that follow from the settings."""

import os
from pathlib import Path

from mailbbgun.settings import urls


class Derived:
    """The base of :class:`Settings`, which has the fields."""

    __slots__ = ()

    VAR: str
    DATABASE_URL: str
    SMTP_URL: str
    API_PROCESSES: int
    WORKER_PROCESSES: int
    SMTPD_PROCESSES: int
    MAX_BODY_SIZE: int
    MAX_FILE_SIZE: int
    MAX_FILES_PER_REQUEST: int

    @property
    def all_caught(self) -> bool:
        """Whether all mail goes to the catcher, and not only mail of test keys."""
        return urls.scheme_of(self.SMTP_URL) == "catcher"

    @property
    def direct_mx(self) -> bool:
        """Whether mail goes straight to the mail exchangers of each recipient's domain."""
        return urls.scheme_of(self.SMTP_URL) == "mx"

    @property
    def max_upload_size(self) -> int:
        """The largest body of a request with files."""
        return self.MAX_FILES_PER_REQUEST * self.MAX_FILE_SIZE + self.MAX_BODY_SIZE

    @property
    def var(self) -> Path:
        """The folder VAR."""
        return Path(self.VAR)

    @property
    def api_processes(self) -> int:
        """How many API processes to run."""
        return self.API_PROCESSES or self._cores()

    @property
    def worker_processes(self) -> int:
        """How many worker processes to run."""
        return self.WORKER_PROCESSES or self._cores()

    @property
    def smtpd_processes(self) -> int:
        """How many processes of the SMTP door to run."""
        return self.SMTPD_PROCESSES or self._cores()

    def _cores(self) -> int:
        """Return the default number of processes: one for each core, with bounds."""
        return 1 if self.DATABASE_URL.startswith("sqlite") else min(4, len(os.sched_getaffinity(0)))

    @property
    def journal_folder(self) -> Path:
        """Where workers keep their journals."""
        return self.var / "journal"

    @property
    def counters_folder(self) -> Path:
        """Where processes keep what they count, for ``GET /metrics``."""
        return self.var / "metrics"

    @property
    def spool_folder(self) -> Path:
        """Where uploads are kept while they come, and large messages and responses until they are sent."""
        return self.var / "spool"
