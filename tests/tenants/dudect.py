"""Tests whether the time of a call reveals which of two kinds of input it got.

It applies Welch's t-test to cropped times, as dudect does (Reparaz, Balasch and Verbauwhede, "Dude,
is my code constant time?", DATE 2017).
"""

import gc
import math
import random
import statistics
import time
from collections.abc import Callable, Sequence

#: The share of times that is kept, the shortest. Longer calls were interrupted and say nothing.
CROP = 0.8
#: Inputs of each kind.
INPUTS = 250
#: Most tries. A difference by chance hardly occurs four times in a row.
TRIES = 4


def t_statistic(one: Sequence[float], other: Sequence[float]) -> float:
    """Return Welch's t of two samples, cropped at the same time."""
    longest = sorted([*one, *other])[int(CROP * (len(one) + len(other)))]
    samples = [[time_ for time_ in sample if time_ <= longest] for sample in (one, other)]
    means, errors = map(statistics.fmean, samples), [statistics.variance(sample) / len(sample) for sample in samples]
    first, second = means
    error = math.sqrt(sum(errors))
    return (first - second) / error if error else math.copysign(math.inf, first - second) if first != second else 0.0


def least_t(
    call: Callable[[str], object], one: Callable[[], str], other: Callable[[], str], count: int, enough: float
) -> float:
    """Time a call ``count`` times with each kind of input, in random order.

    Return the least |t| of some tries, or the first below ``enough``. ``one`` and ``other`` make
    the inputs. The call gets copies of them that are made in random order: otherwise the place of
    an input in memory would reveal its kind, by a nanosecond.
    """
    least = math.inf
    for _ in range(TRIES):
        made: list[tuple[bool, str]] = [pair for _ in range(INPUTS) for pair in ((False, one()), (True, other()))]
        random.shuffle(made)
        inputs = [(which, text.encode().decode()) for which, text in made]
        times: tuple[list[float], list[float]] = [], []
        gc.disable()
        try:
            for _ in range(count // INPUTS):
                random.shuffle(inputs)
                for which, given in inputs:
                    began = time.perf_counter()
                    call(given)
                    took = time.perf_counter() - began  # taken before anything that depends on the kind
                    times[which].append(took)
        finally:
            gc.enable()
        least = min(least, abs(t_statistic(*times)))
        if least < enough:
            break
    return least
