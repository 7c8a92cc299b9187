"""The store that a user holds: control, dead letters, metrics, traces and figures of one store.

    store = etl.open("run.db")            # or a URL; a card in a notebook
    store.pause(); store.resume(); store.status
    store.dead_letters.groups()
    store.metrics.processors(); store.traces.frame(); store.figures.throughput()

It knows no pipeline and runs nothing: workers do that, here or elsewhere.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Self

import polars as pl

from etl.analysis import metrics, traces
from etl.analysis.query import asks_for, run_sql, with_times
from etl.dlq import DeadLetters
from etl.errors import UsageError
from etl.outputs.data_set import read_rows, with_rows
from etl.queue import DeadLetterFilter, Queue, Stats, open_queue
from etl.records.columns import DEAD_LETTERS, FINDINGS, TRACES
from etl.text import html_card

if TYPE_CHECKING:
    import duckdb
    import pandas as pd
    import plotly.graph_objects as go

__all__ = ["Store", "open"]


class Store:
    """One store, opened.

    Args:
        queue: An open queue.

    Attributes:
        queue: What producers and workers use.
        dead_letters: Its dead letters.
        metrics: What it has counted, as pandas frames.
        traces: The paths of the last lines, as pandas frames.
    """

    def __init__(self, queue: Queue) -> None:
        self.queue = queue
        self.url = queue.url
        self.dead_letters = DeadLetters(queue)
        self.metrics = Metrics(queue)
        self.traces = Traces(queue)
        self.pause, self.resume = queue.pause, queue.resume
        self.step, self.drain, self.stop = queue.step, queue.drain, queue.stop
        self.close = queue.close

    def output(self) -> pl.DataFrame:
        """Return the rows of all Parquet files that workers have written, each line once.

        As one Polars frame; `.to_pandas()` makes a pandas frame of it. It may be called while
        workers write, and files are joined. The columns are those of all files; a row has null in
        those that its file lacks.

        Raises:
            UsageError: If the output is not Parquet, or nothing was written.
        """
        return read_rows(self.queue, self._out())

    def query(self, sql: str) -> pl.DataFrame:
        """Return the rows of an SQL query as a Polars frame; nothing is changed.

        Tables: `lines` (the rows of `output`), `dead_letters`, `metrics` (those of
        `metrics.processors`) and `traces`, with times in UTC.

        Args:
            sql: The query, as Polars understands SQL:
                `select level, count(*) from lines group by 1`.

        Raises:
            UsageError: If the query is wrong, or the output cannot be read.
        """
        if not asks_for("lines", sql):
            return run_sql(sql, {"lines": pl.LazyFrame} | self._tables())
        return with_rows(
            self.queue,
            self._out(),
            lambda rows: run_sql(sql, {"lines": lambda: rows} | self._tables()),
        )

    def duckdb(self) -> duckdb.DuckDBPyConnection:
        """Return a DuckDB connection in memory with the tables of `query` as views.

        They are of this moment: open it again to see what was written, or joined, since then.
        DuckDB comes with the extra `query`.

        Raises:
            UsageError: If it is not installed.
        """
        if find_spec("duckdb") is None:
            raise UsageError("duckdb is not installed; install it with: pip install -e '.[query]'")
        import duckdb

        connection = duckdb.connect(":memory:")
        connection.register("lines", with_rows(self.queue, self._out(), lambda rows: rows))
        for name, make in self._tables().items():
            connection.register(name, make())
        return connection

    def _tables(self) -> dict[str, Callable[[], pl.LazyFrame]]:
        queue = self.queue
        return {
            "dead_letters": lambda: with_times(
                queue.dead_letters(DeadLetterFilter(status=None)), DEAD_LETTERS
            ).lazy(),
            "metrics": lambda: metrics.processors.polars(queue).lazy(),
            "traces": lambda: with_times(traces.traces.polars(queue), TRACES).lazy(),
        }

    def _out(self) -> Path | None:
        root = self.queue.output_root()
        if root is None and not self.queue.outputs():
            raise UsageError(f"{self.url} has no output: nothing was written so far")
        return root

    @property
    def figures(self) -> Figures:
        """Its numbers as Plotly figures; Plotly comes with the extra `notebook`."""
        if find_spec("plotly") is None:
            raise UsageError("figures need plotly; install it with: pip install -e '.[notebook]'")
        return Figures(self.queue)

    @property
    def status(self) -> Stats:
        """The totals now, in source lines."""
        return self.queue.stats()

    def check(self) -> pd.DataFrame:
        """Verify all that the store holds and return what is damaged or missing, as a pandas frame.

        Columns and dtypes: those of `etl.records.columns.FINDINGS`. It is empty if all is whole;
        at most 1,000 of each part are listed. `queue.check()` also returns how many there are.
        """
        return FINDINGS.frame(map(asdict, self.queue.check().findings))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Store {self.url}: {self.status}>"

    def _repr_html_(self) -> str:
        status, control = self.status, self.queue.control()
        note = str(status)
        if control.paused:
            note += f" · paused by {control.paused_by}"
            note += f": {control.reason}" if control.reason else ""
        return html_card(
            self.url,
            {
                "accepted": f"{status.accepted:,}",
                "done": f"{status.done:,}",
                "dead": f"{status.dead:,}",
                "waiting": f"{status.waiting:,}",
                "lines/s": f"{metrics.rates(self.queue)['done_per_second']:,.0f}",
            },
            note=note,
        )


class Metrics:
    """What a store has counted, as pandas frames; each is a function of `etl.metrics`."""

    def __init__(self, queue: Queue) -> None:
        self.processors = partial(metrics.processors, queue)
        self.queue_now = partial(metrics.queue_now, queue)
        self.history = partial(metrics.history, queue)
        self.processor_history = partial(metrics.processor_history, queue)
        self.latency_history = partial(metrics.latency_history, queue)
        self.time_shares = partial(metrics.time_shares, queue)
        self.sources = partial(metrics.sources, queue)
        self.workers = partial(metrics.workers, queue)
        self.errors = partial(metrics.errors, queue)
        self.states = partial(metrics.states, queue)
        self.state_totals = partial(metrics.state_totals, queue)


class Traces:
    """The paths of a store's last lines, as pandas frames; each is a function of `etl.traces`."""

    def __init__(self, queue: Queue) -> None:
        self.frame = partial(traces.traces, queue)
        self.hops = partial(traces.hops, queue)
        self.path_shares = partial(traces.path_shares, queue)
        self.path_edges = partial(traces.path_edges, queue)
        self.slow_lines = partial(traces.slow_lines, queue)


