"""What changes on a disk by itself is noticed: in payloads, dead letters, outputs and totals."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import etl
from etl import Batch, DeadLetters, JsonLines, Pipeline, Queue, Worker, open_queue, reject, traces
from etl.errors import UsageError
from etl.execution.batch_run import Runner
from etl.execution.records import batch_of
from etl.queue.check import PAGES, Check
from etl.queue.postgres import PostgresQueue
from etl.records.batch import Lease
from etl.records.result import BatchResult
from etl.sources.ingest import ingest
from etl.sources.resolve import resolve_sources
from etl.workers.worker import lost_outputs

LINES = [f"2026-11-22 09:00:00,000 INFO shop: id={n} amount={n * 7919}" for n in range(40)]


def refuse(frame: Any) -> Any:
    """Let every line fail that says so."""
    return reject(frame, frame["line"].str.contains("bad"), "bad", "it says so")


def pipeline() -> Pipeline:
    return Pipeline("p").add("check", refuse).add("out", JsonLines())


def put(queue: Queue, *lines: str, source: str = "a.log") -> Batch:
    batch = Batch.from_lines(lines, source=source)
    queue.put(batch)
    return batch


def work(queue: Queue, out: Path) -> None:
    Worker(queue, pipeline(), out=out).drain()


def change(queue: Queue, table: str, column: str, new: Callable[[Any], Any]) -> None:
    """Replace a value in every row, behind the store's back."""
    mark = "%s" if isinstance(queue, PostgresQueue) else "?"
    key = {
        "batches": "seq",
        "payloads": "id",
        "dead_letters": "id",
        "traces": "seq",
        "outputs": "final",
    }[table]
    rows = queue._database.rows(f"SELECT {key}, {column} FROM {table}")
    assert rows
    with queue._database.write() as db:
        for row in rows:
            db.connection.execute(
                f"UPDATE {table} SET {column} = {mark} WHERE {key} = {mark}",
                (new(row[column]), row[key]),
            )


def flip(data: bytes, at: float) -> bytes:
    """Return bytes of which one bit is another, at a share of their length."""
    changed = bytearray(data)
    changed[min(int(len(data) * at), len(data) - 1)] ^= 8
    return bytes(changed)


def damaged(check: Check) -> dict[str, int]:
    return {name: part.damaged for name, part in check.parts.items() if part.damaged}


# Payloads


@pytest.mark.parametrize("at", [0.0, 0.3, 0.66, 1.0])
@pytest.mark.parametrize("lines", [LINES, LINES[:2], [*LINES, "two\nlines"]])
def test_one_bit_of_a_payload_that_flips_is_noticed(queue, tmp_path, lines, at):
    """Compressed, as it is, and as a frame."""
    batch = put(queue, *lines)
    change(queue, "payloads", "data", lambda data: flip(data, at))
    check = queue.check()
    assert not check.whole
    (finding,) = check.findings
    assert (finding.part, finding.name, finding.source) == ("payloads", batch.id, "a.log")
    assert finding.lines == batch.lines
    assert queue.peek().is_empty()

    work(queue, tmp_path)
    assert (queue.stats().dead, queue.stats().done) == (batch.lines, 0)
    assert DeadLetters(queue).frame()["code"].tolist() == ["unreadable"]
    assert list(tmp_path.glob("*.jsonl")) == []


@pytest.mark.parametrize(
    ("column", "new"),
    [
        ("source", lambda source: source + "x"),
        ("context", lambda _context: '{"timezone": "Asia/Tokyo"}'),
        ("context", lambda _context: "{"),
        ("first_line", lambda number: number + 8),
        ("format", lambda _format: "python"),
    ],
)
def test_what_is_kept_of_a_batch_besides_its_text_is_checked_too(queue, tmp_path, column, new):
    put(queue, "a")
    put(queue, "b")
    change(queue, "batches", column, new)
    assert damaged(queue.check()) == {"batches": 2}
    work(queue, tmp_path)
    assert (queue.stats().dead, queue.stats().done) == (2, 0)


