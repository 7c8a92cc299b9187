"""What every store promises: nothing lost, nothing twice, every change guarded by its lease."""

from __future__ import annotations

import gc
import os
import sqlite3
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from random import Random
from types import SimpleNamespace

import polars as pl
import pytest

from etl import Batch, Count, Pipeline, Queue, Worker, open_queue
from etl.errors import (
    IncompatibleStore,
    LeaseLost,
    OutputsChanged,
    QueueClosed,
    QueueFull,
    SourceChanged,
    SourceLocked,
    StoreError,
    StoreFull,
    StoreLost,
    UsageError,
)
from etl.execution.records import batch_of, parts_of
from etl.queue import Checkpoint, DeadLetterFilter
from etl.queue.sqlite import SqliteQueue
from etl.records.batch import Lease, Reference
from etl.records.result import (
    DEAD_LETTER_SCHEMA,
    BatchResult,
    FailureKind,
    Output,
    ProcessorStats,
    Trace,
)

FAILURE = FailureKind("f00d", "parse", "bad", "ValueError", "Traceback …", ("parse",))


def lines(count: int, *, start: int = 0) -> list[str]:
    return [f"line {number}" for number in range(start, start + count)]


def batch(count: int = 1, *, source: str = "memory", format: str | None = None) -> Batch:
    return Batch.from_lines(lines(count), source=source, format=format)


def texts(lease: Lease | None) -> list[str]:
    assert lease is not None
    return batch_of(lease).frame()["line"].to_list()


def dead_letters(lease: Lease, count: int) -> pl.DataFrame:
    """Make dead letters of the first lines of a lease."""
    given = {"failure": 0, "lines": 1, "message": "no number", "attempts": 1}
    frame = batch_of(lease).frame().head(count)
    columns = {
        name: name if name in frame.columns else pl.lit(given.get(name))
        for name in DEAD_LETTER_SCHEMA
    }
    return frame.select(**columns).cast(DEAD_LETTER_SCHEMA)


def result_of(lease: Lease, *, filtered: int = 0, dead: int = 0, **more: object) -> BatchResult:
    done = lease.lines - filtered - dead
    given = {"dead_letters": dead_letters(lease, dead), "failures": [FAILURE]} | more
    return BatchResult(done=done, filtered=filtered, dead=dead, **given)


@pytest.fixture(params=["file", "postgres"])
def shared_url(request, store_url) -> str:
    """Name a store that several may open."""
    return store_url(request.param)


def until(queue: Queue, holds: Callable[[], bool]) -> None:
    """Wait until a store says so: another process's change may take a moment to be seen."""
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline
        queue.wait(queue.version(), 0.01)


def work_off(queue: Queue) -> list[str]:
    """Lease and commit until nothing waits; return the lines in the order they were leased."""
    found: list[str] = []
    while lease := queue.lease("worker"):
        found += texts(lease)
        queue.commit(lease, result_of(lease))
    return found


# Put, lease, commit


def test_lines_come_out_as_they_went_in(queue):
    queue.put(
        Batch.from_lines(["a", "", " b ", "c\u2028d\x0be\x85f", "nul\0", "Ω"], source="app.log")
    )
    frame = batch_of(queue.lease("w")).frame()
    assert frame.schema == {"line": pl.String, "line_number": pl.Int64, "source": pl.String}
    assert frame["line"].to_list() == ["a", "", " b ", "c\u2028d\x0be\x85f", "nul\0", "Ω"]
    assert frame["line_number"].to_list() == [1, 2, 3, 4, 5, 6]
    assert frame["source"].unique().to_list() == ["app.log"]


def test_batches_are_lent_oldest_first_and_each_once(queue):
    queue.put(*(Batch.from_lines([name]) for name in "abc"))
    leases = [queue.lease("w") for _ in "abc"]
    assert [texts(lease) for lease in leases] == [["a"], ["b"], ["c"]]
    assert queue.lease("w") is None
    stats = queue.stats()
    assert (stats.accepted, stats.leased, stats.leased_batches, stats.waiting) == (3, 3, 3, 0)


def test_an_empty_batch_is_passed_over(queue):
    queue.put(Batch.from_lines([]), checkpoint=Checkpoint("empty.log", 0, 0, "head"))
    assert queue.stats().accepted == 0
    assert queue.lease("w") is None
    assert queue.checkpoint("empty.log") == Checkpoint("empty.log", 0, 0, "head")


def test_a_batch_put_twice_is_stored_once(queue, audit):
    one = batch(3)
    queue.put(one, one)
    queue.put(one)
    audit(queue)
    lease = queue.lease("w")
    queue.put(one)
    assert queue.stats().accepted == 3
    queue.commit(lease, result_of(lease))
    queue.put(one, batch(1))
    assert queue.stats().totals() == {
        **dict.fromkeys(("filtered", "dead", "leased"), 0),
        "accepted": 4,
        "done": 3,
        "waiting": 1,
    }


def test_the_parts_of_a_put_that_are_new_are_stored(queue, audit):
    first, second = batch(2), batch(3)
    queue.put(first)
    queue.put(first, second)
    audit(queue)
    assert queue.stats().accepted == 5


def test_an_id_is_known_for_an_hour_and_while_its_batch_waits(store, clock):
    queue = store()
    one, slow = batch(1), batch(2)
    queue.put(one)
    lease = queue.lease("w")
    queue.put(slow)
    clock.tick(3_601)
    queue.commit(lease, result_of(lease))  # deletes what is old
    queue.put(one, slow)
    assert queue.stats().waiting == 3, "the one is new again, the slow one still waits"


def test_a_put_with_its_checkpoint_that_took_place_may_be_sent_again(queue):
    one, checkpoint = batch(2), Checkpoint("app.log", 14, 2)
    queue.put(one, checkpoint=checkpoint, expected=None)
    queue.put(one, checkpoint=checkpoint, expected=None)
    assert queue.stats().accepted == 2
    with pytest.raises(SourceLocked):
        queue.put(batch(2), checkpoint=checkpoint, expected=None)


def test_batches_of_some_sources_are_left_to_others(queue):
    queue.put(batch(source="a"), batch(source="b"), batch(source='it\'s a "c"'))
    assert queue.lease("w", without=["a", 'it\'s a "c"']).batches[0].source == "b"
    assert queue.lease("w", without=["a", 'it\'s a "c"']) is None
    assert queue.lease("w", without=["a"]).batches[0].source == 'it\'s a "c"'
    assert queue.lease("w").batches[0].source == "a"


def test_one_line_and_fifty_thousand_go_the_same_way(queue, audit):
    queue.put(batch(50_000, source="big"))
    queue.put(Batch.from_lines(["button"], source="click"))
    audit(queue)
    big = queue.lease("w")
    assert big.lines == 50_000
    assert texts(big)[-1] == "line 49999"
    assert texts(queue.lease("w")) == ["button"]
    queue.commit(big, result_of(big))
    assert queue.stats().done == 50_000


def test_the_position_moves_with_the_put(queue):
    assert queue.checkpoint("a.log") is None
    queue.put(batch(2), checkpoint=Checkpoint("a.log", 14, 2, "head"))
    queue.put(checkpoint=Checkpoint("a.log", 21, 3, "head"))
    assert queue.checkpoint("a.log") == Checkpoint("a.log", 21, 3, "head")
    assert [row["source"] for row in queue.read("checkpoints")] == ["a.log"]


