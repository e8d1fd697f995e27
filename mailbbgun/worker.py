"""The worker process: everything it does, and how it starts and stops.

Senders deliver, the intake claims what hints name, keeper, reaper and sweeper do what is done by the clock, and what killed workers before is
sent alone, in a child process.
"""

import contextlib
import logging
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from uuid import UUID, uuid4

from mailbbgun.environment import need

if __name__ == "__main__":
    need("worker")

import click

from mailbbgun import migrations
from mailbbgun.base import faults, logs
from mailbbgun.base.db import SQLITE_BUSY_SECONDS
from mailbbgun.base.errors import DatabaseUnavailable, QueueUnavailable, Unavailable
from mailbbgun.base.exits import CONTEXT, explained_exit, run, version_option
from mailbbgun.base.faults import fault
from mailbbgun.base.idempotency import BATCH as FORGETTING
from mailbbgun.base.idempotency import forget_expired
from mailbbgun.base.memory import few_arenas, no_core_dumps
from mailbbgun.base.pace import rest_after
from mailbbgun.base.settings import PROJECT, Settings
from mailbbgun.base.signals import on_stop
from mailbbgun.crew import Crew, follow
from mailbbgun.deliver import workers
from mailbbgun.deliver.breaker import Opened
from mailbbgun.deliver.claim import Transaction, next_alone, put_early_back
from mailbbgun.deliver.deliver import deliver, give_back, move, next_way, take
from mailbbgun.deliver.desk import Desk
from mailbbgun.deliver.lines import AWAY, ROOM_PER_CONNECTION, Lines
from mailbbgun.deliver.route import ACCOUNT, FAR, SMARTHOST
from mailbbgun.events import record
from mailbbgun.messages import repo
from mailbbgun.queues.base import Consumer, Hint
from mailbbgun.queues.lanes import LANES
from mailbbgun.services import Services, build, check_durability, make_folder
from mailbbgun.smtp_accounts import repo as accounts
from mailbbgun.startup import check_redis, load_checked, patiently, tell_host_name
from mailbbgun.sweep import replay
from mailbbgun.sweep.hints import hint_again, unhinted
from mailbbgun.sweep.mend import Mender, mend
from mailbbgun.sweep.sweep import sweep
from mailbbgun.tenants import keys
from mailbbgun.tenants import repo as tenants

LOOK_SECONDS = 0.5  # between looks at tenants and accounts
LATE = 60.0  # seconds; what can go no sooner, for a day's limit say, does not wait in line for it
REACHED = 15.0  # seconds at least, until what no account's limits let go is looked at again
CLAIM_BATCH = 200  # hints a claim
SPARING_BATCH, SPARING_REST = 8, 0.04  # hints a claim, and seconds between two, of a lane of which something was claimed that
SPARING_SECONDS = 1.0  # has nowhere to go, no longer ago
BACK_OFF = (0.5, 1.0, 2.0, 5.0)  # seconds
RESUMES = 5  # commits a second
RESUMING = 1000  # deliveries of a tenant that is active again, a commit
FLUSH_SECONDS = 10.0  # to write the last results at shutdown

log = logging.getLogger("mailbbgun.worker")


class _OnlyWayClosed(Unavailable):
    """All mail leaves through one server, and that takes none now."""

    kind = "mail_server"


