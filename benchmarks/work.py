"""The work every comparator does, said once: the tables, the arguments, the answer.

Not a framework: each comparator is a script of its own, written the way its library wants it.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import polars as pl

NUMBERED = {"line_number": pl.Int64}
LINES = NUMBERED | dict.fromkeys(("date", "time", "level", "logger", "message"), pl.String)
DEAD = NUMBERED | {"line": pl.String}


def main(run: Callable[[Path, Path], tuple[Mapping[str, int], int]]) -> None:
    """Run one comparator on INPUT and OUT_DIR of the command line and print its answer as JSON.

    Args:
        run: Takes the input file and the output folder, writes `lines*.parquet` and
            `dead*.parquet` there; returns the counts by level and the number of dead lines.
    """
    if len(sys.argv) != 3:
        sys.exit(f"usage: {Path(sys.argv[0]).name} INPUT OUT_DIR")
    source, out = Path(sys.argv[1]), Path(sys.argv[2])
    out.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    counts, dead = run(source, out)
    answer = {
        "lines": sum(counts.values()) + dead,
        "dead": dead,
        "counts": dict(sorted(counts.items())),
        "seconds": round(time.perf_counter() - started, 3),
    }
    print(json.dumps(answer))
