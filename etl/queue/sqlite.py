"""The store in one SQLite file: WAL, every put and commit synced to the disk.

One connection writes, one reads; both are behind a lock, so that a store may
be used from any thread. SQLite has one writer at a time anyway, and lets go of
Python's lock while it works. Leases and heartbeats are not synced: after a
power cut a batch that was leased is simply waiting again.
"""

from __future__ import annotations

import json
import os
import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from importlib import resources
from math import log2
from pathlib import Path
from typing import Any

import polars as pl
import zstandard

from etl.errors import (
    LeaseLost,
    QueueClosed,
    QueueFull,
    SourceChanged,
    StoreError,
    StoreFull,
    StoreVersion,
    UsageError,
)
from etl.lines import Batch, Lease, Outcome, Output, Tally, Trace, decode_payload, new_id
from etl.queue import Control, LetterFilter, Position, RecordKind, Stats

__all__ = ["SqliteQueue"]

APPLICATION_ID = 0x45544C31
"""`ETL1` in the file's header: tells our files from those of other programs."""

VERSION = 1
"""Of the schema; a file with a higher one was made by a newer etl."""

HISTORY_SECONDS = 3600
KEPT_TRACES = 1000
KEPT_ERRORS = 1000
WORKER_GONE = 60.0
"""Seconds without a heartbeat after which a worker's slot may be taken."""

LONGEST_POLL = 0.025

BATCH_COLUMNS = "b.id, b.source, b.format, b.first_line, b.skip, b.lines, p.encoding, p.data"

READY = "state = 'waiting' AND not_before <= :now"

RECORDS: Mapping[str, tuple[str, str]] = {
    "processors": ("SELECT * FROM processors", "rowid"),
    "latency": ("SELECT * FROM latency", "processor, bucket"),
    "processor_history": ("SELECT * FROM processor_history", "second"),
    "queue_history": ("SELECT * FROM queue_history", "second"),
    "errors": ("SELECT * FROM errors", "seq"),
    "traces": ("SELECT * FROM traces", "seq"),
    "states": ("SELECT * FROM states", "slot, processor"),
    "workers": ("SELECT * FROM workers", "slot"),
    "positions": ("SELECT * FROM positions", "source"),
}
"""Table and order of each kind of record."""

LETTER_COLUMNS = (
    "d.id, d.failure, d.status, d.source, d.line_number, d.lines, d.line, d.raw, d.format, "
    "d.payload, d.message, d.attempts, d.replays, d.first_failed_at, d.last_failed_at, d.batch"
)

GROUPS = """
    SELECT f.fingerprint, f.processor, f.code, f.error, d.message, substr(d.line, 1, 200) AS sample,
           g.lines, g.replays, g.first_failed_at, g.last_failed_at
    FROM (
        SELECT d.failure, sum(d.lines) AS lines, max(d.replays) AS replays, max(d.id) AS newest,
               min(d.first_failed_at) AS first_failed_at, max(d.last_failed_at) AS last_failed_at
        FROM dead d JOIN failures f ON f.id = d.failure {where} GROUP BY d.failure
    ) g JOIN dead d ON d.id = g.newest JOIN failures f ON f.id = g.failure
    ORDER BY g.newest
"""

LETTER_TYPES: dict[str, Any] = {
    "id": pl.Int64,
    "failure": pl.Int64,
    "status": pl.String,
    "source": pl.String,
    "line_number": pl.Int64,
    "lines": pl.Int64,
    "line": pl.String,
    "raw": pl.Binary,
    "format": pl.String,
    "payload": pl.String,
    "message": pl.String,
    "attempts": pl.Int64,
    "replays": pl.Int64,
    "first_failed_at": pl.Float64,
    "last_failed_at": pl.Float64,
    "batch": pl.String,
}

FAILURE_TYPES: dict[str, Any] = {
    "failure": pl.Int64,
    "fingerprint": pl.String,
    "processor": pl.String,
    "code": pl.String,
    "error": pl.String,
    "traceback": pl.String,
    "path": pl.String,
    "version": pl.String,
    "run": pl.String,
}