class Worker:
    """One worker process."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._settings = services.settings
        self._desk = Desk.open(services, woken=lambda: self._lines.wake())
        self._mender = Mender(services.queue)
        self._stop = threading.Event()
        self._asked_to_stop: queue.SimpleQueue[None] = queue.SimpleQueue()  # signal handlers may take no lock, as an Event does
        self._nothing_held = threading.Event()
        self._code = 0
        self._connections = self._settings.WORKER_CONNECTIONS
        self._room = self._connections * ROOM_PER_CONNECTION
        routes = self._desk.routes
        self._lines = Lines(self._room, lambda route: min(self._connections, routes.connections(route)), gate=self._gate, together=routes.together)
        # By lane until when it is taken from sparingly, and when the next turn of such lanes is; monotonic seconds.
        self._sparing: dict[str, float] = {}
        self._their_turn = 0.0
        self._sole_way = True  # SMTP_URL, which is one server, is the only way out there is
        self._told: dict[UUID, Opened] = {}  # circuits of accounts, as the database knows them
        self._expired = replay.Expired(services.db, services.settings)
        # By the clock, each on a thread of its own: what keeps our claims ours, what says that we are there, what waits for mail servers to
        # say goodbye, and what may wait for a broker that is away.
        self._every_renew: list[tuple[float, Callable[[], object]]] = [(self._settings.LEASE_SECONDS / 4, self._renew)]
        self._every_keep: list[tuple[float, Callable[[], object]]] = [
            (LOOK_SECONDS, self._look),
            (5.0, self._beat),
        ]
        self._every_reap: list[tuple[float, Callable[[], object]]] = [(5.0, self._desk.routes.reap)]
        self._every_sweep: list[tuple[float, Callable[[], object]]] = [
            (1.0, self._tick),
            (float(self._settings.SWEEP_SECONDS), self._sweep),
            (60.0, self._forget),
        ]
        if services.db.dialect == "postgresql":
            self._every_sweep.append((5.0, self._sum_up))

    def run(self) -> int:
        """Work until told to stop; return the exit code."""
        on_stop(lambda: self._asked_to_stop.put(None))
        threading.excepthook = self._thread_died
        self._guarded(self._beat)
        senders = [self._start(f"sender-{n}", self._send) for n in range(self._connections)]
        intake = self._start("intake", self._take_in)
        # Until the last result is written: a sender may be waiting for a reply for as long as the grace, and the mail is ours till then.
        self._start("renewer", lambda: self._by_the_clock(self._every_renew, self._nothing_held))
        keeper = self._start("keeper", lambda: self._by_the_clock(self._every_keep))
        self._start("reaper", lambda: self._by_the_clock(self._every_reap))
        self._start("sweeper", lambda: self._by_the_clock(self._every_sweep))
        alone = self._start("alone", self._send_alone)
        log.info("worker_started", extra={"worker": self._desk.owner, "worker_pid": os.getpid(), "connections": self._connections})
        self._asked_to_stop.get()
        self._stop.set()
        self._shut_down(intake, keeper, [*senders, alone])
        return self._code

    # What threads do.

    def _take_in(self) -> None:
        consumer: Consumer | None = None
        failures = 0
        while not self._stop.is_set():
            try:
                if not self._desk.results.healthy:
                    raise DatabaseUnavailable("results cannot be written")
                if self._closed_way():
                    raise _OnlyWayClosed("the mail server of SMTP_URL, the only way out, refuses us or does not answer")
                room = self._lines.wait_for_room(0.5)
                self._other_ways()
                if not room:
                    self._put_off()
                    continue
                consumer = consumer or self._services.queue.consumer(self._room)
                hints = self._hints(consumer, room)
                self._stop.wait(self._claim(consumer, hints, room))
                failures = 0
                self._took_in(claimed=bool(hints))
            except (QueueUnavailable, DatabaseUnavailable, _OnlyWayClosed) as error:
                # Without a consumer nothing is held back from other workers, and nothing is nacked in a loop.
                if consumer is not None:
                    consumer.close()
                    consumer = None
                self._services.outages.failed("intake", error)
                if isinstance(error, QueueUnavailable):
                    self._mender.mend()
                wait = BACK_OFF[min(failures, len(BACK_OFF) - 1)]
                failures += 1
                self._stop.wait(wait)
        if consumer is not None:
            consumer.close()

    def _took_in(self, *, claimed: bool) -> None:
        """Note that what the intake needs is there. It reaches the broker more often than others, who failed for the same reason."""
        outages = self._services.outages
        outages.worked("queue", "intake", "sweep", "publish", "start")
        outages.worked("mail_server", "intake")
        if claimed:
            outages.worked("database", "intake", "start")

    def _hints(self, consumer: Consumer, room: int) -> list[Hint]:
        """Take hints. A lane where much of what is claimed has nowhere to go has its turn now and then, and no other waits for that."""
        now = time.monotonic()
        limit = min(room, CLAIM_BATCH)
        slowly = {lane for lane, until in self._sparing.items() if now < until}
        if not slowly:
            return consumer.take(limit, timeout=0.5)
        if now >= self._their_turn and (hints := consumer.take(min(room, SPARING_BATCH), 0.0, slowly)):
            self._their_turn = now + SPARING_REST
            return hints
        others = [lane for lane in LANES if lane not in slowly]
        wait = self._their_turn - now
        return consumer.take(limit, wait if wait > 0 else SPARING_REST, others)

    def _claim(self, consumer: Consumer, taken: Sequence[Hint], room: int) -> float:
        """Claim what hints name; return how long to rest."""
        if not taken:
            return 0.0
        started = time.monotonic()
        wanted = list(dict.fromkeys(hint.message_id for hint in taken))
        transactions = take(self._desk, wanted)
        for transaction in transactions:
            goes = self._desk.breaker.wait(transaction.route) <= 0
            if self._lines.takes(transaction.route):
                self._lines.add(transaction)
            else:
                self._come_back_later(transaction)
                goes = False
            if not goes:
                self._sparing[transaction.lane] = started + SPARING_SECONDS
        claimed = {transaction.message_id for transaction in transactions}
        if missing := [message_id for message_id in wanted if message_id not in claimed]:
            with self._services.db.write() as session:  # before their hints are gone
                put_early_back(session, missing)
        consumer.settle(taken)
        fault("claim.acked")
        spared = all(started < self._sparing.get(hint.lane, 0.0) for hint in taken)  # rests between its turns
        return 0.0 if spared or len(taken) == min(room, CLAIM_BATCH) else rest_after(time.monotonic() - started)

    def _gate(self, route: str, waiting: int) -> float:
        """Let an account's limits decide, unless its circuit is open: what is turned away must not use them up."""
        return 0.0 if self._desk.breaker.wait(route) else self._desk.routes.gate(route, waiting)

    def _closed_way(self) -> bool:
        """With one way out and that closed, claiming would only turn the backlog over."""
        return self._sole_way and not self._desk.routes.per_domain and self._desk.breaker.wait(SMARTHOST) > 0

    def _other_ways(self) -> None:
        """Let what waits for an account whose limits are reached for long go through another, or come back later."""
        for transaction in self._lines.shut_out(FAR, LATE):
            if way := next_way(self._desk, transaction):
                self._line_up(move(self._desk, transaction, way))
            else:
                self._come_back_later(transaction, REACHED, "the account's limits are used up for now")

    def _line_up(self, transactions: Iterable[Transaction]) -> None:
        for transaction in transactions:
            self._lines.add(transaction)

    def _put_off(self) -> None:
        for transaction in self._lines.cut():
            self._come_back_later(transaction)

    def _come_back_later(self, transaction: Transaction, least: float = AWAY, why: str | None = None) -> None:
        give_back(self._desk, transaction, self._desk.returns.wait(transaction.route, least), why)

    def _send(self) -> None:
        while not self._stop.is_set():
            transaction = self._lines.next(0.5)
            if transaction is None:
                continue
            way = None
            try:
                way = deliver(self._desk, transaction)
            except DatabaseUnavailable:  # before anything was sent
                give_back(self._desk, transaction, 1.0)
            finally:
                self._lines.done(transaction)
            if way:
                self._line_up(move(self._desk, transaction, way))

    def _send_alone(self) -> None:
        while not self._stop.wait(1.0):
            self._guarded(self._next_alone)

    def _next_alone(self) -> None:
        with self._services.db.read() as session:
            message_id = next_alone(session)
        if message_id is None:
            return
        owner = uuid4()
        command = [sys.executable, "-m", "mailbbgun.worker", "--alone", str(message_id), "--owner", str(owner), "--parent", str(os.getpid())]
        child = subprocess.Popen(command, cwd=PROJECT, process_group=0)  # a Ctrl-C would tell it twice, once by us
        while (code := child.poll()) is None:
            if self._stop.wait(0.1):
                child.terminate()
                code = child.wait()
        log.info("sent_alone", extra={"message_id": message_id, "exit_code": code})
        if code:
            replay.replay_one(self._services.db, self._settings, owner)

    def _by_the_clock(self, tasks: list[tuple[float, Callable[[], object]]], end: threading.Event | None = None) -> None:
        end = end or self._stop
        due = {task: time.monotonic() + seconds for seconds, task in tasks}
        while not end.wait(max(0.0, min(due.values()) - time.monotonic())):
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
            self._desk.routes.workers = workers.count_alive(session)

    def _look(self) -> None:
        """See who was suspended, and which accounts changed, and tell which are left alone."""
        with self._services.db.read() as session:
            self._desk.book.refresh(session, self._desk.leases.tenants())
            self._sole_way = not (accounts.any_account(session) or tenants.any_test_key(session))
        self._desk.breaker.forget(self._desk.routes.replace(self._desk.book.known))
        opened = self._desk.breaker.opened()
        mine = {one: opened[f"{ACCOUNT}{one}"] for one in self._desk.routes.known() if f"{ACCOUNT}{one}" in opened}
        if mine != self._told:
            for one in mine.keys() - self._told.keys():
                log.warning("circuit_opened", extra={"account_id": one, "failures": mine[one].failures, "reply": mine[one].cause.reply})
            for one in self._told.keys() - mine.keys():
                log.info("circuit_closed", extra={"account_id": one})
            rows = {one: {"failures": circuit.failures, "reply": str(circuit.cause.reply)} for one, circuit in mine.items()}
            with self._services.db.write() as session:
                accounts.report_circuits(session, self._desk.owner, rows)
            self._told = mine

    def _tick(self) -> None:
        self._resume()
        hint_again(self._services.db, self._services.queue, unhinted())

    def _resume(self) -> None:
        for _ in range(RESUMES):  # not all of a million at once: others' retries wait behind this
            with self._services.db.write() as session:
                if record.resumed(session, RESUMING) < RESUMING:
                    break

    def _sweep(self) -> None:
        self._mender.mend()
        sweep(self._services, self._expired)

    def _sum_up(self) -> None:
        with self._services.db.write() as session:
            repo.sum_up_counts(session)

    def _forget(self) -> None:
        forgotten = FORGETTING
        while forgotten == FORGETTING and not self._stop.is_set():
            with self._services.db.write() as session:
                forgotten = forget_expired(session, self._settings.IDEMPOTENCY_SECONDS)

    def _guarded(self, task: Callable[[], object]) -> None:
        outages, name = self._services.outages, "sweep" if task == self._sweep else "tick" if task == self._tick else "other"
        try:
            task()
            outages.worked("queue", name)
            if task == self._beat:  # it writes, and often: whatever failed, the database is back
                outages.worked("database", "tick", "sweep", "other", "intake", "publish", "start")
        except (QueueUnavailable, DatabaseUnavailable) as error:
            outages.failed(name, error)
            if isinstance(error, QueueUnavailable):
                self._mender.mend()

    # How it ends.

    def _thread_died(self, args: threading.ExceptHookArgs) -> None:
        if args.exc_type is SystemExit:
            return
        self._code = 1
        self._asked_to_stop.put(None)
        log.critical("thread_died", exc_info=args.exc_value, extra={"of": args.thread.name if args.thread else None})

    def _shut_down(self, intake: threading.Thread, keeper: threading.Thread, sending: list[threading.Thread]) -> None:
        """Claim nothing more, give back what waits, let what is being sent end, write the results."""
        deadline = time.monotonic() + self._settings.SHUTDOWN_GRACE
        intake.join(SQLITE_BUSY_SECONDS + 5.0)  # a claim it has begun must be in our hands before the journal may go
        for transaction in self._lines.close():
            give_back(self._desk, transaction)
        for thread in sending:
            thread.join(max(0.0, deadline - time.monotonic()))
        self._desk.close(FLUSH_SECONDS)
        self._nothing_held.set()
        keeper.join(SQLITE_BUSY_SECONDS)  # a beat after the leave would put us on the register again
        try:
            with self._services.db.write() as session:
                workers.leave(session, self._desk.owner)
                accounts.report_circuits(session, self._desk.owner, {})
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

    asked_to_stop: queue.SimpleQueue[None] = queue.SimpleQueue()

    def stop() -> None:
        # Nothing more is sent from here on; what waits for a server's answer has the grace to get it.
        asked_to_stop.get()
        desk.leases.end()
        time.sleep(desk.settings.SHUTDOWN_GRACE)
        _leave(desk)

    on_stop(lambda: asked_to_stop.put(None))
    threading.Thread(target=stop, daemon=True).start()
    threading.Thread(target=_renew, args=(desk,), daemon=True).start()
    waiting = take(desk, [message_id], alone=True)
    while waiting:
        transaction = waiting.pop(0)
        try:
            if way := deliver(desk, transaction):
                waiting = [*move(desk, transaction, way), *waiting]
        except DatabaseUnavailable:  # before anything was sent
            give_back(desk, transaction, 1.0)
    _leave(desk)


