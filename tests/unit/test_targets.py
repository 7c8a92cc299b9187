"""What targets take, what they hold after it, and what happens while they fail."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import psycopg
import pytest
from targets import BulkServer, bulk_server, rows_of

from etl import (
    Batch,
    DatabaseTable,
    Delta,
    DuckLake,
    Elasticsearch,
    HttpLines,
    Loki,
    Pipeline,
    Worker,
    each,
    open_queue,
)
from etl.errors import ProcessorStop, TargetUnavailable, UsageError
from etl.processors.processor import Delivery
from etl.queue import DeadLetterFilter
from etl.sinks.target import Address, Target

ROWS = pl.DataFrame(
    {
        "n": [1, None],
        "line": ["one", "zwei ü\n€"],
        "at": [datetime(2026, 11, 27, tzinfo=UTC), None],
        "seconds": [0.5, None],
    }
)


def delivery(out: Path, id: str = "b1") -> Delivery:
    return Delivery(id=id, token="t", out=out)  # noqa: S106 - of a lease


def stage(target: Target, rows: pl.DataFrame, out: Path, id: str) -> None:
    """Spool rows as a committed batch."""
    given = delivery(out, id)
    target.agree(rows, given)
    target.stage(target.fit(rows, given), given).publish()


def load(target: Target, out: Path) -> int:
    """Load what is spooled, as a loader does, but leave the files; return how many were new."""
    files = target.waiting(out)
    with target.session() as session:
        known = session.loaded([one.id for one in files])
        if new := [one for one in files if one.id not in known]:
            session.load(new)
    return len(new)


@pytest.fixture
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Name an empty target of a kind."""
    if request.param == "postgres":
        return str(request.getfixturevalue("postgres_schema")())
    if request.param == "lake-postgres":
        server = request.getfixturevalue("postgres_server")
        name = f"lake_{tmp_path.name[-40:]}".lower().replace("-", "_")
        with psycopg.connect(server, autocommit=True) as admin:
            admin.execute(f'CREATE DATABASE "{name}"')
        return f"lake:{server.rpartition('/')[0]}/{name}"
    if request.param in ("lake", "delta"):
        return f"{request.param}:{tmp_path / request.param}"
    return f"{request.param}:///{tmp_path / request.param}"


def table(place: str, **options: Any) -> Any:
    kind, _, rest = place.partition(":")
    if kind == "delta":
        return Delta(rest, **options)
    if kind == "lake":
        files = {"files": f"{rest.rpartition('/')[2]}.files"} if "://" in rest else {}
        return DuckLake(rest, "lines", **options, **files)
    return DatabaseTable(place, "lines", **options)


