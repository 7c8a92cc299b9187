"""The types of a data set's columns: who says them, what fits them, what does not."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from etl import Batch, Pipeline, Worker, each, open_queue
from etl.dlq import DeadLetters
from etl.errors import StoreUnavailable, UsageError
from etl.records.schemas import Schemas, cast_exactly, type_of
from etl.sinks.parquet import Parquet

HERE = Path("/out")


def fitted(schemas: Schemas, frame: pl.DataFrame) -> tuple[pl.DataFrame, list[str | None]]:
    schemas.agree(HERE, frame)
    rows, reasons = schemas.fit(HERE, frame)
    return rows, [None] * frame.height if reasons is None else reasons.to_list()


def test_the_first_batch_with_a_column_says_its_type():
    schemas = Schemas()
    fitted(schemas, pl.DataFrame({"n": [1]}))
    rows, reasons = fitted(schemas, pl.DataFrame({"n": ["2"], "x": [0.5]}))
    assert rows.to_dicts() == [{"n": 2, "x": 0.5}]
    assert reasons == [None]


@pytest.mark.parametrize("nothing", [pl.Null, pl.String])
def test_a_column_without_a_value_gets_the_type_of_its_first_one(nothing):
    schemas = Schemas()
    empty = pl.DataFrame({"n": [None, None]}, schema={"n": nothing})
    assert fitted(schemas, empty)[0].schema == {"n": pl.String}
    assert fitted(schemas, pl.DataFrame({"n": [1.5]}))[0].schema == {"n": pl.Float64}
    rows, reasons = fitted(schemas, empty)
    assert (rows.schema, reasons) == ({"n": pl.Float64}, [None, None])


def test_all_files_have_all_columns_in_one_order():
    schemas = Schemas()
    fitted(schemas, pl.DataFrame({"a": [1], "b": ["x"]}))
    rows, _ = fitted(schemas, pl.DataFrame({"c": [True], "a": [2]}))
    assert rows.to_dicts() == [{"a": 2, "b": None, "c": True}]


@pytest.mark.parametrize(
    ("values", "dtype", "wrong"),
    [
        ([1.0, 1.5, None], pl.Int64, [False, True, False]),
        ([1, 2**60 + 1], pl.Float64, [False, True]),
        (["7", "007", "x"], pl.Int64, [False, True, True]),
        ([300, 3], pl.Int8, [True, False]),
        ([1.5, None], pl.String, [False, False]),
        ([True], pl.Datetime("us"), [True]),
        ([[1], None], pl.Int64, [True, False]),
        ([float("nan")], pl.Float32, [False]),
        ([datetime(2026, 1, 1, tzinfo=UTC)], pl.Datetime("ms", "UTC"), [False]),
        ([datetime(2026, 1, 1, microsecond=7, tzinfo=UTC)], pl.Datetime("ms", "UTC"), [True]),
    ],
)
def test_what_comes_back_as_it_was_fits(values, dtype, wrong):
    cast, found = cast_exactly(pl.Series("x", values), dtype)
    assert cast.dtype == dtype
    assert found.to_list() == wrong


def test_no_more_columns_than_the_limit(monkeypatch):
    monkeypatch.setattr("etl.settings.Settings.max_columns", 2)
    with closing(open_queue("sqlite://")) as queue:
        schemas = Schemas(queue.agree_on_columns)
        rows, reasons = fitted(schemas, pl.DataFrame({"a": [1, 2], "b": [1, 2], "c": [None, 3]}))
    assert rows.columns == ["a", "b"]
    assert reasons[0] is None
    assert (
        reasons[1]
        == "column 'c' has 3 (Int64) here, and the data set has 2 columns already, the limit"
    )


@pytest.mark.parametrize(
    "dtype",
    [
        pl.Int64(),
        pl.Datetime("us", "UTC"),
        pl.List(pl.Struct({"a b": pl.Int8, "é": pl.String})),
        pl.Enum(["a", "b'"]),
        pl.Decimal(10, 2),
        pl.Array(pl.Int8, (2, 3)),
        pl.Categorical(),
    ],
)
def test_a_type_is_read_from_its_name(dtype):
    assert type_of(str(dtype)) == dtype


@pytest.mark.parametrize(
    "text", ["int", "", "Int64(", "__import__('os')", "DataFrame", "Datetime(1)", "read_csv('x')"]
)
def test_what_names_no_type_is_refused(text):
    with pytest.raises(UsageError, match="is no type of a column; there are Int64"):
        type_of(text)


number = each(lambda line: {"n": float(line["line"]) if "." in line["line"] else int(line["line"])})


def test_what_does_not_fit_is_a_dead_letter_and_the_rest_is_written(tmp_path):
    pipeline = Pipeline().add("number", number).add("out", Parquet())
    with closing(open_queue(tmp_path / "s.db")) as queue:
        for lines in (["1", "2"], ["3.0", "4.5"]):
            queue.put(Batch.from_lines(lines, source=lines[0]))
        Worker(queue, pipeline, out=tmp_path / "out").drain()
        assert (queue.stats().done, queue.stats().dead) == (3, 1)
        (row,) = DeadLetters(queue).frame().to_dict("records")
        assert (row["line"], row["processor"], row["code"]) == ("4.5", "out", "wrong_type")
        assert (
            "column 'n' has 4.5 (Float64) here, and the column has the type Int64" in row["message"]
        )
        assert queue.check().whole
        tried = DeadLetters(queue).dry_run(pipeline)  # the sink is asked, and writes nothing
        assert (tried.would_pass, tried.would_fail) == ([], [row["id"]])
        assert str(tried) == f"0 of 1 now pass; 1 does not: {row['message']}"
        ((folder, columns),) = queue.data_sets().items()
        queue.set_column_types(folder, {"n": "Float64"})
        assert DeadLetters(queue).dry_run(pipeline).would_pass == [row["id"]]
        assert queue.data_sets() == {folder: columns | {"n": "Float64"}}
    assert pl.read_parquet(tmp_path / "out")["n"].to_list() == [1, 2, 3]


def test_a_store_that_is_away_fails_no_row(tmp_path, monkeypatch):
    with closing(open_queue(tmp_path / "s.db")) as queue:
        queue.put(Batch.from_lines(["1"]))
        agree, asked = queue.agree_on_columns, []

        def away_once(*given):
            asked.append(given)
            if len(asked) == 1:
                raise StoreUnavailable
            return agree(*given)

        monkeypatch.setattr(queue, "agree_on_columns", away_once)
        worker = Worker(queue, Pipeline().add("out", Parquet()), out=tmp_path / "out")
        with pytest.raises(StoreUnavailable):
            worker.step()
        worker.drain()
        assert (queue.stats().done, queue.stats().dead) == (1, 0)
        assert list((tmp_path / "out").glob(".*")) == []
