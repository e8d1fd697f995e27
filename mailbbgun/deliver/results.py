"""Writing results: many claims' ends in one commit, by one thread, before their places are given to others."""

import logging
import queue
import threading
import time
from uuid import UUID

from mailbbgun.core.clock import rest_after
from mailbbgun.core.errors import DatabaseUnavailable
from mailbbgun.core.faults import fault
from mailbbgun.core.outages import Outages
from mailbbgun.database.db import Database
from mailbbgun.deliver.claim import Claim
from mailbbgun.deliver.journal import Journal
from mailbbgun.deliver.leases import Leases
from mailbbgun.deliver.retry import released
from mailbbgun.events import record
from mailbbgun.events.record import Result
from mailbbgun.messages.publisher import Publisher

BATCH = 500  # results a commit
BACK_OFF_SECONDS = 1.0

log = logging.getLogger("mailbbgun.results")


class Results:
    """The writer of one process. While the database is away it keeps what it has and tries again; ``healthy`` says so to the claimer."""

    def __init__(
        self,
        owner: UUID,
        database: Database,
        journal: Journal,
        leases: Leases,
        publisher: Publisher,
        outages: Outages | None = None,
    ) -> None:
        self._outages = outages or Outages()
        self._owner = owner
        self._database = database
        self._journal = journal
        self._leases = leases
        self._publisher = publisher
        self._ended: queue.SimpleQueue[tuple[Claim, Result] | None] = queue.SimpleQueue()
        self._healthy = threading.Event()
        self._healthy.set()
        self._thread = threading.Thread(target=self._run, name="results", daemon=True)
        self._thread.start()

    @property
    def healthy(self) -> bool:
        """False while results cannot be committed: a send whose result cannot be written is how duplicates are made."""
        return self._healthy.is_set()

    def put(self, claim: Claim, result: Result) -> None:
        """Hand over how a claim ended; returns at once."""
        self._ended.put((claim, result))

    def close(self, timeout: float) -> bool:
        """Write what is there and release what was not sent, for up to ``timeout`` seconds; return whether all of it is written."""
        self._leases.void_all()
        self._ended.put(None)
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        open_, until = True, 0.0
        while open_:
            batch = [self._ended.get()]
            while len(batch) < BATCH and batch[-1] is not None:
                try:
                    batch.append(self._ended.get(timeout=max(0.0, until - time.monotonic())))
                except queue.Empty:
                    break
            started = time.monotonic()
            open_ = batch[-1] is not None
            ended = [pair for pair in batch if pair is not None]
            if ended:
                self._commit(ended)
            until = time.monotonic() + rest_after(time.monotonic() - started)
        # What a sender that outlived the grace holds and has not sent, it never will: its lease is ended.
        unsent = [(one, released(one, 0.0)) for one in self._leases.in_hand() if not self._journal.may_have_sent(one)]
        if unsent:
            self._commit(unsent)

    def _commit(self, ended: list[tuple[Claim, Result]]) -> None:
        while True:
            try:
                with self._leases.writing, self._database.write() as session:
                    standing = record.results(session, self._owner, [result for _, result in ended])
                    fault("results.commit")
                break
            except DatabaseUnavailable as error:
                # Perhaps the commit went through and its answer was lost: then the repeat finds nothing standing, which is right too.
                self._healthy.clear()
                self._outages.failed("results", error)
                time.sleep(BACK_OFF_SECONDS)
        fault("results.committed")
        self._healthy.set()
        self._outages.worked("database", "results")
        self._after_commit(ended, standing)

    def _after_commit(self, ended: list[tuple[Claim, Result]], standing: list[Result]) -> None:
        lanes = {claim.delivery_id: claim.lane for claim, _ in ended}
        for hint in {
            (lanes[result.delivery_id], result.message_id, result.hinted) for result in standing if result.hinted
        }:
            self._publisher.offer(*hint)
        written = [claim for claim, _ in ended]
        self._leases.drop(written)
        if len(standing) < len(ended):
            log.warning("fenced", extra={"results": len(ended) - len(standing)})
        try:
            self._journal.committed(written)
        except OSError as error:
            log.error("journal_failed", extra={"error": str(error)})
