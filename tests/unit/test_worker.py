"""Leasing, running and committing: what a worker does when all goes well, and when it does not."""

from __future__ import annotations

import json
import signal
import threading
from asyncio import CancelledError
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import anyio
import polars as pl
import pytest
from growing import wait_until

from etl.dlq import DeadLetters
from etl.errors import (
    OutputFull,
    PipelineError,
    ProcessorStop,
    QueueClosed,
    StoreFull,
    StoreUnavailable,
    UsageError,
    WorkerFailed,
)
from etl.execution.batch_run import Runner
from etl.execution.records import batch_of
from etl.filesystem import FileSystem
from etl.pipeline.pipeline import Pipeline
from etl.processors.builtin import Count, upper
from etl.processors.processor import Delivery, each, reject
from etl.processors.retry import Retry
from etl.queue import DeadLetterFilter, Hang, Queue
from etl.queue.sqlite import SqliteQueue
from etl.records.batch import Batch, Lease, Reference
from etl.sinks.jsonl import JsonLines
from etl.sinks.stdout import StagedText
from etl.sources.files import FileSource
from etl.sources.ingest import ingest
from etl.workers.worker import GIVE_UP_AT, SPLIT_AT, Worker


class Clock:
    """Seconds that pass only when a test says so."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Give an empty folder for what sinks write."""
    path = tmp_path / "out"
    path.mkdir()
    return path


@pytest.fixture
def timed(clock: Clock) -> Iterator[SqliteQueue]:
    """Give a store in memory whose time stands still."""
    queue = SqliteQueue(None, clock=clock)
    yield queue
    assert queue.stats().conserved
    queue.close()


def same(frame: pl.DataFrame) -> pl.DataFrame:
    return frame


def written(path: Path) -> list[str]:
    """Return the lines in all the files that a JSON lines sink has published."""
    files = sorted(path.glob("*.jsonl"))
    return [line for file in files for line in pl.read_ndjson(file)["line"].to_list()]


def counts(queue: Queue) -> tuple[int, int, int, int]:
    stats = queue.stats()
    assert stats.conserved
    return stats.done, stats.filtered, stats.dead, stats.waiting


def dead_letters(queue: Queue) -> pl.DataFrame:
    return queue.dead_letters(DeadLetterFilter())


def put(queue: Queue, *lines: str | bytes, source: str = "a.log") -> Batch:
    batch = Batch.from_lines(lines, source=source)
    queue.put(batch)
    return batch


def lose(queue: SqliteQueue, clock: Clock, times: int) -> None:
    """Let workers take the oldest batch and never come back."""
    for _ in range(times):
        assert queue.lease("lost", seconds=1.0)
        clock.now += 2.0


# Right here


def test_a_step_does_one_batch(queue: Queue, out: Path):
    put(queue, "a", "b")
    put(queue, "c", source="b.log")
    worker = Worker(queue, Pipeline().add("out", JsonLines()), out=out)

    outcome = worker.step()
    assert (outcome.done, outcome.filtered, outcome.dead) == (2, 0, 0)
    assert written(out) == ["a", "b"]
    assert counts(queue) == (2, 0, 0, 1)


def test_a_step_with_nothing_to_do_returns_none(queue: Queue):
    assert Worker(queue, Pipeline().add("a", same)).step() is None


def test_drain_does_all_that_waits(queue: Queue):
    for number in range(5):
        put(queue, "a", "b", source=f"{number}.log")

    assert Worker(queue, Pipeline().add("a", same)).drain() == 10
    assert counts(queue) == (10, 0, 0, 0)
    assert queue.pending_outputs() == []


def test_small_batches_of_a_source_go_together(queue: Queue, out: Path):
    first = put(queue, "a")
    put(queue, "b")
    Worker(queue, Pipeline().add("out", JsonLines()), out=out).step()

    assert [path.stem for path in out.iterdir()] == [first.id]
    assert written(out) == ["a", "b"]


def test_batch_lines_bounds_what_goes_together(queue: Queue):
    for _ in range(4):
        put(queue, "a", "b")

    assert Worker(queue, Pipeline().add("a", same), batch_lines=4).step().done == 4


