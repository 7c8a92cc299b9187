"""SQLite, PostgreSQL, and PostgreSQL with a synchronous standby, side by side.

All are on the same disk, and every put and commit is synced to it: by PostgreSQL's settings as
they are by default, and by both servers where there is a standby. Nothing is asserted: a missed
target is printed, `missed by …`.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path
from statistics import median

import postgresql
import store_parts as parts
from client import LINES
from programs import HERE
from results import Target
from rounds import Scratch
from store_parts import QUICK, Kind, Row, Sizes, seconds

SQLITE, POSTGRES, STANDBY = "SQLite", "PostgreSQL", "PostgreSQL + synchronous standby"


@dataclass(frozen=True, slots=True)
class Table:
    """A table of numbers, with a row for each kind of store.

    Attributes:
        title: What it shows, in which unit.
        measure: Measures one row.
        compared: Columns that are shown as shares of SQLite's, too.
        targets: What PostgreSQL should reach: column, relation and bound.
        format: How its numbers are written.
    """

    title: str
    measure: Callable[[Kind, Sizes], Row]
    compared: Sequence[str] = ()
    targets: Sequence[tuple[str, str, float]] = ()
    format: str = ",.0f"
    rows: dict[str, Row] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)

    def fill(self, kind: Kind, sizes: Sizes) -> None:
        """Measure the row of a kind of store, or note why there is none."""
        try:
            self.rows[kind.name] = self.measure(kind, sizes)
        except Exception as error:  # noqa: BLE001 - the other tables are worth having
            self.problems[kind.name] = str(error).strip().partition("\n")[0]

    def compare(self) -> None:
        """Add the columns that are shares of SQLite's."""
        base = self.rows.get(SQLITE, {})
        for row in self.rows.values():
            for name in self.compared:
                if name in row and name in base:
                    row[share_of(name)] = row[name] / base[name]

    def __str__(self) -> str:
        self.compare()
        columns = list(max(self.rows.values(), key=len, default={}))
        found = [f"**{self.title}**", ""]
        if columns:
            found += [f"| | {' | '.join(columns)} |", "|---|" + "---:|" * len(columns)]
        for kind, row in self.rows.items():
            cells = [self.cell(name, row[name]) if name in row else "·" for name in columns]
            found += [f"| {kind} | {' | '.join(cells)} |"] if row else []
        notes = [f"{kind}: not measured: {why}" for kind, why in self.problems.items()]
        notes += [
            str(Target(f"{kind}, {name}", row[name], relation, bound))
            for kind, row in self.rows.items()
            for name, relation, bound in self.targets
            if kind != SQLITE and name in row
        ]
        return "\n".join([*found, "", *(f"- {note}" for note in notes), *([""] if notes else [])])

    def cell(self, name: str, value: float) -> str:
        """Return a number as it is written in a column."""
        return f"{value:.2f}" if " : " in name or name.endswith("= 1") else f"{value:{self.format}}"


def share_of(name: str) -> str:
    """Return the name of the column that compares another with SQLite."""
    return f"{name}, SQLite = 1"


def tables(sizes: Sizes) -> dict[str, Table]:
    """Return all tables, empty."""
    many = f"{sizes.clients[-1]}"
    scale = ("16 : 4", ">=", 0.8)
    processes, workers = sizes.idle
    return {
        "puts": Table(
            "Puts a second of 10 lines each, by so many clients at once",
            parts.puts,
            compared=(many,),
            targets=(scale,),
        ),
        "work": Table(
            f"Batches of {LINES} lines a second that so many workers lease, process and commit",
            parts.work,
            compared=(many,),
        ),
        "commits": Table(
            "Batches a second that so many clients lease and commit, with the results of such work",
            partial(parts.work, do="commit"),
            compared=(many,),
            targets=(scale, ("16", ">=", 400)),
        ),
        "sql": Table(
            "The same leases and commits a second by the SQL alone (pgbench)",
            parts.sql,
            targets=(scale, ("16", ">=", 1_200)),
        ),
        "latency": Table(
            f"From put to done, at 10 puts a second with {sizes.workers} idle workers",
            parts.latency,
            targets=(("p50, ms", "<", 25),),
            format=",.1f",
        ),
        "lines": Table(
            f"Lines a second of `etl run` on {sizes.lines:,} lines",
            parts.lines,
            compared=("by reference", "inline"),
            targets=(
                (share_of("by reference"), ">=", 0.9),
                (share_of("inline"), ">=", 0.7),
            ),
        ),
        "idle": Table(
            f"With {processes * workers} idle workers",
            parts.idle,
            targets=(("server, % of a core", "<", 5), ("put to done, ms", "<", 100)),
            format=",.1f",
        ),
        "reads": Table(
            f"With {sizes.dead:,} dead letters and {sizes.waiting:,} waiting batches",
            parts.reads,
            format=",.1f",
        ),
    }


def kinds(path: Path, folder: Path) -> Iterator[Kind]:
    """Yield each kind of store; its server runs until the next is asked for.

    Args:
        path: For stores and servers.
        folder: For inputs and outputs.
    """
    yield Kind(SQLITE, folder, partial(sqlite_store, path))
    bin = postgresql.programs()
    if bin is None:
        print("PostgreSQL is not installed: apt-get install postgresql")
        return
    with postgresql.running(bin, path / "postgresql") as server:
        yield Kind(POSTGRES, folder, partial(postgresql.store, server), server)
        with postgresql.standby(server):
            yield Kind(STANDBY, folder, partial(postgresql.store, server), server)


_files = count()


@contextmanager
def sqlite_store(folder: Path) -> Iterator[str]:
    """Make an empty store in a file, and remove it when the block ends."""
    with Scratch(folder / f"store_{next(_files)}") as path:
        yield f"sqlite:///{path / 'store.db'}"


def sync_time(folder: Path) -> float:
    """Return how many seconds the disk takes to sync 8 kB."""

    def sync() -> None:
        os.write(file, bytes(8192))
        os.fsync(file)

    with tempfile.TemporaryFile(dir=folder, buffering=0) as opened:
        file = opened.fileno()
        return median(seconds(sync) for _ in range(50))


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    names = list(tables(QUICK))
    parser.add_argument("--only", action="append", choices=names, help="name of a table")
    parser.add_argument("--quick", action="store_true", help="see that it works; no measurement")
    parser.add_argument("--folder", type=Path, default=HERE.parent / "data" / "runs" / "benchmark")
    return parser.parse_args()


def main() -> None:
    """Measure, and print the tables."""
    given = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # servers and clients are ended first
    sizes = QUICK if given.quick else Sizes()
    if given.quick:
        print("This is to see that it works; the numbers say nothing.\n")
    wanted = {name: one for name, one in tables(sizes).items() if name in (given.only or [name])}
    with tempfile.TemporaryDirectory(prefix="etl-stores-") as temporary:
        path = Path(temporary)
        path.chmod(0o711)  # the server may be another user's
        print(f"A sync of the disk takes {sync_time(path) * 1000:.2f} ms.\n")
        try:
            for kind in kinds(path, given.folder.resolve()):
                for name, table in wanted.items():
                    print(f"{kind.name}: {name}", file=sys.stderr)
                    table.fill(kind, sizes)
        finally:  # what there is, if it is interrupted
            print(*wanted.values(), sep="\n")


if __name__ == "__main__":
    main()
