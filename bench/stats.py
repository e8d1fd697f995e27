"""Percentiles, medians and ranges. Pure functions."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

Figures = dict[str, float]
"""What one system did in one round: metric → value."""


@dataclass(frozen=True, slots=True)
class Spread:
    """A figure over all rounds."""

    median: float
    low: float
    high: float


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the smallest value that at least ``percent`` % of the values do not exceed (nearest
    rank).
    """
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def spread(values: Sequence[float]) -> Spread:
    """Return median and range of at least one value."""
    return Spread(statistics.median(values), min(values), max(values))


def summary(rounds: Sequence[Mapping[str, Figures]]) -> dict[str, dict[str, Spread]]:
    """Return system → metric → spread, over the rounds that have the metric."""
    subjects = dict.fromkeys(subject for one in rounds for subject in one)
    return {subject: _spreads([one[subject] for one in rounds if subject in one]) for subject in subjects}


def with_ratios(figures: Mapping[str, Figures], reference: str) -> dict[str, Figures]:
    """Add ``send_rate_ratio`` and ``send_cpu_ratio``: each system's figures divided by the
    reference's.
    """
    base = figures[reference]
    return {subject: own | _ratios(own, base) if "send_rate" in own else own for subject, own in figures.items()}


def times(rounds: Sequence[Mapping[str, Figures]], metric: str, ours: str, other: str) -> Spread | None:
    """Return our figure divided by the other's, round by round; None if no round has both."""
    found = [
        one[ours][metric] / one[other][metric]
        for one in rounds
        if metric in one.get(ours, {}) and one.get(other, {}).get(metric)
    ]
    return spread(found) if found else None


def _spreads(figures: Sequence[Figures]) -> dict[str, Spread]:
    metrics = dict.fromkeys(metric for one in figures for metric in one)
    return {metric: spread([one[metric] for one in figures if metric in one]) for metric in metrics}


def _ratios(own: Figures, base: Figures) -> Figures:
    return {
        "send_rate_ratio": own["send_rate"] / base["send_rate"],
        "send_cpu_ratio": own["send_cpu_us"] / base["send_cpu_us"],
    }