def test_a_worker_is_listed_while_it_works_and_forgotten_after(queue: Queue):
    seen: list[str] = []

    def look(frame: pl.DataFrame) -> pl.DataFrame:
        seen.extend(row["name"] for row in queue.read("workers"))
        return frame

    put(queue, "a")
    Worker(queue, Pipeline().add("look", look), name="w1").step()
    assert seen == ["w1"]
    assert queue.read("workers") == []


def test_a_rejected_line_is_a_dead_letter_with_its_run(queue: Queue):
    pipeline = Pipeline().add("no", lambda f: reject(f, pl.col("line") == "b", "bad", "it is b"))
    put(queue, "a", "b", "c")
    Worker(queue, pipeline, run="run-7").step()

    row = dead_letters(queue).row(0, named=True)
    assert counts(queue) == (2, 0, 1, 0)
    assert (row["line"], row["line_number"], row["message"]) == ("b", 2, "it is b")
    assert (row["processor"], row["code"], row["run"]) == ("no", "bad", "run-7")
    assert row["version"] == pipeline.version


def test_counts_are_committed_and_found_again_by_the_next_worker(queue: Queue):
    pipeline = Pipeline().add("count", Count("line"))
    for _ in range(3):
        put(queue, "a", "b")
        Worker(queue, pipeline, name="w").step()

    assert json.loads(queue.states(0)["count"]) == {"a": 3, "b": 3}


# In the background


def test_a_started_worker_works_until_it_is_stopped(queue: Queue):
    worker = Worker(queue, Pipeline().add("a", same)).start()
    assert worker.running
    put(queue, "a", "b")
    wait_until(queue, lambda: queue.stats().done == 2)
    put(queue, "c")
    wait_until(queue, lambda: queue.stats().done == 3)

    worker.stop()
    assert not worker.running
    assert queue.read("workers") == []


def test_starting_and_stopping_twice_is_fine(queue: Queue):
    worker = Worker(queue, Pipeline().add("a", same))
    worker.start().start()
    worker.stop()
    worker.stop()
    put(queue, "a")
    worker.start()
    wait_until(queue, lambda: queue.stats().done == 1)
    worker.stop()


def test_stop_waits_for_the_batch_in_hand(queue: Queue):
    begun, resume = threading.Event(), threading.Event()

    def slow(frame: pl.DataFrame) -> pl.DataFrame:
        begun.set()
        assert resume.wait(30)
        return frame

    put(queue, "a", "b")
    worker = Worker(queue, Pipeline().add("slow", slow)).start()
    assert begun.wait(30)
    worker.request_stop()
    resume.set()
    worker.stop()
    assert counts(queue) == (2, 0, 0, 0)


def test_a_paused_queue_is_left_alone_until_it_is_resumed(queue: Queue):
    worker = Worker(queue, Pipeline().add("a", same))
    queue.pause()
    put(queue, "a")
    assert worker.drain() == 0
    assert counts(queue) == (0, 0, 0, 1)

    queue.resume()
    assert worker.drain() == 1


def test_a_paused_worker_in_the_background_takes_steps_and_resumes(queue: Queue):
    queue.pause("for a look")
    for number in range(3):
        put(queue, "a", source=f"{number}.log")
    worker = Worker(queue, Pipeline().add("a", same)).start()
    queue.step()
    wait_until(queue, lambda: queue.stats().done == 1)
    assert queue.stats().waiting == 2

    queue.resume()
    wait_until(queue, lambda: queue.stats().done == 3)
    worker.stop()


def test_a_drain_that_is_asked_for_ends_a_running_worker(queue: Queue):
    worker = Worker(queue, Pipeline().add("a", same)).start()
    wait_until(queue, lambda: queue.read("workers") != [])
    put(queue, "a")
    wait_until(queue, lambda: queue.stats().done == 1)
    queue.drain()
    worker._future.exception(30)

    assert not worker.running
    worker.stop()


def test_a_stop_by_way_of_the_store_ends_a_running_worker(queue: Queue):
    put(queue, "a")
    worker = Worker(queue, Pipeline().add("a", same)).start()
    wait_until(queue, lambda: queue.stats().done == 1)
    queue.stop()
    worker._future.exception(30)

    assert not worker.running
    worker.stop()


