"""Building a DAG, refusing one that cannot run, drawing it, and the way lines take through it."""

from __future__ import annotations

import functools
import html
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.errors import PipelineError, UsageError
from etl.pipeline.load import load_pipeline
from etl.pipeline.pipeline import Pipeline
from etl.processors.builtin import Count, drop, upper
from etl.processors.processor import Columns, each, only_polars, reject
from etl.processors.retry import Retry
from etl.records.batch import Batch
from etl.records.result import BatchResult
from etl.sinks.jsonl import JsonLines
from etl.sinks.parquet import Parquet
from etl.sinks.stdout import Stdout

LINE = pl.col("line")
NASTY = "<img src=x onerror=alert(1)>"


class Collect:
    """Passes rows on and remembers them: what a test looks at."""

    def __init__(self) -> None:
        self.frame = pl.DataFrame()
        self.calls = 0

    def __call__(self, frame: pl.DataFrame) -> pl.DataFrame:
        self.frame = frame
        self.calls += 1
        return frame

    def __getitem__(self, column: str) -> list[Any]:
        return self.frame[column].to_list() if self.frame.height else []


def same(frame: pl.DataFrame) -> pl.DataFrame:
    return frame


def run(pipeline: Pipeline, *lines: str) -> BatchResult:
    result = pipeline.dry_run(Batch.from_lines(lines, source="a.log"))
    assert result.done + result.filtered + result.dead == len(lines)
    return result


def counts(result: BatchResult) -> tuple[int, int, int]:
    return result.done, result.filtered, result.dead


def starts(text: str) -> pl.Expr:
    return pl.col("line").str.starts_with(text)


# Building


def test_processors_follow_one_another_unless_told_otherwise():
    pipeline = Pipeline().add("a", same).add("b", same).add("c", same, after="a", tee=True)

    assert [pipeline[name].after for name in "abc"] == [("input",), ("a",), ("a",)]


def test_a_replaced_processor_keeps_its_place_and_options():
    retry = Retry(attempts=7)
    pipeline = Pipeline().add("a", same)
    pipeline.add("b", same, when=starts("x"), tee=True, retry=retry, timeout=3.0, on_error="drop")
    loud = upper("line")
    pipeline.add("c", same, after="a").add("b", loud)

    node = pipeline["b"]
    assert repr(pipeline) == "<Pipeline pipeline: a, b, c>"
    assert (node.after, node.tee, node.retry, node.timeout) == (("a",), True, retry, 3.0)
    assert (node.on_error, node.processor) == ("drop", loud)
    assert node.when is not None


def test_a_replaced_processor_takes_new_options():
    pipeline = Pipeline().add("a", same).add("b", same, on_error="drop")
    pipeline.add("b", same, after="input", when=starts("x"))

    assert (pipeline["b"].after, pipeline["b"].on_error) == (("input",), "drop")


def test_a_decorator_adds_the_function_and_returns_it():
    pipeline = Pipeline()

    @pipeline.add("loud", on_error="drop")
    def loud(frame: pl.DataFrame) -> pl.DataFrame:
        return frame.with_columns(pl.col("line").str.to_uppercase())

    assert pipeline["loud"].processor is loud
    assert pipeline["loud"].on_error == "drop"
    assert loud(pl.DataFrame({"line": ["a"]})).item() == "A"


def test_a_plan_is_not_changed_by_what_is_added_later():
    pipeline = Pipeline().add("a", same)
    plan = pipeline.plan()
    pipeline.add("b", same)

    assert [node.name for node in plan.order] == ["a"]


def test_an_unknown_option_is_refused():
    with pytest.raises(TypeError, match="wen"):
        Pipeline().add("a", same, wen=1)  # type: ignore[call-arg]


def test_what_a_processor_follows_may_be_any_iterable():
    pipeline = Pipeline().add("a", same, when=starts("a")).add("b", same, after="input")
    pipeline.add("end", same, after=(name for name in ("a", "b")))

    assert pipeline.plan().order[-1].name == "end"
    assert counts(run(pipeline, "a", "b")) == (2, 0, 0)


