"""How tests deal with time, so that none depends on how fast the machine is.

A test waits for conditions (:func:`wait_until`), bounds what could hang (:func:`bounded`), and may say that something took its time
(:func:`at_least`): a slow machine only makes that longer. ``tests/test_house.py`` keeps clocks and sleeps out of all test files.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median
from typing import TypeVar

T = TypeVar("T")

#: Seconds that nothing takes which ever ends: only a hang reaches them, however slow the machine is.
PATIENCE = 600.0

#: Seconds between two looks at a condition.
LOOK = 0.02


def wait_until(wanted: Callable[[], T], what: str = "it", look: float = LOOK, patience: float = PATIENCE) -> T:
    """Return what ``wanted`` gives as soon as that is true, with a look at it every so many seconds.

    Raises AssertionError, with what did not happen, after :data:`PATIENCE`, or after ``patience`` if that is longer.
    """
    patience = max(patience, PATIENCE)
    end = time.monotonic() + patience
    while not (found := wanted()):
        assert time.monotonic() < end, f"{what} did not happen within {patience:.0f} s"
        time.sleep(look)
    return found


@contextmanager
def bounded(what: str) -> Iterator[None]:
    """Raise AssertionError if the block takes longer than anything that is bounded at all."""
    began = time.monotonic()
    yield
    took = time.monotonic() - began
    assert took < PATIENCE, f"{what} took {took:.0f} s"


@contextmanager
def at_least(seconds: float, what: str = "it") -> Iterator[None]:
    """Raise AssertionError if the block takes less than so many seconds."""
    began = time.monotonic()
    yield
    took = time.monotonic() - began
    assert took >= seconds, f"{what} took only {took:.3f} s, not {seconds} s"


def pause(seconds: float) -> None:
    """Let time pass where there is no condition to wait for: before a look at what must not happen, or as a peer that is slow.

    A test that pauses must be right whatever the machine has done by then.
    """
    time.sleep(seconds)


def cpu_of(action: Callable[[], object]) -> float:
    """Return the CPU seconds that an action costs this process."""
    began = time.process_time()
    action()
    return time.process_time() - began


def growth(cost: Callable[[int], float], small: int, large: int, turns: int = 5, least: float = 0.001) -> float:
    """Return how many times as much ``cost(large)`` is as ``cost(small)``: the median of ratios measured in turns, in one run.

    What costs less than ``least`` seconds counts as that, which is as finely as can be measured.
    """
    return median(_ratio(cost(small), cost(large), least) for _ in range(turns))


def _ratio(small: float, large: float, least: float) -> float:
    return large / max(small, least)


def growing(first: float) -> Iterator[float]:
    """Yield limits, each four times the one before, up to :data:`PATIENCE`: the machine may be too slow for the first ones."""
    while first < PATIENCE:
        yield first
        first *= 4