def test_stop_raises_what_ended_the_worker(queue: Queue, monkeypatch: pytest.MonkeyPatch):
    def broken() -> None:
        raise ValueError("a mistake of ours")

    worker = Worker(queue, Pipeline().add("a", same))
    monkeypatch.setattr(queue, "work_version", broken)
    worker.start()._future.exception(30)

    with pytest.raises(ValueError, match="a mistake of ours"):
        worker.stop()
    worker.stop()  # told once


def test_stop_says_that_the_store_was_closed_before_the_start():
    queue = SqliteQueue(None)
    queue.close()
    worker = Worker(queue, Pipeline().add("a", same)).start()
    worker._future.exception(30)

    with pytest.raises(QueueClosed):
        worker.stop()


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_worker_runs_as_a_coroutine_and_ends_when_drained(queue: Queue, backend: str):
    for number in range(3):
        put(queue, "a", "b", source=f"{number}.log")
    worker = Worker(queue, Pipeline().add("a", same), drain=True)

    anyio.run(worker.run, backend=backend)
    assert counts(queue) == (6, 0, 0, 0)
    assert queue.read("workers") == []


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_cancelled_worker_finishes_its_batch_and_leaves(queue: Queue, backend: str):
    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(Worker(queue, Pipeline().add("a", same)).run)
            await anyio.to_thread.run_sync(wait_until, queue, lambda: queue.stats().done == 1)
            tasks.cancel_scope.cancel()

    put(queue, "a")
    anyio.run(main, backend=backend)
    assert counts(queue) == (1, 0, 0, 0)
    assert queue.read("workers") == []


def test_several_workers_share_a_queue(queue: Queue, out: Path):
    lines = [f"line {number}" for number in range(200)]
    for line in lines:
        put(queue, line, source=line)
    pipeline = Pipeline().add("count", Count("source")).add("out", JsonLines())
    workers = [Worker(queue, pipeline, out=out, batch_lines=1).start() for _ in range(3)]
    wait_until(queue, lambda: queue.stats().done == 200)
    for worker in workers:
        worker.stop()

    assert sorted(written(out)) == sorted(lines)
    assert queue.pending_outputs() == []


# When it does not go well


def test_a_worker_whose_lease_ran_out_leaves_no_output(timed: SqliteQueue, clock: Clock, out: Path):
    taken: list[Lease] = []

    def dawdle(frame: pl.DataFrame) -> pl.DataFrame:
        clock.now += 100.0
        taken.append(timed.lease("other", seconds=100.0))
        return frame

    put(timed, "a", "b")
    pipeline = Pipeline().add("count", Count("line")).add("dawdle", dawdle)
    worker = Worker(timed, pipeline.add("out", JsonLines()), out=out, lease_seconds=10.0)
    outcome = worker.step()
    assert (outcome.done, outcome.filtered, outcome.dead) == (0, 0, 0)
    assert list(out.iterdir()) == []
    assert timed.stats().leased == 2
    assert timed.states(0) == {}
    timed.release(taken[0])


def test_a_processor_that_stops_pauses_the_queue_and_gives_the_batch_back(queue: Queue, out: Path):
    pipeline = Pipeline().add("count", Count("line")).add("out", JsonLines(), tee=True)
    pipeline.add("bad", each(lambda _row: 1 / 0), after="count", on_error="stop")
    batch = put(queue, "a", "b")

    with pytest.raises(ProcessorStop):
        Worker(queue, pipeline, out=out).drain()
    assert queue.control().paused_by == "worker"
    assert queue.control().reason == (
        "processor 'bad' failed on 2 lines, and its policy is to stop: "
        "ZeroDivisionError: division by zero"
    )
    assert counts(queue) == (0, 0, 0, 2)
    assert list(out.iterdir()) == []
    queue.resume()
    assert queue.lease("next").batches[0].id == batch.id


def test_a_batch_that_was_given_back_counts_as_not_delivered(queue: Queue):
    pipeline = Pipeline().add("bad", each(lambda _row: 1 / 0), on_error="stop")
    put(queue, "a")
    for _ in range(GIVE_UP_AT + 1):
        Worker(queue, pipeline).step()
        queue.resume()

    assert counts(queue) == (0, 0, 0, 1)
    assert queue.lease("next").deliveries == 1


