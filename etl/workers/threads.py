"""Workers in threads of this process, as the control room of a notebook has them."""

from __future__ import annotations

from pathlib import Path

from etl.errors import StoreError
from etl.pipeline.pipeline import Pipeline
from etl.queue import Queue
from etl.workers.worker import Worker

__all__ = ["ThreadWorkers"]


class ThreadWorkers:
    """Keeps a wanted number of `Worker` threads on a store.

    Attributes:
        interval: Seconds for which a worker holds a batch before it processes it.
        batch_lines: Lines that are taken together.
    """

    def __init__(self, queue: Queue, pipeline: Pipeline, out: Path | str) -> None:
        self.interval = 0.0
        self.batch_lines = 1
        self._queue = queue
        self._pipeline = pipeline
        self._out = out
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
                out=self._out,
                interval=self.interval,
                batch_lines=self.batch_lines,
            )
            self._workers.append(worker.start())

    def set_pace(self, interval: float, batch_lines: int) -> None:
        """Change how fast the workers are, from their next batch on."""
        self.interval, self.batch_lines = interval, batch_lines
        for worker in self._workers:
            worker.interval, worker.batch_lines = interval, batch_lines

    def check(self) -> None:
        """Raise the error of a worker that has ended on its own, once."""
        for worker in [one for one in self._workers if not one.running]:
            self._workers.remove(worker)
            try:
                worker.stop()
            except StoreError:
                self._lost += 1
                raise

    def replace_lost(self) -> None:
        """Start a worker for each that ended because the store could not be used."""
        lost, self._lost = self._lost, 0
        self.set_size(len(self) + lost)

    def stop(self) -> None:
        """End all workers after their batch and wait for that."""
        workers, self._workers = self._workers, []
        for worker in workers:
            worker.request_stop()
        for worker in workers:
            worker.stop()
