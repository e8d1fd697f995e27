"""Reads the text of ``GET /metrics`` with Prometheus' own parser."""

from collections.abc import Mapping
from typing import Any

import requests
from prometheus_client.parser import text_string_to_metric_families

from tests.waiting import PATIENCE


class Scraped:
    """One scrape."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._values = {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def sum(self, name: str, **labels: str) -> float:
        """Return the sum of all samples of this name that have these labels."""
        wanted = set(labels.items())
        return sum(value for (one, its), value in self._values.items() if one == name and wanted <= its)

    def labels(self, name: str) -> list[Mapping[str, str]]:
        """Return the labels of each sample of this name."""
        return [dict(its) for one, its in self._values if one == name]


def scrape(url: str, key: str | None = None) -> Scraped:
    """Ask for the metrics of a program."""
    headers: dict[str, Any] = {"Authorization": f"Bearer {key}"} if key else {}
    answer = requests.get(f"{url}/metrics", headers=headers, timeout=PATIENCE)
    assert answer.status_code == 200, answer.text
    return Scraped(answer.text)