def test_the_parts_of_a_damaged_batch_are_all_affected(queue):
    batch = put(queue, *LINES)
    lease = queue.lease("w")
    queue.split(lease, [batch.parts(2)])
    change(queue, "payloads", "data", lambda data: flip(data, 0.5))
    check = queue.check()
    assert [one.lines for one in check.findings] == [20, 20]
    assert check.parts["payloads"].lines == 40
    lease = queue.lease("w")
    queue.commit(lease, BatchResult(dead=0, done=lease.lines))


def test_a_payload_of_an_earlier_etl_has_no_checksum_and_is_read(queue, tmp_path):
    put(queue, *LINES)
    change(queue, "payloads", "checksum", lambda _checksum: None)
    check = queue.check()
    assert check.whole
    assert (check.parts["payloads"].checked, check.parts["payloads"].unchecked) == (0, 1)
    work(queue, tmp_path)
    assert queue.stats().done == 40


def test_a_file_that_changed_since_it_was_put_is_found(queue, tmp_path):
    path = tmp_path / "a.log"
    path.write_text("one\ntwo\n")
    for chunk in ingest(queue, resolve_sources([str(path)])[0]):
        assert chunk.batch.lines == 2
    assert queue.check().parts["references"].checked == 1
    path.write_text("one\nTwo\n")
    check = queue.check()
    assert damaged(check) == {"references": 1}
    assert "are not the bytes that were queued" in check.findings[0].problem
    path.unlink()
    assert damaged(queue.check()) == {"references": 1}
    queue.commit(queue.lease("w"), BatchResult(done=2))


# Dead letters


@pytest.mark.parametrize(
    ("column", "new"),
    [
        ("line", lambda line: line.replace("b", "c")),
        ("raw", lambda raw: raw and flip(raw, 0.5)),
        ("payload", lambda _payload: '{"level": '),
        ("context", lambda context: context.replace("{", "[")),
        ("line_number", lambda number: number + 4),
        ("source", lambda source: source + "x"),
    ],
)
def test_a_dead_letter_that_is_damaged_is_said_to_be_and_not_replayed(queue, tmp_path, column, new):
    queue.put(Batch.from_lines([b"bad \xff"], source="a.log"))
    work(queue, tmp_path)
    dead_letters = DeadLetters(queue)
    assert dead_letters.frame()["damaged"].tolist() == [False]
    change(queue, "dead_letters", column, new)
    put(queue, "bad too")
    work(queue, tmp_path)
    assert dead_letters.frame()["damaged"].tolist() == [True, False]
    assert dead_letters.dry_run(Pipeline("p").add("all", None)).would_fail == [1]
    check = queue.check()
    assert [(one.part, one.name, one.lines) for one in check.findings] == [("dead letters", "1", 1)]
    with pytest.raises(UsageError, match=r"dead letter 1, line \d of 'a.logx?', is damaged"):
        dead_letters.replay()
    dead_letters.discard(ids=[1])
    assert dead_letters.replay() == 1


def test_a_damaged_dead_letter_is_exported_and_not_imported(queue, tmp_path):
    put(queue, "bad", "bad too")
    work(queue, tmp_path)
    change(queue, "dead_letters", "line", lambda line: line.replace("too", "two"))
    for name in ("all.jsonl", "all.parquet"):
        assert DeadLetters(queue).export(tmp_path / name) == 2
        with closing(open_queue("sqlite://")) as other:
            assert DeadLetters(other).import_(tmp_path / name) == 1


def test_a_dead_letter_that_failed_again_has_the_checksum_of_what_is_kept_then(queue, tmp_path):
    put(queue, "bad")
    work(queue, tmp_path)
    edited = DeadLetters(queue).frame().assign(line="still bad")
    DeadLetters(queue).replay(edited=edited)
    work(queue, tmp_path)
    assert DeadLetters(queue).frame()[["line", "damaged"]].values.tolist() == [["still bad", False]]
    assert queue.check().whole


