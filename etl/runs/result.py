"""What a run did: its counts, and the rows that it has written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from etl.analysis.metrics import processors, rates, sources
from etl.outputs.data_set import read_rows
from etl.queue import Queue, Stats
from etl.queue.urls import IN_MEMORY, file_of
from etl.records.columns import TOTALS
from etl.sinks.parquet import read_output
from etl.store import Store
from etl.store import open as open_store
from etl.text import html_card, printable
from etl.workers.worker import lost_outputs

if TYPE_CHECKING:
    import duckdb

__all__ = ["RunResult", "summary"]


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class RunResult(Mapping[str, Any]):
    """A run that has ended; also the mapping that `etl run --json` prints.

    Attributes:
        run: Its id in the registry of runs.
        store: URL of its store, without a password.
        out: Folder of its output.
        new: Source lines that it put.
        skipped: Files of folders that it passed over: hidden, or written by etl or Docker.
        skipped_binary: Files of folders that it passed over as they are not text.
        unreadable: What is wrong with sources that could not be read, or only in part.
        earlier: Whether it had ended before, so that this time nothing changed.
        summary: The store's totals and the processors' counts; see `summary`.
        sources: How each source was read: rows of `metrics.sources`.
    """

    run: str
    store: str
    out: Path
    new: int
    skipped: int
    skipped_binary: int
    summary: Mapping[str, Any]
    sources: Sequence[Mapping[str, Any]] = ()
    unreadable: Sequence[str] = ()
    earlier: bool = False
    _secret_url: str = ""

    @classmethod
    def of(
        cls,
        queue: Queue,
        run_id: str,
        out: Path,
        *,
        seconds: float,
        before: Stats | None = None,
        skipped: int = 0,
        skipped_binary: int = 0,
        unreadable: Sequence[str] = (),
        earlier: bool = False,
    ) -> RunResult:
        """Return the result of a run, as its store is now.

        Args:
            queue: Its store.
            run_id: Its id.
            out: Folder of its output.
            seconds: How long it took.
            before: The store's totals when it began; None if it has put nothing.
            skipped: How many files it passed over, hidden or written by etl or Docker.
            skipped_binary: How many binary files it passed over.
            unreadable: What is wrong with sources that could not be read, or only in part.
            earlier: Whether it had ended before.
        """
        found = summary(queue, seconds=seconds, before=before)
        new = found["accepted"] - before.accepted if before else 0
        return cls(
            run=run_id,
            store=queue.url,
            out=out,
            new=new,
            skipped=skipped,
            skipped_binary=skipped_binary,
            summary=found,
            sources=sources.polars(queue).to_dicts(),
            unreadable=tuple(unreadable),
            earlier=earlier,
            _secret_url=queue.secret_url,
        )

    @property
    def counts(self) -> dict[str, int]:
        """The store's totals, in source lines: accepted, done, filtered, dead, leased, waiting."""
        return {name: self.summary[name] for name in TOTALS.names}

    @property
    def seconds(self) -> float:
        """How long the run took."""
        return float(self.summary["seconds"])

    def output(self) -> pl.DataFrame:
        """Return the rows of all Parquet files of the run as one frame, each line once.

        It may be called while workers write, and files are joined. The columns are those of all
        files; a row has null in those that its file lacks. The frame is empty if there are none.
        """
        file = file_of(self.store)
        if self.store == IN_MEMORY or (file and not file.exists()):  # only the files are left
            return read_output(self.out)
        with self.open() as store:
            return read_rows(store.queue, self.out)

    def query(self, sql: str) -> pl.DataFrame:
        """Return the rows of an SQL query; see `Store.query`."""
        with self.open() as store:
            return store.query(sql)

    def duckdb(self) -> duckdb.DuckDBPyConnection:
        """Return a DuckDB connection with the same tables; see `Store.duckdb`."""
        with self.open() as store:
            return store.duckdb()

    def open(self) -> Store:
        """Return the run's store, open; close it in the end."""
        return open_store(self._secret_url or self.store)

    def to_dict(self) -> dict[str, Any]:
        """Return what `etl run --json` prints."""
        own = {"run": self.run, "store": self.store, "out": str(self.out), "new": self.new}
        own |= {"skipped": self.skipped, "skipped_binary": self.skipped_binary}
        own |= {"unreadable": list(self.unreadable), "sources": list(self.sources)}
        return {**self.summary, **own}

    def __getitem__(self, name: str) -> Any:
        return self.to_dict()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.to_dict())

    def __len__(self) -> int:
        return len(self.to_dict())

    def __repr__(self) -> str:
        ended = ", ".join(f"{self.counts[name]:,} {name}" for name in TOTALS.names[:4])
        return f"<RunResult {printable(self.run)}: {ended}, {self.seconds:.1f} s>"

    def _repr_html_(self) -> str:
        accepted, dead = self.counts["accepted"], self.counts["dead"]
        tiles = {
            "lines read": f"{accepted:,}",
            "done": f"{self.counts['done']:,}",
            "filtered": f"{self.counts['filtered']:,}",
            f"dead · {dead / (accepted or 1):.2%}": f"{dead:,}",
            "seconds": f"{self.seconds:,.1f}",
            "lines/s": f"{self.summary['lines_per_second']:,.0f}",
        }
        note = "; ".join([f"output: {self.out}", *self.unreadable])
        return html_card(f"run {self.run}", tiles, note=note)


def summary(
    queue: Queue, *, seconds: float | None = None, before: Stats | None = None
) -> dict[str, Any]:
    """Return what `etl status --json` prints.

    Keys: `accepted`, `done`, `filtered`, `dead`, `leased`, `waiting` (source
    lines), `conserved`, `paused`, `seconds` (of the run, or between the first
    and the last change), `lines_per_second`, `oldest_age`, `lost_outputs` (paths of files that
    were committed and are not there), `targets` (what waits to be loaded into databases and the
    like: `name`, `files`, `lines`, `bytes`, `since`, `error`), and `processors`, a dict by name of
    the columns of `metrics.processors`.

    Args:
        queue: The store.
        seconds: How long the run took; without it, the rate is that of the last seconds.
        before: The totals when the run began, for its rate.
    """
    stats = queue.stats()
    if seconds is None:
        history = queue.read("queue_history")
        seconds = float(history[-1]["second"] - history[0]["second"] + 1) if history else 0.0
        rate = rates(queue)["done_per_second"]
    else:
        finished = stats.finished - (before.finished if before else 0)
        rate = finished / seconds if seconds else 0.0
    return stats.totals() | {
        "conserved": stats.conserved,
        "paused": stats.paused,
        "lines_per_second": rate,
        "seconds": seconds,
        "oldest_age": stats.oldest_age,
        "targets": [asdict(one) for one in queue.targets()],
        "lost_outputs": [output.final for output in lost_outputs(queue)],
        "processors": {
            row["processor"]: row for row in processors.polars(queue).iter_rows(named=True)
        },
    }