# Checks


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda p: p, "pipeline 'p' has no processors; add one with .add()"),
        (
            lambda p: p.add("parse", same).add("b", same, after="prse"),
            "unknown processor 'prse' in after='prse'; did you mean 'parse'?",
        ),
        (
            lambda p: p.add("parse", same).add("b", same, after="qqqqqq"),
            "unknown processor 'qqqqqq' in after='qqqqqq'; there are: b, input, parse",
        ),
        (
            lambda p: p.add("a", same).add("b", same).add("c", same, after="a"),
            (
                "unreachable branch 'c' after 'a': 'b' comes first and has no 'when='; give 'c' a "
                "'when=' of its own, or tee=True"
            ),
        ),
        (
            lambda p: (
                p.add("a", same)
                .add("b", same, when=pl.col("x") == 1)
                .add("c", same, after="a", when=pl.col("x") == 1)
            ),
            (
                "unreachable branch 'c' after 'a': 'b' comes first and has the same when="
                f"{pl.col('x') == 1}; give 'c' a 'when=' of its own, or tee=True"
            ),
        ),
        (
            lambda p: p.add("out", Parquet()).add("b", same),
            (
                "'b' comes after 'out', but 'out' is a sink and lines end there; put 'b' after "
                "what comes before 'out'"
            ),
        ),
    ],
)
def test_a_pipeline_that_cannot_run_says_why(build: Any, message: str):
    with pytest.raises(PipelineError) as caught:
        build(Pipeline("p")).plan()
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("name", "processor", "options", "message"),
    [
        (
            "a",
            same,
            {"on_error": "dropp"},
            "on_error='dropp' is unknown; did you mean 'drop'?",
        ),
        (
            "a",
            42,
            {},
            "processor 'a' must be a function from frame to frame, got 42",
        ),
        ("input", same, {}, "a processor cannot be named 'input'; choose another name"),
        ("", same, {}, "a processor cannot be named ''; choose another name"),
    ],
)
def test_what_cannot_be_added_is_refused_at_once(name, processor, options, message):
    pipeline = Pipeline()

    with pytest.raises(PipelineError) as caught:
        pipeline.add(name, processor, **options)
    assert str(caught.value) == message
    assert repr(pipeline) == "<Pipeline pipeline: empty>"


def test_a_cycle_is_refused_and_drawn():
    pipeline = Pipeline("p").add("a", same).add("b", same).add("c", same)
    pipeline.add("a", same, after=("input", "c"))

    with pytest.raises(PipelineError) as caught:
        pipeline.plan()
    text = str(caught.value)
    start, ring = text.removesuffix("; change one 'after='").split(": ")
    assert start == "pipeline 'p' has a cycle"
    steps = ring.split(" → ")
    assert steps[0] == steps[-1]
    assert all(f"{one}→{two}" in "a→b→c→a→b" for one, two in pairwise(steps))


def test_a_processor_that_follows_nothing_is_refused():
    pipeline = Pipeline("p").add("a", same).add("lost", same, after=())

    with pytest.raises(PipelineError, match="'lost'"):
        pipeline.plan()


def test_an_unknown_processor_is_asked_for_in_vain():
    with pytest.raises(PipelineError, match=r"unknown processor 'prse'; did you mean 'parse'\?"):
        Pipeline().add("parse", same)["prse"]


# The way of the lines


def test_a_line_takes_the_first_branch_that_wants_it():
    first, second, rest = Collect(), Collect(), Collect()
    pipeline = Pipeline().add("start", same)
    pipeline.add("first", first, when=starts("a"))
    pipeline.add("rest", rest, after="start")
    pipeline.add("second", second, after="start", when=starts("ab"))

    assert counts(run(pipeline, "ab", "b", "a", "c")) == (4, 0, 0)
    assert (first["line"], second["line"], rest["line"]) == (["ab", "a"], [], ["b", "c"])


def test_the_else_branch_gets_what_no_other_wants_wherever_it_stands():
    some, rest = Collect(), Collect()
    pipeline = Pipeline().add("start", same).add("rest", rest)
    pipeline.add("some", some, after="start", when=starts("a"))

    run(pipeline, "b", "a", "c")
    assert (some["line"], rest["line"]) == (["a"], ["b", "c"])


