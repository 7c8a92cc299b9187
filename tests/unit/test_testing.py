"""Checks of a user's own pipeline: what they accept, and what they say when they do not."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from etl import Batch, Count, JsonLines, Parquet, Parse, Pipeline, Queue, Stdout, each, reject
from etl.errors import PipelineError, UsageError
from etl.processors.builtin import drop
from etl.testing.assertions import assert_dead, assert_golden, assert_line, drain, run_from

LINE = pl.col("line")


def cents(frame: pl.DataFrame) -> pl.DataFrame:
    text = LINE.str.extract(r"total=([-\d.]+)")
    frame = frame.with_columns(cents=(text.cast(pl.Float64) * 100).cast(pl.Int64))
    return reject(frame, pl.col("cents") < 0, "negative", "a total below zero")


def shop() -> Pipeline:
    return (
        Pipeline("shop")
        .add("blank", drop(LINE == ""))
        .add("cents", cents)
        .add("loud", None, when=LINE.str.starts_with("ERROR"))
        .add("quiet", None, after="cents")
        .add("out", Parquet(), after=("loud", "quiet"))
    )


def words() -> Pipeline:
    def split(row):
        return [row | {"word": word} for word in row["line"].split()]

    return Pipeline("words").add("split", each(split)).add("count", Count("word"))


def failure(check, *arguments, **options) -> str:
    with pytest.raises(AssertionError) as caught:
        check(*arguments, **options)
    return str(caught.value)


# One line


def test_a_line_as_expected_passes():
    assert_line(shop(), "ERROR total=12.50", cents=1250, path=["blank", "cents", "loud", "out"])


@pytest.mark.parametrize(
    "path",
    [
        [..., "loud", "out"],
        ["blank", ...],
        ["blank", "...", "out"],
        [..., "cents", ..., "out"],
        [..., "blank", ..., "cents", "loud", "out", ...],
        [...],
    ],
)
def test_dots_stand_for_any_number_of_processors(path):
    assert_line(shop(), "ERROR total=1", path=path)


@pytest.mark.parametrize(
    "path", [["blank"], [..., "quiet", ...], ["cents", ...], [..., "cents"], []]
)
def test_another_path_is_a_failure(path):
    assert "path: expected" in failure(assert_line, shop(), "ERROR total=1", path=path)


def test_a_failure_shows_the_line_what_differs_and_every_hop():
    text = failure(assert_line, shop(), "ERROR total=1", cents=7, path=["blank", ..., "quiet"])

    assert text == (
        "the line is not as expected:\n"
        "  cents: expected 7, found 100\n"
        "  path: expected blank → ... → quiet, found blank → cents → loud → out\n"
        "'ERROR total=1' → done\n"
        "  blank\n"
        "  cents\n"
        "    cents: None → 100\n"
        "  loud\n"
        "  out"
    )


def test_a_line_that_fails_says_where_and_why():
    text = failure(assert_line, shop(), "total=-1", cents=-100)

    assert "state: expected 'done', found 'dead' in 'cents': negative: a total below zero" in text
    assert "error: negative: a total below zero" in text


def test_a_field_that_is_not_there_has_a_suggestion():
    text = failure(assert_line, shop(), "total=1", cnets=100)

    assert "cnets: there is no such field; did you mean 'cents'?" in text


@pytest.mark.parametrize("check", [assert_line, assert_dead])
def test_a_processor_that_is_not_there_is_a_mistake_in_the_test(check):
    with pytest.raises(PipelineError, match="unknown processor 'cetns'; did you mean 'cents'"):
        check(shop(), "total=1", path=[..., "cetns", ...])


def test_fields_may_have_the_names_of_options():
    pipeline = Pipeline().add("a", lambda frame: frame.with_columns(path=pl.lit("/x"), rows=3))

    assert_line(pipeline, "x", fields={"path": "/x", "rows": 3}, path=["a"], rows=1)


def test_a_filtered_line_is_expected_by_state_and_path():
    assert_line(shop(), "", state="filtered", path=["blank"])
    assert "state: expected 'filtered', found 'done'" in failure(
        assert_line, shop(), "total=1", state="filtered"
    )


@pytest.mark.parametrize(("state", "hint"), [("dead", "use assert_dead"), ("doen", "'done'")])
def test_other_states_are_refused(state, hint):
    with pytest.raises(UsageError, match=hint):
        assert_line(shop(), "x", state=state)


def test_of_several_rows_one_must_have_all_the_fields():
    assert_line(words(), "to be or", word="be", rows=3)
    assert "word: expected 'not', found 'to'" in failure(assert_line, words(), "to be", word="not")
    assert "rows: expected 1, found 2" in failure(assert_line, words(), "to be", rows=1)
    assert "split: 2 rows" in failure(assert_line, words(), "to be", rows=1)


def test_fields_and_path_must_be_of_the_same_row():
    pipeline = (
        Pipeline()
        .add("start", None)
        .add("copy", lambda frame: frame.with_columns(which=pl.lit("copy")), tee=True)
        .add("rest", lambda frame: frame.with_columns(which=pl.lit("rest")), after="start")
    )
    assert_line(pipeline, "x", which="copy", path=["start", "copy"], rows=2)
    assert_line(pipeline, "x", which="rest", path=["start", "rest"])
    text = failure(assert_line, pipeline, "x", which="copy", path=["start", "rest"])
    assert len(text.split("'x' → done")[0].splitlines()) == 2, "the closest row is shown"


def test_not_a_number_is_what_it_is():
    pipeline = Pipeline().add("a", lambda frame: frame.with_columns(x=pl.lit(float("nan"))))

    assert_line(pipeline, "x", x=float("nan"))


def test_nothing_is_written_printed_or_counted(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    count = Count("line")
    pipeline = (
        Pipeline().add("count", count).add("file", JsonLines(), tee=True)
    ).add("show", Stdout(), after="count")  # fmt: skip
    assert_line(pipeline, "x")
    (tmp_path / "x.log").write_text("x\n")
    assert_golden(pipeline, "x.log", "x.jsonl", update=True)
    run_from(pipeline, [{"line": "x"}], at="count")

    assert count.state() == {}
    assert capsys.readouterr().out == ""
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.jsonl", "x.log"]


# Dead lines


def test_an_expected_failure_passes():
    assert_dead(shop(), "total=-1", processor="cents", code="negative", message="below zero")
    assert_dead(shop(), "total=1.2.3", error="InvalidOperationError", path=["blank", "cents"])


def test_another_failure_is_reported():
    text = failure(assert_dead, shop(), "total=-1", processor="loud", code="minus", message="up")

    assert "processor: expected 'loud', found 'cents'" in text
    assert "code: expected 'minus', found 'negative'" in text
    assert "message: expected 'up' in it, found 'a total below zero'" in text


def test_a_line_that_does_not_fail_is_reported():
    assert "state: expected 'dead', found 'done'" in failure(assert_dead, shop(), "total=1")


def test_bytes_and_a_format_go_in_as_they_are():
    pipeline = Pipeline().add("parse", Parse())

    assert_line(pipeline, b"level=info msg=\xff", format="logfmt", msg="\\xff")
    assert_dead(pipeline, "{}", format="nginx_access", message="the format 'nginx_access'")


# Some rows at one processor


def test_one_processor_runs_alone():
    found = run_from(shop(), [{"line": "total=2"}, {"line": "total=3"}], at="cents", until="cents")

    assert found.to_dict(as_series=False) == {"line": ["total=2", "total=3"], "cents": [200, 300]}


def test_rows_are_taken_in_after_the_start_and_come_out_in_order():
    pipeline = shop().add("cents", None)
    rows = [{"line": text, "x": x} for x, text in enumerate(["a", "ERROR b", "c"])]
    found = run_from(pipeline, rows, at="cents")

    assert found.columns == ["line", "x"]
    assert found["x"].to_list() == [0, 1, 2]
    assert run_from(pipeline, rows, at="cents", until="loud")["x"].to_list() == [1]
    assert run_from(pipeline, rows, at="loud", until="quiet").is_empty()


def test_nothing_runs_after_the_processor_whose_rows_are_wanted():
    pipeline = shop().add("quiet", None, when=pl.col("only_there") == 1)

    assert run_from(pipeline, [{"line": "total=1"}], at="cents", until="cents")["cents"][0] == 100
    assert "only_there" in failure(run_from, pipeline, [{"line": "total=1"}], at="cents")


def test_lines_that_are_not_given_are_filled_in_and_taken_out_again():
    pipeline = Pipeline().add("a", lambda frame: frame.with_columns(y=pl.col("line_number") * 10))

    assert run_from(pipeline, [{"x": 1}, {"x": 2}], at="a").to_dicts() == [
        {"x": 1, "y": 10},
        {"x": 2, "y": 20},
    ]
    given = {"x": 1, "line_number": 7, "source": "s"}
    assert run_from(pipeline, [given], at="a").to_dicts() == [given | {"y": 70}]


def test_rows_that_fail_are_reported():
    rows = [{"line": "total=-1"}, {"line": "total=1"}, {"line": "total=-2"}]
    text = failure(run_from, shop(), rows, at="cents", until="cents")

    assert text == "2 of 3 rows failed: 2 in 'cents' (negative: a total below zero)"


def test_names_and_sources_are_checked():
    with pytest.raises(PipelineError, match="did you mean 'cents'"):
        run_from(shop(), [], at="cent")
    with pytest.raises(PipelineError, match="did you mean 'out'"):
        run_from(shop(), [], at="cents", until="outt")
    with pytest.raises(UsageError, match="2 sources"):
        run_from(shop(), [{"source": "a"}, {"source": "b"}], at="cents")
    assert run_from(shop(), [], at="cents").is_empty()


# Golden files


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "shop.log"
    path.write_text("".join(f"INFO total={n}\n" for n in range(1, 31)) + "ERROR total=5\n\n")
    return path


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_a_golden_file_is_written_and_then_held(log: Path, tmp_path: Path, ending: str):
    golden = tmp_path / "golden" / f"shop.{ending}"
    with pytest.raises(UsageError, match="update=True or pytest --etl-update-golden"):
        assert_golden(shop(), log, golden)
    assert_golden(shop(), log, golden, update=True)
    assert_golden(shop(), log, golden)

    text = failure(assert_golden, shop().add("loud", drop(LINE != "")), log, golden)
    assert text == f"the output differs from {str(golden)!r}:\n  line 31: is missing"


def test_a_golden_file_holds_no_folder_and_the_path(log: Path, tmp_path: Path):
    assert_golden(shop(), log, tmp_path / "g.jsonl", update=True)
    first = json.loads((tmp_path / "g.jsonl").read_text().splitlines()[0])

    assert first["source"] == "shop.log"
    assert first["path"] == "blank → cents → quiet → out"


def test_a_difference_is_shown_by_line_and_field_and_cut_short(log: Path, tmp_path: Path):
    golden = tmp_path / "g.jsonl"
    assert_golden(shop(), log, golden, update=True)
    changed = shop().add("cents", lambda frame: frame.with_columns(cents=0))
    text = failure(assert_golden, changed, log, golden).splitlines()

    assert text[1:3] == ["  line 1: cents: 100 → 0", "  line 2: cents: 200 → 0"]
    assert text[-1] == "  … and 21 more"
    assert len(text) == 12


def test_lines_that_fail_now_are_shown_beside_the_difference(log: Path, tmp_path: Path):
    golden = tmp_path / "g.parquet"
    assert_golden(shop(), log, golden, update=True)
    log.write_text(log.read_text().replace("ERROR total=5", "ERROR total=-5"))
    text = failure(assert_golden, shop(), log, golden)

    assert "line 31: is missing" in text
    assert text.endswith("dead lines: 1 in 'cents' (negative: a total below zero)")


def test_new_rows_fields_and_copies_are_shown(log: Path, tmp_path: Path):
    golden = tmp_path / "g.jsonl"
    log.write_text("a\n")
    assert_golden(words(), log, golden, update=True)
    log.write_text("a b\n")
    assert failure(assert_golden, words(), log, golden).splitlines()[1:] == [
        "  line 1: line: 'a' → 'a b'",
        "  line 1, row 2: is new",
    ]
    log.write_text("a\n")
    more = words().add("count", lambda frame: frame.with_columns(more=1))
    assert "line 1: more: (no such field) → 1" in failure(assert_golden, more, log, golden)


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_any_text_is_held_as_it_is(tmp_path: Path, ending: str):
    log, golden = tmp_path / "x.log", tmp_path / f"g.{ending}"
    log.write_bytes('u\u2028v\u0085w\x00 <b> "q"\n'.encode() + b"odd \xff\n" + b"tab\t\r\n\n")
    pipeline = Pipeline().add("all", None)
    assert_golden(pipeline, log, golden, update=True)
    assert_golden(pipeline, log, golden)


def test_files_that_cannot_be_compared_are_refused(log: Path, tmp_path: Path):
    with pytest.raises(UsageError, match=r"use .jsonl or .parquet"):
        assert_golden(shop(), log, tmp_path / "g.csv", update=True)
    with pytest.raises(UsageError, match="there is no file"):
        assert_golden(shop(), tmp_path / "nope.log", tmp_path / "g.jsonl", update=True)


# A whole queue


def test_drain_processes_all_and_returns_the_totals(queue: Queue, tmp_path: Path):
    queue.put(Batch.from_lines(["total=1", "", "total=-1"]))
    stats = drain(queue, shop(), tmp_path)

    assert (stats.done, stats.filtered, stats.dead) == (1, 1, 1)
    assert len(list(tmp_path.glob("*.parquet"))) == 1


def test_drain_leaves_no_files_unless_given_a_folder(queue: Queue, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    queue.put(Batch.from_lines(["total=1"]))
    before = sorted(tmp_path.rglob("*"))

    assert drain(queue, shop()).done == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_drain_says_why_lines_still_wait(queue: Queue):
    queue.put(Batch.from_lines(["total=1"]))
    queue.pause()

    assert failure(drain, queue, shop()) == "1 lines are not processed: the queue is paused"
