"""The store in one SQLite file: every put and commit is synced to the disk.

Leases and heartbeats are not: after a power cut a batch that was leased is
simply waiting again. The tables are in `schema.sql`, connections and
transactions in `database.py`, what a commit writes in `commit.py`.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sqlite3
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import polars as pl

from etl.errors import LeaseLost, QueueFull, SourceBusy, SourceChanged, StoreError
from etl.life import alive
from etl.lines import Batch, Lease, Outcome, Output, decode_payload, new_id
from etl.queue import Control, LetterFilter, Position, RecordKind, Stats
from etl.queue.commit import add_totals, keep_outcome, note_history
from etl.queue.database import Database
from etl.queue.letters import move_letters, read_groups, read_letters

__all__ = ["SqliteQueue"]

WORKER_GONE = 60.0
"""Seconds without a heartbeat after which a worker's slot may be taken."""

BATCH_COLUMNS = "b.id, b.source, b.format, b.first_line, b.skip, b.lines, p.encoding, p.data"

READY = "state = 'waiting' AND not_before <= :now"

WORKERS = """
    SELECT *, (SELECT id FROM batches WHERE worker = workers.name AND state = 'leased'
               ORDER BY seq LIMIT 1) AS batch
    FROM workers
"""

RECORDS: Mapping[str, tuple[str, str]] = {
    "processors": ("SELECT * FROM processors", "rowid"),
    "latency": ("SELECT * FROM latency", "processor, bucket"),
    "processor_history": ("SELECT * FROM processor_history", "second"),
    "queue_history": ("SELECT * FROM queue_history", "second"),
    "errors": ("SELECT * FROM errors", "seq"),
    "traces": ("SELECT * FROM traces", "seq"),
    "states": ("SELECT * FROM states", "slot, processor"),
    "workers": (WORKERS, "slot"),
    "positions": ("SELECT * FROM positions", "source"),
}
"""Table and order of each kind of record."""


