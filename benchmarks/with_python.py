"""The work of the benchmark as a plain Python loop with `re`: what most people would write.

One process, one pass; every 100,000 lines become one Parquet file.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import polars as pl
from pattern import PATTERN
from work import DEAD, LINES, main

CHUNK = 100_000


def run(source: Path, out: Path) -> tuple[Counter[str], int]:
    """Do the work on one file."""
    counts: Counter[str] = Counter()
    dead: list[tuple[int, str]] = []
    with source.open(encoding="utf-8", newline="\n") as file:
        numbered = enumerate(file, start=1)
        for part, chunk in enumerate(chunks(numbered)):
            rows = parse(chunk, counts, dead)
            frame = pl.DataFrame(rows, schema=LINES, orient="row")
            frame.write_parquet(out / f"lines-{part:05}.parquet", compression="lz4")
    rejected = pl.DataFrame(dead, schema=DEAD, orient="row")
    rejected.write_parquet(out / "dead.parquet", compression="lz4")
    return counts, len(dead)


def chunks(numbered: Iterator[tuple[int, str]]) -> Iterator[list[tuple[int, str]]]:
    """Cut a stream of numbered lines into lists."""
    while chunk := list(islice(numbered, CHUNK)):
        yield chunk


def parse(
    chunk: list[tuple[int, str]], counts: Counter[str], dead: list[tuple[int, str]]
) -> list[tuple[int, str, str, str, str, str]]:
    """Parse and branch a chunk of lines; count the levels, put aside what does not match."""
    match = re.compile(PATTERN).match
    rows = []
    for number, line in chunk:
        found = match(line)
        if found is None:
            dead.append((number, line.removesuffix("\n")))
            continue
        date, time, level, logger, message = found.groups()
        if level.startswith("WARN"):
            message = message.upper()
        counts[level] += 1
        rows.append((number, date, time, level, logger, message))
    return rows


if __name__ == "__main__":
    main(run)
