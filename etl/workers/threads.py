"""Workers in threads of this process: of a control room, or of a run that needs no others."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TypedDict, Unpack

from etl.errors import StoreError
from etl.pipeline.pipeline import Pipeline
from etl.queue import Queue
from etl.settings import Settings
from etl.workers.worker import Worker

__all__ = ["ThreadWorkers"]


class Options(TypedDict, total=False):
    """Those of `Worker` that all of them share."""

    out: Path | str
    run: str
    own_sources: bool


class ThreadWorkers:
    """Keeps a wanted number of `Worker` threads on a store.

    Args:
        queue: The store.
        pipeline: What batches run through.
        options: Those of each worker.

    Attributes:
        interval: Seconds for which a worker holds a batch before it processes it.
        batch_lines: Lines that are taken together.
    """

    def __init__(self, queue: Queue, pipeline: Pipeline, **options: Unpack[Options]) -> None:
        self.interval = 0.0
        self.batch_lines = Settings.batch_lines
        self._queue = queue
        self._pipeline = pipeline
        self._options = options
        self._workers: list[Worker] = []
        self._lost = 0

    def __len__(self) -> int:
        return sum(worker.running for worker in self._workers)

    def set_size(self, count: int) -> None:
        """Start workers, or ask some to end after their batch, until `count` are there."""
        self._workers = [worker for worker in self._workers if worker.running]
        for worker in self._workers[count:]:
            worker.request_stop()
        del self._workers[count:]
        while len(self._workers) < count:
            worker = Worker(
                self._queue,
                self._pipeline,
                **self._options,
                interval=self.interval,
                batch_lines=self.batch_lines,
            )
            self._workers.append(worker.start())

    def set_pace(self, interval: float, batch_lines: int) -> None:
        """Change how fast the workers are, from their next batch on."""
        self.interval, self.batch_lines = interval, batch_lines
        for worker in self._workers:
            worker.interval, worker.batch_lines = interval, batch_lines

    def check(self) -> bool:
        """Return whether any worker runs.

        Raises:
            Exception: The error of a worker that has ended on its own, once.
        """
        for worker in [one for one in self._workers if not one.running]:
            self._workers.remove(worker)
            try:
                worker.stop()
            except StoreError:
                self._lost += 1
                raise
        return bool(self._workers)

    def replace_lost(self) -> None:
        """Start a worker for each that ended because the store could not be used."""
        lost, self._lost = self._lost, 0
        self.set_size(len(self) + lost)

    def stop(self) -> None:
        """End all workers after their batch and wait for that.

        Raises:
            WorkerFailed: If a batch takes longer than a minute.
            Exception: The error of a worker that had ended on its own.
        """
        workers, self._workers = self._workers, []
        for worker in workers:
            worker.request_stop()
        with ExitStack() as all_of_them:
            for worker in workers:
                all_of_them.callback(worker.stop)
