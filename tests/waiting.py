"""Time in tests, used so that no test depends on the speed of the machine.

A test waits for conditions (:func:`wait_until`), puts a bound on what could hang (:func:`bounded`),
and may require a least duration (:func:`at_least`), which a slow machine only makes longer.
``tests/test_house.py`` checks that test files contain no clocks and no sleeps.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median
from typing import TypeVar

T = TypeVar("T")

#: Seconds. Only something that hangs takes longer, however slow the machine is.
PATIENCE = 600.0

#: Seconds between two looks at a condition.
LOOK = 0.02


def wait_until(wanted: Callable[[], T], what: str = "it", look: float = LOOK, patience: float = PATIENCE) -> T:
    """Call ``wanted`` every ``look`` seconds until its result is true, and return the result.

    Raises AssertionError, which names ``what``, after :data:`PATIENCE` or ``patience`` seconds,
    whichever is longer.
    """
    patience = max(patience, PATIENCE)
    end = time.monotonic() + patience
    while not (found := wanted()):
        assert time.monotonic() < end, f"{what} did not happen within {patience:.0f} s"
        time.sleep(look)
    return found


@contextmanager
def bounded(what: str) -> Iterator[None]:
    """Raise AssertionError if the block takes longer than :data:`PATIENCE`."""
    began = time.monotonic()
    yield
    took = time.monotonic() - began
    assert took < PATIENCE, f"{what} took {took:.0f} s"


@contextmanager
def at_least(seconds: float, what: str = "it") -> Iterator[None]:
    """Raise AssertionError if the block takes less than ``seconds``."""
    began = time.monotonic()
    yield
    took = time.monotonic() - began
    assert took >= seconds, f"{what} took only {took:.3f} s, not {seconds} s"


def pause(seconds: float) -> None:
    """Sleep where there is no condition to wait for.

    For example before a check that something did not happen, or in a peer that is slow. A test that
    pauses must be right whatever the machine has done meanwhile.
    """
    time.sleep(seconds)


def cpu_of(action: Callable[[], object]) -> float:
    """Return the CPU seconds that an action costs this process."""
    began = time.process_time()
    action()
    return time.process_time() - began


def growth(cost: Callable[[int], float], small: int, large: int, turns: int = 5, least: float = 0.001) -> float:
    """Return the median of ``cost(large)`` divided by ``cost(small)``, measured in turns, in one
    run.

    Costs below ``least`` seconds count as ``least``, which is about the finest that can be
    measured.
    """
    return median(_ratio(cost(small), cost(large), least) for _ in range(turns))


def _ratio(small: float, large: float, least: float) -> float:
    return large / max(small, least)


def growing(first: float) -> Iterator[float]:
    """Yield limits up to :data:`PATIENCE`, each four times the one before.

    A slow machine may exceed the first ones.
    """
    while first < PATIENCE:
        yield first
        first *= 4
