"""The work of the benchmark as a Streamz graph: map, filters, union, batched sinks.

Lines are emitted one by one, as its documentation shows; what is written and counted is collected
into batches first, because a partial batch at the end must be flushed too.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from itertools import count
from pathlib import Path

import polars as pl
from pattern import PATTERN
from streamz import Stream
from work import DEAD, LINES, main

WRITE = 100_000
LEVEL = 3

match = re.compile(PATTERN).match


def parse(item: tuple[int, str]) -> tuple:
    """Return the number and the fields of a line, or the item as it is if nothing matches."""
    number, line = item
    found = match(line)
    return (number, *found.groups()) if found else (number, line.removesuffix("\n"))


def upper(row: tuple) -> tuple:
    """Upper-case the message."""
    *head, message = row
    return (*head, message.upper())


def graph(source: Stream, out: Path, counts: Counter[str]) -> list[Stream]:
    """Build the graph below a source and return the collectors to flush."""
    parsed = source.map(parse)
    matched = parsed.filter(lambda row: len(row) > len(DEAD))
    warn = matched.filter(lambda row: row[LEVEL].startswith("WARN")).map(upper)
    info = matched.filter(lambda row: row[LEVEL] == "INFO")
    rest = matched.filter(lambda row: row[LEVEL] != "INFO" and not row[LEVEL].startswith("WARN"))
    lines = warn.union(info, rest).collect()
    dead = parsed.filter(lambda row: len(row) == len(DEAD)).collect()
    lines.sink(parquet_files(out / "lines", LINES))
    lines.sink(lambda rows: counts.update(row[LEVEL] for row in rows))
    dead.sink(parquet_files(out / "dead", DEAD))
    return [lines, dead]


def parquet_files(stem: Path, schema: dict) -> Callable[[tuple], None]:
    """Return a function that writes each batch of rows it is given as the next Parquet file."""
    parts = count()

    def write(rows: tuple) -> None:
        if rows:
            frame = pl.DataFrame(rows, schema=schema, orient="row")
            frame.write_parquet(f"{stem}-{next(parts):05}.parquet", compression="lz4")

    return write


def run(source: Path, out: Path) -> tuple[Counter[str], int]:
    """Do the work on one file."""
    counts: Counter[str] = Counter()
    stream = Stream()
    collectors = graph(stream, out, counts)
    with source.open(encoding="utf-8", newline="\n") as file:
        number = 0
        for number, line in enumerate(file, start=1):
            stream.emit((number, line))
            if number % WRITE == 0:
                flush(collectors)
        flush(collectors)
    return counts, number - counts.total()


def flush(collectors: list[Stream]) -> None:
    """Send what was collected to the sinks."""
    for collector in collectors:
        collector.flush()


if __name__ == "__main__":
    main(run)
