"""Stores that earlier versions wrote: they open, with all that is in them."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from etl import Batch, DeadLetters, Worker, metrics, open_queue, traces
from etl.demo import dashboard
from etl.errors import IncompatibleStore
from etl.queue import Checkpoint, Queue
from etl.queue.sqlite import SqliteQueue

VERSION_1 = Path(__file__).parents[1] / "stores" / "version_1.db"


@pytest.fixture
def old(tmp_path: Path) -> Queue:
    """Open a copy of a store that version 1 wrote."""
    queue = open_queue(shutil.copy(VERSION_1, tmp_path / "old.db"))
    yield queue
    queue.close()


def columns(queue: Queue) -> dict[str, set[tuple[str, str, int]]]:
    """Return name, type and NOT NULL of the columns of every table."""
    tables = queue._database.rows("SELECT name FROM sqlite_master WHERE type = 'table'")
    return {
        one["name"]: {
            (row["name"], row["type"], max(row["notnull"], bool(row["pk"])))
            for row in queue._database.rows(f"SELECT * FROM pragma_table_info('{one['name']}')")
        }
        for one in tables
    }


def test_a_migrated_store_has_the_tables_of_a_new_one(old: Queue):
    new = open_queue("sqlite://")
    assert columns(old) == columns(new)
    indexes = "SELECT name FROM sqlite_master WHERE type IN ('index', 'trigger') ORDER BY name"
    assert old._database.rows(indexes) == new._database.rows(indexes)
    new.close()


def test_nothing_of_an_old_store_is_lost(old: Queue):
    stats = old.stats()
    assert stats.conserved
    assert stats.totals() == {
        "accepted": 54,
        "done": 9,
        "filtered": 0,
        "dead": 1,
        "leased": 1,
        "waiting": 43,
    }
    frame = DeadLetters(old).frame(status=None)
    assert frame["status"].tolist() == ["replaying", "discarded", "replayed"]
    assert frame["path"].tolist()[0] == ("level", "check")
    assert old.checkpoint("/logs/app.log") == Checkpoint(
        "/logs/app.log", 301, 11, "301:0123456789abcdef:301:301:0123456789abcdef"
    )
    assert metrics.state_totals(old) == {"count": {"INFO": 7, "ERROR": 1, "WARNING": 1}}
    assert metrics.processors(old)["processor"].tolist() == ["level", "check", "count"]
    assert len(traces.traces(old)) == 13
    assert [output.final for output in old.pending_outputs()] == ["/out/b.parquet"]


def test_who_paused_an_old_store_is_told_by_its_reason(old: Queue):
    control = old.control()
    assert (control.paused, control.paused_by) == (True, "worker")
    assert control.failure == "the disk is full"


def test_lines_that_wait_in_an_old_store_are_processed(old: Queue, tmp_path: Path):
    old.mark_published(old.pending_outputs())
    old.resume()
    Worker(old, dashboard, out=tmp_path / "out").drain()
    stats = old.stats()
    assert stats.conserved
    assert (stats.waiting, stats.leased) == (2, 1), "a file is not there, another has its batch"
    frame = DeadLetters(old).frame()
    assert frame[frame["id"] == 1]["status"].tolist() == ["open"], "it failed again, as itself"
    assert frame[frame["id"] == 1]["replays"].tolist() == [2]


def test_an_old_store_is_migrated_once_and_then_as_new(old: Queue):
    old.put(Batch.from_lines(["INFO more"]))
    with closing(open_queue(old.url)) as again:
        assert again.stats().waiting == 44


def test_idempotency_keys_of_an_old_store_are_still_known(tmp_path: Path):
    path = shutil.copy(VERSION_1, tmp_path / "old.db")
    keys = [("http:17", 9, 1, "d:b:1:whole"), ("http://host/app.log", 9, 1, "9:d:9:9:d")]
    with closing(sqlite3.connect(path)) as db:
        db.executemany(
            'INSERT INTO positions (source, "offset", line_number, head) VALUES (?, ?, ?, ?)', keys
        )
        db.commit()
    with closing(open_queue(path)) as queue:
        assert queue.checkpoint("key:17").signature == "d:b:1:whole"
        assert queue.checkpoint("http://host/app.log").offset == 9
        assert queue.prune(dry_run=True)["idempotency keys"] == 0, "it was just migrated"


def test_a_store_of_a_later_version_is_refused_with_a_sentence(tmp_path: Path):
    path = tmp_path / "new.db"
    SqliteQueue(path).close()
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 99")
    with pytest.raises(IncompatibleStore, match=r"its version is 99, .*upgrade etl"):
        open_queue(path)