def test_a_put_that_is_refused_moves_no_position(store):
    queue = store(max_lines=2)
    queue.put(batch(2), checkpoint=Checkpoint("a.log", 14, 2))
    with pytest.raises(QueueFull):
        queue.put(batch(1), checkpoint=Checkpoint("a.log", 21, 3), block=False)
    assert queue.checkpoint("a.log").line_number == 2


def test_a_commit_keeps_all_of_the_result(queue, audit):
    queue.put(batch(10))
    slot = queue.register("w")
    lease = queue.lease("w")
    trace = Trace(
        pl.DataFrame({"line": ["x"], "line_number": [1], "state": ["done"], "path": [0]}),
        [[("parse", 0.5)]],
    )
    out = result_of(
        lease,
        filtered=2,
        dead=3,
        processor_stats={
            "parse": ProcessorStats(received=10, emitted=5, filtered=2, dead=3, seconds=0.1)
        },
        errors=[("parse", "ValueError", "no number", 3, "dead")],
        states={"count": '{"INFO": 5}'},
        outputs=[Output("part.tmp", "part.parquet")],
        trace=trace,
        slot=slot,
    )
    queue.commit(lease, out)
    stats = queue.stats()
    assert (stats.done, stats.filtered, stats.dead, stats.idle) == (5, 2, 3, True)
    kinds = ("processors", "latency", "processor_history", "errors", "traces")
    assert {kind: len(queue.read(kind)) for kind in kinds} == dict.fromkeys(kinds, 1)
    last = queue.read("queue_history")[-1]  # one for each second in which something changed
    assert (last["accepted"], last["done"]) == (10, 5)
    assert queue.states(slot) == {"count": '{"INFO": 5}'}
    assert queue.pending_outputs() == [Output("part.tmp", "part.parquet")]
    audit(queue)


def broken_output(lease: Lease) -> BatchResult:
    return result_of(lease, dead=1, outputs=[Output("same.tmp", "a"), Output("same.tmp", "b")])


def broken_slot(lease: Lease) -> BatchResult:
    return result_of(lease, dead=1, states={"count": "{}"}, slot=7)


def broken_letters(lease: Lease) -> BatchResult:
    return result_of(lease, dead=1, failures=[])


@pytest.mark.parametrize("broken", [broken_output, broken_slot, broken_letters])
def test_a_commit_that_fails_changes_nothing(queue, contents, broken):
    queue.put(batch(3))
    queue.register("w")
    lease = queue.lease("w")
    before = contents(queue)
    with pytest.raises((StoreError, LeaseLost, IndexError)):
        queue.commit(lease, broken(lease))
    assert contents(queue) == before
    queue.commit(lease, result_of(lease))
    assert queue.stats().done == 3


def test_a_batch_is_committed_once(queue, contents):
    queue.put(batch(3))
    lease = queue.lease("w")
    queue.commit(lease, result_of(lease, dead=1))
    before = contents(queue)
    with pytest.raises(LeaseLost, match="'w' lost its lease on batch"):
        queue.commit(lease, result_of(lease, dead=1))
    assert contents(queue) == before


def test_outputs_are_listed_until_they_are_published(queue):
    queue.put(batch())
    lease = queue.lease("w")
    outputs = [Output("a.tmp", "a"), Output("b.tmp", "b")]
    queue.commit(lease, result_of(lease, outputs=outputs))
    queue.mark_published(outputs[:1])
    assert queue.pending_outputs() == outputs[1:]
    assert queue.outputs() == [Output("a", "a"), outputs[1]]


def commit_outputs(queue: Queue, *names: str) -> list[Output]:
    """Commit a batch of two lines for each output, and publish them; return them as known."""
    for name in names:
        queue.put(Batch.from_lines(lines(2), source=f"{name}.log"))
        lease = queue.lease("w")
        outputs = [Output(f"{name}.tmp", name, 10, 7)]
        queue.commit(lease, result_of(lease, outputs=outputs))
        queue.mark_published(outputs)
    return queue.outputs()


def test_outputs_are_replaced_by_others_which_are_pending_or_published(queue):
    old = commit_outputs(queue, "a", "b", "c")
    joined = Output("joined.tmp", "joined", 20, 8)
    queue.replace_outputs(old[:2], [joined])
    assert queue.outputs() == [old[2], joined]
    assert queue.pending_outputs() == [joined]
    queue.mark_published([joined])
    queue.replace_outputs(old[2:], [Output("moved", "moved", 10, 7)])
    assert queue.outputs() == [Output("joined", "joined", 20, 8), Output("moved", "moved", 10, 7)]
    assert queue.pending_outputs() == []
    rows = queue._database.rows(
        "SELECT final, source, lines FROM outputs WHERE replaced_at IS NULL ORDER BY final"
    )
    assert [tuple(row.values()) for row in rows] == [("joined", "", 4), ("moved", "c.log", 2)]


def test_outputs_are_forgotten(queue):
    old = commit_outputs(queue, "a", "b")
    queue.replace_outputs(old, [])
    assert queue.outputs() == []
    queue.replace_outputs([], [])


def test_what_waits_for_a_target_is_counted_and_why(queue, tmp_path):
    folder = ".spool/lines-1"
    for rooted in (False, True):
        if rooted and not queue.url.endswith(".db"):  # others keep whole paths
            break
        if rooted:
            queue.use_output_root(tmp_path)
        name = tmp_path / folder / f"{rooted}.arrow"
        old = commit_outputs(queue, str(name))
        queue.note_target(folder, "db lines", "refused")
        since = queue.targets()[0].since
        queue.note_target(folder, "db lines", "still refused")
        (found,) = queue.targets()
        assert (found.spool, found.name) == (folder, "db lines")
        assert (found.files, found.lines, found.bytes) == (1, 2, 10)
        assert (found.since, found.error) == (since, "still refused")
        assert found.failed_at >= found.since
        assert since
        queue.note_target(folder, "db lines", "")
        (found,) = queue.targets()
        assert (found.since, found.error) == (None, "")
        queue.replace_outputs(old, [])
        assert queue.targets() == []


def test_outputs_that_another_has_replaced_are_not_replaced_again(queue, contents):
    old = commit_outputs(queue, "a", "b", "c")
    queue.replace_outputs(old[:2], [Output("first", "first")])
    before = contents(queue)
    with pytest.raises(OutputsChanged, match=r"1 of 2 outputs .*; nothing was changed"):
        queue.replace_outputs(old[1:], [Output("second", "second")])
    assert contents(queue) == before


def test_of_two_that_replace_outputs_at_once_one_wins(shared_url):
    with closing(open_queue(shared_url)) as queue, closing(open_queue(shared_url)) as other:
        old = commit_outputs(queue, "a", "b")

        def replace(queue: Queue, name: str, outputs: list[Output]) -> bool:
            try:
                queue.replace_outputs(outputs, [Output(name, name)])
            except OutputsChanged:
                return False
            return True

        with ThreadPoolExecutor(2) as pool:
            won = [
                pool.submit(replace, queue, "x", old),
                pool.submit(replace, other, "y", old[::-1]),
            ]
            assert sorted(one.result() for one in won) == [False, True]
        assert len(queue.outputs()) == 1