def test_counts_are_undone_when_a_batch_is_given_back(queue: Queue):
    pipeline = Pipeline().add("count", Count("line"))
    pipeline.add("bad", each(lambda _row: 1 / 0), on_error="stop")
    put(queue, "a")
    worker = Worker(queue, pipeline)
    with worker._registered():
        worker.step()
        queue.resume()
        pipeline.add("bad", same)
        worker.step()

    assert queue.states(0) == {"count": '{"a": 1}'}


def test_a_full_disk_pauses_the_queue(queue: Queue, tmp_path: Path):
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    put(queue, "a")
    with pytest.raises(ProcessorStop):
        Worker(queue, Pipeline().add("out", JsonLines()), out=blocked).drain()

    assert queue.control().reason.startswith(f"cannot write below {str(blocked)!r}: ")
    assert counts(queue) == (0, 0, 0, 1)


def test_a_processor_that_is_replaced_is_used_for_the_next_batch(queue: Queue, out: Path):
    pipeline = Pipeline().add("mark", each(lambda _row: {"line": "old"})).add("out", JsonLines())
    put(queue, "a")
    worker = Worker(queue, pipeline, out=out).start()
    wait_until(queue, lambda: queue.stats().done == 1)
    pipeline.add("mark", each(lambda _row: {"line": "new"}))
    put(queue, "b")
    wait_until(queue, lambda: queue.stats().done == 2)
    worker.stop()

    assert written(out) == ["old", "new"]


def test_a_bad_edit_pauses_the_queue_and_a_good_one_resumes_it(queue: Queue):
    pipeline = Pipeline().add("a", same)
    worker = Worker(queue, pipeline).start()
    pipeline.add("a", same, after="nope")
    put(queue, "a")
    wait_until(queue, lambda: queue.control().paused)
    assert worker.running
    assert queue.control().reason.startswith("unknown processor 'nope' in after='nope'")

    pipeline.add("a", same, after="input")
    queue.resume()
    wait_until(queue, lambda: queue.stats().done == 1)
    worker.stop()


class Odd:
    """A processor whose state cannot be kept."""

    def __call__(self, frame: pl.DataFrame) -> pl.DataFrame:
        return frame

    def state(self) -> Any:
        return {1, 2}

    def restore(self, state: Any) -> None:
        pass


def test_an_unexpected_error_dead_letters_the_batch_and_no_other(queue: Queue, out: Path):
    pipeline = Pipeline().add("odd", Odd()).add("out", JsonLines())
    put(queue, "a", "b")
    Worker(queue, pipeline, out=out).step()
    assert dead_letters(queue)["line"].to_list() == ["a", "b"]
    assert dead_letters(queue)["code"].to_list() == ["error", "error"]
    assert dead_letters(queue)["message"][0].startswith("TypeError: ")

    put(queue, "c")
    Worker(queue, pipeline.add("odd", same), out=out).step()
    assert written(out) == ["c"]
    assert counts(queue) == (1, 0, 2, 0)


class Stubborn(Odd):
    """A processor that does not understand the state of the one it replaces."""

    def state(self) -> Any:
        return [1]

    def restore(self, state: Any) -> None:
        if state is not None and not isinstance(state, list):
            raise TypeError("not my state")


def test_a_state_that_a_new_processor_does_not_understand_kills_no_worker(queue: Queue):
    pipeline = Pipeline().add("count", Count("line"))
    put(queue, "a")
    Worker(queue, pipeline).step()
    pipeline.add("count", Stubborn())
    put(queue, "b")

    with pytest.raises(ProcessorStop, match="'count' cannot resume from its committed state"):
        Worker(queue, pipeline).drain()
    assert counts(queue) == (1, 0, 0, 1)


def test_a_row_that_cannot_be_written_as_json_is_still_a_dead_letter(queue: Queue):
    def odd(frame: pl.DataFrame) -> pl.DataFrame:
        frame = frame.with_columns(parts=pl.Series([[b"\xff"]] * frame.height))
        return reject(frame, pl.col("line") == "b", "bad", "it is b")

    put(queue, "a", "b")
    Worker(queue, Pipeline().add("odd", odd)).step()
    assert counts(queue) == (1, 0, 1, 0)
    assert dead_letters(queue)["message"].to_list() == ["it is b"]