def test_a_null_condition_is_taken_for_false():
    yes, rest = Collect(), Collect()
    pipeline = Pipeline().add(
        "level", lambda f: f.with_columns(n=pl.col("line").cast(int, strict=False))
    )
    pipeline.add("yes", yes, when=pl.col("n") > 1).add("rest", rest, after="level")

    run(pipeline, "1", "x", "2")
    assert (yes["line"], rest["line"]) == (["2"], ["1", "x"])


def test_rows_that_match_no_branch_are_filtered():
    pipeline = Pipeline().add("start", same).add("some", same, when=starts("a"))

    assert counts(run(pipeline, "a", "b", "c")) == (1, 2, 0)


def test_branches_from_the_input_work_like_any_other():
    one, two = Collect(), Collect()
    pipeline = Pipeline().add("one", one, when=starts("a")).add("two", two, after="input")

    run(pipeline, "b", "a")
    assert (one["line"], two["line"]) == (["a"], ["b"])


def test_a_tee_gets_a_copy_and_takes_nothing_away():
    copy, main = Collect(), Collect()
    pipeline = Pipeline().add("start", same).add("copy", copy, tee=True)
    pipeline.add("main", main, after="start")

    assert counts(run(pipeline, "a", "b")) == (2, 0, 0)
    assert copy["line"] == main["line"] == ["a", "b"]


def test_a_tee_with_a_condition_copies_some_rows():
    copy, main = Collect(), Collect()
    pipeline = Pipeline().add("start", same).add("copy", copy, tee=True, when=starts("a"))
    pipeline.add("main", main, after="start")

    assert counts(run(pipeline, "b", "a")) == (2, 0, 0)
    assert (copy["line"], main["line"]) == (["a"], ["b", "a"])


def test_a_tee_alone_leaves_the_lines_done():
    pipeline = Pipeline().add("start", same).add("copy", drop(starts("a")), tee=True)

    assert counts(run(pipeline, "a", "b")) == (2, 0, 0)


def test_a_tee_that_is_merged_again_doubles_rows_but_not_lines():
    end = Collect()
    pipeline = Pipeline().add("start", same).add("copy", upper("line"), tee=True)
    pipeline.add("main", same, after="start").add("end", end, after=("copy", "main"))

    assert counts(run(pipeline, "a", "b")) == (2, 0, 0)
    assert sorted(end["line"]) == ["A", "B", "a", "b"]


def test_merged_branches_come_back_in_the_lines_order():
    end = Collect()
    pipeline = Pipeline().add("start", same).add("a", upper("line"), when=starts("a"))
    pipeline.add("rest", same, after="start").add("end", end, after=("rest", "a"))

    run(pipeline, "b", "a", "c", "aa")
    assert end["line"] == ["b", "A", "c", "AA"]


def test_branches_with_different_columns_merge():
    end = Collect()
    pipeline = Pipeline().add("start", same)
    pipeline.add("a", lambda f: f.with_columns(n=pl.lit(1)), when=starts("a"))
    pipeline.add("b", lambda f: f.with_columns(n=pl.lit(2.5)), after="start")
    pipeline.add("end", end, after=("a", "b"))

    run(pipeline, "a", "b")
    assert end["n"] == [1.0, 2.5]


@st.composite
def dags(draw: st.DrawFn) -> list[tuple[str, tuple[str, ...], int | None, int]]:
    """Draw layers of processors: name, what each follows, branch by remainder, what it drops."""
    nodes: list[tuple[str, tuple[str, ...], int | None, int]] = []
    above: tuple[str, ...] = ("input",)
    for layer in range(draw(st.integers(1, 3))):
        width = draw(st.integers(1, 3))
        names = tuple(f"n{layer}{place}" for place in range(width))
        with_else = draw(st.booleans())
        for place, name in enumerate(names):
            branch = None if place == width - 1 and with_else else place
            nodes.append((name, above, branch, draw(st.integers(0, 6))))
        above = names
    return nodes