def test_replaced_outputs_are_known_until_they_are_forgotten(store, clock):
    queue = store()
    old = commit_outputs(queue, "a", "b", "c")
    queue.replace_outputs(old[:1], [Output("x", "x")])
    clock.tick(10)
    queue.replace_outputs(old[1:2], [Output("y", "y")])
    assert queue.replaced_outputs() == old[:2]
    assert queue.replaced_outputs(older_than=10) == old[:1]
    queue.forget_replaced(old)
    assert queue.replaced_outputs() == []
    assert [one.final for one in queue.outputs()] == ["c", "x", "y"]


# Data sets


def test_the_first_to_name_a_column_says_its_type(queue):
    here, there = Path("/out/here"), Path("/out/there")
    assert queue.agree_on_columns(here, {"a": "Int64", "b": "Null"}) == {"a": "Int64", "b": "Null"}
    columns = {"a": "String", "b": "Date", "c": "Float64"}
    agreed = {"a": "Int64", "b": "Date", "c": "Float64"}
    assert queue.agree_on_columns(here, columns) == agreed
    assert queue.agree_on_columns(here, {"b": "Null"}) == agreed
    assert list(queue.agree_on_columns(here, {})) == ["a", "b", "c"]
    assert queue.agree_on_columns(there, {"a": "String"}) == {"a": "String"}
    assert queue.data_sets() == {here: agreed, there: {"a": "String"}}


def test_a_type_is_changed_while_no_worker_runs(queue):
    here = Path("/out/here")
    queue.agree_on_columns(here, {"amount": "Int64", "b": "Date"})
    queue.register("w")
    with pytest.raises(UsageError, match=r"worker 'w' writes below '/out/here'; stop"):
        queue.set_column_types(here, {"amount": "Float64"})
    queue.unregister("w")
    with pytest.raises(UsageError, match=r"has no column 'amuont'; did you mean 'amount'"):
        queue.set_column_types(here, {"amuont": "Float64"})
    queue.set_column_types(here, {"amount": "Float64"})
    assert queue.data_sets() == {here: {"amount": "Float64", "b": "Date"}}


def test_of_many_that_name_a_column_at_once_all_get_one_type(shared_url):
    types = ["Int64", "Float64", "String", "Date"]
    queues = [open_queue(shared_url) for _ in types]
    try:
        with ThreadPoolExecutor(len(types)) as pool:
            asked = [
                pool.submit(queue.agree_on_columns, Path("/out"), {"a": type, f"own_{type}": type})
                for queue, type in zip(queues, types, strict=True)
            ]
            found = [one.result() for one in asked]
        assert len({one["a"] for one in found}) == 1
        assert len(queues[0].data_sets()[Path("/out")]) == 5
    finally:
        for queue in queues:
            queue.close()


# Leases


def split(queue, lease):
    queue.split(lease, parts_of(lease))


def late_commit(queue, lease):
    queue.commit(lease, result_of(lease, dead=1))


@pytest.mark.parametrize("late", [late_commit, SqliteQueue.renew, SqliteQueue.release, split])
@pytest.mark.parametrize("count", [1, 2])
def test_a_lease_that_ran_out_changes_nothing(store, clock, contents, late, count):
    queue = store()
    queue.put(*(batch(3) for _ in range(count)))
    old = queue.lease("slow", lines=6, seconds=10)
    assert len(old.batches) == count
    clock.tick(10.5)
    new = queue.lease("quick", seconds=10)
    assert new.deliveries == 2
    before = contents(queue)
    with pytest.raises(LeaseLost, match="'slow' lost its lease"):
        late(queue, old)
    assert contents(queue) == before
    queue.commit(new, result_of(new))


def test_a_lease_that_went_to_no_one_else_is_still_good(store, clock):
    queue = store()
    queue.put(batch(2))
    lease = queue.lease("slow", seconds=10)
    clock.tick(100)
    queue.commit(lease, result_of(lease))
    assert queue.stats().done == 2


def test_a_renewed_lease_is_not_lent_again(store, clock):
    queue = store()
    queue.put(batch(2))
    lease = queue.lease("slow", seconds=10)
    clock.tick(9)
    queue.renew(lease, seconds=10)
    clock.tick(9)
    assert queue.lease("quick") is None
    clock.tick(2)
    assert queue.lease("quick").deliveries == 2


def test_a_released_batch_waits_again_and_the_delivery_does_not_count(queue, audit):
    queue.put(batch(2))
    queue.release(queue.lease("a"))
    assert queue.stats().waiting == 2
    audit(queue)
    assert queue.lease("b").deliveries == 1


def test_a_batch_released_with_a_delay_is_lent_after_it(store, clock):
    queue = store()
    queue.put(Batch.from_lines(["first"]), Batch.from_lines(["second"]))
    queue.release(queue.lease("w"), delay=5)
    assert texts(queue.lease("w")) == ["second"]
    clock.tick(4.5)
    assert queue.lease("w") is None
    clock.tick(0.5)
    assert texts(queue.lease("w")) == ["first"]


def test_small_batches_of_one_source_and_format_are_lent_together_in_order(queue):
    names = ["a", "a", "b", "a", "a"]
    formats = [None, None, None, "json", None]
    for number, (name, format) in enumerate(zip(names, formats, strict=True)):
        queue.put(Batch.from_lines([str(number)], source=name, format=format))
    found = []
    while lease := queue.lease("w", lines=10):
        found.append(texts(lease))
    assert found == [["0", "1"], ["2"], ["3"], ["4"]]


def test_a_lease_covers_no_more_lines_than_are_wanted_but_always_a_whole_batch(queue):
    queue.put(batch(3), batch(3), batch(3), batch(9))
    sizes = [queue.lease("w", lines=7).lines for _ in range(3)]
    assert sizes == [6, 3, 9]
    assert queue.lease("w", lines=7) is None


def test_batches_lent_together_keep_their_line_numbers_and_go_together(queue, audit):
    first, second = batch(2), Batch(lines=2, payload=b"c\nd", source="memory", first_line=41)
    queue.put(first, second)
    lease = queue.lease("w", lines=10)
    assert batch_of(lease).id == first.id
    assert batch_of(lease).frame()["line_number"].to_list() == [1, 2, 41, 42]
    assert batch_of(lease).lines == lease.lines == 4
    queue.commit(lease, result_of(lease, dead=1))
    audit(queue)
    assert queue.stats().idle


def test_a_batch_that_was_lent_before_goes_alone(store, clock):
    queue = store()
    queue.put(batch(), batch(), batch())
    assert len(queue.lease("killed", lines=2, seconds=1).batches) == 2
    clock.tick(2)
    counts = [
        (len(one.batches), one.deliveries) for one in iter(lambda: queue.lease("w", lines=9), None)
    ]
    assert counts == [(1, 2), (1, 2), (1, 1)]


def test_parts_of_a_split_batch_go_alone_even_behind_new_ones(queue):
    queue.put(batch(2), batch(1))
    lease = queue.lease("w")
    queue.split(lease, parts_of(lease))
    leases = list(iter(lambda: queue.lease("w", lines=9), None))
    assert [(len(lease.batches), lease.deliveries) for lease in leases] == [(1, 1), (1, 2), (1, 2)]


