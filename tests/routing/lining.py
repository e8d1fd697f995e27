"""Transactions, and a clock that is set by hand, for tests of the send queue."""

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID, uuid4

from mailbbgun.core.ids import DEFAULT_TENANT
from mailbbgun.deliver.claim import Claim
from mailbbgun.deliver.transaction import Transaction
from mailbbgun.routing.send_queue import SendQueue


def transaction(route: str = "a.test", lane: str = "normal", tenant: UUID = DEFAULT_TENANT) -> Transaction:
    claim = Claim(uuid4(), uuid4(), tenant, f"x@{route}", lane, 1, 0, 0, 0.0)
    return Transaction(claim.message_id, "f@x.test", False, b"", route, [claim])


def following(lines: SendQueue[Transaction]) -> Transaction | None:
    """Take one transaction, if one may go."""
    taken = lines.take(1)
    return taken[0] if taken else None


@contextmanager
def idle_sender(lines: SendQueue) -> Iterator[None]:
    """A connection that has nothing to do, for there is nothing that may be taken."""
    assert lines.take(1) == []
    yield
    lines.close()
    assert lines.take(1) == []


def lined_up(lines: SendQueue, count: int, route: str = "slow.test", lane: str = "normal") -> list[Transaction]:
    added = [transaction(route, lane) for _ in range(count)]
    for one in added:
        lines.add([one])
    return added


class Hands:
    """A clock that is set by hand."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now