@given(dags(), st.lists(st.integers(0, 50), max_size=40))
def test_any_dag_keeps_the_order_and_loses_nothing(dag: Any, numbers: list[int]):
    pipeline, end = Pipeline(), Collect()
    for name, after, branch, dropped in dag:
        when = None if branch is None else pl.col("line").cast(int) % 3 == branch

        def step(frame: pl.DataFrame, dropped: int = dropped) -> pl.DataFrame:
            number = pl.col("line").cast(int)
            frame = frame.filter(number % 7 != dropped)
            return reject(frame, number % 11 == dropped, "eleven", "no")

        pipeline.add(name, step, after=after, when=when)
    last = max(name[1] for name, *_ in dag)
    pipeline.add("end", end, after=[name for name, *_ in dag if name[1] == last])

    result = run(pipeline, *map(str, numbers))
    rows = end["line_number"]
    assert rows == sorted(set(rows))
    assert result.done == len(rows)
    assert [str(numbers[row - 1]) for row in rows] == end["line"]
    assert not set(rows) & set(result.dead_letters["line_number"])


def test_rows_that_a_processor_drops_are_filtered():
    result = run(Pipeline().add("drop", drop(starts("a"))), "a", "b", "ab")

    assert counts(result) == (1, 2, 0)
    assert result.processor_stats["drop"].filtered == 2


def test_fan_out_is_counted_in_source_lines():
    end = Collect()
    pipeline = Pipeline().add("split", lambda f: pl.concat([f, f, f]).sort("_row")).add("end", end)

    result = run(pipeline, "a", "b")
    assert counts(result) == (2, 0, 0)
    assert end["line"] == ["a"] * 3 + ["b"] * 3
    assert (
        result.processor_stats["split"].received,
        result.processor_stats["split"].emitted,
    ) == (2, 6)


def test_a_line_of_which_one_child_dies_is_dead_once():
    pipeline = Pipeline().add("split", each(lambda row: [{**row, "n": n} for n in range(3)]))
    pipeline.add("check", lambda f: reject(f, (pl.col("n") > 0) & starts("a"), "bad", "no"))

    result = run(pipeline, "a", "b")
    assert counts(result) == (1, 0, 1)
    assert result.dead_letters["line"].to_list() == ["a"]


def test_a_line_of_which_some_children_are_filtered_is_done():
    pipeline = Pipeline().add("split", each(lambda row: [{**row, "n": n} for n in range(3)]))
    pipeline.add("few", drop(pl.col("n") > 0)).add("none", drop(starts("b")))

    assert counts(run(pipeline, "a", "b")) == (1, 1, 0)


def test_a_line_function_may_change_filter_and_multiply_lines():
    def function(row: dict[str, Any]) -> Any:
        match row["line"]:
            case "drop":
                return None
            case "many":
                return [{**row, "part": 1}, {**row, "part": 2}]
            case "bad":
                raise ValueError("this one")
        return {**row, "part": 0, "length": len(row["line"])}

    end = Collect()
    result = run(Pipeline().add("each", each(function)).add("end", end), "a", "drop", "many", "bad")
    assert counts(result) == (2, 1, 1)
    assert end["part"] == [0, 1, 2]
    assert end["length"] == [1, None, None]
    assert end["line_number"] == [1, 3, 3]


def test_a_line_function_may_drop_columns_and_the_line_is_still_known():
    pipeline = Pipeline().add("each", each(lambda _row: {"n": 1}))
    pipeline.add("fail", lambda f: reject(f, pl.col("n") == 1, "all", "no"))

    assert run(pipeline, "a", "b").dead_letters["line"].to_list() == ["a", "b"]


def test_a_line_function_that_returns_an_empty_dict_passes_the_line_on():
    assert counts(run(Pipeline().add("each", each(lambda _row: {})), "a", "b")) == (2, 0, 0)


def test_a_line_function_that_returns_no_dict_fails_its_line():
    result = run(Pipeline().add("each", each(lambda _row: 5)), "a", "b")

    assert counts(result) == (0, 0, 2)
    assert result.failures[0].error == "TypeError"


def test_a_line_function_that_filters_every_line_leaves_none():
    assert counts(run(Pipeline().add("each", each(lambda _row: None)), "a", "b")) == (0, 2, 0)


def test_a_processor_with_a_second_parameter_is_given_the_batch():
    seen: list[Batch] = []

    def watch(frame: pl.DataFrame, batch: Batch) -> pl.DataFrame:
        seen.append(batch)
        return frame

    run(Pipeline().add("watch", watch), "a")
    assert [batch.source for batch in seen] == ["a.log"]