def test_a_batch_that_kills_workers_is_cut_until_its_line_is_found(
    timed: SqliteQueue, clock: Clock
):
    put(timed, *["fine"] * 9, "killer", *["fine"] * 10)
    worker = Worker(timed, Pipeline().add("a", same), batch_lines=1)
    for _ in range(60):
        lease = timed.lease("looker", seconds=1.0)
        if lease is None:
            break
        runs = lease.deliveries < SPLIT_AT or (lease.lines == 1 and lease.deliveries < GIVE_UP_AT)
        dies = runs and "killer" in batch_of(lease).frame()["line"].to_list()
        if not dies:
            timed.release(lease)
            worker.step()
        clock.now += 2.0  # a lease that was not given back runs out

    row = dead_letters(timed).row(0, named=True)
    assert counts(timed) == (19, 0, 1, 0)
    assert (row["line"], row["line_number"], row["code"]) == ("killer", 10, "worker_lost")


def test_at_the_third_delivery_a_batch_is_cut_and_not_run(timed: SqliteQueue, clock: Clock):
    put(timed, *"abcdefgh")
    lose(timed, clock, SPLIT_AT - 1)
    seen: list[int] = []
    pipeline = Pipeline().add("see", lambda frame: seen.append(frame.height) or frame)

    Worker(timed, pipeline).step()
    assert seen == []
    assert timed.stats().waiting_batches == 8
    assert Worker(timed, pipeline).drain() == 8


def test_a_line_that_killed_four_workers_is_a_dead_letter(timed: SqliteQueue, clock: Clock):
    put(timed, "killer")
    lose(timed, clock, GIVE_UP_AT - 1)
    Worker(timed, Pipeline().add("a", same)).step()

    row = dead_letters(timed).row(0, named=True)
    assert counts(timed) == (0, 0, 1, 0)
    assert (row["line"], row["code"], row["attempts"]) == ("killer", "worker_lost", 4)
    assert row["message"] == "4 workers were lost while they had this line"


def test_a_line_that_killed_three_workers_gets_one_more_chance(timed: SqliteQueue, clock: Clock):
    put(timed, "suspect")
    lose(timed, clock, GIVE_UP_AT - 2)
    Worker(timed, Pipeline().add("a", same)).step()

    assert counts(timed) == (1, 0, 0, 0)


def test_text_that_changed_after_it_was_queued_is_a_dead_range(queue: Queue, tmp_path: Path):
    path = tmp_path / "a.log"
    path.write_text("one\ntwo\n")
    for _ in ingest(queue, FileSource("a.log", path)):
        pass
    path.write_text("ONE\ntwo\n")
    Worker(queue, Pipeline().add("a", same)).step()

    row = dead_letters(queue).row(0, named=True)
    assert counts(queue) == (0, 0, 2, 0)
    assert (row["code"], row["lines"], row["line_number"]) == ("source_changed", 2, 1)
    assert "are not the bytes that were queued" in row["message"]


@pytest.mark.parametrize("start", [b"x^2 = 4", b"x\x01y", b"\x1f\x8b\x08", b"(\xb5/\xfd"])
def test_lines_that_look_compressed_are_lines(queue: Queue, start: bytes):
    put(queue, start, "two")
    assert queue.peek()["line"].to_list()[1] == "two"
    Worker(queue, Pipeline().add("a", same)).drain()

    assert counts(queue) == (2, 0, 0, 0)


