"""The families of metrics that processes count: names, help texts and labels."""

from enum import StrEnum
from typing import NamedTuple


class Type(StrEnum):
    """The type of a family, as Prometheus calls it."""

    COUNTER = "counter"
    HISTOGRAM = "histogram"
    GAUGE = "gauge"


class Family(NamedTuple):
    """A family of metrics. ``name`` of a counter is without the suffix ``_total``."""

    type: Type
    name: str
    help: str
    labels: tuple[str, ...] = ()


#: Seconds: upper bounds of the buckets of histograms. SMTP replies take from a millisecond to five minutes.
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)

ACCEPTED = Family(
    Type.COUNTER, "mailbbgun_accepted_messages", "Messages that were stored, by the lane of their hints.", ("lane",)
)
RECEIVED = Family(
    Type.COUNTER, "mailbbgun_received_messages", "Those of the accepted messages that other mail servers handed in."
)
REQUESTS = Family(
    Type.COUNTER,
    "mailbbgun_requests",
    "Requests that the API has answered: successful, or failed with a status from 400 on.",
    ("result",),
)
LAST_REQUEST = Family(
    Type.GAUGE,
    "mailbbgun_last_request_timestamp_seconds",
    "When each API process last answered a request.",
    ("process",),
)
ATTEMPTS = Family(
    Type.COUNTER,
    "mailbbgun_attempts",
    "Attempts to deliver to one recipient, by what came of it and by SMTP account. account_id is empty for mail "
    "without an account; both are other beyond METRICS_ACCOUNTS.",
    ("outcome", "account", "account_id"),
)
RESULTS = Family(
    Type.COUNTER,
    "mailbbgun_results",
    "Results of claims that were committed, by the kind of their event and the delivery's status after it.",
    ("kind", "status"),
)
RETRIES = Family(Type.COUNTER, "mailbbgun_retries", "Retries that were planned by RETRY_DELAYS or a server's wish.")
FENCED = Family(
    Type.COUNTER, "mailbbgun_fenced_results", "Results that were not written, since another worker had the claim."
)
PHASES = Family(
    Type.HISTOGRAM,
    "mailbbgun_smtp_phase_seconds",
    "Time until the reply of an SMTP phase, from the reply before. Commands that are sent together share it.",
    ("phase",),
)
CONNECTIONS_OPENED = Family(
    Type.COUNTER, "mailbbgun_smtp_connections_opened", "SMTP connections that were opened, by result.", ("result",)
)
IDLE_CONNECTIONS = Family(Type.GAUGE, "mailbbgun_smtp_idle_connections", "SMTP connections that are kept for reuse.")
SEND_QUEUE = Family(
    Type.GAUGE, "mailbbgun_send_queue_transactions", "Claimed transactions in the send queues of workers.", ("state",)
)
CIRCUITS = Family(Type.GAUGE, "mailbbgun_open_circuits", "Routes that workers have paused, by the cause.", ("cause",))
WEBHOOKS = Family(
    Type.COUNTER,
    "mailbbgun_webhooks",
    "Requests to webhook endpoints, by their result: ok, failed or gone.",
    ("result",),
)
RETURNED = Family(
    Type.COUNTER,
    "mailbbgun_returned_mail",
    "Mail to RETURN_PATH_DOMAIN, by what came of it: the kind of its event, nothing if it was known or matched no "
    "delivery, and forged if its return path is none of ours or too old.",
    ("result",),
)

#: All families that processes count. Each is in ``GET /metrics``, even before anything was counted.
FAMILIES = (
    *(ACCEPTED, RECEIVED, REQUESTS, LAST_REQUEST),
    *(ATTEMPTS, RESULTS, RETRIES, FENCED, PHASES, CONNECTIONS_OPENED),
    *(IDLE_CONNECTIONS, SEND_QUEUE, CIRCUITS, WEBHOOKS, RETURNED),
)
BY_NAME = {one.name: one for one in FAMILIES}
