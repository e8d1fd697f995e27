"""The gunicorn worker: a process that starts, serves, and stops when it is told to."""

import os
import socket
import sys
import time
from dataclasses import replace
from functools import partial
from typing import Any

from gunicorn.workers.base import Worker as BaseWorker  # type: ignore[import-untyped]  # it has no types

from mailbbgun.accept.quick import Quick
from mailbbgun.core.process import explained_exit
from mailbbgun.http.provided import EXTENSION
from mailbbgun.server.accepting import Listeners
from mailbbgun.server.bodies.spool import SpoolFolder, SpoolThread
from mailbbgun.server.client_limits import KERNEL_BUFFER, ServerLimits, check_gunicorn, limits_of, permit_files
from mailbbgun.server.clients import Clients
from mailbbgun.server.poller import Poller
from mailbbgun.server.serving import Serving
from mailbbgun.settings import running

#: Seconds that a computing thread keeps the interpreter lock when the poller waits for it. With
#: Python's default, 5 ms, sixteen such threads would make the poller wait for a tenth of a second
#: whenever it returns from the kernel.
_SWITCH_SECONDS = 0.0005

#: Seconds between two checks of deadlines, and of gunicorn's master process.
_LOOK_SECONDS = 0.5

#: Seconds of gunicorn's graceful_timeout that are left for closing the application.
_CLOSE_SECONDS = 8.0


class GunicornWorker(BaseWorker):  # type: ignore[misc]  # no types
    """A gunicorn worker. ``server/__init__.py`` says what it promises."""

    alive: bool

    @classmethod
    def check_config(cls, cfg: Any, _log: Any) -> None:
        """Exit with one line if gunicorn has settings that this worker does not support."""
        with explained_exit("api"):
            check_gunicorn(cfg)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.script_name = os.environ.get("SCRIPT_NAME", "")
        self.quick: Quick | None = None
        self._poller: Poller | None = None

    def load_wsgi(self) -> None:
        """Load the application, and the quick way.

        The quick way is off if a hook, an access log or statsd wants to see each request.
        """
        super().load_wsgi()
        hooks = all(
            self.cfg.settings[hook].get() is self.cfg.settings[hook].default for hook in ("pre_request", "post_request")
        )
        if hooks and not self.log.access_log_enabled and not self.cfg.statsd_host and not self.script_name:
            self.quick = getattr(self.wsgi, "extensions", {}).get(EXTENSION, {}).get(Quick)

    def handle_exit(self, _signal: int, _frame: Any) -> None:
        """Begin to stop."""
        self.alive = False
        if self._poller is not None:
            self._poller.call(lambda: None)

    def run(self) -> None:
        """Serve until told to stop; then finish requests, within gunicorn's graceful_timeout."""
        sys.setswitchinterval(_SWITCH_SECONDS)
        self._poller = poller = Poller(partial(self.log.exception, "Error in the poller"))
        settings = running.current().settings
        limits = limits_of(settings, self.cfg.keepalive)
        spools = SpoolThread(SpoolFolder(settings.spool_folder, limits.spools), poller.call)
        serving = Serving(self, self.quick, poller, spools)
        serving.clients = clients = Clients(self.cfg, self._possible(limits), poller, serving, self.log, spools)
        for listener in self.sockets:
            listener.setblocking(False)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, KERNEL_BUFFER)  # connections inherit it
        listeners = Listeners(poller, clients, self.sockets)
        listeners.open()
        looked, more_to_end = 0.0, False
        while self.alive:
            poller.turn(0 if more_to_end else _LOOK_SECONDS)
            serving.begin_together()
            if more_to_end:
                more_to_end = clients.end_late()
            if (now := time.monotonic()) - looked >= _LOOK_SECONDS:
                looked = now
                self.notify()
                listeners.open()  # those that were shut because there were no file descriptors
                if (new := limits_of(settings, self.cfg.keepalive)) != limits:  # somebody changed a setting
                    limits = new
                    clients.limit(self._possible(limits))
                more_to_end = clients.end_late()
                if self.ppid != os.getppid():
                    self.log.info("Parent changed, shutting down: %s", self)
                    break
        listeners.shut()
        self._drain(poller, serving, clients)
        spools.close()

    def _drain(self, poller: Poller, serving: Serving, clients: Clients) -> None:
        # gunicorn's master kills us after graceful_timeout. Before that, the application must be
        # closed: it publishes the hints that are left.
        end = time.monotonic() + max(self.cfg.graceful_timeout - _CLOSE_SECONDS, self.cfg.graceful_timeout / 2)
        poller.turn(0)  # reads requests that are here already: their connections are not idle
        serving.begin_together()
        clients.stop()
        while len(clients) and time.monotonic() < end:
            self.notify()
            poller.turn(0.1)
            serving.begin_together()
            clients.end_late()
        clients.close_all()
        serving.close()
        poller.close()
        for listener in self.sockets:
            listener.close()

    def _possible(self, limits: ServerLimits) -> ServerLimits:
        """Return the limits with as many connections as this process may open files for."""
        permitted = permit_files(limits.connections)
        if permitted < limits.connections:
            self.log.warning(
                "API_CONNECTIONS: this process may open files for %d connections only, not %d; "
                "raise its limit (ulimit -n, LimitNOFILE)",
                permitted,
                limits.connections,
            )
        return replace(limits, connections=permitted)
