"""The kinds of events and the reasons a delivery may end for."""

from enum import StrEnum

from mailbbgun.messages.status import Reason as Reason


class Kind(StrEnum):
    """What happened."""

    ACCEPTED = "accepted"  # stored durably, answered 201
    DELIVERED = "delivered"  # the next server took responsibility (RFC 5321 §6.1)
    COMPLAINED = "complained"  # the recipient called it spam; it stays delivered
    DEFERRED = "deferred"  # a temporary failure; another try is due
    REFUSED = "refused"  # the server refuses us, not the mail; tried again when the account may work
    WAITING = "waiting"  # nothing was tried: every way it may take is closed, or its limits are used up
    BOUNCED = "bounced"  # a permanent failure
    EXPIRED = "expired"  # the last wait of RETRY_DELAYS has passed
    OUTCOME_UNKNOWN = "outcome_unknown"  # the end of DATA was sent and its answer lost
    WORKER_LOST = (
        "worker_lost"  # the worker that held the claim died before anything was sent, or sent again after a refusal
    )
    PARKED = "parked"  # its claims killed too many workers; a person must look
    CANCELLED = "cancelled"  # by a person, before it left
    HELD = "held"  # its tenant is suspended; it goes on when that is active again
    RETRIED = "retried"  # made due again by a person