@pytest.mark.parametrize("place", ["sqlite", "duckdb", "postgres", "lake", "delta"], indirect=True)
def test_a_table_holds_the_rows_of_each_batch_once(place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "out"
    target = table(place, add_columns=True)
    stage(target, ROWS, out, "b1")
    stage(target, ROWS, out, "b2")
    assert load(target, out) == 2
    wider = ROWS.with_columns(tags=pl.Series([["a", "b"], None]), n=pl.lit(3, pl.UInt32))
    stage(target, wider, out, "b3")

    assert load(target, out) == 1
    assert load(table(place), out) == 0  # as another process, after a kill
    found = rows_of(place, target)
    assert sorted(found["n"].fill_null(0)) == [0, 0, 1, 1, 3, 3]
    assert found["line"].to_list().count("zwei ü\n€") == 3
    assert found["tags"].drop_nulls().to_list() == ['["a","b"]']
    assert str(found["at"].drop_nulls()[0]).startswith("2026-11-27")


@pytest.mark.parametrize("place", ["sqlite", "postgres", "lake-postgres", "delta"], indirect=True)
def test_only_one_of_two_that_load_the_same_file_succeeds(place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    target = table(place)
    stage(target, ROWS, tmp_path, "b1")
    load(target, tmp_path)
    stage(target, ROWS, tmp_path, "b2")
    files = target.waiting(tmp_path)[1:]
    with target.session() as first, table(place).session() as second:
        assert set(first.loaded(["b2"])) == set(second.loaded(["b2"])) == set()
        second.load(files)
        with pytest.raises(Exception, match=r"(?i)unique|concurrent|another process"):
            first.load(files)
    assert rows_of(place, target).height == 4


def sqlite_table(tmp_path: Path, definition: str, **options: Any) -> DatabaseTable:
    with closing(sqlite3.connect(tmp_path / "t.db")) as connection:
        connection.execute(f"CREATE TABLE lines ({definition})")
    return DatabaseTable(f"sqlite:///{tmp_path / 't.db'}", "lines", **options)


def test_rows_that_do_not_fit_are_dead_letters_with_the_reason(queue, tmp_path, postgres_schema):
    url = postgres_schema()
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE lines (line varchar(5), n integer NOT NULL)")
    values = {"fits": 1, "too long": 1, "nul\0": 1, "null": None, "wide": 2**40, "text": "7"}
    number = each(lambda row: {"line": row["line"], "n": str(values[row["line"]] or "") or None})
    target = DatabaseTable(url, "lines")
    pipeline = Pipeline().add("number", number).add("out", target)
    queue.put(Batch.from_lines(values))
    Worker(queue, pipeline, out=tmp_path).drain()

    dead = queue.dead_letters(DeadLetterFilter())
    assert dict(dead.select("line", "message").iter_rows()) == {
        "too long": "column 'line' is too long for character varying(5) (table lines)",
        "nul\0": "column 'line' has the character U+0000, which character varying(5) cannot hold "
        "(table lines)",
        "null": "column 'n' is null, and must not be (table lines)",
        "wide": "column 'n' does not fit integer (table lines)",
    }
    assert set(dead["code"]) == {"does_not_fit"}
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT * FROM lines ORDER BY n").fetchall() == [
            ("fits", 1),
            ("text", 7),
        ]


@pytest.mark.parametrize(
    ("definition", "said"),
    [
        ("n INTEGER, other TEXT", "no columns 'line', 'at', 'seconds' (it has n, other); add them"),
        ("n, line, at INTEGER, seconds REAL", "column 'at' holds Datetime"),
        ("n, line, at, seconds, id INT NOT NULL", "needs values for column 'id'"),
    ],
)
def test_a_table_of_other_columns_stops_the_pipeline_at_once(tmp_path, definition, said):
    target = sqlite_table(tmp_path, definition)
    with pytest.raises(ProcessorStop) as stopped:
        stage(target, ROWS, tmp_path, "b1")
    assert said in str(stopped.value)


def test_odd_types_become_what_databases_have(tmp_path):
    frame = pl.DataFrame(
        {
            "day": [date(2026, 1, 2)],
            "took": [timedelta(milliseconds=1500)],
            "big": pl.Series([2**63], dtype=pl.UInt64),
            "kind": pl.Series(["a"], dtype=pl.Categorical),
            "raw": [b"\xff"],
            "nested": [{"a": [1, None]}],
            "none": [None],
        }
    )
    target = DatabaseTable(f"sqlite:///{tmp_path / 't.db'}", "lines")
    given = delivery(tmp_path)
    assert target.fit(frame, given)["_reject"][0]["reason"] == (
        "column 'big' does not fit INTEGER (table lines)"
    )
    stage(target, frame.with_columns(big=pl.lit(1, pl.UInt64)), tmp_path, "b1")
    load(target, tmp_path)
    with closing(sqlite3.connect(tmp_path / "t.db")) as connection:
        assert connection.execute("SELECT * FROM lines").fetchall() == [
            ("2026-01-02", 1.5, 1, "a", b"\xff", '{"a":[1,null]}', None)
        ]


def test_a_password_is_shown_nowhere(tmp_path, caplog, monkeypatch):
    secret = "pg-s3cret"  # noqa: S105 - of no server
    target = DatabaseTable(f"postgresql://me:{secret}@127.0.0.1:1/db?sslpassword={secret}", "t")
    pipeline = Pipeline().add("out", target)
    store = tmp_path / "s.db"
    with closing(open_queue(store)) as queue:
        queue.put(Batch.from_lines(["one"]))
        with pytest.raises(ProcessorStop) as stopped:
            Worker(queue, pipeline, out=tmp_path / "out", own_sources=True).drain()
        queue.note_target(target.spool, target.name, target.address.hide(OSError(target.url)))
        shown = [str(stopped.value), repr(target), caplog.text, str(queue.targets())]
    assert "postgresql://127.0.0.1:1/db" in shown[0]
    assert "refused" in shown[0]
    assert secret not in "".join(shown) + f"{target.url} {target.url!r} {target.spool}"
    assert secret.encode() not in store.read_bytes()
    other = DatabaseTable("postgresql://me:other@127.0.0.1:1/db?sslpassword=new", "t")
    assert other.spool == target.spool
    assert Pipeline().add("out", other).version == pipeline.version


def test_an_error_says_nothing_that_is_secret():
    address = Address("https://me:a%2Fb@host/x?token=t0ken")
    said = address.hide(ValueError(f"{address.secret} and a/b and a%2Fb and t0ken\nmore"))
    assert said == "https://host/x and … and … and …"


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: DatabaseTable("mysql//x", "t"), "names no database; use postgresql://"),
        (lambda: DatabaseTable("nodb://x/y", "t"), "adbc-driver-nodb, which is not installed"),
        (lambda: DuckLake("mysql://x/y", "t"), "of no known kind; use a path"),
        (lambda: DuckLake("postgresql://x/y", "t"), "has no folder for its Parquet files"),
    ],
)
def test_a_target_that_cannot_be_is_refused(make, said):
    with pytest.raises(UsageError, match=said):
        make()


