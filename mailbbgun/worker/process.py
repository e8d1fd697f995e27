"""One worker process: it starts its threads, and ends them in order."""

import logging
import os
import queue
import threading
import time
from collections.abc import Callable

from mailbbgun.core.errors import DatabaseUnavailable
from mailbbgun.core.process import next_event, on_stop, rare_collections
from mailbbgun.counters.counters import Counters
from mailbbgun.counters.families import CIRCUITS, IDLE_CONNECTIONS, SEND_QUEUE
from mailbbgun.counters.keeping import WORKER, Keeper
from mailbbgun.database.engines import SQLITE_BUSY_SECONDS
from mailbbgun.deliver import workers
from mailbbgun.deliver.context import WorkerContext
from mailbbgun.deliver.deliver import give_back
from mailbbgun.deliver.transaction import Transaction
from mailbbgun.drivers.loop import THREADS, Loop
from mailbbgun.events.changes import circuits
from mailbbgun.queues.lanes import HIGH, LANES
from mailbbgun.routing.send_queue import ROOM_PER_CONNECTION, SendQueue
from mailbbgun.services import Services
from mailbbgun.smtp.outcome import Deferred, Refused
from mailbbgun.sweep.mend import Mender
from mailbbgun.sweep.replay import settle_own
from mailbbgun.worker.delivery import DeliveryLoop
from mailbbgun.worker.intake import Intake
from mailbbgun.worker.isolated import Isolated
from mailbbgun.worker.periodic import Periodic
from mailbbgun.worker.webhooks import WebhooksChild

#: Seconds to write the last results at shutdown.
FLUSH_SECONDS = 10.0

#: Threads of the loop for name look-ups and other blocking functions, at most. There is one for each
#: connection, so that silent name servers of some domains do not make other mail wait.
MOST_THREADS = 256

#: Seconds to wait, at shutdown, for a claim that has begun.
_CLAIM_SECONDS = SQLITE_BUSY_SECONDS + 5.0

#: The lanes of each intake, by the name of its thread.
LANES_OF_INTAKES = {"intake": [lane for lane in LANES if lane != HIGH], "urgent intake": [HIGH]}

log = logging.getLogger("mailbbgun.worker")


