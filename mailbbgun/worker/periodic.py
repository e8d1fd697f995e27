"""Periodic tasks of a worker process: what is done by the clock, and how often."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from uuid import UUID

from mailbbgun.core.errors import DatabaseUnavailable, QueueUnavailable
from mailbbgun.database.idempotency import BATCH as FORGOTTEN_AT_ONCE
from mailbbgun.database.idempotency import forget_expired
from mailbbgun.deliver import workers
from mailbbgun.deliver.context import WorkerContext
from mailbbgun.events import record
from mailbbgun.messages import repo
from mailbbgun.routing.circuit_breaker import Opened
from mailbbgun.routing.routes import ACCOUNT
from mailbbgun.services import Services
from mailbbgun.smtp_accounts import repo as accounts
from mailbbgun.sweep import replay
from mailbbgun.sweep.hints import hint_again, unhinted
from mailbbgun.sweep.mend import Mender
from mailbbgun.sweep.sweep import sweep
from mailbbgun.tenants import repo as tenants

#: Commits a second, and deliveries a commit, that bring back the mail of a tenant that is active again. Not all of a
#: million at once: others' retries wait behind this.
RESUMES, RESUMING = 5, 1000

log = logging.getLogger("mailbbgun.worker")


@dataclass(frozen=True, slots=True)
class Task:
    """Something to do every so many ``seconds``; ``name`` is what its outages are counted by."""

    seconds: float
    do: Callable[[], object]
    name: str = "other"


class Periodic:
    """The tasks of one process. Raises nothing that a server which is away could cause: it is told and tried again."""

    def __init__(
        self,
        services: Services,
        context: WorkerContext,
        mender: Mender,
        stop: threading.Event,
        nothing_in_hand: threading.Event,
        hints_lost: threading.Event,
    ) -> None:
        self._services, self._context, self._mender, self._stop = services, context, mender, stop
        self._hints_lost = hints_lost
        self._told: dict[UUID, Opened] = {}  # circuits of accounts, as the database knows them
        self._expired = replay.Expired(services.db, services.settings)
        settings = services.settings
        #: What is done every so many seconds, by the name of the thread that does it: each would be late behind the others.
        every: dict[str, list[Task]] = {
            "renewer": [Task(settings.LEASE_SECONDS / 4, self._renew_leases)],
            "reporter": [Task(0.5, self._look_at_accounts), Task(5.0, self._report)],
            "reaper": [Task(5.0, context.routes.reap)],  # waits for mail servers to say goodbye
            "sweeper": [  # waits for a broker that is away
                Task(1.0, self._hint, "tick"),
                Task(float(settings.SWEEP_SECONDS), self._sweep, "sweep"),
                Task(60.0, self._forget_idempotency_keys),
            ],
        }
        if services.db.dialect == "postgresql":
            every["sweeper"].append(Task(5.0, self._sum_up_counts))
        # Leases are renewed until the last result is written: a sender may be waiting for a reply for as long as the
        # grace, and the mail is ours till then.
        self.jobs: dict[str, Callable[[], None]] = {
            name: partial(self._run, tasks, nothing_in_hand if name == "renewer" else stop)
            for name, tasks in every.items()
        }

    def report(self) -> None:
        """Say that this process is alive. Now, and later by itself."""
        self._guarded(Task(5.0, self._report))

    def _run(self, tasks: Sequence[Task], end: threading.Event) -> None:
        due = [time.monotonic() + task.seconds for task in tasks]
        while not end.wait(max(0.0, min(due) - time.monotonic())):
            for place, task in enumerate(tasks):
                if due[place] <= time.monotonic():
                    self._guarded(task)
                    due[place] = time.monotonic() + task.seconds

    def _guarded(self, task: Task) -> None:
        outages = self._services.outages
        try:
            task.do()
            outages.worked("queue", task.name)
            if task.do == self._report:  # it writes, and often: whatever failed, the database is back
                outages.worked("database", "tick", "sweep", "other", "intake", "publish", "start")
        except (QueueUnavailable, DatabaseUnavailable) as error:
            outages.failed(task.name, error)
            if isinstance(error, QueueUnavailable):
                self._mender.mend()

    # What is done.

    def _renew_leases(self) -> None:
        self._context.leases.renew(self._services.db)

    def _report(self) -> None:
        with self._services.db.write() as session:
            workers.beat(session, self._context.owner)
            self._context.routes.workers = workers.count_alive(session)

    def _look_at_accounts(self) -> None:
        """See who was suspended, which accounts changed, and tell which of them are left alone."""
        routes, breaker = self._context.routes, self._context.breaker
        with self._services.db.read() as session:
            self._context.account_cache.refresh(session, self._context.leases.tenants())
            routes.default_route_only = not (accounts.any_account(session) or tenants.any_test_key(session))
        breaker.forget(routes.replace(self._context.account_cache.known))
        opened = breaker.opened()
        open_ones = {one: opened[f"{ACCOUNT}{one}"] for one in routes.known() if f"{ACCOUNT}{one}" in opened}
        if open_ones != self._told:
            self._tell_circuits(open_ones)

    def _tell_circuits(self, opened: dict[UUID, Opened]) -> None:
        for one in opened.keys() - self._told.keys():
            said = {"failures": opened[one].failures, "reply": opened[one].cause.reply}
            log.warning("circuit_opened", extra={"account_id": one, **said})
        for one in self._told.keys() - opened.keys():
            log.info("circuit_closed", extra={"account_id": one})
        rows = {one: {"failures": its.failures, "reply": str(its.cause.reply)} for one, its in opened.items()}
        with self._services.db.write() as session:
            accounts.report_circuits(session, self._context.owner, rows)
        self._told = opened

    def _hint(self) -> None:
        """Bring back mail of tenants that are active again, and give hints to what has none."""
        for _ in range(RESUMES):
            with self._services.db.write() as session:
                if record.resumed(session, RESUMING) < RESUMING:
                    break
        hint_again(self._services.db, self._services.queue, unhinted())

    def _sweep(self) -> None:
        self._mender.mend()
        if sweep(self._services, self._expired):
            self._hints_lost.set()

    def _sum_up_counts(self) -> None:
        with self._services.db.write() as session:
            repo.sum_up_counts(session)

    def _forget_idempotency_keys(self) -> None:
        forgotten = FORGOTTEN_AT_ONCE
        while forgotten == FORGOTTEN_AT_ONCE and not self._stop.is_set():
            with self._services.db.write() as session:
                forgotten = forget_expired(session, self._services.settings.IDEMPOTENCY_SECONDS)