# Over HTTP


@pytest.fixture
def http() -> Iterator[BulkServer]:
    with bulk_server() as server:
        yield server


def drained(target: Target, out: Path, lines: list[str]) -> None:
    """Put lines through a worker into a target."""
    with closing(open_queue("sqlite://")) as queue:
        queue.put(Batch.from_lines(lines, source="app.log"))
        Worker(queue, Pipeline().add("out", target), out=out).drain()
        assert queue.targets() == []
        assert target.waiting(out) == []


def test_rows_are_posted_until_the_server_has_them(http, tmp_path, caplog):
    busy = (429, {"Retry-After": "0"}, b"slow down")
    http.answers = [busy, (500, {}, b"oops"), None]
    drained(HttpLines(f"{http.url}/in", headers={"X-Key": "k"}), tmp_path, ["one", 'say "ü"\0'])
    paths, headers, bodies = zip(*http.requests, strict=True)
    assert len(bodies) == 4
    assert len(set(bodies)) == len({one["Idempotency-Key"] for one in headers}) == 1
    assert paths[-1] == "/in"
    assert headers[-1]["X-Key"] == "k"
    rows = [json.loads(line) for line in bodies[-1].decode().splitlines()]
    assert [row["line"] for row in rows] == ["one", 'say "ü"\0']
    assert "HTTP 429 Too Many Requests: slow down; trying again" in caplog.text


def test_a_repeat_overwrites_documents_and_refused_ones_are_told(http, tmp_path, caplog):
    def answer(*statuses: int) -> tuple[int, dict[str, str], bytes]:
        error = {"type": "mapper_parsing_exception", "reason": "failed to parse field [n]"}
        items = [
            {"index": {"status": one} | ({"error": error} if one >= 400 else {})}
            for one in statuses
        ]
        return 200, {}, json.dumps({"errors": max(statuses) >= 400, "items": items}).encode()

    http.answers = [answer(201, 429, 201), answer(200, 400, 200)]
    drained(Elasticsearch(http.url, "logs"), tmp_path, ["one", "two", "three"])
    (path, _, first), (_, _, second) = http.requests
    assert path.startswith("/_bulk")
    assert first == second
    actions = [json.loads(line)["index"] for line in first.decode().splitlines()[::2]]
    assert {one["_index"] for one in actions} == {"logs"}
    assert len({one["_id"] for one in actions}) == 3
    (refused,) = (tmp_path / "refused").rglob("*.jsonl")
    row = json.loads(refused.read_text())
    assert row["line"] == "two"
    assert row["refused"] == "mapper_parsing_exception: failed to parse field [n]"
    assert "refused 1 rows, which are in" in caplog.text


