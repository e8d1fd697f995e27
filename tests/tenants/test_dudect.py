"""The t-test finds a difference of means, and only that."""

import random

import pytest

from tests.tenants.dudect import t_statistic


@pytest.mark.parametrize(("differs", "told"), [(0.0, False), (0.002, False), (0.02, True), (-0.02, True)])
def test_a_difference_of_means_is_found_despite_chance_and_interruptions(differs: float, told: bool) -> None:
    dice = random.Random(1)

    def drawn(mean: float) -> list[float]:
        return [dice.gauss(mean, 0.1) + (10.0 if dice.random() < 0.1 else 0.0) for _ in range(5000)]

    t = t_statistic(drawn(1.0), drawn(1.0 + differs))
    assert (abs(t) > 4.5) is told
    assert not told or (t < 0) is (differs > 0)
