"""Answers are written as their shape in OpenAPI says."""

from collections import Counter
from datetime import UTC, datetime

import pytest

from mailbbgun.statistics import figures
from mailbbgun.statistics.counting import LabelSums
from mailbbgun.statistics.schemas import FiguresShape, dumped

NOW = datetime(2026, 1, 31, 12, 0, 0, 120_000, tzinfo=UTC)
SUMS = figures.shown(LabelSums(Counter({"accepted": 5, "delivered": 3, "error.bounced": 1}), Counter({40: 2, 41: 1})))
NOTHING = figures.shown(LabelSums())
BY_STATUS = {"name": "ERROR", "reason": "bounced", "deliveries": 1, "rate": 0.25}


@pytest.mark.parametrize(
    ("group_by", "groups"), [(None, None), ("tag", [{**figures.named("a"), **SUMS}]), ("status", [BY_STATUS])]
)
@pytest.mark.parametrize("oldest", [None, NOW])
def test_an_answer_is_written_as_its_shape_says(group_by, groups, oldest):
    answer = {
        "begin": NOW,
        "end": NOW,
        "interval": "hour",
        "group_by": group_by,
        "total": SUMS,
        "points": [{"at": NOW, **SUMS}, {"at": NOW, **NOTHING}],
        "groups": groups,
        "queue": {"pending": 2, "oldest_accepted_at": oldest},
    }
    assert dumped(answer) == FiguresShape().dump(answer)