def test_a_second_parameter_with_a_default_is_left_alone():
    seen = []

    def watch(frame: pl.DataFrame, setting: int = 3) -> pl.DataFrame:
        seen.append(setting)
        return frame

    run(Pipeline().add("watch", watch), "a")
    assert seen == [3]


def test_a_lazy_frame_is_collected():
    assert counts(
        run(Pipeline().add("lazy", lambda f: f.lazy().filter(starts("a"))), "a", "b")
    ) == (1, 1, 0)


def test_a_condition_that_cannot_be_evaluated_makes_dead_letters():
    pipeline = Pipeline().add("start", same).add("odd", same, when=pl.col("nope") == 1)
    pipeline.add("rest", same, after="start")

    result = run(pipeline, "a", "b")
    assert counts(result) == (0, 0, 2)
    (failure,) = result.failures
    assert (failure.processor, failure.code, failure.error) == (
        "odd",
        "when",
        "ColumnNotFoundError",
    )
    assert result.dead_letters["message"][0].startswith("when= of 'odd' cannot be evaluated: ")


def test_lines_that_took_an_earlier_branch_are_spared_a_broken_condition():
    pipeline = Pipeline().add("start", same).add("good", same, when=starts("a"))
    pipeline.add("odd", same, after="start", when=pl.col("nope") == 1)

    assert counts(run(pipeline, "a", "b")) == (1, 0, 1)


def test_a_broken_condition_follows_the_branch_s_policy():
    pipeline = Pipeline().add("odd", same, when=pl.col("nope") == 1, on_error="drop")

    assert counts(run(pipeline, "a", "b")) == (0, 2, 0)


def test_a_condition_that_breaks_for_one_parent_only_counts_all_its_dead():
    pipeline = Pipeline().add("start", same)
    pipeline.add("left", lambda f: f.with_columns(n=pl.lit(1)), when=starts("a"))
    pipeline.add("right", same, after="start")
    pipeline.add("end", same, after=("left", "right"), when=pl.col("n") == 1)

    result = run(pipeline, "a", "b", "ab", "c", "d")
    assert counts(result) == (2, 0, 3)
    assert (result.processor_stats["end"].received, result.processor_stats["end"].dead) == (5, 3)


@pytest.mark.parametrize(
    "bad", [lambda _frame: None, lambda _frame: 5, lambda frame: frame.group_by("source").len()]
)
def test_a_processor_that_returns_no_rows_of_its_frame_does_not_pass(bad: Any):
    result = run(Pipeline().add("bad", bad), *["a"] * 40)

    assert counts(result) == (0, 0, 40)
    assert result.failures[0].error == "PipelineError"


def test_a_processor_may_leave_out_the_pipeline_s_own_columns():
    end = Collect()
    pipeline = (
        Pipeline().add("pick", lambda f: f.select(pl.col("line").alias("text"))).add("end", end)
    )

    assert counts(run(pipeline, "a", "b")) == (2, 0, 0)
    assert end["text"] == ["a", "b"]


# Expressions


def test_expressions_set_columns_and_can_be_replaced():
    pipeline = Pipeline().add("a", expr=pl.col("line").str.head(1))
    pipeline.add("b", expr=[pl.col("line").str.to_uppercase(), pl.lit(7).alias("x")], after="a")
    (row,) = pipeline.explain("abc").hops[-1].after
    assert (row["line"], row["x"]) == ("A", 7)
    pipeline.add("a", expr=pl.col("line").str.tail(1))
    (row,) = pipeline.explain("abc").hops[-1].after
    assert row["line"] == "C"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"expr": "line"}, "expr of 'a' must be Polars expressions, got 'l'"),
        ({"expr": [1]}, "expr of 'a' must be Polars expressions, got 1"),
        ({"expr": pl.all()}, "expr of 'a' sets several columns"),
        ({"expr": [pl.lit(1).alias("x"), pl.lit(2).alias("x")]}, "sets column 'x' twice"),
        ({"expr": pl.col("line"), "processor": None}, "'a' has a processor and expr="),
    ],
)
def test_expressions_that_cannot_be_used_are_refused(given: dict[str, Any], said: str):
    with pytest.raises(PipelineError, match=re.escape(said)):
        Pipeline().add("a", **given)


