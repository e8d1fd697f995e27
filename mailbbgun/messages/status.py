"""Statuses of deliveries, and of a message as their sum; the reasons why one ended as ERROR. Pure."""

from collections.abc import Collection
from enum import StrEnum

PENDING, DELIVERED, ERROR, CANCELLED = "PENDING", "DELIVERED", "ERROR", "CANCELLED"
STATUSES = (PENDING, DELIVERED, ERROR, CANCELLED)

# The first of these that any delivery has is the message's: pending while anything is, then what went wrong, then what arrived.
PRECEDENCE = (PENDING, ERROR, DELIVERED, CANCELLED)


class Reason(StrEnum):
    """Why a delivery ended as ERROR."""

    BOUNCED = "bounced"
    EXPIRED = "expired"
    OUTCOME_UNKNOWN = "outcome_unknown"
    PARKED = "parked"


# Of a message whose deliveries failed for several reasons: what a person must look at first, then what most failures are.
GRAVEST = (Reason.PARKED, Reason.OUTCOME_UNKNOWN, Reason.BOUNCED, Reason.EXPIRED)


def reason_of(reasons: Collection[str | None]) -> str | None:
    """Return a message's reason from those of its deliveries: the gravest; None if none failed."""
    return next((reason.value for reason in GRAVEST if reason in reasons), None)


def sum_of(statuses: Collection[str]) -> str:
    """Return a message's status from those of its deliveries (at least one)."""
    return next(status for status in PRECEDENCE if status in statuses)
