"""The store's numbers as Prometheus reads them.

Names begin with `etl_`. Labels: `queue` (the store's name), `processor`, `worker`. Dead lines
are a gauge, since a replay makes them fewer. Nothing is counted here: the store has counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from etl.analysis.metrics import latency_histograms, processors
from etl.queue import Queue

__all__ = ["StoreCollector"]

COUNTERS = {
    "accepted": "Source lines stored.",
    "done": "Source lines that came to an end of the pipeline.",
    "filtered": "Source lines that a processor dropped.",
}
GAUGES = {
    "dead": "Source lines in the dead-letter queue, or discarded from it.",
    "leased": "Source lines that workers have.",
    "waiting": "Source lines that wait.",
    "waiting_bytes": "Bytes of text that wait.",
    "waiting_batches": "Batches that wait.",
    "leased_batches": "Batches that workers have.",
    "oldest_age": "Seconds that the oldest waiting batch has waited.",
    "paused": "1 while the queue is paused.",
}
PROCESSOR = {
    "received": "Rows that a processor was given.",
    "emitted": "Rows that it passed on.",
    "filtered": "Rows that it dropped.",
    "errors": "Rows that failed, each time.",
    "retries": "Rows that were tried again.",
    "dead": "Rows that became dead letters.",
    "seconds": "Seconds that it was busy.",
}
POWERS = range(-24, 5)
"""Upper bounds of the histogram's buckets: powers of two seconds, 60 ns to 16 s."""


class StoreCollector(Collector):
    """Reads a store each time it is scraped."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self._name = "/".join(queue.url.split("/")[-2:])

    def collect(self) -> Iterator[Metric]:
        """Yield all families."""
        stats = self._queue.stats()
        for name, text in COUNTERS.items():
            counter = CounterMetricFamily(f"etl_lines_{name}", text, labels=["queue"])
            counter.add_metric([self._name], getattr(stats, name))
            yield counter
        for name, text in GAUGES.items():
            unit = {"oldest_age": "oldest_age_seconds"}.get(name, name)
            gauge = GaugeMetricFamily(f"etl_queue_{unit}", text, labels=["queue"])
            gauge.add_metric([self._name], float(getattr(stats, name)))
            yield gauge
        workers = GaugeMetricFamily("etl_workers", "Workers that run.", labels=["queue"])
        workers.add_metric([self._name], len(self._queue.read("workers")))
        yield workers
        rows = processors.polars(self._queue, by_worker=True).to_dicts()
        yield from self._processors(rows)
        yield self._latency(rows)

    def _processors(self, rows: Sequence[Mapping[str, Any]]) -> Iterator[Metric]:
        labels = ["queue", "worker", "processor"]
        for name, text in PROCESSOR.items():
            family = CounterMetricFamily(f"etl_processor_{name}", text, labels=labels)
            for row in rows:
                family.add_metric([self._name, row["worker"], row["processor"]], row[name])
            yield family

    def _latency(self, rows: Iterable[Mapping[str, Any]]) -> Metric:
        family = HistogramMetricFamily(
            "etl_line_seconds", "Seconds per line in a processor.", labels=["queue", "processor"]
        )
        busy: Counter[str] = Counter()
        for row in rows:
            busy[row["processor"]] += row["seconds"]
        for processor, histogram in latency_histograms(self._queue).items():
            family.add_metric([self._name, processor], _buckets(histogram), busy[processor])
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
