"""Percentiles, medians and ranges. Pure."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

Figures = dict[str, float]
"""What one subject did in one round, by metric."""


@dataclass(frozen=True, slots=True)
class Spread:
    """A figure over the rounds."""

    median: float
    low: float
    high: float


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the smallest value that at least ``percent`` of the values do not pass (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def spread(values: Sequence[float]) -> Spread:
    """Return median and range of at least one value."""
    return Spread(statistics.median(values), min(values), max(values))


def summary(rounds: Sequence[Mapping[str, Figures]]) -> dict[str, dict[str, Spread]]:
    """Return subject → metric → spread over the rounds."""
    return {
        subject: {metric: spread([one[subject][metric] for one in rounds]) for metric in figures}
        for subject, figures in rounds[0].items()
    }


def with_ratios(figures: Mapping[str, Figures], reference: str) -> dict[str, Figures]:
    """Add what each subject's sending is to the reference's of the same round: ``send_rate_ratio``, ``send_cpu_ratio``."""
    base = figures[reference]
    return {
        subject: own | {"send_rate_ratio": own["send_rate"] / base["send_rate"], "send_cpu_ratio": own["send_cpu_us"] / base["send_cpu_us"]}
        for subject, own in figures.items()
    }
