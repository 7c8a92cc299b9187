"""A row leads back to the line it was made from, and never to a file that was not read."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import polars as pl
import pytest
from backports import zstd

from etl import Batch, DeadLetters, Parquet, Pipeline, Worker, open_queue, reject
from etl.analysis.lineage import lineage
from etl.analysis.traces import traces
from etl.errors import UsageError
from etl.queue import Queue
from etl.sources.files import FileSource
from etl.sources.ingest import ingest

LINES = b"one\ntwo\r\nbad \xff\nfour\nlast"

PACKERS: dict[str, Callable[[bytes], bytes]] = {
    ".log": bytes,
    ".log.gz": gzip.compress,
    ".log.zst": zstd.compress,
}

COLUMNS = ["source", "line_number", "text", "offset", "batch", "path", "state", "note"]


def no_bad(frame: pl.DataFrame) -> pl.DataFrame:
    return reject(frame, pl.col("line").str.starts_with("bad"), "bad", "the line is bad")


@pytest.fixture(params=PACKERS)
def run(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Queue, pl.DataFrame]:
    """Process a file, named as a user in its folder names it; give the store and the output."""
    monkeypatch.chdir(tmp_path)
    path = Path("logs", f"app{request.param}")
    path.parent.mkdir()
    path.write_bytes(PACKERS[request.param](LINES))
    queue = open_queue("sqlite://")
    for _ in ingest(queue, FileSource(str(path), path)):
        pass
    pipeline = Pipeline("p").add("check", no_bad).add("out", Parquet(leave_out=["line"]))
    Worker(queue, pipeline, out="out").drain()
    files = sorted(Path("out").glob("*.parquet"))
    return queue, pl.concat(pl.read_parquet(file, include_file_paths="file") for file in files)


def test_a_row_of_the_output_leads_to_its_line(run: tuple[Queue, pl.DataFrame]):
    queue, rows = run
    found = lineage(rows, queue)

    assert found.columns.to_list() == COLUMNS
    assert found["text"].to_list() == ["one", "two", "four", "last"]
    assert found["offset"].to_list() == [0, 4, 15, 20]
    assert set(found["path"]) == {("check", "out")}
    assert set(found["state"]) == {"done"}
    done = traces(queue).query("state == 'done'")
    assert found["batch"].to_list() == done["batch"].to_list()


def test_the_file_of_a_second_sink_leads_to_the_same_batch(run: tuple[Queue, pl.DataFrame]):
    queue, rows = run
    second = rows.with_columns(file=pl.col("file").str.replace(".parquet", "~1.parquet"))
    columns = ["text", "batch", "state"]

    assert lineage(second, queue)[columns].equals(lineage(rows, queue)[columns])


def test_dead_letters_and_traces_lead_to_their_lines(run: tuple[Queue, pl.DataFrame]):
    queue, _ = run
    (dead,) = lineage(DeadLetters(queue).frame(), queue).to_dict("records")

    assert (dead["line_number"], dead["text"], dead["state"]) == (3, r"bad \xff", "dead")
    assert dead["path"] == ("check",)
    assert lineage(traces(queue), queue)["note"].to_list() == [""] * 5


def test_one_row_may_be_a_dict(run: tuple[Queue, pl.DataFrame]):
    queue, rows = run

    assert lineage(rows.row(1, named=True), queue)["text"].to_list() == ["two"]


def test_the_folder_in_which_it_ran_does_not_matter(
    run: tuple[Queue, pl.DataFrame], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    queue, rows = run
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")

    assert lineage(rows, queue)["text"].to_list() == ["one", "two", "four", "last"]


def test_a_file_that_was_replaced_is_not_read(run: tuple[Queue, pl.DataFrame]):
    queue, rows = run
    path = Path(rows["source"][0])
    path.write_bytes(b"another file altogether")
    found = lineage(rows, queue)

    assert found["text"].isna().all()
    assert found["note"].str.contains("not the file that was read").all()
    path.unlink()
    assert lineage(rows, queue)["note"].str.contains("is gone").all()


def test_a_record_leads_to_all_of_its_lines(tmp_path: Path):
    path = tmp_path / "app.log"
    path.write_text("2026-03-05 10:00:00 one\n2026-03-05 10:00:01 two\n\tat a\n\tat b\n")
    queue = open_queue("sqlite://")
    list(ingest(queue, FileSource(str(path), path)))
    rows = pl.DataFrame({"source": str(path), "line_number": [1, 2], "line_count": [1, 3]})
    found = lineage(rows, queue)

    assert found["text"].to_list() == [
        "2026-03-05 10:00:00 one",
        "2026-03-05 10:00:01 two\n\tat a\n\tat b",
    ]
    assert found["offset"].to_list() == [0, 24]
    queue.close()


@pytest.mark.parametrize("name", ["/etc/passwd", "../secret", "secret", "logs", "", "a\0b"])
def test_a_name_from_a_log_opens_no_file_that_the_store_has_not_read(
    run: tuple[Queue, pl.DataFrame], name: str
):
    queue, _ = run
    Path("secret").write_text("secret\n")
    found = lineage({"source": name, "line_number": 1}, queue)

    assert found["text"].isna().all()
    assert found["note"].to_list() == ["the store has read no such file"]


def test_lines_that_came_from_no_file_have_a_path_and_no_text():
    queue = open_queue("sqlite://")
    queue.put(Batch.from_lines(["a"], source="http"))
    Worker(queue, Pipeline("p").add("pass", None)).drain()
    (row,) = lineage({"source": "http", "line_number": 1}, queue).to_dict("records")

    assert (row["path"], row["state"]) == (("pass",), "done")
    assert row["note"] == "the store has read no such file"


def test_a_line_beyond_the_end_is_told(run: tuple[Queue, pl.DataFrame]):
    queue, rows = run
    row = rows.row(0, named=True) | {"line_number": 99}

    assert lineage(row, queue)["note"].to_list() == ["the file has no such line"]


def test_a_row_that_does_not_say_where_it_is_from_is_an_error():
    with pytest.raises(UsageError, match=r"no source and no line_number .* keep both"):
        lineage(pl.DataFrame({"level": ["INFO"]}), open_queue("sqlite://"))


def test_no_rows_have_no_lineage():
    assert lineage(pl.DataFrame({"source": [], "line_number": []}), open_queue("sqlite://")).empty


def test_of_files_that_had_the_same_name_the_one_with_the_line_is_read(tmp_path: Path):
    path = tmp_path / "a.log"
    with closing(open_queue("sqlite://")) as queue:
        for text in ("old 1\nold 2\nold 3\n", "new 1\n"):
            path.write_text(text)
            list(ingest(queue, FileSource("a.log", path)))
            path.rename(tmp_path / f"a.log.{text[:3]}")
        rows = [{"source": str(path), "line_number": number} for number in (1, 3)]
        found = lineage(pl.DataFrame(rows), queue)
    assert found["note"].tolist() == [
        "2 files of this name had such a line; it is not known which is meant",
        "",
    ]
    assert found["text"].tolist()[1] == "old 3"
