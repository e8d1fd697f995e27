"""Configures gunicorn from the settings of Mail BB Gun.

gunicorn reads this file from the working folder by itself. GUNICORN_CMD_ARGS and command-line
options override it.
"""

import gc
import logging
import os
import queue
import signal
import sys
from functools import partial
from pathlib import Path

gc.disable()  # while modules are loaded
sys.path.insert(0, str(Path(__file__).resolve().parent))

from mailbbgun.environment import STOPPING, end_when_told, say_if_closed

early = queue.SimpleQueue()  # each SIGHUP that comes before gunicorn has its handlers
if signal.getsignal(signal.SIGHUP) == signal.SIG_DFL:
    signal.signal(signal.SIGHUP, lambda number, _frame: early.put(number))
end_when_told(STOPPING)  # until gunicorn has its handlers; it has them when it reads this file again

say_if_closed("api")

from gunicorn import glogging

from mailbbgun.app import begin, close
from mailbbgun.core import faults, logs
from mailbbgun.core.errors import MailBBGunError, explained
from mailbbgun.core.process import end_undisturbed, explained_exit, few_arenas, gc_from_here, no_core_dumps
from mailbbgun.exposure import check_exposure, taken
from mailbbgun.preflight import address_of, check_again, preflight
from mailbbgun.settings import running
from mailbbgun.settings.load import load

with explained_exit("api"):
    ours = running.current().settings  # read now; after SIGHUP, those that load_anew() has checked
    faults.arm()
gc_from_here()
few_arenas()  # before the fork, so that processes inherit it
no_core_dumps()
logs.configure(ours.LOG_LEVEL, ours.LOG_FORMAT)


class logger_class(glogging.Logger):
    """Writes gunicorn's own log lines in our format."""

    def setup(self, cfg):
        """Leave printing to the root logger."""
        super().setup(cfg)
        self.error_log.handlers.clear()
        self.error_log.propagate = True
        self.error_log.setLevel(logging.NOTSET)  # LOG_LEVEL decides


bind = address_of(ours)
worker_class = "mailbbgun.server.worker.GunicornWorker"
workers = ours.api_processes
threads = ours.API_THREADS
# Seconds without a sign of life from the whole process. A busy thread does not delay the others.
timeout = 60
graceful_timeout = 30
# Seconds. Longer than proxies keep idle connections, so that the proxy closes first.
keepalive = 75
limit_request_line = 8190
limit_request_fields = 100
limit_request_field_size = 8190
control_socket_disable = True
# PROXIES decides which proxies are trusted. gunicorn by itself would trust any program on this
# machine.
forwarded_allow_ips = ""


def on_starting(server):
    """Refuse to start, with one line, if the installation is not usable."""
    addresses = [address for address in server.cfg.address if isinstance(address, tuple)]
    inherited = {"GUNICORN_FD", "LISTEN_FDS"} & os.environ.keys()  # set when gunicorn inherits open sockets
    with explained_exit("api"):
        check_exposure([host for host, *_ in addresses], ours)
        refused = [] if inherited else [why for host, port, *_ in addresses if (why := taken(host, port, "PORT"))]
        if refused:
            sys.exit(f"api: {refused[0]}")
        running.keep(ours, database_found=preflight(ours))
    server.handle_hup = partial(load_anew, server)


def when_ready(server):
    """Handle each SIGHUP that came early: the settings may have changed since we read them."""
    while not early.empty():
        server.SIG_QUEUE.put(early.get())


def load_anew(server):
    """Load the settings again after a SIGHUP.

    If they are wrong, log that and go on with the old ones. Without this function gunicorn would
    end.
    """
    try:
        new = load()
        found = check_again(new, running.current().settings, list(server.cfg.bind))
    except MailBBGunError as error:
        logging.getLogger("mailbbgun.api").error(
            "settings_not_loaded",
            extra={"why": explained(error), "meanwhile": "the API goes on with the settings it had"},
        )
        return
    running.keep(new, database_found=found)
    type(server).handle_hup(server)


def post_fork(server, _worker):
    """Let a process be stopped while it starts.

    It has inherited signal handlers that only queue signals for the master process.
    """
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)
    while not server.SIG_QUEUE.empty():
        if (number := server.SIG_QUEUE.get()) in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
            signal.raise_signal(number)


def post_worker_init(worker):
    """Let SIGHUP end a process gracefully, after which the master replaces it. Begin to keep counts.

    By default SIGHUP kills it, and a terminal that closes sends SIGHUP to the whole process group.
    """
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        signal.signal(signal.SIGHUP, worker.handle_exit)
    begin(worker.wsgi)


def on_exit(_server):
    """Keep the exit code: from now on, no signal may change it."""
    end_undisturbed()


def worker_exit(_server, worker):
    """Publish the hints that are left, and close every connection."""
    # A process that is stopped before it has loaded the application has no wsgi.
    if (app := getattr(worker, "wsgi", None)) is not None:
        close(app)
