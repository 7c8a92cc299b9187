"""What a batch notebook is made of: processing once, profile, gates, tables, parameters."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import nbformat
import pandas as pd
import polars as pl
import pytest

from etl import Batch, Parse, Pipeline, Worker, open_queue, reject
from etl.errors import GateFailed, UsageError
from etl.notebook.batch.batch import (
    failures,
    latency,
    levels,
    locate,
    paths,
    process,
    sources,
    store_in,
)
from etl.notebook.batch.gates import evaluate_gates, raise_for_gates
from etl.notebook.batch.parameters import DEFAULTS, check_limits, checked, parse
from etl.notebook.batch.profile import levels_over_time, output, profile
from etl.notebook.batch.report import write_summary
from etl.notebook.batch.tables import ReportTable
from etl.notebook.shipped import find_notebook
from etl.runs.result import RunResult

FORMATS = [{"format": "json", "records": 3}, {"format": "generic", "records": 1}]

START = datetime(2026, 1, 1, tzinfo=UTC)


def refuse(frame):
    return reject(frame, pl.col("line").str.contains("poison"), "poison", "the line is poison")


@pytest.fixture
def done(tmp_path):
    """Give a batch of eight good lines and two dead ones."""
    queue = open_queue(str(tmp_path / "store.db"))
    lines = [f"line {n}" for n in range(8)] + ["poison 1", "poison 2 <b>2</b>"]
    queue.put(Batch.from_lines(lines, source="test"))
    Worker(queue, Pipeline("p").add("refuse", refuse), out=tmp_path).drain()
    yield RunResult.of(queue, "r", tmp_path, seconds=1.0), queue
    queue.close()


def written(folder, *frames):
    for number, frame in enumerate(frames):
        pl.DataFrame(frame).write_parquet(folder / f"{number}.parquet")
    return output(folder)


def test_a_password_stays_in_the_environment(monkeypatch):
    monkeypatch.setenv("ETL_STORE", "postgresql://me:secret@host:4222/q")
    stores = [f"postgresql://host:4222/{name}" for name in ("q", "other")]
    found = [locate("r", "", store)[2] for store in stores]
    assert found == ["postgresql://me:secret@host:4222/q", "postgresql://host:4222/other"]
    assert locate("r", "here", "")[1:] == (Path("here"), store_in(Path("here")))


def test_a_profile_has_a_row_per_column_over_all_files(tmp_path):
    rows = written(tmp_path, {"a": [1, 2, 2], "b": ["x", None, "y\n"]}, {"a": [7], "c": [[1]]})
    found = profile(rows).set_index("column")
    assert found.loc["a", ["nulls", "distinct", "least", "greatest"]].tolist() == [0, 3, "1", "7"]
    assert found.loc["b", ["nulls", "distinct", "least"]].tolist() == [2, 2, "x"]
    assert found.loc["b", "greatest"] == "y\\n"
    assert found.loc["b", "filled"] == 0.5
    assert pd.isna(found.loc["c", "distinct"])


def test_a_profile_of_nothing_has_the_same_columns_and_dtypes(tmp_path):
    empty, full = profile(output(tmp_path)), profile(written(tmp_path, {"a": [1]}))
    assert empty.empty
    assert empty.dtypes.to_dict() == full.dtypes.to_dict()


def test_levels_are_counted_over_at_most_so_many_bars(tmp_path):
    times = [START + timedelta(minutes=n) for n in range(600)] + [None]
    levels = ["INFO", "ERROR"] * 300 + ["INFO"]
    found = levels_over_time(written(tmp_path, {"timestamp": times, "level": levels}), most=30)
    assert found["lines"].sum() == 600
    assert found["at"].nunique() <= 31
    assert found["at"].min() == pd.Timestamp(START)
    assert set(found["level"]) == {"INFO", "ERROR"}


def test_levels_over_years_have_bars_of_whole_days(tmp_path):
    times = [START + timedelta(days=n) for n in range(3000)]
    found = levels_over_time(written(tmp_path, {"timestamp": times, "level": [None] * 3000}))
    assert found["at"].nunique() <= 61
    assert set(found["level"]) == {"no level"}


@pytest.mark.parametrize("rows", [{"a": [1]}, {"timestamp": [None], "level": ["INFO"]}])
def test_output_without_times_has_no_levels_over_time(tmp_path, rows):
    text = {"timestamp": ["2026-01-01 soon"], "level": ["INFO"]}
    assert levels_over_time(written(tmp_path, text)).empty
    frame = written(
        tmp_path,
        pl.DataFrame(
            rows, schema_overrides={"timestamp": pl.Datetime} if "timestamp" in rows else None
        ),
    )
    assert levels_over_time(frame).empty


@pytest.mark.parametrize(
    ("limits", "failed"),
    [
        ({}, []),
        ({"max_dead_ratio": 0.2, "max_dead": 2, "min_lines": 10}, []),
        ({"max_dead_ratio": 0.19}, ["dead lines, share"]),
        ({"max_dead": 1, "min_lines": 11}, ["lines read", "dead lines"]),
        ({"expect_columns": "a, b"}, ["columns"]),
        ({"expect_columns": ["a"]}, []),
        ({"max_generic_ratio": 0.25, "formats": FORMATS}, []),
        ({"max_generic_ratio": 0.24, "formats": FORMATS}, ["records of no known format"]),
    ],
)
def test_gates_hold_up_to_their_limits(done, tmp_path, limits, failed):
    result, queue = done
    verdicts = evaluate_gates(queue.stats(), written(tmp_path, {"a": [1]}), **limits)
    assert verdicts[~verdicts["passed"]]["gate"].tolist() == failed
    if not failed:
        raise_for_gates(result, verdicts)
        return
    with pytest.raises(GateFailed, match=rf"{len(failed)} of {len(verdicts)} quality gates"):
        raise_for_gates(result, verdicts)


def test_lines_that_wait_fail_a_gate(done):
    _, queue = done
    queue.put(Batch.from_lines(["more"], source="test"))
    verdicts = evaluate_gates(queue.stats(), None).set_index("gate")
    assert not verdicts.loc["lines that still wait", "passed"]
    assert verdicts.loc["no line is missing", "passed"]


def test_failures_and_paths_show_a_line_of_each_kind(done):
    _, queue = done
    (row,) = failures(queue).to_dict("records")
    assert (row["lines"], row["processor"]) == (2, "refuse")
    assert row["why"] == "poison: the line is poison"
    assert paths(queue)["state"].tolist() in (["done"], ["dead"], ["dead", "done"])


def test_sources_are_told_with_their_dead_lines_the_worst_first(done):
    _, queue = done
    queue.put(Batch.from_lines([f"poison {n}" for n in range(5)], source="other <b>"))
    Worker(queue, Pipeline("p").add("refuse", refuse)).drain()
    found = sources(queue)
    assert dict(zip(found["source"], found["dead"], strict=True)) == {"other <b>": 5, "test": 2}
    assert found["source"].iloc[0] == "other <b>"
    assert found["records"].isna().all()


def test_many_sources_are_cut_to_the_worst_and_a_sum(done):
    _, queue = done
    for number in range(1, 6):
        lines = ['{"msg": "a"}'] * number + ["poison"]
        queue.put(Batch.from_lines(lines, source=f"s{number}", format="json"))
    parsed = Pipeline("p").add("parse", Parse()).add("refuse", refuse)
    Worker(queue, parsed).drain()
    found = sources(queue, most=3)
    assert found["source"].tolist() == ["test", "s1", "4 more"]
    assert found["dead"].tolist() == [2, 1, 4]
    assert found["records"].tolist()[1:] == [2, 2 + 3 + 4 + 5 + 4]


def test_percentiles_of_a_few_batches_are_not_drawn(done):
    _, queue = done
    assert str(latency(queue)) == (
        "too few batches: 1, of 20. A percentile says something once there are as many."
    )
    queue.put(*(Batch.from_lines([f"line {n}"], source=f"s{n}") for n in range(19)))
    Worker(queue, Pipeline("p").add("refuse", refuse)).drain()
    assert len(latency(queue).data) > 1


def test_what_is_empty_says_so(tmp_path):
    nothing = pd.DataFrame({"a": []})
    assert repr(ReportTable(nothing)) == "none"
    assert ">none<" in ReportTable(nothing)._repr_html_()
    assert str(levels(output(tmp_path))) == "none: the output has no times and levels"


def test_a_table_escapes_text_and_aligns_numbers():
    frame = pd.DataFrame({"n": [1234567], "share": [0.5], "text": ["<b>\x1b[0m"], "fine": [False]})
    table = ReportTable(frame, share=".1%")
    shown = table._repr_html_()
    assert "1,234,567" in shown
    assert "50.0%" in shown
    assert "&lt;b&gt;\\x1b[0m" in shown
    assert "✗ failed" in shown
    assert '<td style="text-align:right;white-space:nowrap">1,234,567</td>' in shown
    assert "1,234,567" in repr(table)


def test_parameters_get_the_types_of_their_defaults():
    defaults = {"n": 1, "share": 0.5, "on": False, "names": [], "text": ""}
    given = ["n=007", "share=1e-2", "on=yes", "names=a, b", "text=true=1"]
    assert parse(given, defaults) == {
        "n": 7,
        "share": 0.01,
        "on": True,
        "names": ["a", "b"],
        "text": "true=1",
    }
    assert parse(['names=["a,b"]'], defaults) == {"names": ["a,b"]}


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ("nn=1", "unknown parameter 'nn'; did you mean 'n'"),
        ("n=1.5", "n has to be a whole number, not '1.5'"),
        ("on=maybe", "on has to be true or false, not 'maybe'"),
        ("names=[1", "names has to be"),
        ("n", "no name=value"),
    ],
)
def test_a_parameter_that_does_not_fit_is_refused(given, why):
    with pytest.raises(UsageError, match=why):
        parse([given], {"n": 1, "on": True, "names": []})


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"workers": 0}, "workers must be >= 1, got 0"),
        ({"workers": -3}, "workers must be >= 1, got -3"),
        ({"max_dead_ratio": 1.5}, "max_dead_ratio must be from 0 to 1, got 1.5"),
    ],
)
def test_a_value_that_cannot_be_used_is_refused(given, why):
    check_limits({"workers": 1, "max_dead_ratio": 0.0})
    with pytest.raises(UsageError, match=why):
        check_limits(given)


def test_a_run_id_that_papermill_made_a_fraction_of_is_refused():
    with pytest.raises(UsageError, match=r"run_id must be text, got 2024\.5; .* with -r"):
        process("app.log", run_id=2024.5)


def test_the_notebook_has_the_parameters_that_the_table_has():
    cells = nbformat.read(find_notebook("02_batch_run"), as_version=4).cells
    (cell,) = [one for one in cells if "parameters" in one.metadata.get("tags", ())]
    values: dict[str, object] = {}
    exec(cell.source, {}, values)  # noqa: S102
    assert values == DEFAULTS
    assert [*values] == [*DEFAULTS]


def given(**other):
    return {**DEFAULTS, "In": ["", "import etl"], **other}


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("run_id", 20240305, "20240305"),
        ("source", ["a.log", 7], ["a.log", "7"]),
        ("source", 2024, "2024"),
        ("workers", "3", 3),
        ("workers", 3.0, 3),
        ("max_dead_ratio", 1, 1.0),
        ("max_dead_ratio", "0.5", 0.5),
        ("interactive", "false", False),
        ("interactive", 1, True),
        ("expect_columns", "level, message", ["level", "message"]),
        ("expect_columns", ("level",), ["level"]),
    ],
)
def test_what_papermill_made_of_a_parameter_gets_the_type_of_its_default(name, value, wanted):
    found = checked(given(**{name: value}))
    assert found[name] == wanted
    assert type(found[name]) is type(wanted)
    assert found | {name: DEFAULTS[name]} == DEFAULTS


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("workers", 0, "workers must be >= 1, got 0"),
        ("workers", "two", "parameter workers has to be a whole number, not 'two'"),
        ("workers", True, "workers has to be a whole number"),
        ("workers", 1.5, "workers has to be a whole number"),
        ("workers", None, "workers has to be a whole number"),
        ("max_dead_ratio", float("nan"), "max_dead_ratio must be from 0 to 1"),
        ("max_dead", -2, "max_dead must be >= -1"),
        ("interactive", "maybe", "interactive has to be true or false"),
        ("expect_columns", 7, "expect_columns has to be a list of texts"),
        ("out", 2024.5, "out must be text"),
        ("source", [True], "source must be text"),
        ("unmatched", "drop", "unmatched 'drop' is neither keep nor dead"),
        ("year", 12, "year 12 is not between"),
    ],
)
def test_what_papermill_made_of_a_parameter_may_be_refused(name, value, why):
    with pytest.raises(UsageError, match=why):
        checked(given(**{name: value}))


def test_a_parameter_that_only_papermill_knows_is_refused():
    cells = ["", "import etl", "x = 1", "# Parameters\nworkers = 1\nmax_ded = 3\n"]
    with pytest.raises(UsageError, match="unknown parameter 'max_ded'; did you mean 'max_dead'"):
        checked(given(In=cells))
    assert checked(given(In=cells[:3])) == DEFAULTS


def test_a_summary_has_a_row_per_batch_and_escapes_text(tmp_path):
    numbers = {"accepted": 1000, "done": 999, "filtered": 0, "dead": 1, "seconds": 1.5}
    one = {"file": "<b>.log", "folder": "a b", "state": "finished", "error": ""} | numbers
    refused = one | dict.fromkeys(numbers) | {"state": "refused", "error": "no <i>"}
    write_summary(tmp_path / "summary.html", [one, refused])
    page = (tmp_path / "summary.html").read_text()
    assert page.count('<a href="a%20b/report.html">&lt;b&gt;.log</a>') == 1
    assert '<h1><span class="verdict refused">refused</span> 2 batches</h1>' in page
    assert '<td style="text-align:right">1,000</td>' in page
    assert "no &lt;i&gt;" in page
