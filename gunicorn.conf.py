"""gunicorn's settings, from ours. gunicorn reads this file in the working folder by itself; GUNICORN_CMD_ARGS and its options win."""

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

from mailbbgun.environment import STOPPING, end_when_told

early = queue.SimpleQueue()  # each SIGHUP that came before gunicorn has its handlers
if signal.getsignal(signal.SIGHUP) == signal.SIG_DFL:
    signal.signal(signal.SIGHUP, lambda number, _frame: early.put(number))
end_when_told(STOPPING)  # until gunicorn has them; when this file is read anew, it has

from gunicorn import glogging

from mailbbgun.app import close
from mailbbgun.core import faults, logs
from mailbbgun.core.errors import MailBBGunError, explained
from mailbbgun.core.process import end_undisturbed, explained_exit, few_arenas, gc_from_here, no_core_dumps
from mailbbgun.exposure import check_exposure, taken
from mailbbgun.preflight import address_of, check_again, preflight
from mailbbgun.settings import running
from mailbbgun.settings.settings import load

with explained_exit("api"):
    ours = running.current().settings  # read now; on SIGHUP, those that load_anew() has read and found right
    faults.arm()
gc_from_here()
few_arenas()  # before the fork: processes inherit it
no_core_dumps()
logs.configure(ours.LOG_LEVEL, ours.LOG_FORMAT)


class logger_class(glogging.Logger):
    """gunicorn's own lines in the form of ours."""

    def setup(self, cfg):
        """Leave printing to the root logger."""
        super().setup(cfg)
        self.error_log.handlers.clear()
        self.error_log.propagate = True


bind = address_of(ours)
worker_class = "mailbbgun.server.worker.GunicornWorker"
workers = ours.api_processes
threads = ours.API_THREADS
timeout = 60  # for the process as a whole: a thread that is busy does not hold up the others
graceful_timeout = 30
keepalive = 75  # longer than proxies keep theirs, so that it is they who close
limit_request_line = 8190
limit_request_fields = 100
limit_request_field_size = 8190
control_socket_disable = True
forwarded_allow_ips = ""  # whom to believe about the client is PROXIES' business: gunicorn itself would believe whoever is on this machine


def on_starting(server):
    """Stop with one line if something is not as it must be."""
    addresses = [address for address in server.cfg.address if isinstance(address, tuple)]
    inherited = {"GUNICORN_FD", "LISTEN_FDS"} & os.environ.keys()  # sockets that are open already
    with explained_exit("api"):
        check_exposure([host for host, *_ in addresses], ours)
        refused = [] if inherited else [why for host, port, *_ in addresses if (why := taken(host, port, "PORT"))]
        if refused:
            sys.exit(f"api: {refused[0]}")
        running.keep(ours, database_found=preflight(ours))
    server.handle_hup = partial(load_anew, server)


def when_ready(server):
    """Heed a SIGHUP that came early: the settings may have changed since we read them."""
    while not early.empty():
        server.SIG_QUEUE.put(early.get())


def load_anew(server):
    """Load the settings anew, as SIGHUP asks for. If they are wrong, say so and go on with the old ones: gunicorn alone would end."""
    try:
        new = load()
        found = check_again(new, running.current().settings, list(server.cfg.bind))
    except MailBBGunError as error:
        logging.getLogger("mailbbgun.api").error(
            "settings_not_loaded", extra={"why": explained(error), "meanwhile": "the API goes on with the settings it had"}
        )
        return
    running.keep(new, database_found=found)
    type(server).handle_hup(server)


def post_fork(server, _worker):
    """Let a process that is only starting be stopped: it has inherited handlers that queue signals for a master it is not."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)
    while not server.SIG_QUEUE.empty():
        if (number := server.SIG_QUEUE.get()) in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
            signal.raise_signal(number)


def post_worker_init(worker):
    """Let SIGHUP end a process gracefully, and be replaced: gunicorn leaves it deadly, and a terminal that closes sends it to all of a group."""
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        signal.signal(signal.SIGHUP, worker.handle_exit)


def on_exit(_server):
    """Let the exit code be what it is to be: all has been stopped."""
    end_undisturbed()


def worker_exit(_server, worker):
    """Hand over what is waiting and close every connection."""
    if (app := getattr(worker, "wsgi", None)) is not None:  # told to stop before it had one, it has none
        close(app)
