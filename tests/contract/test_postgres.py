"""What only a store with a server can do: be away, be another version, have many at once."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path

import psycopg
import pytest
from plans import STATEMENTS

from etl import Batch, Pipeline, Worker, each, open_queue, read_output
from etl.dlq.dead_letters import DeadLetters
from etl.errors import (
    IncompatibleStore,
    LeaseLost,
    SourceLocked,
    StoreError,
    StoreFull,
    StoreUnavailable,
    UsageError,
)
from etl.execution.records import batch_of, parts_of
from etl.queue import Checkpoint, Queue
from etl.queue.postgres import PostgresQueue
from etl.queue.sql import POSTGRES
from etl.records.result import BatchResult, ProcessorStats

VERSION_1 = Path(__file__).parents[1] / "stores" / "postgres_version_1.sql"


@pytest.fixture
def queue(postgres_url: str, audit) -> Iterator[PostgresQueue]:
    with closing(PostgresQueue(postgres_url)) as opened:
        yield opened
        audit(opened)


@pytest.fixture
def many(postgres_url: str) -> Iterator[list[PostgresQueue]]:
    """Open one store eight times, as eight processes would."""
    with ExitStack() as opened:
        yield [opened.enter_context(closing(PostgresQueue(postgres_url))) for _ in range(8)]


def at_once(many: list[PostgresQueue], call: Callable[[PostgresQueue], object]) -> list[object]:
    """Call a function with each of several queues at the same moment; return what each returned."""
    gate = threading.Barrier(len(many))

    def run(queue: PostgresQueue) -> object:
        gate.wait(10)
        try:
            return call(queue)
        except (SourceLocked, UsageError) as error:
            return type(error)

    with ThreadPoolExecutor(len(many)) as pool:
        return list(pool.map(run, many))


def done(queue: Queue, name: str = "w") -> None:
    lease = queue.lease(name)
    queue.commit(lease, BatchResult(done=lease.lines))


# Opening


def test_a_database_without_tables_is_refused_with_the_command_that_makes_them(postgres_schema):
    url = postgres_schema()
    with pytest.raises(StoreError, match="has no tables of etl; make them: etl store init URL"):
        open_queue(url)


def test_tables_are_made_once_and_what_is_in_them_is_kept(postgres_schema, etl):
    url = postgres_schema()
    assert etl("store", "init", url).returncode == 0
    with closing(open_queue(url)) as queue:
        queue.put(Batch.from_lines(["a"]))
    again = etl("store", "init", url)
    assert again.stdout == f"{queue.url} is ready\n"
    with closing(open_queue(url)) as queue:
        assert queue.stats().waiting == 1


def test_two_who_make_the_tables_at_once_make_them_once(postgres_schema):
    url = postgres_schema()
    with ThreadPoolExecutor(4) as pool:
        for queue in pool.map(lambda _: open_queue(url, create=True), range(4)):
            queue.close()


def test_a_database_of_another_program_is_left_as_it_is(postgres_schema):
    url = postgres_schema()
    with psycopg.connect(url, autocommit=True) as db:
        db.execute("CREATE TABLE batches (mail text)")
        with pytest.raises(StoreError, match='relation "batches" already exists'):
            open_queue(url, create=True)
        found = db.execute("SELECT tablename FROM pg_tables WHERE schemaname = current_schema()")
        assert found.fetchall() == [("batches",)]


@pytest.mark.parametrize("create", [False, True])
def test_a_store_of_a_newer_etl_is_refused(queue, create):
    with queue._database.write() as db:
        db.connection.execute("UPDATE etl_store SET version = 9")
    with pytest.raises(IncompatibleStore, match=r"newer etl \(its version is 9, .*upgrade etl"):
        open_queue(queue.secret_url, create=create)


def test_a_store_of_an_older_etl_is_refused_until_it_is_upgraded(queue):
    with queue._database.write() as db:
        db.connection.execute("UPDATE etl_store SET version = 0")
    with pytest.raises(IncompatibleStore, match=r"older etl .*; upgrade it: etl store init URL"):
        open_queue(queue.secret_url)


def test_a_store_of_version_1_is_upgraded_with_all_that_is_in_it(postgres_schema, audit, etl):
    url = postgres_schema()
    schema = url.rpartition("%3D")[2]
    with psycopg.connect(url, autocommit=True) as db:
        db.execute(VERSION_1.read_text().replace("old.", f"{schema}."))
    assert etl("store", "init", url).returncode == 0
    with (
        closing(open_queue(url)) as queue,
        closing(open_queue(postgres_schema(), create=True)) as new,
    ):
        audit(queue)
        stats = queue.stats()
        assert (
            str(stats) == "6 accepted = 2 done + 0 filtered + 1 dead + 2 processing + 1 waiting ✓"
        )
        assert (stats.leased_batches, stats.waiting_batches) == (1, 1)
        assert [row["accepted"] for row in queue.read("queue_history")] == [6]
        assert DeadLetters(queue).frame()["line"].to_list() == ["bad b"]
        done(queue)
        audit(queue)
        columns = (
            "SELECT table_name, column_name, data_type FROM information_schema.columns "
            "WHERE table_schema = current_schema() ORDER BY 1, 2"
        )
        assert queue._database.rows(columns) == new._database.rows(columns)
        indexes = "SELECT indexname FROM pg_indexes WHERE schemaname = current_schema() ORDER BY 1"
        assert queue._database.rows(indexes) == new._database.rows(indexes)


# Secrets


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:s3cret@127.0.0.1:1/db",
        "postgresql://me:s3cret%2Fx@127.0.0.1:1/db?application_name=x",
        "postgresql://127.0.0.1:1/db?user=me&password=s3cret",
        "postgresql://me:s3cret/x@127.0.0.1/db",
        "postgresql://me:x?s3cret@127.0.0.1:1/db",
        "postgresql://127.0.0.1:1/db?password=s3cret&nonsense=s3cret",
    ],
)
def test_a_password_is_in_no_message(url):
    with pytest.raises((StoreUnavailable, UsageError)) as told:
        open_queue(url)
    assert "s3cret" not in str(told.value)
    assert "127.0.0.1" in str(told.value)


def test_a_password_is_in_no_name_of_a_queue(queue):
    url = queue.secret_url.replace("//etl@", "//etl:s3cret@")
    with closing(open_queue(url)) as opened:
        assert opened.secret_url == url
        assert "s3cret" not in f"{opened!r} {opened.url} {opened._database.name}"


def test_a_run_by_two_processes_is_whole_and_records_no_password(postgres_url, etl, tmp_path):
    url = postgres_url.replace("//etl@", "//etl:s3cret@")
    text = [f"2026-01-01 10:00:00,000 INFO app: line {number}\n" for number in range(5_000)]
    (tmp_path / "app.log").write_text("".join(text))
    done = etl("run", "app.log", "--store", url, "--workers", "2", "--out", "out", "--json")
    assert json.loads(done.stdout)["done"] == 5_000, done.stderr
    assert read_output(tmp_path / "out").height == 5_000
    records = [path.read_text() for path in tmp_path.rglob("*.json")]
    assert records
    assert "s3cret" not in "".join([done.stdout, done.stderr, *records])


# A server that is away


def test_a_server_that_is_not_there_is_unavailable():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(
        StoreUnavailable, match=f"127.0.0.1:{port}/db' cannot be reached: .*refused"
    ):
        open_queue(f"postgresql://127.0.0.1:{port}/db")


def terminate(queue: PostgresQueue) -> None:
    """End the sessions of a queue, as an administrator does."""
    processes = [one.info.backend_pid for one in queue._database._held]
    with psycopg.connect(queue.secret_url) as admin:
        for process in processes:
            admin.execute("SELECT pg_terminate_backend(%s, 5000)", (process,))


def test_a_session_that_was_ended_is_opened_again(queue):
    queue.put(Batch.from_lines(["a"]))
    assert queue.stats().waiting == 1
    terminate(queue)
    assert queue.stats().waiting == 1
    done(queue)
    assert queue.stats().done == 1


def test_a_session_that_ends_inside_a_transaction_changes_nothing(queue, contents):
    queue.put(Batch.from_lines(["a", "b"]))
    lease = queue.lease("w")
    before = contents(queue)
    statements = 0
    for statement in range(100):
        connection, calls = queue._database._connection(), iter(range(statement))
        run = connection.execute

        def execute(*args, run=run, calls=calls, **options):
            if next(calls, None) is None:
                terminate(queue)
            return run(*args, **options)

        connection.execute = execute
        try:
            queue.commit(lease, BatchResult(done=2, processor_stats={"p": ProcessorStats(2, 2)}))
        except StoreUnavailable:
            assert contents(queue) == before
            statements += 1
        else:
            break
    del connection.execute
    assert statements >= 6
    assert queue.stats().done == 2


def test_a_worker_outlives_the_server_and_no_line_is_lost(postgres_programs, start_postgres):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        server = start_postgres(postgres_programs, Path(folder), port, fsync="on")
        url = f"postgresql://etl@127.0.0.1:{port}/postgres"
        queue = open_queue(url, create=True)
        worker = Worker(queue, Pipeline("p").add("pass", None), name="w").start()
        try:
            for number in range(3):
                queue.put(*(Batch.from_lines([f"{number}-{n}"]) for n in range(30)))
                os.kill(server.pid, signal.SIGQUIT)  # which ends all without a checkpoint
                server.wait(60)
                with pytest.raises(StoreUnavailable):
                    queue.stats()
                server = start_postgres(postgres_programs, Path(folder), port, fsync="on")
            deadline = time.monotonic() + 60
            while queue.stats().done < 90:
                assert time.monotonic() < deadline
                queue.wait(queue.version(), 0.1)
            worker.stop()
            assert queue.stats().conserved
            assert queue.stats().accepted == 90
        finally:
            queue.close()
            server.send_signal(signal.SIGINT)
            server.wait(60)


def test_a_server_without_room_refuses_a_put_and_loses_nothing(queue, contents):
    fill_disk(queue)
    before = contents(queue)
    with pytest.raises(StoreFull, match="No space left; free some space on the server"):
        queue.put(Batch.from_lines(["a"]))
    assert contents(queue) == before


def test_a_server_has_prepared_what_it_is_asked_for_whenever_its_disk_was_full(queue, many):
    """psycopg prepares a statement the sixth time; that may come after one that fails."""
    for passing in (0, 0, 4, 5, 6, 7):
        for _ in range(passing):
            queue.put(Batch.from_lines(["a"]))
        fill_disk(many[0])
        with pytest.raises(StoreFull):
            queue.put(Batch.from_lines(["a"]))
        free_disk(many[0])
    queue.put(Batch.from_lines(["a"]))
    assert queue.stats().waiting == 23


def fill_disk(queue):
    """Let the server say that there is no room, whatever is put."""
    with queue._database.write() as db:
        db.connection.execute(
            "CREATE FUNCTION full_disk() RETURNS TRIGGER LANGUAGE plpgsql AS $$ BEGIN "
            "RAISE EXCEPTION 'could not extend file: No space left' USING ERRCODE = '53100'; "
            "END $$; CREATE TRIGGER full_disk BEFORE INSERT ON batches EXECUTE FUNCTION full_disk()"
        )


def free_disk(queue):
    with queue._database.write() as db:
        db.connection.execute("DROP FUNCTION full_disk CASCADE")


# Time, and what is kept


def test_time_is_that_of_the_database(queue, monkeypatch):
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: 0.0)
    queue.put(Batch.from_lines(["a"]))
    queue.register("w")
    lease = queue.lease("w", seconds=10)
    assert abs(lease.until - now - 10) < 5
    assert abs(queue.read("workers")[0]["heartbeat_at"] - now) < 5
    assert queue.lease("other") is None


def test_leases_and_heartbeats_do_not_wait_for_the_disk_and_puts_do(queue):
    with queue._database.write(durable=False) as db:
        (fast,) = db.connection.execute("SHOW synchronous_commit").fetchone().values()
    with queue._database.write() as db:
        (durable,) = db.connection.execute("SHOW synchronous_commit").fetchone().values()
    assert (fast, durable) == ("off", "on")


@pytest.mark.parametrize("text", ["nul\0", "\U0010fffd0", "\0\U0010fffd1\0", "\U0010fffd"])
def test_text_that_postgresql_cannot_hold_is_kept(queue, text):
    queue.put(Batch.from_lines([text], source=text))
    Worker(queue, Pipeline("p").add("fail", each(lambda row: row["none"])), name="w").drain()
    dead_letters = DeadLetters(queue)
    assert dead_letters.frame()["line"].to_list() == [text]
    assert dead_letters.frame(source=text)["source"].to_list() == [text]
    assert dead_letters.replay() == 1
    assert batch_of(queue.lease("w")).frame()["line"].to_list() == [text]


# Waiting for work


def announced(queue: PostgresQueue, act: Callable[[PostgresQueue], object]) -> int:
    """Return how often a listener hears of work while another does something."""
    with psycopg.connect(queue.secret_url, autocommit=True) as listener:
        listener.execute(f"LISTEN {queue._database._news.channel}")
        act(queue)
        listener.execute(f"NOTIFY {queue._database._news.channel}, 'end'")  # comes after all else
        heard = []
        for note in listener.notifies(timeout=20):
            if note.payload == "end":
                return len(heard)
            heard.append(note)
    raise AssertionError(f"the end was not heard, only {heard}")


def test_work_is_announced_only_when_none_waited(queue):
    assert announced(queue, lambda queue: queue.put(Batch.from_lines(["a"]))) == 1
    assert announced(queue, lambda queue: queue.put(Batch.from_lines(["b"]))) == 0
    done(queue)
    assert announced(queue, lambda queue: queue.put(Batch.from_lines(["c"]))) == 0
    done(queue)
    done(queue)
    assert announced(queue, lambda queue: queue.put(Batch.from_lines(["d"]))) == 1


def test_stores_in_one_database_do_not_wake_each_other(queue, postgres_schema):
    with closing(open_queue(postgres_schema(), create=True)) as other:
        assert announced(queue, lambda _: other.put(Batch.from_lines(["a"]))) == 0


def test_a_worker_that_waits_asks_the_server_next_to_nothing(queue, postgres_url):
    with closing(PostgresQueue(postgres_url)) as idle:
        (before,) = idle._database.rows("SELECT pg_backend_pid() AS pid")
        executed: list[object] = []
        connection = idle._database._connection()
        run = connection.execute
        connection.execute = lambda *given, **options: (
            executed.append(given) or run(*given, **options)
        )
        assert idle.wait_for_work(idle.work_version(), 0.2) is False
        assert executed == []
        del connection.execute
        assert idle._database.rows("SELECT pg_backend_pid() AS pid") == [before]


def test_a_process_has_one_connection(queue):
    queue.put(Batch.from_lines(["a"]))
    queue.stats()
    done(queue)
    queue.wait_for_work(queue.work_version(), 0.01)
    with psycopg.connect(queue.secret_url) as admin:
        found = admin.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'etl' "
            "AND pid = ANY (%s)",
            ([one.info.backend_pid for one in queue._database._held],),
        ).fetchone()
    assert (found, len(queue._database._held)) == ((1,), 1)


def test_a_kind_of_failure_that_a_commit_has_begun_to_use_is_not_pruned(many):
    one, other = many[:2]
    kind = {"processor": "p", "code": "c", "error": "", "traceback": "", "path": "[]"}
    kind |= {"version": "v", "run": "r", "fingerprint": "f", "source": "s"}
    with one._database.write() as db:
        db.run("insert_failure", **kind)
    with one._database.write() as db:
        db.run("insert_failure", **kind)
        assert db.row("failure_id", **kind)
        assert other.prune()["kinds of failure"] == 0
    assert other.prune()["kinds of failure"] == 1


def test_what_one_prunes_another_does_not_wait_for(many):
    one, other = many[:2]
    with one._database.write() as db:
        db.run("lock", name="retention")
        other.put(Batch.from_lines(["a"]))
        other.commit(other.lease("w"), BatchResult(done=1))
    assert other.stats().done == 1


# Large tables

FILL = """
INSERT INTO failures (processor, code, error, traceback, path, version, run, fingerprint)
SELECT 'parse', 'bad', '', '', '[]', 'v', 'r', 'f' || n FROM generate_series(1, 20) AS one (n);
INSERT INTO dead_letters (failure, status, source, line_number, lines, line, message, attempts,
                          first_failed_at, last_failed_at, batch, context, closed_at)
