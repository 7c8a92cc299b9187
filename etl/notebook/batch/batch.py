"""A run as a batch notebook does it: process and show; `gates` evaluates it.

    done = process("logs/*.gz", out="today")
    done                          its totals
    failures(done.queue)          why lines are dead

A batch has a folder: its store, its output, and, if `etl batch` started it, its
notebook and report. A batch that was killed resumes when it is started again;
one that is finished is not processed twice.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from etl.analysis import metrics
from etl.analysis.traces import traces
from etl.errors import UsageError
from etl.filesystem import DISK
from etl.notebook.batch.parameters import check_limits, convert
from etl.notebook.batch.profile import levels_over_time
from etl.notebook.batch.tables import Note
from etl.notebook.shipped import sample_folder
from etl.pipeline.load import load_pipeline
from etl.queue import DeadLetterFilter, Queue, open_queue
from etl.queue.urls import file_of, url_of, without_secrets
from etl.records.columns import INTEGER, INTEGER_OR_NULL, NUMBER, TEXT, Table
from etl.records.context import AS_FOUND, Unmatched
from etl.runs.registry import find, make_folder, new_run_id, place_of, read, state_of
from etl.runs.result import RunResult
from etl.runs.run import Progress, run
from etl.settings import Settings, settings
from etl.text import first_line

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go
    import polars as pl

SAMPLES = ("python_app.log", "postgresql.log", "redis.log")
"""Files of `data` that a batch takes if it is given none."""


SOURCES = Table.of(
    "sources",
    source=TEXT,
    records=INTEGER_OR_NULL,
    dead=INTEGER,
    formats=TEXT,
    **dict.fromkeys(("matched", "generic", "timeless"), NUMBER),
)
FAILURES = Table.of("failures", lines=INTEGER, processor=TEXT, why=TEXT, sample=TEXT)


def process(
    source: str | Sequence[str],
    *,
    pipeline: str = Settings.pipeline,
    format: str = "",
    multiline: str = AS_FOUND.multiline,
    timezone: str = AS_FOUND.timezone,
    year: int = 0,
    unmatched: Unmatched = AS_FOUND.unmatched,
    store: str = "",
    out: str = "",
    workers: int = 2,
    run_id: str = "",
    watch: Callable[[Progress], None] = lambda _progress: None,
) -> RunResult:
    """Process a batch, or what is left of it.

    Args:
        source: Files, globs or folders.
        pipeline: `module:attr` or `path.py:attr`.
        format: Name of the lines' format; empty to have it detected.
        multiline: `auto`, `off`, or a regex of the lines that begin a record.
        timezone: IANA name of the zone of times that have none.
        year: Year of the first time that has none; 0 to have it found.
        unmatched: What becomes of records of no known format: `keep` or `dead`.
        store: URL or path of the store; by default `store.db` in the batch's folder.
        out: The batch's folder; by default one below data/runs. Output is in `out` there.
        workers: How many worker processes.
        run_id: The run's id; see `locate` for what is empty.
        watch: Called about ten times a second.

    Raises:
        UsageError: If the run is running, was of other sources, or a parameter cannot be used.
        EtlError: If the run cannot continue; nothing is lost, start it again.
    """
    check_limits({"workers": workers})
    sources = [source] if isinstance(source, str) else list(source)
    run_id, out = (convert(name, one) for name, one in (("run_id", run_id), ("out", out)))
    run_id, folder, store = locate(run_id, out, store)
    if finished_before(run_id, sources, store):
        record = read(place_of(run_id)) or {"ended_at": 0, "started_at": 0}
        seconds = float(record["ended_at"] - record["started_at"])
        with closing(open_queue(store)) as queue:
            return RunResult.of(queue, run_id, folder / "out", seconds=seconds, earlier=True)
    make_folder(folder / "out")
    with DISK.make_file(folder / "console.txt").open("ab") as console:  # what a pipeline prints
        return run(
            sources,
            pipeline=pipeline,
            format=format or None,
            multiline=multiline,
            timezone=timezone,
            year=year or None,
            unmatched=unmatched,
            store=store,
            out=folder / "out",
            workers=workers,
            run_id=run_id,
            kind="batch",
            watch=watch,
            worker_stdout=console,
        )


def locate(run_id: str, out: str, store: str) -> tuple[str, Path, str]:
    """Return a batch's run id, its folder and its store; what is empty is derived from the others.

    The run is that which the store had, or a new one. A URL that ETL_STORE holds with
    its password may be given without it.
    """
    whole = settings().store or ""
    if store and without_secrets(whole) == store:
        store = whole
    if not run_id:
        own = store or (store_in(Path(out)) if out else "")
        file = file_of(own) if own else None
        record = find(own, kind="batch") if own and (file is None or file.exists()) else None
        run_id = str(record["run"]) if record else new_run_id()
    folder = Path(out) if out else settings().runs / run_id
    return run_id, folder, store or store_in(folder)


@contextmanager
def progress_line() -> Iterator[Callable[[Progress], None]]:
    """Show one line of text in a notebook that is renewed every second, with or without a page."""
    from IPython.display import display

    handle: Any = display({"text/plain": "starting"}, raw=True, display_id=True)  # type: ignore[no-untyped-call]
    shown_at = 0.0

    def watch(progress: Progress) -> None:
        nonlocal shown_at
        if time.monotonic() - shown_at < 1.0:
            return
        shown_at = time.monotonic()
        share = f"{progress.read / progress.size:.0%} read, " if progress.size else ""
        text = f"{share}{progress.stats.finished:,} lines processed, {progress.seconds:,.0f} s"
        handle.update({"text/plain": text}, raw=True)

    yield watch
    handle.update({"text/plain": "all is processed"}, raw=True)


def latency(queue: Queue) -> Note | go.Figure:
    """Return the time per line of each processor as a figure, or why there are too few batches."""
    from etl.analysis import figures

    few = metrics.too_few_batches(queue)
    if few:
        return Note(f"{few}. A percentile says something once there are as many.")
    return figures.latency(metrics.processors(queue))


def levels(rows: pl.LazyFrame | None) -> Note | go.Figure:
    """Return lines by level over time as a figure, or why there is none; see `levels_over_time`."""
    from etl.analysis import figures

    counts = levels_over_time(rows)
    if counts.empty:
        return Note("none: the output has no times and levels")
    return figures.level_times(counts)


def sources(queue: Queue, most: int = 20) -> pd.DataFrame:
    """Return how each source was read, and how many of its lines are dead, the worst first.

    Columns: `source` (str), `records` (Int64), `dead` (int64, lines), `formats` (str), `matched`,
    `generic`, `timeless` (float64, shares of the records; missing, as are the records, if nothing
    was parsed). The last row stands for several sources if there are more than `most`.
    """
    dead: Counter[str] = Counter()
    for group in queue.dead_letter_groups(DeadLetterFilter()):
        dead[group["source"]] += group["lines"]
    read = {row["source"]: row for row in metrics.sources.polars(queue).to_dicts()}
    names = sorted({*read, *dead}, key=lambda name: (-dead[name], name))
    rows = [read.get(name, {}) | {"source": name, "dead": dead[name]} for name in names]
    if len(rows) > most:
        left = rows[most - 1 :]
        records = sum(row.get("records") or 0 for row in left)
        lines = sum(row["dead"] for row in left)
        rest = {"source": f"{len(left):,} more", "records": records, "dead": lines}
        rows = [*rows[: most - 1], rest]
    return SOURCES.frame(dict.fromkeys(SOURCES.names) | row for row in rows)


def failures(queue: Queue, most: int = 20) -> pd.DataFrame:
    """Return why lines are dead, the most frequent reason first, with one of the lines.

    Columns: `lines` (int64), `processor`, `why`, `sample` (str).
    """
    groups = queue.dead_letter_groups(DeadLetterFilter(limit=most))
    return FAILURES.frame(
        dict(group) | {"why": f"{group['error'] or group['code']}: {first_line(group['message'])}"}
        for group in groups
    )


def paths(queue: Queue, most: int = 12) -> pd.DataFrame:
    """Return one of the last lines for each path that they took.

    Columns: `line`, `path`, `state` (str), `microseconds` (float64, over all hops).
    """
    last = traces(queue).drop_duplicates("path", keep="last").tail(most)
    shown = last.assign(path=last["path"].map(" → ".join), microseconds=last["seconds"] * 1e6)
    return shown.sort_values("path", ignore_index=True)[["line", "path", "state", "microseconds"]]


def samples() -> list[str]:
    """Return the sample logs of etl, as seen from the current folder."""
    data = Path(os.path.relpath(sample_folder()))
    return [str(data / name) for name in SAMPLES]


def edges(pipeline: str) -> list[tuple[str, str]]:
    """Return the pairs of processors between which lines go in a pipeline."""
    return load_pipeline(pipeline).plan().edges


def store_in(folder: Path) -> str:
    """Return the URL of the store in a batch's folder."""
    return url_of(str(folder / "store.db"))


def finished_before(run_id: str, sources: Sequence[str], store: str) -> bool:
    """Return whether an earlier start finished this run, and nothing of it waits.

    Raises:
        UsageError: If it is running, or was of other sources.
    """
    record = read(place_of(run_id))
    if record is None:
        return False
    if record.get("sources") != [without_secrets(one) for one in sources]:
        raise UsageError(
            f"run {run_id} was of {', '.join(record.get('sources') or ['nothing'])}; name another "
            "folder with out, or another run_id"
        )
    state = state_of(record)
    if state == "running":
        raise UsageError(f"run {run_id} is running in process {record['pid']}; wait for it")
    queue = open_queue(store)
    stats = queue.stats()
    queue.close()
    whole = stats.idle and stats.accepted >= (record.get("counts") or {}).get("accepted", 1)
    return state in ("finished", "gate") and whole
