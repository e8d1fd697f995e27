"""Statuses of deliveries and messages, and the moves between them. Pure."""

from collections.abc import Collection

PENDING, DELIVERED, ERROR, CANCELLED = "PENDING", "DELIVERED", "ERROR", "CANCELLED"
STATUSES = (PENDING, DELIVERED, ERROR, CANCELLED)

# From → to. A delivery that ended as ERROR may be made due again by a person; the other ends are final.
MOVES = {
    PENDING: frozenset({PENDING, DELIVERED, ERROR, CANCELLED}),
    ERROR: frozenset({PENDING}),
    DELIVERED: frozenset[str](),
    CANCELLED: frozenset[str](),
}

# The first of these that any delivery has is the message's: pending while anything is, then what went wrong, then what arrived.
PRECEDENCE = (PENDING, ERROR, DELIVERED, CANCELLED)


def may_move(source: str, target: str) -> bool:
    """Say whether a delivery may go from one status to another."""
    return target in MOVES[source]


def sum_of(statuses: Collection[str]) -> str:
    """Return a message's status from those of its deliveries (at least one)."""
    return next(status for status in PRECEDENCE if status in statuses)
