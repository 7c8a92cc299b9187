"""What the features of etl cost: the same run with each of them switched off, one by one.

    python features.py [--lines N] [--rounds N]

And what it costs where etl does more than the work of the other tables: the default pipeline, lines
that are all dead letters, a file of four lines.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence

from measure import measure
from programs import ETL, ONE_EACH, REGEX, Contender, etl, script
from results import Row, Rows, Target, ratio, save, table
from rounds import Bench, options

BY_LINE = (*REGEX, *ONE_EACH)
NOTHING = ("--regex", "^(?P<message>no line is like this)$", *ONE_EACH)
"""A layout that no line has."""

FEATURES = ("traces", "metrics", "checksums", "statistics", "sync")
"""What `without.py` can switch off."""

ALL_ON = "all on"
OBSERVED = ("traces", "metrics")
TIMED = ("timestamp", "level", "logger", "message", "path")
DEFAULT, TIMES, DEAD = "etl, default pipeline", "polars, with times", "all lines dead letters"

FOUR_RUNS = 10


def features(lines: int, names: Sequence[str] = tuple(FEATURES)) -> list[Contender]:
    """Return the run with all features on, with each off, with those that observe, and all off."""
    off = [(), *((name,) for name in names), OBSERVED, tuple(names)]
    return [Contender(title(one), lines, etl(*BY_LINE, off=one)) for one in off]


def title(off: Sequence[str]) -> str:
    """Return what a run is called that has these features off."""
    if len(off) == len(FEATURES):
        return "all off"
    return f"{' and '.join(off)} off" if off else ALL_ON


def more(lines: int) -> list[Contender]:
    """Return the runs that do more, and what they are compared with."""
    timed = {"poison": 0.0, "answer": "polars_times", "columns": TIMED}
    return [
        Contender("etl run", lines, etl(*BY_LINE)),
        Contender("records joined (--multiline auto)", lines, etl(*REGEX), compared=()),
        Contender("worker processes (--workers 2)", lines, etl(*BY_LINE, "--workers", "2")),
        Contender(DEAD, lines, etl(*NOTHING), compared=()),
        Contender(DEFAULT, lines, etl(pipeline=""), **timed),
        Contender(TIMES, lines, script("polars_times"), **timed),
    ]


def cost(rows: Rows, lines: int) -> Iterator[str]:
    """Yield what share of the time, and of the CPU time, goes without a feature."""
    base = rows.get((ALL_ON, lines))
    for row in rows.values():
        if base and row is not base:
            wall, cpu = 1 - row.wall / base.wall, 1 - row.cpu / base.cpu
            yield f"- {row.name}: {wall:+.1%} of the time, {cpu:+.1%} of the CPU time is saved"


def four_lines(bench: Bench) -> Row:
    """Return how long a run of a file of four lines takes, with the default pipeline."""
    with bench.scratch() as out:
        source = out / "four.log"
        source.write_text(
            "".join(f"2026-11-21 10:11:12,{n} INFO shop: line {n}\n" for n in range(100, 104)),
            encoding="utf-8",
        )
        runs = [
            measure([str(ETL), "run", str(source), "--store", str(out / f"{n}.db")], cwd=out)
            for n in range(FOUR_RUNS)
        ]
    failed = [run.stderr for run in runs if run.code]
    if failed:
        sys.exit(f"a run of four lines failed: {failed[0]}")
    return Row.of("etl run, four lines", 4, runs)


def targets(rows: Rows, lines: int, four: Row) -> Iterator[Target]:
    """Yield what is promised."""
    on, off = rows.get((ALL_ON, lines)), rows.get((title(OBSERVED), lines))
    if on and off:
        yield Target("tracing and metrics, % more time", (on.wall / off.wall - 1) * 100, "<", 8)
    yield from ratio(rows, (DEAD, lines), ("etl run", lines), 0.25)
    yield from ratio(rows, (DEFAULT, lines), (TIMES, lines), 0.9)
    yield Target(f"{four.name}, seconds", four.wall, "<", 0.5)
    yield Target(f"{four.name}, CPU seconds", four.cpu, "<", 0.6)


def main() -> None:
    """Measure, and print the tables."""
    given = options(__doc__, lines=1_000_000).parse_args()
    off = Bench(features(given.lines), given.folder, given.rounds)
    beyond = Bench(more(given.lines), given.folder, given.rounds)
    off.run()
    beyond.run()
    four = four_lines(off)
    rows = off.rows() | beyond.rows()
    print(*table(off.rows()), "", *cost(off.rows(), given.lines), "", sep="\n")
    print(*table(beyond.rows() | {(four.name, four.lines): four}), "", sep="\n")
    print(*off.problem_lines(), *beyond.problem_lines(), sep="\n")
    print(*targets(rows, given.lines, four), sep="\n")
    save(given.save, "features", off.rows().values())
    save(given.save, "more", [*beyond.rows().values(), four])
    if off.wrong or beyond.wrong:
        sys.exit(1)


if __name__ == "__main__":
    main()
