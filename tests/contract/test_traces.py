"""The paths of the last lines: the documented frames, and which lines are kept."""

from __future__ import annotations

from typing import Any

import pandas as pd
import polars as pl
import pytest

from etl import Batch, DeadLetters, Pipeline, Queue, Worker, each
from etl.analysis.traces import hops, path_edges, path_shares, slow_lines, traces
from etl.execution.records import batch_of
from etl.records.result import BatchResult, Trace

UTC = "datetime64, UTC"
TRACES = {
    "at": UTC,
    "worker": "str",
    "batch": "str",
    "source": "str",
    "version": "str",
    "line_number": "int64",
    "line": "str",
    "state": "str",
    "path": "object",
    "hop_seconds": "object",
    "seconds": "float64",
}
HOPS = {"trace": "int64", "line_number": "int64", "hop": "int64", "processor": "str"}
HOPS |= {"seconds": "float64"}
PATHS = {"path": "object", "state": "str", "lines": "int64"}
PATHS |= {"share": "float64", "seconds": "float64"}
EDGES = {"before": "str", "after": "str", "lines": "int64"}
SLOW = {"source": "str", "line_number": "int64", "line": "str", "state": "str"}
SLOW |= {"seconds": "float64", "slowest": "str", "share": "float64"}
FRAMES = [(traces, TRACES), (hops, HOPS), (path_shares, PATHS), (path_edges, EDGES)]
FRAMES += [(slow_lines, SLOW)]
"""The columns and dtypes that the docstrings promise, in order."""


def dtypes(frame: pd.DataFrame) -> dict[str, str]:
    return {
        name: UTC if getattr(dtype, "tz", None) and str(dtype.tz) == "UTC" else str(dtype)
        for name, dtype in frame.dtypes.items()
    }


def commit(queue: Queue, lines: list[str], *, first_line: int = 1, **more: Any) -> None:
    """Commit a batch of which every line is traced."""
    text = "".join(f"{line}\n" for line in lines).encode()
    queue.put(Batch(lines=len(lines), payload=text, source="app.log", first_line=first_line))
    lease = queue.lease("w")
    frame = (
        batch_of(lease)
        .frame()
        .select("line", "line_number", state=pl.lit("done"), path=pl.lit(0, pl.UInt32))
    )
    trace = Trace(frame, [[("parse", 0.25), ("end", 0.5)]])
    queue.commit(lease, BatchResult(done=len(lines), trace=trace, **more))


def branches() -> Pipeline:
    """Make a pipeline with a branch for numbers, which filters odd ones, and no room for 'x'."""
    pipeline = Pipeline("p").add("start", each(lambda row: {**row, "n": int(row["line"])}))
    pipeline.add("odd", lambda frame: frame.clear(), when=pl.col("n") % 2 == 1, after="start")
    return pipeline.add("even", None, after="start").add("end", None, after=("odd", "even"))


@pytest.mark.parametrize(("frame", "documented"), FRAMES)
def test_the_frames_have_their_documented_columns(queue, frame, documented):
    commit(queue, ["a", "b"], version="v1")
    assert dtypes(frame(queue)) == documented
    assert frame(queue).columns.to_list() == list(documented)


@pytest.mark.parametrize(("frame", "documented"), FRAMES)
def test_the_frames_have_their_documented_columns_when_empty(queue, frame, documented):
    assert frame(queue).empty
    assert frame(queue).columns.to_list() == list(documented)
    assert dtypes(frame(queue)) == documented


def test_a_trace_tells_the_path_of_its_line(store, clock):
    queue = store()
    commit(queue, ["a", "b"], first_line=7, version="v1")
    row = traces(queue).iloc[1].to_dict()
    assert row.pop("at") == pd.Timestamp(clock.now, unit="s", tz="UTC")
    assert len(row.pop("batch")) > 10
    assert row == {
        "worker": "w",
        "source": "app.log",
        "version": "v1",
        "line_number": 8,
        "line": "b",
        "state": "done",
        "path": ("parse", "end"),
        "hop_seconds": (0.25, 0.5),
        "seconds": 0.75,
    }


def test_every_hop_of_a_trace_has_a_row_with_its_time(queue):
    commit(queue, ["a", "b"])
    frame = hops(queue)
    assert frame["trace"].to_list() == [0, 0, 1, 1]
    assert frame["line_number"].to_list() == [1, 1, 2, 2]
    assert frame["hop"].to_list() == [0, 1, 0, 1]
    assert frame["processor"].to_list() == ["parse", "end"] * 2
    assert frame["seconds"].to_list() == [0.25, 0.5] * 2


def test_a_worker_traces_every_way_a_line_can_go(queue):
    queue.put(Batch.from_lines(["1", "2", "x", "4"]))
    Worker(queue, branches()).drain()
    frame = traces(queue)
    assert frame["line"].to_list() == ["1", "2", "x", "4"]
    assert frame["state"].to_list() == ["filtered", "done", "dead", "done"]
    even = ("start", "even", "end")
    assert frame["path"].to_list() == [("start", "odd"), even, ("start",), even]
    assert (frame["seconds"] > 0).all()
    assert all(sum(row.hop_seconds) == row.seconds for row in frame.itertuples())
    assert frame["version"].unique().tolist() == [branches().version]


