"""What `mypy --strict` says of a user's file: nothing if it is right, and each wrong argument."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import etl

RIGHT = """
from collections.abc import Iterator
from pathlib import Path

import polars as pl

from etl import (
    Batch, Count, DeadLetters, Parquet, Parse, Pipeline, Retry, Worker,
    drop, each, metrics, normalise, open_queue, reject, upper,
)

pipeline = (
    Pipeline("mine")
    .add("parse", Parse())
    .add("normalise", normalise)
    .add("warn", upper("message"), when=pl.col("level") == "WARNING")
    .add("rest", None, after="normalise")
    .add("few", drop(pl.col("level") == "DEBUG"), after=("warn", "rest"))
    .add("count", Count("level"), tee=True)
    .add("lazy", lambda frame: frame.lazy(), after="few", on_error="drop")
    .add("out", Parquet("out"), retry=Retry(attempts=3, max_wait=5.0), timeout=10.0)
)


@pipeline.add("check", after="few", retry=Retry(attempts=2))
def check(frame: pl.DataFrame) -> pl.DataFrame:
    return reject(frame, pl.col("message").is_null(), "empty", "the line has no message")


@pipeline.add("named", after="few", tee=True)
def named(frame: pl.DataFrame, batch: Batch) -> pl.DataFrame:
    return frame.with_columns(from_=pl.lit(batch.source))


@each
def split(row: dict[str, object]) -> Iterator[dict[str, object]]:
    yield from (row, row)


pipeline.add("split", split).add("maybe", each(lambda row: row if row else None))
rows: pl.DataFrame = check(pl.DataFrame({"message": ["a"]}))
state: str = pipeline.explain("a line").state
done: int = pipeline.dry_run(Batch.from_lines(["a line"], source="a.log")).done

queue = open_queue("sqlite://")
queue.put(Batch.from_lines(["a line"]))
worker = Worker(queue, pipeline, name="one", out=Path("out"), batch_lines=100, interval=0.5)
worker.start().stop()
worker.step()
lines: int = worker.drain()
totals = metrics.state_totals(queue)
print(totals, DeadLetters(queue).groups(processor="check"), queue.stats().dead)
queue.close()
"""

WRONG = """
import polars as pl

from etl import Batch, Parquet, Pipeline, Retry, Worker, each, open_queue, reject, upper


def number(frame: pl.DataFrame) -> int:
    return frame.height


queue = open_queue("sqlite://")
pipeline = Pipeline()
pipeline.add("a", 42)
pipeline.add("b", number)
pipeline.add("c", Parquet, after=1)
pipeline.add("d", None, retry=3)
pipeline.add("e", None, on_error="dropp")
pipeline.add("f", None, wen=pl.col("a"))
pipeline.add("g")(number)
pipeline.dry_run(["a"])
upper(1)
each(len)
reject(pl.DataFrame(), "a", "code", "reason")
Retry(attempts="3")
Retry(longest=3.0)
Batch.from_lines([1])
Worker(queue, pipeline, batch_lines="many")
queue.put("a")
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[int]]:
    """Return the lines of each file in which mypy finds an error."""
    folder = tmp_path_factory.mktemp("typing")
    for name, text in (("right", RIGHT), ("wrong", WRONG)):
        (folder / f"{name}.py").write_text(text)
    root = Path(etl.__file__).parent.parent
    # With the settings of the project's own check, what that has found out is not found out again.
    known = ["--config-file", root / "pyproject.toml", "--cache-dir", root / ".mypy_cache"]
    command = [sys.executable, "-m", "mypy", "--strict", *known, "right.py", "wrong.py"]
    environment = os.environ | {"PYTHONPATH": str(root)}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert "wrong.py" in done.stdout, done.stdout + done.stderr
    errors = re.findall(r"^(\S+)\.py:(\d+): error: .*$", done.stdout, re.MULTILINE)
    print(done.stdout)
    return {name: [int(line) for file, line in errors if file == name] for name, _ in errors}


def test_a_file_that_uses_the_public_names_as_they_are_meant_is_right(found: dict[str, list[int]]):
    assert set(found) == {"wrong"}


def test_every_wrong_argument_is_found(found: dict[str, list[int]]):
    lines = WRONG.splitlines()
    first = lines.index('pipeline.add("a", 42)') + 1

    assert [lines[line - 1] for line in sorted(set(found["wrong"]))] == lines[first - 1 :]
