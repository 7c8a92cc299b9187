"""What the store has counted: the documented frames, and numbers that are right."""

from __future__ import annotations

import inspect
import subprocess
import sys
import time
from math import log10
from types import SimpleNamespace

import pandas as pd
import pytest

from etl import Batch, Count, Pipeline, Queue, Worker, each
from etl.analysis import figures, metrics
from etl.demo import dashboard
from etl.queue.sqlite import SqliteQueue
from etl.records.result import BatchResult, ProcessorStats

COUNTS = dict.fromkeys(["received", "emitted", "filtered", "errors", "retries", "dead"], "int64")
TIMES = dict.fromkeys(["seconds", "p50", "p95", "p99", "rate"], "float64")
TOTALS = dict.fromkeys(["accepted", "done", "filtered", "dead", "leased", "waiting"], "int64")
UTC = "datetime64, UTC"
TEXTS = dict.fromkeys(["worker", "batch", "processor", "error", "message"], "str")

FRAMES = {
    metrics.processors: {"processor": "str", **COUNTS, **TIMES},
    metrics.queue_now: {
        **TOTALS,
        "oldest_age": "float64",
        "accepted_per_second": "float64",
        "done_per_second": "float64",
        "paused": "bool",
        "conserved": "bool",
    },
    metrics.history: {"second": UTC} | dict.fromkeys(TOTALS, "int64"),
    metrics.processor_history: {"second": UTC, "processor": "str", **COUNTS, "seconds": "float64"},
    metrics.time_shares: {"processor": "str", "lines": "int64"}
    | dict.fromkeys(("seconds", "share", "rate", "p50", "p95", "p99"), "float64"),
    metrics.latency_history: {
        "at": UTC,
        "processor": "str",
        "lines": "int64",
        "seconds_per_line": "float64",
    },
    metrics.workers: {
        "name": "str",
        "slot": "int64",
        "host": "str",
        "pid": "int64",
        "started_at": UTC,
        "heartbeat_at": UTC,
        "batch": "str",
        "source": "str",
        "first_line": "Int64",
        "lines": "Int64",
        "leased_at": UTC,
    },
    metrics.errors: {"at": UTC, **TEXTS, "lines": "int64", "action": "str"},
    metrics.states: {"slot": "int64", "processor": "str", "state": "object"},
}
"""The columns and dtypes that each frame's docstring promises, in order."""


def dtypes(frame: pd.DataFrame) -> dict[str, str]:
    return {
        name: UTC if getattr(dtype, "tz", None) and str(dtype.tz) == "UTC" else str(dtype)
        for name, dtype in frame.dtypes.items()
    }


def commit(queue: Queue, lines: int = 10, *, worker: str = "w", **result: object) -> None:
    """Put, lease and commit one batch with what is given for its result."""
    queue.put(Batch.from_lines(["x"] * lines))
    queue.commit(queue.lease(worker), BatchResult(done=lines, **result))


def busy(received: int, seconds: float, **more: int) -> dict[str, ProcessorStats]:
    """Return the stats of a processor that took so long for each of so many lines."""
    return {
        "parse": ProcessorStats(
            received=received, emitted=received, seconds=received * seconds, **more
        )
    }


@pytest.mark.parametrize("frame", FRAMES, ids=lambda function: function.__name__)
def test_every_frame_has_its_documented_columns_when_there_is_something_in_it(queue, frame):
    queue.put(Batch.from_lines(["1", "x"]))
    slot = queue.register("other")
    queue.commit(
        queue.lease("other"), BatchResult(done=2, states={"count": '{"INFO": 1}'}, slot=slot)
    )
    queue.put(Batch.from_lines(["1"]))
    queue.lease("other")
    errors = [("parse", "ValueError", "no number", 1, "retried")]
    commit(queue, processor_stats=busy(10, 0.1), errors=errors)
    found = frame(queue)
    assert len(found) >= 1
    assert dtypes(found) == FRAMES[frame]
    assert found.columns.to_list() == list(FRAMES[frame])


