"""A look into the stream: what it shows, and that it changes nothing."""

from __future__ import annotations

import contextlib
from pathlib import Path

import polars as pl
import pytest

from etl import Batch, Pipeline, Worker, drop, open_queue, upper
from etl.errors import PipelineError, UsageError
from etl.queue import Stats

LINES = ["a 1", "b 2", "a 3", "b 4", "a 5"]
STARTS_WITH_A = pl.col("line").str.starts_with("a")


@pytest.fixture
def pipeline() -> Pipeline:
    return Pipeline("taps").add("first", drop(pl.col("line") == "a 5")).add("loud", upper("line"))


def work(pipeline: Pipeline, tmp_path: Path) -> Stats:
    with contextlib.closing(open_queue("sqlite://")) as queue:
        queue.put(*[Batch.from_lines([line], source="test") for line in LINES])
        Worker(queue, pipeline, out=tmp_path).drain()
        return queue.stats()


def test_it_keeps_the_last_rows_that_fit(pipeline: Pipeline, tmp_path: Path):
    tap = pipeline.tap("first", where=STARTS_WITH_A, limit=1)
    other = pipeline.tap("loud", limit=3)
    work(pipeline, tmp_path)

    assert tap.rows()["line"].to_list() == ["a 3"]
    assert other.rows()["line"].to_list() == ["B 2", "A 3", "B 4"]


def test_a_closed_tap_sees_no_more_and_is_forgotten(pipeline: Pipeline, tmp_path: Path):
    with pipeline.tap("first") as tap:
        assert pipeline.taps == (tap,)
    work(pipeline, tmp_path)

    assert tap.rows().is_empty()
    assert pipeline.taps == ()


def test_a_condition_that_cannot_be_used_harms_no_line(pipeline: Pipeline, tmp_path: Path):
    tap = pipeline.tap("first", where=pl.col("nothing") == 1)
    stats = work(pipeline, tmp_path)

    assert (stats.done, stats.filtered, stats.dead) == (4, 1, 0)
    with pytest.raises(UsageError, match=r"rows of .first.: .*nothing"):
        tap.rows()


def test_a_condition_that_is_never_met_keeps_nothing(pipeline: Pipeline, tmp_path: Path):
    tap = pipeline.tap("first", where=pl.col("line") == "none of them")
    work(pipeline, tmp_path)

    assert tap.rows().is_empty()
    assert tap.rows().columns == ["line"]
    assert len(tap._seen) == 1


def test_an_unknown_processor_is_named(pipeline: Pipeline):
    with pytest.raises(PipelineError, match="unknown processor 'lout'; did you mean 'loud'"):
        pipeline.tap("lout")
