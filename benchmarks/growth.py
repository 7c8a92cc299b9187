"""How speed and memory change with the size of the input and with the number of processors.

    python growth.py [--up-to LINES] [--rounds N]

The inputs have 10,000 lines, 100,000 and so on; each contender stops at the size that it takes
minutes for. The largest by default has 10,000,000 lines and 1.1 GB; 100,000,000 have 11 GB.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence

from programs import ONE_EACH, REGEX, Contender, etl, script
from results import Rows, Target, process_table, save, table
from rounds import Bench, options

SMALLEST = 10_000
PROCESSORS = (1, 5, 10, 20)
ETL = "etl, by reference"

BY_LINE = (*REGEX, *ONE_EACH)

GROWING = (
    ("polars", script("polars"), 100_000_000),
    (ETL, etl(*BY_LINE), 100_000_000),
    ("duckdb", script("duckdb"), 10_000_000),
    ("python", script("python"), 1_000_000),
    ("bytewax", script("bytewax"), 1_000_000),
)
"""Each contender, its command, and the most lines that it gets."""


def sizes(up_to: int) -> Iterator[int]:
    """Yield numbers of lines, each ten times the one before, as far as a limit."""
    size = SMALLEST
    while size <= up_to:
        yield size
        size *= 10


def growing(up_to: int, only: Sequence[str] = ()) -> list[Contender]:
    """Return the contenders at each size that they get."""
    return [
        Contender(name, size, command)
        for name, command, most in GROWING
        if not only or name in only
        for size in sizes(min(up_to, most))
    ]


def passing(lines: int, counts: Sequence[int] = PROCESSORS) -> list[Contender]:
    """Return etl with 1 to 20 processors that pass rows on."""
    return [
        Contender(
            f"{count} pass-through",
            lines,
            etl(*BY_LINE, pipeline=f"passing_{count}"),
            compared=("first", "last"),
        )
        for count in counts
    ]


def targets(rows: Rows) -> Iterator[Target]:
    """Yield what is promised of the number of processors, and of memory at any size."""
    walls = {name: row.wall for (name, _), row in rows.items()}
    least, most = (f"{count} pass-through" for count in (PROCESSORS[0], PROCESSORS[-1]))
    if least in walls and most in walls:
        text = f"{most} processors, time with 1 = 1"
        yield Target(text, walls[most] / walls[least], "<", 1.3)
    trees = [row.tree for (name, _), row in rows.items() if name == ETL]
    if trees:
        yield Target(f"{ETL}, peak MB of the process tree, any size", max(trees), "<", 300)


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = options(__doc__, lines=1_000_000)
    parser.add_argument("--up-to", type=int, default=10_000_000, help="lines of the largest input")
    parser.add_argument("--only", action="append", default=[], help="name of a contender")
    return parser.parse_args()


def main() -> None:
    """Measure, and print the tables."""
    given = arguments()
    grown = Bench(growing(given.up_to, given.only), given.folder, given.rounds)
    wide = Bench([] if given.only else passing(given.lines), given.folder, given.rounds)
    for bench, name in ((grown, "growth"), (wide, "processors")):
        bench.run()
        rows = bench.rows()
        print(*table(rows), "", *bench.problem_lines(), *targets(rows), "", sep="\n")
        print(*process_table(rows), "", sep="\n")
        save(given.save, name, rows.values())
    if grown.wrong or wide.wrong:
        sys.exit(1)


if __name__ == "__main__":
    main()