def test_deliveries_count_every_worker_that_never_came_back(store, clock):
    queue = store()
    queue.put(batch())
    seen = []
    for _ in range(4):
        seen.append(queue.lease("w", seconds=1).deliveries)
        clock.tick(1.5)
    assert seen == [1, 2, 3, 4]


def test_a_split_batch_comes_back_in_parts_with_its_lines_and_numbers(queue, audit):
    queue.put(
        Batch(lines=10, payload=b"".join(b"%d\n" % n for n in range(10)), source="s", first_line=7)
    )
    lease = queue.lease("w")
    queue.split(lease, parts_of(lease, 3))
    audit(queue)
    leases = [queue.lease("w") for _ in range(3)]
    assert [lease.lines for lease in leases] == [4, 4, 2]
    assert [lease.deliveries for lease in leases] == [2, 2, 2]
    frame = pl.concat(batch_of(lease).frame() for lease in leases)
    assert frame["line"].to_list() == [str(n) for n in range(10)]
    assert frame["line_number"].to_list() == list(range(7, 17))


def test_a_payload_lives_until_its_last_part_is_gone(queue, audit):
    queue.put(batch(4))
    lease = queue.lease("w")
    queue.split(lease, parts_of(lease, 4))
    left = []
    while lease := queue.lease("w"):
        assert texts(lease)
        queue.commit(lease, result_of(lease))
        left.append(queue._database.rows("SELECT count(*) AS n FROM payloads")[0]["n"])
        audit(queue)
    assert left == [1, 1, 1, 0]


def test_the_parts_of_a_batch_weigh_no_more_than_it_did(queue):
    queue.put(batch(80))
    before = queue.stats().waiting_bytes
    lease = queue.lease("w")
    queue.split(lease, parts_of(lease, 8))
    assert queue.stats().waiting_bytes <= before


def test_splitting_a_lease_of_several_batches_and_of_one_line_loses_nothing(queue):
    queue.put(Batch.from_lines(["a"]), Batch.from_lines(["b", "c"]))
    lease = queue.lease("w", lines=3)
    queue.split(lease, parts_of(lease))
    assert queue.stats().waiting_batches == 3
    assert work_off(queue) == ["a", "b", "c"]


def test_split_parts_count_with_the_age_of_their_batch(store, clock):
    queue = store()
    queue.put(batch(2))
    clock.tick(50)
    queue.put(Batch.from_lines(["later"]))
    lease = queue.lease("w")
    queue.split(lease, parts_of(lease))
    clock.tick(10)
    assert queue.stats().oldest_age == 60.0


def test_reclaim_takes_back_what_a_dead_process_held(shared_url, audit):
    queue = open_queue(shared_url)
    queue.put(batch(2), batch(3))
    queue.register("here")
    mine = queue.lease("here")
    script = (
        "import os, sys, etl; queue = etl.open_queue(sys.argv[1]); queue.register('killed');"
        "print(queue.lease('killed', seconds=1e6).token, flush=True); os._exit(9)"
    )
    command = [sys.executable, "-c", script, queue.secret_url]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert queue.stats().waiting == 0
    assert queue.reclaim() == [done.stdout.strip()]
    assert [row["name"] for row in queue.read("workers")] == ["here"]
    assert queue.stats().waiting == 3
    again = queue.lease("here")
    assert again.deliveries == 2
    queue.commit(mine, result_of(mine))
    queue.commit(again, result_of(again))
    audit(queue)
    queue.close()


def test_reclaim_leaves_the_living_alone(queue, contents):
    queue.put(batch())
    queue.register("here")
    queue.lease("here")
    before = contents(queue)
    assert queue.reclaim() == []
    assert contents(queue) == before


# Limits


@pytest.mark.parametrize("limits", [{"max_lines": 10}, {"max_bytes": 70}])
def test_a_full_queue_refuses_and_names_the_limit(store, limits):
    queue = store(**limits)
    queue.put(batch(10))
    with pytest.raises(QueueFull, match="10 lines waiting, its limit; wait for workers"):
        queue.put(batch(1), block=False)
    with pytest.raises(QueueFull):
        queue.put(batch(1), timeout=0)
    assert queue.stats().accepted == 10
    queue.lease("w")
    queue.put(batch(1), block=False)


def test_an_empty_queue_takes_a_batch_over_its_limit(store):
    queue = store(max_lines=10)
    queue.put(batch(50), block=False)
    assert queue.stats().waiting == 50


def test_a_batch_that_waits_already_needs_no_room(store):
    queue = store(max_lines=3)
    one = batch(3)
    queue.put(one)
    queue.put(one, block=False)
    assert queue.stats().accepted == 3


def test_a_put_into_a_full_queue_waits_for_room(store):
    queue = store(max_lines=4)
    queue.put(batch(4))
    stored = threading.Event()
    thread = threading.Thread(target=lambda: (queue.put(batch(2)), stored.set()))
    thread.start()
    assert not stored.wait(0.1)
    assert queue.stats().waiting == 4
    lease = queue.lease("w")
    assert stored.wait(10)
    thread.join()
    queue.commit(lease, result_of(lease))
    assert queue.stats().waiting == 2


def test_a_replay_goes_past_the_limit(store):
    queue = store(max_lines=2)
    queue.put(batch(2))
    lease = queue.lease("w")
    queue.commit(lease, result_of(lease, dead=2))
    queue.put(batch(2))
    queue.replay([1, 2], [Batch.from_lines(["a", "b"])])
    assert queue.stats().waiting == 4


# Steering


def test_a_paused_queue_lends_nothing_until_it_is_resumed(queue):
    queue.put(batch())
    queue.pause("someone looks")
    assert queue.lease("w") is None
    assert queue.stats().paused
    assert (queue.control().paused, queue.control().reason) == (True, "someone looks")
    queue.resume()
    assert (queue.control().paused, queue.control().reason) == (False, "")
    assert queue.lease("w") is not None


def test_who_paused_a_queue_and_why_are_two_facts(queue):
    queue.pause("someone looks")
    assert (queue.control().paused_by, queue.control().failure) == ("operator", "")
    queue.pause("the disk is full", by="worker")
    assert (queue.control().paused_by, queue.control().failure) == ("worker", "the disk is full")
    queue.resume()
    assert (queue.control().paused_by, queue.control().failure) == (None, "")


def test_a_step_lets_that_many_through_a_pause(queue):
    queue.put(batch(), batch(), batch(), batch())
    queue.step()
    queue.pause()
    assert queue.lease("w") is None, "a step before the pause has no meaning after it"
    queue.step(2)
    assert queue.lease("w") is not None
    queue.step()
    assert [queue.lease("w") is not None for _ in range(3)] == [True, True, False]


def test_a_pause_is_kept_and_seen_by_others(shared_url):
    first, second = open_queue(shared_url), open_queue(shared_url)
    first.put(batch())
    first.pause("night")
    until(second, lambda: second.control().paused)
    assert second.lease("w") is None
    first.close()
    second.close()
    again = open_queue(shared_url)
    assert again.control().reason == "night"
    again.close()


def test_asking_to_drain_and_to_stop_is_counted(queue):
    queue.drain()
    queue.stop()
    queue.stop()
    control = queue.control()
    assert (control.drains, control.stops, control.paused) == (1, 2, False)


