"""The kinds of events, and the reasons of failed deliveries (from ``messages/status.py``)."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from mailbbgun.messages.status import Reason as Reason


class Kind(StrEnum):
    """What happened to a message or a delivery."""

    #: Stored durably, and answered with 201.
    ACCEPTED = "accepted"
    #: Another server sent it to a mailbox here, and it is stored durably.
    RECEIVED = "received"
    #: It is to be sent at a time that the client named.
    SCHEDULED = "scheduled"
    #: A client moved the time of its next attempt.
    RESCHEDULED = "rescheduled"
    #: The next server took responsibility (RFC 5321 §6.1).
    DELIVERED = "delivered"
    #: The recipient reported it as spam. It stays delivered.
    COMPLAINED = "complained"
    #: A temporary failure. It will be tried again.
    DEFERRED = "deferred"
    #: The server refuses us, not the mail. It is tried again when the account may be used.
    REFUSED = "refused"
    #: No server was asked: every route for it is closed or over its limits.
    WAITING = "waiting"
    #: A permanent failure.
    BOUNCED = "bounced"
    #: The last wait of RETRY_DELAYS has passed, or the time until which it was useful.
    EXPIRED = "expired"
    #: The end of DATA was sent, and its reply lost.
    OUTCOME_UNKNOWN = "outcome_unknown"
    #: The worker that held the claim died before it sent the message, or before it sent it again after a refusal.
    WORKER_LOST = "worker_lost"
    #: Its claims killed too many workers. A person must look at it.
    PARKED = "parked"
    #: A person cancelled it before it was sent.
    CANCELLED = "cancelled"
    #: Its recipient is on the tenant's suppression list. It was not sent, or not again.
    SUPPRESSED = "suppressed"
    #: The same mail was sent just before, and the API key holds such duplicates.
    DUPLICATE = "duplicate"
    #: Its recipient unsubscribed by the link in it.
    UNSUBSCRIBED = "unsubscribed"
    #: The image in a tracked mail was loaded.
    OPENED = "opened"
    #: A link in a tracked mail was followed.
    CLICKED = "clicked"
    #: Its tenant is suspended. It goes on when the tenant is active again.
    HELD = "held"
    #: A person made it due again.
    RETRIED = "retried"
    #: A worker sends no more by an SMTP account for a while, since it fails.
    CIRCUIT_OPENED = "circuit_opened"
    #: A worker sends by the account again.
    CIRCUIT_CLOSED = "circuit_closed"
    #: A worker sends no more events to a webhook, since it asked for that or failed for WEBHOOK_DAYS.
    WEBHOOK_DISABLED = "webhook_disabled"
    #: The figure of an alert was beyond its threshold for long enough.
    ALERT_FIRED = "alert_fired"
    #: It was back for long enough.
    ALERT_RESOLVED = "alert_resolved"


#: How an attempt may end: what a filter by ``attempted`` stands for. The end of an attempt is its event.
ATTEMPTED = frozenset({Kind.DELIVERED, Kind.DEFERRED, Kind.REFUSED, Kind.BOUNCED, Kind.EXPIRED, Kind.OUTCOME_UNKNOWN})

#: After these the delivery is not tried again, unless a person asks for it.
ENDS = frozenset(
    {
        Kind.DELIVERED,
        Kind.BOUNCED,
        Kind.EXPIRED,
        Kind.OUTCOME_UNKNOWN,
        Kind.PARKED,
        Kind.CANCELLED,
        Kind.SUPPRESSED,
        Kind.DUPLICATE,
    }
)


def ends(kind: Kind, data: Mapping[str, Any]) -> bool:
    """Return whether an event is final: its delivery has ended. One that names the next attempt has not."""
    return kind in ENDS and "retry_in" not in data
