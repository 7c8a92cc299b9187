"""The benchmark: the same work by etl and by its comparators, as whole processes, side by side.

Rounds are interleaved, so that a slow moment of the machine hits everyone; the table shows
medians. Every output is read back and must hold the same lines as that of Polars: a wrong answer
ends the benchmark with exit code 1, a missed target is only said.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from statistics import median

from measure import MEGA, Sample, measure
from work import PATTERN

HERE = Path(__file__).resolve().parent
ETL = Path(sys.executable).with_name("etl")
REFERENCE, STDIN = "etl, by reference", "etl, stdin"
HELP_RUNS = 10


@dataclass(frozen=True, slots=True)
class Contender:
    """A program that does the work.

    Attributes:
        name: What the table calls it.
        command: Takes the input file and the output folder, returns the command line.
        slow: Whether it gets the short input.
        stdin: Whether it reads the input from standard input.
    """

    name: str
    command: Callable[[Path, Path], Sequence[str]]
    slow: bool = False
    stdin: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """The medians of one contender.

    Attributes:
        name: The contender.
        lines: Lines in its input.
        wall: Seconds.
        cpu: CPU seconds.
        peak: Largest process, MB.
        tree: Largest sum over the process tree, MB.
    """

    name: str
    lines: int
    wall: float
    cpu: float
    peak: float
    tree: float

    @property
    def rate(self) -> float:
        """Lines a second."""
        return self.lines / self.wall


@dataclass(frozen=True, slots=True)
class Target:
    """A promise about a number: at least (`>=`) or less than (`<`) a bound."""

    text: str
    value: float
    relation: str
    bound: float

    def __str__(self) -> str:
        met = self.value >= self.bound if self.relation == ">=" else self.value < self.bound
        verdict = "met" if met else f"missed by {abs(self.value / self.bound - 1):.0%}"
        return f"{self.text}: {self.value:,.2f} ({self.relation} {self.bound:,.2f}) {verdict}"


def contenders(given: argparse.Namespace) -> list[Contender]:
    """Return everyone who does the work, the bar first."""

    def script(name: str) -> Callable[[Path, Path], Sequence[str]]:
        path = str(HERE / f"with_{name}.py")
        return lambda source, out: [sys.executable, path, str(source), str(out)]

    def etl(*layout: str, stdin: bool = False) -> Callable[[Path, Path], Sequence[str]]:
        return lambda source, out: [
            *etl_run(None if stdin else source, out, *layout),
            *(word.replace("{out}", str(out)) for word in given.etl_args.split()),
        ]

    regex = ("--regex", PATTERN)
    found = [
        Contender("polars", script("polars")),
        Contender("polars, splits", script("polars_splits")),
        Contender(REFERENCE, etl(*regex)),
        Contender(STDIN, etl(*regex, stdin=True), stdin=True),
        Contender("python", script("python"), slow=True),
        Contender("bytewax", script("bytewax"), slow=True),
        Contender("streamz", script("streamz"), slow=True),
    ]
    if given.format:
        layout = ("--format", given.format)
        found.append(Contender("etl, by reference, --format", etl(*layout)))
        found.append(Contender("etl, stdin, --format", etl(*layout, stdin=True), stdin=True))
    return [one for one in found if not given.only or one.name in given.only]


class Bench:
    """The inputs, the right answers and the samples of one benchmark."""

    def __init__(self, given: argparse.Namespace) -> None:
        self.given = given
        self.folder = given.folder.resolve()
        self.full = self.folder / f"input-{given.lines}.log"
        self.short = self.folder / f"input-{given.lines}-{given.slow_lines}.log"
        self.lines = {self.full: given.lines, self.short: min(given.lines, given.slow_lines)}
        self.answers: dict[Path, dict] = {}
        self.samples: dict[str, list[Sample]] = {}
        self.problems: dict[str, str] = {}

    def prepare(self) -> None:
        """Make the inputs and the answers that every contender must give."""
        grown(self.full, self.given.lines)
        if stale(self.short, self.full):
            with self.full.open("rb") as whole, self.short.open("wb") as part:
                part.writelines(islice(whole, self.given.slow_lines))
        for source in self.lines:
            with self.scratch() as out:
                command = [sys.executable, str(HERE / "with_polars.py"), str(source), str(out)]
                subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
                self.answers[source] = read_lines_at(out)

    def scratch(self) -> Scratch:
        """Return a fresh output folder, to be used in a `with`."""
        return Scratch(self.folder / "out")

    def run(self) -> None:
        """Run everyone, round by round."""
        for number in range(self.given.rounds):
            for contender in contenders(self.given):
                if contender.name not in self.problems:
                    print(f"round {number + 1}: {contender.name}", file=sys.stderr)
                    self.once(contender)

    def once(self, contender: Contender) -> None:
        """Run one contender once; keep its sample, or what went wrong."""
        source = self.short if contender.slow else self.full
        warm(source)
        with self.scratch() as out:
            sample = measure(
                contender.command(source, out),
                cwd=out,
                stdin=source if contender.stdin else None,
            )
            if sample.code:
                self.problems[contender.name] = f"not measured: {complaint(sample)}"
            elif (answer := read_lines_at(out)) != self.answers[source]:
                self.problems[contender.name] = (
                    f"WRONG ANSWER: wrote {answer}, expected {self.answers[source]}"
                )
            else:
                self.samples.setdefault(contender.name, []).append(sample)

    def rows(self) -> dict[str, Row]:
        """Return the medians of everyone who went through all rounds."""
        return {
            contender.name: Row(
                name=contender.name,
                lines=self.lines[self.short if contender.slow else self.full],
                wall=median(sample.wall for sample in samples),
                cpu=median(sample.cpu for sample in samples),
                peak=median(sample.peak for sample in samples),
                tree=median(sample.tree for sample in samples),
            )
            for contender in contenders(self.given)
            if contender.name not in self.problems
            for samples in [self.samples[contender.name]]
        }


class Scratch:
    """A folder that is empty at the start and gone at the end, with nothing left to sync."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> Path:
        shutil.rmtree(self.path, ignore_errors=True)
        self.path.mkdir(parents=True)
        return self.path

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.path)
        os.sync()


