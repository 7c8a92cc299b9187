"""SQL over a store: what its tables hold, and that it changes nothing."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from etl import Batch, DatabaseTable, Parquet, Pipeline, Store, Worker, reject, run
from etl import open as open_store
from etl.cli.app import app
from etl.cli.output import compact as compact_command
from etl.errors import UsageError
from etl.outputs.compact import change_types, compact
from etl.sinks.jsonl import JsonLines


def check(frame: pl.DataFrame) -> pl.DataFrame:
    frame = frame.with_columns(n=pl.col("line").str.to_integer(strict=False))
    return reject(frame, pl.col("n").is_null(), "no_number", "this is no number")


def fill(folder: Path, sink: object) -> Store:
    store = open_store(folder / "s.db")
    pipeline = Pipeline().add("check", check).add("out", sink)
    for lines in (["1", "2", "x\x1b[31m"], ["3"]):
        store.queue.put(Batch.from_lines(lines, source="a.log"))
        Worker(store.queue, pipeline, out=folder / "out").drain()
    return store


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    fill(folder, Parquet()).close()
    return folder


@pytest.fixture
def store(made: Path, tmp_path: Path) -> Iterator[Store]:
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    with open_store(tmp_path / "s.db") as store:
        yield store


@pytest.mark.parametrize(
    ("sql", "rows"),
    [
        ("select count(*) as c, sum(n) as s from lines", [{"c": 3, "s": 6}]),
        ("select code, lines from dead_letters", [{"code": "no_number", "lines": 1}]),
        ("select processor from metrics where dead > 0", [{"processor": "check"}]),
        (
            "SELECT state, count(*) AS c FROM Traces GROUP BY 1 ORDER BY c",
            [{"state": "dead", "c": 1}, {"state": "done", "c": 3}],
        ),
        (
            "select n, code from lines join dead_letters using (source) where n = 3",
            [{"n": 3, "code": "no_number"}],
        ),
        ("select 1 as one", [{"one": 1}]),
    ],
)
def test_a_query_sees_the_output_and_what_is_kept_beside_it(store, sql, rows):
    assert store.query(sql).to_dicts() == rows


def test_times_are_times(store):
    found = store.query("select d.last_failed_at, t.at from dead_letters d cross join traces t")
    assert set(found.dtypes) == {pl.Datetime("us", "UTC")}


@pytest.mark.parametrize(
    ("sql", "says"),
    [
        ("selec 1", "Expected: an SQL statement, found: selec"),
        ("select * from foo", "relation 'foo' was not found; tables: lines, dead_letters"),
        ("select nope from lines", 'unable to find column "nope"'),
        ("select docker.image from lines", 'written in double quotes: "docker.container"'),
        ("copy lines to 'x.csv'", "statement type is not supported"),
    ],
)
def test_a_wrong_query_is_a_sentence(store, sql, says):
    with pytest.raises(UsageError, match="the query failed: ") as error:
        store.query(sql)
    assert says in str(error.value)


@pytest.mark.parametrize("sql", ["delete from lines", "truncate table lines", "drop table lines"])
def test_a_query_changes_nothing(store, tmp_path, sql):
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.parquet")}
    with pytest.raises(UsageError, match=f"begins with {sql.split()[0].upper()}"):
        store.query(f"-- a comment\n/* another */ {sql}")
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.parquet")} == before
    assert store.output().height == 3


def test_the_output_of_a_store_that_has_none_is_an_error(tmp_path):
    with open_store(tmp_path / "s.db") as store:
        with pytest.raises(UsageError, match="has no output: nothing was written"):
            store.query("select * from lines")
        assert store.query("select * from dead_letters").is_empty()


def test_output_that_is_not_parquet_is_an_error(tmp_path):
    with fill(tmp_path, JsonLines()) as store:
        with pytest.raises(UsageError, match=r"holds no Parquet files, but \.jsonl"):
            store.query("select * from lines")
        assert store.query("select count(*) as c from dead_letters").item() == 1


def test_a_query_goes_on_while_files_are_joined(store, monkeypatch):
    execute = pl.SQLContext.execute

    def late(context, query):
        monkeypatch.undo()
        assert compact(store.queue).written == 1
        return execute(context, query)

    monkeypatch.setattr(pl.SQLContext, "execute", late)
    assert store.query("select sum(n) from lines").item() == 6


def test_duckdb_has_the_same_tables(store):
    with closing(store.duckdb()) as connection:
        query = "SELECT sum(n), (SELECT count(*) FROM dead_letters) FROM lines"
        assert connection.sql(query).fetchall() == [(6, 1)]
        names = {row[0] for row in connection.sql("SHOW TABLES").fetchall()}
        assert names == {"lines", "dead_letters", "metrics", "traces"}


def test_without_duckdb_it_is_said_what_to_install(store, monkeypatch):
    monkeypatch.setattr("etl.store.find_spec", lambda _name: None)
    with pytest.raises(UsageError, match=r"install it with: pip install -e '\.\[query\]'"):
        store.duckdb()


# The commands


def call(*words: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, list(map(str, words)))
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.output


def test_numbers_are_shown_as_they_are(store, tmp_path):
    sql = "select 10010 as pid, 0.5 as share from lines limit 1"
    _, text = call("query", sql, "--store", tmp_path / "s.db")
    assert text.split() == ["pid", "share", "10010", "0.5"]


def test_a_table_controls_no_terminal(store, tmp_path):
    _, text = call("query", "select line from dead_letters", "--store", tmp_path / "s.db")
    assert "x\\x1b[31m" in text
    assert "\x1b" not in text


def test_rows_are_printed_and_written_in_other_formats(store, tmp_path):
    given = (
        "query",
        "select n, traces.path from traces join lines using (line_number) order by n",
        "--store",
    )
    given = (*given, tmp_path / "s.db")
    _, csv = call(*given, "--format", "csv")
    assert csv.startswith('n,path\n1,"[""check"", ""out""]"\n')
    _, lines = call(*given, "--format", "jsonl")
    assert json.loads(lines.splitlines()[0]) == {"n": 1, "path": ["check", "out"]}
    for name in ("rows.csv", "rows.jsonl", "rows.parquet"):
        code, said = call(*given, "--to", tmp_path / name)
        assert (code, "rows in" in said) == (0, True)
    assert pl.read_parquet(tmp_path / "rows.parquet")["n"][0] == 1
    with pytest.raises(UsageError, match=r"must end in \.parquet, \.csv or \.jsonl"):
        call(*given, "--to", tmp_path / "rows.txt")
    with pytest.raises(UsageError, match=r"cannot write '.*': No such file"):
        call(*given, "--to", tmp_path / "no" / "rows.csv")


@pytest.mark.parametrize("format", ["csv", "jsonl"])
def test_bytes_are_written_as_base64(tmp_path, format):
    with open_store(tmp_path / "s.db") as store:
        store.queue.put(Batch.from_lines([b"caf\xe9"], source="a.log"))
        Worker(store.queue, Pipeline().add("check", check), out=tmp_path / "out").drain()
    sql = "select * from dead_letters"
    code, said = call("query", sql, "--store", tmp_path / "s.db", "--format", format)
    assert code == 0
    assert "Y2Fm6Q==" in said


def test_rows_that_are_elsewhere_are_not_said_to_be_none(tmp_path):
    target = DatabaseTable(f"sqlite:///{tmp_path / 't.db'}", "rows", leave_out=["line"])
    fill(tmp_path, target).close()
    sql = "select count(*) from lines"
    _, said = call("query", sql, "--store", tmp_path / "s.db")
    assert "is not in Parquet files: 3 lines were written elsewhere" in said
    _, said = call("query", sql.replace("lines", "dead_letters"), "--store", tmp_path / "s.db")
    assert "elsewhere" not in said


def test_a_run_that_is_not_recorded_is_said():
    with pytest.raises(UsageError, match="no run 'nope' is recorded; list them with: etl runs"):
        call("query", "select 1", "--run", "nope")


def test_files_are_joined_and_types_changed_by_a_command(store, tmp_path):
    code, said = call("compact", "--store", tmp_path / "s.db", "--type", "n=Float64")
    assert (code, said) == (0, "files replaced: 2, by 1\n")
    assert store.output().schema["n"] == pl.Float64
    assert call("compact", "--store", tmp_path / "s.db", "--json") == (
        0,
        '{"replaced": 0, "written": 0, "problems": []}\n',
    )
    (file,) = (tmp_path / "out").iterdir()
    file.write_bytes(b"?")
    with pytest.raises(UsageError, match=r"cannot be read: .*; nothing was changed, see etl check"):
        call("compact", "--store", tmp_path / "s.db", "--type", "line_count=Int32")


@pytest.mark.parametrize(
    ("types", "says"),
    [
        ({"lin": "Float64"}, "the output has no column 'lin'; did you mean 'line'"),
        ({"n": "float"}, "'float' is no type of a column"),
        ({"line": "Date"}, "values of 'line' in '.*' do not fit Date; nothing was changed"),
    ],
)
def test_types_that_cannot_be_are_refused(store, types, says):
    before = store.queue.data_sets()
    with pytest.raises(UsageError, match=says):
        change_types(store.queue, types)
    assert store.queue.data_sets() == before


def test_a_type_without_a_column_is_refused(store, tmp_path):
    with pytest.raises(UsageError, match="--type 'Float64' names no column"):
        compact_command(store=str(tmp_path / "s.db"), type=["Float64"])


@pytest.mark.parametrize("given", ["out", "link"])
def test_the_output_is_read_once_however_its_folder_is_named(
    given: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("real").mkdir()
    Path("link").symlink_to("real")
    Path("a.log").write_text("INFO one\nINFO two\n")
    result = run("a.log", store="s.db", out=given)
    assert result.output().height == 2
    assert result.query("select count(*) from lines").item() == 2
    assert run("a.log", store="s.db", out=Path(given).absolute()).output().height == 2


def test_two_stores_with_one_folder_for_output_have_their_own_rows(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.log").write_text(f"INFO of {name}\n")
    one, two = (run(tmp_path / f"{n}.log", store=str(tmp_path / f"{n}.db")) for n in ("a", "b"))
    assert one.out == two.out
    assert one.output()["message"].to_list() == ["of a"]
    assert two.output()["message"].to_list() == ["of b"]
