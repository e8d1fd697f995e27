"""Finds what grows: slopes, bounds and the table that shows them. Pure functions."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

Sample = Mapping[str, float]
POINTS = 60  # most points used for a slope


@dataclass(frozen=True, slots=True)
class Bound:
    """How much a gauge may grow in the second half of a run, and the most it may reach there."""

    growth: float = math.inf
    most: float = math.inf

    def __str__(self) -> str:
        limits = {"+": self.growth, "≤ ": self.most}
        return ", ".join(f"{sign}{value:.6g}" for sign, value in limits.items() if value < math.inf) or "none"


@dataclass(frozen=True, slots=True)
class Trend:
    """A gauge over a run. ``growth`` is that of the second half; ``slope`` is growth per hour."""

    first: float
    last: float
    most: float
    slope: float
    growth: float
    bound: Bound

    @property
    def well(self) -> bool:
        """Whether it stayed within its bound."""
        return self.growth <= self.bound.growth and self.most <= self.bound.most


def trends(times: Sequence[float], samples: Sequence[Sample], bounds: Mapping[str, Bound]) -> dict[str, Trend]:
    """Return the trend of each gauge.

    ``times`` are seconds. A gauge without a bound may do anything.
    """
    half = [number for number, time in enumerate(times) if time >= (times[0] + times[-1]) / 2]
    seconds = times[-1] - times[half[0]]
    found = {}
    for name in samples[0]:
        values = [sample[name] for sample in samples]
        rate = slope([times[number] for number in half], [values[number] for number in half])
        most = max(values[number] for number in half)
        found[name] = Trend(values[0], values[-1], most, rate * 3600, rate * seconds, bounds.get(name, Bound()))
    return found


def slope(times: Sequence[float], values: Sequence[float]) -> float:
    """Return growth per second: the median slope of all pairs of points (Theil–Sen).

    A few odd samples do not change it.
    """
    points = _thinned(list(zip(times, values, strict=True)))
    return statistics.median(
        [(late - early) / (then - now) for (now, early), (then, late) in combinations(points, 2) if then > now] or [0.0]
    )


def _thinned(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    size = math.ceil(len(points) / POINTS)
    groups = [points[low : low + size] for low in range(0, len(points), size)]
    return [
        (statistics.median(time for time, _ in group), statistics.median(value for _, value in group))
        for group in groups
    ]


def table(found: Mapping[str, Trend]) -> str:
    """Return the trends as a table that marks each gauge beyond its bound."""
    rows = [["", "first", "last", "an hour", "second half", "bound", ""]]
    for name, one in found.items():
        figures = [_number(one.first), _number(one.last), f"{one.slope:+,.4g}", f"{one.growth:+,.3g}", str(one.bound)]
        rows.append([name, *figures, "" if one.well else "TOO MUCH"])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        f"{row[0]:<{widths[0]}}   {'   '.join(map(str.rjust, row[1:], widths[1:]))}".rstrip() for row in rows
    )


def _number(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) or abs(value) >= 1000 else f"{value:,.4g}"
