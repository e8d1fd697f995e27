"""The thread that writes the counts of this process to its file."""

import logging
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

from mailbbgun.counters.counters import Counters
from mailbbgun.counters.files import OwnFile, read

#: Seconds between two looks whether anything was counted.
WRITE_SECONDS = 1.0

API, WORKER, SMTPD = "api", "worker", "smtpd"

log = logging.getLogger("mailbbgun.counters")


class Keeper:
    """Keeps the counts of this process in a file. Whatever is wrong with the folder is logged, and harms no mail."""

    def __init__(self, counters: Counters, folder: Path, role: str) -> None:
        self._counters, self._folder, self._role = counters, folder, role
        self._file: OwnFile | None = None
        self._written: dict[str, Any] = {}
        self._told = False  # whether it was logged that writing fails
        self._end = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    @property
    def id(self) -> str:
        """The id of this process's file; empty if it has none."""
        return self._file.id if self._file else ""

    def start(self) -> None:
        """Begin to write. Call it once, in the process that counts: after a fork, not before."""
        self.write()
        with suppress(OSError):  # which is logged above
            read(self._folder, (self._role,))  # it adds up those that have ended: maybe nobody ever scrapes
        self._thread = threading.Thread(target=self._run, name="counts", daemon=True)
        self._thread.start()

    def write(self) -> None:
        """Write now, if anything has changed."""
        with self._lock:
            told = self._counters.told()
            if self._file is not None and told == self._written:
                return
            try:
                self._file = self._file or OwnFile(self._folder, self._role)
                self._file.write(told)
            except OSError as error:
                if not self._told:
                    log.warning("counts_not_written", extra={"folder": str(self._folder), "error": str(error)})
                self._told = True
            else:
                self._written, self._told = told, False

    def close(self) -> None:
        """Write a last time, and say that this process has ended."""
        if self._thread is None:
            return
        self._end.set()
        self._thread.join()
        self.write()
        if self._file is not None:
            self._file.close()

    def _run(self) -> None:
        while not self._end.wait(WRITE_SECONDS):
            self.write()
