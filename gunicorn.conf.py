"""gunicorn's settings, from ours. gunicorn reads this file in the working folder by itself; GUNICORN_CMD_ARGS and its options win."""

import gc
import os
import signal
import sys
from pathlib import Path

from gunicorn import glogging

gc.disable()  # while modules are loaded

sys.path.insert(0, str(Path(__file__).resolve().parent))

from mailbbgun.app import close, preflight
from mailbbgun.core import faults, logs
from mailbbgun.core.process import explained_exit, few_arenas, gc_from_here, no_core_dumps
from mailbbgun.exposure import check_exposure, taken
from mailbbgun.settings.settings import load

with explained_exit("api"):
    ours = load()
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


bind = f"[{ours.HOST}]:{ours.PORT}" if ":" in ours.HOST else f"{ours.HOST}:{ours.PORT}"
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
        preflight(ours)


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


def worker_exit(_server, worker):
    """Hand over what is waiting and close every connection."""
    if (app := getattr(worker, "wsgi", None)) is not None:  # told to stop before it had one, it has none
        close(app)