def test_a_batch_that_cannot_be_read_is_a_dead_range_and_stops_no_worker(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
):
    frame = Batch.frame

    def broken(batch: Batch, *files: FileSystem) -> pl.DataFrame:
        if isinstance(batch.payload, bytes) and b"bad" in batch.payload:
            raise OSError("cannot be decoded")
        return frame(batch, *files)

    monkeypatch.setattr(Batch, "frame", broken)
    for line in ("one", "bad", "two"):
        put(queue, line)
    Worker(queue, Pipeline().add("a", same), batch_lines=10).drain()

    row = dead_letters(queue).row(0, named=True)
    assert counts(queue) == (2, 0, 1, 0)
    assert (row["code"], row["lines"]) == ("unreadable", 1)
    assert row["message"] == "OSError: cannot be decoded"


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE payloads SET data = CAST(X'00' || substr(data, 2) AS BLOB)",
        "UPDATE payloads SET data = X''",
        "UPDATE payloads SET encoding = 'arrow'",
        "UPDATE payloads SET encoding = 'reference'",
        "UPDATE payloads SET encoding = 'future'",
        "UPDATE payloads SET encoding = 'text', data = X'610A'",
        "UPDATE batches SET context = '{'",
        "UPDATE batches SET context = '{\"colour\": 1}'",
    ],
)
def test_a_payload_that_is_damaged_is_a_dead_range_and_stops_no_worker(damage: str):
    queue = SqliteQueue(None)
    queue.put(Batch.from_lines([f"line {number}" for number in range(200)], source="a.log"))
    with queue._database.write() as db:
        db.connection.execute(damage)
    put(queue, "good")
    queue.peek()  # shows what can be read
    assert Worker(queue, Pipeline().add("a", same), batch_lines=1000).drain() == 201

    row = dead_letters(queue).row(0, named=True)
    assert counts(queue) == (1, 0, 200, 0)
    assert (row["code"], row["lines"], row["source"]) == ("unreadable", 200, "a.log")
    assert row["message"].startswith("payload cannot be read: ")
    with pytest.raises(UsageError, match=r"200 lines of 'a.log' that could not be read: payload"):
        DeadLetters(queue).replay()


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("error", [CancelledError, GeneratorExit, KeyboardInterrupt])
def test_whatever_a_processor_raises_the_worker_goes_on(
    queue: Queue, backend: str, error: type[BaseException]
):
    def picky(frame: pl.DataFrame) -> pl.DataFrame:
        if (frame["line"] == "poison").any():
            raise error
        return frame

    for line in ("one", "poison", "two"):
        put(queue, line)
    worker = Worker(queue, Pipeline().add("a", picky), batch_lines=2, drain=True)
    anyio.run(worker.run, backend=backend)
    assert counts(queue) == (2, 0, 1, 0)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_whatever_ends_a_worker_is_raised_as_an_error(queue: Queue, backend: str):
    class Staged:
        outputs = ()

        def publish(self) -> None:
            raise CancelledError

        def discard(self) -> None: ...

    class Sink:
        def stage(self, *_: object) -> Staged:
            return Staged()

    put(queue, "one")
    worker = Worker(queue, Pipeline().add("a", Sink()), drain=True, name="w")
    with pytest.raises(WorkerFailed, match="worker 'w' ended with CancelledError"):
        anyio.run(worker.run, backend=backend)
    assert counts(queue) == (1, 0, 0, 0)


def hung(queue: SqliteQueue, clock: Clock, *, lines: int) -> None:
    """Lease some lines for a worker that hangs, and is killed."""
    lease = queue.lease("lost", lines=lines)
    assert lease
    first = lease.batches[0].id
    queue.note_hang(Hang("lost", lease.token, first, lease.lines, "a", 2.0))
    clock.now += 31


def test_a_record_in_which_a_worker_hung_is_dead_at_its_next_delivery(
    timed: SqliteQueue, clock: Clock
):
    put(timed, "poison")
    hung(timed, clock, lines=1)
    Worker(timed, Pipeline().add("a", same)).drain()

    row = dead_letters(timed).row(0, named=True)
    assert counts(timed) == (0, 0, 1, 0)
    assert (row["processor"], row["code"], row["line"]) == ("a", "timeout", "poison")
    assert row["message"] == (
        "worker lost hung in processor 'a' for longer than its timeout of 2 s; killed"
    )
    assert [row["action"] for row in timed.read("errors")] == ["retried", "dead"]
    assert [(row["received"], row["dead"]) for row in timed.read("processors")] == [(1, 1)]


@pytest.mark.parametrize("together", [True, False])
def test_records_that_were_only_with_one_that_hangs_are_done(
    timed: SqliteQueue, clock: Clock, *, together: bool
):
    lines = ["one", "two", "three"]
    if together:
        timed.put(Batch.from_lines(lines))
    else:
        timed.put(*(Batch.from_lines([line]) for line in lines))
    hung(timed, clock, lines=3)
    Worker(timed, Pipeline().add("a", same)).drain()
    assert counts(timed) == (3, 0, 0, 0)


