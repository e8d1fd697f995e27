"""The thread by which a process follows the runtime configuration."""

import logging
import threading
from collections.abc import Callable

from mailbbgun.core import logs
from mailbbgun.core.errors import DatabaseUnavailable
from mailbbgun.core.outages import Outages
from mailbbgun.database.db import Database
from mailbbgun.runtime import repo
from mailbbgun.runtime.live import LiveSettings

#: Seconds between two looks whether anything has changed.
LOOK_SECONDS = 1.0
#: The name of this work where outages are counted.
TASK = "settings"

log = logging.getLogger("mailbbgun.runtime")


class RuntimeFollower:
    """Keeps the settings of one process as the database has them. While that is away, they stay as they are."""

    def __init__(
        self,
        database: Database,
        live: LiveSettings,
        outages: Outages,
        *,
        ready: Callable[[], bool] = lambda: True,
        restart: Callable[[], None] | None = None,
    ) -> None:
        """``ready`` says whether the database may be used.

        ``restart`` is called when somebody asked the SMTP door to restart after this process has started.
        """
        self.live = live
        self._database, self._outages, self._ready, self._restart = database, outages, ready, restart
        self._seen: repo.Version | None = None
        self._told = self._failed = ""
        self._looking = threading.Lock()
        self._end = threading.Event()
        self._thread: threading.Thread | None = None
        live.then(self._log_as_told)

    def look(self) -> None:
        """Use the settings that the database has now. Raises :class:`DatabaseUnavailable`."""
        with self._looking:
            with self._database.read() as session:
                now = repo.version(session)
                if now == self._seen:
                    return
                changes = None
                if self._seen is None or now.version != self._seen.version:
                    changes = repo.changes(session)
            if changes is not None:
                changed, why = self.live.put(changes)
                self._tell(changed, why)
            before, self._seen = self._seen, now
        if before is not None and now.smtpd_restarts != before.smtpd_restarts and self._restart is not None:
            self._restart()

    def look_if_possible(self) -> None:
        """Do what :meth:`look` does, unless the database is away."""
        if not self._ready():
            return
        try:
            self.look()
            self._outages.worked("database", TASK)
        except DatabaseUnavailable as error:
            self._outages.failed(TASK, error)

    def start(self) -> None:
        """Begin to follow. Call it in the process that works: after a fork, not before."""
        self._thread = threading.Thread(target=self._run, name="settings", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Follow no more."""
        self._end.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(LOOK_SECONDS)

    def _run(self) -> None:
        while not self._end.wait(LOOK_SECONDS):
            try:
                self.look_if_possible()
            except Exception as error:  # a bug of ours, or tables of another version: the settings stay as they are
                if str(error) != self._failed:
                    log.exception("settings_not_followed")
                self._failed = str(error)

    def _tell(self, changed: frozenset[str], why: str) -> None:
        if changed:
            log.info("settings_changed", extra={"names": ",".join(sorted(changed))})
        if why and why != self._told:
            log.error("settings_not_used", extra={"why": why, "meanwhile": "the file's values are used"})
        self._told = why

    def _log_as_told(self, changed: frozenset[str]) -> None:
        if "LOG_LEVEL" in changed:
            logs.set_level(self.live.used.LOG_LEVEL)