def _leave(desk: Desk) -> None:
    desk.close(FLUSH_SECONDS)
    os._exit(0)


def _renew(desk: Desk) -> None:
    while True:
        time.sleep(desk.settings.LEASE_SECONDS / 4)
        with contextlib.suppress(DatabaseUnavailable):
            desk.leases.renew(desk.db)


@click.command(context_settings=CONTEXT)
@version_option
@click.option("--processes", type=click.IntRange(1, 64), help="How many deliver side by side.  [default: WORKER_PROCESSES]")
@click.option("--member-of", type=int, hidden=True, help="Be one of those that process leads.")
@click.option("--share", type=int, default=1, hidden=True, help="Of how many members the connections are.")
@click.option("--alone", type=click.UUID, hidden=True, help="Deliver this one message and exit.")
@click.option("--owner", type=click.UUID, hidden=True)
@click.option("--parent", type=int, hidden=True, help="End with that process, which started us.")
def main(processes: int | None, member_of: int | None, share: int, alone: UUID | None, owner: UUID | None, parent: int | None) -> None:
    """Deliver mail until told to stop."""
    with explained_exit("worker"):
        settings = load_checked()
        faults.arm()
        few_arenas()
        no_core_dumps()
        logs.configure(settings.LOG_LEVEL, settings.LOG_FORMAT)
        if (started_by := parent if member_of is None else member_of) is not None:
            follow(started_by)
        chief = member_of is None and alone is None
        if chief:
            tell_host_name(settings)
        services = start(shared(settings, share), chief=chief)
        if alone is not None:
            return send_alone(services, alone, owner or uuid4())
        if member_of is None and (count := processes or settings.worker_processes) > 1:
            services.close()
            sys.exit(Crew(count).run())
        worker = Worker(services)
    code = worker.run()
    services.close()
    # Senders that outlived the grace are inside a server's silence; what they did is in the journal.
    sys.stdout.flush()
    os._exit(code)


def start(settings: Settings, *, chief: bool = True) -> Services:
    """Build the services, wait for database and queue, and settle what dead workers left. Raises :class:`ConfigurationError`.

    Only the ``chief`` of the processes ends over a server that refuses us: one that is started later, for another that died, waits for it.
    """
    services = build(settings, installed=True)
    wait = partial(patiently, outages=services.outages, wait_if_refused=not chief)
    wait(lambda: migrations.check(services.db))
    make_folder(settings)
    wait(lambda: check_durability(services))
    wait(lambda: keys.check(services.db, services.vault))
    if chief:
        wait(lambda: mend(services.queue))
        check_redis(services)
    replay.replay_dead(services.db, settings)
    return services


def shared(settings: Settings, members: int) -> Settings:
    """Return the settings of one of so many processes: other people's servers see the connections of all of them."""
    connections = {name: max(1, getattr(settings, name) // members) for name in ("WORKER_CONNECTIONS", "CONNECTIONS_PER_DOMAIN")}
    return replace(settings, **connections)


if __name__ == "__main__":
    run("worker", main)