def test_loki_gets_entries_with_labels_and_times(http, tmp_path):
    http.always = (204, {}, b"")
    target = Loki(http.url, labels={"job": "shop"}, by=["level"])
    rows = pl.DataFrame(
        {
            "timestamp": [datetime(2026, 11, 27, tzinfo=UTC), None],
            "level": ["INFO", None],
            "message": ["ready", 'a "quote"'],
            "pid": [7, None],
        }
    )
    stage(target, rows, tmp_path, "b1")
    load(target, tmp_path)
    ((path, _, body),) = http.requests
    assert path == "/loki/api/v1/push"
    first, second = json.loads(body)["streams"]
    assert first == {
        "stream": {"job": "shop", "level": "INFO"},
        "values": [["1795737600000000000", "ready", {"pid": "7", "etl_batch": "b1"}]],
    }
    assert second["stream"]["level"] == "none"
    assert second["values"][0][1] == 'a "quote"'


def test_large_files_go_in_parts_and_those_that_were_answered_are_not_sent_again(http, tmp_path):
    rows = pl.DataFrame({"line": ["x" * 1_000_000] * 10})
    http.answers = [(200, {}, b"{}"), (503, {}, b"")]
    target = HttpLines(http.url)
    stage(target, rows, tmp_path, "b1")
    with pytest.raises(Exception, match="HTTP 503"):
        load(target, tmp_path)
    load(target, tmp_path)
    keys = [headers["Idempotency-Key"] for _, headers, _ in http.requests]
    assert keys == ["b1-0", "b1-4", "b1-4", "b1-8"]


# While a target fails


def test_while_a_target_fails_the_queue_fills_and_not_the_disk(http, tmp_path, caplog):
    http.always = (503, {}, b"closed")
    target = HttpLines(http.url, max_spool_bytes=0, timeout=60)
    with closing(open_queue(tmp_path / "s.db")) as queue:
        worker = Worker(queue, Pipeline().add("out", target), out=tmp_path, batch_lines=1).start()
        for number in range(5):
            queue.put(Batch.from_lines([f"line {number}"]))
        with http.seen:
            assert http.seen.wait_for(lambda: len(http.requests) > 1, 30)
        (state,) = queue.targets()
        assert (state.files, state.lines) == (1, 1)
        assert state.name == http.url
        assert state.error == "HTTP 503 Service Unavailable: closed"
        assert state.since
        assert queue.stats().waiting == 4

        http.always = (200, {}, b"")
        with http.seen:
            done = {b"line 0", b"line 4"}
            assert http.seen.wait_for(lambda: all_in(http, done), 30)
        worker.stop()
        Worker(queue, Pipeline().add("out", target), out=tmp_path).drain()
        assert queue.targets() == []
        assert queue.stats().done == 5
    assert "is loaded again" in caplog.text


def all_in(http: BulkServer, texts: set[bytes]) -> bool:
    return all(any(text in body for _, _, body in http.requests) for text in texts)


def test_a_drain_says_what_is_left_if_a_target_fails_for_too_long(http, tmp_path):
    http.always = (401, {}, b"who are you")
    target = HttpLines(http.url, timeout=0.1)
    with closing(open_queue("sqlite://")) as queue:
        queue.put(Batch.from_lines(["one"]))
        pipeline = Pipeline().add("out", target)
        with pytest.raises(TargetUnavailable, match=r"1 file of rows .* HTTP 401 .*who are you"):
            Worker(queue, pipeline, out=tmp_path).drain()
        http.always = (200, {}, b"")
        Worker(queue, pipeline, out=tmp_path).drain()
        assert queue.targets() == []


def test_a_file_that_cannot_be_loaded_keeps_no_others_waiting(tmp_path, caplog):
    target = sqlite_table(tmp_path, "line TEXT CHECK (line <> 'bad')", timeout=2)
    pipeline = Pipeline().add("out", each(lambda row: {"line": row["line"]}))
    pipeline.add("table", target)
    with closing(open_queue("sqlite://")) as queue:
        for line in ("one", "bad", "two"):
            queue.put(Batch.from_lines([line]))
        with pytest.raises(TargetUnavailable, match=r"1 file of rows .* CHECK constraint failed"):
            Worker(queue, pipeline, out=tmp_path, batch_lines=1).drain()
        assert [one.files for one in queue.targets()] == [1]
    with closing(sqlite3.connect(tmp_path / "t.db")) as connection:
        found = connection.execute("SELECT line FROM lines ORDER BY line").fetchall()
    assert found == [("one",), ("two",)]
