"""Makes sums of events: what each event adds, and to which rows. Pure.

An event adds to a minute, an hour and a day, and in each to the row of all mail and to those of its
labels: its tags, its recipient's domain, and the account that it left through.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple, Protocol
from uuid import UUID

from mailbbgun.events.kinds import Kind, Reason
from mailbbgun.statistics.histogram import bucket_of

#: Seconds of each interval. It divides the next one.
MINUTE, HOUR, DAY = 60, 3600, 86_400
SECONDS = {"minute": MINUTE, "hour": HOUR, "day": DAY}

#: The value of the row for labels beyond STATISTICS_LABELS. No label is empty.
REST = ""
#: The value of the row of all mail.
ALL = ""


class Dimension(StrEnum):
    """By what mail is told apart."""

    NONE = "none"
    TAG = "tag"
    DOMAIN = "domain"
    ACCOUNT = "account"


# Names of counts besides the kinds of events. ``accepted`` counts recipients, as all others do.
MESSAGES, ACCEPTED, DELIVERED, FAILED = "messages", Kind.ACCEPTED.value, Kind.DELIVERED.value, "failed"
#: Before the reason of a failure, in the name of its count.
ERROR = "error."
# Events that end a delivery, although some name no reason.
_FAILURES = {Kind.SUPPRESSED.value: Reason.SUPPRESSED.value, Kind.DUPLICATE.value: Reason.DUPLICATE.value}


class CountedEvent(Protocol):
    """What is counted of an event: see ``events/reading.LoggedEvent``."""

    @property
    def at(self) -> datetime: ...
    @property
    def kind(self) -> str: ...
    @property
    def message_id(self) -> UUID | None: ...
    @property
    def data(self) -> Mapping[str, object]: ...
    @property
    def recipient(self) -> str | None: ...


class Facts(NamedTuple):
    """What is known of an event's message.

    ``due_at``: when its first attempt was due, from which the time to deliver is counted.
    ``recipients``: how many it has in each domain; empty unless the event is its acceptance.
    """

    due_at: datetime | None = None
    test: bool = False
    tags: tuple[str, ...] = ()
    recipients: Mapping[str, int] = {}


#: Of a message that has been deleted.
UNKNOWN = Facts()


class Row(NamedTuple):
    """Names a row. ``start``: when its interval begins, in seconds since 1970."""

    interval: str
    dimension: str
    start: int
    value: str
    test: bool


@dataclass(slots=True)
class Figures:
    """Sums of counts by name, and of times to deliver by bucket."""

    counts: Counter[str] = field(default_factory=Counter)
    times: Counter[int] = field(default_factory=Counter)

    def add(self, other: "Figures") -> None:
        """Add other sums to these."""
        self.counts.update(other.counts)
        self.times.update(other.times)


def sums(events: Iterable[CountedEvent], facts: Mapping[UUID, Facts], since: int | None = None) -> dict[Row, Figures]:
    """Return what these events add, by row, in the order in which rows first occur.

    Events without a message, and those before ``since`` (seconds since 1970), add nothing.
    """
    found: dict[Row, Figures] = {}
    for event in events:
        moment = int(event.at.timestamp())
        if event.message_id is None or (since is not None and moment < since):
            continue
        known = facts.get(event.message_id, UNKNOWN)
        for dimension, value, added in _added(event, known):
            for interval, seconds in SECONDS.items():
                row = Row(interval, dimension, moment - moment % seconds, value, known.test)
                found.setdefault(row, Figures()).add(added)
    return found


def _added(event: CountedEvent, facts: Facts) -> Iterator[tuple[Dimension, str, Figures]]:
    """Yield each label of an event, and what it adds there."""
    if event.kind == ACCEPTED:
        given = event.data.get("recipients")
        number = sum(facts.recipients.values()) or (given if isinstance(given, int) else 1)
        every = Figures(Counter({MESSAGES: 1, ACCEPTED: number}))
        for domain, its in facts.recipients.items():
            yield Dimension.DOMAIN, domain, Figures(Counter({MESSAGES: 1, ACCEPTED: its}))
    else:
        every = _of_delivery(event, facts)
        if event.recipient and (domain := domain_of(event.recipient)):
            yield Dimension.DOMAIN, domain, every
        if isinstance(account := event.data.get("account"), str) and account:
            yield Dimension.ACCOUNT, account, every
    yield Dimension.NONE, ALL, every
    for tag in dict.fromkeys(facts.tags):
        yield Dimension.TAG, tag, every


def _of_delivery(event: CountedEvent, facts: Facts) -> Figures:
    added = Figures(Counter({str(event.kind): 1}))
    reason = event.data.get("reason") or _FAILURES.get(event.kind)
    if reason:
        added.counts.update((FAILED, f"{ERROR}{reason}"))
    if event.kind == DELIVERED and facts.due_at is not None:
        added.times[bucket_of((event.at - facts.due_at).total_seconds())] += 1
    return added


def domain_of(address: str) -> str:
    """Return the domain of an address, in lower case."""
    return address.rpartition("@")[2].lower()


def admitted(
    found: Mapping[Row, Figures], known: Mapping[tuple[str, int, bool], set[str]], most: int
) -> dict[Row, Figures]:
    """Return the sums with at most ``most`` values of a dimension in one day; the others are summed up as REST.

    ``known`` has the values that each dimension, day and test flag has already. The first come are
    told apart, so the result does not depend on how the log was cut into pieces.
    """
    days: dict[tuple[str, int, bool], set[str]] = {key: {*values} - {REST} for key, values in known.items()}
    for row in found:
        if row.interval == "day" and row.dimension != Dimension.NONE:
            values = days.setdefault((row.dimension, row.start, row.test), set())
            if len(values) < most:
                values.add(row.value)
    together: dict[Row, Figures] = {}
    for row, figures in found.items():
        if row.dimension != Dimension.NONE:
            day = row.start - row.start % DAY
            row = row if row.value in days[row.dimension, day, row.test] else row._replace(value=REST)
        together.setdefault(row, Figures()).add(figures)
    return together
