"""The result of a batch: counts, traces, dead letters, states and staged files."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl
import polars.selectors as cs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.errors import ProcessorStop
from etl.execution.batch_run import BatchRun, Runner
from etl.execution.result_builder import MAX_REASONS, MAX_TRACED_LENGTH
from etl.pipeline.pipeline import Pipeline
from etl.processors.builtin import Count, drop, upper
from etl.processors.processor import Columns, Delivery, each, reject
from etl.processors.retry import Retry
from etl.records.batch import Batch
from etl.records.result import BatchResult
from etl.settings import Settings
from etl.sinks.jsonl import JsonLines
from etl.sinks.publish import StagedFile


def same(frame: pl.DataFrame) -> pl.DataFrame:
    return frame


def starts(text: str) -> pl.Expr:
    return pl.col("line").str.starts_with(text)


def run(pipeline: Pipeline, *lines: str | bytes, **options: Any) -> BatchResult:
    options.setdefault("sleep", lambda _seconds: None)
    result = Runner(pipeline, **options).run(Batch.from_lines(lines, source="a.log"))
    assert result.done + result.filtered + result.dead == len(lines)
    return result


def traces(result: BatchResult) -> list[tuple[str, str, tuple[str, ...]]]:
    """Return line, state and path of each trace."""
    trace = result.trace
    return [
        (line, state, tuple(name for name, _ in trace.paths[path]))
        for line, state, path in trace.lines.select("line", "state", "path").iter_rows()
    ]


def refuse_b(frame: pl.DataFrame) -> pl.DataFrame:
    return reject(frame, starts("b"), "is_b", "it is b")


def written(folder: Path) -> list[str]:
    return [
        line
        for path in sorted(folder.rglob("*.jsonl"))
        for line in pl.read_ndjson(path)["line"].to_list()
    ]


# Counts


def test_every_row_that_a_processor_received_is_accounted_for():
    pipeline = Pipeline().add("few", drop(starts("d"))).add("refuse", refuse_b)
    pipeline.add("fail", each(lambda row: row | {"n": 1 / (row["line"] != "x")}))
    result = run(pipeline, "a", "b", "d", "x", "bb", "c")

    assert (result.done, result.filtered, result.dead) == (2, 1, 3)
    for stats in result.processor_stats.values():
        assert stats.received == stats.emitted + stats.filtered + stats.dead
        assert stats.seconds > 0
    assert [result.processor_stats[name].errors for name in ("few", "refuse", "fail")] == [0, 2, 1]
    assert sum(stats.dead for stats in result.processor_stats.values()) == result.dead


def test_a_processor_that_no_line_reached_is_not_counted():
    pipeline = Pipeline().add("a", same).add("never", same, when=starts("z"))

    assert set(run(pipeline, "a").processor_stats) == {"a"}


def test_rows_that_come_by_two_branches_are_counted_once_each():
    pipeline = Pipeline().add("a", same, when=starts("a")).add("b", same, after="input")
    pipeline.add("end", same, after=("a", "b"))

    assert run(pipeline, "a", "b", "a").processor_stats["end"].received == 3


def test_dropped_errors_are_filtered_and_listed():
    pipeline = Pipeline().add("refuse", refuse_b, on_error="drop")

    result = run(pipeline, "a", "b", "b")
    assert (result.done, result.filtered, result.dead) == (1, 2, 0)
    assert result.errors == [("refuse", "is_b", "it is b", 2, "dropped")]
    assert (result.processor_stats["refuse"].filtered, result.processor_stats["refuse"].dead) == (
        2,
        0,
    )


def test_retries_that_went_well_are_listed_and_counted():
    waits: list[float] = []
    failing = [True, False]

    def flaky(row: dict[str, Any]) -> dict[str, Any]:
        if failing.pop(0):
            raise OSError("later")
        return row

    pipeline = Pipeline().add("flaky", each(flaky), retry=Retry(attempts=2, wait=5.0, jitter=0.0))
    result = run(pipeline, "a", sleep=waits.append)
    assert (result.done, waits) == (1, [5.0])
    assert result.processor_stats["flaky"].retries == 1
    assert [error[-1] for error in result.errors] == ["retried"]


def test_lines_that_were_retried_are_back_in_order(tmp_path: Path):
    tried: list[str] = []

    def flaky(row: dict[str, Any]) -> dict[str, Any]:
        tried.append(row["line"])
        if row["line"] == "b" and tried.count("b") == 1:
            raise OSError("later")
        return row

    pipeline = Pipeline().add("flaky", each(flaky), retry=Retry(attempts=2))
    runner = Runner(pipeline.add("out", JsonLines()), out=tmp_path, sleep=lambda _seconds: None)
    runner.run(Batch.from_lines(["a", "b", "c"]))
    runner.publish()
    assert written(tmp_path) == ["a", "b", "c"]


def test_an_empty_batch_runs():
    result = run(Pipeline().add("a", upper("line")))

    assert (result.done, result.filtered, result.dead, result.trace) == (0, 0, 0, None)


def test_a_processor_that_stops_raises_with_the_reason():
    pipeline = Pipeline().add("refuse", refuse_b, on_error="stop")

    with pytest.raises(ProcessorStop) as caught:
        run(pipeline, "a", "b")
    assert str(caught.value) == (
        "processor 'refuse' failed on 1 lines, and its policy is to stop: is_b: it is b"
    )


# Traces


def test_every_line_has_its_state_and_path():
    pipeline = Pipeline().add("start", drop(starts("d")))
    pipeline.add("loud", upper("line"), when=starts("a"))
    pipeline.add("refuse", refuse_b, after="start").add("end", same, after=("loud", "refuse"))

    assert traces(run(pipeline, "a", "b", "c", "d")) == [
        ("a", "done", ("start", "loud", "end")),
        ("b", "dead", ("start", "refuse")),
        ("c", "done", ("start", "refuse", "end")),
        ("d", "filtered", ("start",)),
    ]


def test_a_line_that_matches_no_branch_ends_where_it_was():
    pipeline = Pipeline().add("start", same).add("a", same, when=starts("a"))

    assert traces(run(pipeline, "b", "a")) == [
        ("b", "filtered", ("start",)),
        ("a", "done", ("start", "a")),
    ]


def test_paths_tell_the_seconds_of_every_hop():
    (path,) = run(Pipeline().add("a", same).add("b", same), "a").trace.paths

    assert [name for name, _ in path] == ["a", "b"]
    assert all(0 < seconds < 10 for _, seconds in path)


def test_only_the_last_lines_are_traced_and_long_ones_are_cut():
    lines = [f"line {number}" for number in range(Settings.traces_per_second + 500)]
    result = run(Pipeline().add("a", same), *lines, "x" * (MAX_TRACED_LENGTH + 5))

    found = [line for line, _, _ in traces(result)]
    assert len(found) == Settings.traces_per_second
    assert found[0] == "line 501"
    assert len(found[-1]) == MAX_TRACED_LENGTH


def test_a_sink_s_rows_carry_their_whole_path(tmp_path: Path):
    pipeline = Pipeline().add("start", same).add("loud", upper("line"), when=starts("a"))
    pipeline.add("out", JsonLines(), after=("loud",), tee=True)
    pipeline.add("rest", same, after="start").add("all", JsonLines("all"), after=("loud", "rest"))
    runner = Runner(pipeline, out=tmp_path)
    runner.run(Batch.from_lines(["a", "b"]))
    runner.publish()

    (path,) = (tmp_path / "all").iterdir()
    assert pl.read_ndjson(path)["path"].to_list() == [
        "start → loud → all",
        "start → rest → all",
    ]


def test_a_column_of_the_user_called_path_is_kept(tmp_path: Path):
    pipeline = Pipeline().add("url", lambda f: f.with_columns(path=pl.lit("/x"), path_=pl.lit("y")))
    runner = Runner(pipeline.add("out", JsonLines()), out=tmp_path)
    result = runner.run(Batch.from_lines(["a"]))
    runner.publish()

    assert result.done == 1
    (path,) = tmp_path.glob("*.jsonl")
    row = pl.read_ndjson(path).row(0, named=True)
    assert row["path"] == "url → out"
    assert {"/x", "y"} <= set(row.values())


# Dead letters


def test_a_dead_letter_holds_what_is_needed_to_understand_it():
    pipeline = Pipeline().add("add", lambda f: f.with_columns(n=pl.lit(7), b=pl.lit(b"\xff")))
    pipeline.add("fail", each(lambda _row: 1 / 0), retry=Retry(attempts=3))
    result = run(pipeline, b"b\xff", run="run-1")

    dead_letter = result.dead_letters.row(0, named=True)
    (failure,) = result.failures
    assert (dead_letter["line"], dead_letter["raw"], dead_letter["line_number"]) == (
        "b\\xff",
        b"b\xff",
        1,
    )
    assert json.loads(dead_letter["payload"]) == {"n": 7, "b": "ff"}
    assert (dead_letter["message"], dead_letter["attempts"], dead_letter["lines"]) == (
        "division by zero",
        3,
        1,
    )
    assert (failure.processor, failure.code, failure.error) == (
        "fail",
        "error",
        "ZeroDivisionError",
    )
    assert "division by zero" in failure.traceback
    assert failure.path == ("add", "fail")
    assert (result.run, result.version) == ("run-1", pipeline.version)


@pytest.mark.parametrize(
    "value",
    [
        [b"\xff"],
        {"deep": b"\xff"},
        object(),
        float("nan"),
        [],
        {},
        "\x00\u2028",
        2**100,
    ],
    ids=lambda value: type(value).__name__,
)
def test_whatever_a_row_holds_it_can_be_a_dead_letter(value: Any):
    dtype = pl.Object if type(value) is object else pl.Int128 if value == 2**100 else None

    def add(frame: pl.DataFrame) -> pl.DataFrame:
        return frame.with_columns(pl.Series("odd", [value] * frame.height, dtype=dtype))

    result = run(Pipeline().add("odd", add).add("refuse", refuse_b), "a", "b")
    assert (result.done, result.dead) == (1, 1)
    payload = result.dead_letters["payload"][0]
    assert payload is None or isinstance(json.loads(payload), dict)


def test_the_same_failure_has_the_same_fingerprint_whatever_the_numbers():
    def fail(row: dict[str, Any]) -> None:
        raise ValueError(f"bad value {row['line']!r} at 0x{len(row['line']):x}")

    result = run(Pipeline().add("fail", each(fail)), "12", "1234", "7")
    assert len({failure.fingerprint for failure in result.failures}) == 1
    assert result.dead_letters["message"].to_list() == [
        "bad value '12' at 0x2",
        "bad value '1234' at 0x4",
        "bad value '7' at 0x1",
    ]


def test_failures_that_differ_have_fingerprints_that_differ():
    def fail(row: dict[str, Any]) -> None:
        if row["line"] == "key":
            raise KeyError("same")
        raise ValueError("same" if row["line"] == "a" else "other")

    result = run(Pipeline().add("fail", each(fail)), "a", "b", "key")
    assert len({failure.fingerprint for failure in result.failures}) == 3
    names = [result.failures[index].error for index in result.dead_letters["failure"]]
    assert names == ["ValueError", "ValueError", "KeyError"]


def test_the_fingerprint_is_the_same_in_the_next_batch_and_by_another_path():
    pipeline = Pipeline().add("a", same, when=starts("a")).add("b", same, after="input")
    pipeline.add("fail", each(lambda _row: 1 / 0), after=("a", "b"))

    one, two = run(pipeline, "a", "b"), run(pipeline, "b")
    assert {failure.path for failure in one.failures} == {("a", "fail"), ("b", "fail")}
    assert len({failure.fingerprint for failure in (*one.failures, *two.failures)}) == 1


def test_very_many_reasons_are_one_failure():
    words = [
        f"w{'abcdefghij'[n % 10]}{'abcdefghij'[n // 10 % 10]}{chr(97 + n // 100)}"
        for n in range(300)
    ]
    pipeline = Pipeline().add("no", lambda f: reject(f, pl.lit(value=True), "no", pl.col("line")))

    result = run(pipeline, *words)
    assert len(set(words)) > MAX_REASONS
    assert len(result.failures) == 1
    assert result.dead_letters["message"].to_list() == words


def test_dead_letters_are_in_the_order_of_their_lines():
    pipeline = Pipeline().add("late", each(lambda row: 1 / (row["line"] != "c") and row))
    pipeline.add("b", refuse_b)

    result = run(pipeline, "b", "c", "a", "bb")
    assert result.dead_letters["line_number"].to_list() == [1, 2, 4]


def test_a_replayed_line_that_passes_is_named_and_one_that_dies_again_keeps_its_id():
    frame = pl.DataFrame({"line": ["a", "b"], "line_number": [3, 9], "dead_letter_id": [70, 71]})
    result = Runner(Pipeline().add("refuse", refuse_b)).run(
        Batch(lines=2, payload=frame, source="a.log")
    )

    assert list(result.passed) == [70]
    assert result.dead_letters.select("dead_letter_id", "line_number").rows() == [(71, 9)]


# Copies and sinks


def test_a_line_that_dies_in_one_branch_reaches_no_sink(tmp_path: Path):
    pipeline = Pipeline().add("start", same).add("copy", JsonLines("copy"), tee=True)
    pipeline.add("refuse", refuse_b, after="start").add("main", JsonLines("main"))
    runner = Runner(pipeline, out=tmp_path)
    result = runner.run(Batch.from_lines(["a", "b", "c"]))
    runner.publish()

    assert (result.done, result.dead) == (2, 1)
    assert written(tmp_path / "copy") == written(tmp_path / "main") == ["a", "c"]


def test_a_child_that_dies_keeps_its_siblings_from_the_sink(tmp_path: Path):
    pipeline = Pipeline().add("split", each(lambda row: [row | {"n": n} for n in range(2)]))
    pipeline.add("check", lambda f: reject(f, starts("b") & (pl.col("n") == 1), "bad", "no"))
    runner = Runner(pipeline.add("out", JsonLines()), out=tmp_path)
    runner.run(Batch.from_lines(["a", "b"]))
    runner.publish()

    assert written(tmp_path) == ["a", "a"]


def test_each_sink_of_a_batch_has_a_file_of_its_own(tmp_path: Path):
    pipeline = Pipeline().add("one", JsonLines(), tee=True).add("two", JsonLines(), after="input")
    runner = Runner(pipeline, out=tmp_path)
    result = runner.run(Batch.from_lines(["a"]))
    runner.publish()

    assert len(result.outputs) == len(list(tmp_path.iterdir())) == 2
    assert written(tmp_path) == ["a", "a"]


class Picky:
    """A sink that refuses some rows."""

    def __init__(self) -> None:
        self.shown: list[str] = []

    def stage(self, frame: pl.DataFrame, _delivery: Delivery) -> Any:
        if frame["line"].str.starts_with("b").any():
            raise ValueError("not b")
        return PickyStaged(self, frame["line"].to_list())


class PickyStaged:
    """Rows on their way to a `Picky`."""

    outputs = ()

    def __init__(self, sink: Picky, rows: list[str]) -> None:
        self.sink, self.rows = sink, rows

    def publish(self) -> None:
        self.sink.shown += self.rows

    def discard(self) -> None:
        """Forget them."""


@pytest.mark.parametrize("rows", [10, 100])
def test_a_sink_that_refuses_a_row_is_given_the_others_once(rows: int):
    sink = Picky()
    lines = [f"a{number}" for number in range(rows)]
    runner = Runner(Pipeline().add("picky", sink))
    result = runner.run(Batch.from_lines([*lines[:7], "b", *lines[7:]]))
    runner.publish()

    assert (result.done, result.dead) == (rows, 1)
    assert sorted(sink.shown) == sorted(lines)


def test_rollback_removes_what_was_staged(tmp_path: Path):
    runner = Runner(Pipeline().add("out", JsonLines()), out=tmp_path)
    runner.run(Batch.from_lines(["a"]))
    assert len(list(tmp_path.iterdir())) == 1

    runner.rollback()
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_stops_half_way_can_be_rolled_back(tmp_path: Path):
    blocked = tmp_path / "blocked"
    blocked.write_text("in the way")
    pipeline = Pipeline().add("one", JsonLines(), tee=True)
    pipeline.add("two", JsonLines("blocked"), after="input")
    runner = Runner(pipeline, out=tmp_path)
    with pytest.raises(ProcessorStop):
        runner.run(Batch.from_lines(["a"]))
    runner.rollback()

    assert list(tmp_path.iterdir()) == [blocked]


@pytest.mark.parametrize("options", [{}, {"timeout": 5.0}])
def test_a_sink_that_fails_leaves_nothing_behind(options: dict[str, Any], tmp_path: Path):
    def with_bytes(frame: pl.DataFrame) -> pl.DataFrame:
        return frame.with_columns(data=pl.lit(b"\xff"))  # which JSON cannot hold

    pipeline = Pipeline().add("bytes", with_bytes).add("out", JsonLines(), **options)
    runner = Runner(pipeline, out=tmp_path)
    result = runner.run(Batch.from_lines(["a", "b", "c"]))

    assert (result.done, result.dead, result.outputs) == (0, 3, [])
    assert list(tmp_path.rglob("*.tmp")) == []


def test_a_stop_while_failing_rows_are_looked_for_can_be_rolled_back(tmp_path: Path):
    @dataclass(frozen=True)
    class Odd(JsonLines):
        """Fails on several rows at once, stages some alone, and stops at the last."""

        def stage(self, frame: pl.DataFrame, delivery: Delivery) -> StagedFile:
            if frame.height > 1:
                raise ValueError("one by one, please")
            if frame["line"][0] == "c":
                raise ProcessorStop("no more")
            return super().stage(frame, delivery)

    runner = Runner(Pipeline().add("out", Odd()), out=tmp_path)
    with pytest.raises(ProcessorStop):
        runner.run(Batch.from_lines(["a", "b", "c"]))
    assert len(list(tmp_path.rglob("*.tmp"))) > 0
    runner.rollback()
    assert list(tmp_path.rglob("*.tmp")) == []


def test_a_branch_that_cannot_be_decided_is_where_its_lines_died():
    pipeline = Pipeline().add("a", same).add("b", same, when=pl.col("none") == 1, after="a")
    first = Pipeline().add("b", same, when=pl.col("none") == 1)
    paths = [Runner(one).run(Batch.from_lines(["x"])).failures[0].path for one in (pipeline, first)]
    assert paths == [("a", "b"), ("b",)]


# States


def test_a_state_is_handed_on_from_batch_to_batch_once_it_is_published():
    runner = Runner(Pipeline().add("count", Count("line")))
    states = []
    for _ in range(2):
        states.append(runner.run(Batch.from_lines(["a"])).states)
        runner.publish()

    assert states == [{"count": '{"a": 1}'}, {"count": '{"a": 2}'}]


def test_a_state_that_is_rolled_back_is_the_one_before():
    runner = Runner(Pipeline().add("count", Count("line")), states={"count": '{"a": 5}'})
    runner.run(Batch.from_lines(["a", "a"]))
    runner.rollback()

    assert runner.run(Batch.from_lines(["a"])).states == {"count": '{"a": 6}'}


def test_a_runner_leaves_the_pipeline_s_own_processor_alone():
    count = Count("line")
    one, two = (Runner(Pipeline().add("count", count)) for _ in range(2))
    for runner in (one, one, two):
        runner.run(Batch.from_lines(["a"]))
        runner.publish()

    assert count.state() == {}
    assert two.run(Batch.from_lines(["a"])).states == {"count": '{"a": 2}'}


def test_two_processors_that_are_one_object_count_apart():
    count = Count("line")
    pipeline = Pipeline().add("one", count).add("few", drop(starts("b"))).add("two", count)

    states = run(pipeline, "a", "b").states
    assert json.loads(states["one"]) == {"a": 1, "b": 1}
    assert json.loads(states["two"]) == {"a": 1}


def test_a_replaced_counter_resumes_from_the_committed_counts():
    pipeline = Pipeline().add("count", Count("line"))
    runner = Runner(pipeline)
    runner.run(Batch.from_lines(["a"]))
    runner.publish()
    pipeline.add("count", Count("line"))

    assert runner.run(Batch.from_lines(["a"])).states == {"count": '{"a": 2}'}


def test_a_line_that_fails_after_it_was_counted_does_not_stop_the_count():
    pipeline = Pipeline().add("count", Count("line")).add("refuse", refuse_b)

    result = run(pipeline, "a", "b")
    assert json.loads(result.states["count"]) == {"a": 1, "b": 1}
    assert result.dead == 1


def test_a_dry_run_keeps_no_state():
    pipeline = Pipeline().add("count", Count("line"))
    pipeline.dry_run(Batch.from_lines(["a"]))

    assert Runner(pipeline).run(Batch.from_lines(["a"])).states == {"count": '{"a": 1}'}


LINE = pl.col("line")


@pytest.mark.parametrize("when", [pl.lit(value=True), pl.lit(None), pl.col("line").max() == "c"])
def test_a_condition_may_be_the_same_for_all_rows(when: pl.Expr):
    pipeline = Pipeline().add("one", expr=LINE.alias("a")).add("two", expr=LINE.alias("b"))
    pipeline.add("yes", same, when=when).add("no", same, after="two")
    taken = "no" if when.meta.eq(pl.lit(None)) else "yes"
    runner = Runner(pipeline)
    for _ in range(2):  # the first goes step by step, the second is a query of several pieces
        result = runner.run(Batch.from_lines(["a", "b", "c"] * 1000))
        received = {name: stats.received for name, stats in result.processor_stats.items()}
        assert received == {"one": 3000, "two": 3000, taken: 3000}


def test_a_frame_made_of_dicts_keeps_the_places_of_its_rows():
    result = run(
        Pipeline().add("made", lambda frame: pl.DataFrame(frame.to_dicts())).add("b", refuse_b),
        *("a", "b", "c"),
    )
    assert (result.done, result.dead) == (2, 1)
    assert result.dead_letters["line"].to_list() == ["b"]


def test_rows_that_were_copied_and_are_unique_again_are_not_filtered():
    pipeline = Pipeline().add("twice", lambda frame: pl.concat([frame, frame]).sort("_row"))
    pipeline.add("once", lambda frame: frame.unique("_row", maintain_order=True))
    result = run(pipeline, "a", "b")
    assert (result.done, result.processor_stats["once"].filtered) == (2, 0)


def test_a_line_without_fields_is_a_line_to_each():
    pipeline = Pipeline().add("none", lambda frame: frame.select("_row"))
    assert run(pipeline.add("each", each(lambda row: {"n": len(row)})), "a", "b").done == 2


LEVEL = pl.col("line").str.head(1)
SIZE = pl.col("line").str.len_chars()
CONDITIONS = [
    LEVEL == "a",
    LEVEL.is_in(["b", "c"]),
    pl.when(LEVEL != "d").then(SIZE > 1),  # null for d
    SIZE.mean() < SIZE,  # not the same for some of the rows as for all
    pl.col("line").cum_count() % 2 == 0,
    pl.lit(value=True),
    pl.lit(None),
    pl.col("nothing") == 1,
    (LEVEL == "a") | pl.any_horizontal(cs.string() == "b"),
]


class Loud(Columns):
    """A subclass, which may do anything."""

    def __call__(self, frame: pl.DataFrame) -> pl.DataFrame:
        return frame.with_columns(pl.col("line") + "!")


PROCESSORS = [
    None,
    None,
    upper("line"),
    upper("line_number"),
    Loud({}),
    Columns({"line": pl.col("line") + pl.concat_str(cs.string())}),
    Columns({"line": pl.concat_str(pl.all().cast(pl.String))}),
]
STARTS = [
    None,
    lambda frame: frame.reverse(),
    lambda frame: pl.DataFrame(frame.to_dicts()),  # in which `_row` has another type
    lambda frame: pl.concat([frame.head(1), frame.tail(-1)], rechunk=False),
    lambda frame: frame.with_columns(_reject=None),
]


@given(
    st.lists(st.text("abcd\xe9", max_size=3), min_size=1, max_size=12),
    st.lists(
        st.tuples(st.sampled_from(CONDITIONS), st.sampled_from(PROCESSORS)),
        max_size=3,
        unique_by=lambda branch: str(branch[0]),
    ),
    st.sampled_from(PROCESSORS),
    st.booleans(),
    st.sampled_from(STARTS),
)
def test_branches_that_merge_at_once_do_what_they_do_step_by_step(
    lines, branches, rest, last, start
):
    def pipeline(look: Callable[[pl.DataFrame], pl.DataFrame]) -> Pipeline:
        made = Pipeline().add("start", start)
        nodes = [(f"n{at}", processor, when) for at, (when, processor) in enumerate(branches)]
        nodes = [*nodes, ("rest", rest, None)] if last else [("rest", rest, None), *nodes]
        for name, processor, when in nodes:
            made.add(name, processor, after="start", when=when)
        return made.add("end", look, after=[name for name, _, _ in nodes])

    assert found(pipeline, lines, watched=False) == found(pipeline, lines, watched=True)


EXPRESSIONS = [
    [],
    LINE.str.to_uppercase(),
    LINE.str.head(1),
    [LINE.str.len_chars().alias("size"), LINE.str.head(2)],
    (pl.col("size") + 1).alias("size"),  # which may not be there
    LINE.str.to_integer().alias("size"),  # which may fail, also where it is set again
    pl.lit(1).alias("size"),
    pl.lit("x").alias("format"),
    LINE.str.to_datetime(strict=False).alias("timestamp"),
    pl.lit(pl.Series([1, 2])).alias("two"),  # of the wrong length
    pl.when(LINE == "b").then(pl.struct(code=pl.lit("b"), reason=LINE)).alias("_reject"),
    (pl.col("_row") * 0).alias("_row"),
]


@given(
    st.lists(st.text("ab1\xe9", max_size=3), min_size=1, max_size=8),
    st.lists(st.sampled_from(EXPRESSIONS), min_size=1, max_size=5),
    st.integers(0, 5),
)
def test_processors_in_a_row_that_set_columns_do_what_they_do_step_by_step(lines, steps, other):
    def pipeline(look: Callable[[pl.DataFrame], pl.DataFrame]) -> Pipeline:
        made = Pipeline()
        for at, step in enumerate(steps):
            made.add(f"n{at}", expr=step)
            if at == other:
                made.add("other", upper("line"), after=f"n{at}", when=LEVEL == "a")
                made.add("more", None, after=f"n{at}")
        return made.add("end", look)

    assert found(pipeline, lines, watched=False) == found(pipeline, lines, watched=True)


def found(
    make: Callable[[Callable[[pl.DataFrame], pl.DataFrame]], Pipeline],
    lines: list[str],
    *,
    watched: bool,
) -> dict[str, Any]:
    """Return all that is known of a run; one that is watched goes step by step."""
    ended: list[dict[str, Any]] = []

    def look(frame: pl.DataFrame) -> pl.DataFrame:
        ended.extend(frame.select(pl.exclude("^_path$")).to_dicts())
        return frame

    plan = make(look).plan()
    watches = [lambda *_: None] if watched else []
    batch = Batch.from_lines(lines, source="a.log")
    one = BatchRun(plan, batch, sleep=lambda _: None, watches=watches)
    one.execute()
    result = one.builder.result()
    return {
        "ended": ended,
        "counts": (result.done, result.filtered, result.dead),
        "stats": {n: replace(s, seconds=0) for n, s in result.processor_stats.items()},
        "dead": result.dead_letters.to_dicts(),
        "errors": result.errors,
        "formats": result.formats,
        "traces": traces(result),
    }


def test_the_time_of_processors_that_run_as_one_is_theirs_together():
    pipeline = Pipeline().add("a", expr=LINE.str.to_uppercase()).add("b", expr=LINE.str.head(1))
    times = {"a": 3e-6, "b": 1e-6}
    batch = Batch.from_lines(["a"] * 1000)
    one = BatchRun(pipeline.plan(), batch, sleep=lambda _: None, times=times)
    one.execute()
    stats = one.builder.processor_stats

    assert stats["a"].received == stats["b"].emitted == 1000
    assert stats["a"].seconds == pytest.approx(3 * stats["b"].seconds)
    assert times == {"a": 3e-6, "b": 1e-6}
    BatchRun(pipeline.plan(), batch, sleep=lambda _: None, times=times, apart=True).execute()
    assert times["a"] != 3e-6