def test_text_that_is_no_text_any_more_is_found_and_the_rest_is_shown(tmp_path):
    with closing(open_queue(tmp_path / "s.db")) as queue:
        put(queue, "bad", "bad too", "fine")
        work(queue, tmp_path)
        with queue._database.write() as db:
            broken = "UPDATE dead_letters SET line = CAST(x'62ff64' AS TEXT) WHERE id = 1"
            db.connection.execute(broken)
        frame = DeadLetters(queue).frame()
        assert frame[["line", "damaged"]].values.tolist() == [["b\\xffd", True], ["bad too", False]]
        assert damaged(queue.check()) == {"dead letters": 1}
        put(queue, "fine")
        with queue._database.write() as db:
            db.connection.execute("UPDATE batches SET context = CAST(x'7bff7d' AS TEXT)")
        work(queue, tmp_path)
        assert (queue.stats().done, queue.stats().dead) == (1, 3)


# Outputs, totals, traces


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (lambda path: path.write_bytes(flip(path.read_bytes(), 0.5)), "is not what was written"),
        (lambda path: path.write_bytes(path.read_bytes()[:-3]), r"has \d+ bytes, and \d+ were"),
        (lambda path: path.unlink(), "is missing"),
    ],
)
def test_an_output_that_is_not_what_was_written_is_found(queue, tmp_path, spoil, problem):
    queue.set_output_root(tmp_path)
    put(queue, "a")
    batch = put(queue, "b", source="b.log")
    work(queue, tmp_path)
    check = queue.check()
    assert check.whole
    assert (check.parts["outputs"].checked, check.parts["outputs"].unchecked) == (2, 0)
    spoil(tmp_path / f"{batch.id}.jsonl")
    (finding,) = queue.check().findings
    assert re.search(problem, finding.problem)
    assert (finding.part, finding.source, finding.lines) == ("outputs", "b.log", 1)
    assert finding.name == str(tmp_path / f"{batch.id}.jsonl")


def test_an_output_that_is_not_published_yet_is_checked_under_its_hidden_name(queue, tmp_path):
    queue.set_output_root(tmp_path)
    put(queue, "a")
    commit_unpublished(queue, tmp_path)
    assert queue.check().parts["outputs"].checked == 1
    assert queue.check().whole
    (hidden,) = tmp_path.glob(".*.tmp")
    hidden.write_bytes(flip(hidden.read_bytes(), 0.5))
    assert damaged(queue.check()) == {"outputs": 1}


def test_totals_that_do_not_add_up_are_found(queue):
    put(queue, *LINES)
    wrong = "UPDATE totals_by_slot SET waiting = waiting - 3"
    with queue._database.write() as db:
        db.connection.execute(wrong)
    check = queue.check()
    assert damaged(check) == {"totals": 2}
    assert {(one.name, one.lines) for one in check.findings} == {("accepted", 3), ("waiting", 3)}
    with queue._database.write() as db:
        db.connection.execute(wrong.replace("- 3", "+ 3"))
    assert queue.check().whole


def test_a_damaged_trace_is_found_and_left_out(queue, tmp_path):
    put(queue, "a")
    work(queue, tmp_path)
    assert len(traces.traces(queue)) == 1
    change(queue, "traces", "block", lambda block: flip(block, 0.9))
    assert damaged(queue.check()) == {"traces": 1}
    assert len(traces.traces(queue)) == 0


def test_no_more_is_listed_than_a_person_reads_and_all_is_counted(queue, monkeypatch):
    monkeypatch.setattr("etl.queue.check.MAX_FINDINGS", 2)
    for number in range(5):
        put(queue, "a", source=f"{number}.log")
    change(queue, "payloads", "data", lambda data: flip(data, 0.0))
    check = queue.check()
    assert (len(check.findings), damaged(check)) == (2, {"payloads": 5})


def test_pages_end_where_the_next_begins(queue, tmp_path, monkeypatch):
    monkeypatch.setattr("etl.queue.check.PAGES", dict.fromkeys(PAGES, 2))
    for number in range(5):
        put(queue, "a", "bad", source=f"{number}.log")
    assert queue.check().parts["payloads"].checked == 5
    work(queue, tmp_path)
    parts = queue.check().parts
    assert [parts[name].checked for name in ("payloads", "dead letters", "traces")] == [0, 5, 5]
    assert parts["outputs"].checked + parts["outputs"].unchecked == 5