class Figures:
    """A store's numbers as Plotly figures: light, or dark with `dark=True`."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue

    def throughput(self, *, dark: bool = False) -> go.Figure:
        """Return lines a second and lines that wait over all of the store's history."""
        from etl.analysis import figures

        return figures.flow(metrics.history(self._queue), dark=dark)

    def last_minutes(self, *, dark: bool = False) -> go.Figure:
        """Return the same of the last two minutes."""
        from etl.analysis import figures

        return figures.throughput(metrics.history(self._queue), now=time.time(), dark=dark)

    def latency(self, *, dark: bool = False) -> go.Figure:
        """Return the time per line of every processor: p50, p95 and p99."""
        from etl.analysis import figures

        return figures.latency(metrics.processors(self._queue), dark=dark)

    def time_shares(self, *, dark: bool = False) -> go.Figure:
        """Return each processor's share of the busy time."""
        from etl.analysis import figures

        return figures.time_shares(metrics.time_shares(self._queue), dark=dark)

    def paths(self, *, dark: bool = False) -> go.Figure:
        """Return the ways that the last lines took."""
        from etl.analysis import figures

        return figures.paths(traces.path_edges(self._queue), dark=dark)

    def failures(self, *, every: str = "1s", dark: bool = False) -> go.Figure:
        """Return when lines failed, by kind of failure."""
        from etl.analysis import figures

        frame = DeadLetters(self._queue).frame(status=None)
        return figures.failure_times(frame, every=every, dark=dark)


def open(url: str | Path, *, max_lines: int | None = None, max_bytes: int | None = None) -> Store:
    """Open a store, and make it if it is not there.

    Args:
        url: `sqlite:///path/run.db`, a plain path, or `sqlite://` for one in memory.
        max_lines: Waiting lines at which `put` blocks or is refused.
        max_bytes: The same in bytes of text.

    Raises:
        UsageError: If the URL is of no known kind.
        StoreError: If the file is no store, is newer than this etl, or cannot be used.
    """
    return Store(open_queue(url, max_lines=max_lines, max_bytes=max_bytes))