def test_a_commit_during_a_pause_counts(queue):
    queue.put(batch(2))
    lease = queue.lease("w")
    queue.pause()
    queue.renew(lease)
    queue.commit(lease, result_of(lease))
    assert queue.stats().done == 2


def test_peek_shows_the_first_waiting_lines(store, clock):
    queue = store()
    queue.put(Batch.from_lines(["leased"]))
    queue.lease("w")
    first, second = batch(2, source="a"), batch(5, source="b", format="json")
    queue.put(first, second)
    frame = queue.peek(4)
    assert frame.columns == ["batch", "put_at", "source", "line_number", "line", "format"]
    assert frame["batch"].to_list() == [first.id] * 2 + [second.id] * 2
    assert frame["line"].to_list() == ["line 0", "line 1"] * 2
    assert frame["format"].to_list() == [None, None, "json", "json"]
    assert frame["put_at"].unique().to_list() == [clock.now]
    assert queue.peek(0).schema == frame.schema
    assert queue.peek().height == 7
    assert queue.peek(leased=True)["line"].to_list() == ["leased"]


def test_stats_tell_sizes_and_the_oldest_age(store, clock):
    queue = store()
    assert queue.stats().idle
    queue.put(Batch.from_lines(["abc", "de"]))
    clock.tick(7)
    queue.put(Batch.from_lines(["f"]))
    stats = queue.stats()
    assert (stats.waiting_batches, stats.waiting_bytes, stats.oldest_age) == (2, 9, 7.0)
    queue.lease("w")
    stats = queue.stats()
    assert (stats.waiting_bytes, stats.oldest_age, stats.leased_batches) == (2, 0.0, 1)
    assert not stats.idle


def test_a_lease_lasts_as_long_after_the_clock_was_set_back(store, clock):
    queue = store()
    queue.put(batch())
    clock.tick(7200)
    assert queue.lease("dead", seconds=30)
    clock.tick(-7200)
    assert queue.lease("w") is None
    clock.tick(29)
    assert queue.lease("w") is None
    clock.tick(2)
    assert queue.lease("w").deliveries == 2


def test_a_lease_that_is_renewed_outlasts_a_clock_that_is_set_back(store, clock):
    queue = store()
    queue.put(batch())
    lease = queue.lease("w", seconds=30)
    clock.tick(-7200)
    queue.renew(lease, seconds=600)
    clock.tick(590)
    assert queue.lease("other") is None
    queue.commit(lease, result_of(lease))


def test_a_worker_heard_of_before_the_clock_was_set_back_is_silent_after_a_minute(store, clock):
    queue = store()
    clock.tick(7200)
    queue.register("dead")
    clock.tick(-7200)
    assert queue.register("a") == 1
    clock.tick(61)
    queue.heartbeat("a")
    assert queue.register("b") == 0


# Workers and their slots


def test_a_worker_gets_the_lowest_free_slot(store, clock):
    queue = store()
    assert [queue.register(name) for name in "abc"] == [0, 1, 2]
    queue.unregister("b")
    assert queue.register("d") == 1
    assert queue.register("a", again=True) == 0
    clock.tick(59)
    queue.heartbeat("c")
    clock.tick(2)
    assert queue.register("e") == 0
    assert {row["name"]: row["batch"] for row in queue.read("workers")} == {
        "c": None,
        "e": None,
    }


def test_what_a_worker_could_not_give_back_waits_once_it_has_ended(queue):
    queue.put(Batch.from_lines(["one", "two"]))
    queue.register("a")
    lease = queue.lease("a")
    queue.unregister("a")

    assert (queue.stats().waiting, queue.stats().leased) == (2, 0)
    with pytest.raises(LeaseLost):
        queue.renew(lease)
    again = queue.lease("b")
    assert (again.lines, again.deliveries) == (2, 1)
    assert queue.stats().conserved


def test_a_name_is_of_one_live_worker_only(store, clock):
    queue = store()
    queue.register("same")
    here = {row["pid"]: row["host"] for row in queue.read("workers")}
    said = f"worker 'same' runs already \\(process {os.getpid()} on host {here[os.getpid()]}\\)"
    with pytest.raises(UsageError, match=said):
        queue.register("same")
    queue.register("same", again=True)
    queue.unregister("same")
    queue.register("same")
    clock.tick(61)
    queue.register("same")


def test_the_name_of_a_process_that_was_killed_is_free(shared_url):
    script = (
        "import os, sys, etl; queue = etl.open_queue(sys.argv[1]); queue.register('same');"
        "os._exit(9)"
    )
    with closing(open_queue(shared_url)) as queue:
        subprocess.run([sys.executable, "-c", script, queue.secret_url], check=False)
        assert [row["name"] for row in queue.read("workers")] == ["same"]
        assert queue.register("same") == 0


def test_a_second_worker_of_a_name_is_refused_when_it_starts(queue, tmp_path):
    pipeline = Pipeline("p").add("count", Count("line"))
    first = Worker(queue, pipeline, name="same", out=tmp_path).start()
    second = Worker(queue, pipeline, name="same", out=tmp_path)
    with pytest.raises(UsageError, match="worker 'same' runs already"):
        second.start()
    with pytest.raises(UsageError, match="give another name"):
        second.step()
    assert [row["name"] for row in queue.read("workers")] == ["same"]
    first.stop()
    second.start().stop()
    assert queue.read("workers") == []


def test_states_are_kept_only_from_the_worker_that_has_the_slot(store, clock, contents):
    queue = store()
    queue.put(batch(), batch())
    slot = queue.register("asleep")
    lease = queue.lease("asleep", seconds=1e6)
    clock.tick(61)
    assert queue.register("awake") == slot
    before = contents(queue)
    with pytest.raises(LeaseLost, match="'asleep' no longer has slot 0"):
        queue.commit(lease, result_of(lease, states={"count": "1"}, slot=slot))
    assert contents(queue) == before
    mine = queue.lease("awake")
    queue.commit(mine, result_of(mine, states={"count": "2"}, slot=slot))
    assert queue.states(slot) == {"count": "2"}
    assert queue.states(slot + 1) == {}


def test_a_worker_shows_the_batch_it_works_on(queue):
    queue.put(batch())
    queue.register("w")
    lease = queue.lease("w")
    assert [row["batch"] for row in queue.read("workers")] == [lease.batches[0].id]
    queue.commit(lease, result_of(lease))
    assert [row["batch"] for row in queue.read("workers")] == [None]


def test_a_worker_takes_what_waits_step_by_step(queue, tmp_path):
    queue.put(batch(2), batch(3, source="other"))
    worker = Worker(queue, Pipeline("p").add("pass", None), out=tmp_path)
    assert worker.step().done == 2
    assert queue.stats().waiting == 3
    assert worker.drain() == 3
    assert worker.step() is None
    assert queue.read("workers") == []


def ended(worker: Worker) -> bool:
    """Wait until a worker's thread has ended by itself."""
    worker._future.exception(20)
    return not worker.running


def test_asking_to_drain_ends_a_worker_once_nothing_waits(queue, tmp_path):
    queue.pause()
    queue.put(*(batch(2, source=name) for name in "abc"))
    worker = Worker(queue, Pipeline("p").add("pass", None), out=tmp_path, name="w").start()
    while worker._runner is None:
        queue.wait(queue.version(), 0.01)
    queue.drain()
    queue.resume()
    assert ended(worker)
    worker.stop()
    assert queue.stats().done == 6


