"""A brief measurement of a few contenders, for `notebooks/06_benchmark.ipynb`.

    python brief.py --lines 20000 --rounds 1 --save FOLDER

It shows what the figures look like; the numbers of small inputs are mostly those of the start of
programs. The files have the names and rows of those of `run.py --save`.
"""

from __future__ import annotations

import sys

from features import ALL_ON, OBSERVED, features, title
from growth import ETL, growing
from programs import Contender, script
from results import save
from rounds import Bench, options

SIZES = 10
"""The smaller input has one line for so many of the larger."""


def main() -> None:
    """Measure, and save what was found."""
    given = options(__doc__, lines=20_000).parse_args()
    small = given.lines // SIZES
    sized = [
        Contender(one.name, lines, one.command)
        for one in growing(10_000, only=("polars", ETL))
        for lines in (small, given.lines)
    ]
    python = Contender("python", given.lines, script("python"))
    off = [one for one in features(given.lines) if one.name in (ALL_ON, title(OBSERVED))]
    bench = Bench([*sized, python, *off], given.folder, given.rounds, sync=False)
    bench.run()
    if bench.problems:
        sys.exit("\n".join(bench.problem_lines()))
    rows = bench.rows()
    tables = {
        "contenders": [one for one in (*sized, python) if one.lines == given.lines],
        "growth": sized,
        "features": off,
    }
    for name, members in tables.items():
        save(given.save, name, [rows[one.key] for one in members])


if __name__ == "__main__":
    main()
