"""The leases this process holds: renewed together, and asked before anything is sent."""

import threading
from collections.abc import Iterable, Sequence
from uuid import UUID

from mailbbgun.core.clock import Clock
from mailbbgun.database.db import Database
from mailbbgun.deliver.claim import Claim, renew
from mailbbgun.deliver.transaction import Transaction


class Leases:
    """Thread-safe register of this process's claims."""

    def __init__(self, owner: UUID, seconds: int, clock: Clock) -> None:
        self._owner = owner
        self._seconds = seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._in_hand: dict[tuple[UUID, int], tuple[Claim, Transaction]] = {}  # by delivery and attempt
        self._all_void = False
        self.writing = threading.Lock()  # results and renewals of one worker update the same rows, in no common order

    def next_end(self) -> float:
        """Return when (boot clock) a lease granted by a statement that is about to run ends: reckoned from before, so never too late."""
        return self._clock.boot() + self._seconds

    def add(self, transactions: Iterable[Transaction]) -> None:
        """Begin to look after claims."""
        with self._lock:
            self._in_hand.update(
                {one.key: (one, transaction) for transaction in transactions for one in transaction.claims}
            )

    def drop(self, claims: Iterable[Claim]) -> None:
        """Look after these no more: their results are committed, or they were given back."""
        with self._lock:
            for one in claims:
                self._in_hand.pop(one.key, None)

    def void_all(self) -> None:
        """From here on no lease stands: nothing more may be sent."""
        self._all_void = True

    def stand(self, claims: Sequence[Claim]) -> bool:
        """Say whether every lease lives for a while yet. A process that was suspended finds here that it must not send."""
        margin = self._seconds / 10
        return not self._all_void and min(one.lease_ends for one in claims) - margin > self._clock.boot()

    def in_hand(self) -> list[Claim]:
        """Return every claim looked after."""
        with self._lock:
            return [one for one, _ in self._in_hand.values()]

    def tenants(self) -> set[UUID]:
        """Return whose claims are looked after."""
        with self._lock:
            return {one.tenant_id for one, _ in self._in_hand.values()}

    def renew(self, database: Database) -> None:
        """Prolong, in one statement, the claims that wait or whose sender is inside its own limit. Raises :class:`DatabaseUnavailable`."""
        now = self._clock.boot()
        with self._lock:
            wanted = [
                one for one, its in self._in_hand.values() if its.started is None or now - its.started < its.limit
            ]
        if not wanted:
            return
        ends = self.next_end()
        with self.writing, database.write() as session:
            standing = renew(session, self._owner, wanted, self._seconds)
        for one in wanted:
            if one.key in standing:
                one.lease_ends = ends
