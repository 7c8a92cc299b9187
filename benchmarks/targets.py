"""Lines into databases and lakes: etl against code by hand, whole processes, round by round.

    python targets.py FILE                     a log that grow.py has made
    python targets.py FILE --only delta --rounds 1

Both parse the same lines by one regular expression and load the same columns. What is by hand is in
one transaction, keeps no ids, and begins again if it is killed.
"""

from __future__ import annotations

import argparse
import json
import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import polars as pl
import psycopg
from pattern import PATTERN
from postgresql import programs, running

from etl import DatabaseTable, Delta, DuckLake, Parse, Pipeline
from etl.sinks.target import Target

HERE = Path(__file__)
COLUMNS = ("date", "time", "level", "logger", "message")
TEXTS = ", ".join(f"{name} TEXT" for name in COLUMNS)
UNASKED = ("line", "format", "source", "path", "line_number", "line_count", "rest")


def parsed(source: Path) -> pl.DataFrame:
    """Return the fields of the lines that fit."""
    groups = pl.col("line").str.extract_groups(PATTERN).struct.unnest()
    lines = pl.scan_lines(source).select(groups).filter(pl.col("level").is_not_null())
    return lines.collect(engine="streaming")


def into_sqlite(rows: pl.DataFrame, url: str) -> None:
    """Insert rows one by one, as the driver of Python does."""
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as db, db:
        db.execute(f"CREATE TABLE lines ({TEXTS})")
        db.executemany("INSERT INTO lines VALUES (?, ?, ?, ?, ?)", rows.iter_rows())


def into_duckdb(rows: pl.DataFrame, url: str) -> None:
    """Let DuckDB read the frame."""
    import duckdb

    with duckdb.connect(url.removeprefix("duckdb:///")) as db:
        db.register("frame", rows)
        db.execute("CREATE TABLE lines AS FROM frame")


def into_postgresql(rows: pl.DataFrame, url: str) -> None:
    """Copy rows as CSV, which Polars writes."""
    with psycopg.connect(url) as db:
        db.execute(f"CREATE TABLE lines ({TEXTS})")
        with db.cursor().copy("COPY lines FROM STDIN (FORMAT csv)") as copy:
            for part in rows.iter_slices(100_000):
                copy.write(part.write_csv(include_header=False))


def into_lake(rows: pl.DataFrame, url: str) -> None:
    """Let DuckDB write the frame into a lake."""
    with DuckLake(url, "lines").session() as session:
        session._connection.register("frame", rows)  # noqa: SLF001 - the same extensions
        session._connection.execute("CREATE TABLE lines AS FROM frame")  # noqa: SLF001


def into_delta(rows: pl.DataFrame, url: str) -> None:
    """Append the frame."""
    from deltalake import write_deltalake

    write_deltalake(url, rows, mode="append")


BY_HAND: dict[str, Callable[[pl.DataFrame, str], None]] = {
    "sqlite": into_sqlite,
    "duckdb": into_duckdb,
    "postgresql": into_postgresql,
    "lake": into_lake,
    "delta": into_delta,
}


def target(kind: str, url: str) -> Target:
    """Return the sink of a kind."""
    if kind == "delta":
        return Delta(url, leave_out=UNASKED)
    if kind == "lake":
        return DuckLake(url, "lines", leave_out=UNASKED)
    return DatabaseTable(url, "lines", leave_out=UNASKED)


def pipeline() -> Pipeline:
    """Return the same work as a pipeline, whose target is in the environment."""
    made = Pipeline("targets").add("parse", Parse(f"regex:{PATTERN}"))
    return made.add("target", target(os.environ["TARGET_KIND"], os.environ["TARGET"]))


def seconds(command: list[str], environment: dict[str, str], folder: Path) -> float:
    """Return how long a process takes."""
    started = time.perf_counter()
    done = subprocess.run(
        command, env=os.environ | environment, cwd=folder, capture_output=True, check=False
    )
    if done.returncode:
        sys.exit(done.stderr.decode())
    return time.perf_counter() - started


def measure(kind: str, source: Path, server: str) -> tuple[float, float]:
    """Return the seconds that code by hand takes, and etl, each into a new target."""
    url = {"lake": "lake.db", "delta": "lines", "postgresql": server}.get(
        kind, f"{kind}:///lines.db"
    )
    hand = [sys.executable, str(HERE), str(source), "--by-hand", kind, url]
    run = [sys.executable, "-m", "etl", "run", str(source), "--store", "s/store.db"]
    run += ["--pipeline", f"{HERE}:pipeline", "--multiline", "off"]
    path = os.pathsep.join([str(HERE.parent), os.environ.get("PYTHONPATH", "")])
    environment = {"TARGET_KIND": kind, "TARGET": url, "PYTHONPATH": path}
    found = []
    for command in (hand, run):
        if kind == "postgresql":
            with psycopg.connect(server) as db:
                db.execute("DROP TABLE IF EXISTS lines, etl_batches")
        with tempfile.TemporaryDirectory() as folder:
            found.append(seconds(command, environment, Path(folder)))
    return found[0], found[1]


@contextmanager
def server_of(kinds: list[str]) -> Iterator[str]:
    """Run PostgreSQL until the block ends, if it is measured; yield its URL."""
    if "postgresql" not in kinds:
        yield ""
        return
    bin = programs()
    if bin is None:
        sys.exit("PostgreSQL is not installed: apt-get install postgresql")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        with running(bin, Path(folder, "server")) as server:
            yield server.url()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", action="append", choices=BY_HAND)
    parser.add_argument("--by-hand", nargs=2)
    given = parser.parse_args()
    source = given.source.absolute()
    if given.by_hand:
        kind, url = given.by_hand
        BY_HAND[kind](parsed(source), url)
        return
    kinds = given.only or list(BY_HAND)
    lines = pl.scan_lines(source).select(pl.len()).collect().item()
    rows: dict[str, list[tuple[float, float]]] = {kind: [] for kind in kinds}
    with server_of(kinds) as server:
        for _ in range(given.rounds):
            for kind in kinds:
                rows[kind].append(measure(kind, source, server))
    for kind, times in rows.items():
        hand, ours = (lines / statistics.median(column) for column in zip(*times, strict=True))
        rates = {"by hand": round(hand), "etl": round(ours), "ratio": round(ours / hand, 2)}
        print(json.dumps({"target": kind, **rates}))


if __name__ == "__main__":
    main()