# Version


def version_of(**options: Any) -> str:
    return Pipeline().add("a", same).add("b", **{"processor": same, **options}).version


@pytest.mark.parametrize(
    "options",
    [
        {"processor": upper("line")},
        {"when": pl.col("line") == "a"},
        {"tee": True},
        {"after": "input"},
        {"retry": Retry(attempts=2)},
        {"timeout": 1.0},
        {"on_error": "drop"},
    ],
)
def test_the_version_changes_with_every_processor_and_option(options: dict[str, Any]):
    assert version_of(**options) != version_of()
    assert version_of(**options) == version_of(**options)


@pytest.mark.parametrize(
    ("one", "two"),
    [
        (upper("line"), upper("source")),
        (drop(pl.col("line") == "a"), drop(pl.col("line") == "b")),
        (Columns({"x": pl.lit(1)}), Columns({"x": pl.lit(2)})),
        (Columns({"x": pl.lit(1)}), Columns({"y": pl.lit(1)})),
        (Count("a"), Count("b")),
        (Parquet("x"), Parquet("y")),
        (each(same), each(run)),
        (functools.partial(same), functools.partial(reject)),
        (functools.partial(reject, code="a"), functools.partial(reject, code="b")),
    ],
)
def test_the_version_changes_with_a_processor_s_settings(one: Any, two: Any):
    assert version_of(processor=one) != version_of(processor=two)


def test_the_version_is_that_of_the_code_wherever_it_is_in_memory():
    def made() -> Any:
        return lambda frame: frame

    one, two = (functools.partial(functools.reduce, made(), initial=made()) for _ in "ab")

    assert version_of(processor=one) == version_of(processor=two)


def test_the_version_changes_with_every_value_of_a_long_condition():
    many = [str(number) for number in range(100)]
    other = [*many[:50], "other", *many[51:]]

    assert version_of(when=pl.col("line").is_in(many)) != version_of(
        when=pl.col("line").is_in(other)
    )


def test_the_version_changes_with_code_that_has_no_source_text():
    spaces: list[dict[str, Any]] = [{"pl": pl}, {"pl": pl}]
    for space, method in zip(spaces, ("to_uppercase", "to_lowercase"), strict=True):
        exec(f"def f(frame): return frame.with_columns(pl.col('line').str.{method}())", space)  # noqa: S102

    assert version_of(processor=spaces[0]["f"]) != version_of(processor=spaces[1]["f"])


def test_the_version_does_not_change_with_what_was_counted():
    count = Count("line")
    pipeline = Pipeline().add("count", count)
    before = pipeline.version
    count(pl.DataFrame({"line": ["a"]}))

    assert pipeline.version == before
    assert len(before) == 12


# Drawing


def test_mermaid_shows_processors_conditions_copies_and_sinks():
    pipeline = Pipeline().add("start", same).add("warn", same, when=pl.col("level") == "warn")
    pipeline.add("copy", Stdout(), after="start", tee=True).add("out", Parquet(), after="warn")

    text = pipeline.to_mermaid().splitlines()
    assert text[:2] == ["flowchart LR", "    n0([input])"]
    assert '    n1["start"]' in text
    assert '    n4[("out")]' in text
    assert "    n0 --> n1" in text
    assert "    n1 -.-> n3" in text
    assert any(line.startswith("    n1 -->|") and "level" in line for line in text)


@pytest.mark.parametrize("draw", [Pipeline.to_mermaid, Pipeline._repr_html_])
def test_names_and_conditions_are_escaped_in_drawings(draw: Any):
    pipeline = Pipeline(NASTY).add(NASTY, same).add("b", same, when=pl.col(NASTY) == NASTY)

    text = draw(pipeline)
    assert "<img" not in text
    assert html.escape(NASTY) in text


def test_the_html_table_has_a_row_for_each_processor():
    pipeline = Pipeline("p").add("a", same).add("b", each(same), after="a", tee=True)

    text = pipeline._repr_html_()
    assert text.count("<tr>") == 3
    assert f"p · version {pipeline.version}" in text
    assert "(copy)" in text
    assert "each same" in text