def test_a_watchdog_is_told_of_each_call_that_has_a_timeout(queue: Queue):
    watched: list[Hang] = []

    def watch(hang: Hang) -> AbstractContextManager[None]:
        watched.append(hang)
        return nullcontext()

    put(queue, "one", "two")
    pipeline = Pipeline().add("a", same, timeout=60).add("b", same)
    Worker(queue, pipeline, name="w", watchdog=watch).step()
    assert [(one.worker, one.processor, one.timeout) for one in watched] == [("w", "a", 60)]


@pytest.mark.parametrize("error", [StoreUnavailable("not now"), StoreFull("no room")])
def test_a_worker_that_starts_while_the_store_is_away_or_full_waits_for_it(
    queue: Queue, monkeypatch: pytest.MonkeyPatch, error: Exception
):
    register, away = queue.register, iter([error] * 3)

    def sometimes(name: str, *, again: bool) -> int:
        for refusal in away:
            raise refusal
        return register(name, again=again)

    monkeypatch.setattr(queue, "register", sometimes)
    put(queue, "one")
    anyio.run(Worker(queue, Pipeline().add("a", same), drain=True).run)
    assert counts(queue) == (1, 0, 0, 0)
    assert next(away, None) is None


def test_a_full_disk_is_not_held_against_a_line(queue: Queue, monkeypatch: pytest.MonkeyPatch):
    def full(*_anything: object) -> None:
        raise StoreFull("the disk is full")

    put(queue, "one")
    worker = Worker(queue, Pipeline().add("a", same))
    with monkeypatch.context() as patch:
        patch.setattr(queue, "commit", full)
        for _ in range(GIVE_UP_AT + 1):
            with pytest.raises(StoreFull):
                worker.step()
    worker.drain()
    assert counts(queue) == (1, 0, 0, 0)


class FullDisk:
    """A sink without room, at first."""

    def __init__(self, times: int) -> None:
        self.left = times

    def stage(self, frame: pl.DataFrame, _delivery: Delivery) -> StagedText:
        self.left -= 1
        if self.left >= 0:
            raise OutputFull("no room")
        return StagedText(frame["line"].to_list())


def test_a_worker_that_stays_waits_for_room_for_its_output(queue: Queue, caplog: Any):
    put(queue, "one")
    worker = Worker(queue, Pipeline().add("out", FullDisk(2))).start()
    wait_until(queue, lambda: queue.stats().done == 1)
    worker.stop()
    assert not queue.control().paused
    assert "no room; trying again" in caplog.text
    put(queue, "two")
    drains = Worker(queue, Pipeline().add("out", FullDisk(1)), drain=True)
    with pytest.raises(ProcessorStop, match="no room"):
        drains.drain()
    assert queue.control().paused, "one that only empties the queue says so and ends"


def test_a_changed_range_takes_no_other_batch_with_it(queue: Queue, tmp_path: Path):
    path = tmp_path / "a.log"
    path.write_text("one\n")
    queue.put(Batch(lines=1, payload=Reference(str(path), 0, 4, 0), source="a.log"))
    put(queue, "two", "three")

    Worker(queue, Pipeline().add("a", same)).drain()
    assert counts(queue) == (2, 0, 1, 0)
    assert dead_letters(queue)["lines"].to_list() == [1]


def test_files_that_a_killed_worker_left_unpublished_are_published_by_the_next(
    queue: Queue, out: Path
):
    batch = put(queue, "a")
    dying = Runner(Pipeline().add("out", JsonLines()), out=out)
    lease = queue.lease("dying")
    queue.commit(lease, dying.run(batch_of(lease), token=lease.token))
    assert written(out) == []

    Worker(queue, Pipeline().add("a", same), out=out).step()
    assert written(out) == ["a"]
    assert [path.name for path in out.iterdir()] == [f"{batch.id}.jsonl"]
    assert queue.pending_outputs() == []


