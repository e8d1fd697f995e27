"""Isolated delivery: a message that has killed workers is sent alone, by a child process."""

import contextlib
import logging
import os
import queue
import subprocess
import sys
import threading
import time
from uuid import UUID, uuid4

from mailbbgun.core.errors import DatabaseUnavailable
from mailbbgun.core.process import next_event, on_stop
from mailbbgun.counters.keeping import WORKER, Keeper
from mailbbgun.deliver.claim import next_isolated
from mailbbgun.deliver.context import WorkerContext
from mailbbgun.deliver.deliver import deliver, give_back, move, next_candidate, take
from mailbbgun.deliver.transaction import Transaction
from mailbbgun.drivers.loop import Loop
from mailbbgun.routing.routes import SOON_SECONDS
from mailbbgun.services import Services
from mailbbgun.settings.paths import PROJECT
from mailbbgun.sweep import replay
from mailbbgun.worker.delivery import turn
from mailbbgun.worker.intake import LIMIT_TOO_FAR_SECONDS, LIMITS_USED_UP

#: Seconds to write the results before the child ends.
_FLUSH_SECONDS = 10.0

#: Seconds between two looks for a message that must be sent alone.
_LOOK_SECONDS = 1.0

#: Seconds, at most, between two looks whether an account's limits let mail go. A permit is held for
#: twice as long.
_LIMITS_SECONDS = 0.05

#: Seconds until a message comes back whose accounts' limits are used up: each look starts a process.
_USED_UP_SECONDS = 60.0

log = logging.getLogger("mailbbgun.worker")


class Isolated:
    """The parent's side: it starts a child for one message after another, until ``stop`` is set."""

    def __init__(self, services: Services, stop: threading.Event) -> None:
        self._services, self._stop = services, stop

    def run(self) -> None:
        """Look for such messages. Start a child for each, and wait until it ends."""
        while not self._stop.wait(_LOOK_SECONDS):
            try:
                self._next()
            except DatabaseUnavailable as error:
                self._services.outages.failed("other", error)

    def _next(self) -> None:
        with self._services.db.read() as session:
            message_id = next_isolated(session)
        if message_id is None:
            return
        owner = uuid4()
        told = ["--isolated", str(message_id), "--owner", str(owner), "--parent", str(os.getpid())]
        # In a process group of its own: otherwise a Ctrl-C would stop it twice, once through us.
        child = subprocess.Popen([sys.executable, "-m", "mailbbgun.worker", *told], cwd=PROJECT, process_group=0)
        while (code := child.poll()) is None:
            if self._stop.wait(0.1):
                child.terminate()
                code = child.wait()
        log.info("sent_isolated", extra={"message_id": message_id, "exit_code": code})
        if code:
            replay.replay_one(self._services.db, self._services.settings, owner)


def send_isolated(services: Services, message_id: UUID, owner: UUID) -> None:
    """Deliver one message in this process, the child, and exit.

    ``owner`` owns the leases and the journal. The parent knows it, and replays the journal if the
    child dies.
    """
    loop = Loop()
    context = WorkerContext.open(services, owner)
    asked_to_stop: queue.SimpleQueue[None] = queue.SimpleQueue()
    on_stop(lambda: asked_to_stop.put(None))
    for job in (lambda: _end_when_told(context, asked_to_stop), lambda: _renew_leases(context)):
        threading.Thread(target=job, daemon=True).start()
    failed: list[Exception] = []
    loop.start(_deliver_all(context, take(context, [message_id], isolated=True), failed))
    while len(loop):
        turn(context, loop, _LOOK_SECONDS)
    if failed:  # the parent sees that this process ended by it, and replays the journal
        raise failed[0]
    _leave(context)


async def _deliver_all(context: WorkerContext, waiting: list[Transaction], failed: list[Exception]) -> None:
    """Deliver transactions, one after the other. An error that is not expected ends that and goes to ``failed``."""
    try:
        while waiting:
            transaction = waiting.pop(0)
            try:
                if route := await _deliver_within_limits(context, transaction):
                    waiting = [*move(context, transaction, route), *waiting]
            except DatabaseUnavailable:  # raised before anything was sent
                give_back(context, transaction, 1.0)
    except Exception as error:
        log.exception("delivery_failed")
        failed.append(error)
    await context.routes.close()


async def _deliver_within_limits(context: WorkerContext, transaction: Transaction) -> str | None:
    """Deliver a transaction as soon as its account's limits let it go; see :func:`deliver`.

    If that takes too long, returns another candidate route, or gives the transaction back.
    """
    longest = SOON_SECONDS if transaction.candidates else LIMIT_TOO_FAR_SECONDS
    while wait := context.routes.gate(transaction.route, lambda: 1):
        if wait > longest or not context.leases.stand(transaction.claims):
            if not (route := next_candidate(context, transaction)):
                give_back(context, transaction, _USED_UP_SECONDS, LIMITS_USED_UP)
            return route
        time.sleep(min(wait, _LIMITS_SECONDS))  # nothing else is delivered here
    return await deliver(context, transaction)


def _end_when_told(context: WorkerContext, asked_to_stop: "queue.SimpleQueue[None]") -> None:
    """Wait until told to stop. Then begin to send nothing more, and leave after SHUTDOWN_GRACE.

    Until then, a message that was sent may still get the server's reply.
    """
    next_event(asked_to_stop)
    context.leases.void_all()
    time.sleep(context.settings.SHUTDOWN_GRACE)
    _leave(context, stopped=True)


def _renew_leases(context: WorkerContext) -> None:
    while True:
        time.sleep(context.settings.LEASE_SECONDS / 4)
        with contextlib.suppress(DatabaseUnavailable):
            context.leases.renew(context.db)


def _leave(context: WorkerContext, *, stopped: bool = False) -> None:
    context.close(_FLUSH_SECONDS, stopped=stopped)
    Keeper(context.counters, context.settings.counters_folder, WORKER).write()
    if context.traces is not None:
        context.traces.close()
    os._exit(0)
