"""One run, from sources to summary: put, let worker processes work, wait, tell.

The command line and batch notebooks both call `run`. A run that was killed is
started again with the same store: its sources go on where they were.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from etl.analysis.metrics import processor_rows, rates
from etl.errors import EtlError
from etl.pipeline.load import load_pipeline
from etl.queue import Queue, Stats, open_queue
from etl.queue.urls import file_of, without_secrets
from etl.runs.registry import new_run_id, recorded
from etl.settings import Settings, settings
from etl.sinks.publish import remove_staged
from etl.sources.ingest import ingest
from etl.sources.resolve import Source, resolve_sources
from etl.sources.stream import StreamSource
from etl.workers.main import WorkerOptions
from etl.workers.processes import WorkerProcesses

__all__ = ["Progress", "output_folder", "run", "summary"]


POLL_SECONDS = 0.1
"""Seconds between looks at how far the workers are."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is: bytes read of bytes in all (None if unknown), and the store's totals."""

    read: int
    size: int | None
    stats: Stats
    seconds: float


def output_folder(url: str) -> Path:
    """Return the folder for output that goes with a store: `out` beside its file."""
    file = file_of(url)
    return file.parent / "out" if file else Path("data/out")


def run(
    sources: Iterable[str],
    *,
    pipeline: str = Settings.pipeline,
    format: str | None = None,
    store: str | None = None,
    out: Path | None = None,
    workers: int = 2,
    reread: bool = False,
    run_id: str | None = None,
    kind: str = "cli",
    parameters: Mapping[str, Any] | None = None,
    watch: Callable[[Progress], None] = lambda _progress: None,
    worker_stdout: IO[Any] | None = None,
) -> dict[str, Any]:
    """Put sources, process everything that waits, and return the `summary`.

    Args:
        sources: Files, globs, folders, or `-` for stdin.
        pipeline: `module:attr` or `path.py:attr`.
        format: Name of the lines' format; None to have it detected.
        store: URL or path of the store; by default a new one below data/runs.
        out: Folder for output; by default `out` beside the store.
        workers: How many worker processes.
        reread: Read sources that were read before.
        run_id: The run's name; by default a new one.
        kind: What the `registry` of runs calls it.
        parameters: What it keeps of them, beside the ones here.
        watch: Called about ten times a second.
        worker_stdout: Where the pipeline's console output goes.

    Raises:
        UsageError: If a source, the pipeline or the format is not there.
        EtlError: If the run cannot go on; nothing is lost, start it again.
    """
    started = time.monotonic()
    sources = list(sources)
    found = resolve_sources(sources, format=format)
    version = load_pipeline(pipeline).version  # so that a mistake in it is told here, and once
    run_id = run_id or new_run_id()
    queue = open_queue(store or str(settings().runs / run_id / "store.db"), max_bytes=_limit(found))
    out = out or output_folder(queue.url)
    given = {"format": format, "workers": workers, "again": reread} | dict(parameters or {})
    known: dict[str, Any] = {"sources": list(map(without_secrets, sources)), "pipeline": pipeline}
    known |= {"store": queue.url, "out": str(out.absolute())}
    known |= {"version": version, "parameters": given}
    with recorded(run_id, kind=kind, **known) as record:
        remove_staged(out, queue.reclaim())
        if queue.control().failure:  # starting again resumes it; an operator's pause stays
            queue.resume()
        before = queue.stats()
        options = WorkerOptions(out=str(out), pipeline=pipeline, run=run_id)
        processes = WorkerProcesses(queue, workers, options, stdout=worker_stdout)
        try:
            one = _Run(queue, processes, found, started, watch)
            one.ingest(reread=reread)
            one.finish()
        finally:
            processes.stop()
            record["counts"] = queue.stats().totals()
        result = summary(queue, seconds=time.monotonic() - started, before=before)
    new = result["accepted"] - before.accepted
    result |= {"run": run_id, "store": queue.url, "out": str(out), "new": new}
    queue.close()
    return result


class _Run:
    """The sources of a run on their way through its workers."""

    def __init__(
        self,
        queue: Queue,
        processes: WorkerProcesses,
        sources: Sequence[Source],
        started: float,
        watch: Callable[[Progress], None],
    ) -> None:
        sizes = [source.size for source in sources]
        self._queue = queue
        self._processes = processes
        self._sources = sources
        self._size = None if None in sizes else sum(size or 0 for size in sizes)
        self._started = started
        self._watch = watch
        self._read = 0

    def ingest(self, *, reread: bool) -> None:
        """Put all sources from a thread, while this one looks after the workers."""
        failure: list[BaseException] = []
        stop = threading.Event()

        def put_all() -> None:
            try:
                for source in self._sources:
                    for read in ingest(self._queue, source, reread=reread):
                        self._read += read.size
                        if stop.is_set():
                            return
            except BaseException as error:  # noqa: BLE001 - raised by the thread that waits
                failure.append(error)

        thread = threading.Thread(target=put_all, name="etl-sources", daemon=True)
        thread.start()
        try:
            while thread.is_alive():
                thread.join(POLL_SECONDS)
                self._look()
        finally:
            stop.set()
        if failure:
            raise failure[0]

    def finish(self) -> None:
        """Wait until nothing waits and nothing is worked on."""
        while True:
            since = self._queue.version()
            if self._look().idle:
                return
            self._queue.wait(since, POLL_SECONDS)

    def _look(self) -> Stats:
        running = self._processes.check()
        stats = self._queue.stats()
        if stats.paused and (failure := self._queue.control().failure):
            raise EtlError(
                f"{failure}; fix it and run again with --store {self._queue.url}; nothing is lost"
            )
        if not (running or stats.idle or self._processes.check()):
            raise EtlError(
                f"the workers were asked to stop; run again with --store {self._queue.url}: "
                "nothing is lost"
            )
        seconds = time.monotonic() - self._started
        self._watch(Progress(self._read, self._size, stats, seconds))
        return stats


def summary(
    queue: Queue, *, seconds: float | None = None, before: Stats | None = None
) -> dict[str, Any]:
    """Return what `etl run --json` and `etl status --json` print.

    Keys: `accepted`, `done`, `filtered`, `dead`, `leased`, `waiting` (source
    lines), `conserved`, `paused`, `seconds` (of the run, or between the first
    and the last change), `lines_per_second`, `oldest_age`, and `processors`, a
    dict by name of the columns of `metrics.processors`.

    Args:
        queue: Whose totals.
        seconds: How long the run took; without it, the rate is that of the last seconds.
        before: The totals when the run began, for its rate.
    """
    stats = queue.stats()
    result: dict[str, Any] = stats.totals()
    result |= {"conserved": stats.conserved, "paused": stats.paused}
    if seconds is None:
        history = queue.read("queue_history")
        seconds = float(history[-1]["second"] - history[0]["second"] + 1) if history else 0.0
        result["lines_per_second"] = rates(queue)["done_per_second"]
    else:
        finished = stats.finished - (before.finished if before else 0)
        result["lines_per_second"] = finished / seconds if seconds else 0.0
    result["seconds"] = seconds
    result["oldest_age"] = stats.oldest_age
    result["processors"] = {row["processor"]: row for row in processor_rows(queue)}
    return result


def _limit(sources: Iterable[Source]) -> int | None:
    """Streams may bring more than the disk holds; files only bring references to themselves."""
    endless = any(isinstance(source, StreamSource) for source in sources)
    return Settings.max_waiting_bytes if endless else None
