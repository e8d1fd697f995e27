"""The worker process: everything it does, and how it starts and stops.

``senders`` deliver, ``intake`` claims what hints name, ``EVERY`` lists what is done by the clock, ``alone`` sends what killed workers before.
"""

import contextlib
import logging
import os
import queue as queues
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from uuid import UUID, uuid4

import click

from mailbbgun import schema
from mailbbgun.accept.idempotency import forget_expired
from mailbbgun.base import logs
from mailbbgun.base.errors import DatabaseUnavailable, MailBBGunError, QueueUnavailable
from mailbbgun.base.settings import Settings, load
from mailbbgun.deliver import workers
from mailbbgun.deliver.claim import put_early_back, to_send_alone
from mailbbgun.deliver.deliver import deliver, give_back, take
from mailbbgun.deliver.desk import Desk
from mailbbgun.deliver.lines import Lines
from mailbbgun.queues.base import Consumer
from mailbbgun.services import Services, build, check_durability
from mailbbgun.sweep import hints, replay
from mailbbgun.sweep.sweep import sweep

CLAIM_BATCH = 100  # hints a claim
ROOM_PER_CONNECTION = 3  # claims waiting and under way for each sender
BACK_OFF = (0.5, 1.0, 2.0, 5.0)  # seconds
STUCK_WAIT = 30.0  # seconds until mail for a destination that fills the room is tried again
ALONE_WAITING = 100  # messages waiting to be sent alone; more come back with the sweep
FLUSH_SECONDS = 10.0  # to write the last results at shutdown

log = logging.getLogger("mailbbgun.worker")


class Worker:
    """One worker process."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._settings = services.settings
        self._desk = Desk.open(services)
        self._stop = threading.Event()
        self._code = 0
        connections = self._settings.WORKER_CONNECTIONS
        if not self._desk.routes.per_domain:
            connections = min(connections, self._settings.CONNECTIONS_PER_HOST)
        self._connections = connections
        self._lines = Lines(connections * ROOM_PER_CONNECTION, self._settings.CONNECTIONS_PER_HOST)
        self._alone: queues.Queue[UUID] = queues.Queue(ALONE_WAITING)
        # By the clock: what keeps our claims ours, and what may wait for a broker that is away, each on a thread of its own.
        self._every_keep: list[tuple[float, Callable[[], object]]] = [
            (self._settings.LEASE_SECONDS / 4, self._renew),
            (5.0, self._beat),
            (5.0, self._desk.routes.reap),
        ]
        self._every_sweep: list[tuple[float, Callable[[], object]]] = [
            (1.0, self._tick),
            (float(self._settings.SWEEP_SECONDS), self._sweep),
            (60.0, self._forget),
        ]

    def run(self) -> int:
        """Work until told to stop; return the exit code."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._told_to_stop)
        threading.excepthook = self._thread_died
        self._guarded(self._beat)
        senders = [self._start(f"sender-{n}", self._send) for n in range(self._connections)]
        intake = self._start("intake", self._take_in)
        self._start("keeper", lambda: self._by_the_clock(self._every_keep))
        self._start("sweeper", lambda: self._by_the_clock(self._every_sweep))
        self._start("alone", self._send_alone)
        log.info("worker_started", extra={"worker": self._desk.owner, "connections": self._connections})
        while not self._stop.wait(1.0):
            pass
        self._shut_down(intake, senders)
        return self._code

    # What threads do.

    def _take_in(self) -> None:
        consumer: Consumer | None = None
        failures = 0
        while not self._stop.is_set():
            try:
                if not self._desk.results.healthy:
                    raise DatabaseUnavailable("results cannot be written")
                room = self._lines.wait_for_room(0.5)
                if not room:
                    self._unstick()
                    continue
                consumer = consumer or self._services.queue.consumer(self._connections * 2)
                self._claim(consumer, min(room, CLAIM_BATCH))
                failures = 0
            except (QueueUnavailable, DatabaseUnavailable) as error:
                # Without a consumer nothing is held back from other workers, and nothing is nacked in a loop.
                if consumer is not None:
                    consumer.close()
                    consumer = None
                wait = BACK_OFF[min(failures, len(BACK_OFF) - 1)]
                failures += 1
                log.warning("intake_paused", extra={"error": str(error), "retry_in": wait})
                self._stop.wait(wait)
        if consumer is not None:
            consumer.close()

    def _claim(self, consumer: Consumer, limit: int) -> None:
        taken = consumer.take(limit, timeout=0.5)
        if not taken:
            return
        wanted = list(dict.fromkeys(hint.message_id for hint in taken))
        transactions = take(self._desk, wanted)
        for transaction in transactions:
            self._lines.add(transaction)
        consumer.settle(taken)
        claimed = {transaction.message_id for transaction in transactions}
        if missing := [message_id for message_id in wanted if message_id not in claimed]:
            self._look_closer(missing)

    def _look_closer(self, message_ids: list[UUID]) -> None:
        """Hints that gave no claim: mostly ones too many; else they came early, or their message must be sent alone."""
        with self._services.db.write() as session:
            put_early_back(session, message_ids)
            alone = to_send_alone(session, message_ids)
        for message_id in alone:
            if not self._alone.full():
                self._alone.put(message_id)

    def _unstick(self) -> None:
        for transaction in self._lines.stuck():
            give_back(self._desk, transaction, STUCK_WAIT)

    def _send(self) -> None:
        while not self._stop.is_set():
            transaction = self._lines.next(0.5)
            if transaction is None:
                continue
            try:
                deliver(self._desk, transaction)
            except DatabaseUnavailable:  # before anything was sent
                give_back(self._desk, transaction, 1.0)
            finally:
                self._lines.done(transaction)

    def _send_alone(self) -> None:
        while not self._stop.is_set():
            try:
                message_id = self._alone.get(timeout=0.5)
            except queues.Empty:
                continue
            owner = uuid4()
            command = [sys.executable, "-m", "mailbbgun.worker", "--alone", str(message_id), "--owner", str(owner)]
            code = subprocess.Popen(command).wait()
            log.info("sent_alone", extra={"message_id": message_id, "exit_code": code})
            if code:
                self._guarded(lambda: replay.replay_one(self._services.db, self._settings, owner))  # noqa: B023 - run at once

    def _by_the_clock(self, tasks: list[tuple[float, Callable[[], object]]]) -> None:
        due = {task: time.monotonic() + seconds for seconds, task in tasks}
        while not self._stop.wait(max(0.0, min(due.values()) - time.monotonic())):
            for seconds, task in tasks:
                if due[task] <= time.monotonic():
                    self._guarded(task)
                    due[task] = time.monotonic() + seconds

    # What is done by the clock.

    def _renew(self) -> None:
        self._desk.leases.renew(self._services.db)

    def _beat(self) -> None:
        with self._services.db.write() as session:
            workers.beat(session, self._desk.owner)

    def _tick(self) -> None:
        hints.hint_again(self._services.db, self._services.queue, hints.never_hinted())

    def _sweep(self) -> None:
        sweep(self._services)

    def _forget(self) -> None:
        with self._services.db.write() as session:
            forget_expired(session, self._settings.IDEMPOTENCY_SECONDS)

    def _guarded(self, task: Callable[[], object]) -> None:
        try:
            task()
        except (QueueUnavailable, DatabaseUnavailable) as error:
            log.warning("task_failed", extra={"task": getattr(task, "__name__", "task"), "error": str(error)})

    # How it ends.

    def _told_to_stop(self, _number: int, _frame: object) -> None:
        if self._stop.is_set():
            os._exit(1)  # told twice: now
        self._stop.set()

    def _thread_died(self, args: threading.ExceptHookArgs) -> None:
        if args.exc_type is SystemExit:
            return
        log.critical("thread_died", exc_info=args.exc_value, extra={"thread": args.thread.name if args.thread else None})
        self._code = 1
        self._stop.set()

    def _shut_down(self, intake: threading.Thread, senders: list[threading.Thread]) -> None:
        """Claim nothing more, give back what waits, let what is being sent end, write the results."""
        deadline = time.monotonic() + self._settings.SHUTDOWN_GRACE
        intake.join(5.0)
        for transaction in self._lines.close():
            give_back(self._desk, transaction)
        for thread in senders:
            thread.join(max(0.0, deadline - time.monotonic()))
        self._desk.close(FLUSH_SECONDS)
        try:
            with self._services.db.write() as session:
                workers.leave(session, self._desk.owner)
        except DatabaseUnavailable as error:
            log.warning("leave_failed", extra={"error": str(error)})
        left = len(self._desk.leases.held())
        log.info("worker_stopped", extra={"worker": self._desk.owner, "left_in_hand": left})

    def _start(self, name: str, target: Callable[[], None]) -> threading.Thread:
        thread = threading.Thread(target=target, name=name, daemon=True)
        thread.start()
        return thread


