"""A run as a batch notebook does it: process, and show; `gates` judges it.

    done = process("logs/*.gz", out="today")
    done                          its totals
    failures(done.queue)          why lines died

A batch has a folder: its store, its output, and, if `etl batch` started it, its
notebook and report. A batch that was killed goes on when it is started again;
one that is finished is not done twice.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from etl.analysis.traces import traces
from etl.errors import UsageError
from etl.pipeline.load import load_pipeline
from etl.queue import DeadLetterFilter, Queue, open_queue
from etl.queue.urls import file_of, url_of, without_secrets
from etl.records.columns import frame_of
from etl.runs.registry import find, new_run_id, place_of, read, state_of
from etl.runs.run import Progress, run, summary
from etl.settings import Settings, settings

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "SAMPLES",
    "Done",
    "edges",
    "failures",
    "is_over",
    "paths",
    "process",
    "progress_line",
    "run_of",
    "samples",
    "store_in",
    "with_secrets",
]

SAMPLES = ("python_app.log", "postgresql.log", "redis.log")
"""Files of `data` that a batch takes if it is given none."""


OVER = frozenset({"finished", "gate"})


@dataclass(frozen=True, slots=True)
class Done:
    """A batch that is processed.

    Attributes:
        run: Its id in the registry of runs.
        queue: Its store.
        out: Folder of its output.
        result: What `runs.summary` says of it.
        earlier: Whether an earlier start had finished it, so that this one changed nothing.
    """

    run: str
    queue: Queue
    out: Path
    result: Mapping[str, Any]
    earlier: bool = False

    def __repr__(self) -> str:
        numbers = (f"{self.result[name]:,} {name}" for name in ("accepted", "done", "filtered"))
        return f"{', '.join(numbers)}, {self.result['dead']:,} dead"

    def _repr_html_(self) -> str:
        result = self.result
        share = result["dead"] / result["accepted"] if result["accepted"] else 0.0
        tiles = {
            "lines read": f"{result['accepted']:,}",
            "done": f"{result['done']:,}",
            "filtered": f"{result['filtered']:,}",
            f"dead · {share:.2%}": f"{result['dead']:,}",
            "seconds": f"{result['seconds']:,.1f}",
            "lines/s": f"{result['lines_per_second']:,.0f}",
        }
        cells = "".join(
            '<div style="padding:0 2.2em 0 0"><div style="font-size:1.7em;'
            f'font-variant-numeric:tabular-nums">{value}</div>'
            f'<div style="opacity:.65">{name}</div></div>'
            for name, value in tiles.items()
        )
        return f'<div class="etl-tiles" style="display:flex;flex-wrap:wrap">{cells}</div>'


def process(
    source: str | Sequence[str],
    *,
    pipeline: str = Settings.pipeline,
    format: str = "",
    store: str = "",
    out: str = "",
    workers: int = 2,
    run_id: str = "",
    parameters: Mapping[str, Any] | None = None,
    watch: Callable[[Progress], None] = lambda _progress: None,
) -> Done:
    """Process a batch, or what is left of it.

    Args:
        source: Files, globs or folders.
        pipeline: `module:attr` or `path.py:attr`.
        format: Name of the lines' format; empty to have it detected.
        store: URL or path of the store; by default `store.db` in the batch's folder.
            A URL that ETL_STORE holds with its password may be given without it.
        out: The batch's folder; by default one below data/runs. Output is in `out` there.
        workers: How many worker processes.
        run_id: The run's id; by default that of the run this store had, or a new one.
        parameters: What the registry of runs keeps beside these.
        watch: Called about ten times a second.

    Raises:
        UsageError: If that run is going on, or was of other sources.
        EtlError: If the run cannot go on; nothing is lost, start it again.
    """
    sources = [source] if isinstance(source, str) else list(source)
    run_id = run_id or run_of(store, out)
    folder = Path(out) if out else settings().runs / run_id
    place = folder / "out"
    store = with_secrets(store) or store_in(folder)
    if is_over(run_id, sources, store):
        queue = open_queue(store)
        return Done(run_id, queue, place, _result_of(run_id, queue), earlier=True)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "console.txt").open("ab") as console:  # what a pipeline prints
        result = run(
            sources,
            pipeline=pipeline,
            format=format or None,
            store=store,
            out=place,
            workers=workers,
            run_id=run_id,
            kind="batch",
            parameters=parameters,
            watch=watch,
            worker_stdout=console,
        )
    return Done(run_id, open_queue(store), place, result)


def run_of(store: str, out: str) -> str:
    """Return the id of the run that a store or a batch's folder had, or a new one."""
    if not (store or out):
        return new_run_id()
    store = store or store_in(Path(out))
    file = file_of(store)
    record = find(store, kind="batch") if file is None or file.exists() else None
    return str(record["run"]) if record else new_run_id()


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


def failures(queue: Queue, most: int = 20) -> pd.DataFrame:
    """Return why lines died, the most frequent reason first, with one of the lines.

    Columns: `lines` (int64), `processor`, `why`, `sample` (str).
    """
    rows = queue.dead_letter_groups(DeadLetterFilter(limit=most))
    named = [
        {"why": f"{row['error'] or row['code']}: {row['message']}"} | dict(row) for row in rows
    ]
    return frame_of(
        named, {"lines": "int64"} | dict.fromkeys(("processor", "why", "sample"), "str")
    )


def paths(queue: Queue, most: int = 12) -> pd.DataFrame:
    """Return one of the last lines for each path that they took.

    Columns: `line`, `path`, `state` (str), `microseconds`
    (float64, over all hops).
    """
    last = traces(queue).drop_duplicates("path", keep="last").tail(most)
    shown = last.assign(
        path=last["path"].map(" → ".join), microseconds=last["seconds"] * 1e6
    ).sort_values("path", ignore_index=True)
    return shown[["line", "path", "state", "microseconds"]]


def samples() -> list[str]:
    """Return the sample logs of a checkout, as seen from the current folder."""
    data = Path(os.path.relpath(Path(__file__).parents[3] / "data"))
    return [str(data / name) for name in SAMPLES]


def edges(pipeline: str) -> list[tuple[str, str]]:
    """Return the pairs of processors between which lines go in a pipeline."""
    return load_pipeline(pipeline).plan().edges


def with_secrets(store: str) -> str:
    """Return a store's URL as the environment holds it, so that no notebook has to."""
    whole = settings().store or ""
    return whole if store and without_secrets(whole) == store else store


def store_in(folder: Path) -> str:
    """Return the URL of the store in a batch's folder."""
    return url_of(str(folder / "store.db"))


def is_over(run_id: str, sources: Sequence[str], store: str) -> bool:
    """Say whether an earlier start finished this run, and nothing of it waits.

    Raises:
        UsageError: If it is going on, or was of other sources.
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
        raise UsageError(f"run {run_id} is going on in process {record['pid']}; wait for it")
    queue = open_queue(store)
    stats = queue.stats()
    queue.close()
    whole = stats.idle and stats.accepted >= (record.get("counts") or {}).get("accepted", 1)
    return state in OVER and whole


def _result_of(run_id: str, queue: Queue) -> dict[str, Any]:
    record = read(place_of(run_id)) or {"ended_at": 0, "started_at": 0}
    return summary(queue, seconds=float(record["ended_at"] - record["started_at"]))
