"""What a store keeps for a time only goes; lines, totals and open dead letters stay."""

from __future__ import annotations

import os
import re
from itertools import pairwise

import polars as pl
import pytest
from plans import STATEMENTS

from etl import Batch, DeadLetters, Pipeline, Worker, metrics, reject
from etl.errors import UsageError
from etl.queue import Checkpoint, Queue
from etl.queue.sql import SQLITE
from etl.queue.sqlite import SqliteQueue
from etl.queue.writes import DatabaseQueue
from etl.records.result import BatchResult, ProcessorStats
from etl.settings import settings
from etl.workers.worker import sweep

DAY = 86_400
FINE = Pipeline("p").add("fine", None)
NO = Pipeline("p").add("no", lambda frame: reject(frame, pl.lit(value=True), "no", pl.col("line")))


def fail(queue: Queue, *lines: str, source: str = "app.log") -> DeadLetters:
    queue.put(Batch.from_lines(lines, source=source))
    Worker(queue, NO, name="w").drain()
    return DeadLetters(queue)


def commit(queue: Queue, worker: str = "w", lines: int = 1) -> None:
    """Put and commit one batch without a pipeline."""
    queue.put(Batch.from_lines(["x"] * lines))
    lease = queue.lease(worker, lines=lines)
    stats = {name: ProcessorStats(received=lines, seconds=0.5) for name in ("a", "b")}
    queue.commit(lease, BatchResult(done=lines, processor_stats=stats))


def rows(queue: DatabaseQueue, table: str) -> int:
    return queue._database.rows(f"SELECT count(*) AS n FROM {table}")[0]["n"]


def statuses(queue: Queue) -> list[str]:
    return DeadLetters(queue).frame(status=None)["status"].tolist()


def test_closed_dead_letters_are_deleted_after_a_time_and_open_ones_never(store, clock):
    queue = store()
    dead_letters = fail(queue, "discarded", "replayed", "replaying", "open")
    dead_letters.discard(ids=[1])
    dead_letters.replay(ids=[2])
    Worker(queue, FINE).drain()
    dead_letters.replay(ids=[3])
    before = queue.stats().totals()
    assert statuses(queue) == ["discarded", "replayed", "replaying", "open"]
    clock.tick(29 * DAY)
    assert queue.prune()["closed dead letters"] == 0
    clock.tick(2 * DAY)
    assert queue.prune()["closed dead letters"] == 2
    assert statuses(queue) == ["replaying", "open"]
    assert queue.stats().totals() == before, "the line that was discarded counts as dead"
    clock.tick(400 * DAY)
    queue.prune(0)
    assert statuses(queue) == ["replaying", "open"]


def test_a_kind_of_failure_goes_with_its_last_dead_letter(store, clock):
    queue = store()
    dead_letters = fail(queue, *(f"{'abc'[n % 3] * 9} is bad" for n in range(6)))
    assert rows(queue, "failures") == 3
    kept = dead_letters.frame().iloc[0]
    fingerprints = dead_letters.groups()["fingerprint"].tolist()
    for fingerprint in set(fingerprints) - {kept["fingerprint"]}:
        dead_letters.discard(fingerprint=fingerprint)
    dead_letters.discard(ids=[kept["id"]])
    clock.tick(1)
    assert queue.prune(0)["kinds of failure"] == 2
    assert dead_letters.groups()["lines"].tolist() == [1]
    assert dead_letters.frame()["traceback"].notna().all(), "what is left has its failure"


def test_idempotency_keys_are_forgotten_and_how_far_files_were_read_is_not(store, clock):
    queue = store()
    sources = ["key:a", "key:b", "/logs/app.log", "http://host/app.log", "kez", "dead letters 1"]
    for source in sources:
        queue.put(Batch.from_lines(["x"]), checkpoint=Checkpoint(source, 1, 1))
    clock.tick(8 * DAY)
    queue.put(Batch.from_lines(["x"]), checkpoint=Checkpoint("key:b", 2, 2))
    assert queue.prune(dry_run=True)["idempotency keys"] == 1
    assert queue.prune()["idempotency keys"] == 1
    left = {row["source"] for row in queue.read("checkpoints")}
    assert left == {*sources} - {"key:a"}