def send_alone(services: Services, message_id: UUID, owner: UUID) -> None:
    """Deliver one message in this process, which may die of it without taking others along."""
    desk = Desk.open(services, owner)
    threading.Thread(target=_renew, args=(desk,), daemon=True).start()
    for transaction in take(desk, [message_id], alone=True):
        deliver(desk, transaction)
    desk.close(FLUSH_SECONDS)


def _renew(desk: Desk) -> None:
    while True:
        time.sleep(desk.settings.LEASE_SECONDS / 4)
        with contextlib.suppress(DatabaseUnavailable):
            desk.leases.renew(desk.db)


@click.command()
@click.option("--alone", type=click.UUID, hidden=True, help="Deliver this one message and exit.")
@click.option("--owner", type=click.UUID, hidden=True)
def main(alone: UUID | None, owner: UUID | None) -> None:
    """Deliver mail until told to stop."""
    try:
        settings = load()
        logs.configure(settings.LOG_LEVEL, settings.LOG_FORMAT)
        services = start(settings)
        if alone is not None:
            return send_alone(services, alone, owner or uuid4())
        worker = Worker(services)
    except MailBBGunError as error:
        raise SystemExit(f"worker: {error}") from error
    code = worker.run()
    services.close()
    # Senders that outlived the grace are inside a server's silence; what they did is in the journal.
    sys.stdout.flush()
    os._exit(code)


def start(settings: Settings) -> Services:
    """Build the services, wait for database and queue, and settle what dead workers left. Raises :class:`ConfigurationError`."""
    services = build(settings)
    patiently(lambda: check_durability(services))
    schema.check(services.db)
    patiently(services.queue.check)
    replay.replay_dead(services.db, settings)
    return services


def patiently(task: Callable[[], None]) -> None:
    """Run a start-up check, waiting for a server that does not answer yet. Raises :class:`ConfigurationError` at once."""
    while True:
        try:
            return task()
        except (QueueUnavailable, DatabaseUnavailable) as error:
            log.warning("waiting", extra={"error": str(error)})
            time.sleep(1.0)


if __name__ == "__main__":
    main()