def test_a_check_changes_nothing(queue, contents, tmp_path):
    put(queue, "a", "bad")
    work(queue, tmp_path)
    put(queue, "b")
    before = contents(queue)
    assert queue.check().whole
    assert contents(queue) == before


def test_a_store_tells_what_is_damaged_as_a_frame(tmp_path):
    with etl.open(tmp_path / "s.db") as store:
        put(store.queue, *LINES)
        assert store.check().empty
        change(store.queue, "payloads", "data", lambda data: flip(data, 0.5))
        frame = store.check()
        assert frame.columns.tolist() == ["part", "name", "problem", "source", "lines"]
        assert frame["lines"].tolist() == [40]


def test_what_sqlite_finds_is_told(tmp_path):
    path = tmp_path / "s.db"
    with closing(open_queue(path)) as queue:
        put(queue, *LINES)
        with queue._database.write() as db:
            db.connection.execute("PRAGMA foreign_keys = OFF")
            db.connection.execute("DELETE FROM payloads")
        check = queue.check()
        assert damaged(check) == {"database": 1}
        assert check.findings[0].problem == "row 1 of batches has no row in payloads"


# The output root


def commit_unpublished(queue: Queue, out: Path) -> Lease:
    """Commit a batch, and end before its file gets its name."""
    lease = queue.lease("dying")
    result = Runner(pipeline(), out=out).run(batch_of(lease), token=lease.token)
    queue.use_output_root(out)
    queue.commit(lease, result)
    assert list(out.glob("*.jsonl")) == []
    return lease


def test_outputs_are_kept_below_the_output_root(queue, tmp_path):
    queue.set_output_root(tmp_path / "out")
    assert queue.output_root() == tmp_path / "out"
    put(queue, "a")
    elsewhere = tmp_path / "else"
    sinks = Pipeline().add("a", JsonLines("deep"), after="input", tee=True)
    sinks.add("b", JsonLines(str(elsewhere)), after="input")
    Worker(queue, sinks, out=tmp_path / "out").drain()
    rows = queue._database.rows("SELECT final, staged, size FROM outputs ORDER BY final")
    assert [Path(row["final"]).parent for row in rows] == [elsewhere, Path("deep")]
    assert [row["staged"] for row in rows] == [None, None]
    (file,) = elsewhere.iterdir()
    assert [row["size"] for row in rows] == [file.stat().st_size] * 2
    assert queue.check().whole


def test_a_worker_that_would_write_elsewhere_is_refused(queue, tmp_path):
    queue.set_output_root(tmp_path / "out")
    put(queue, "a")
    said = r"lie below '.*/out', not below '.*/other'; .*: etl store init .* --out /.*/other"
    with pytest.raises(UsageError, match=said):
        work(queue, tmp_path / "other")
    assert queue.stats().waiting == 1
    assert queue.read("workers") == []
    work(queue, tmp_path / "out")
    assert queue.stats().done == 1


def test_the_root_is_not_changed_while_workers_run(queue, tmp_path):
    queue.set_output_root(tmp_path / "out")
    queue.register("w")
    queue.set_output_root(tmp_path / "out")
    with pytest.raises(UsageError, match=r"worker 'w' writes below '.*/out'; stop the workers"):
        queue.set_output_root(tmp_path / "other")
    queue.unregister("w")
    queue.set_output_root(tmp_path / "other")
    assert queue.output_root() == tmp_path / "other"


def test_relative_paths_and_links_are_the_folder_that_they_name(queue, tmp_path, monkeypatch):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    queue.set_output_root(tmp_path / "link")
    monkeypatch.chdir(tmp_path)
    for number, out in enumerate((Path("link"), Path("real"), tmp_path / "real/../link")):
        put(queue, "a", source=f"{number}")
        work(queue, out)
    assert queue.output_root() == tmp_path / "real"
    assert len(list((tmp_path / "real").glob("*.jsonl"))) == 3