def test_the_id_of_a_batch_is_forgotten_after_an_hour_but_not_while_it_waits(store, clock):
    queue = store()
    waiting = Batch.from_lines(["waits"])
    queue.put(waiting)
    done = Batch.from_lines(["done"])
    queue.put(done)
    queue.commit(queue.lease("w"), BatchResult(done=1))
    clock.tick(3_601)
    assert queue.prune()["ids of batches"] == 2
    queue.put(done)
    assert queue.stats().accepted == 2, "it waits"
    queue.commit(queue.lease("w"), BatchResult(done=1))
    queue.put(waiting)
    assert queue.stats().accepted == 3, "an hour has passed since it was put"


def test_what_was_pruned_is_counted_and_a_dry_run_changes_nothing(store, clock, contents):
    queue = store()
    fail(queue, "a", "b").discard()
    clock.tick(10)
    before = contents(queue)
    assert queue.prune(5, dry_run=True) == {"closed dead letters": 2, "idempotency keys": 0}
    assert queue.prune(20, dry_run=True)["closed dead letters"] == 0
    assert contents(queue) == before
    removed = queue.prune(5)
    assert (removed["closed dead letters"], removed["kinds of failure"]) == (2, 2)
    assert sum(queue.prune(5).values()) == 0


def test_commits_prune_a_slice_each_until_nothing_is_left(store, clock, monkeypatch):
    monkeypatch.setattr("etl.queue.retention.SLICE", 10)
    queue = store()
    commit(queue)
    fail(queue, *("x" for _ in range(35))).discard()
    clock.tick(31 * DAY)
    left = []
    for _ in range(70):
        commit(queue)
        left.append(rows(queue, "dead_letters"))
    assert {earlier - later for earlier, later in pairwise(left)} == {0, 5, 10}
    assert left[-1] == 0
    assert rows(queue, "failures") == 0
    assert queue.stats().dead == 35


def test_deleting_ids_keeps_up_with_commits_of_many_batches(store, clock, monkeypatch):
    monkeypatch.setattr("etl.queue.retention.SLICE", 10)
    monkeypatch.setattr("etl.queue.retention.COMMITS", 4)
    queue = store()
    most = 0
    for _ in range(60):
        queue.put(*(Batch.from_lines(["x"]) for _ in range(20)))
        queue.commit(queue.lease("w", lines=20), BatchResult(done=20))
        clock.tick(100)
        most = max(most, rows(queue, "batch_ids"))
    assert most <= 20 * (36 + 4 + 2), "an hour, and what was put until the next slice"


def test_a_worker_without_work_prunes_too(store, clock):
    queue = store()
    fail(queue, "a").discard()
    queue.prune_slice()
    assert statuses(queue) == ["discarded"]
    clock.tick(31 * DAY)
    queue.prune_slice()
    assert statuses(queue) == []
    fail(queue, "b").discard()
    version = rows(queue, "dead_letters")
    queue.prune_slice()
    assert rows(queue, "dead_letters") == version


def test_workers_that_ended_long_ago_are_counted_under_one_name(queue, monkeypatch):
    monkeypatch.setattr("etl.settings.Settings.kept_workers", 3)
    for number in range(10):
        commit(queue, f"w{number}")
    queue.register("w0")
    before = metrics.processors(queue)
    assert queue.prune()["ended workers"] == 6
    by_worker = metrics.processors(queue, by_worker=True)
    received = dict(zip(by_worker["worker"], by_worker["received"], strict=True))
    assert received == {"w0": 1, "w7": 1, "w8": 1, "w9": 1, "": 6}
    assert metrics.processors(queue)[before.columns].equals(before)
    for number in range(10, 12):
        commit(queue, f"w{number}")
    assert queue.prune()["ended workers"] == 2
    assert metrics.processors(queue)["received"].tolist() == [12, 12]


@pytest.mark.parametrize("days", ["0", "-1", "nan", "inf", "month"])
def test_a_retention_that_is_no_number_of_days_is_refused(monkeypatch, days):
    monkeypatch.setenv("ETL_RETENTION_DAYS", days)
    with pytest.raises(UsageError, match=f"ETL_RETENTION_DAYS must be .*, got '{days}'"):
        settings()


def test_the_retention_is_what_the_environment_says(store, clock, monkeypatch):
    monkeypatch.setenv("ETL_RETENTION_DAYS", "0.5")
    queue = store()
    fail(queue, "a").discard()
    clock.tick(DAY)
    assert queue.prune()["closed dead letters"] == 1