def test_the_last_thousand_lines_are_kept_however_many_batches_come(queue):
    for start in range(0, 2_000, 10):
        commit(queue, [f"line {n}" for n in range(start, start + 10)], first_line=start)
    frame = traces(queue)
    assert frame["line_number"].to_list() == list(range(1_000, 2_000))
    assert frame["line"].iloc[[0, -1]].to_list() == ["line 1000", "line 1999"]
    (stored,) = queue._database.rows("SELECT sum(lines) AS n FROM traces")
    assert 1_000 <= stored["n"] < 1_000 + 65 * 10


def test_one_line_batches_are_kept_and_forgotten_alike(queue):
    for number in range(130):
        commit(queue, ["x"], first_line=number)
    commit(queue, ["y"] * 950, first_line=1_000)
    numbers = traces.polars(queue)["line_number"].to_list()
    assert numbers == [*range(80, 130), *range(1_000, 1_950)]


def test_paths_are_counted_with_what_became_of_their_lines(queue):
    queue.put(Batch.from_lines(["2", "4", "x", "1"]))
    Worker(queue, branches()).drain()
    shares = path_shares(queue)
    assert list(zip(shares["path"], shares["state"], shares["lines"], strict=True)) == [
        (("start", "even", "end"), "done", 2),
        (("start",), "dead", 1),
        (("start", "odd"), "filtered", 1),
    ]
    assert shares["share"].to_list() == [0.5, 0.25, 0.25]


def test_edges_lead_from_the_input_to_the_end_and_lose_no_line(queue):
    queue.put(Batch.from_lines(["2", "4", "x", "1"]))
    Worker(queue, branches()).drain()
    edges = path_edges(queue).set_index(["before", "after"])["lines"].to_dict()
    assert edges[("input", "start")] == 4
    assert (edges[("start", "dead")], edges[("odd", "filtered")], edges[("end", "done")]) == (
        1,
        1,
        2,
    )
    assert sum(lines for (_, after), lines in edges.items() if after == "even") == 2


def test_slow_lines_tell_what_held_them_up(queue):
    commit(queue, ["a", "b"], first_line=5)
    (row,) = slow_lines(queue, count=1).to_dict("records")
    assert (row["source"], row["line_number"], row["line"]) == ("app.log", 5, "a")
    assert (row["seconds"], row["slowest"]) == (0.75, "end")
    assert row["share"] == pytest.approx(2 / 3)


def test_of_a_big_batch_the_last_lines_are_traced_as_many_as_a_second_may_have(queue):
    queue.put(Batch.from_lines(["1"] * 3_000), Batch.from_lines(["2"] * 3_000))
    worker = Worker(queue, branches())
    worker.drain()
    numbers = traces(queue)["line_number"].to_list()
    assert numbers[:200] == list(range(2_801, 3_001))
    assert len(numbers) < 400, "the second batch came in the same second"


def test_dead_and_replayed_lines_are_always_traced(queue):
    def fail(row):
        raise ValueError(row["line"])

    queue.put(Batch.from_lines([str(number) for number in range(600)]))
    Worker(queue, Pipeline("p").add("fail", each(fail))).drain()
    assert len(traces(queue)) == 600
    DeadLetters(queue).replay()
    Worker(queue, Pipeline("p").add("pass", None)).drain()
    assert traces(queue)["state"].tolist()[-600:] == ["done"] * 600


def test_a_commit_with_as_many_lines_as_are_kept_takes_the_place_of_all_before(queue):
    commit(queue, ["old"])
    queue.put(Batch.from_lines([str(number) for number in range(3_000)]))
    Worker(queue, Pipeline("p").add("fail", each(lambda row: row["none"]))).drain()
    frame = traces(queue)
    assert frame["line_number"].to_list() == list(range(2_001, 3_001))
    assert len(queue.read("traces")) == 1


def test_fewer_traces_may_be_asked_for(queue):
    for start in (1, 4):
        commit(queue, ["a", "b", "c"], first_line=start)
    assert traces(queue, limit=4)["line_number"].to_list() == [3, 4, 5, 6]
    assert traces.polars(queue, 2)["line_number"].to_list() == [5, 6]
    assert hops(queue, limit=1)["line_number"].to_list() == [6, 6]


def test_text_in_a_trace_stays_as_it_is_and_is_cut_when_very_long(queue):
    odd = ['<img src=x onerror="alert(1)">', "nul\0", "Ω\u2028", "{0!r} %s", "x" * 5_000]
    queue.put(Batch.from_lines(odd))
    Worker(queue, Pipeline("p").add("pass", None)).drain()
    assert traces(queue)["line"].to_list() == [*odd[:4], "x" * 2_000]


def test_a_batch_without_traces_leaves_the_others(queue):
    commit(queue, ["a"])
    queue.put(Batch.from_lines(["b"]))
    queue.commit(queue.lease("w"), BatchResult(done=1))
    assert traces(queue)["line"].to_list() == ["a"]


def test_a_line_that_is_traced_in_two_branches_shows_both(queue):
    pipeline = Pipeline("p").add("start", None).add("copy", None, tee=True, after="start")
    pipeline.add("main", None, after="start")
    queue.put(Batch.from_lines(["a"]))
    Worker(queue, pipeline).drain()
    assert sorted(traces(queue)["path"]) == [("start", "copy"), ("start", "main")]
    assert queue.stats().done == 1