class WorkerProcess:
    """One worker process. ``jobs`` has everything that it does."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._settings = services.settings
        self._stop = threading.Event()  # set: claim nothing more, and begin to send nothing more
        self._nothing_in_hand = threading.Event()  # set: the last result is written
        # Not an Event: signal handlers must not take a lock, and an Event does.
        self._asked_to_stop: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._code = 0
        self._loop = Loop(max(THREADS, min(self._settings.WORKER_CONNECTIONS, MOST_THREADS)))
        self.context = WorkerContext.open(services, woken=lambda: self.send_queue.permitted())
        self.send_queue = self._make_send_queue()
        mender = Mender(services.queue)
        self._intakes = {
            name: Intake(services, self.context, self.send_queue, mender, self._stop, lanes)
            for name, lanes in LANES_OF_INTAKES.items()
        }
        self._periodic = Periodic(
            services, self.context, self._loop, mender, self._stop, self._nothing_in_hand, self._hints_lost
        )
        connections = self._settings.WORKER_CONNECTIONS
        self._delivery = DeliveryLoop(self.context, self.send_queue, self._loop, connections, self._stop)
        isolated = Isolated(services, self._stop)
        self._keeper = Keeper(services.counters, self._settings.counters_folder, WORKER)
        self._count_states(services.counters)
        #: Name of a thread → its job.
        self.jobs: dict[str, Callable[[], None]] = {
            "loop": self._delivery.run,
            **{name: intake.run for name, intake in self._intakes.items()},
            "isolated": isolated.run,
            "webhooks": WebhooksChild(services, self._stop).run,
            **self._periodic.jobs,
        }

    def run(self) -> int:
        """Work until told to stop; return the exit code."""
        on_stop(lambda: self._asked_to_stop.put(None))
        threading.excepthook = self._thread_died
        self._periodic.report()
        rare_collections()
        threads = {name: threading.Thread(target=job, name=name, daemon=True) for name, job in self.jobs.items()}
        for thread in threads.values():
            thread.start()
        self._keeper.start()
        started = {"worker_pid": os.getpid(), "connections": self._settings.WORKER_CONNECTIONS}
        log.info("worker_started", extra={"worker": self.context.owner, **started})
        next_event(self._asked_to_stop)
        self._stop.set()
        self._loop.wake()
        self._shut_down(threads)
        return self._code

    def _count_states(self, counters: Counters) -> None:
        """Let gauges be read of the send queue, the connections and the circuits."""

        def send_queue() -> dict[tuple[str, ...], float]:
            waiting, under_way = self.send_queue.counts()
            return {("waiting",): waiting, ("under_way",): under_way}

        def paused() -> dict[tuple[str, ...], float]:
            causes = [type(one.cause) for one in self.context.breaker.opened().values()]
            return {("refused",): causes.count(Refused), ("unreachable",): causes.count(Deferred)}

        counters.gauge(SEND_QUEUE, send_queue)
        counters.gauge(CIRCUITS, paused)
        counters.gauge(IDLE_CONNECTIONS, lambda: {(): self.context.routes.idle_connections})

    @property
    def intake(self) -> Intake:
        """The intake of all lanes but that of high priority."""
        return self._intakes["intake"]

    def follow(self, changed: frozenset[str]) -> None:
        """Use settings that have changed, where there are copies of them. Any thread may call this."""
        self.context.follow()
        if "WORKER_CONNECTIONS" in changed:
            self._delivery.connections = self._settings.WORKER_CONNECTIONS
            self.send_queue.resize(self._settings.WORKER_CONNECTIONS * ROOM_PER_CONNECTION)
            self._hints_lost()  # for consumers that take as many hints
        self._loop.wake()

    def _hints_lost(self) -> None:
        for intake in self._intakes.values():
            intake.hints_lost.set()

    def _make_send_queue(self) -> SendQueue[Transaction]:
        settings, routes = self._settings, self.context.routes
        return SendQueue(
            settings.WORKER_CONNECTIONS * ROOM_PER_CONNECTION,
            lambda route: min(settings.WORKER_CONNECTIONS, routes.connections(route)),
            gate=self._gate,
            connections_per_tenant=routes.connections_per_tenant,
            connections_of_kind=routes.connections_of_kind,
            bell=self._loop.wake,
        )

    def _gate(self, route: str, waiting: Callable[[], int]) -> float:
        """Return 0 if a mail may go now by its account's limits, else for how many seconds to wait.

        With an open circuit the mail is not sent, so it must not use the limits up.
        """
        return 0.0 if self.context.breaker.paused_for(route) else self.context.routes.gate(route, waiting)

    def _thread_died(self, args: threading.ExceptHookArgs) -> None:
        if args.exc_type is SystemExit:
            return
        self._code = 1
        self._asked_to_stop.put(None)
        log.critical("thread_died", exc_info=args.exc_value, extra={"of": args.thread.name if args.thread else None})

    def _shut_down(self, threads: dict[str, threading.Thread]) -> None:
        """Wait for the last claim, give back what waits, wait for what is being sent, write the results."""
        deadline = time.monotonic() + self._settings.SHUTDOWN_GRACE
        for name in self._intakes:
            threads[name].join(_CLAIM_SECONDS)  # a claim that has begun must end before the journal is closed
        for transaction in self.send_queue.close():
            give_back(self.context, transaction)
        for name in ("loop", "isolated", "webhooks"):
            threads[name].join(max(0.0, deadline - time.monotonic()))
        self.context.close(FLUSH_SECONDS, stopped=not self._code)  # else a mail may have ended a thread
        self._nothing_in_hand.set()
        threads["reporter"].join(SQLITE_BUSY_SECONDS)  # a report after the leave would register us again
        try:
            with self._services.db.write() as session:
                workers.leave(session, self.context.owner)
                circuits.report(session, self.context.owner, {}, ())
        except DatabaseUnavailable as error:
            log.warning("leave_failed", extra={"error": str(error)})
        self._keeper.close()
        left = len(self.context.leases.in_hand())
        if not left:
            self._settle_unknown_claims()
        log.info("worker_stopped", extra={"worker": self.context.owner, "left_in_hand": left})

    def _settle_unknown_claims(self) -> None:
        try:
            settle_own(self._services.db, self._settings, self.context.owner)
        except DatabaseUnavailable as error:
            log.warning("claims_not_settled", extra={"error": str(error)})
