"""The one way to start a worker process: for `etl work`, and for `WorkerProcesses`.

    python -m etl.workers.main '{"out": "data/out"}'      the store is named by ETL_STORE

A process that others look after writes why it ended to ETL_ERROR_FILE, or what it hung in,
and prints nothing, so that an error is shown once.
"""

from __future__ import annotations

import json
import os
import pkgutil
import sys
import threading
import time
from dataclasses import dataclass

from etl.errors import EtlError, StoreFull, StoreUnavailable
from etl.pipeline.load import load_pipeline
from etl.pipeline.pipeline import Pipeline
from etl.queue import Queue, open_queue
from etl.queue.writes import pause_before
from etl.settings import Settings, settings
from etl.text import hide_library_warnings
from etl.workers.signals import when_asked_to_end
from etl.workers.watchdog import Watchdog
from etl.workers.worker import Worker

__all__ = ["GAVE_UP", "WorkerOptions", "run_worker"]

GAVE_UP = 70
"""Exit code of a worker process that ends with an error of its own, rather than being killed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerOptions:
    """Options of a worker process; each is a JSON value.

    Attributes:
        out: Folder that sinks write below.
        pipeline: `module:attr` or `path.py:attr`.
        batch_lines: Small batches are taken together up to this many lines.
        interval: Seconds for which a batch is held before it is processed.
        lease_seconds: How long a batch stays leased if the worker is killed.
        drain: End once nothing waits.
        own_sources: End with an error if only lines of sources are left that cannot be read here.
        run: Name of the run, kept with dead letters.
        watch: `module:function` that, called with these options, returns what is called
            with each committed batch and its result; empty for nothing.
        log_format: Format of the log that this function writes.
        parent: Process without which the worker ends, or None.
    """

    out: str
    pipeline: str = Settings.pipeline
    batch_lines: int = Settings.batch_lines
    interval: float = 0.0
    lease_seconds: float = Settings.lease_seconds
    drain: bool = False
    own_sources: bool = False
    run: str = ""
    watch: str = ""
    log_format: str = ""
    parent: int | None = None


def run_worker(
    queue: Queue,
    pipeline: Pipeline,
    options: WorkerOptions,
    *,
    watchdog: Watchdog | None = None,
) -> None:
    """Run a worker in this process until SIGTERM or SIGINT, or until it ends on its own.

    A signal lets it finish its batch, and so does the end of its parent.

    Args:
        queue: The store.
        pipeline: What batches run through.
        options: Those of the worker.
        watchdog: Ends this process if it hangs; only where another looks after it.
    """
    watch = {"watch": pkgutil.resolve_name(options.watch)(options)} if options.watch else {}
    worker = Worker(
        queue,
        pipeline,
        out=options.out,
        batch_lines=options.batch_lines,
        interval=options.interval,
        lease_seconds=options.lease_seconds,
        run=options.run,
        drain=options.drain,
        own_sources=options.own_sources,
        watchdog=watchdog,
        **watch,
    )

    def watch_parent() -> None:
        while os.getppid() == options.parent:
            time.sleep(0.5)
        worker.request_stop()

    when_asked_to_end(worker.request_stop)
    if options.parent is not None:
        threading.Thread(target=watch_parent, name="etl-parent", daemon=True).start()
    worker.work()


def _open(store: str) -> Queue:
    """Open the store, which whoever started this process has had open.

    If it is away, or its disk is full, wait.
    """
    attempt = 0
    while True:
        try:
            return open_queue(store)
        except (StoreUnavailable, StoreFull):
            time.sleep(pause_before(attempt))
            attempt += 1


def main() -> None:
    """Run a worker with the options that are this process's argument."""
    hide_library_warnings()
    environment = settings()
    options = WorkerOptions(**json.loads(sys.argv[1]))
    try:
        queue = _open(environment.store or "")
        watchdog = Watchdog(environment.error_file) if environment.error_file else None
        run_worker(queue, load_pipeline(options.pipeline), options, watchdog=watchdog)
    except (EtlError, BrokenPipeError) as error:
        if environment.error_file is None:
            raise
        closed = isinstance(error, BrokenPipeError)
        said = "nobody reads its standard output any more" if closed else str(error)
        environment.error_file.write_text(said, encoding="utf-8")
        sys.exit(GAVE_UP)


if __name__ == "__main__":
    main()
