"""Statuses of deliveries, and of a message as their sum. Pure."""

from collections.abc import Collection

PENDING, DELIVERED, ERROR, CANCELLED = "PENDING", "DELIVERED", "ERROR", "CANCELLED"
STATUSES = (PENDING, DELIVERED, ERROR, CANCELLED)

# The first of these that any delivery has is the message's: pending while anything is, then what went wrong, then what arrived.
PRECEDENCE = (PENDING, ERROR, DELIVERED, CANCELLED)


def sum_of(statuses: Collection[str]) -> str:
    """Return a message's status from those of its deliveries (at least one)."""
    return next(status for status in PRECEDENCE if status in statuses)