def etl_run(source: Path | None, out: Path, *options: str) -> list[str]:
    """Return the command line of the work by etl.

    Args:
        source: The input; standard input if None.
        out: The folder for output.
        options: How lines are read, and other options.
    """
    fixed = [
        "--pipeline",
        f"{HERE / 'pipeline.py'}:pipeline",
        "--multiline",
        "off",
        *options,
        "--json",
    ]
    return [str(ETL), "run", str(source or "-"), *fixed, "--out", str(out)]


def grown(path: Path, lines: int) -> None:
    """Make an input of some lines, unless it is there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if stale(path, HERE.parent / "data" / "python_app.log", HERE / "grow.py"):
        grow = [sys.executable, str(HERE / "grow.py"), str(path), "--lines", str(lines)]
        subprocess.run(grow, check=True)


def stale(path: Path, *made_from: Path) -> bool:
    """Return whether a file is not there or is older than what it is made from."""
    if not path.exists():
        return True
    return path.stat().st_mtime < max(source.stat().st_mtime for source in made_from)


def warm(path: Path) -> None:
    """Read a file once, so that everyone finds it in the page cache."""
    with path.open("rb") as file:
        while file.read(1 << 20):
            pass


def read_lines_at(out: Path) -> dict:
    """Return what a contender wrote, in another process that keeps this one small."""
    sample = measure([sys.executable, str(HERE / "check.py"), str(out)], cwd=out)
    return {"unreadable": complaint(sample)} if sample.code else json.loads(sample.stdout)


def table(rows: dict[str, Row]) -> Iterator[str]:
    """Yield the lines of the table of results."""
    bars = [name for name in ("polars", "python", "bytewax") if name in rows]
    heads = ["lines", "wall s", "lines/s", "CPU s/M", "peak MB", "tree MB"]
    heads += [f"x {name}" for name in bars]
    yield f"{'':30}" + "".join(f"{head:>11}" for head in heads)
    for row in rows.values():
        cells = [f"{row.lines:,}", f"{row.wall:.2f}", f"{row.rate:,.0f}"]
        cells += [f"{row.cpu / row.lines * MEGA:.2f}", f"{row.peak:.0f}", f"{row.tree:.0f}"]
        cells += [f"{row.rate / rows[name].rate:.2f}" for name in bars]
        yield f"{row.name:30}" + "".join(f"{cell:>11}" for cell in cells)


def targets(rows: dict[str, Row]) -> Iterator[Target]:
    """Yield the targets that the measured rows can speak about."""
    ratios = (
        (REFERENCE, "polars", 0.6),
        (REFERENCE, "python", 2.0),
        (REFERENCE, "bytewax", 4.0),
        (STDIN, REFERENCE, 2 / 3),
    )
    for name, other, bound in ratios:
        if name in rows and other in rows:
            text = f"{name}, speed of {other} = 1"
            yield Target(text, rows[name].rate / rows[other].rate, ">=", bound)
    for name, row in rows.items():
        if name.startswith("etl"):
            yield Target(f"{name}, peak MB of the process tree", row.tree, "<", 500)


def small(folder: Path) -> Iterator[Target | str]:
    """Measure single durable puts and the time from put to done; yield what was found."""
    found = {what: small_part(what, folder) for what in ("puts", "thread", "process")}
    for what, answer in found.items():
        if isinstance(answer, str):
            yield f"{what}: not measured: {answer}"
        elif what == "puts":
            yield Target("durable puts of one line a second", answer["puts_per_second"], ">=", 1000)
        else:
            yield (
                f"put to done when idle, worker in a {what}: "
                f"p50 {answer['p50'] * 1000:.1f} ms, p95 {answer['p95'] * 1000:.1f} ms"
            )


def ingest(folder: Path) -> Iterator[Target | str]:
    """Measure lines that come over HTTP; yield what was found."""
    found = {
        what: small_part(what, folder, "ingest.py")
        for what in ("posts", "paced", "ndjson", "stats")
    }
    promises = {
        "posts": ("single-line POSTs a second, 32 connections", "per_second", ">=", 1500),
        "paced": ("POST at half that load, p99 in ms", "p99", "<", 100),
        "ndjson": ("NDJSON lines a second, one stream", "per_second", ">=", 300_000),
        "stats": ("GET /stats while a worker runs flat out, p99 in ms", "p99", "<", 20),
    }
    for what, (text, name, relation, bound) in promises.items():
        answer = found[what]
        if isinstance(answer, str):
            yield f"{what}: not measured: {answer}"
        else:
            scale = 1000 if name == "p99" else 1
            yield Target(text, answer[name] * scale, relation, bound)


def tables(program: str, folder: Path) -> str:
    """Run a program that prints tables; return them, or why there are none."""
    sample = measure([sys.executable, str(HERE / program)], cwd=folder)
    return f"{program}: not measured: {complaint(sample)}" if sample.code else sample.stdout


def small_part(what: str, folder: Path, program: str = "small.py") -> dict[str, float] | str:
    """Run one part of a program on a store of its own; return its answer or its last complaint."""
    with Scratch(folder / "small") as path:
        command = [sys.executable, str(HERE / program), what, str(path / "run.db")]
        sample = measure(command, cwd=path)
    return complaint(sample) if sample.code else json.loads(sample.stdout)


def complaint(sample: Sample) -> str:
    """Return the last line a failed program wrote to standard error."""
    return (sample.stderr.strip().splitlines() or [f"exit code {sample.code}"])[-1]


def help_time(folder: Path) -> str:
    """Return the best wall time of `etl --help`."""
    runs = [measure([str(ETL), "--help"], cwd=folder) for _ in range(HELP_RUNS)]
    if any(run.code for run in runs):
        return "etl --help: failed"
    return f"etl --help, best of {HELP_RUNS}: {min(run.wall for run in runs):.2f} s"


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--lines", type=int, default=4_000_000)
    parser.add_argument("--slow-lines", type=int, default=4_000_000, help="for the slow ones")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=HERE.parent / "data" / "runs" / "benchmark")
    parser.add_argument("--only", action="append", default=[], help="name of a contender")
    parser.add_argument("--format", default="", help="measure etl with this --format, too")
    parser.add_argument("--etl-args", default="--store {out}/run.db", help="{out} is the folder")
    parser.add_argument("--save", type=Path, help="write the rows as JSON, too")
    parser.add_argument(
        "--no-small",
        action="store_true",
        help="leave out puts, latency, help, HTTP, formats, stores",
    )
    return parser.parse_args()


def main() -> None:
    """Run the benchmark and print its results."""
    given = arguments()
    bench = Bench(given)
    bench.prepare()
    bench.run()
    rows = bench.rows()
    print("\n".join(table(rows)))
    for name, problem in bench.problems.items():
        print(f"{name}: {problem}")
    print(*targets(rows), sep="\n")
    if not given.no_small:
        print(*small(bench.folder), help_time(bench.folder), sep="\n")
        print(*ingest(bench.folder), sep="\n")
        print(tables("formats.py", bench.folder), tables("stores.py", bench.folder), sep="\n")
    if given.save:
        fields = ("name", "lines", "wall", "rate", "cpu", "peak", "tree")
        saved = [{field: getattr(row, field) for field in fields} for row in rows.values()]
        given.save.write_text(json.dumps(saved, indent=2) + "\n", encoding="utf-8")
    if any(problem.startswith("WRONG") for problem in bench.problems.values()):
        sys.exit(1)


if __name__ == "__main__":
    main()
