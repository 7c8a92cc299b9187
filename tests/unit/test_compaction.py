"""Files that are joined: each line is read once, whoever is killed, and by every reader."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import polars as pl
import pyarrow.dataset
import pytest

from etl import Batch, Pipeline, Queue, Worker, each, open_queue
from etl.errors import StoreUnavailable, UsageError
from etl.filesystem import FileSystem
from etl.outputs.compact import ASIDE_SECONDS, compact, set_aside
from etl.outputs.data_set import read_rows
from etl.sinks.jsonl import JsonLines
from etl.sinks.parquet import Parquet, read_output
from etl.workers.compaction import try_to_compact

WHOLE = list(range(12))


def row_of(line: dict[str, Any]) -> dict[str, Any]:
    """Make columns that come later, that have no value at first, and that are always there."""
    number = int(line["line"])
    row = {"n": number, "later": None, "day": None}
    if number >= 6:
        row |= {
            "new": f"new {number}",
            "later": number / 2,
            "day": datetime(2026, 1, number, tzinfo=UTC),
        }
    return row


def fill(folder: Path, *, sink: Any = None, batches: int = 4) -> Queue:
    """Make a store with a file for each batch of three lines."""
    queue = open_queue(folder / "s.db")
    pipeline = Pipeline().add("row", each(row_of)).add("out", sink or Parquet())
    for start in range(0, 3 * batches, 3):
        lines = [str(number) for number in range(start, start + 3)]
        queue.put(Batch.from_lines(lines, source=f"{start}.log"))
        Worker(queue, pipeline, out=folder / "out").drain()
    return queue


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    fill(folder).close()
    return folder


@pytest.fixture
def queue(made: Path, tmp_path: Path) -> Iterator[Queue]:
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    with closing(open_queue(tmp_path / "s.db")) as queue:
        yield queue


def shown(out: Path) -> list[Path]:
    return sorted(out.rglob("[!.]*.parquet"))


READERS: dict[str, Callable[[Path], list[int]]] = {
    "polars, a folder": lambda out: pl.scan_parquet(out).collect()["n"].to_list(),
    "polars, a pattern": lambda out: pl.read_parquet(out / "*.parquet")["n"].to_list(),
    "pandas": lambda out: pd.read_parquet(out)["n"].tolist(),
    "pyarrow": lambda out: pyarrow.dataset.dataset(out).to_table()["n"].to_pylist(),
    "duckdb": lambda out: [
        row[0] for row in duckdb.sql(f"SELECT n FROM read_parquet('{out}/*.parquet')").fetchall()
    ],
    "etl": lambda out: read_output(out)["n"].to_list(),
}


@pytest.mark.parametrize("reader", READERS)
def test_every_reader_reads_a_data_set_without_options(queue, tmp_path, reader):
    assert len(shown(tmp_path / "out")) == 4
    compact(queue, target=1)  # too small to join anything
    assert len(shown(tmp_path / "out")) == 4
    assert sorted(READERS[reader](tmp_path / "out")) == WHOLE
    done = compact(queue)
    assert (done.replaced, done.written, done.problems) == (4, 1, [])
    assert sorted(READERS[reader](tmp_path / "out")) == WHOLE


def test_all_files_get_all_columns_with_the_types_of_the_data_set(queue, tmp_path):
    schemas = [pl.read_parquet_schema(path) for path in shown(tmp_path / "out")]
    assert ["new" in schema for schema in schemas] == [False, False, True, True]
    assert [schema["later"] for schema in schemas] == [pl.String] * 2 + [pl.Float64] * 2
    rows = read_rows(queue, tmp_path / "out")
    compact(queue, target=1)
    assert len({str(pl.read_parquet_schema(path)) for path in shown(tmp_path / "out")}) == 1
    (columns,) = queue.data_sets().values()
    assert (columns["new"], columns["later"]) == ("String", "Float64")
    assert read_rows(queue, tmp_path / "out").sort("n").equals(rows.sort("n"))
    assert rows.sort("n")["day"].dt.day().to_list() == [None] * 6 + list(range(6, 12))
    assert rows.sort("n")["later"].to_list() == [None] * 6 + [3.0, 3.5, 4.0, 4.5, 5.0, 5.5]


def test_what_is_joined_is_checked_and_counted(queue, tmp_path):
    compact(queue)
    assert queue.check().whole
    rows = queue._database.rows("SELECT lines FROM outputs WHERE replaced_at IS NULL")
    assert rows == [{"lines": 12}]
    assert compact(queue).replaced == 0


def test_replaced_files_lie_aside_for_a_time_and_are_removed(queue, tmp_path, monkeypatch):
    before = {path.name: path.read_bytes() for path in shown(tmp_path / "out")}
    compact(queue)
    aside = tmp_path / ".out.replaced"
    assert {path.name: path.read_bytes() for path in aside.iterdir()} == before
    assert len(queue.replaced_outputs()) == 4
    monkeypatch.setattr("etl.outputs.compact.ASIDE_SECONDS", -1.0)
    set_aside(queue)
    assert list(aside.iterdir()) == []
    assert queue.replaced_outputs() == []
    assert ASIDE_SECONDS == 600


def test_only_small_files_are_joined_in_between(queue, tmp_path, monkeypatch):
    monkeypatch.setattr("etl.outputs.compact.SMALL_BYTES", 1)
    assert compact(queue, effort="small").replaced == 2  # those that lack columns
    monkeypatch.setattr("etl.outputs.compact.SMALL_BYTES", 1 << 20)
    assert compact(queue, effort="many").replaced == 0
    monkeypatch.setattr("etl.outputs.compact.MIN_FILES", 3)
    assert compact(queue, effort="many").replaced == 3


def test_a_damaged_file_is_left_and_named(queue, tmp_path):
    damaged = shown(tmp_path / "out")[0]
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"?")
    done = compact(queue)
    assert (done.replaced, done.written) == (3, 1)
    assert done.problems == [f"'{damaged}' is not what was written; see etl check"]
    assert damaged.exists()
    assert [one.name for one in queue.check().findings] == [str(damaged)]


def test_a_type_is_changed_in_all_files(queue, tmp_path):
    queue.set_column_types(tmp_path / "out", {"n": "Float64"})
    compact(queue)
    assert pl.read_parquet(tmp_path / "out")["n"].dtype == pl.Float64
    queue.set_column_types(tmp_path / "out", {"later": "Int64"})
    (problem,) = compact(queue).problems
    assert "has values in 'later' that do not fit" in problem
    assert sorted(read_rows(queue, tmp_path / "out")["n"]) == WHOLE


def test_of_two_that_join_the_same_files_one_gives_up(queue, tmp_path):
    class Slow(FileSystem):
        def sync(self, path: Path) -> None:
            super().sync(path)
            if path.name.endswith(".tmp"):
                assert compact(queue).written == 1

    done = compact(queue, files=Slow())
    assert (done.replaced, done.written, done.problems) == (0, 0, [])
    assert sorted(pl.read_parquet(tmp_path / "out")["n"]) == WHOLE
    assert list((tmp_path / "out").glob(".*")) == []


def test_other_output_is_left_alone(tmp_path):
    with closing(fill(tmp_path, sink=JsonLines())) as queue:
        assert compact(queue).replaced == 0
        with pytest.raises(UsageError, match=r"holds no Parquet files, but \.jsonl"):
            read_rows(queue, tmp_path / "out")


def test_an_output_that_is_lost_is_said_and_the_others_are_read(queue, tmp_path, caplog):
    lost = shown(tmp_path / "out")[1]
    lost.unlink()
    assert sorted(read_rows(queue, tmp_path / "out")["n"]) == [0, 1, 2, *range(6, 12)]
    assert f"output {str(lost)!r} is lost, and its rows are not read" in caplog.text


def test_files_that_are_replaced_while_they_are_read_are_read_once(queue, tmp_path, monkeypatch):
    scan = pl.scan_parquet

    def late(*given, **more):
        monkeypatch.undo()
        compact(queue)
        return scan(*given, **more)

    monkeypatch.setattr("polars.scan_parquet", late)
    assert sorted(read_rows(queue, tmp_path / "out")["n"]) == WHOLE


def test_what_cannot_lie_aside_is_removed_at_once(queue, tmp_path):
    (tmp_path / ".out.replaced").write_text("in the way")
    assert compact(queue).written == 1
    assert len(shown(tmp_path / "out")) == 1
    assert queue.replaced_outputs() == []


def test_a_machine_without_the_output_forgets_nothing_of_it(queue, tmp_path, monkeypatch):
    old = queue.outputs()[:2]
    queue.replace_outputs(old, queue.outputs()[3:])  # and killed, before they are set aside
    monkeypatch.setattr("etl.outputs.compact.ASIDE_SECONDS", -1.0)
    (tmp_path / "out").rename(tmp_path / "elsewhere")
    set_aside(queue)
    (tmp_path / "elsewhere").rename(tmp_path / "out")
    assert [one.final for one in queue.replaced_outputs()] == [one.final for one in old]
    set_aside(queue)
    assert len(shown(tmp_path / "out")) == 2


def test_files_of_before_types_were_kept_become_a_data_set(queue, tmp_path):
    with queue._database.write() as db:
        db.connection.execute("DELETE FROM data_sets")
    assert compact(queue, effort="small").replaced == 0
    assert compact(queue).written == 1
    assert pl.read_parquet(tmp_path / "out").sort("n")["later"].to_list()[5:7] == [None, "3.0"]


def test_a_worker_joins_files_while_it_works_and_when_it_ends(tmp_path):
    with closing(open_queue(tmp_path / "s.db")) as queue:
        for number in range(30):
            queue.put(Batch.from_lines([str(number)], source=f"{number}.log"))
        pipeline = Pipeline().add("row", each(row_of)).add("out", Parquet())
        Worker(queue, pipeline, out=tmp_path / "out", batch_lines=1, drain=True).work()
        assert len(shown(tmp_path / "out")) == 1
        assert sorted(pl.read_parquet(tmp_path / "out")["n"]) == list(range(30))
        assert queue.check().whole


def test_files_that_cannot_be_joined_now_end_no_worker(queue, monkeypatch, caplog):
    def away(*_given: object) -> None:
        raise StoreUnavailable("the store is away")

    monkeypatch.setattr(queue, "replace_outputs", away)
    try_to_compact(queue, effort="all")
    assert "files of the output cannot be joined now: the store is away" in caplog.text


# Killed


class Killed(BaseException):
    """Ends a compaction as kill -9 does: nothing is cleaned up after it."""


class Dying(FileSystem):
    """Files of a process that is killed before its nth access, to them or to its store.

    Args:
        queue: The store, whose changes are accesses, too: before, and after.
        left: How many more accesses it lives.
    """

    def __init__(self, queue: Queue, left: int) -> None:
        self.left = left
        for name in ("create", "replace", "unlink", "sync", "make_folder"):
            setattr(self, name, self._gated(getattr(super(), name), after=name == "create"))
        for name in ("replace_outputs", "mark_published", "forget_replaced"):
            setattr(queue, name, self._gated(getattr(queue, name), after=True))

    def _gated(self, call: Callable[..., Any], *, after: bool) -> Callable[..., Any]:
        def gated(*given: Any, **more: Any) -> Any:
            self._gate()
            found = call(*given, **more)
            if after:
                self._gate()
            return found

        return gated

    def _gate(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise Killed


def test_each_line_is_there_once_wherever_a_compaction_is_killed(queue, tmp_path):
    queue.close()
    steps = 0
    for step in itertools.count():
        home = tmp_path / "copy"
        shutil.copytree(tmp_path, home, ignore=lambda *_: ["copy"], dirs_exist_ok=False)
        with closing(open_queue(home / "s.db")) as dying:
            files = Dying(dying, step)
            with suppress(Killed):
                compact(dying, files=files)
        with closing(open_queue(home / "s.db")) as other:
            assert sorted(read_rows(other, home / "out")["n"]) == WHOLE, step
            assert other.check().whole, step
            Worker(other, Pipeline(), out=home / "out").drain()  # goes on with what was begun
            assert sorted(read_output(home / "out")["n"]) == WHOLE, step
            compact(other)
            assert len(shown(home / "out")) == 1, step
            assert sorted(pl.read_parquet(home / "out" / "*.parquet")["n"]) == WHOLE, step
            assert other.check().whole, step
        shutil.rmtree(home)
        if files.left >= 0:
            break
        steps += 1
    assert steps > 15