def test_asking_to_stop_ends_a_worker_and_leaves_what_waits(queue, tmp_path):
    queue.pause()
    queue.put(batch(2))
    worker = Worker(queue, Pipeline("p").add("pass", None), out=tmp_path, name="w").start()
    while worker._runner is None:
        queue.wait(queue.version(), 0.01)
    queue.stop()
    assert ended(worker)
    worker.stop()
    assert queue.stats().waiting == 2
    assert queue.read("workers") == []


def test_a_worker_that_lost_its_slot_in_its_sleep_goes_on_with_another(store, clock, tmp_path):
    queue = store()
    worker = Worker(queue, Pipeline("p").add("count", Count("line")), out=tmp_path)
    with worker._registered():
        clock.tick(61)
        assert queue.register("other") == 0
        queue.put(batch())
        for _ in range(6):
            worker._heartbeat()
            worker.step()
            clock.tick(31)
    stats = queue.stats()
    assert (stats.done, stats.dead) == (1, 0)


# Payloads


def reference(path: Path, start: int, stop: int, **more: object) -> Batch:
    data = path.read_bytes()[start:stop]
    ref = Reference(str(path), start, stop, zlib.crc32(data))
    return Batch(lines=data.count(b"\n"), payload=ref, source=path.name, **more)


def test_a_reference_is_read_when_it_is_worked_on(queue, tmp_path):
    path = tmp_path / "a.log"
    path.write_text("a\nb\nc\n")
    queue.put(reference(path, 2, 6, first_line=2))
    frame = batch_of(queue.lease("w")).frame()
    assert frame["line"].to_list() == ["b", "c"]
    assert frame["line_number"].to_list() == [2, 3]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda path: path.write_text("a\nX\nc\n"), "bytes 2 to 6 .* are not the bytes that were"),
        (lambda path: path.write_text("a\n"), "bytes 2 to 6 .* are not the bytes that were queued"),
        (lambda path: path.unlink(), "a.log' cannot be read on this machine: No such file"),
    ],
    ids=["changed", "cut", "gone"],
)
def test_a_file_that_changed_is_never_processed_silently(queue, tmp_path, change, message):
    path = tmp_path / "a.log"
    path.write_text("a\nb\nc\n")
    queue.put(reference(path, 2, 6))
    change(path)
    with pytest.raises(SourceChanged, match=message):
        batch_of(queue.lease("w")).frame()
    assert queue.peek().height == 0


def test_one_changed_range_leaves_the_others_of_its_file_alone(queue, tmp_path):
    path = tmp_path / "a.log"
    path.write_text("a\nb\nc\nd\n")
    queue.put(reference(path, 0, 4), reference(path, 4, 8, first_line=3))
    path.write_text("a\nb\nc\nX\n")
    Worker(queue, Pipeline("p").add("pass", None), out=tmp_path / "out").drain()
    stats = queue.stats()
    assert (stats.done, stats.dead) == (2, 2)


@pytest.mark.parametrize("padding", [0, 600])
def test_bytes_that_are_not_utf8_are_kept(queue, padding):
    odd = [b"good", b"caf\xe9", b"\xff\xfe" + b"x" * padding, "Ω".encode()]
    queue.put(Batch.from_lines(odd))
    frame = batch_of(queue.lease("w")).frame()
    assert frame["line"].to_list() == ["good", "caf\\xe9", "\\xff\\xfe" + "x" * padding, "Ω"]
    assert frame["raw"].to_list() == [None, odd[1], odd[2], None]


def test_the_bytes_of_a_dead_line_are_kept_with_it(queue):
    queue.put(Batch.from_lines([b"caf\xe9"]))
    lease = queue.lease("w")
    queue.commit(lease, result_of(lease, dead=1))
    assert queue._database.rows("SELECT raw FROM dead_letters")[0]["raw"] == b"caf\xe9"


@pytest.mark.parametrize("line", ["a\nb", "a\nb\n", "\na", "a\r\nb"])
def test_a_line_with_line_breaks_inside_is_one_record_of_several_lines(queue, line):
    queue.put(Batch.from_lines(["before", line, "after"]))
    assert queue.stats().accepted == 4
    lease = queue.lease("w")
    frame = batch_of(lease).frame()
    assert frame["line"].to_list() == ["before", line.removesuffix("\n"), "after"]
    assert frame["line_number"].to_list() == [1, 2, 4]
    assert frame["line_count"].to_list() == [1, 2, 1]


@pytest.mark.parametrize("ending", ["", "\n", "\r\n"])
def test_the_end_of_a_line_does_not_matter(queue, ending):
    queue.put(Batch.from_lines([f"a{ending}", f"{ending}"]))
    assert texts(queue.lease("w")) == ["a", ""]


# Waiting for work


def test_wait_tells_whether_anything_changed(queue):
    since = queue.version()
    assert queue.wait(since, 0.01) is False
    queue.put(batch())
    assert queue.wait(since, 0) is True
    assert queue.wait(queue.version(), 0) is False


def test_wait_is_woken_by_another_thread(queue):
    with ThreadPoolExecutor(1) as pool:
        woken = pool.submit(queue.wait, queue.version(), 20)
        queue.put(batch())
        assert woken.result() is True


def test_wait_is_woken_by_another_opening(shared_url):
    reader, writer = open_queue(shared_url), open_queue(shared_url)
    with ThreadPoolExecutor(1) as pool:
        woken = pool.submit(reader.wait, reader.version(), 20)
        writer.put(batch())
        assert woken.result() is True
    assert reader.lease("w") is not None
    reader.close()
    writer.close()


def test_closing_ends_a_wait(shared_url):
    other = open_queue(shared_url)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(other.wait, other.version(), 20)
        other.close()
        with pytest.raises(QueueClosed):
            waiting.result()


@pytest.mark.parametrize("ask", ["put", "resume", "step", "drain", "stop", "release", "replay"])
def test_who_waits_for_work_is_woken_by_what_another_does(shared_url, ask):
    with closing(open_queue(shared_url)) as worker, closing(open_queue(shared_url)) as other:
        if ask in ("release", "replay"):
            other.put(batch(1))
            lease = other.lease("other")
        if ask == "replay":
            other.commit(lease, result_of(lease, dead=1))
            (id,) = other.dead_letters(DeadLetterFilter())["id"]
        does = {
            "put": lambda: other.put(batch()),
            "release": lambda: other.release(lease),
            "replay": lambda: other.replay([id], [batch()]),
        }
        with ThreadPoolExecutor(1) as pool:
            woken = pool.submit(worker.wait_for_work, worker.work_version(), 20)
            does.get(ask, getattr(other, ask))()
            assert woken.result() is True


def test_who_waits_for_work_is_woken_by_another_thread(queue):
    with ThreadPoolExecutor(1) as pool:
        woken = pool.submit(queue.wait_for_work, queue.work_version(), 20)
        queue.put(batch())
        assert woken.result() is True
    assert queue.wait_for_work(queue.work_version(), 0.01) is False