def test_what_was_published_before_the_crash_is_noted_by_the_next_worker(queue: Queue, out: Path):
    put(queue, "a")
    dying = Runner(Pipeline().add("out", JsonLines()), out=out)
    lease = queue.lease("dying")
    queue.commit(lease, dying.run(batch_of(lease), token=lease.token))
    dying.publish()

    Worker(queue, Pipeline().add("a", same), out=out).step()
    assert written(out) == ["a"]
    assert queue.pending_outputs() == []


def test_a_lease_is_renewed_while_its_batch_runs(tmp_path: Path):
    queue = SqliteQueue(tmp_path / "store.db")
    renewed = threading.Event()
    until: list[float] = []

    def slow(frame: pl.DataFrame) -> pl.DataFrame:
        def reached() -> bool:
            until.append(queue._database.rows("SELECT until FROM batches")[0]["until"])
            return until[-1] > until[0]

        wait_until(queue, reached)
        renewed.set()
        return frame

    put(queue, "a")
    worker = Worker(queue, Pipeline().add("slow", slow), lease_seconds=0.6).start()
    assert renewed.wait(30)
    wait_until(queue, lambda: queue.stats().done == 1)
    worker.stop()
    queue.close()


def test_a_line_is_retried_by_its_policy_and_the_metrics_say_so(queue: Queue):
    tries: list[str] = []

    def flaky(row: dict[str, Any]) -> dict[str, Any]:
        tries.append(row["line"])
        if len(tries) == 1:
            raise OSError("later")
        return row

    put(queue, "a")
    pipeline = Pipeline().add("flaky", each(flaky), retry=Retry(attempts=2, wait=0.0))
    Worker(queue, pipeline).step()
    assert counts(queue) == (1, 0, 0, 0)
    (row,) = queue.read("processors")
    assert (row["errors"], row["retries"], row["dead"]) == (1, 1, 0)


def test_a_worker_with_a_pipeline_that_cannot_run_does_not_start(queue: Queue):
    worker = Worker(queue, Pipeline().add("a", same, after="none"))
    with pytest.raises(PipelineError, match="unknown processor 'none'"):
        worker.start()
    assert not worker.running
    assert not queue.control().paused


def test_ctrl_c_in_the_main_thread_costs_no_line_in_another(queue: Queue, out: Path):
    """Polars raises KeyboardInterrupt in whatever threads wait for it: it is no line's failure."""
    text = "".join(f"{n} {'x' * 60}\n" for n in range(3_000)).encode()
    for number in range(10):
        queue.put(Batch(lines=3_000, payload=text, source=f"{number}.log"))
    pipeline = Pipeline().add("split", upper("line"), when=pl.col("line").str.contains("7.*x"))
    pipeline.add("rest", None, after="input").add("end", JsonLines(), after=("split", "rest"))
    worker = Worker(queue, pipeline, out=out).start()
    hits = 0
    while not queue.stats().idle:
        queue.wait(queue.version(), 0.01)
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            hits += 1
    worker.stop()

    assert hits
    assert counts(queue) == (30_000, 0, 0, 0)


def test_a_batch_in_which_ctrl_c_is_met_is_run_again(
    queue: Queue, out: Path, monkeypatch: pytest.MonkeyPatch
):
    put(queue, "a", "b")
    calls = []

    def once(lease: Lease, files: FileSystem) -> Batch:
        calls.append(lease)
        if len(calls) == 1:
            raise KeyboardInterrupt
        return batch_of(lease, files)

    monkeypatch.setattr("etl.workers.worker.batch_of", once)
    worker = Worker(queue, Pipeline().add("end", JsonLines()), out=out).start()
    wait_until(queue, lambda: queue.stats().idle)
    worker.stop()

    assert len(calls) == 2
    assert counts(queue) == (2, 0, 0, 0)


def test_a_worker_that_ends_at_ctrl_c_gives_its_batch_back(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
):
    put(queue, "a", "b")

    def interrupted(_lease: Lease, _files: FileSystem) -> Batch:
        worker.request_stop()
        raise KeyboardInterrupt

    monkeypatch.setattr("etl.workers.worker.batch_of", interrupted)
    worker = Worker(queue, Pipeline().add("end", JsonLines()))
    worker.start()
    worker.stop()

    assert counts(queue) == (0, 0, 0, 2)
    assert queue.stats().leased == 0
