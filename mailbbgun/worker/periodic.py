"""Periodic tasks of a worker process, and how often each is done."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from uuid import UUID

from mailbbgun.alerts.evaluate import Evaluator
from mailbbgun.alerts.send import QUICK, SLOW, Sender
from mailbbgun.attachments import expire
from mailbbgun.batches import repo as batches
from mailbbgun.core.errors import BlobStoreUnavailable, DatabaseUnavailable, QueueUnavailable
from mailbbgun.database.idempotency import BATCH as FORGOTTEN_AT_ONCE
from mailbbgun.database.idempotency import forget_expired
from mailbbgun.deliver import workers
from mailbbgun.deliver.context import WorkerContext
from mailbbgun.domains import upkeep
from mailbbgun.domains.dns.look import LIMIT as DNS_SECONDS
from mailbbgun.drivers.loop import Loop
from mailbbgun.events.changes import circuits, holding
from mailbbgun.events.storage import partitions
from mailbbgun.files import expire as shared_files
from mailbbgun.limits import duplicates
from mailbbgun.mailboxes.expire import UnusedContents
from mailbbgun.messages import repo
from mailbbgun.messages.retention import Retention
from mailbbgun.routing.circuit_breaker import Opened
from mailbbgun.routing.routes import ACCOUNT
from mailbbgun.routing.ways_out import resolver
from mailbbgun.services import Services
from mailbbgun.smtp_accounts import repo as accounts
from mailbbgun.statistics.follow import Follower
from mailbbgun.suppressions import repo as suppressions
from mailbbgun.sweep import replay
from mailbbgun.sweep.hints import hint_again, scheduled, unhinted
from mailbbgun.sweep.mend import Mender
from mailbbgun.sweep.orphans import Orphans
from mailbbgun.sweep.sweep import sweep
from mailbbgun.tenants import repo as tenants
from mailbbgun.tracking import repo as tracking
from mailbbgun.worker.delivery import LoopWatch

#: Commits a second, and deliveries in a commit, that resume the mail of a tenant that is active
#: again. A million at once would delay the retries of others.
RESUMES, RESUMING = 5, 1000

#: Seconds between two rounds of ``domains/upkeep.py``.
DOMAINS_SECONDS = 15.0
#: Seconds between two looks for notices of alerts that are due.
NOTICE_SECONDS = 1.0
#: Seconds between two steps through the store of files.
ORPHANS_SECONDS = 10.0
#: Seconds, at least, until a task is done again that failed by an error that nobody foresaw.
FAILED_SECONDS = 10.0
#: Seconds between two looks for scheduled mail that is due.
SCHEDULE_SECONDS = 0.5

log = logging.getLogger("mailbbgun.worker")


@dataclass(frozen=True, slots=True)
class Task:
    """Something to do every so many ``seconds``. Outages are counted by ``name``.

    ``vital``: a worker that cannot do it must end, since others would take its mail for lost. An error that nobody
    foresaw in any other task stops neither this worker's mail nor the task.
    """

    seconds: float
    do: Callable[[], object]
    name: str = "other"
    vital: bool = False


class Periodic:
    """The tasks of one process.

    If a server is away, a task logs that, and is tried again.
    """

    def __init__(
        self,
        services: Services,
        context: WorkerContext,
        loop: Loop,
        mender: Mender,
        stop: threading.Event,
        nothing_in_hand: threading.Event,
        hints_lost: Callable[[], None],
    ) -> None:
        self._services, self._context, self._mender, self._stop = services, context, mender, stop
        self._watch = LoopWatch(loop, services.settings.LEASE_SECONDS)
        self._hints_lost = hints_lost
        self._told: dict[UUID, Opened] = {}  # open circuits of accounts, as the database has them
        self._contents = UnusedContents(services.db)
        self._expired = replay.Expired(services.db, services.settings)
        self._orphans = Orphans(services)
        self._alerts = Evaluator(services.db, services.settings.var, services.settings.ALERT_SECONDS, stop.is_set)
        self._notices = Sender(services, stop.is_set)
        self._retention = Retention(services.db, 0, 0)
        # Leases are renewed until the last result is written: a server's reply may be waited for during
        # the whole of SHUTDOWN_GRACE, and the delivery must stay ours meanwhile.
        self.jobs: dict[str, Callable[[], None]] = {
            name: partial(self._run, tasks, nothing_in_hand if name == "renewer" else stop)
            for name, tasks in self._tasks().items()
        }

    def _tasks(self) -> dict[str, list[Task]]:
        """Return the tasks by the name of their thread. In one thread they would delay each other."""
        db, settings, context = self._services.db, self._services.settings, self._context
        every: dict[str, list[Task]] = {
            "renewer": [Task(settings.LEASE_SECONDS / 4, self._renew_leases, vital=True)],
            "reporter": [Task(0.5, self._look_at_accounts, vital=True), Task(5.0, self._report, vital=True)],
            "domains": [Task(DOMAINS_SECONDS, self._look_after_domains)],  # name servers may be silent
            # Not in the thread "renewer", which may wait for the database.
            "toucher": [Task(settings.LEASE_SECONDS / 4, context.journal.touch, vital=True)],
            # In a thread of its own: mail must leave soon after its time.
            "scheduler": [Task(SCHEDULE_SECONDS, self._hint_scheduled, "tick")],
            "sweeper": [  # it may wait for a broker that is away
                Task(1.0, self._hint, "tick"),
                Task(float(settings.SWEEP_SECONDS), self._sweep, "sweep"),
                Task(60.0, self._forget_expired),
                Task(600.0, self._forget_addresses),
            ],
            **self._alerting(),
            "files": self._files(),
        }
        every["statistics"] = self._statistics()
        every["retention"] = [Task(60.0, self._delete_old), Task(3600.0, self._forget_batches)]
        every["log"] = [Task(600.0, self._keep_log)]  # it may wait for a lock on the whole log
        if db.dialect == "postgresql":
            every["sweeper"].append(Task(5.0, self._sum_up_counts))
        return every

    def _alerting(self) -> dict[str, list[Task]]:
        """Return what tells of trouble: what is in trouble must not hold it up."""
        return {
            "alerts": [
                Task(1.0, self._alerts.turn, "alerts"),
                Task(15.0, self._alerts.report, "alerts"),
                Task(3600.0, lambda: self._alerts.forget_old(self._services.settings.ALERT_DAYS), "alerts"),
            ],
            "notices": [Task(NOTICE_SECONDS, partial(self._notices.turn, QUICK), "alerts")],
            "notice_urls": [Task(NOTICE_SECONDS, partial(self._notices.turn, SLOW), "alerts")],
        }

    def _files(self) -> list[Task]:
        """Return the tasks that may wait for a store that is away."""
        return [
            Task(60.0, self._expire_files, "files"),
            Task(3600.0, self._forget_uploads, "uploads"),
            Task(ORPHANS_SECONDS, self._orphans.step, "orphans"),
        ]

    def _statistics(self) -> list[Task]:
        follower = Follower(self._services.db, self._services.settings, self._context.owner)
        return [
            Task(1.0, partial(follower.run, self._stop)),
            Task(3600.0, partial(follower.forget_old, self._stop)),
        ]

    def report(self) -> None:
        """Report now that this process is alive. Later the thread ``reporter`` does."""
        self._guarded(Task(5.0, self._report, vital=True))

    def _run(self, tasks: Sequence[Task], end: threading.Event) -> None:
        due = [time.monotonic() + task.seconds for task in tasks]
        while not end.wait(max(0.0, min(due) - time.monotonic())):
            for place, task in enumerate(tasks):
                if due[place] <= time.monotonic():
                    seconds = task.seconds if self._guarded(task) else max(task.seconds, FAILED_SECONDS)
                    due[place] = time.monotonic() + seconds

    def _guarded(self, task: Task) -> bool:
        """Do a task; return False if it failed by an error that nobody foresaw."""
        outages = self._services.outages
        try:
            task.do()
            outages.worked("queue", task.name)
            outages.worked("blob_store", task.name)
            if task.do == self._report:  # it writes, and often, so the database is back for all tasks
                outages.worked("database", "tick", "sweep", "other", "intake", "publish", "start")
        except (QueueUnavailable, DatabaseUnavailable, BlobStoreUnavailable) as error:
            outages.failed(task.name, error)
            if isinstance(error, QueueUnavailable):
                self._mender.mend()
        except Exception:
            if task.vital:
                raise
            of = threading.current_thread().name
            log.exception("task_failed", extra={"of": of, "retry_in": max(task.seconds, FAILED_SECONDS)})
            return False
        return True

    # The tasks.

    def _renew_leases(self) -> None:
        # What a loop that stands still has in hand is left to other workers.
        if not self._watch.stands_still():
            self._context.leases.renew(self._services.db)

    def _report(self) -> None:
        workers.beat(self._services.db, self._context.owner)
        self._context.routes.workers = workers.count_alive(self._services.db)

    def _look_at_accounts(self) -> None:
        """Read which tenants are suspended and which accounts changed. Report open circuits."""
        routes, breaker = self._context.routes, self._context.breaker
        database = self._services.db
        waiting = self._context.leases.tenants()
        self._context.account_cache.refresh(database, waiting)
        self._context.domain_keys.refresh(database, waiting)
        routes.default_route_only = not (accounts.any_account(database) or tenants.any_test_key(database))
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
            circuits.report(session, self._context.owner, rows, opened.keys() ^ self._told.keys())
        self._told = opened

    def _look_after_domains(self) -> None:
        settings = self._services.settings
        upkeep.look_after(self._services.db, settings, lambda: resolver(settings, DNS_SECONDS))

    def _hint(self) -> None:
        """Resume the mail of tenants that are active again.

        Publish hints for deliveries without one.
        """
        for _ in range(RESUMES):
            if holding.resume(self._services.db, RESUMING) < RESUMING:
                break
        hint_again(self._services.db, self._services.queue, unhinted())

    def _hint_scheduled(self) -> None:
        hint_again(self._services.db, self._services.queue, scheduled())

    def _sweep(self) -> None:
        self._mender.mend()
        if sweep(self._services, self._expired):
            self._hints_lost()

    def _sum_up_counts(self) -> None:
        with self._services.db.write() as session:
            repo.sum_up_counts(session)

    def _delete_old(self) -> None:
        """Delete messages and their bodies as the settings say now."""
        its, retention = self._services.settings, self._retention
        retention.body_days, retention.metadata_days = its.RETENTION_DAYS, its.METADATA_DAYS
        retention.run(self._stop)

    def _forget_batches(self) -> None:
        """Delete batches whose messages retention has deleted."""
        days = self._services.settings.METADATA_DAYS
        more = bool(days)
        while more and not self._stop.is_set():
            with self._services.db.write() as session:
                more = batches.forget_old(session, days) == batches.FORGOTTEN

    def _forget_expired(self) -> None:
        """Forget expired idempotency keys, suppressions and claims on mail, and the bytes of deleted mail."""
        self._contents.forget()
        forgotten = FORGOTTEN_AT_ONCE
        while forgotten == FORGOTTEN_AT_ONCE and not self._stop.is_set():
            with self._services.db.write() as session:
                forgotten = suppressions.forget_expired(session, FORGOTTEN_AT_ONCE)
        forgotten = duplicates.BATCH
        while forgotten == duplicates.BATCH and not self._stop.is_set():
            with self._services.db.write() as session:
                forgotten = duplicates.forget_expired(session)
        forgotten = FORGOTTEN_AT_ONCE
        while forgotten == FORGOTTEN_AT_ONCE and not self._stop.is_set():
            with self._services.db.write() as session:
                forgotten = forget_expired(session, self._services.settings.IDEMPOTENCY_SECONDS)

    def _keep_log(self) -> None:
        """Make the months of the log ahead, and delete those that are too old."""
        settings = self._services.settings
        partitions.make_ahead(self._services.db)
        if days := settings.EVENT_DAYS or settings.METADATA_DAYS:
            partitions.Expiry(self._services.db, days).run(self._stop)

    def _forget_addresses(self) -> None:
        """Forget the addresses of people who opened tracked mail."""
        forgotten = tracking.FORGOTTEN
        while forgotten == tracking.FORGOTTEN and not self._stop.is_set():
            with self._services.db.write() as session:
                forgotten = tracking.forget_addresses(session, self._services.settings.TRACKING_IP_DAYS)

    def _expire_files(self) -> None:
        services = self._services
        while not self._stop.is_set() and shared_files.expire(services.db):
            pass
        while not self._stop.is_set() and expire.expire(services.db, services.blobs, services.settings.ATTACHMENT_DAYS):
            pass

    def _forget_uploads(self) -> None:
        expire.forget_uploads(self._services.blobs)
