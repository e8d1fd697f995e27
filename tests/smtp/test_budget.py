"""Coroutines of a loop share a budget in the order in which they ask."""

import pytest

from mailbbgun.drivers.budget import Budget
from mailbbgun.drivers.loop import Loop
from mailbbgun.drivers.operations import InThread
from tests.smtp.drivers import to_the_end


def test_nobody_has_more_than_there_is_and_nobody_is_overtaken(driver: Loop) -> None:
    async def uses(number: int, units: int) -> None:
        async with budget.taken(units):
            began.append(number)
            free.append(budget.free)
            await InThread(lambda: None)

    budget, began, free = Budget(10), list[int](), list[int]()
    asked = [6, 3, 4, 1, 10, 1, 25, 2, 9, 5, 5]
    for number, units in enumerate(asked):
        driver.start(uses(number, units))
    assert (began, budget.waiting) == ([0, 1], 9)
    to_the_end(driver)
    assert began == list(range(len(asked)))
    assert min(free) >= 0
    assert (budget.free, budget.waiting) == (10, 0)


def test_units_come_back_after_an_error(driver: Loop) -> None:
    async def fails() -> None:
        with pytest.raises(KeyError):
            async with budget.taken(10):
                await InThread(lambda: {}["x"])
        ended.append(budget.free)

    budget, ended = Budget(10), list[int]()
    for _ in range(3):
        driver.start(fails())
    to_the_end(driver)
    assert ended[-1] == 10
    assert len(ended) == 3


def test_a_thousand_that_wait_for_one_are_let_go_one_by_one(driver: Loop) -> None:
    async def uses() -> None:
        async with budget.taken(1):
            done.append(budget.free)

    async def holds() -> None:
        async with budget.taken(1):
            await InThread(lambda: None)

    budget, done = Budget(1), list[int]()
    driver.start(holds())
    for _ in range(1000):
        driver.start(uses())
    to_the_end(driver)
    assert done == [0] * 1000
