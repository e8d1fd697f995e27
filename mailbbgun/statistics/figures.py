"""The verb: answer what a tenant sent in a period, and what became of it.

The HTTP API, the exports and the command line use it.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from mailbbgun.core.clock import rfc3339
from mailbbgun.core.errors import InvalidInput
from mailbbgun.events.kinds import Kind
from mailbbgun.messages.status import CANCELLED, DELIVERED, ERROR
from mailbbgun.settings.settings import Settings
from mailbbgun.statistics import counting, repo
from mailbbgun.statistics.counting import Dimension, LabelSums
from mailbbgun.statistics.histogram import quantile
from mailbbgun.statistics.period import Kept, Period, period

#: What figures may be grouped by. ``status`` needs no rows of its own.
GROUPS = ("tag", "domain", "account", "status")
#: Parameters that choose the mail with one label.
LABELS = ("tag", "domain", "account")
#: The counts that are shown. Each is a number of recipients, but for ``messages`` and ``deferred``.
COUNTS = (
    *("messages", "accepted", "delivered", "failed", "deferred", "cancelled", "complained", "unsubscribed"),
    *("opened", "clicked"),
)
PERCENTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
#: How people see the sum of labels beyond STATISTICS_LABELS.
OTHER = "other"
#: Rows that one query of an export reads.
PAGE = 1000


@dataclass(frozen=True, slots=True)
class FiguresQuery:
    """What is asked: whose mail, of which period, and with which label (``dimension`` and ``value``)."""

    tenant_id: UUID
    test: bool
    tests_only: bool
    period: Period
    group_by: str | None = None
    dimension: Dimension = Dimension.NONE
    value: str = counting.ALL


def question(
    tenant_id: UUID, tests_only: bool, asked: Mapping[str, Any], settings: Settings, now: datetime
) -> FiguresQuery:
    """Return the question that parameters ask (``schemas.Asked``). Raises :class:`InvalidInput`."""
    span = {name: asked.get(name) for name in ("days", "begin", "end", "interval")}
    labels = {name: asked[name] for name in LABELS if asked.get(name) is not None}
    group_by = asked.get("group_by")
    if len(labels) > 1 or (labels and group_by not in (None, "status")):
        name = next(iter(labels))
        beside = f"group_by={group_by}" if len(labels) == 1 else next(one for one in labels if one != name)
        sentence = (
            f"{labels[name]!r} is given beside {beside}; figures are kept for one label at a time. Leave one out."
        )
        raise InvalidInput("Some fields are not valid.", fields={name: [sentence]})
    (dimension, value), *_ = [*labels.items(), (Dimension.NONE.value, counting.ALL)]
    return FiguresQuery(
        tenant_id,
        test=tests_only or bool(asked.get("test")),
        tests_only=tests_only,
        period=period(now, Kept.of(settings), **span),
        group_by=group_by,
        dimension=Dimension(dimension),
        value=value,
    )


def answer(session: Session, asked: FiguresQuery) -> dict[str, Any]:
    """Return the figures in the form that ``schemas.FiguresShape`` takes."""
    span, total, points = asked.period, LabelSums(), {start: LabelSums() for start in asked.period.starts}
    limits = (span.begin, span.end)
    for start, _, counts, times in repo.found(
        session, asked.tenant_id, asked.dimension, span.interval, limits, test=asked.test, value=asked.value
    ):
        points[start].add(counts, times)
        total.add(counts, times)
    number, oldest = repo.pending(session, asked.tenant_id, test=asked.test, tests_only=asked.tests_only)
    by_account = asked.dimension is Dimension.ACCOUNT
    return {
        "begin": _moment(span.begin),
        "end": _moment(span.end),
        "interval": span.interval,
        "group_by": asked.group_by,
        "total": shown(total, by_account=by_account),
        "points": [{"at": _moment(at), **shown(its, by_account=by_account)} for at, its in points.items()],
        "groups": _groups(session, asked, asked.group_by, total) if asked.group_by else None,
        "queue": {"pending": number, "oldest_accepted_at": oldest},
    }


def _groups(session: Session, asked: FiguresQuery, group_by: str, total: LabelSums) -> list[dict[str, Any]]:
    if group_by == "status":
        return _by_status(total)
    dimension, span = Dimension(group_by), asked.period
    sums: dict[str, LabelSums] = {}
    limits = (span.begin, span.end)
    for _, value, counts, times in repo.found(
        session, asked.tenant_id, dimension, span.coarsest, limits, test=asked.test
    ):
        sums.setdefault(value, LabelSums()).add(counts, times)
    by_account = dimension is Dimension.ACCOUNT
    groups = [{**named(value), **shown(its, by_account=by_account)} for value, its in sums.items()]
    size = ("delivered", "failed") if by_account else ("accepted",)
    return sorted(groups, key=lambda one: (one["rest"], -sum(one[name] for name in size), one["name"]))


def _by_status(total: LabelSums) -> list[dict[str, Any]]:
    """Return how many deliveries ended in each status, and as ERROR for each reason."""
    ends: list[tuple[str, str | None, int]] = [
        (DELIVERED, None, total.counts[Kind.DELIVERED]),
        (CANCELLED, None, total.counts[Kind.CANCELLED]),
    ]
    ends += [(ERROR, reason, number) for reason, number in reasons(total).items()]
    every = sum(number for _, _, number in ends)
    return [
        {"name": status, "reason": reason, "deliveries": number, "rate": _rate(number, every)}
        for status, reason, number in sorted(ends, key=lambda one: -one[2])
        if number
    ]


def rows(database_read: Any, asked: FiguresQuery) -> Iterator[dict[str, Any]]:
    """Yield the figures of each interval and group, with no interval that has none; a page at a time.

    ``database_read`` opens a session.
    """
    span, after = asked.period, None
    grouped = asked.group_by if asked.group_by != "status" else None
    dimension, value = (Dimension(grouped), None) if grouped else (asked.dimension, asked.value)
    while True:
        with database_read() as session:
            page = list(
                repo.found(
                    session, asked.tenant_id, dimension, span.interval, (span.begin, span.end),
                    test=asked.test, value=value, after=after, limit=PAGE,
                )
            )  # fmt: skip
        for start, its_value, counts, times in page:
            its = LabelSums(Counter(counts), Counter(times))
            at = {"at": _moment(start), **(named(its_value) if grouped else {})}
            if asked.group_by == "status":
                yield from ({**at, **one} for one in _by_status(its))
            else:
                yield {**at, **shown(its, by_account=dimension is Dimension.ACCOUNT)}
        if len(page) < PAGE:
            return
        after = page[-1][:2]


def named(value: str) -> dict[str, Any]:
    """Return a group's name, and whether it is the rest."""
    rest = value == counting.REST
    return {"name": OTHER if rest else value, "rest": rest}


