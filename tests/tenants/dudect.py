"""Whether the time that something takes tells two kinds of input apart: Welch's t-test on cropped times, as dudect does it (Reparaz, Balasch and
Verbauwhede, "Dude, is my code constant time?", DATE 2017)."""

import gc
import math
import random
import statistics
import time
from collections.abc import Callable, Sequence

CROP = 0.8  # of the times, the shortest: what is longer was interrupted, and says nothing of the input
INPUTS = 250  # of each kind
TRIES = 4  # chance is not chance four times in a row


def t_statistic(one: Sequence[float], other: Sequence[float]) -> float:
    """Return Welch's t of two samples, each cropped at the same time."""
    longest = sorted([*one, *other])[int(CROP * (len(one) + len(other)))]
    samples = [[time_ for time_ in sample if time_ <= longest] for sample in (one, other)]
    means, errors = map(statistics.fmean, samples), [statistics.variance(sample) / len(sample) for sample in samples]
    first, second = means
    error = math.sqrt(sum(errors))
    return (first - second) / error if error else math.copysign(math.inf, first - second) if first != second else 0.0


def least_t(
    call: Callable[[str], object], one: Callable[[], str], other: Callable[[], str], count: int, enough: float
) -> float:
    """Time a call ``count`` times with each kind of input, drawn at random. Return the least |t| of some tries, or the first below ``enough``.

    ``one`` and ``other`` make inputs. Copies of them, made in an order drawn at random, are what is given: where one kind lies in memory would
    tell it from the other, by a nanosecond.
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
                    took = time.perf_counter() - began  # before anything is done that depends on which it was
                    times[which].append(took)
        finally:
            gc.enable()
        least = min(least, abs(t_statistic(*times)))
        if least < enough:
            break
    return least
