"""The benchmark: the same work by etl and by its comparators, as whole processes, side by side.

A wrong answer ends the benchmark with exit code 1; a missed target is only said.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import with_lnav
import with_syslog_ng
from measure import measure
from programs import ETL, FORMAT, HERE, ONE_EACH, REGEX, TEMPLATE, Contender, etl, script
from results import Rows, Target, process_table, ratio, save, table
from rounds import Bench, Scratch, complaint, options

REFERENCE, STDIN = "etl, by reference", "etl, stdin"
HELP_RUNS = 10

QUICK = ("--rounds", "1", "--lines")

TABLES = {
    "growth.py": (*QUICK, "20000", "--up-to", "20000"),
    "features.py": (*QUICK, "20000"),
    "queues.py": (*QUICK, "200"),
    "formats.py": (*QUICK, "20000"),
    "stores.py": ("--quick",),
}
"""Programs that print tables of their own, and their options to see that they work."""

SAVING = ("growth.py", "features.py", "queues.py")
"""Those that can save their rows."""


def contenders(given: argparse.Namespace) -> list[Contender]:
    """Return everyone who does the work, the bar first.

    The fields of a template may be any text, and so some of the poison fits it: its input has none.
    """
    lines, slow, large = given.lines, min(given.lines, given.slow_lines), given.large_lines
    by_reference = etl(*REGEX, *ONE_EACH)
    by_format, by_template = etl(*FORMAT, *ONE_EACH), etl(*TEMPLATE, *ONE_EACH)
    found = [
        Contender("polars", lines, script("polars")),
        Contender("polars, splits", lines, script("polars_splits")),
        Contender("duckdb", lines, script("duckdb")),
        Contender(REFERENCE, lines, by_reference),
        Contender(STDIN, lines, etl(*REGEX, *ONE_EACH, stdin=True), stdin=True),
        Contender(f"{REFERENCE}, --format", lines, by_format),
        Contender(f"{REFERENCE}, --template", lines, by_template, poison=0.0),
        Contender("python", slow, script("python")),
        Contender("bytewax", slow, script("bytewax")),
        Contender("streamz", slow, script("streamz")),
        Contender("lnav", slow, with_lnav.command),
        Contender("syslog-ng", slow, with_syslog_ng.command, compared=("counts",)),
        Contender("polars", large, script("polars")),
        Contender(REFERENCE, large, by_reference),
        Contender(f"{REFERENCE}, --format", large, by_format),
        Contender(f"{REFERENCE}, --template", large, by_template, poison=0.0),
    ]
    unique = {one.key: one for one in found if one.lines}
    return [one for one in unique.values() if not given.only or one.name in given.only]


def targets(rows: Rows, given: argparse.Namespace) -> Iterator[Target]:
    """Yield the targets that the measured rows can speak about."""
    lines, slow, large = given.lines, min(given.lines, given.slow_lines), given.large_lines
    here = (REFERENCE, lines)
    yield from ratio(rows, here, ("polars", lines), 0.9)
    yield from ratio(rows, (STDIN, lines), ("polars", lines), 0.75)
    yield from ratio(rows, here, ("python", slow), 4.0)
    yield from ratio(rows, here, ("bytewax", slow), 6.0)
    most = (REFERENCE, large or lines)
    if large:
        yield from ratio(rows, most, ("polars", large), 1.0)
        for layout in ("--format", "--template"):
            yield from ratio(rows, (f"{REFERENCE}, {layout}", large), ("polars", large), 1.15)
    if most in rows:
        text = f"{REFERENCE}, {most[1]:,} lines, CPU seconds a million lines"
        yield Target(text, rows[most].cpu_per_million, "<", 0.95)
    for (name, size), row in rows.items():
        if name.startswith("etl"):
            yield Target(f"{name}, {size:,} lines, peak MB of the process tree", row.tree, "<", 300)


def latency(folder: Path) -> Iterator[str]:
    """Measure the time from put to done; yield what was found."""
    for what in ("thread", "process"):
        answer = part("small.py", what, folder)
        if isinstance(answer, str):
            yield f"{what}: not measured: {answer}"
        else:
            yield (
                f"put to done when idle, worker in a {what}: "
                f"p50 {answer['p50'] * 1000:.1f} ms, p95 {answer['p95'] * 1000:.1f} ms"
            )


def ingest(folder: Path) -> Iterator[Target | str]:
    """Measure lines that come over HTTP; yield what was found."""
    promises = {
        "posts": ("single-line POSTs a second, 32 connections", "per_second", ">=", 1500),
        "paced": ("POST at half that load, p99 in ms", "p99", "<", 100),
        "ndjson": ("NDJSON lines a second, one stream", "per_second", ">=", 300_000),
        "stats": ("GET /stats while a worker runs flat out, p99 in ms", "p99", "<", 20),
    }
    for what, (text, name, relation, bound) in promises.items():
        answer = part("ingest.py", what, folder)
        if isinstance(answer, str):
            yield f"{what}: not measured: {answer}"
        else:
            scale = 1000 if name == "p99" else 1
            yield Target(text, answer[name] * scale, relation, bound)


def part(program: str, what: str, folder: Path) -> dict[str, float] | str:
    """Run one part of a program on a store of its own; return its answer or its last complaint."""
    with Scratch(folder / "small") as path:
        command = [sys.executable, str(HERE / program), what, str(path / "run.db")]
        sample = measure(command, cwd=path)
    return complaint(sample) if sample.code else json.loads(sample.stdout)


def help_time(folder: Path) -> str:
    """Return the best wall time of `etl --help`."""
    runs = [measure([str(ETL), "--help"], cwd=folder) for _ in range(HELP_RUNS)]
    if any(run.code for run in runs):
        return "etl --help: failed"
    return f"etl --help, best of {HELP_RUNS}: {min(run.wall for run in runs):.2f} s"


def others(given: argparse.Namespace) -> bool:
    """Run the programs that print tables of their own; return whether all ended well."""
    right = True
    for program, quick in TABLES.items():
        extra = [] if program == "formats.py" else ["--folder", str(given.folder.resolve())]
        if given.save and program in SAVING:
            extra += ["--save", str(given.save.resolve())]
        extra += quick if given.quick else ()
        command = [sys.executable, str(HERE / program), *extra]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        print(f"\n## {program}\n\n{done.stdout}", flush=True)
        right = right and not done.returncode
    return right


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = options(__doc__, lines=4_000_000)
    parser.add_argument("--slow-lines", type=int, default=4_000_000, help="for the slow ones")
    parser.add_argument("--large-lines", type=int, default=16_000_000, help="0: none")
    parser.add_argument("--only", action="append", default=[], help="name of a contender")
    parser.add_argument("--quick", action="store_true", help="see that it works; no measurement")
    parser.add_argument("--alone", action="store_true", help="leave out all other tables")
    given = parser.parse_args()
    if given.quick:
        print("This is to see that it works; the numbers say nothing.\n")
        given.rounds, given.lines, given.slow_lines, given.large_lines = 1, 20_000, 10_000, 40_000
    return given


def main() -> None:
    """Run the benchmark and print its results."""
    given = arguments()
    bench = Bench(contenders(given), given.folder, given.rounds)
    bench.run()
    rows = bench.rows()
    print(*table(rows, bars=("polars", "python", "bytewax")), sep="\n")
    print("", *bench.problem_lines(), *targets(rows, given), "", *process_table(rows), sep="\n")
    save(given.save, "contenders", rows.values())
    right = not bench.wrong
    if not given.alone:
        print("", *latency(bench.folder), help_time(bench.folder), *ingest(bench.folder), sep="\n")
        right = others(given) and right
    if not right:
        sys.exit(1)


if __name__ == "__main__":
    main()
