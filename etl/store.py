"""The store that a user holds: control, dead letters, metrics, traces and figures of one store.

    store = etl.open("run.db")            # or a URL
    store.pause(); store.resume(); store.status
    store.dead_letters.groups()
    store.metrics.processors(); store.traces.frame(); store.figures.throughput()

It knows no pipeline and runs nothing: workers do that, here or elsewhere.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from etl.analysis import metrics
from etl.dlq import DeadLetters
from etl.queue import Queue, Stats, open_queue

__all__ = ["Store", "open"]


class Store:
    """One store, opened.

    Attributes:
        queue: What workers and producers use.
        dead_letters: Its dead letters.
        metrics: What it has counted, as pandas frames.
    """

    def __init__(self, queue: Queue) -> None:
        self.queue = queue
        self.dead_letters = DeadLetters(queue)
        self.metrics = Metrics(queue)

    @property
    def status(self) -> Stats:
        """The totals now."""
        return self.queue.stats()


class Metrics:
    """What a store has counted; see `etl.analysis.metrics`."""

    def __init__(self, queue: Queue) -> None:
        self.processors = partial(metrics.processors, queue)
        self.history = partial(metrics.history, queue)


def open(url: str | Path) -> Store:
    """Open a store by its URL or path, and make it if it is not there; see `open_queue`."""
    return Store(open_queue(url))