def test_who_waits_for_work_can_be_woken_without_any_and_before_they_wait(queue):
    since = queue.work_version()
    queue.wake()
    assert queue.wait_for_work(since, 20) is True


def test_a_heartbeat_is_no_work_and_a_request_to_stop_is(queue):
    queue.register("w")
    since = queue.work_version()
    queue.heartbeat("w")
    assert queue.wait_for_work(since, 0.01) is False
    queue.stop()
    assert queue.wait_for_work(since, 20) is True


# Many at once


def test_many_threads_lose_nothing_and_get_nothing_twice(queue, audit):
    def put(name: int) -> None:
        for number in range(25):
            queue.put(Batch.from_lines([f"{name}-{number}"]))

    def take(name: int) -> list[str]:
        found: list[str] = []
        while queue.stats().done < 100:
            since = queue.version()
            if lease := queue.lease(f"w{name}", lines=3):
                found += texts(lease)
                queue.commit(lease, result_of(lease))
            else:
                queue.wait(since, 1)
        return found

    with ThreadPoolExecutor(8) as pool:
        takers = [pool.submit(take, name) for name in range(4)]
        list(pool.map(put, range(4)))
        found = [line for taker in takers for line in taker.result()]
    assert sorted(found) == sorted(f"{name}-{n}" for name in range(4) for n in range(25))
    audit(queue)


PROCESS = """
import sys
from etl import Batch, Count, open_queue
from etl.execution.records import batch_of
from etl.records.result import BatchResult
url, name = sys.argv[1:]
queue = open_queue(url)
for number in range(50):
    queue.put(Batch.from_lines([f"{name}-{number}"]))
while queue.stats().done < 100:
    since = queue.version()
    lease = queue.lease(name, lines=2)
    if lease is None:
        queue.wait(since, 1)
        continue
    queue.commit(lease, BatchResult(done=lease.lines))
    print(*batch_of(lease).frame()["line"], sep="\\n", flush=True)
queue.close()
"""