class SqliteQueue(Database):
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
        self._limits = (max_lines, max_bytes)
        self._clock = clock
        super().__init__(path)

    def __repr__(self) -> str:
        return f"<SqliteQueue {self.url}>"

    def put(
        self,
        *batches: Batch,
        position: Position | None = None,
        expected: Position | Literal["any"] | None = "any",
        block: bool = True,
        timeout: float | None = None,
    ) -> None:
        """See `Queue.put`."""
        unique = {batch.id: batch for batch in batches if batch.lines}
        full = [(batch, *batch.encode()) for batch in unique.values()]
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            since = self.changes()
            with self._write() as db:
                new = [one for one in full if not _is_there(db, one[0])]
                if self._has_room(db, new):
                    _check_position(db, position, expected)
                    self._insert(db, new)
                    add_totals(db, accepted=sum(batch.lines for batch, _, _ in new))
                    self._move_position(db, position)
                    note_history(db, self._clock())
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

    def lease(self, worker: str, *, lines: int = 1, seconds: float = 30.0) -> Lease | None:
        """See `Queue.lease`."""
        now = self._clock()
        with self._read() as db:
            if not self._may_lend(db):
                return None
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
        counted = outcome.done + outcome.filtered + outcome.dead
        if counted != lease.lines:
            raise StoreError(f"an outcome of {counted} lines for a lease of {lease.lines}")
        with self._write() as db:
            self._take_out(db, lease)
            keep_outcome(db, lease, outcome, now)
            note_history(db, self._clock())

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
                "SELECT seq, payload, put_at, bytes FROM batches WHERE token = ? ORDER BY seq",
                (lease.token,),
            ).fetchall()
            if len(old) != len(lease.batches):
                raise self._lost(lease)
            for row, batch in zip(old, lease.batches, strict=True):
                for part in batch.parts(parts):
                    values = _batch_values(part, row["payload"], row["put_at"])
                    share = row["bytes"] * part.lines // batch.lines
                    db.execute(INSERT_BATCH, {**values, "bytes": share, "deliveries": 1})
                db.execute("DELETE FROM batches WHERE seq = ?", (row["seq"],))

    def reclaim(self) -> list[str]:
        """See `Queue.reclaim`."""
        rows = self._all("SELECT name, pid FROM workers WHERE host = ?", socket.gethostname())
        gone = [row["name"] for row in rows if not alive(row["pid"])]
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

    def peek(self, limit: int = 100) -> pl.DataFrame:
        """See `Queue.peek`."""
        schema = {"batch": pl.String, "put_at": pl.Float64, "source": pl.String}
        schema |= {"line_number": pl.Int64, "line": pl.String, "format": pl.String}
        found: list[tuple[Any, ...]] = []
        with self._read() as db:
            rows = db.execute(
                f"SELECT {BATCH_COLUMNS}, b.put_at FROM batches b JOIN payloads p "
                "ON p.id = b.payload WHERE b.state = 'waiting' ORDER BY b.seq"
            )
            while len(found) < limit and (row := rows.fetchone()):
                batch = _batch(row)
                with contextlib.suppress(SourceChanged):  # a worker will say so
                    found += [
                        (batch.id, row["put_at"], batch.source, number, line, batch.format)
                        for number, line in _first_lines(batch, limit - len(found))
                    ]
            rows.close()
        return pl.DataFrame(found, schema=schema, orient="row")

    def stats(self) -> Stats:
        """See `Queue.stats`."""
        with self._read() as db:
            try:
                db.execute("BEGIN")
                rows = db.execute("SELECT name, lines, bytes FROM totals").fetchall()
                counts = dict(
                    db.execute("SELECT state, count(*) FROM batches GROUP BY state").fetchall()
                )
                oldest = db.execute(
                    "SELECT min(put_at) FROM batches WHERE state = 'waiting'"
                ).fetchone()[0]
                control = _read_control(db)
            finally:
                if db.in_transaction:
                    db.execute("ROLLBACK")
        lines = {row["name"]: row["lines"] for row in rows}
        sizes = {row["name"]: row["bytes"] for row in rows}
        return Stats(
            **lines,
            waiting_bytes=sizes["waiting"],
            waiting_batches=counts.get("waiting", 0),
            leased_batches=counts.get("leased", 0),
            oldest_age=max(0.0, self._clock() - oldest) if oldest else 0.0,
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
                "INSERT INTO workers VALUES (?, ?, ?, ?, ?, ?)",
                (worker, slot, socket.gethostname(), os.getpid(), now, now),
            )
        return slot

    def heartbeat(self, worker: str) -> None:
        """See `Queue.heartbeat`."""
        with self._write(durable=False) as db:
            db.execute(
                "UPDATE workers SET heartbeat_at = ? WHERE name = ?",
                (self._clock(), worker),
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

    def letters(self, wanted: LetterFilter) -> pl.DataFrame:
        """See `Queue.letters`."""
        with self._read() as db:
            return read_letters(db, wanted)

    def letter_groups(self, wanted: LetterFilter) -> list[dict[str, Any]]:
        """See `Queue.letter_groups`."""
        with self._read() as db:
            return read_groups(db, wanted)

    def replay(self, ids: Sequence[int], batches: Sequence[Batch]) -> None:
        """See `Queue.replay`."""
        full = [(batch, *batch.encode()) for batch in batches]
        with self._write() as db:
            lines = move_letters(db, ids, "replaying")
            add_totals(db, dead=-lines)
            self._insert(db, full)
            note_history(db, self._clock())

    def discard(self, ids: Sequence[int]) -> None:
        """See `Queue.discard`."""
        with self._write() as db:
            move_letters(db, ids, "discarded")

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
    ) -> None:
        now = self._clock()
        for batch, encoding, data in full:
            payload = db.execute(
                "INSERT INTO payloads (encoding, data) VALUES (?, ?)", (encoding, data)
            ).lastrowid
            values = _batch_values(batch, payload, now)
            db.execute(INSERT_BATCH, {**values, "deliveries": 0})

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
        no other with it. So does a reference, whose file may have changed.
        """
        columns = "seq, id, source, format, lines, deliveries, "
        columns += "(SELECT encoding FROM payloads WHERE id = payload) AS encoding"
        first = db.execute(
            f"SELECT {columns} FROM batches WHERE {READY} ORDER BY seq LIMIT 1", {"now": now}
        ).fetchone()
        if first is None:
            return []
        rows, left = [first], lines - first["lines"]
        if first["deliveries"] or left <= 0 or first["encoding"] == "reference":
            return rows
        followers = db.execute(
            f"SELECT {columns} FROM batches WHERE {READY} AND seq > :seq ORDER BY seq LIMIT :left",
            {"now": now, "seq": first["seq"], "left": left},
        )
        for row in followers:
            left -= row["lines"]
            alike = (row["source"], row["format"]) == (first["source"], first["format"])
            alike &= row["encoding"] != "reference"
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

    def _guard(self, changed: sqlite3.Cursor, lease: Lease) -> None:
        if changed.rowcount != len(lease.batches):
            raise self._lost(lease)

    def _lost(self, lease: Lease) -> LeaseLost:
        return LeaseLost(
            f"worker {lease.worker!r} lost its lease on batch {lease.batches[0].id}; "
            "nothing was changed"
        )

    def _set_control(self, **values: str) -> None:
        with self._write() as db:
            _write_control(db, **values)


INSERT_BATCH = """
    INSERT INTO batches (id, payload, source, format, first_line, skip, lines, bytes, put_at,
                         deliveries)
    VALUES (:id, :payload, :source, :format, :first_line, :skip, :lines, :bytes, :put_at,
            :deliveries)
"""


def _check_position(
    db: sqlite3.Connection, position: Position | None, expected: Position | Literal["any"] | None
) -> None:
    """Refuse to move a position that is not where the caller believes it to be."""
    if position is None or expected == "any":
        return
    row = db.execute("SELECT * FROM positions WHERE source = ?", (position.source,)).fetchone()
    if (Position(**dict(row)) if row else None) != expected:
        raise SourceBusy(
            f"another run is reading {position.source!r} into this store; wait for it to end"
        )


def _first_lines(batch: Batch, limit: int) -> Iterable[tuple[int, str]]:
    """Return number and text of a batch's first lines; one line needs no frame."""
    if batch.lines == 1 and batch.skip == 0 and isinstance(batch.payload, bytes):
        text = batch.payload.decode("utf-8", "backslashreplace")
        return [(batch.first_line, text.removesuffix("\n").removesuffix("\r"))]
    return batch.frame().head(limit).select("line_number", "line").iter_rows()


def _is_there(db: sqlite3.Connection, batch: Batch) -> bool:
    return db.execute("SELECT 1 FROM batches WHERE id = ?", (batch.id,)).fetchone() is not None


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


def _read_control(db: sqlite3.Connection) -> dict[str, str]:
    return dict(db.execute("SELECT key, value FROM control").fetchall())


def _write_control(db: sqlite3.Connection, **values: str) -> None:
    db.executemany("INSERT OR REPLACE INTO control VALUES (?, ?)", list(values.items()))


def _count_control(db: sqlite3.Connection, **counts: int) -> None:
    values = _read_control(db)
    _write_control(db, **{key: str(int(values.get(key, 0)) + n) for key, n in counts.items()})
