"""Writes the results of many claims in one commit, by a thread for mail of high priority and one for the rest."""

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from uuid import UUID

from sqlalchemy.exc import ProgrammingError

from mailbbgun.core.clock import rest_after
from mailbbgun.core.errors import DatabaseUnavailable
from mailbbgun.core.faults import fault
from mailbbgun.core.outages import Outages
from mailbbgun.counters.counters import Counters
from mailbbgun.counters.families import FENCED, RESULTS, RETRIES
from mailbbgun.database.db import Database
from mailbbgun.deliver.claim import Claim, Loaded
from mailbbgun.deliver.journal import Journal
from mailbbgun.deliver.leases import Leases
from mailbbgun.deliver.retry import released, stopped, too_late, unwritable
from mailbbgun.events.changes import record
from mailbbgun.events.changes.record import Result
from mailbbgun.messages.publisher import Publisher
from mailbbgun.messages.status import PENDING
from mailbbgun.queues.lanes import HIGH
from mailbbgun.suppressions.check import TenantRecipient, suppressed

#: Results in one commit, at most: more only if those of one transaction are more.
BATCH = 500

#: The same on SQLite, which has one writer at a time, while there is mail of high priority: this worker and
#: requests of it write between two such commits. For how many seconds after the last claim of such mail.
SMALL_BATCH, SMALL_SECONDS = 25, 2.0

#: Seconds between two attempts to commit while the database is away.
BACK_OFF_SECONDS = 1.0

log = logging.getLogger("mailbbgun.results")


_Ended = tuple[Claim, Result]


class Results:
    """The writers of one process.

    Results of mail of high priority have a writer, and commits, of their own: they do not wait behind a
    large commit of others. While the database is away they keep the results and try again. ``healthy``
    is False then, so that nothing more is claimed.
    """

    def __init__(
        self,
        owner: UUID,
        database: Database,
        journal: Journal,
        leases: Leases,
        publisher: Publisher,
        outages: Outages | None = None,
        counters: Counters | None = None,
    ) -> None:
        self._database, self._journal, self._leases = database, journal, leases
        told = (owner, database, journal, leases, publisher, outages or Outages(), counters or Counters())
        self._small_until = 0.0  # monotonic seconds
        self._urgent = _Writer("urgent results", leases.writing_urgent, lambda: BATCH, *told)
        self._writer = _Writer("results", leases.writing, self._most, *told)

    @property
    def healthy(self) -> bool:
        """Whether results can be committed.

        A mail that is sent while they cannot may be sent twice.
        """
        return self._writer.healthy.is_set() and self._urgent.healthy.is_set()

    def put(self, claim: Claim, result: Result) -> None:
        """Hand over the result of a claim. Returns at once. Thread-safe."""
        self.put_together([(claim, result)])

    def put_together(self, ended: Sequence[tuple[Claim, Result]]) -> None:
        """Hand over the results of claims of one message: they are written in one commit.

        Those that wait for the same time are then due at the same moment. One claim finds them again,
        so they stay in one transaction. Returns at once. Thread-safe.
        """
        if ended:
            (self._urgent if ended[0][0].lane == HIGH else self._writer).put(ended)

    def sendable(self, claims: Sequence[Claim], messages: Mapping[UUID, Loaded], claimed: float) -> list[Claim]:
        """Return the claims that may be sent, and end the others: their messages are useful no more, or
        their recipients suppressed.

        ``claimed``: when the statement that claimed them began; boot-clock seconds. Raises
        :class:`DatabaseUnavailable`; then none has ended.
        """
        asked = {
            one: TenantRecipient(one.tenant_id, messages[one.message_id].test, one.address)
            for one in claims
            if messages[one.message_id].suppressible(one)
        }
        # After the claim's commit: an entry that this does not see waits for the claim (``suppress.py``).
        found = suppressed(self._database, asked.values()) if asked else ()
        if any(one.lane == HIGH for one in claims):
            self._small_until = time.monotonic() + SMALL_SECONDS
        sent = []
        for one in claims:
            one.key_id, useful_for = messages[one.message_id].key_id, messages[one.message_id].useful_for
            # Counted from before the claim's statement, it is never too long.
            one.useful_until = None if useful_for is None else claimed + useful_for
            if asked and asked.get(one) in found:
                self.put(one, stopped(one))
            elif one.is_late(claimed):
                self.put(one, too_late(one))
            else:
                sent.append(one)
        return sent

    def _most(self) -> int:
        """Return how many results of mail that is not of high priority may be in one commit."""
        alone = self._database.dialect == "postgresql" or time.monotonic() > self._small_until
        return BATCH if alone else SMALL_BATCH

    def close(self, timeout: float) -> bool:
        """Write all results, and give back the claims that were not sent.

        Takes up to ``timeout`` seconds. Returns whether everything is written.
        """
        self._leases.void_all()
        until = time.monotonic() + timeout
        # What is still under way can no longer be sent: all leases are void.
        self._urgent.close(list)
        self._writer.close(lambda: self._unsent(self._urgent))
        for writer in (self._urgent, self._writer):
            writer.thread.join(max(0.0, until - time.monotonic()))
        return not (self._urgent.thread.is_alive() or self._writer.thread.is_alive())

    def _unsent(self, other: "_Writer") -> "list[_Ended]":
        """Return the results that give back what was not sent, once the ``other`` writer has ended."""
        other.thread.join()
        return [(one, released(one, 0.0)) for one in self._leases.in_hand() if not self._journal.may_have_sent(one)]