def test_a_store_on_a_server_has_the_root_that_it_is_told(postgres_url, tmp_path):
    with closing(open_queue(postgres_url)) as queue:
        for out in ("one", "two"):
            put(queue, "a", source=out)
            work(queue, tmp_path / out)
        assert queue.output_root() is None
        shutil.rmtree(tmp_path / "one")
        check = queue.check()
        assert check.whole, "it may be on another machine"
        assert (check.parts["outputs"].checked, check.parts["outputs"].unchecked) == (1, 1)


def test_a_root_that_is_not_on_this_machine_is_said(postgres_url, tmp_path):
    with closing(open_queue(postgres_url)) as queue:
        queue.set_output_root(tmp_path / "away")
        put(queue, "a")
        work(queue, tmp_path / "away")
        shutil.rmtree(tmp_path / "away")
        (finding,) = queue.check().findings
        assert finding.problem.startswith("the output root is not on this machine")
        assert lost_outputs(queue) == []


@pytest.fixture
def job(tmp_path: Path) -> Path:
    """Make a folder with a store and a batch that is committed, and not published."""
    folder = tmp_path / "job"
    with closing(open_queue(folder / "s.db")) as queue:
        put(queue, "a")
        commit_unpublished(queue, folder / "out")
    return folder


def test_a_folder_that_was_moved_before_its_output_was_published_is_gone_on_with(job, tmp_path):
    moved = tmp_path / "elsewhere" / "job"
    moved.parent.mkdir()
    job.rename(moved)
    with closing(open_queue(moved / "s.db")) as queue:
        assert queue.output_root() == moved / "out"
        work(queue, moved / "out")
        assert [path.read_text() for path in (moved / "out").glob("*.jsonl")]
        assert queue.pending_outputs() == []
        assert queue.check().whole
    assert not job.exists()


def test_a_worker_that_names_no_folder_uses_that_of_the_store(job):
    with closing(open_queue(job / "s.db")) as queue:
        put(queue, "b", source="b.log")
        Worker(queue, pipeline()).drain()
        assert len(list((job / "out").glob("*.jsonl"))) == 2


def test_an_output_that_is_lost_is_said_and_stops_nothing(job, caplog):
    shutil.rmtree(job / "out")
    with closing(open_queue(job / "s.db")) as queue:
        put(queue, "b", source="b.log")
        work(queue, job / "out")
        assert queue.stats().done == 2
        (lost,) = lost_outputs(queue)
        assert [record.levelname for record in caplog.records] == ["ERROR"]
        assert f"output {lost.final!r} was committed and is lost" in caplog.text
        assert [one.problem for one in queue.check().findings] == ["is missing"]

        Path(lost.final).write_text("from a copy\n")  # then there is another word for it
        work(queue, job / "out")
        assert lost_outputs(queue) == []
        assert [one.problem[:4] for one in queue.check().findings] == ["has "]


def test_an_output_that_cannot_be_published_yet_is_published_later(job, caplog):
    with closing(open_queue(job / "s.db")) as queue:
        (pending,) = queue.pending_outputs()
        Path(pending.final).mkdir()  # in the way
        put(queue, "b", source="b.log")
        work(queue, job / "out")
        assert f"output {pending.final!r} cannot be published yet" in caplog.text
        assert queue.stats().done == 2
        Path(pending.final).rmdir()
        work(queue, job / "out")
        assert queue.pending_outputs() == []
        assert queue.check().whole


def test_a_pending_output_of_an_earlier_etl_is_published_from_where_it_is(tmp_path):
    with closing(open_queue(tmp_path / "s.db")) as queue:
        (tmp_path / "out").mkdir()
        staged, final = tmp_path / "out" / ".a.tmp", tmp_path / "out" / "a.jsonl"
        staged.write_text("a\n")
        with queue._database.write() as db:
            old = "INSERT INTO outputs (final, staged, source, lines) VALUES (?, ?, '', 0)"
            db.connection.execute(old, (str(final), str(staged)))
        work(queue, tmp_path / "out")
        assert final.read_text() == "a\n"
        assert queue.pending_outputs() == []
        assert queue.check().parts["outputs"].unchecked == 1
