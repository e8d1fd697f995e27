"""Webhooks are sent by a child process, so that they do not take turns with mail in one interpreter.

The child runs only while there are endpoints, and one is enough for all worker processes of a machine.
"""

import contextlib
import fcntl
import logging
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from uuid import UUID, uuid4

from sqlalchemy import select

from mailbbgun.core.errors import DatabaseUnavailable
from mailbbgun.core.process import next_event, on_stop, rare_collections
from mailbbgun.counters.keeping import WORKER, Keeper
from mailbbgun.database.compiled import CompiledStatement
from mailbbgun.services import Services
from mailbbgun.settings.paths import PROJECT
from mailbbgun.supervisor import REST, YOUNG
from mailbbgun.webhooks.models import ENDPOINTS
from mailbbgun.webhooks.serving import progress
from mailbbgun.webhooks.serving.thread import WebhookServing

#: Seconds between two looks for enabled endpoints.
LOOK_SECONDS = 1.0

#: Seconds without an enabled endpoint after which the child is ended.
UNUSED_SECONDS = 30.0

#: Seconds that the child may take to end.
ENDING_SECONDS = 30.0

#: Added to our niceness for the child. The kernel still gives it every core that is idle, but where there is none,
#: mail goes first: an event may wait, and mail must not.
NICE = 15

log = logging.getLogger("mailbbgun.worker")


class WebhooksChild:
    """The parent's side: it runs the child while there are endpoints, until ``stop`` is set."""

    def __init__(self, services: Services, stop: threading.Event) -> None:
        self._services, self._stop = services, stop
        self._deaths = 0  # in a row, each soon after the start

    def run(self) -> None:
        """Look for endpoints. Run the child while there are any, and replace it if it dies."""
        while not self._stop.wait(LOOK_SECONDS):
            try:
                self._look()
            except OSError as error:  # VAR is full, or read-only
                log.warning("webhooks_not_started", extra={"error": str(error), "retry_in": REST[-1]})
                self._stop.wait(REST[-1])
            except Exception:  # it ends neither the thread nor the worker, which sends mail
                log.exception("webhooks_failed", extra={"retry_in": REST[-1]})
                self._stop.wait(REST[-1])

    def _look(self) -> None:
        with _only_one(self._services.settings.var / "webhooks.lock") as ours:
            if ours and self._wanted(unless_known=False):
                self._stop.wait(self._serve())

    def _wanted(self, *, unless_known: bool) -> bool:
        """Return whether there is an enabled endpoint; ``unless_known`` while the database is away."""
        try:
            found = bool(self._services.db.find(_any_enabled(), {}))
        except DatabaseUnavailable as error:
            self._services.outages.failed("webhooks", error)
            return unless_known
        self._services.outages.worked("database", "webhooks")
        return found

    def _serve(self) -> float:
        """Run a child until it is not wanted or dies; return for how many seconds to rest then."""
        owner, began = uuid4(), time.monotonic()
        told = ["--webhooks", "--owner", str(owner), "--parent", str(os.getpid())]
        try:
            # In a process group of its own: otherwise a Ctrl-C would stop it twice, once through us.
            child = subprocess.Popen([sys.executable, "-m", "mailbbgun.worker", *told], cwd=PROJECT, process_group=0)
        except OSError as error:  # no memory, no room for another process
            log.error("webhooks_not_started", extra={"error": str(error), "retry_in": REST[-1]})
            return REST[-1]
        _yield_to_mail(child)
        try:
            unwanted = self._until_unwanted(child)
        finally:
            if _ended(child):
                self._release(owner)
        if unwanted:
            self._deaths = 0
            return 0.0
        if time.monotonic() - began > YOUNG:
            self._deaths = 0
        rest = REST[min(self._deaths, len(REST) - 1)]
        self._deaths += 1
        died = {"webhooks_pid": child.pid, "exit_code": child.returncode, "replaced_in": rest}
        log.error("webhooks_died", extra=died)
        return rest

    def _until_unwanted(self, child: "subprocess.Popen[bytes]") -> bool:
        """Wait until the child is to be ended; return False if it has ended by itself."""
        wanted_at = time.monotonic()
        while child.poll() is None:
            if self._stop.wait(LOOK_SECONDS):
                return True
            if self._wanted(unless_known=True):
                wanted_at = time.monotonic()
            elif time.monotonic() - wanted_at > UNUSED_SECONDS:
                return True
        return self._stop.is_set()  # systemd may stop both at once

    def _release(self, owner: UUID) -> None:
        """End the leases of a child that is dead, so that the next one need not wait for their end."""
        with contextlib.suppress(DatabaseUnavailable), self._services.db.write() as session:
            progress.release(session, owner)


def _ended(child: "subprocess.Popen[bytes]") -> int:
    """Let the child end, and return its exit code. It waits for the last answers, and gives its endpoints back."""
    child.terminate()
    try:
        return child.wait(ENDING_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()
        return child.wait()


def _yield_to_mail(child: "subprocess.Popen[bytes]") -> None:
    try:
        os.setpriority(os.PRIO_PROCESS, child.pid, os.getpriority(os.PRIO_PROCESS, 0) + NICE)
    except ProcessLookupError:  # it has ended already
        return
    except OSError as error:  # a filter of system calls
        log.warning("webhooks_not_niced", extra={"webhooks_pid": child.pid, "error": str(error)})


def serve_webhooks(services: Services, owner: UUID) -> int:
    """Send webhooks in this process, the child, until told to stop; return the exit code.

    ``owner`` owns the leases of endpoints.
    """
    ended: queue.SimpleQueue[int] = queue.SimpleQueue()
    on_stop(lambda: ended.put(0))
    threading.excepthook = lambda args: _died(args, ended)
    stop = threading.Event()
    serving = WebhookServing(services, owner, stop)
    keeper = Keeper(services.counters, services.settings.counters_folder, WORKER)
    rare_collections()
    thread = threading.Thread(target=serving.run, name="webhooks", daemon=True)
    thread.start()
    keeper.start()
    log.info("webhooks_started", extra={"webhooks_pid": os.getpid()})
    code = next_event(ended)
    stop.set()
    thread.join()
    keeper.close()
    log.info("webhooks_stopped", extra={"webhooks_pid": os.getpid()})
    return code


def _died(args: threading.ExceptHookArgs, ended: "queue.SimpleQueue[int]") -> None:
    log.critical("thread_died", exc_info=args.exc_value, extra={"of": args.thread.name if args.thread else None})
    ended.put(1)


@contextlib.contextmanager
def _only_one(path: Path) -> Iterator[bool]:
    """Lock a file of this machine, for one worker process at a time; yield whether it is ours.

    The kernel gives the lock back when its process ends, however that happens. Raises OSError if there can be no file.
    """
    file = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        ours = True
    except OSError:
        ours = False
    try:
        yield ours
    finally:
        os.close(file)


@cache
def _any_enabled() -> CompiledStatement:
    return CompiledStatement(select(ENDPOINTS.c.id).where(ENDPOINTS.c.enabled).limit(1), of_all_tenants=True)