class SqliteQueue:
    """A `Queue` in an SQLite file, or in memory if there is no path.

    Args:
        path: The file; made with its folder if it is not there.
        max_lines: Waiting lines at which `put` blocks or is refused.
        max_bytes: The same in bytes of text.
        clock: Returns Unix seconds.
    """

    def __init__(
        self,
        path: Path | None,
        *,
        max_lines: int | None = None,
        max_bytes: int | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.url = "sqlite://" if path is None else f"sqlite:///{path.absolute()}"
        self._name = "the store in memory" if path is None else f"store {str(path)!r}"
        self._limits = (max_lines, max_bytes)
        self._clock = clock
        self._closed = False
        self._writes = 0
        self._changed = threading.Condition()
        self._write_lock = threading.RLock()
        if path is not None:
            self._check_header(path)
        with self._as_store_errors():
            self._writer = self._connect(path)
            self._create()
            self._reader = self._writer if path is None else self._connect(path)
        self._read_lock = self._write_lock if path is None else threading.RLock()

    def __repr__(self) -> str:
        return f"<SqliteQueue {self.url}>"

    # Producers

    def put(
        self,
        *batches: Batch,
        position: Position | None = None,
        block: bool = True,
        timeout: float | None = None,
    ) -> None:
        """See `Queue.put`."""
        full = [(batch, *batch.encode()) for batch in batches if batch.lines]
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            since = self.changes()
            with self._write() as db:
                if self._has_room(db, full):
                    self._insert(db, full)
                    self._move_position(db, position)
                    self._note_history(db)
                    return
            left = 1.0 if deadline is None else deadline - time.monotonic()
            if not block or left <= 0:
                raise QueueFull(
                    f"{self._name} has {self.stats().waiting} lines waiting, its limit; "
                    "wait for workers, or open it with a higher limit"
                )
            self.wait(since, left)

    def position(self, source: str) -> Position | None:
        """See `Queue.position`."""
        row = self._one("SELECT * FROM positions WHERE source = ?", source)
        return Position(**row) if row else None

    # Workers

    def lease(self, worker: str, *, lines: int = 1, seconds: float = 30.0) -> Lease | None:
        """See `Queue.lease`."""
        now = self._clock()
        if not self._one(
            f"SELECT 1 FROM batches WHERE ({READY}) OR (state = 'leased' AND until < :now) LIMIT 1",
            now=now,
        ):
            return None
        token = new_id()
        with self._write(durable=False) as db:
            if not self._may_lend(db):
                return None
            db.execute(
                "UPDATE batches SET state = 'waiting', token = NULL, worker = NULL "
                "WHERE state = 'leased' AND until < ?",
                (now,),
            )
            rows = self._choose(db, now, lines)
            if not rows:
                return None
            self._use_step(db)
            db.executemany(
                "UPDATE batches SET state = 'leased', worker = ?, token = ?, until = ?, "
                "deliveries = deliveries + 1 WHERE seq = ?",
                [(worker, token, now + seconds, row["seq"]) for row in rows],
            )
            db.execute("UPDATE workers SET batch = ? WHERE name = ?", (rows[0]["id"], worker))
        batches = tuple(
            _batch(row)
            for row in self._all(
                f"SELECT {BATCH_COLUMNS} FROM batches b JOIN payloads p ON p.id = b.payload "
                "WHERE b.token = ? ORDER BY b.seq",
                token,
            )
        )
        if not batches:  # lent for no time at all, and gone again
            return None
        return Lease(token, worker, batches, now + seconds, rows[0]["deliveries"] + 1)

    def renew(self, lease: Lease, *, seconds: float = 30.0) -> None:
        """See `Queue.renew`."""
        with self._write(durable=False) as db:
            changed = db.execute(
                "UPDATE batches SET until = ? WHERE token = ?",
                (self._clock() + seconds, lease.token),
            )
            self._guard(changed, lease)

    def commit(self, lease: Lease, outcome: Outcome) -> None:
        """See `Queue.commit`."""
        now = self._clock()
        with self._write() as db:
            self._take_out(db, lease)
            _add_totals(db, done=outcome.done, filtered=outcome.filtered, dead=outcome.dead)
            _keep_letters(db, lease, outcome, now)
            _keep_tallies(db, lease.worker, outcome.tallies, int(now))
            self._keep_states(db, lease, outcome)
            db.executemany(
                "INSERT INTO outputs VALUES (?, ?)",
                [(output.staged, output.final) for output in outcome.outputs],
            )
            _keep_errors(db, lease, outcome, now)
            _keep_trace(db, lease, outcome, now)
            db.execute("UPDATE workers SET batch = NULL WHERE name = ?", (lease.worker,))
            self._note_history(db)

    def release(self, lease: Lease, *, delay: float = 0.0) -> None:
        """See `Queue.release`."""
        with self._write(durable=False) as db:
            changed = db.execute(
                "UPDATE batches SET state = 'waiting', token = NULL, worker = NULL, "
                "deliveries = deliveries - 1, not_before = ? WHERE token = ?",
                (self._clock() + delay if delay else 0.0, lease.token),
            )
            self._guard(changed, lease)

    def split(self, lease: Lease, parts: int = 8) -> None:
        """See `Queue.split`."""
        with self._write() as db:
            old = db.execute(
                "SELECT seq, payload, put_at FROM batches WHERE token = ? ORDER BY seq",
                (lease.token,),
            ).fetchall()
            if len(old) != len(lease.batches):
                raise self._lost(lease)
            for row, batch in zip(old, lease.batches, strict=True):
                for part in batch.parts(parts):
                    values = _batch_values(part, row["payload"], row["put_at"])
                    db.execute(INSERT_BATCH, {**values, "deliveries": 1})
                db.execute("DELETE FROM batches WHERE seq = ?", (row["seq"],))

    def reclaim(self) -> list[str]:
        """See `Queue.reclaim`."""
        rows = self._all("SELECT name, pid FROM workers WHERE host = ?", socket.gethostname())
        gone = [row["name"] for row in rows if not _alive(row["pid"])]
        if not gone:
            return []
        tokens: list[str] = []
        with self._write(durable=False) as db:
            for name in gone:
                tokens += [
                    row["token"]
                    for row in db.execute(
                        "SELECT DISTINCT token FROM batches WHERE worker = ? AND state = 'leased'",
                        (name,),
                    )
                ]
                db.execute("DELETE FROM workers WHERE name = ?", (name,))
            db.executemany(
                "UPDATE batches SET state = 'waiting', token = NULL, worker = NULL WHERE token = ?",
                [(token,) for token in tokens],
            )
        return tokens

    # Operators

    def peek(self, limit: int = 100) -> pl.DataFrame:
        """See `Queue.peek`."""
        columns = f"{BATCH_COLUMNS}, b.put_at"
        rows = self._all(
            f"SELECT {columns} FROM batches b JOIN payloads p ON p.id = b.payload "
            "WHERE b.state = 'waiting' ORDER BY b.seq LIMIT ?",
            limit,
        )
        frames: list[pl.DataFrame] = []
        left = limit
        for row in rows:
            if left <= 0:
                break
            batch = _batch(row)
            try:
                lines = batch.frame().head(left)
            except SourceChanged:
                continue
            frame = lines.select(
                batch=pl.lit(batch.id),
                put_at=pl.lit(row["put_at"]),
                source="source",
                line_number="line_number",
                line="line",
                format=pl.lit(batch.format, pl.String),
            )
            left -= frame.height
            frames.append(frame)
        schema = {"batch": pl.String, "put_at": pl.Float64, "source": pl.String}
        schema |= {"line_number": pl.Int64, "line": pl.String, "format": pl.String}
        return pl.concat([pl.DataFrame(schema=schema), *frames])

    def stats(self) -> Stats:
        """See `Queue.stats`."""
        with self._read() as db:
            db.execute("BEGIN")
            try:
                rows = db.execute("SELECT name, lines, bytes FROM totals").fetchall()
                counts = dict(
                    db.execute("SELECT state, count(*) FROM batches GROUP BY state").fetchall()
                )
                oldest = db.execute(
                    "SELECT put_at FROM batches WHERE state = 'waiting' ORDER BY seq LIMIT 1"
                ).fetchone()
                control = _read_control(db)
            finally:
                db.execute("ROLLBACK")
        lines = {row["name"]: row["lines"] for row in rows}
        sizes = {row["name"]: row["bytes"] for row in rows}
        return Stats(
            **lines,
            waiting_bytes=sizes["waiting"],
            waiting_batches=counts.get("waiting", 0),
            leased_batches=counts.get("leased", 0),
            oldest_age=max(0.0, self._clock() - oldest["put_at"]) if oldest else 0.0,
            paused=control.get("paused") == "1",
        )

    def pause(self, reason: str = "") -> None:
        """See `Queue.pause`."""
        self._set_control(paused="1", reason=reason, steps="0")

    def resume(self) -> None:
        """See `Queue.resume`."""
        self._set_control(paused="0", reason="", steps="0")

    def step(self, batches: int = 1) -> None:
        """See `Queue.step`."""
        with self._write() as db:
            _count_control(db, steps=batches)

    def drain(self) -> None:
        """See `Queue.drain`."""
        with self._write() as db:
            _count_control(db, drains=1)

    def stop(self) -> None:
        """See `Queue.stop`."""
        with self._write() as db:
            _count_control(db, stops=1)

    def control(self) -> Control:
        """See `Queue.control`."""
        with self._read() as db:
            values = _read_control(db)
        return Control(
            paused=values.get("paused") == "1",
            reason=values.get("reason", ""),
            drains=int(values.get("drains", 0)),
            stops=int(values.get("stops", 0)),
        )

    def register(self, worker: str) -> int:
        """See `Queue.register`."""
        now = self._clock()
        with self._write() as db:
            db.execute(
                "DELETE FROM workers WHERE name = ? OR heartbeat_at < ?",
                (worker, now - WORKER_GONE),
            )
            taken = {row["slot"] for row in db.execute("SELECT slot FROM workers")}
            slot = next(slot for slot in range(len(taken) + 1) if slot not in taken)
            db.execute(
                "INSERT INTO workers VALUES (?, ?, ?, ?, ?, ?, NULL)",
                (worker, slot, socket.gethostname(), os.getpid(), now, now),
            )
        return slot

    def heartbeat(self, worker: str, batch: str | None = None) -> None:
        """See `Queue.heartbeat`."""
        with self._write(durable=False) as db:
            db.execute(
                "UPDATE workers SET heartbeat_at = ?, batch = ? WHERE name = ?",
                (self._clock(), batch, worker),
            )

    def unregister(self, worker: str) -> None:
        """See `Queue.unregister`."""
        with self._write(durable=False) as db:
            db.execute("DELETE FROM workers WHERE name = ?", (worker,))

    def states(self, slot: int) -> Mapping[str, str]:
        """See `Queue.states`."""
        rows = self._all("SELECT processor, state FROM states WHERE slot = ?", slot)
        return {row["processor"]: row["state"] for row in rows}

    def unpublished(self) -> list[Output]:
        """See `Queue.unpublished`."""
        return [Output(**row) for row in self._all("SELECT staged, final FROM outputs")]

    def published(self, outputs: Sequence[Output]) -> None:
        """See `Queue.published`."""
        with self._write(durable=False) as db:
            db.executemany(
                "DELETE FROM outputs WHERE staged = ?", [(output.staged,) for output in outputs]
            )

    def records(self, kind: RecordKind, *, limit: int | None = None) -> list[dict[str, Any]]:
        """See `Queue.records`."""
        select, order = RECORDS[kind]
        if limit is None:
            return self._all(f"{select} ORDER BY {order}")
        newest = ", ".join(f"{column.strip()} DESC" for column in order.split(","))
        return self._all(f"{select} ORDER BY {newest} LIMIT ?", limit)[::-1]

    # Dead letters

    def letters(self, wanted: LetterFilter) -> pl.DataFrame:
        """See `Queue.letters`."""
        where, values = _where(wanted)
        limit = -1 if wanted.limit is None else wanted.limit
        with self._read() as db:
            rows = db.execute(
                f"SELECT {LETTER_COLUMNS} FROM dead d JOIN failures f ON f.id = d.failure {where} "
                "ORDER BY d.id DESC LIMIT ?",
                (*values, limit),
            ).fetchall()
            kinds = db.execute("SELECT * FROM failures").fetchall()
        letters = pl.DataFrame(map(tuple, rows[::-1]), schema=LETTER_TYPES, orient="row")
        failures = pl.DataFrame(map(tuple, kinds), schema=FAILURE_TYPES, orient="row")
        return letters.join(failures, on="failure", how="left", maintain_order="left")

    def letter_groups(self, wanted: LetterFilter) -> list[dict[str, Any]]:
        """See `Queue.letter_groups`."""
        where, values = _where(wanted)
        groups: dict[str, dict[str, Any]] = {}
        for row in self._all(GROUPS.format(where=where), *values):
            group = groups.setdefault(row["fingerprint"], row)
            if group is not row:
                row["lines"] += group["lines"]
                row["replays"] = max(row["replays"], group["replays"])
                row["first_failed_at"] = min(row["first_failed_at"], group["first_failed_at"])
                row["last_failed_at"] = max(row["last_failed_at"], group["last_failed_at"])
                groups[row["fingerprint"]] = row
        return sorted(groups.values(), key=lambda row: (-row["lines"], row["fingerprint"]))

    def replay(self, ids: Sequence[int], batches: Sequence[Batch]) -> None:
        """See `Queue.replay`."""
        full = [(batch, *batch.encode()) for batch in batches]
        with self._write() as db:
            lines = self._move_letters(db, ids, "replaying", "replays = replays + 1")
            _add_totals(db, dead=-lines)
            self._insert(db, full, accept=False)
            self._note_history(db)

    def discard(self, ids: Sequence[int]) -> None:
        """See `Queue.discard`."""
        with self._write() as db:
            self._move_letters(db, ids, "discarded", "replays = replays")

    # Waiting for work

    def changes(self) -> object:
        """See `Queue.changes`."""
        with self._read() as db:
            return self._writes, db.execute("PRAGMA data_version").fetchone()[0]

    def wait(self, since: object, timeout: float) -> bool:
        """See `Queue.wait`."""
        deadline = time.monotonic() + timeout
        poll = 0.001
        while self.changes() == since:
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            with self._changed:
                if self._writes == since[0]:  # type: ignore[index]
                    self._changed.wait(min(left, poll))
            poll = min(LONGEST_POLL, poll * 1.5)
        return True

    def close(self) -> None:
        """See `Queue.close`."""
        with self._write_lock, self._read_lock:
            if not self._closed:
                self._closed = True
                self._reader.close()
                self._writer.close()

    # Inside

    def _check_header(self, path: Path) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.is_dir():
                raise StoreError(f"{self._name} is a folder; name a file in it")
            head = b""
            if path.exists():
                with path.open("rb") as file:
                    head = file.read(16)
        except OSError as error:
            raise StoreError(f"{self._name} cannot be opened: {error.strerror}") from error
        if head and head != b"SQLite format 3\0":
            raise StoreError(f"{self._name} is not an etl store; name another file")

    def _connect(self, path: Path | None) -> sqlite3.Connection:
        target = ":memory:" if path is None else str(path)
        db = sqlite3.connect(target, timeout=60, isolation_level=None, check_same_thread=False)
        db.row_factory = sqlite3.Row
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA wal_autocheckpoint = 4000")
        db.execute("PRAGMA temp_store = MEMORY")
        return db

    def _create(self) -> None:
        """Make the tables in a new file; refuse one that is not ours, or is newer."""
        db = self._writer
        db.execute("BEGIN IMMEDIATE")
        try:
            found = db.execute("PRAGMA application_id").fetchone()[0]
            version = db.execute("PRAGMA user_version").fetchone()[0]
            empty = db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0
            if not empty and found != APPLICATION_ID:
                raise StoreError(f"{self._name} is another program's database; name another file")
            if version > VERSION:
                raise StoreVersion(
                    f"{self._name} was made by a newer etl (its version is {version}, this etl "
                    f"knows up to {VERSION}); upgrade etl"
                )
            if empty:
                for statement in _statements():
                    db.execute(statement)
                db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                db.execute(f"PRAGMA user_version = {VERSION}")
            db.execute("COMMIT")
        except BaseException:
            db.execute("ROLLBACK")
            db.close()
            raise

    @contextmanager
    def _write(self, *, durable: bool = True) -> Iterator[sqlite3.Connection]:
        """Run a transaction; unless it is `durable`, a power cut may undo it."""
        with self._write_lock, self._as_store_errors():
            self._check_open()
            db = self._writer
            db.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
                db.execute("COMMIT")
            except BaseException:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise
        with self._changed:
            self._writes += 1
            self._changed.notify_all()

    @contextmanager
    def _read(self) -> Iterator[sqlite3.Connection]:
        with self._read_lock, self._as_store_errors():
            self._check_open()
            yield self._reader

    @contextmanager
    def _as_store_errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            text = str(error)
            if "full" in text or "disk I/O" in text:
                raise StoreFull(
                    f"{self._name} cannot be written: {text}; free some space, nothing was lost"
                ) from error
            raise StoreError(f"{self._name} cannot be used: {text}") from error

    def _check_open(self) -> None:
        if self._closed:
            raise QueueClosed(f"{self._name} is closed; open it again with open_queue()")

    def _all(self, sql: str, *values: Any, **named: Any) -> list[dict[str, Any]]:
        with self._read() as db, closing(db.execute(sql, named or values)) as cursor:
            return [dict(row) for row in cursor]

    def _one(self, sql: str, *values: Any, **named: Any) -> dict[str, Any] | None:
        with self._read() as db, closing(db.execute(sql, named or values)) as cursor:
            row = cursor.fetchone()
            return dict(row) if row else None

    def _has_room(self, db: sqlite3.Connection, full: Sequence[tuple[Batch, str, bytes]]) -> bool:
        """Say whether the batches fit; into an empty queue anything does."""
        most_lines, most_bytes = self._limits
        if most_lines is None and most_bytes is None:
            return True
        row = db.execute("SELECT lines, bytes FROM totals WHERE name = 'waiting'").fetchone()
        lines = row["lines"] + sum(batch.lines for batch, _, _ in full)
        size = row["bytes"] + sum(batch.size for batch, _, _ in full)
        fits = (most_lines is None or lines <= most_lines) and (
            most_bytes is None or size <= most_bytes
        )
        return fits or row["lines"] == 0

    def _insert(
        self,
        db: sqlite3.Connection,
        full: Sequence[tuple[Batch, str, bytes]],
        *,
        accept: bool = True,
    ) -> None:
        now = self._clock()
        accepted = 0
        for batch, encoding, data in full:
            if db.execute("SELECT 1 FROM batches WHERE id = ?", (batch.id,)).fetchone():
                continue
            payload = db.execute(
                "INSERT INTO payloads (encoding, data) VALUES (?, ?)", (encoding, data)
            ).lastrowid
            values = _batch_values(batch, payload, now)
            db.execute(INSERT_BATCH, {**values, "deliveries": 0})
            accepted += batch.lines
        if accept:
            _add_totals(db, accepted=accepted)

    def _move_position(self, db: sqlite3.Connection, position: Position | None) -> None:
        if position is not None:
            db.execute(
                "INSERT OR REPLACE INTO positions VALUES (?, ?, ?, ?)",
                (position.source, position.offset, position.line_number, position.head),
            )

    def _may_lend(self, db: sqlite3.Connection) -> bool:
        control = _read_control(db)
        return control.get("paused") != "1" or int(control.get("steps", "0")) > 0

    def _use_step(self, db: sqlite3.Connection) -> None:
        if _read_control(db).get("paused") == "1":
            _count_control(db, steps=-1)

    def _choose(self, db: sqlite3.Connection, now: float, lines: int) -> list[sqlite3.Row]:
        """Return the oldest waiting batch and the small ones after it that go with it.

        A batch that was lent before goes alone: if it kills workers, it takes
        no other with it.
        """
        columns = "seq, id, source, format, lines, deliveries"
        first = db.execute(
            f"SELECT {columns} FROM batches WHERE {READY} ORDER BY seq LIMIT 1", {"now": now}
        ).fetchone()
        if first is None:
            return []
        rows, left = [first], lines - first["lines"]
        if first["deliveries"] or left <= 0:
            return rows
        followers = db.execute(
            f"SELECT {columns} FROM batches WHERE {READY} AND seq > :seq ORDER BY seq LIMIT :left",
            {"now": now, "seq": first["seq"], "left": left},
        )
        for row in followers:
            left -= row["lines"]
            alike = (row["source"], row["format"]) == (first["source"], first["format"])
            if left < 0 or row["deliveries"] or not alike:
                break
            rows.append(row)
        return rows

    def _take_out(self, db: sqlite3.Connection, lease: Lease) -> None:
        payloads = db.execute(
            "SELECT DISTINCT payload FROM batches WHERE token = ?", (lease.token,)
        ).fetchall()
        gone = db.execute("DELETE FROM batches WHERE token = ?", (lease.token,))
        if gone.rowcount != len(lease.batches):
            raise self._lost(lease)
        db.executemany(
            "DELETE FROM payloads WHERE id = ?1 "
            "AND NOT EXISTS (SELECT 1 FROM batches WHERE payload = ?1)",
            [(row["payload"],) for row in payloads],
        )

    def _keep_states(self, db: sqlite3.Connection, lease: Lease, outcome: Outcome) -> None:
        """Save states, unless this worker's slot has gone to another in the meantime."""
        if not outcome.states:
            return
        holds = db.execute(
            "SELECT 1 FROM workers WHERE name = ? AND slot = ?", (lease.worker, outcome.slot)
        ).fetchone()
        if holds is None:
            raise LeaseLost(f"worker {lease.worker!r} no longer has slot {outcome.slot}")
        db.executemany(
            "INSERT OR REPLACE INTO states VALUES (?, ?, ?)",
            [(outcome.slot, name, state) for name, state in outcome.states.items()],
        )

    def _guard(self, changed: sqlite3.Cursor, lease: Lease) -> None:
        if changed.rowcount != len(lease.batches):
            raise self._lost(lease)

    def _lost(self, lease: Lease) -> LeaseLost:
        return LeaseLost(
            f"worker {lease.worker!r} lost its lease on batch {lease.batches[0].id}; "
            "nothing was changed"
        )

    def _move_letters(
        self, db: sqlite3.Connection, ids: Sequence[int], status: str, also: str
    ) -> int:
        """Close open dead letters and return how many lines they stand for."""
        listed = json.dumps([int(id) for id in ids])
        where = "id IN (SELECT value FROM json_each(?)) AND status = 'open'"
        lines = db.execute(f"SELECT sum(lines) FROM dead WHERE {where}", (listed,)).fetchone()[0]
        moved = db.execute(f"UPDATE dead SET status = ?, {also} WHERE {where}", (status, listed))
        if moved.rowcount != len(ids):
            raise UsageError(
                f"{len(ids) - moved.rowcount} of {len(ids)} dead letters are not open any more; "
                "nothing was changed, look at them again"
            )
        return int(lines or 0)

    def _set_control(self, **values: str) -> None:
        with self._write() as db:
            _write_control(db, **values)

    def _note_history(self, db: sqlite3.Connection) -> None:
        """Write down the totals of this second, and forget those of long ago."""
        second = int(self._clock())
        db.execute(
            "INSERT OR REPLACE INTO queue_history "
            "SELECT ?, max(lines) FILTER (WHERE name = 'accepted'), "
            "max(lines) FILTER (WHERE name = 'done'), max(lines) FILTER (WHERE name = 'filtered'), "
            "max(lines) FILTER (WHERE name = 'dead'), max(lines) FILTER (WHERE name = 'waiting'), "
            "max(lines) FILTER (WHERE name = 'leased') FROM totals",
            (second,),
        )
        for table in ("queue_history", "processor_history"):
            db.execute(f"DELETE FROM {table} WHERE second < ?", (second - HISTORY_SECONDS,))


def _where(wanted: LetterFilter) -> tuple[str, list[Any]]:
    """Return a WHERE clause over dead (d) and failures (f), and its values."""
    places = {
        "d.status": wanted.status,
        "f.fingerprint": wanted.fingerprint,
        "f.processor": wanted.processor,
        "f.code": wanted.code,
        "d.source": wanted.source,
    }
    given = {column: value for column, value in places.items() if value is not None}
    clauses = [f"{column} = ?" for column in given]
    values: list[Any] = list(given.values())
    if wanted.ids is not None:
        clauses.append("d.id IN (SELECT value FROM json_each(?))")
        values.append(json.dumps([int(id) for id in wanted.ids]))
    return f"WHERE {' AND '.join(clauses)}" if clauses else "", values


INSERT_BATCH = """
    INSERT INTO batches (id, payload, source, format, first_line, skip, lines, bytes, put_at,
                         deliveries)
    VALUES (:id, :payload, :source, :format, :first_line, :skip, :lines, :bytes, :put_at,
            :deliveries)
"""


def _batch_values(batch: Batch, payload: int | None, put_at: float) -> dict[str, Any]:
    return {
        "id": batch.id,
        "payload": payload,
        "source": batch.source,
        "format": batch.format,
        "first_line": batch.first_line,
        "skip": batch.skip,
        "lines": batch.lines,
        "bytes": batch.size,
        "put_at": put_at,
    }


def _batch(row: Mapping[str, Any]) -> Batch:
    return Batch(
        id=row["id"],
        source=row["source"],
        format=row["format"],
        first_line=row["first_line"],
        skip=row["skip"],
        lines=row["lines"],
        payload=decode_payload(row["encoding"], row["data"]),
    )


def _statements() -> Iterator[str]:
    """Cut schema.sql into statements; a trigger has semicolons inside."""
    text = resources.files("etl.queue").joinpath("schema.sql").read_text("utf-8")
    statement = ""
    for line in text.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


def _read_control(db: sqlite3.Connection) -> dict[str, str]:
    return dict(db.execute("SELECT key, value FROM control").fetchall())


def _write_control(db: sqlite3.Connection, **values: str) -> None:
    db.executemany("INSERT OR REPLACE INTO control VALUES (?, ?)", list(values.items()))


def _count_control(db: sqlite3.Connection, **counts: int) -> None:
    values = _read_control(db)
    _write_control(db, **{key: str(int(values.get(key, 0)) + n) for key, n in counts.items()})


def _add_totals(db: sqlite3.Connection, **lines: int) -> None:
    db.executemany(
        "UPDATE totals SET lines = lines + ? WHERE name = ?",
        [(count, name) for name, count in lines.items() if count],
    )


def _keep_letters(db: sqlite3.Connection, lease: Lease, outcome: Outcome, now: float) -> None:
    db.executemany(
        "UPDATE dead SET status = 'replayed' WHERE id = ?", [(id,) for id in outcome.passed]
    )
    if not outcome.letters.height:
        return
    ids = [_failure_id(db, failure, outcome) for failure in outcome.failures]
    batch = lease.batches[0]
    new: list[tuple[Any, ...]] = []
    again: list[tuple[Any, ...]] = []
    for (
        letter,
        failure,
        line,
        raw,
        number,
        lines,
        payload,
        message,
        attempts,
    ) in outcome.letters.iter_rows():
        if letter is None:
            new.append(
                (
                    ids[failure],
                    batch.id,
                    batch.source,
                    batch.format,
                    number,
                    lines,
                    line,
                    raw,
                    payload,
                    message,
                    attempts,
                    now,
                    now,
                )
            )
        else:
            again.append((ids[failure], payload, message, attempts, now, letter))
    db.executemany(
        "INSERT INTO dead (failure, batch, source, format, line_number, lines, line, raw, payload, "
        "message, attempts, first_failed_at, last_failed_at) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        new,
    )
    db.executemany(
        "UPDATE dead SET status = 'open', failure = ?, payload = ?, message = ?, "
        "attempts = attempts + ?, last_failed_at = ? WHERE id = ?",
        again,
    )


def _failure_id(db: sqlite3.Connection, failure: Any, outcome: Outcome) -> int:
    path = json.dumps(failure.path, ensure_ascii=False)
    key = (failure.fingerprint, path, outcome.version, outcome.run)
    db.execute(
        "INSERT OR IGNORE INTO failures (fingerprint, path, version, run, processor, code, error, "
        "traceback) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (*key, failure.processor, failure.code, failure.error, failure.traceback),
    )
    row = db.execute(
        "SELECT id FROM failures WHERE (fingerprint, path, version, run) = (?, ?, ?, ?)", key
    ).fetchone()
    return int(row["id"])


def _keep_tallies(
    db: sqlite3.Connection, worker: str, tallies: Mapping[str, Tally], second: int
) -> None:
    counts = "received = received + excluded.received, emitted = emitted + excluded.emitted, "
    counts += "filtered = filtered + excluded.filtered, errors = errors + excluded.errors, "
    counts += "retries = retries + excluded.retries, dead = dead + excluded.dead, "
    counts += "seconds = seconds + excluded.seconds"
    rows = [
        (name, t.received, t.emitted, t.filtered, t.errors, t.retries, t.dead, t.seconds)
        for name, t in tallies.items()
    ]
    for table, key in (("processors", worker), ("processor_history", second)):
        db.executemany(
            f"INSERT INTO {table} VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) "
            f"ON CONFLICT DO UPDATE SET {counts}",
            [(key, *row) for row in rows],
        )
    db.executemany(
        "INSERT INTO latency VALUES (?, ?, ?) "
        "ON CONFLICT DO UPDATE SET lines = lines + excluded.lines",
        [
            (name, round(8 * log2(max(1e-9, tally.seconds / tally.received))), tally.received)
            for name, tally in tallies.items()
            if tally.received
        ],
    )


def _keep_errors(db: sqlite3.Connection, lease: Lease, outcome: Outcome, now: float) -> None:
    if not outcome.errors:
        return
    db.executemany(
        "INSERT INTO errors (at, worker, batch, processor, error, message, lines, action) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        [(now, lease.worker, lease.batches[0].id, *error) for error in outcome.errors],
    )
    db.execute("DELETE FROM errors WHERE seq <= (SELECT max(seq) FROM errors) - ?", (KEPT_ERRORS,))


def _keep_trace(db: sqlite3.Connection, lease: Lease, outcome: Outcome, now: float) -> None:
    """Keep the batch's trace, and of the older ones what is needed for 1,000 lines."""
    trace = outcome.trace
    if trace is None:
        return
    batch = lease.batches[0]
    seq = (
        db.execute(
            "INSERT INTO traces (at, worker, batch, source, version, lines, block) "
            "VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                now,
                lease.worker,
                batch.id,
                batch.source,
                outcome.version,
                trace.lines.height,
                encode_trace(trace),
            ),
        ).lastrowid
        or 0
    )
    if trace.lines.height >= KEPT_TRACES:
        db.execute("DELETE FROM traces WHERE seq < ?", (seq,))
    elif seq % 64 == 0:
        db.execute(
            "DELETE FROM traces WHERE seq < (SELECT max(seq) FROM (SELECT seq, "
            "sum(lines) OVER (ORDER BY seq DESC) AS newer FROM traces) WHERE newer >= ?)",
            (KEPT_TRACES,),
        )


def encode_trace(trace: Trace) -> bytes:
    """Return a trace as compressed JSON."""
    text = json.dumps([trace.lines.to_dict(as_series=False), list(trace.paths)])
    return zstandard.ZstdCompressor(level=-1).compress(text.encode())


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
