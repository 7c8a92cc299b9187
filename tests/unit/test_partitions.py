"""Rows in folders by the values of columns: names, readers, limits, and who is killed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, date, datetime
from pathlib import Path

import duckdb
import pandas as pd
import polars as pl
import pyarrow.dataset
import pytest

from etl import Batch, Pipeline, Queue, Worker, each, open_queue
from etl.dlq import DeadLetters
from etl.errors import ProcessorStop
from etl.execution.batch_run import Runner
from etl.execution.records import batch_of
from etl.outputs.compact import compact
from etl.outputs.data_set import read_rows
from etl.sinks.parquet import Parquet, read_output

BY_DAY = Parquet(partition_by=["date", "level"])


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[Queue]:
    with closing(open_queue(tmp_path / "s.db")) as queue:
        yield queue


def row_of(line: dict) -> dict:
    row = json.loads(line["line"])
    if "day" in row:
        row["timestamp"] = datetime(2026, 11, row.pop("day"), 23, 59, tzinfo=UTC)
    return row


def pipeline(sink: Parquet) -> Pipeline:
    return Pipeline().add("row", each(row_of)).add("out", sink)


def put(queue: Queue, rows: list[dict]) -> None:
    queue.put(Batch.from_lines([json.dumps(row) for row in rows]))


def work(queue: Queue, out: Path, rows: list[dict], sink: Parquet = BY_DAY) -> None:
    put(queue, rows)
    Worker(queue, pipeline(sink), out=out).drain()


LEVELS = ["INFO", "a/b=c", "é %2F", "..", "", None, "__HIVE_DEFAULT_PARTITION__", "a b"]


def test_values_come_back_from_the_names_of_folders(queue, tmp_path):
    rows = [{"day": 1 + n % 2, "level": level, "n": n} for n, level in enumerate(LEVELS)]
    work(queue, tmp_path / "out", rows)
    assert {path.parent.parent.name for path in (tmp_path / "out").glob("*/*/*.parquet")} == {
        "date=2026-11-01",
        "date=2026-11-02",
    }
    found = read_rows(queue, tmp_path / "out").sort("n")
    assert found.select("n", "level").rows() == list(enumerate(LEVELS))
    days = [date(2026, 11, 1 + n % 2) for n in range(len(LEVELS))]
    assert found["date"].to_list() == days
    assert queue.check().whole
    without_store = read_output(tmp_path / "out").sort("n")
    assert without_store.select("n", "level").rows() == list(enumerate(LEVELS))
    assert without_store["date"].to_list() == days


READERS = {
    "polars": lambda out: pl.scan_parquet(out).select("n", "level").collect().rows(),
    "duckdb": lambda out: duckdb.sql(
        f"SELECT n, level FROM read_parquet('{out}/**/*.parquet')"
    ).fetchall(),
    "pandas": lambda out: list(
        pd.read_parquet(out)[["n", "level"]].itertuples(index=False, name=None)
    ),
    "pyarrow": lambda out: [
        (row["n"], row["level"])
        for row in pyarrow.dataset.dataset(out, partitioning="hive").to_table().to_pylist()
    ],
}


@pytest.mark.parametrize("reader", READERS)
def test_readers_know_the_columns_from_the_folders(queue, tmp_path, reader):
    for start in (0, 3):
        rows = [{"day": 1, "level": LEVELS[n % 3], "n": n} for n in range(start, start + 3)]
        work(queue, tmp_path / "out", rows)
    wanted = [(n, LEVELS[n % 3]) for n in range(6)]
    assert sorted(READERS[reader](tmp_path / "out")) == wanted
    assert compact(queue).written == 3
    assert sorted(READERS[reader](tmp_path / "out")) == wanted
    assert len(list((tmp_path / "out").rglob("*.parquet"))) == 3
    assert queue.check().whole


def test_rows_without_the_columns_are_in_the_folder_of_null(queue, tmp_path):
    work(queue, tmp_path / "out", [{"n": 1}])
    (path,) = (tmp_path / "out").rglob("*.parquet")
    null = "__HIVE_DEFAULT_PARTITION__"
    assert path.parent == tmp_path / "out" / f"date={null}" / f"level={null}"
    assert read_rows(queue, tmp_path / "out")["n"].to_list() == [1]


def test_all_types_that_can_be_names_come_back(queue, tmp_path):
    sink = Parquet(partition_by=["number", "flag"])
    rows = [{"number": 7, "flag": True}, {"number": -1, "flag": False}, {"number": 0, "flag": None}]
    work(queue, tmp_path / "out", rows, sink)
    found = read_rows(queue, tmp_path / "out").sort("number", descending=True)
    assert found.select("number", "flag").to_dicts() == [rows[0], rows[2], rows[1]]


def test_a_column_that_cannot_be_a_name_stops_the_pipeline(queue, tmp_path):
    put(queue, [{"n": 1.5}])
    worker = Worker(queue, pipeline(Parquet(partition_by=["n"])), out=tmp_path / "out")
    with pytest.raises(ProcessorStop, match=r"cannot be partitioned by 'n', .* type Float64; use"):
        worker.drain()
    assert queue.stats().waiting == 1


def test_a_batch_of_too_many_partitions_writes_the_largest(queue, tmp_path, monkeypatch):
    monkeypatch.setattr("etl.sinks.parquet.MAX_PARTITIONS", 2)
    rows = [{"level": level} for level in ["a", "b", "b", "c", None, None, None]]
    work(queue, tmp_path / "out", rows, Parquet(partition_by=["level"]))
    assert (queue.stats().done, queue.stats().dead) == (5, 2)
    dead = DeadLetters(queue).frame()
    assert set(dead["code"]) == {"too_many_partitions"}
    assert dead["message"][0].startswith("the batch has 4 partitions by level, and this row is of")
    assert read_rows(queue, tmp_path / "out")["level"].to_list().count("b") == 2


def test_a_value_that_is_too_long_for_a_name_is_a_dead_letter(queue, tmp_path):
    rows = [{"level": "ü" * 60}, {"level": "INFO"}]
    work(queue, tmp_path / "out", rows, Parquet(partition_by=["level"]))
    assert queue.stats().done == 1
    assert DeadLetters(queue).frame()["code"].tolist() == ["partition_too_long"]


def test_what_a_killed_worker_had_committed_is_published_into_its_folders(queue, tmp_path):
    put(queue, [{"day": 1, "level": "INFO"}, {"day": 2, "level": "INFO"}])
    out = tmp_path / "out"
    queue.use_output_root(out)
    slot = queue.register("killed")
    lease = queue.lease("killed")
    runner = Runner(pipeline(BY_DAY), out=out, slot=slot, remember=queue.agree_on_columns)
    queue.commit(lease, runner.run(batch_of(lease), token=lease.token))
    queue.unregister("killed")
    assert not list(out.rglob("*.parquet"))
    assert read_rows(queue, out).height == 2
    Worker(queue, Pipeline(), out=out).drain()
    assert len(list(out.glob("date=2026-11-0?/level=INFO/*.parquet"))) == 2
    assert not list(out.glob(".*"))
    assert queue.check().whole


def test_a_batch_that_is_given_up_leaves_no_folder(tmp_path):
    runner = Runner(pipeline(BY_DAY), out=tmp_path / "out")
    runner.run(Batch.from_lines(['{"day": 1}', '{"day": 2}']))
    assert len(list((tmp_path / "out").iterdir())) == 2
    runner.rollback()
    assert list((tmp_path / "out").iterdir()) == []
