"""The work of the benchmark as a Bytewax dataflow: source, map, branches, merge, batched sinks.

The source hands out lines in batches and the sinks write in batches, as Bytewax' own connectors
do; the steps between them run per line, as its documentation shows. One worker: one file is one
partition, and more workers of a process share the interpreter lock. The merge keeps no order, so
a sink sorts what it writes by line number.
"""

from __future__ import annotations

import re
from pathlib import Path

import bytewax.operators as op
import polars as pl
from bytewax.dataflow import Dataflow
from bytewax.inputs import DynamicSource, StatelessSourcePartition, batch
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from bytewax.run import cli_main
from pattern import PATTERN
from work import DEAD, LINES, main

READ = 1_000
WRITE = 100_000
LEVEL = 3

match = re.compile(PATTERN).match


class Reader(StatelessSourcePartition):
    """Read a file as batches of (number, line)."""

    def __init__(self, path: Path) -> None:
        self.file = path.open(encoding="utf-8", newline="\n")
        self.batches = batch(enumerate(self.file, start=1), READ)

    def next_batch(self) -> list[tuple[int, str]]:
        """Return the next lines, or raise StopIteration at the end of the file."""
        return next(self.batches)

    def close(self) -> None:
        """Close the file."""
        self.file.close()


class NumberedLines(DynamicSource):
    """The lines of one file with their numbers, for one worker."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def build(self, _step_id: str, _worker_index: int, _worker_count: int) -> Reader:
        """Open the file."""
        return Reader(self.path)


class Writer(StatelessSinkPartition):
    """Collect rows and write them as Parquet files of about `WRITE` rows."""

    def __init__(self, stem: Path, schema: dict[str, type[pl.DataType]]) -> None:
        self.stem, self.schema = stem, schema
        self.rows: list[tuple] = []
        self.part = 0

    def write_batch(self, items: list[tuple]) -> None:
        """Take the next rows."""
        self.rows += items
        if len(self.rows) >= WRITE:
            self.flush()

    def flush(self) -> None:
        """Write what was collected."""
        frame = pl.DataFrame(self.rows, schema=self.schema, orient="row").sort("line_number")
        frame.write_parquet(f"{self.stem}-{self.part:05}.parquet", compression="lz4")
        self.rows, self.part = [], self.part + 1

    def close(self) -> None:
        """Write the last rows."""
        if self.rows:
            self.flush()


class ParquetFiles(DynamicSink):
    """Parquet files named after a stem, for one worker."""

    def __init__(self, stem: Path, schema: dict[str, type[pl.DataType]]) -> None:
        self.stem, self.schema = stem, schema

    def build(self, _step_id: str, _worker_index: int, _worker_count: int) -> Writer:
        """Start writing."""
        return Writer(self.stem, self.schema)


class Totals(StatelessSinkPartition):
    """Keep (level, count) pairs in a dictionary."""

    def __init__(self, counts: dict[str, int]) -> None:
        self.counts = counts

    def write_batch(self, items: list[tuple[str, int]]) -> None:
        """Take the next pairs."""
        self.counts.update(items)


class Dictionary(DynamicSink):
    """A dictionary of the caller, for one worker."""

    def __init__(self, counts: dict[str, int]) -> None:
        self.counts = counts

    def build(self, _step_id: str, _worker_index: int, _worker_count: int) -> Totals:
        """Start counting."""
        return Totals(self.counts)


def parse(item: tuple[int, str]) -> tuple:
    """Return the number and the fields of a line, or the item as it is if nothing matches."""
    number, line = item
    found = match(line)
    return (number, *found.groups()) if found else (number, line.removesuffix("\n"))


def upper(row: tuple) -> tuple:
    """Upper-case the message."""
    *head, message = row
    return (*head, message.upper())


def dataflow(source: Path, out: Path, counts: dict[str, int]) -> Dataflow:
    """Build the dataflow for one file."""
    flow = Dataflow("benchmark")
    lines = op.input("read", flow, NumberedLines(source))
    parsed = op.branch("parsed", op.map("parse", lines, parse), lambda row: len(row) > len(DEAD))
    warn = op.branch("warn", parsed.trues, lambda row: row[LEVEL].startswith("WARN"))
    info = op.branch("info", warn.falses, lambda row: row[LEVEL] == "INFO")
    merged = op.merge("merge", op.map("upper", warn.trues, upper), info.trues, info.falses)
    totals = op.count_final("count", merged, lambda row: row[LEVEL])
    op.output("lines", merged, ParquetFiles(out / "lines", LINES))
    op.output("dead", parsed.falses, ParquetFiles(out / "dead", DEAD))
    op.output("totals", totals, Dictionary(counts))
    return flow


def run(source: Path, out: Path) -> tuple[dict[str, int], int]:
    """Do the work on one file."""
    counts: dict[str, int] = {}
    cli_main(dataflow(source, out, counts))
    dead = [pl.scan_parquet(path).select(pl.len()).collect().item() for path in out.glob("dead*")]
    return counts, sum(dead)


if __name__ == "__main__":
    main(run)
