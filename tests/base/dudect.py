"""Whether the time that something takes tells two kinds of input apart: Welch's t-test on cropped times, as dudect does it (Reparaz, Balasch and
Verbauwhede, "Dude, is my code constant time?", DATE 2017)."""

import gc
import math
import random
import statistics
import time
from collections.abc import Callable, Sequence

CROP = 0.8  # of the times, the shortest: what is longer was interrupted, and says nothing of the input
TRIES = 4  # chance is not chance four times in a row


def t_statistic(one: Sequence[float], other: Sequence[float]) -> float:
    """Return Welch's t of two samples, each cropped at the same time."""
    longest = sorted([*one, *other])[int(CROP * (len(one) + len(other)))]
    samples = [[time_ for time_ in sample if time_ <= longest] for sample in (one, other)]
    means, errors = map(statistics.fmean, samples), [statistics.variance(sample) / len(sample) for sample in samples]
    first, second = means
    error = math.sqrt(sum(errors))
    return (first - second) / error if error else math.copysign(math.inf, first - second) if first != second else 0.0


def least_t(one: Callable[[], object], other: Callable[[], object], count: int, enough: float) -> float:
    """Time both ``count`` times, in an order drawn at random, and return |t|: the least of some tries, the first that is below ``enough``."""
    least = math.inf
    for _ in range(TRIES):
        times: tuple[list[float], list[float]] = [], []
        order = [False, True] * count
        random.shuffle(order)
        gc.disable()
        try:
            for which in order:
                call = other if which else one
                began = time.perf_counter()
                call()
                times[which].append(time.perf_counter() - began)
        finally:
            gc.enable()
        least = min(least, abs(t_statistic(*times)))
        if least < enough:
            break
    return least