class _Writer:
    """Commits results by a thread of its own. ``writing`` is held during a commit.

    ``most`` returns how many there may be in one.
    """

    def __init__(
        self,
        name: str,
        writing: threading.Lock,
        most: Callable[[], int],
        owner: UUID,
        database: Database,
        journal: Journal,
        leases: Leases,
        publisher: Publisher,
        outages: Outages,
        counters: Counters,
    ) -> None:
        self._writing, self._most = writing, most
        self._counters = counters
        self._outages = outages
        self._owner = owner
        self._database = database
        self._journal = journal
        self._leases = leases
        self._publisher = publisher
        self._ended: deque[Sequence[_Ended]] = deque()  # each is written as a whole
        self._bell = threading.Event()
        self._last: Callable[[], list[_Ended]] | None = None  # returns what to write at the end; set when closing
        self.healthy = threading.Event()
        self.healthy.set()
        self.thread = threading.Thread(target=self._run, name=name, daemon=True)
        self.thread.start()

    def put(self, ended: Sequence[_Ended]) -> None:
        self._ended.append(ended)
        if not self._bell.is_set():
            self._bell.set()

    def close(self, last: "Callable[[], list[_Ended]]") -> None:
        """Write all results, and then those that ``last`` returns; the thread ends after that."""
        self._last = last
        self._bell.set()

    def _run(self) -> None:
        rest = 0.0
        while not self._last or self._ended:
            most = self._most()
            if len(self._ended) < most:  # what comes meanwhile wakes nobody, and goes into the same commit
                time.sleep(rest)
            self._bell.wait()
            self._bell.clear()
            started = time.monotonic()
            if batch := self._next(most):
                self._commit(batch)
            if self._ended or self._last:
                self._bell.set()
            rest = rest_after(time.monotonic() - started)
        if last := self._last():
            self._commit(last)

    def _next(self, most: int) -> list[_Ended]:
        """Return the results of the next commit. Those that were put together are all in it."""
        batch: list[_Ended] = []
        while self._ended and (not batch or len(batch) + len(self._ended[0]) <= most):
            batch += self._ended.popleft()
        return batch

    def _commit(self, ended: list[_Ended]) -> None:
        while True:
            try:
                results = [result for _, result in ended]
                with self._writing:
                    standing = record.commit_results(self._database, self._owner, results, _fault_before_commit)
                break
            except DatabaseUnavailable as error:
                # Perhaps it was committed and only the answer was lost. Then the repeat finds no
                # claim that still stands, and changes nothing.
                self.healthy.clear()
                self._outages.failed("results", error)
                time.sleep(BACK_OFF_SECONDS)
            except ProgrammingError:  # the tables are not ours: nothing can be written
                raise
            except Exception as error:  # noqa: BLE001 - one of them cannot be written; _apart logs which
                for part in _apart(ended, error):
                    self._commit(part)
                return
        fault("results.committed")
        self.healthy.set()
        self._outages.worked("database", "results")
        self._after_commit(ended, standing)

    def _after_commit(self, ended: list[_Ended], standing: list[Result]) -> None:
        # `hinted` is 0 for new deliveries, which are due at once.
        if hinted := [one for one in standing if one.hinted or (one.effect is not None and one.effect.makes_due)]:
            lanes = {claim.delivery_id: claim.lane for claim, _ in ended}
            for hint in {(lanes[result.delivery_id], result.message_id, result.hinted) for result in hinted}:
                self._publisher.offer(*hint)
        self._count(standing, len(ended))
        written = [claim for claim, _ in ended]
        self._leases.drop(written)
        if len(standing) < len(ended):
            log.warning("fenced", extra={"results": len(ended) - len(standing)})
        try:
            self._journal.committed(written)
        except OSError as error:
            log.error("journal_failed", extra={"error": str(error)})

    def _count(self, standing: Sequence[Result], ended: int) -> None:
        kinds = Counter((result.kind.value, result.status) for result in standing if result.kind is not None)
        for (kind, status), n in kinds.items():
            self._counters.add(RESULTS, kind, status, n=n)
        self._counters.add(RETRIES, n=sum(result.counted and result.status == PENDING for result in standing))
        self._counters.add(FENCED, n=ended - len(standing))


def _apart(ended: list[_Ended], error: Exception) -> list[list[_Ended]]:
    """Return the halves of results that cannot be written together; of one, what is written in its place.

    Raises the error if nothing can be.
    """
    if half := len(ended) // 2:
        return [ended[:half], ended[half:]]
    [(claim, result)] = ended
    if (instead := unwritable(claim, result)) is None:
        raise error
    log.error("result_refused", exc_info=error, extra={"delivery_id": claim.delivery_id, "kind": result.kind})
    return [[(claim, instead)]]


def _fault_before_commit() -> None:
    fault("results.commit")
