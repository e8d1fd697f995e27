"""What is known of a pending or ended delivery, as values."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from mailbbgun.messages.status import PENDING

#: How a message leaves: by accounts of its tenant, to the catcher, to the server of SMTP_URL, to each domain's MX,
#: to Slack, to a URL, or not at all: to a mailbox here.
KINDS = ("accounts", "catcher", "server", "mx", "slack", "local", "post")
ACCOUNTS, CATCHER, SERVER, MX, SLACK, LOCAL, POST = KINDS


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountFacts:
    """An account that fits a mail. ``since``: when its circuit opened, with ``reply``; None: it is closed."""

    id: UUID
    name: str
    priority: int = 10
    since: datetime | None = None
    reply: str | None = None
    used_today: int | None = None
    max_per_day: int | None = None
    readable: bool = True

    @property
    def used_up(self) -> bool:
        """Whether it has sent all that it may today."""
        return self.max_per_day is not None and (self.used_today or 0) >= self.max_per_day

    @property
    def open(self) -> bool:
        """Whether mail may leave through it now."""
        return self.readable and self.since is None and not self.used_up


@dataclass(frozen=True, slots=True)
class Way:
    """How a mail may leave: one of :data:`KINDS`, and the accounts that fit, the one to be tried first first."""

    kind: str
    accounts: Sequence[AccountFacts] = ()

    @property
    def best(self) -> AccountFacts | None:
        """The account that is tried next; None if none may be used now, or none is needed."""
        return next((one for one in self.accounts if one.open), None)


@dataclass(frozen=True, slots=True)
class LastEvent:
    """The last event of a delivery that tells why it waits."""

    kind: str
    reply: str | None
    account: str | None = None


class KeptMail(NamedTuple):
    """Where a delivered mail is: in a mailbox of its tenant."""

    id: UUID
    address: str
    folder: str
    since: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryFacts:
    """All that decides where a delivery is. ``now`` is by the database's clock."""

    now: datetime
    address: str
    way: Way
    status: str = PENDING
    reason: str | None = None
    attempts: int = 0
    crashes: int = 0
    reply: str | None = None
    finished_at: datetime | None = None
    next_attempt_at: datetime | None = None
    published_at: datetime | None = None
    scheduled: bool = False
    lease_until: datetime | None = None
    worker: str | None = None  # who has claimed it: host and process
    worker_alive: bool = False
    workers_alive: int = 1
    suspended: bool = False
    useful_until: datetime | None = None
    last: LastEvent | None = None
    duplicate_of: str | None = None
    cause: str | None = None  # what the last reply means: a key of bounces.causes.CAUSES, or the operator's

    kept: KeptMail | None = None

    @property
    def due(self) -> bool:
        """Whether its next attempt is due."""
        return self.next_attempt_at is not None and self.next_attempt_at <= self.now