# Explain


def test_explain_shows_a_line_before_and_after_every_hop():
    pipeline = (
        Pipeline()
        .add("name", lambda f: f.with_columns(name=pl.col("line")))
        .add("loud", upper("name"))
    )

    told = pipeline.explain("ab")
    assert (told.line, told.state) == ("ab", "done")
    assert [hop.processor for hop in told.hops] == ["name", "loud"]
    assert told.hops[1].before[0]["name"] == "ab"
    assert told.hops[1].after[0]["name"] == "AB"
    assert str(told) == "'ab' → done\n  name\n    name: None → 'ab'\n  loud\n    name: 'ab' → 'AB'"


def test_explain_shows_only_the_branch_that_the_line_takes():
    pipeline = Pipeline().add("start", same).add("a", same, when=starts("a"))
    pipeline.add("rest", drop(starts("c")), after="start")

    assert [hop.processor for hop in pipeline.explain("ab").hops] == ["start", "a"]
    assert pipeline.explain("c").state == "filtered"


def test_explain_shows_why_a_line_dies():
    pipeline = Pipeline().add("check", each(lambda _row: 1 / 0))

    told = pipeline.explain("a")
    assert told.state == "dead"
    assert "    error: ZeroDivisionError: division by zero" in str(told)
    assert "ZeroDivisionError" in told._repr_html_()


def test_explain_shows_no_control_characters_of_an_error():
    def bad(_frame: pl.DataFrame) -> pl.DataFrame:
        raise ValueError("\x1b[2J")

    assert "\\x1b[2J" in str(Pipeline().add("bad", bad).explain("a"))


def test_explain_escapes_the_line_and_the_names_in_html():
    text = Pipeline().add(NASTY, upper("line")).explain(NASTY)._repr_html_()

    assert "<img" not in text.lower()
    assert html.escape(NASTY) in text


def test_explain_counts_nothing_waits_for_nothing_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    count = Count("line")
    pipeline = Pipeline().add("count", count)
    pipeline.add("fail", each(lambda _row: 1 / 0), tee=True, retry=Retry(attempts=3, wait=1000.0))
    pipeline.add("out", Parquet(), after="count", tee=True)
    pipeline.add("print", Stdout(), after="count")

    pipeline.explain("a")
    assert count.state() == {}
    assert list(tmp_path.iterdir()) == []
    assert capsys.readouterr().out == ""


def test_a_dry_run_counts_nothing_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    count = Count("line")
    pipeline = Pipeline().add("count", count).add("out", Parquet(), tee=True)
    pipeline.add("print", Stdout(), after="count")

    assert counts(run(pipeline, "a", "b")) == (2, 0, 0)
    assert count.state() == {}
    assert list(tmp_path.iterdir()) == []
    assert capsys.readouterr().out == ""


def test_explain_shows_a_line_that_is_not_utf8():
    assert Pipeline().add("a", same).explain(b"a\xff").line == "a\\xff"


# Loading


def test_a_pipeline_is_loaded_from_a_module_or_a_file(tmp_path: Path):
    path = tmp_path / "mine_loaded.py"
    path.write_text(
        "from etl import Pipeline\n"
        "pipe = Pipeline('mine').add('a', None)\n"
        "def make():\n    return Pipeline('made').add('a', None)\n"
    )

    assert load_pipeline("etl.demo:levels").name == "levels"
    assert load_pipeline(f"{path}:pipe").name == "mine"
    assert load_pipeline(f"{path}:make").name == "made"


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("levels", "pipeline 'levels' is not 'module:attr'; for example etl.demo:levels"),
        ("etl.demo:", "pipeline 'etl.demo:' is not 'module:attr'; for example etl.demo:levels"),
        ("etl.demo:levls", "module 'etl.demo' has no 'levls'; did you mean 'levels'?"),
        (
            "no_such_module:x",
            (
                "pipeline 'no_such_module:x' cannot be imported: there is no module "
                "'no_such_module'; run from its folder, "
                "or name a file"
            ),
        ),
        ("no_such.py:x", "there is no file 'no_such.py' to load a pipeline from"),
        (
            "etl:__version__",
            "'etl:__version__' is a str, not a Pipeline; name a Pipeline or a function",
        ),
    ],
)
def test_a_pipeline_that_cannot_be_loaded_says_why(target: str, message: str):
    with pytest.raises(UsageError) as caught:
        load_pipeline(target)
    assert str(caught.value) == message