def shown(its: LabelSums, *, by_account: bool = False) -> dict[str, Any]:
    """Return sums with rates and percentiles.

    Rates are parts of what was accepted. An account accepts nothing, so its rates are parts of the
    deliveries that ended there.
    """
    counts: dict[str, Any] = {name: its.counts[name] for name in COUNTS}
    whole = counts["delivered"] + counts["failed"] if by_account else counts["accepted"]
    return {
        **counts,
        "reasons": reasons(its),
        "rates": {name: _rate(counts[name], whole) for name in ("delivered", "failed", "deferred")},
        "time_to_deliver": {name: quantile(its.times, part) for name, part in PERCENTILES.items()},
    }


def reasons(its: LabelSums) -> dict[str, int]:
    """Return how many deliveries failed for each reason."""
    return {
        name.removeprefix(counting.ERROR): number
        for name, number in sorted(its.counts.items())
        if name.startswith(counting.ERROR)
    }


def flat(its: Mapping[str, Any]) -> dict[str, Any]:
    """Return figures as cells of a row of CSV."""
    cells: dict[str, Any] = {}
    for name, value in its.items():
        match value:
            case dict() if name == "reasons":
                pass  # its columns would differ from row to row
            case dict():
                cells |= {f"{name}_{part}": number for part, number in value.items()}
            case datetime():
                cells[name] = rfc3339(value)
            case _:
                cells[name] = value
    return cells


def _rate(number: int, whole: int) -> float | None:
    return round(number / whole, 4) if whole else None


def _moment(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
