"""The span of time that a question is about, and the interval in which it is answered. Pure."""

import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from mailbbgun.core.errors import InvalidInput
from mailbbgun.settings.settings import Settings
from mailbbgun.statistics.counting import DAY, HOUR, SECONDS

#: Intervals of one answer, at most.
MOST_POINTS = 5000
#: Days that are shown if nothing else is asked for.
DAYS = 30


@dataclass(frozen=True, slots=True)
class Kept:
    """For how many days the figures of each interval are kept; None: for ever."""

    minute: int | None
    hour: int | None
    day: int | None

    @classmethod
    def of(cls, settings: Settings) -> "Kept":
        """Return what the settings say."""
        return cls(settings.STATISTICS_MINUTE_DAYS, settings.STATISTICS_HOUR_DAYS, settings.STATISTICS_DAYS or None)

    def since(self, interval: str, now: float) -> int | None:
        """Return the start of the oldest figures of an interval that are kept; None: there is no oldest."""
        days: int | None = getattr(self, interval)
        if days is None:
            return None
        oldest = int(now) - days * DAY
        return oldest - oldest % SECONDS[interval]


@dataclass(frozen=True, slots=True)
class Period:
    """From ``begin`` until before ``end``, both in seconds since 1970, and both at the start of an interval."""

    begin: int
    end: int
    interval: str
    #: The longest interval whose figures sum up to this period.
    coarsest: str

    @property
    def starts(self) -> range:
        """When each interval begins."""
        return range(self.begin, self.end, SECONDS[self.interval])


def period(
    now: datetime,
    kept: Kept,
    *,
    days: int | None = None,
    begin: datetime | None = None,
    end: datetime | None = None,
    interval: str | None = None,
) -> Period:
    """Return the period that a client asks for. All days are those of UTC.

    ``days``: so many days, the last of which is today. Without ``begin`` and ``days`` it is 30 days.
    ``begin`` is moved back and ``end`` forward to the start of an interval. Raises :class:`InvalidInput`.
    """
    if days is not None and begin is not None:
        raise _wrong("days", f"{days} is given beside from; name one of them.")
    until = (now if end is None else end).astimezone(UTC)
    if begin is None:
        midnight = (
            (until - timedelta(microseconds=1)).astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        )
        begin = midnight - timedelta(days=(days or DAYS) - 1)
    if begin >= until:
        raise _wrong("from", f"{_shown(begin)} is not before {_shown(until)}, where the period ends.")
    first, end_ = math.floor(begin.timestamp()), math.ceil(until.timestamp())
    chosen = interval or _default(first, end_, kept, now.timestamp())
    seconds = SECONDS[chosen]
    first, end_ = first - first % seconds, -(-end_ // seconds) * seconds
    if (points := (end_ - first) // seconds) > MOST_POINTS:
        most = f"at most {MOST_POINTS} are answered; choose a longer interval or a shorter period"
        raise _wrong("interval", f"{chosen} would make {points} intervals, {most}.")
    oldest = kept.since(chosen, now.timestamp())
    if oldest is not None and first < oldest:
        name = "STATISTICS_DAYS" if chosen == "day" else f"STATISTICS_{chosen.upper()}_DAYS"
        held = f"Figures of each {chosen} are kept for {getattr(kept, chosen)} days ({name})"
        raise _wrong("from", f"{held}, and {_shown(begin)} is before that.")
    return Period(first, end_, chosen, _coarsest(first, end_, chosen, kept, now.timestamp()))


def _default(first: int, last: int, kept: Kept, now: float) -> str:
    """Return the interval that shows a period in at most some hundred points, and whose figures are kept."""
    for name, most in (("minute", 6 * HOUR), ("hour", 4 * DAY)):
        oldest = kept.since(name, now)
        if last - first <= most and (oldest is None or first >= oldest):
            return name
    return "day"


def _coarsest(first: int, last: int, interval: str, kept: Kept, now: float) -> str:
    """Return the longest interval at whose starts the period begins and ends. After now there are no figures."""
    for name in ("day", "hour"):
        seconds, oldest = SECONDS[name], kept.since(name, now)
        fits = not first % seconds and (not last % seconds or last > now)
        if seconds > SECONDS[interval] and fits and (oldest is None or first >= oldest):
            return name
    return interval


def _shown(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _wrong(name: str, sentence: str) -> InvalidInput:
    return InvalidInput("Some fields are not valid.", fields={name: [sentence]})