@pytest.mark.parametrize("table", ["queue_history", "processor_history", "batch_ids"])
def test_history_and_ids_do_not_grow(store, clock, monkeypatch, table):
    monkeypatch.setattr("etl.queue.retention.COMMITS", 4)
    queue = store()
    most = 0
    for _ in range(150):
        commit(queue)
        clock.tick(60)
        most = max(most, len(queue.read(table)) if "history" in table else rows(queue, table))
    assert most <= 2 * (60 + 4 + 2), "an hour, and what there was until the next slice"


# Large tables


def test_no_statement_reads_a_large_table_of_a_file_from_end_to_end():
    queue = SqliteQueue(None)
    for name, (where, values) in STATEMENTS.items():
        statement = "EXPLAIN QUERY PLAN " + SQLITE.statement(name, where)
        plan = [row["detail"] for row in queue._database._writer.execute(statement, values)]
        large = r"SCAN (d|newest|dead_letters|batches|payloads|batch_ids)( |$)(?!.*INDEX)"
        assert not [step for step in plan if re.match(large, step)], f"{name}: {plan}"
    queue.close()


def test_a_page_of_a_kind_of_failure_is_found_by_an_index():
    queue = SqliteQueue(None)
    values = {"ids": "[1]", "statuses": '["open"]', "before": 5, "limit": 9, "skip": 0}
    sql = "EXPLAIN QUERY PLAN " + SQLITE.statement("newest_of_kinds", "d.id < :before")
    plan = [row["detail"] for row in queue._database._writer.execute(sql, values)]
    index = "SEARCH d USING COVERING INDEX dead_letters_by_failure"
    assert f"{index} (status=? AND failure=? AND id<?)" in plan
    assert "SEARCH newest USING INTEGER PRIMARY KEY (rowid=?)" in plan
    queue.close()


# Output


def test_staged_files_of_workers_that_are_gone_are_removed_while_nothing_waits(store, tmp_path):
    queue = store()
    queue.put(Batch.from_lines(["a"]))
    lease = queue.lease("w")
    for token in (lease.token, "0" * 24):
        (tmp_path / f".b-01234567-{token}.tmp").touch()
        os.utime(tmp_path / f".b-01234567-{token}.tmp", (0, 0))
    sweep(queue, tmp_path)
    assert [path.name.split("-")[-1] for path in tmp_path.glob(".*.tmp")] == [f"{lease.token}.tmp"]
    queue.release(lease)
    sweep(queue, tmp_path)
    assert not list(tmp_path.glob(".*.tmp"))


# The file


def test_a_store_under_steady_load_does_not_grow(tmp_path, clock, monkeypatch):
    monkeypatch.setenv("ETL_RETENTION_DAYS", "2")
    monkeypatch.setattr("etl.queue.retention.COMMITS", 4)
    queue = SqliteQueue(tmp_path / "steady.db", clock=clock)
    pages = []
    for day in range(16):
        lines = [f"day {day} line {number} {'abcdefgh'[number % 8] * 50}" for number in range(200)]
        key = Checkpoint(f"key:{day}", 1, 1)
        queue.put(Batch.from_lines(lines, source="app.log"), checkpoint=key)
        Worker(queue, NO, name=f"w{day}", run=f"run {day}").drain()
        DeadLetters(queue).discard()
        for _ in range(4):
            commit(queue, f"w{day}")
        clock.tick(DAY)
        pages.append(queue._database._pragma("page_count"))
    assert rows(queue, "dead_letters") <= 4 * 200
    assert rows(queue, "checkpoints") <= 4
    assert pages[-1] <= pages[5] * 1.1, pages
    queue.close()


def test_pruning_gives_the_space_of_a_file_back(tmp_path, clock):
    queue = SqliteQueue(tmp_path / "large.db", clock=clock)
    fail(queue, *(f"{number}" + "x" * 200 for number in range(5_000))).discard()
    clock.tick(1)
    queue.shrink()
    size = (tmp_path / "large.db").stat().st_size
    assert queue.prune(0)["closed dead letters"] == 5_000
    given = queue.shrink()
    assert given > size / 2
    assert (tmp_path / "large.db").stat().st_size < size / 2
    assert not (tmp_path / "large.db-wal").stat().st_size
    assert queue.stats().dead == 5_000
    queue.close()
