"""Writes the results of many claims in one commit, by one thread."""

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

#: Results in one commit, at most.
BATCH = 500

#: Seconds between two attempts to commit while the database is away.
BACK_OFF_SECONDS = 1.0

log = logging.getLogger("mailbbgun.results")


class Results:
    """The writer of one process.

    While the database is away it keeps the results and tries again. ``healthy`` is False then, so
    that nothing more is claimed.
    """

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
        """Whether results can be committed.

        A mail that is sent while they cannot may be sent twice.
        """
        return self._healthy.is_set()

    def put(self, claim: Claim, result: Result) -> None:
        """Hand over the result of a claim. Returns at once."""
        self._ended.put((claim, result))

    def close(self, timeout: float) -> bool:
        """Write all results, and give back the claims that were not sent.

        Takes up to ``timeout`` seconds. Returns whether everything is written.
        """
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
        # A sender that still runs can no longer send what it has in hand: all leases are void.
        unsent = [(one, released(one, 0.0)) for one in self._leases.in_hand() if not self._journal.may_have_sent(one)]
        if unsent:
            self._commit(unsent)

    def _commit(self, ended: list[tuple[Claim, Result]]) -> None:
        while True:
            try:
                results = [result for _, result in ended]
                with self._leases.writing:
                    standing = record.commit_results(self._database, self._owner, results, _fault_before_commit)
                break
            except DatabaseUnavailable as error:
                # Perhaps it was committed and only the answer was lost. Then the repeat finds no
                # claim that still stands, and changes nothing.
                self._healthy.clear()
                self._outages.failed("results", error)
                time.sleep(BACK_OFF_SECONDS)
        fault("results.committed")
        self._healthy.set()
        self._outages.worked("database", "results")
        self._after_commit(ended, standing)

    def _after_commit(self, ended: list[tuple[Claim, Result]], standing: list[Result]) -> None:
        if hinted := [result for result in standing if result.hinted]:
            lanes = {claim.delivery_id: claim.lane for claim, _ in ended}
            for hint in {(lanes[result.delivery_id], result.message_id, result.hinted) for result in hinted}:
                self._publisher.offer(*hint)
        written = [claim for claim, _ in ended]
        self._leases.drop(written)
        if len(standing) < len(ended):
            log.warning("fenced", extra={"results": len(ended) - len(standing)})
        try:
            self._journal.committed(written)
        except OSError as error:
            log.error("journal_failed", extra={"error": str(error)})


def _fault_before_commit() -> None:
    fault("results.commit")
