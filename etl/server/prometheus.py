"""The store's numbers as Prometheus reads them.

Names begin with `etl_`. Labels: `queue` (the store's name) and `processor`. There is none for
workers: each that ever ran would be a series of its own for good. Dead lines are a gauge, since a
replay makes them fewer. Nothing is counted here: the store has counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from prometheus_client import core
from prometheus_client.registry import Collector

from etl.analysis.metrics import latency_histograms, processors
from etl.queue import DeadLetterFilter, Queue
from etl.records.columns import COUNTERS, TOTALS
from etl.server.models import SIZES, STATE

__all__ = ["StoreCollector"]

GAUGES = (
    *TOTALS.pick("dead", "leased", "waiting"),
    *SIZES,
    *STATE.pick("conserved", "oldest_age", "paused"),
)
OPEN = "Source lines in the dead-letter queue; those that were discarded are not among them."
POWERS = range(-24, 5)
"""Upper bounds of the histogram's buckets: powers of two seconds, 60 ns to 16 s."""


class StoreCollector(Collector):
    """Reads a store each time it is scraped.

    Args:
        queue: The store.
        ready: Whether the server can take lines.
    """

    def __init__(self, queue: Queue, *, ready: bool) -> None:
        self._queue = queue
        self._ready = ready
        self._name = "/".join(queue.url.split("/")[-2:])

    def collect(self) -> Iterator[core.Metric]:
        """Yield all families."""
        stats = self._queue.stats()
        own = [self._name]
        for column in TOTALS.pick("accepted", "done", "filtered"):
            name = f"etl_lines_{column.name}"
            counter = core.CounterMetricFamily(name, column.about, labels=["queue"])
            counter.add_metric(own, getattr(stats, column.name))
            yield counter
        for column in GAUGES:
            name = f"etl_queue_{column.name}".replace("_age", "_age_seconds")
            gauge = core.GaugeMetricFamily(name, column.about, labels=["queue"])
            gauge.add_metric(own, float(getattr(stats, column.name)))
            yield gauge
        kinds = self._queue.dead_letter_groups(DeadLetterFilter()) if stats.dead else []
        more = {
            "etl_queue_dead_open": (OPEN, sum(kind["lines"] for kind in kinds)),
            "etl_ready": ("Whether the server can take lines.", self._ready),
            "etl_workers": ("Workers that run.", len(self._queue.read("workers"))),
        }
        for name, (about, value) in more.items():
            gauge = core.GaugeMetricFamily(name, about, labels=["queue"])
            gauge.add_metric(own, float(value))
            yield gauge
        rows = processors.polars(self._queue).to_dicts()
        for column in COUNTERS:
            family = core.CounterMetricFamily(
                f"etl_processor_{column.name}", column.about, labels=["queue", "processor"]
            )
            for row in rows:
                family.add_metric([*own, row["processor"]], row[column.name])
            yield family
        yield self._latency(rows)

    def _latency(self, rows: Iterable[Mapping[str, Any]]) -> core.Metric:
        family = core.HistogramMetricFamily(
            "etl_line_seconds", "Seconds per line in a processor.", labels=["queue", "processor"]
        )
        busy = {row["processor"]: row["seconds"] for row in rows}
        for processor, histogram in latency_histograms(self._queue).items():
            family.add_metric(
                [self._name, processor], _buckets(histogram), busy.get(processor, 0.0)
            )
        return family


def _buckets(histogram: Mapping[int, int]) -> list[tuple[str, float]]:
    """Return cumulative counts; the store's bucket `b` ends at 2 ** ((b + 0.5) / 8) seconds."""
    counts = [
        (
            repr(2 ** ((8 * power + 0.5) / 8)),
            float(sum(lines for bucket, lines in histogram.items() if bucket <= 8 * power)),
        )
        for power in POWERS
    ]
    return [*counts, ("+Inf", float(sum(histogram.values())))]
