"""One run, from its sources to its result: put them, let workers work, wait.

The command line and batch notebooks both call `run`. A run that was killed is
started again with the same store: its sources are read on from their checkpoints.

Where all work on rows is Polars' (`processor.only_polars`), workers are threads of this
process. What an earlier run left may be what killed it: that is left to processes.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import wait
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import IO, Any

from etl.errors import EtlError, SourceError
from etl.filesystem import DISK
from etl.pipeline.load import load_pipeline
from etl.queue import Queue, Stats, open_queue
from etl.queue.urls import file_of, without_secrets
from etl.records.context import AS_FOUND, ReadOptions, Unmatched
from etl.runs.progress import Progress
from etl.runs.registry import new_run_id, recorded
from etl.runs.result import RunResult, summary
from etl.settings import Settings, settings
from etl.sinks.target import Target
from etl.sources.ingest import ingest
from etl.sources.resolve import Source, resolve_sources
from etl.sources.stream import StreamSource
from etl.text import clock
from etl.workers.background import in_background
from etl.workers.compaction import try_to_compact
from etl.workers.loader import targets_of
from etl.workers.main import WorkerOptions
from etl.workers.processes import WorkerProcesses
from etl.workers.threads import ThreadWorkers
from etl.workers.worker import reclaim

__all__ = ["Progress", "RunResult", "output_folder", "run", "summary"]

POLL_SECONDS = 0.1
"""Seconds between looks at the workers."""

MUCH = 4 * Settings.batch_lines
"""Lines that wait, of which it takes longer than `POLL_SECONDS` to process the last."""


def output_folder(queue: Queue) -> Path:
    """Return the folder for output of a store: its output root, or else `out` beside its file.

    It is made, for its owner only; if it cannot be, whoever writes there says why.
    """
    file = file_of(queue.url)
    folder = queue.output_root() or (file.parent / "out" if file else Path("data/out"))
    with suppress(OSError):
        DISK.make_folder(folder, private=True)
    return folder


def run(
    sources: str | Path | Iterable[str | Path],
    *,
    pipeline: str = Settings.pipeline,
    format: str | None = None,
    multiline: str = AS_FOUND.multiline,
    timezone: str = AS_FOUND.timezone,
    year: int | None = None,
    unmatched: Unmatched = AS_FOUND.unmatched,
    keep_line: bool = False,
    store: str | None = None,
    out: str | Path | None = None,
    workers: int | None = None,
    reread: bool = False,
    run_id: str | None = None,
    kind: str = "cli",
    parameters: Mapping[str, Any] | None = None,
    watch: Callable[[Progress], None] = lambda _progress: None,
    worker_stdout: IO[Any] | None = None,
) -> RunResult:
    """Return the result of a run: sources are put, and everything that waits is processed.

    Args:
        sources: Files, globs, folders, URLs of objects, or `-` for stdin. In folders, hidden
            files, binary ones, and what earlier runs have written are passed over.
        pipeline: `module:attr` or `path.py:attr`.
        format: Name of the lines' format, ours or of your `etl-formats.toml`; None to have
            it detected.
        multiline: Which lines belong together: `auto` to find out, `off` for one record a
            line, or a Rust regex of the lines that begin a record.
        timezone: IANA name of the zone of times that have none.
        year: Year of the first time that has none; by default found from when the file was
            last changed.
        unmatched: What becomes of a record of no known format: `keep` it as it is read by the
            generic reader, or let it be `dead`.
        keep_line: Write the text of each record, too, where a sink leaves it out.
        store: URL or path of the store; by default a new one below data/runs.
        out: Folder for output; by default `out` beside the store.
        workers: How many worker processes. By default there is one per core; or, if no processor
            calls Python for its rows, there are threads of this process, one more than cores.
        reread: Read sources that were read before.
        run_id: The run's name; by default a new one.
        kind: What started it, for the registry of runs: cli, batch or room.
        parameters: What the registry keeps of its parameters, beside those here.
        watch: Called about ten times a second.
        worker_stdout: Where the pipeline's console output goes; by default to this process's.

    Raises:
        UsageError: If a source, the pipeline or the format is not there.
        EtlError: If the run cannot continue; nothing is lost, start it again.
    """
    started = time.monotonic()
    names = [str(one) for one in ([sources] if isinstance(sources, str | Path) else sources)]
    options = ReadOptions(
        format=format,
        multiline=multiline,
        timezone=timezone,
        year=year,
        unmatched=unmatched,
        keep_line=keep_line,
    )
    found = resolve_sources(names, options)
    loaded = load_pipeline(pipeline)  # so that a mistake in it is shown here, and once
    run_id = run_id or new_run_id()
    # Streams may bring more than the disk holds; files only bring references to themselves.
    endless = any(isinstance(source, StreamSource) for source in found)
    limit = Settings.max_waiting_bytes if endless else None
    queue = open_queue(store or str(settings().runs / run_id / "store.db"), max_bytes=limit)
    out = Path(out) if out else output_folder(queue)
    given = {**asdict(options), "workers": workers, "reread": reread}
    known: dict[str, Any] = {
        "sources": list(map(without_secrets, names)),
        "pipeline": pipeline,
        "store": queue.url,
        "out": str(out.absolute()),
        "version": loaded.version,
        "parameters": {**given, **(parameters or {})},
    }
    with recorded(run_id, kind=kind, **known) as record:
        reclaim(queue, out)
        if queue.control().failure:  # starting again resumes it; an operator's pause stays
            queue.resume()
        before = queue.stats()
        team: WorkerProcesses | ThreadWorkers
        if workers is None and before.idle and loaded.plan().only_polars:
            team = ThreadWorkers(queue, loaded, out=out, run=run_id, own_sources=True)
            team.set_size(Settings.workers + 1)  # one computes while another waits for the disk
        else:
            work = WorkerOptions(out=str(out), pipeline=pipeline, own_sources=True, run=run_id)
            team = WorkerProcesses(queue, workers or Settings.workers, work, stdout=worker_stdout)
        try:
            targets = targets_of(loaded.plan())
            unreadable = _process(
                queue, team, found, targets, reread=reread, started=started, watch=watch
            )
        finally:
            team.stop()
            try_to_compact(queue, effort="small")
            record["counts"] = queue.stats().totals()
        seconds = time.monotonic() - started
        result = RunResult.of(
            queue,
            run_id,
            out,
            seconds=seconds,
            before=before,
            skipped=found.skipped,
            skipped_binary=found.skipped_binary,
            unreadable=unreadable,
        )
    queue.close()
    return result


def _process(
    queue: Queue,
    team: WorkerProcesses | ThreadWorkers,
    sources: Sequence[Source],
    targets: Mapping[str, Target],
    *,
    reread: bool,
    started: float,
    watch: Callable[[Progress], None],
) -> list[str]:
    """Put all sources from a thread; look after the workers here until nothing waits.

    Neither in the queue, nor for a target.

    Return what is wrong with the sources that cannot be read, or only in part.
    """
    sizes = [source.size for source in sources]
    size = None if None in sizes else sum(one or 0 for one in sizes)
    read, place = 0, 0
    unreadable: list[str] = []
    stop = threading.Event()

    def put_all() -> None:
        nonlocal read, place
        for place, source in enumerate(sources, 1):  # noqa: B007 - told by the loop below
            try:
                for chunk in ingest(queue, source, reread=reread):
                    read += chunk.size
                    if stop.is_set():
                        return
            except SourceError as error:
                unreadable.append(str(error))
        if len(unreadable) == len(sources) and not read:
            raise SourceError("; ".join(unreadable))

    began = time.time()
    putting = in_background(put_all, name="etl-sources")
    try:
        while True:
            since, all_put = queue.version(), putting.done()
            stats = _check(queue, team)
            reading = "" if all_put or not place else sources[place - 1].name
            seconds = time.monotonic() - started
            watch(Progress(read, size, stats, seconds, queue, reading, place, len(sources)))
            if not all_put:
                wait([putting], POLL_SECONDS)
                continue
            putting.result()
            if not _unloaded(queue, targets, stats, began) and stats.idle:
                return unreadable
            # While much waits, not every commit is worth a look.
            wait_for_more = stop.wait if stats.waiting > MUCH else partial(queue.wait, since)
            wait_for_more(POLL_SECONDS)
    finally:
        stop.set()


def _unloaded(queue: Queue, targets: Mapping[str, Target], stats: Stats, began: float) -> bool:
    """Return whether rows wait for a target; raise if it has failed for longer than it may.

    While lines wait in the queue, that is borne until its spool is full. What failed before
    this run `began`, in Unix seconds, is tried again first, however long that takes.
    """
    states = [one for one in queue.targets() if one.spool in targets] if targets else []
    for one in states:
        target = targets[one.spool]
        waits_for_it = stats.idle or one.bytes > target.max_spool_bytes
        since = one.since if (one.failed_at or 0) > began else None
        if waits_for_it and since and time.time() - max(since, began) > target.timeout:
            raise EtlError(
                f"{one.lines:,} lines wait for {one.name}, which has failed since "
                f"{clock(since)}: {one.error}; see to it and run again with --store "
                f"{queue.url}; nothing is lost"
            )
    return any(one.files for one in states)


def _check(queue: Queue, team: WorkerProcesses | ThreadWorkers) -> Stats:
    """Return the store's totals; raise if workers have paused it, or have all ended."""
    running = team.check()
    stats = queue.stats()
    again = f"run again with --store {queue.url}"
    if stats.paused and (failure := queue.control().failure):
        raise EtlError(f"{failure}; fix it and {again}; nothing is lost")
    if not (running or stats.idle or team.check()):
        raise EtlError(f"the workers were asked to stop; {again}: nothing is lost")
    return stats
