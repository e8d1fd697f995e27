"""The leases of this process. They are renewed together, and checked before each final dot."""

import threading
from collections.abc import Iterable, Sequence
from uuid import UUID

from mailbbgun.core.clock import Clock
from mailbbgun.database.db import Database
from mailbbgun.deliver.claim import Claim, renew
from mailbbgun.deliver.transaction import Transaction


class Leases:
    """The claims that this process has in hand. Thread-safe."""

    def __init__(self, owner: UUID, seconds: int, clock: Clock) -> None:
        self._owner = owner
        self._seconds = seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._in_hand: dict[Claim, Transaction] = {}
        self._all_void = False
        # A writer of results and renewals take turns: they update the same rows, in no common order, and
        # could lock each other out. The two writers of results need not: no message is of both.
        self.writing, self.writing_urgent = threading.Lock(), threading.Lock()

    def next_end(self) -> float:
        """Return when a lease ends that the next statement grants; boot-clock seconds.

        It is computed before the statement runs, so it is never later than in the database.
        """
        return self._clock.boot() + self._seconds

    def add(self, transactions: Iterable[Transaction]) -> None:
        """Begin to renew the leases of these transactions' claims."""
        with self._lock:
            self._in_hand.update({one: transaction for transaction in transactions for one in transaction.claims})

    def drop(self, claims: Iterable[Claim]) -> None:
        """Stop renewing these claims: their results are committed."""
        with self._lock:
            for one in claims:
                self._in_hand.pop(one, None)

    def void_all(self) -> None:
        """Void all leases: from now on this process may send no dot."""
        self._all_void = True

    def stand(self, claims: Sequence[Claim]) -> bool:
        """Return whether the leases of all these claims last long enough to send the dot now.

        A process that was suspended finds here that its leases have run out.
        """
        margin = self._seconds / 10
        return not self._all_void and min(one.lease_ends for one in claims) - margin > self._clock.boot()

    def let_expire(self, transaction: Transaction) -> None:
        """Renew the leases of this transaction's claims no more."""
        transaction.started, transaction.limit = self._clock.boot(), 0.0

    def in_hand(self) -> list[Claim]:
        """Return all claims that this process has in hand."""
        with self._lock:
            return list(self._in_hand)

    def tenants(self) -> set[UUID]:
        """Return the tenants of these claims."""
        with self._lock:
            return {one.tenant_id for one in self._in_hand}

    def renew(self, database: Database) -> None:
        """Renew the leases of claims that wait, or whose sending is within its time limit.

        The lease of a transaction that hangs is not renewed. Raises :class:`DatabaseUnavailable`.
        """
        now = self._clock.boot()
        with self._lock:
            # Those that were let expire are not ours any more once the sweep may have settled them.
            past = [one for one, its in self._in_hand.items() if not its.limit and its.started]
            for one in past:
                if now > one.lease_ends + self._seconds:
                    del self._in_hand[one]
            wanted = [one for one, its in self._in_hand.items() if its.started is None or now - its.started < its.limit]
        if not wanted:
            return
        ends = self.next_end()
        with self.writing, self.writing_urgent:
            standing = renew(database, self._owner, wanted, self._seconds)
        for one in wanted:
            if one.key in standing:
                one.lease_ends = ends
