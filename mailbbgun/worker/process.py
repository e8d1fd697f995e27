"""One worker process: its threads, how they start, and how it ends."""

import logging
import os
import queue
import threading
import time
from collections.abc import Callable

from mailbbgun.core.errors import DatabaseUnavailable
from mailbbgun.core.process import next_event, on_stop
from mailbbgun.database.engines import SQLITE_BUSY_SECONDS
from mailbbgun.deliver import workers
from mailbbgun.deliver.claim import Transaction
from mailbbgun.deliver.context import WorkerContext
from mailbbgun.deliver.deliver import give_back
from mailbbgun.routing.send_queue import ROOM_PER_CONNECTION, SendQueue
from mailbbgun.services import Services
from mailbbgun.smtp_accounts import repo as accounts
from mailbbgun.sweep.mend import Mender
from mailbbgun.worker.intake import Intake
from mailbbgun.worker.isolated import Isolated
from mailbbgun.worker.periodic import Periodic
from mailbbgun.worker.senders import Senders

#: Seconds to write the last results at shutdown.
FLUSH_SECONDS = 10.0

#: Seconds at least that a claim which has begun may take to come back.
_CLAIM_SECONDS = SQLITE_BUSY_SECONDS + 5.0

log = logging.getLogger("mailbbgun.worker")


class WorkerProcess:
    """One worker process. Its jobs, by the name of their thread, are in ``jobs``."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._settings = services.settings
        self._stop = threading.Event()  # claim nothing more, and begin to send nothing more
        self._nothing_held = threading.Event()  # the last result is written
        # Signal handlers may take no lock, as an Event does.
        self._asked_to_stop: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._code = 0
        self.context = WorkerContext.open(services, woken=lambda: self.send_queue.wake())
        self.send_queue = self._make_send_queue()
        mender = Mender(services.queue)
        hints_lost = threading.Event()
        self._periodic = Periodic(services, self.context, mender, self._stop, self._nothing_held, hints_lost)
        self.intake = Intake(services, self.context, self.send_queue, mender, self._stop, hints_lost)
        senders = Senders(self.context, self.send_queue, self._stop)
        isolated = Isolated(services, self._stop)
        #: Everything this process does, each in a thread.
        self.jobs: dict[str, Callable[[], None]] = {
            **{f"sender-{n}": senders.run for n in range(self._settings.WORKER_CONNECTIONS)},
            "intake": self.intake.run,
            "isolated": isolated.run,
            **self._periodic.jobs,
        }

    def run(self) -> int:
        """Work until told to stop; return the exit code."""
        on_stop(lambda: self._asked_to_stop.put(None))
        threading.excepthook = self._thread_died
        self._periodic.report()
        threads = {name: threading.Thread(target=job, name=name, daemon=True) for name, job in self.jobs.items()}
        for thread in threads.values():
            thread.start()
        started = {"worker_pid": os.getpid(), "connections": self._settings.WORKER_CONNECTIONS}
        log.info("worker_started", extra={"worker": self.context.owner, **started})
        next_event(self._asked_to_stop)
        self._stop.set()
        self._shut_down(threads)
        return self._code

    def _make_send_queue(self) -> SendQueue[Transaction]:
        most, routes = self._settings.WORKER_CONNECTIONS, self.context.routes
        return SendQueue(
            most * ROOM_PER_CONNECTION,
            lambda route: min(most, routes.connections(route)),
            gate=self._gate,
            together=routes.together,
        )

    def _gate(self, route: str, waiting: int) -> float:
        """Let an account's limits decide, unless its circuit is open: what is turned away must not use them up."""
        return 0.0 if self.context.breaker.wait(route) else self.context.routes.gate(route, waiting)

    def _thread_died(self, args: threading.ExceptHookArgs) -> None:
        if args.exc_type is SystemExit:
            return
        self._code = 1
        self._asked_to_stop.put(None)
        log.critical("thread_died", exc_info=args.exc_value, extra={"of": args.thread.name if args.thread else None})

    def _shut_down(self, threads: dict[str, threading.Thread]) -> None:
        """Claim nothing more, give back what waits, let what is being sent end, write the results."""
        deadline = time.monotonic() + self._settings.SHUTDOWN_GRACE
        threads["intake"].join(_CLAIM_SECONDS)  # a claim it has begun must be in our hands before the journal may go
        for transaction in self.send_queue.close():
            give_back(self.context, transaction)
        for name, thread in threads.items():
            if name.startswith("sender-") or name == "isolated":
                thread.join(max(0.0, deadline - time.monotonic()))
        self.context.close(FLUSH_SECONDS)
        self._nothing_held.set()
        threads["reporter"].join(SQLITE_BUSY_SECONDS)  # a report after the leave would put us on the register again
        try:
            with self._services.db.write() as session:
                workers.leave(session, self.context.owner)
                accounts.report_circuits(session, self.context.owner, {})
        except DatabaseUnavailable as error:
            log.warning("leave_failed", extra={"error": str(error)})
        left = len(self.context.leases.held())
        log.info("worker_stopped", extra={"worker": self.context.owner, "left_in_hand": left})