SELECT 1 + n % 20, CASE WHEN n % 10 = 0 THEN 'open' ELSE 'discarded' END, 'app.log', n, 1,
       repeat('a line ', 40), 'bad', 1, n, n, 'b', '{}', CASE WHEN n % 10 > 0 THEN n END
FROM generate_series(1, 40000) AS one (n);
INSERT INTO payloads (encoding, data) SELECT 'text', 'a' FROM generate_series(1, 20000);
INSERT INTO batches (id, payload, source, first_line, skip, lines, bytes, put_at, state, token,
                     until)
SELECT 'b' || id, id, 'app.log', 1, 0, 1, 1, id,
       CASE WHEN id % 100 = 0 THEN 'leased' ELSE 'waiting' END,
       CASE WHEN id % 100 = 0 THEN 't' || id END, CASE WHEN id % 100 = 0 THEN 1e18 END
FROM payloads;
INSERT INTO batch_ids (id, put_at) SELECT id, put_at FROM batches;
"""


def test_no_statement_reads_a_large_table_from_end_to_end(postgres_url):
    with psycopg.connect(postgres_url, autocommit=True) as db:
        db.execute(FILL)
        db.execute("VACUUM ANALYZE dead_letters, batches, payloads, batch_ids, failures")
        for name, (where, values) in STATEMENTS.items():
            plan = db.execute("EXPLAIN " + POSTGRES.statement(name, where), values).fetchall()
            text = "\n".join(row[0] for row in plan)
            large = r"Seq Scan on (dead_letters|batches|payloads|batch_ids)"
            assert not re.search(large, text), f"{name}:\n{text}"


# Many at once


def test_one_batch_put_by_many_at_once_is_stored_once(many, audit):
    batch = Batch.from_lines(["a", "b"])
    at_once(many, lambda queue: queue.put(batch))
    audit(many[0])
    assert many[0].stats().accepted == 2


def test_a_source_that_many_read_at_once_is_read_by_one(many, audit):
    found = at_once(
        many,
        lambda queue: queue.put(
            Batch.from_lines(["a"]), checkpoint=Checkpoint("s", 1, 1), expected=None
        ),
    )
    assert sorted(found, key=str) == [SourceLocked] * 7 + [None]
    assert many[0].stats().accepted == 1


def test_many_who_register_at_once_have_slots_of_their_own(many):
    names = iter("abcdefgh")
    assert sorted(at_once(many, lambda queue: queue.register(next(names)))) == list(range(8))


def test_a_step_lets_one_of_many_through(many, audit):
    many[0].put(*(Batch.from_lines([name]) for name in "abcdefgh"))
    many[0].pause()
    many[0].step(3)
    assert sum(lease is not None for lease in at_once(many, lambda queue: queue.lease("w"))) == 3
    audit(many[0])


def test_many_who_ask_to_stop_at_once_are_all_counted(many):
    at_once(many, lambda queue: queue.stop())
    assert many[0].control().stops == 8


def test_a_payload_is_gone_when_its_parts_are_committed_at_once(many, audit):
    many[0].put(Batch.from_lines(list("abcdefgh")))
    lease = many[0].lease("w")
    many[0].split(lease, parts_of(lease, 8))
    at_once(many, done)
    audit(many[0])
    assert many[0].stats().done == 8


def test_many_who_take_over_a_lease_that_ran_out_get_it_once(many, audit):
    many[0].put(Batch.from_lines(["a"]))
    slow = many[0].lease("slow", seconds=-1)
    leases = [one for one in at_once(many, lambda queue: queue.lease("w")) if one]
    assert [lease.deliveries for lease in leases] == [2]
    with pytest.raises(LeaseLost):
        many[1].commit(slow, BatchResult(done=1))
    audit(many[0])


def test_counts_of_many_add_up(many, audit):
    def work(queue: PostgresQueue) -> None:
        for _ in range(10):
            queue.put(Batch.from_lines(["a", "b"], source="s"))
            while (lease := queue.lease("w")) is None:
                pass  # others took what was there when we looked; ours is there by now
            stats = {"p": ProcessorStats(received=lease.lines, emitted=lease.lines, seconds=0.1)}
            queue.commit(lease, BatchResult(done=lease.lines, processor_stats=stats))

    at_once(many, work)
    audit(many[0])
    assert many[0].stats().done == 160
    assert sum(row["received"] for row in many[0].read("processor_history")) == 160
    assert sum(row["lines"] for row in many[0].read("latency")) == 160
    history = many[0].read("queue_history")
    assert (history[-1]["accepted"], history[-1]["done"], history[-1]["waiting"]) == (160, 160, 0)


def test_a_failure_that_many_meet_at_once_is_kept_once(many, audit):
    many[0].put(*(Batch.from_lines(["x"], source="s") for _ in range(8)))

    def fail(row):
        raise ValueError("no")

    pipeline = Pipeline("p").add("fail", each(fail))
    at_once(many, lambda queue: Worker(queue, pipeline, name="w", run="r").step())
    audit(many[0])
    assert DeadLetters(many[0]).groups()["lines"].to_list() == [8]
