"""Ways in which a line was once lost or doubled, each of them closed."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path
from typing import Any

import anyio
import polars as pl
import pytest

from etl import Batch, Count, JsonLines, Pipeline, Worker, each, open_queue
from etl.analysis import metrics
from etl.dlq.dead_letters import DeadLetters
from etl.errors import QueueClosed, SourceLocked, StoreFull, StoreUnavailable, UsageError
from etl.filesystem import FileSystem
from etl.queue import Checkpoint
from etl.queue.sqlite import SqliteQueue
from etl.records.batch import Lease
from etl.records.result import BatchResult, Output
from etl.sinks.publish import publish_files
from etl.sources.files import FileSource
from etl.sources.ingest import ingest
from etl.sources.resolve import resolve_sources
from etl.workers.worker import recover_outputs


def written(out: Path) -> list[str]:
    rows = [pl.read_ndjson(path) for path in sorted(out.rglob("*.jsonl"))]
    return sorted(pl.concat(rows, how="diagonal_relaxed")["line"]) if rows else []


class Picky(JsonLines):
    """Writes nothing in which a certain line is."""

    def stage(self, frame: pl.DataFrame, delivery: Any) -> Any:
        if frame["line"].str.contains("bad").any():
            raise ValueError("no bad lines here")
        return super().stage(frame, delivery)


def test_a_line_that_dies_in_one_sink_is_in_no_other(queue, tmp_path):
    pipeline = Pipeline().add("a", JsonLines("a"), after="input", tee=True)
    pipeline.add("b", Picky("b"), after="input")
    queue.put(Batch.from_lines(["one", "bad", "two"]))
    Worker(queue, pipeline, out=tmp_path).drain()
    assert (written(tmp_path / "a"), written(tmp_path / "b")) == (["one", "two"],) * 2

    pipeline.add("b", JsonLines("b"))
    DeadLetters(queue).replay()
    Worker(queue, pipeline, out=tmp_path).drain()
    assert (written(tmp_path / "a"), written(tmp_path / "b")) == (["bad", "one", "two"],) * 2
    assert queue.stats().done == 3


def test_no_copy_of_a_line_is_kept_if_one_dies_in_the_same_sink(queue, tmp_path):
    copies = each(lambda row: [row, {**row, "line": row["line"].replace("x", "bad")}])
    pipeline = Pipeline().add("copy", copies).add("out", Picky())
    queue.put(Batch.from_lines(["a", "x"]))
    Worker(queue, pipeline, out=tmp_path).drain()
    assert written(tmp_path) == ["a", "a"]
    assert (queue.stats().done, queue.stats().dead) == (1, 1)


def test_a_worker_is_not_used_from_two_threads(queue, tmp_path):
    inside, leave = threading.Event(), threading.Event()

    def wait(frame: pl.DataFrame) -> pl.DataFrame:
        inside.set()
        leave.wait(10)
        return frame

    queue.put(Batch.from_lines(["a"]))
    worker = Worker(queue, Pipeline().add("wait", wait), out=tmp_path).start()
    assert inside.wait(10)
    with pytest.raises(UsageError, match="is running in another thread"):
        worker.step()
    leave.set()
    worker.stop()


def test_two_runs_do_not_read_one_file_into_one_store_twice(queue, tmp_path):
    path = tmp_path / "a.log"
    path.write_text("one\ntwo\nthree\n")
    first, second = (ingest(queue, FileSource("a", path, chunk=4)) for _ in range(2))
    next(first)
    list(second)
    with pytest.raises(SourceLocked, match="another run is reading"):
        list(first)
    assert queue.peek()["line"].to_list() == ["one", "two", "three"]


def test_a_position_moves_only_from_where_it_is_expected(queue):
    old, new = Checkpoint("a", 1, 1), Checkpoint("a", 2, 2)
    queue.put(checkpoint=old, expected=None)
    with pytest.raises(SourceLocked):
        queue.put(Batch.from_lines(["x"]), checkpoint=new, expected=None)
    assert queue.stats().accepted == 0
    queue.put(checkpoint=new, expected=old)
    assert queue.checkpoint("a") == new


def test_an_interrupt_right_after_the_commit_keeps_the_output(tmp_path, monkeypatch):
    queue = open_queue(str(tmp_path / "s.db"))
    queue.put(Batch.from_lines(["a"]))
    commit = queue.commit

    def interrupted(*arguments: Any) -> None:
        commit(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(queue, "commit", interrupted)
    with pytest.raises(KeyboardInterrupt):
        Worker(queue, Pipeline().add("out", JsonLines()), out=tmp_path / "out").step()
    Worker(queue, Pipeline().add("out", JsonLines()), out=tmp_path / "out").step()
    assert written(tmp_path / "out") == ["a"]
    queue.close()


def test_a_store_that_is_closed_while_it_commits_keeps_the_output(tmp_path, monkeypatch):
    queue = open_queue(str(tmp_path / "s.db"))
    queue.put(Batch.from_lines(["a"]))
    commit = queue.commit

    def closed(*arguments: Any) -> None:
        commit(*arguments)
        raise QueueClosed

    monkeypatch.setattr(queue, "commit", closed)
    with pytest.raises(QueueClosed):
        Worker(queue, Pipeline().add("out", JsonLines()), out=tmp_path / "out").step()
    Worker(queue, Pipeline().add("out", JsonLines()), out=tmp_path / "out").step()
    assert written(tmp_path / "out") == ["a"]
    queue.close()


def test_an_interrupted_transaction_does_not_stay_open(queue):
    def interrupted() -> None:
        with queue._database.write() as db:
            db.connection.execute("INSERT INTO control VALUES ('x', 'y')")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    queue.put(Batch.from_lines(["a"]))
    assert queue.stats().waiting == 1


def test_an_error_text_that_is_no_text_takes_no_other_line_with_it(queue):
    def odd(row: dict[str, Any]) -> dict[str, Any]:
        if row["line"] == "bad":
            raise ValueError("\ud800")
        return row

    queue.put(Batch.from_lines(["a", "bad", "b"]))
    Worker(queue, Pipeline().add("odd", each(odd))).drain()
    assert (queue.stats().done, queue.stats().dead) == (2, 1)
    assert DeadLetters(queue).frame()["message"].to_list() == ["\\ud800"]


def test_a_file_that_was_rewritten_with_the_same_beginning_is_read_from_its_start(queue, tmp_path):
    path = tmp_path / "a.log"
    same = "head\n" * 2000
    path.write_text(same + "old\n")
    list(ingest(queue, FileSource("a", path)))
    path.write_text(same + "new\nmore\n")
    assert sum(read.batch.lines for read in ingest(queue, FileSource("a", path))) == 2002


def test_sinks_in_one_folder_do_not_overwrite_each_other(queue, tmp_path):
    pipeline = Pipeline().add("a", JsonLines(), after="input", tee=True)
    pipeline.add("b", JsonLines(), after="input")
    for id in ("x", "x-1"):
        text = f"{id}\n".encode()
        queue.put(Batch(lines=1, payload=text, source="s", id=id))
    Worker(queue, pipeline, out=tmp_path, batch_lines=1).drain()
    assert written(tmp_path) == ["x", "x", "x-1", "x-1"]


def test_a_pipe_is_read_as_a_stream(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = threading.Thread(target=lambda: path.write_text("a\nb\n"))
    writer.start()
    (source,) = resolve_sources([str(path)])
    assert [read.batch.lines for read in source.read()] == [2]
    writer.join()
    source.file.close()


def test_what_was_published_already_is_left_alone(tmp_path):
    final = tmp_path / "done"
    final.write_text("x")
    publish_files([Output(str(tmp_path / "gone"), str(final))])
    assert final.read_text() == "x"


class Unsure(SqliteQueue):
    """A store that commits, and cannot say so, once."""

    sure = False

    def commit(self, lease: Lease, outcome: BatchResult) -> None:
        super().commit(lease, outcome)
        if not self.sure:
            self.sure = True
            raise StoreUnavailable("it does not answer")


def test_what_was_committed_and_not_said_to_be_is_published_and_counted_once(tmp_path):
    queue = Unsure(tmp_path / "store.db")
    queue.put(*[Batch.from_lines([f"INFO {n}"], source=f"{n}.log") for n in range(3)])
    pipeline = Pipeline().add("count", Count("line"))
    worker = Worker(queue, pipeline.add("out", JsonLines()), out=tmp_path, drain=True)
    anyio.run(worker.run)
    assert written(tmp_path) == ["INFO 0", "INFO 1", "INFO 2"]
    assert metrics.state_totals(queue) == {"count": {f"INFO {n}": 1 for n in range(3)}}
    assert queue.stats().done == 3
    queue.close()


class Stubborn(FileSystem):
    """A disk that renames nothing at first."""

    failures = 1

    def replace(self, path: Path, to: Path) -> None:
        if self.failures:
            self.failures -= 1
            raise OSError(errno.EIO, "Input/output error")
        super().replace(path, to)


def test_what_was_committed_without_an_answer_is_kept_until_it_can_be_published(tmp_path):
    queue = Unsure(tmp_path / "store.db")
    queue.put(Batch.from_lines(["a"]))
    pipeline = Pipeline().add("out", JsonLines())
    worker = Worker(queue, pipeline, out=tmp_path, files=Stubborn(), drain=True)
    anyio.run(worker.run)
    recover_outputs(queue)
    assert written(tmp_path) == ["a"]
    queue.close()


class Syncing(FileSystem):
    """A disk that knows of which folders the names were synced."""

    def __init__(self) -> None:
        self.synced: list[Path] = []

    def sync(self, path: Path) -> None:
        self.synced.append(path)
        super().sync(path)


def test_a_file_that_was_renamed_is_synced_before_its_staged_name_is_forgotten(queue, tmp_path):
    queue.put(Batch.from_lines(["a"]))
    lease = queue.lease("x")
    final = tmp_path / "final"
    final.write_text("x")
    output = Output(str(tmp_path / "staged"), str(final))
    queue.commit(lease, BatchResult(done=1, outputs=[output]))
    files = Syncing()
    recover_outputs(queue, files)
    assert files.synced == [tmp_path]
    assert queue.pending_outputs() == []


@pytest.mark.parametrize("name", ["mark_published", "unregister"])
def test_a_batch_is_done_even_if_the_disk_is_full_right_after_its_commit(
    queue, tmp_path, monkeypatch, name
):
    def full(*_arguments: Any) -> None:
        raise StoreFull

    monkeypatch.setattr(queue, name, full)
    queue.put(Batch.from_lines(["a"]))
    seen: list[int] = []
    pipeline = Pipeline().add("out", JsonLines())
    worker = Worker(queue, pipeline, out=tmp_path, watch=lambda _, result: seen.append(result.done))
    assert worker.step().done == 1
    assert seen == [1]
    monkeypatch.undo()
    worker.step()
    assert queue.pending_outputs() == []