def test_two_processes_on_one_store_lose_nothing_and_get_nothing_twice(shared_url, audit):
    queue = open_queue(shared_url)
    running = [
        subprocess.Popen(
            [sys.executable, "-c", PROCESS, queue.secret_url, name],
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in "ab"
    ]
    found = [line for process in running for line in process.communicate(timeout=60)[0].split()]
    assert [process.returncode for process in running] == [0, 0]
    assert sorted(found) == sorted(f"{name}-{number}" for name in "ab" for number in range(50))
    audit(queue)
    queue.close()


def test_a_queue_that_is_closed_leaves_the_locks_of_others_in_its_process(tmp_path):
    path = str(tmp_path / "q.db")
    with closing(open_queue(path)) as queue:
        queue.put(Batch.from_lines(["first"]))
        open_queue(path).close()
        code = "import etl, sys; etl.open(sys.argv[1]).close()"
        subprocess.run([sys.executable, "-c", code, path], check=True)
        queue.put(Batch.from_lines(["second"]))
        assert (tmp_path / "q.db-wal").exists()
    with closing(open_queue(path)) as queue:
        assert queue.stats().waiting == 2


# Stores that cannot be used


def test_a_file_that_is_no_database_is_refused_and_left_as_it_was(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("dear diary, today I wrote a log ETL")
    with pytest.raises(StoreError, match=r"notes.txt' is not an etl store, .*name another file"):
        open_queue(str(path))
    assert path.read_text().startswith("dear diary")


@pytest.mark.parametrize("name", ["store.db", "other.db"])
def test_an_empty_file_is_not_taken_for_a_new_store(tmp_path, name):
    path = tmp_path / name
    path.touch()
    with pytest.raises(StoreLost, match=r"is empty \(0 bytes\): .* remove the file to make a new"):
        open_queue(str(path))
    assert path.stat().st_size == 0
    path.unlink()
    open_queue(str(path)).close()


LOSSES = {
    "was removed": lambda path: path.unlink(),
    "was removed while": lambda path: path.rename(path.with_name("moved.db")),
    "was replaced by another file": lambda path: (path.parent / "other.db").replace(path),
    "was cut to nothing": lambda path: os.truncate(path, 0),
    "the log 'q.db-wal' of store": lambda path: path.with_name("q.db-wal").unlink(),
}


@pytest.mark.parametrize("said", LOSSES)
def test_a_store_whose_file_is_lost_while_in_use_says_so(tmp_path, said):
    path = tmp_path / "q.db"
    with closing(open_queue(str(tmp_path / "other.db"))) as other:
        other.put(batch(7))
    queue = open_queue(str(path))
    queue.put(batch(3), batch(2))
    queue.register("w")
    lease = queue.lease("w")
    LOSSES[said](path)
    for use in (
        lambda: queue.put(batch()),
        lambda: queue.commit(lease, result_of(lease)),
        lambda: queue.register("v"),
        lambda: queue.lease("w"),
        queue.stats,
        queue.version,
    ):
        with pytest.raises(StoreLost, match=said):
            use()
    queue.close()


def test_a_store_that_is_moved_or_replaced_while_in_use_is_whole_and_so_is_the_other(tmp_path):
    path, moved = tmp_path / "q.db", tmp_path / "moved.db"
    with closing(open_queue(str(tmp_path / "other.db"))) as other:
        other.put(batch(7))
    queue = open_queue(str(path))
    queue.put(batch(3))
    path.rename(moved)
    (tmp_path / "other.db").rename(path)
    with pytest.raises(StoreLost, match="was replaced"):
        queue.stats()
    queue.close()
    for name, waiting in ((path, 7), (moved, 3)):
        with closing(open_queue(str(name))) as again:
            assert again.stats().waiting == waiting


def test_a_worker_whose_store_is_removed_ends_and_says_so(tmp_path):
    path = tmp_path / "q.db"
    with closing(open_queue(str(path))) as queue:
        worker = Worker(queue, Pipeline("p").add("pass", None), out=tmp_path).start()
        path.unlink()
        assert ended(worker)
        with pytest.raises(StoreLost, match=r"q.db' was removed while in use"):
            worker.stop()


def test_the_log_of_a_store_that_is_gone_is_not_read_into_a_new_one(tmp_path):
    path, log = tmp_path / "q.db", tmp_path / "q.db-wal"
    log.write_bytes(b"what a killed process has left")
    with pytest.raises(StoreLost, match=r"is not there, but the log of one is, 'q.db-wal'"):
        open_queue(str(path))
    assert not path.exists()
    log.unlink()
    open_queue(str(path)).close()
    assert [one.name for one in tmp_path.iterdir()] == ["q.db"]


def test_many_make_one_store_at_once(tmp_path):
    path = str(tmp_path / "q.db")
    with ThreadPoolExecutor(8) as pool:
        queues = list(pool.map(lambda _: open_queue(path), range(8)))
    for queue in queues:
        queue.put(batch())
    assert queues[0].stats().waiting == 8
    for queue in queues:
        queue.close()
    assert [one.name for one in tmp_path.iterdir()] == ["q.db"]


def test_a_store_that_another_makes_meanwhile_is_not_lost(tmp_path, monkeypatch):
    path = tmp_path / "q.db"
    made = []
    exists = Path.exists

    def made_just_after(self, **options):
        found = exists(self, **options)
        if self == path and not made:
            made.append(None)
            made.append(open_queue(str(path)))
            made[1].put(batch())
        return found

    monkeypatch.setattr(Path, "exists", made_just_after)
    with closing(open_queue(str(path))) as queue, closing(made[1]):
        assert queue.stats().waiting == 1


def test_a_store_stays_the_same_in_another_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with closing(open_queue("q.db")) as queue:
        monkeypatch.chdir("/")
        queue.put(batch())
        assert queue.stats().waiting == 1


def test_a_damaged_store_is_refused_by_name(tmp_path):
    path = tmp_path / "damaged.db"
    path.write_bytes(b"SQLite format 3\0" + b"rubbish" * 1000)
    with pytest.raises(
        StoreError,
        match=r"damaged.db' is not an etl store, or is damaged: .*not a database.* etl check",
    ):
        open_queue(str(path))


def test_a_database_of_another_program_is_refused_and_left_as_it_was(tmp_path):
    path = tmp_path / "mail.db"
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE mail (text)")
    other.commit()
    other.close()
    before = path.read_bytes()
    with pytest.raises(
        StoreError, match=r"mail.db' is a database of another program; name another"
    ):
        open_queue(str(path))
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["mail.db"]


def test_a_store_of_a_newer_etl_is_refused(tmp_path):
    path = tmp_path / "new.db"
    open_queue(str(path)).close()
    newer = sqlite3.connect(path)
    newer.execute("PRAGMA user_version = 9")
    newer.close()
    with pytest.raises(
        IncompatibleStore, match=r"newer etl \(its version is 9, this etl knows .*upgrade etl"
    ):
        open_queue(str(path))


def test_a_folder_is_no_store(tmp_path):
    with pytest.raises(StoreError, match="is a folder; name a file in it"):
        open_queue(str(tmp_path))


def test_a_store_below_a_file_is_refused_by_name(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"file/s.db' cannot be opened: "):
        open_queue(str(tmp_path / "file" / "s.db"))


def test_a_store_in_a_folder_that_cannot_be_written_is_refused_by_name():
    with pytest.raises(StoreError, match=r"store '/proc/s.db' cannot be "):
        open_queue("/proc/s.db")


def test_an_unknown_kind_of_store_is_the_users_mistake():
    with pytest.raises(
        UsageError, match="store 'redis://here' is of no known kind; use sqlite:///"
    ):
        open_queue("redis://here")


def test_a_store_is_reopened_by_its_url_with_all_that_is_in_it(shared_url):
    first = open_queue(shared_url)
    first.put(batch(3))
    lease = first.lease("killed", seconds=1e6)
    first.close()
    second = open_queue(first.secret_url)
    assert second.stats().leased == 3
    second.commit(lease, result_of(lease))
    assert second.stats().done == 3
    second.close()


def test_a_closed_queue_says_so(shared_url):
    queue = open_queue(shared_url)
    queue.put(batch())
    lease = queue.lease("w")
    queue.close()
    queue.close()
    calls = [
        queue.stats,
        queue.control,
        queue.pause,
        queue.version,
        queue.peek,
        queue.pending_outputs,
    ]
    calls += [lambda: queue.put(batch()), lambda: queue.lease("w"), lambda: queue.renew(lease)]
    calls += [lambda: queue.commit(lease, BatchResult(done=1)), lambda: queue.read("errors")]
    for call in calls:
        with pytest.raises(QueueClosed, match=r"is closed; open it again with open_queue\(\)"):
            call()


def fill_disk(queue: SqliteQueue) -> None:
    """Let the store grow by no more than two pages."""
    pages = queue._database._writer.execute("PRAGMA page_count").fetchone()[0]
    queue._database._writer.execute(f"PRAGMA max_page_count = {pages + 2}")


def noise(count: int) -> Batch:
    """Make lines that do not compress."""
    random = Random(1)
    return Batch.from_lines([random.randbytes(500).hex() for _ in range(count)])


@pytest.mark.parametrize("queue", ["file", "memory"], indirect=True)
def test_a_full_disk_refuses_a_put_and_loses_nothing(queue, contents):
    queue.put(batch(3))
    before = contents(queue)
    fill_disk(queue)
    with pytest.raises(StoreFull, match=r"cannot be written: .*full; free some space"):
        queue.put(noise(200), checkpoint=Checkpoint("big.log", 1, 1))
    assert contents(queue) == before
    queue._database._writer.execute("PRAGMA max_page_count = 1000000")
    queue.put(noise(200))
    assert len(work_off(queue)) == 203


@pytest.mark.parametrize("queue", ["file", "memory"], indirect=True)
def test_a_full_disk_refuses_a_commit_and_the_lease_is_still_good(queue, contents):
    queue.put(noise(200))
    lease = queue.lease("w")
    queue.put(batch(1))
    before = contents(queue)
    fill_disk(queue)
    with pytest.raises(StoreFull):
        queue.commit(lease, result_of(lease, dead=200))
    assert contents(queue) == before
    queue._database._writer.execute("PRAGMA max_page_count = 1000000")
    queue.commit(lease, result_of(lease, dead=200))
    assert queue.stats().dead == 200


OPEN_ON_A_FULL_DISK = """
import resource, sys
from etl import open_queue
from etl.errors import StoreFull
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
try:
    open_queue(sys.argv[1])
except StoreFull as error:
    print(error)
"""


def test_a_store_that_is_made_on_a_full_disk_says_so(tmp_path):
    command = [sys.executable, "-c", OPEN_ON_A_FULL_DISK, str(tmp_path / "a?b%20#.db")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert "a?b%20#.db' cannot be written" in done.stdout


def test_a_store_may_have_any_name_and_is_for_its_owner(tmp_path):
    path = tmp_path / "new" / "a?b%20#\udcff.db"
    queue = open_queue(str(path))
    queue.put(batch(1))
    modes = {one.name: one.stat().st_mode & 0o777 for one in path.parent.iterdir()}
    assert modes == {path.name + end: 0o600 for end in ("", "-wal", "-shm")}
    assert path.parent.stat().st_mode & 0o777 == 0o700
    queue.close()


def test_the_log_of_a_store_takes_a_part_of_what_the_disk_has_left(tmp_path, monkeypatch):
    free = 1 << 20
    monkeypatch.setattr("shutil.disk_usage", lambda _folder: SimpleNamespace(free=free))
    queue = open_queue(str(tmp_path / "q.db"))
    log = tmp_path / "q.db-wal"
    sizes = []
    for _ in range(30):
        queue.put(noise(20))
        work_off(queue)
        sizes.append(log.stat().st_size)
    assert max(sizes) <= free // 4
    queue.close()


@pytest.mark.parametrize("ring", [False, True])
def test_a_store_that_is_forgotten_closes_its_connections(tmp_path, ring):
    queue = open_queue(tmp_path / "store.db")
    writer = queue._database._writer
    if ring:  # as an exception's traceback makes one
        queue._database.self = queue._database
    del queue
    gc.collect()
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        writer.execute("SELECT 1")


def test_a_checkpoint_that_is_put_again_is_there_already(queue: Queue):
    checkpoint = Checkpoint("a", 0, 0, number=1)
    for _ in range(2):
        queue.put(checkpoint=checkpoint, expected=None)
    assert queue.checkpoint("a") == checkpoint
