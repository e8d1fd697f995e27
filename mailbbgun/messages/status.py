"""Statuses of deliveries and messages, and the reasons why a delivery ended as ERROR. Pure."""

from collections.abc import Collection
from enum import StrEnum

PENDING, DELIVERED, ERROR, CANCELLED = "PENDING", "DELIVERED", "ERROR", "CANCELLED"
STATUSES = (PENDING, DELIVERED, ERROR, CANCELLED)

#: A message's status is the first of these that any of its deliveries has.
PRECEDENCE = (PENDING, ERROR, DELIVERED, CANCELLED)


class Reason(StrEnum):
    """Why a delivery ended as ERROR."""

    BOUNCED = "bounced"
    EXPIRED = "expired"
    OUTCOME_UNKNOWN = "outcome_unknown"
    PARKED = "parked"
    ATTACHMENT_DAMAGED = "attachment_damaged"
    SUPPRESSED = "suppressed"
    DUPLICATE = "duplicate"


#: A message's reason is the first of these that any of its deliveries has. Those that a person must look at
#: come first.
GRAVEST = (
    Reason.PARKED,
    Reason.ATTACHMENT_DAMAGED,
    Reason.OUTCOME_UNKNOWN,
    Reason.BOUNCED,
    Reason.EXPIRED,
    Reason.SUPPRESSED,
    Reason.DUPLICATE,
)


def reason_of(reasons: Collection[str | None]) -> str | None:
    """Return a message's reason, given those of its deliveries: the gravest; None if none failed."""
    return next((reason.value for reason in GRAVEST if reason in reasons), None)


def sum_of(statuses: Collection[str]) -> str:
    """Return a message's status, given those of its deliveries, of which there is at least one."""
    return next(status for status in PRECEDENCE if status in statuses)
