"""Makes sums of events: what each event adds, and to which rows. Pure.

An event adds to a minute, an hour and a day, and in each to the row of all mail and to those of its
labels: its tags, its recipient's domain, and the account that it left through.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
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
    @property
    def test(self) -> bool: ...
    @property
    def tags(self) -> Sequence[str]: ...
    @property
    def accepted_at(self) -> datetime | None: ...
    @property
    def received(self) -> bool: ...


class EventFacts(NamedTuple):
    """What else must be known of the messages of some events.

    ``scheduled``: when the first attempt of scheduled messages was due. ``recipients``: how many
    recipients each message that was accepted has in each domain.
    """

    scheduled: Mapping[UUID, datetime] = {}
    recipients: Mapping[UUID, Mapping[str, int]] = {}


class RollupRow(NamedTuple):
    """Names a row. ``start``: when its interval begins, in seconds since 1970."""

    interval: str
    dimension: str
    start: int
    value: str
    test: bool


@dataclass(slots=True)
class LabelSums:
    """Sums of counts by name, and of times to deliver by bucket."""

    counts: Counter[str] = field(default_factory=Counter)
    times: Counter[int] = field(default_factory=Counter)

    def add(self, counts: Mapping[str, int], times: Mapping[int, int]) -> None:
        """Add other sums to these. Faster than ``Counter.update``: this is done for thousands of rows."""
        mine = self.counts
        for name, number in counts.items():
            mine[name] = mine.get(name, 0) + number
        my_times = self.times
        for bucket, number in times.items():
            my_times[bucket] = my_times.get(bucket, 0) + number


def sums(events: Iterable[CountedEvent], facts: EventFacts, since: int | None = None) -> dict[RollupRow, LabelSums]:
    """Return what these events add, by row, in the order in which rows first occur.

    Events without a message, those of messages from other servers, which the tenant did not send, and
    those before ``since`` (seconds since 1970) add nothing.
    """
    minutes: dict[tuple[str, str, int, bool], LabelSums] = {}
    for event in events:
        moment = int(event.at.timestamp())
        if event.message_id is None or event.received or (since is not None and moment < since):
            continue
        minute = moment - moment % MINUTE
        for dimension, value, counts, times in _added(event, event.message_id, facts):
            key = (dimension, value, minute, event.test)
            if (figures := minutes.get(key)) is None:
                figures = minutes[key] = LabelSums()
            figures.add(counts, times)
    return _rolled_up(minutes)


def _rolled_up(minutes: Mapping[tuple[str, str, int, bool], LabelSums]) -> dict[RollupRow, LabelSums]:
    """Return the sums of minutes, and those of their hours and days."""
    found: dict[RollupRow, LabelSums] = {}
    for (dimension, value, minute, test), figures in minutes.items():
        for interval, seconds in SECONDS.items():
            row = RollupRow(interval, dimension, minute - minute % seconds, value, test)
            found.setdefault(row, LabelSums()).add(figures.counts, figures.times)
    return found


#: A label, and what an event adds to its counts and times.
Added = tuple[str, str, Mapping[str, int], Mapping[int, int]]
_NO_TIMES: Mapping[int, int] = {}
# Their names as plain texts: to read the value of a member of an enumeration takes long.
_NONE, _TAG, _DOMAIN, _ACCOUNT = (one.value for one in Dimension)


def _added(event: CountedEvent, message_id: UUID, facts: EventFacts) -> Iterator[Added]:
    """Yield each label of an event, and what it adds there."""
    if event.kind == ACCEPTED:
        given, domains = event.data.get("recipients"), facts.recipients.get(message_id, {})
        number = sum(domains.values()) or (given if isinstance(given, int) else 1)
        counts, times = {MESSAGES: 1, ACCEPTED: number}, _NO_TIMES
        for domain, its in domains.items():
            yield _DOMAIN, domain, {MESSAGES: 1, ACCEPTED: its}, _NO_TIMES
    else:
        counts, times = _of_delivery(event, facts.scheduled.get(message_id, event.accepted_at))
        if event.recipient and (domain := domain_of(event.recipient)):
            yield _DOMAIN, domain, counts, times
        if isinstance(account := event.data.get("account"), str) and account:
            yield _ACCOUNT, account, counts, times
    yield _NONE, ALL, counts, times
    for tag in dict.fromkeys(event.tags):
        yield _TAG, tag, counts, times


def _of_delivery(event: CountedEvent, due_at: datetime | None) -> tuple[dict[str, int], Mapping[int, int]]:
    counts = {str(event.kind): 1}
    reason = event.data.get("reason") or _FAILURES.get(event.kind)
    if reason:
        counts |= {FAILED: 1, f"{ERROR}{reason}": 1}
    if event.kind == DELIVERED and due_at is not None:
        return counts, {bucket_of((event.at - due_at).total_seconds()): 1}
    return counts, _NO_TIMES


def domain_of(address: str) -> str:
    """Return the domain of an address, in lower case."""
    return address.rpartition("@")[2].lower()


def admitted(
    found: Mapping[RollupRow, LabelSums], known: Mapping[tuple[str, int, bool], set[str]], most: int
) -> dict[RollupRow, LabelSums]:
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
    together: dict[RollupRow, LabelSums] = {}
    for row, figures in found.items():
        if row.dimension != Dimension.NONE:
            day = row.start - row.start % DAY
            row = row if row.value in days[row.dimension, day, row.test] else row._replace(value=REST)
        together.setdefault(row, LabelSums()).add(figures.counts, figures.times)
    return together