def test_a_loaded_pipeline_is_checked(tmp_path: Path):
    path = tmp_path / "mine_empty.py"
    path.write_text("from etl import Pipeline\npipe = Pipeline('mine')\n")

    with pytest.raises(PipelineError, match="'mine' has no processors"):
        load_pipeline(f"{path}:pipe")


@pytest.mark.parametrize("text", ["pipe = (", "raise RuntimeError('broken')", "import no_such_one"])
def test_a_file_that_cannot_be_imported_is_a_user_s_mistake(tmp_path: Path, text: str):
    path = tmp_path / "mine_broken.py"
    path.write_text(text)

    with pytest.raises(UsageError, match="mine_broken"):
        load_pipeline(f"{path}:pipe")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"when": "x"}, "when of 'a' must be a Polars expression, got 'x'"),
        ({"timeout": -1}, "timeout of 'a' must be seconds > 0, got -1"),
        ({"timeout": "5"}, "timeout of 'a' must be seconds > 0, got '5'"),
        ({"retry": 3}, "retry of 'a' must be a Retry, got 3"),
    ],
)
def test_options_of_the_wrong_kind_are_refused(options: dict[str, Any], said: str):
    with pytest.raises(PipelineError, match=said):
        Pipeline().add("a", same, **options)


def test_an_async_processor_is_refused():
    async def later(_frame: pl.DataFrame) -> pl.DataFrame:
        raise AssertionError("nobody calls it")

    for processor in (later, each(later)):
        with pytest.raises(PipelineError, match="processor 'a' is async"):
            Pipeline().add("a", processor)


def test_a_retry_tries_at_least_once():
    with pytest.raises(PipelineError, match="retry attempts must be >= 1, got 0"):
        Retry(attempts=0)


@pytest.mark.parametrize("made", ["text", ["text"], [{"line": "x"}, 5]])
def test_what_a_line_function_makes_must_be_dicts(made: Any):
    result = Pipeline().add("a", each(lambda _row: made)).dry_run(Batch.from_lines(["x"]))

    assert (result.done, result.dead) == (0, 1)
    assert "return a dict, or dicts" in result.dead_letters["message"][0]


def test_only_a_dry_run_runs_a_batch_without_writing_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pipeline = Pipeline().add("out", JsonLines())
    assert pipeline.dry_run(Batch.from_lines(["a"])).done == 1
    assert list(tmp_path.iterdir()) == []
    assert not hasattr(pipeline, "run"), "a name that promises an effect it does not have"


class Own(Parquet):
    """A sink of a user's."""


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, True),
        ({"when": LINE == "python"}, False),  # it might be a function: to be wrong costs little
        ({"when": LINE.is_in(["a"])}, True),
        ({"when": LINE.map_elements(bool, return_dtype=pl.Boolean)}, False),
        ({"processor": same}, False),
        ({"processor": only_polars(lambda frame: frame)}, True),
        ({"processor": only_polars(functools.partial(same))}, True),
        ({"processor": None}, True),
        ({"processor": each(dict)}, False),
        ({"processor": upper("line")}, True),
        ({"processor": Columns({"x": LINE.map_elements(len, return_dtype=pl.Int64)})}, False),
        ({"processor": drop(LINE.str.len_bytes() == 0)}, True),
        ({"processor": drop(LINE.map_elements(bool, return_dtype=pl.Boolean))}, False),
        ({"processor": JsonLines()}, True),
        ({"processor": Stdout()}, False),
        ({"processor": Own()}, False),
        ({"timeout": 1.0}, False),
    ],
)
def test_a_pipeline_knows_whether_all_its_work_is_that_of_polars(changes, expected):
    pipeline = Pipeline().add("upper", upper("line")).add("end", Parquet())
    assert pipeline.plan().only_polars
    pipeline.add("end", **({"processor": Parquet()} | changes))
    assert pipeline.plan().only_polars == expected
