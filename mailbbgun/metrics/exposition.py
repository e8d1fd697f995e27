"""The text of metrics. The only file that uses ``prometheus_client``."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate
from typing import Any

from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector, CollectorRegistry

from mailbbgun.counters.families import BUCKETS, Family, Type
from mailbbgun.counters.files import Totals

Rows = Mapping[tuple[str, ...], Any]
Shown = tuple[Family, Rows]


def written(shown: Iterable[Shown], accept: str) -> tuple[bytes, str]:
    """Return metrics as text, and its content type: of OpenMetrics if the header ``Accept`` asks for it."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collected([_metric(family, rows) for family, rows in shown]))
    encoder, content_type = choose_encoder(accept)
    return encoder(registry), content_type


def counted(families: Iterable[Family], totals: Totals) -> Iterator[Shown]:
    """Yield each family with what processes have counted of it."""
    for family in families:
        by_type = {Type.COUNTER: totals.counts, Type.HISTOGRAM: totals.histograms, Type.GAUGE: totals.gauges}
        # A family without labels has one number, which begins at 0.
        yield family, by_type[family.type].get(family.name, {} if family.labels else {(): 0})


class _Collected(Collector):
    def __init__(self, metrics: list[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        return self._metrics


def _metric(family: Family, rows: Rows) -> Metric:
    if family.type is Type.HISTOGRAM:
        histogram = HistogramMetricFamily(family.name, family.help, labels=family.labels)
        for labels, (*numbers, total) in sorted(rows.items()):
            bounds = [*map(str, BUCKETS), "+Inf"]
            histogram.add_metric(labels, list(zip(bounds, accumulate(numbers), strict=True)), total)
        return histogram
    kind = CounterMetricFamily if family.type is Type.COUNTER else GaugeMetricFamily
    metric = kind(family.name, family.help, labels=family.labels)
    for labels, value in sorted(rows.items()):
        metric.add_metric(labels, value)
    return metric