@pytest.mark.parametrize("frame", FRAMES, ids=lambda function: function.__name__)
def test_every_frame_has_its_documented_columns_when_there_is_nothing_in_it(queue, frame):
    found = frame(queue)
    assert len(found) == (frame is metrics.queue_now)
    assert found.columns.to_list() == list(FRAMES[frame])
    assert dtypes(found) == FRAMES[frame]


@pytest.mark.parametrize("frame", FRAMES, ids=lambda function: function.__name__)
def test_every_frame_is_a_polars_frame_with_the_same_columns_too(queue, frame):
    commit(queue, processor_stats=busy(10, 0.1))
    assert frame.polars(queue).columns == list(FRAMES[frame])


def test_a_frame_keeps_its_documentation_and_its_parameters():
    assert str(inspect.signature(metrics.history)) == (
        "(queue: 'Queue', *, limit: 'int | None' = None) -> 'pd.DataFrame'"
    )
    assert metrics.history.__doc__.startswith("Return the queue's totals")


def test_polars_frames_are_had_without_loading_pandas():
    code = (
        "import sys; from etl import metrics, open_queue, traces; queue = open_queue('sqlite://');"
        "metrics.processors.polars(queue); traces.path_shares.polars(queue);"
        "print('pandas' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


# Processors


def test_counts_of_a_processor_are_sums_over_its_batches(queue):
    one = ProcessorStats(
        received=10, emitted=6, filtered=1, errors=4, retries=2, dead=3, seconds=0.5
    )
    commit(queue, processor_stats={"parse": one, "end": ProcessorStats(received=6, emitted=6)})
    commit(queue, processor_stats={"parse": one})
    rows = {row["processor"]: row for row in metrics.processors.polars(queue).to_dicts()}
    assert [rows["parse"][name] for name in COUNTS] == [20, 12, 2, 8, 4, 6]
    assert (rows["parse"]["seconds"], rows["parse"]["rate"]) == (1.0, 20.0)
    assert [rows["end"][name] for name in COUNTS] == [6, 6, 0, 0, 0, 0]
    assert rows["end"]["rate"] == 0.0


def test_shares_of_the_time_are_of_all_busy_seconds_and_the_busiest_is_first(queue):
    fast, slow = ProcessorStats(received=10, seconds=0.5), ProcessorStats(received=5, seconds=1.5)
    commit(queue, processor_stats={"fast": fast, "slow": slow})
    shares = metrics.time_shares(queue)
    assert shares["processor"].to_list() == ["slow", "fast"]
    assert shares["share"].to_list() == [0.75, 0.25]
    assert shares["lines"].to_list() == [5, 10]


def test_latency_is_told_by_span(store, clock):
    queue = store()
    for seconds in (0, 1, 60):
        clock.tick(seconds)
        commit(queue, processor_stats=busy(10, 0.001 * (1 + seconds)))
    by_second, by_minute = metrics.latency_history(queue), metrics.latency_history(queue, "1min")
    assert by_second["seconds_per_line"].to_list() == pytest.approx([0.001, 0.002, 0.061])
    assert by_minute["seconds_per_line"].to_list() == pytest.approx([0.0015, 0.061])
    assert by_minute["lines"].to_list() == [20, 10]
    assert by_minute["at"].dt.second.to_list() == [0, 0]


def test_a_batch_whose_commit_failed_is_not_counted(queue):
    queue.put(Batch.from_lines(list("abc")))
    lease = queue.lease("w")
    queue.release(lease)
    with pytest.raises(Exception, match="lost its lease"):
        queue.commit(lease, BatchResult(done=3, processor_stats=busy(3, 0.1)))
    assert metrics.processors(queue).empty
    assert metrics.processor_history(queue).empty


def test_counts_by_worker_add_up_to_those_of_the_processor(queue):
    commit(queue, worker="a", processor_stats=busy(10, 0.1))
    commit(queue, worker="a", processor_stats=busy(5, 0.1))
    commit(queue, worker="b", processor_stats=busy(20, 0.1, dead=2))
    frame = metrics.processors(queue, by_worker=True)
    assert frame.columns[0] == "worker"
    assert dict(zip(frame["worker"], frame["received"], strict=True)) == {"a": 15, "b": 20}
    all_of_them = metrics.processors(queue).iloc[0]
    for name in (*COUNTS, "seconds"):
        assert frame[name].sum() == pytest.approx(all_of_them[name])


@pytest.fixture
def enough(monkeypatch):
    """Let any number of batches be enough for percentiles."""
    monkeypatch.setattr(metrics, "ENOUGH_BATCHES", 0)


@pytest.mark.usefixtures("enough")
@pytest.mark.parametrize("seconds", [1e-7, 3e-6, 0.002, 1.0, 77.0])
def test_a_percentile_is_right_to_within_five_percent(queue, seconds):
    commit(queue, processor_stats=busy(10, seconds))
    row = metrics.processors(queue).iloc[0]
    assert [row["p50"], row["p95"], row["p99"]] == [pytest.approx(seconds, rel=0.05)] * 3


@pytest.mark.usefixtures("enough")
def test_percentiles_weigh_by_lines(queue):
    for lines, seconds in ((90, 0.001), (8, 0.1), (2, 10.0)):
        commit(queue, processor_stats=busy(lines, seconds))
    row = metrics.processors(queue).iloc[0]
    assert [round(log10(row[name])) for name in ("p50", "p95", "p99")] == [-3, -1, 1]


@pytest.mark.usefixtures("enough")
def test_a_processor_that_took_no_time_at_all_has_percentiles(queue):
    commit(queue, processor_stats={"parse": ProcessorStats(received=10, emitted=10, seconds=0.0)})
    row = metrics.processors(queue).iloc[0]
    assert 0 <= row["p50"] <= 1e-8
    assert row["rate"] == 0.0


def test_a_worker_counts_what_its_pipeline_did(queue):
    pipeline = Pipeline("p").add("half", each(lambda row: {**row, "half": int(row["line"]) / 2}))
    pipeline.add("even", lambda frame: frame.filter(frame["half"] % 1 == 0)).add("end", None)
    queue.put(Batch.from_lines(["1", "2", "x", "4"]))
    Worker(queue, pipeline).drain()
    frame = metrics.processors(queue).set_index("processor")
    assert frame["received"].to_dict() == {"half": 4, "even": 3, "end": 2}
    assert frame["emitted"].to_dict() == {"half": 3, "even": 2, "end": 2}
    assert frame["filtered"].to_dict() == {"half": 0, "even": 1, "end": 0}
    assert frame["dead"].to_dict() == {"half": 1, "even": 0, "end": 0}
    stats = queue.stats()
    assert (stats.done, stats.filtered, stats.dead) == (2, 1, 1)


# History


def test_history_has_one_row_a_second_as_it_stood_at_its_end(store, clock):
    queue = store()
    queue.put(Batch.from_lines(list("abc")))
    queue.put(Batch.from_lines(list("de")))
    clock.tick(1)
    queue.commit(queue.lease("w"), BatchResult(done=2, filtered=1, processor_stats=busy(3, 0.1)))
    clock.tick(5)
    commit(queue, 2, processor_stats=busy(2, 0.1))
    frame = metrics.history(queue)
    assert (frame["second"] - frame.loc[0, "second"]).dt.total_seconds().to_list() == [0, 1, 6]
    assert frame.loc[0, "second"] == pd.Timestamp(int(clock.now) - 6, unit="s", tz="UTC")
    assert frame["accepted"].to_list() == [5, 5, 7]
    assert frame["done"].to_list() == [0, 2, 4]
    assert frame["waiting"].to_list() == [5, 2, 2]
    sums = frame[["done", "filtered", "dead", "waiting", "leased"]].sum(axis=1)
    assert sums.to_list() == frame["accepted"].to_list()


def test_processor_history_adds_up_within_a_second(store, clock):
    queue = store()
    commit(queue, processor_stats=busy(10, 0.1))
    commit(queue, processor_stats=busy(5, 0.1))
    clock.tick(1)
    commit(queue, worker="other", processor_stats=busy(1, 0.1, dead=1))
    frame = metrics.processor_history(queue)
    assert frame["received"].to_list() == [15, 1]
    assert frame["dead"].to_list() == [0, 1]
    assert frame["seconds"].to_list() == pytest.approx([1.5, 0.1])
    assert frame["received"].sum() == metrics.processors(queue)["received"].sum()


def test_history_is_kept_for_an_hour(store, clock):
    queue = store()
    for _ in range(4):
        commit(queue, processor_stats=busy(10, 0.1))
        clock.tick(1500)
    for frame in (metrics.history(queue), metrics.processor_history(queue)):
        assert (frame["second"].diff().dropna().dt.total_seconds() == 1500).all()
        assert len(frame) == 3
    assert metrics.processors(queue).loc[0, "received"] == 40


def test_rates_are_lines_a_second(store, clock, monkeypatch):
    monkeypatch.setattr(metrics, "time", SimpleNamespace(time=lambda: clock.now))
    queue = store()
    clock.now = time.time() - 30
    assert metrics.rates(queue) == {"accepted_per_second": 0.0, "done_per_second": 0.0}
    for _ in range(30):
        clock.tick(1)
        queue.put(Batch.from_lines(["x"] * 3))
        queue.put(Batch.from_lines(["x"] * 4))
        queue.commit(queue.lease("w"), BatchResult(done=queue.stats().leased))
    rates = metrics.rates(queue)
    assert rates["accepted_per_second"] == pytest.approx(7, rel=0.15)
    assert rates["done_per_second"] == pytest.approx(3.5, rel=0.15)


def test_a_clock_that_was_set_forward_and_back_freezes_no_rate(store, clock):
    queue = store()
    clock.now = time.time() + 7200
    commit(queue, processor_stats=busy(1000, 0.1))
    clock.now = time.time() - 1
    assert metrics.rates(queue) == {"accepted_per_second": 0.0, "done_per_second": 0.0}
    for _ in range(2):
        commit(queue, processor_stats=busy(70, 0.1))
        clock.tick(1)
    assert metrics.rates(queue)["done_per_second"] > 0
    assert queue.read("queue_history")[-1]["second"] <= clock.now
    assert sum(row["received"] for row in queue.read("processor_history")) == 140


def test_rates_fall_to_nothing_once_nothing_happens(store, clock):
    queue = store()
    clock.now = time.time() - 1000
    for _ in range(20):
        clock.tick(1)
        commit(queue)
    clock.now = time.time()
    assert metrics.rates(queue) == {"accepted_per_second": 0.0, "done_per_second": 0.0}


def test_the_first_batch_after_a_long_rest_shows_in_the_rate(store, clock):
    queue = store()
    clock.now = time.time() - 1000
    commit(queue, 1)
    clock.now = time.time() - 1
    commit(queue, 500)
    clock.now = time.time()
    assert metrics.rates(queue)["done_per_second"] > 10


def test_queue_now_agrees_with_the_stats(store, clock):
    queue = store()
    queue.put(Batch.from_lines(list("abc")), Batch.from_lines(list("de")))
    queue.lease("w")
    queue.pause()
    clock.tick(12)
    row = metrics.queue_now(queue).iloc[0]
    assert row[list(TOTALS)].to_list() == [5, 0, 0, 0, 3, 2]
    assert (row["oldest_age"], row["paused"], row["conserved"]) == (12.0, True, True)


# Errors, workers, states


def test_errors_are_listed_oldest_first_and_the_last_thousand_are_kept(queue):
    for number in range(12):
        errors = [("parse", "ValueError", f"{number}-{n}", 1, "dead") for n in range(100)]
        commit(queue, errors=errors)
    frame = metrics.errors(queue)
    assert len(frame) == 1000
    assert frame["message"].iloc[[0, -1]].to_list() == ["2-0", "11-99"]


def test_an_error_tells_whose_it_was(store, clock):
    queue = store()
    commit(queue, 3, worker="me", errors=[("parse", "ValueError", "no", 3, "dropped")])
    row = metrics.errors(queue).iloc[0].to_dict()
    assert row.pop("at") == pd.Timestamp(clock.now, unit="s", tz="UTC")
    assert len(row.pop("batch")) > 10
    expected = {"worker": "me", "processor": "parse", "error": "ValueError", "message": "no"}
    assert row == expected | {"lines": 3, "action": "dropped"}


def test_workers_are_listed_with_their_heartbeats(store, clock):
    queue = store()
    queue.register("a")
    queue.register("b")
    clock.tick(20)
    queue.heartbeat("a")
    queue.put(Batch.from_lines(["x"], source="s"))
    lease = queue.lease("a")
    frame = metrics.workers(queue).set_index("name")
    assert frame["slot"].to_dict() == {"a": 0, "b": 1}
    alive = (frame["heartbeat_at"] - frame["started_at"]).dt.total_seconds()
    assert alive.to_dict() == {"a": 20.0, "b": 0.0}
    assert frame.loc["a", "batch"] == lease.batches[0].id
    names = ["source", "first_line", "lines", "leased_at"]
    now = pd.Timestamp(clock.now, unit="s", tz="UTC")
    assert frame.loc["a", names].to_list() == ["s", 1, 1, now]
    assert frame.loc["b", ["batch", *names]].isna().all()


def test_states_add_up_over_the_slots(queue):
    for worker, counts in (("a", '{"INFO": 3, "ERROR": 1}'), ("b", '{"INFO": 4}')):
        slot = queue.register(worker)
        commit(queue, worker=worker, states={"count": counts, "last": '"text"'}, slot=slot)
    assert metrics.state_totals(queue) == {"count": {"INFO": 7, "ERROR": 1}}
    frame = metrics.states(queue)
    assert frame["slot"].to_list() == [0, 0, 1, 1]
    assert frame.loc[frame["processor"] == "count", "state"].to_list() == [
        {"INFO": 3, "ERROR": 1},
        {"INFO": 4},
    ]


def test_a_counter_goes_on_where_the_last_worker_ended(queue):
    for _ in range(2):
        queue.put(Batch.from_lines(["a", "b", "a"]))
        Worker(queue, Pipeline("p").add("count", Count("line"))).drain()
    assert metrics.state_totals(queue) == {"count": {"a": 4, "b": 2}}


def test_metrics_survive_the_end_of_the_process(tmp_path):
    first = SqliteQueue(tmp_path / "s.db")
    commit(first, processor_stats=busy(10, 0.1), errors=[("parse", "E", "no", 1, "dead")])
    before = [frame(first) for frame in (metrics.processors, metrics.history, metrics.errors)]
    first.close()
    second = SqliteQueue(tmp_path / "s.db")
    after = [frame(second) for frame in (metrics.processors, metrics.history, metrics.errors)]
    second.close()
    for one, other in zip(before, after, strict=True):
        pd.testing.assert_frame_equal(one, other)


def test_percentiles_are_withheld_until_there_are_enough_batches(queue):
    for number in range(metrics.ENOUGH_BATCHES - 1):
        queue.put(Batch.from_lines([f"INFO {number}"], source=f"s{number}"))
    Worker(queue, dashboard, name="w").drain()
    assert queue.batches_done() == metrics.ENOUGH_BATCHES - 1
    assert metrics.too_few_batches(queue) == "too few batches: 19, of 20"
    for found in (metrics.processors(queue), metrics.time_shares(queue)):
        assert found[["p50", "p95", "p99"]].isna().all(axis=None)
    assert "too few batches" in figures.latency(metrics.processors(queue)).layout.title.text
    queue.put(Batch.from_lines(["INFO last"]))
    Worker(queue, dashboard, name="w").drain()
    assert metrics.too_few_batches(queue) == ""
    assert (metrics.processors(queue)[["p50", "p95", "p99"]] > 0).all(axis=None)
    assert figures.latency(metrics.processors(queue)).layout.title.text == "Time per line"
