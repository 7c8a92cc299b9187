"""Every change of a store: a transaction of named statements, over any `Database`."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any, Literal

from etl.errors import LeaseLost, QueueFull, SourceLocked, StoreError, UsageError
from etl.queue.database import Database, Transaction
from etl.queue.process import alive
from etl.queue.protocol import Checkpoint, Control, PausedBy
from etl.queue.reads import Reads, batch_of, checkpoint_of, control_of
from etl.queue.results import add_totals, encode_trace, keep_result, record_totals
from etl.records.batch import Batch, Lease, new_id
from etl.records.result import BatchResult, Output

__all__ = ["DatabaseQueue"]

WORKER_GONE = 60.0
"""Seconds without a heartbeat after which a worker's slot may be taken."""

ROOM_POLL_SECONDS = 1.0
"""Seconds between two looks for room in a full queue, at most."""

Row = dict[str, Any]


class DatabaseQueue(Reads):
    """A `Queue` over a `Database`, whichever it is.

    Args:
        database: The database; closed with the queue.
        max_lines: Waiting lines at which `put` blocks or is refused.
        max_bytes: The same in bytes of text.
    """

    url: str
    secret_url: str

    def __init__(
        self, database: Database, *, max_lines: int | None = None, max_bytes: int | None = None
    ) -> None:
        self._database = database
        self._limits = {"lines": max_lines, "bytes": max_bytes}
        self._busy = False  # the last look for a batch found one

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.url}>"

    def close(self) -> None:
        """See `Queue.close`."""
        self._database.close()

    # Batches

    def put(
        self,
        *batches: Batch,
        checkpoint: Checkpoint | None = None,
        expected: Checkpoint | Literal["any"] | None = "any",
        block: bool = True,
        timeout: float | None = None,
    ) -> None:
        """See `BatchQueue.put`."""
        rows = {batch.id: _row(batch) for batch in batches if batch.lines}
        end = time.monotonic() + (float("inf") if timeout is None else timeout)
        while True:
            since = self.version()
            try:
                with self._database.write() as db:
                    self._put(db, list(rows.values()), checkpoint, expected)
                return
            except QueueFull:
                left = end - time.monotonic()
                if not block or left <= 0:
                    raise
            self.wait(since, min(left, ROOM_POLL_SECONDS))

    def _put(
        self,
        db: Transaction,
        rows: list[Row],
        checkpoint: Checkpoint | None,
        expected: Checkpoint | Literal["any"] | None,
    ) -> None:
        new = [row for row in rows if db.row("batch_exists", id=row["id"]) is None]
        self._check_room(db, new)
        if checkpoint is not None:
            db.run("lock", name=f"source {checkpoint.source}")
            if expected not in ("any", checkpoint_of(db, checkpoint.source)):
                raise SourceLocked(
                    f"another run is reading {checkpoint.source!r} into this store; "
                    "wait for it to end"
                )
            db.run("set_checkpoint", **asdict(checkpoint))
        lines = self._insert(db, new)
        with db.together():
            add_totals(db, accepted=lines)
            record_totals(db, db.now())

    def _check_room(self, db: Transaction, new: list[Row]) -> None:
        """Raise QueueFull if the batches go over a limit; into an empty queue they always fit."""
        limits = {name: limit for name, limit in self._limits.items() if limit is not None}
        waiting = db.row("waiting_totals") if limits and new else None
        if waiting is None or not waiting["lines"]:
            return
        if any(
            waiting[name] + sum(row[name] for row in new) > limit for name, limit in limits.items()
        ):
            raise QueueFull(
                f"the queue has {waiting['lines']} lines waiting, its limit; wait for workers, or "
                "open it with a higher limit"
            )

    def _insert(self, db: Transaction, rows: list[Row]) -> int:
        """Insert batches, and return how many lines are in those that were not there."""
        now = db.now()
        lines = 0
        for row in rows:
            payload = db.row("insert_payload", **row)["id"]
            if db.run("insert_batch", **row, payload=payload, put_at=now).rowcount:
                lines += row["lines"]
            else:  # another has put it since we looked
                db.run("delete_unused_payload", payload=payload)
        return lines

    def lease(self, worker: str, *, lines: int = 1, seconds: float = 30.0) -> Lease | None:
        """See `BatchQueue.lease`."""
        if not self._busy:
            with self._database.read() as db:  # which costs less than a transaction
                if not control_of(db).can_lease or not db.row("anything_ready", now=db.now()):
                    return None
        self._busy = False
        token = new_id()
        with self._database.write(durable=False) as db:
            now = db.now()
            control = control_of(db)
            if control.paused:
                control = _locked_control(db)
            if not control.can_lease:
                return None
            with db.together():
                db.run("expire_leases", now=now)
                chosen = _choose(db, now, lines)
            if not chosen:
                return None
            if control.paused:
                _set_control(db, steps=control.steps - 1)
            ids = json.dumps([row["seq"] for row in chosen])
            with db.together():
                db.run("lease_batches", worker=worker, token=token, until=now + seconds, ids=ids)
                rows = db.rows("leased_batches", token=token)
        self._busy = True
        try:
            batches = tuple(map(batch_of, rows))
        except StoreError:  # written by another version: later, or elsewhere, it may be read
            with self._database.write(durable=False) as db:
                db.run("release_lease", not_before=now + 1.0, token=token)
            raise
        return Lease(token, worker, batches, now + seconds, chosen[0]["deliveries"] + 1)

    def renew(self, lease: Lease, *, seconds: float = 30.0) -> None:
        """See `BatchQueue.renew`."""
        with self._database.write(durable=False) as db:
            _guard(db.run("renew_lease", until=db.now() + seconds, token=lease.token), lease)

    def commit(self, lease: Lease, result: BatchResult) -> None:
        """See `BatchQueue.commit`."""
        counted = result.done + result.filtered + result.dead
        if counted != lease.lines:
            raise StoreError(f"a result of {counted} lines for a lease of {lease.lines}")
        trace = encode_trace(result.trace) if result.trace else None
        with self._database.write() as db:
            now = db.now()
            rows = [dict(row) for row in db.rows("batches_of_lease", token=lease.token)]
            _guard(db.run("delete_leased", token=lease.token), lease)
            payloads = dict.fromkeys(row["payload"] for row in rows)
            with db.together():
                db.many("delete_unused_payload", ({"payload": payload} for payload in payloads))
                keep_result(db, now, worker=lease.worker, batch=rows[0], result=result, trace=trace)
                record_totals(db, now)

    def release(self, lease: Lease, *, delay: float = 0.0) -> None:
        """See `BatchQueue.release`."""
        with self._database.write(durable=False) as db:
            not_before = db.now() + delay if delay else 0.0
            _guard(db.run("release_lease", not_before=not_before, token=lease.token), lease)

    def split(self, lease: Lease, parts: Sequence[Sequence[Batch]]) -> None:
        """See `BatchQueue.split`."""
        with self._database.write() as db:
            rows = db.rows("batches_of_lease", token=lease.token)
            if len(rows) != len(lease.batches):
                raise _lost(lease)
            for row, pieces in zip(rows, parts, strict=True):
                names = ("id", "first_line", "skip", "lines")
                db.many(
                    "insert_part",
                    (
                        {"seq": row["seq"], **{name: getattr(part, name) for name in names}}
                        for part in pieces
                    ),
                )
                db.run("delete_batch", seq=row["seq"])

    def reclaim(self) -> list[str]:
        """See `BatchQueue.reclaim`."""
        with self._database.read() as db:
            known = db.rows("workers_of_host", host=socket.gethostname())
        gone = [row["name"] for row in known if not alive(row["pid"])]
        tokens: list[str] = []
        if gone:
            with self._database.write(durable=False) as db:
                for name in gone:
                    tokens += [row["token"] for row in db.rows("tokens_of_worker", name=name)]
                    db.run("delete_worker", name=name)
                db.many("take_back_lease", ({"token": token} for token in tokens))
        return tokens

    # Control

    def pause(self, reason: str = "", *, by: PausedBy = "operator") -> None:
        """See `QueueControl.pause`."""
        with self._database.write() as db:
            _locked_control(db)
            _set_control(db, paused=1, paused_by=by, reason=reason, steps=0)

    def resume(self) -> None:
        """See `QueueControl.resume`."""
        with self._database.write() as db:
            _locked_control(db)
            _set_control(db, paused=0, paused_by="", reason="", steps=0)

    def step(self, batches: int = 1) -> None:
        """See `QueueControl.step`."""
        with self._database.write() as db:
            _set_control(db, steps=_locked_control(db).steps + batches)

    def drain(self) -> None:
        """See `QueueControl.drain`."""
        with self._database.write() as db:
            _set_control(db, drains=_locked_control(db).drains + 1)

    def stop(self) -> None:
        """See `QueueControl.stop`."""
        with self._database.write() as db:
            _set_control(db, stops=_locked_control(db).stops + 1)

    # Workers

    def register(self, worker: str) -> int:
        """See `WorkerRegistry.register`."""
        with self._database.write() as db:
            db.run("lock", name="workers")
            now = db.now()
            db.run("forget_silent_workers", name=worker, since=now - WORKER_GONE)
            taken = {row["slot"] for row in db.rows("slots")}
            slot = next(slot for slot in range(len(taken) + 1) if slot not in taken)
            here = {"host": socket.gethostname(), "pid": os.getpid()}
            db.run(
                "insert_worker", name=worker, slot=slot, started_at=now, heartbeat_at=now, **here
            )
        return slot

    def heartbeat(self, worker: str) -> None:
        """See `WorkerRegistry.heartbeat`."""
        with self._database.write(durable=False) as db:
            db.run("heartbeat", name=worker, now=db.now())

    def unregister(self, worker: str) -> None:
        """See `WorkerRegistry.unregister`."""
        with self._database.write(durable=False) as db:
            db.run("delete_worker", name=worker)

    def mark_published(self, outputs: Sequence[Output]) -> None:
        """See `WorkerRegistry.mark_published`."""
        with self._database.write(durable=False) as db:
            db.many("delete_output", map(asdict, outputs))

    # Dead letters

    def replay(self, ids: Sequence[int], batches: Sequence[Batch]) -> None:
        """See `DeadLetterQueue.replay`."""
        rows = [_row(batch) for batch in batches]
        with self._database.write() as db:
            add_totals(db, dead=-_close_open(db, ids, "replaying"))
            self._insert(db, rows)
            record_totals(db, db.now())

    def discard(self, ids: Sequence[int]) -> None:
        """See `DeadLetterQueue.discard`."""
        with self._database.write() as db:
            _close_open(db, ids, "discarded")


def _row(batch: Batch) -> Row:
    """Return a batch as a store keeps it, with its payload encoded."""
    encoding, data = batch.encode()
    names = ("id", "source", "format", "first_line", "skip", "lines")
    row = {name: getattr(batch, name) for name in names}
    row |= {"bytes": batch.size, "encoding": encoding, "data": data}
    return row | {"context": batch.context.encode()}


def _choose(db: Transaction, now: float, lines: int) -> list[Any]:
    """Return the oldest waiting batch and the small ones after it that go with it.

    A batch that was leased before goes alone: if it kills workers, it takes
    no other with it. So does a reference, whose file may have changed.
    """
    first = db.row("ready_batches", now=now, after=0, limit=1)
    if first is None:
        return []
    rows, left = [first], lines - first["lines"]
    if first["deliveries"] or left <= 0 or first["encoding"] == "reference":
        return rows
    for row in _ready_after(db, now, first["seq"]):
        left -= row["lines"]
        alike = all(row[name] == first[name] for name in ("source", "format", "context"))
        if left < 0 or row["deliveries"] or row["encoding"] == "reference" or not alike:
            break
        rows.append(row)
    return rows


def _ready_after(db: Transaction, now: float, seq: int) -> Iterator[Any]:
    """Return the batches that can be leased after one; most leases need few of them."""
    limit = 8
    while found := db.rows("ready_batches", now=now, after=seq, limit=limit):
        yield from found
        if len(found) < limit:
            return
        seq, limit = found[-1]["seq"], limit * 4


def _guard(changed: Any, lease: Lease) -> None:
    """Raise LeaseLost unless a statement changed all batches of a lease."""
    if changed.rowcount != len(lease.batches):
        raise _lost(lease)


def _lost(lease: Lease) -> LeaseLost:
    return LeaseLost(
        f"worker {lease.worker!r} lost its lease on batch {lease.batches[0].id}; "
        "nothing was changed"
    )


def _locked_control(db: Transaction) -> Control:
    """Return what an operator has asked for, which no other changes until this has ended."""
    db.run("lock", name="control")
    return control_of(db)


def _set_control(db: Transaction, **values: object) -> None:
    db.many("set_control", ({"key": key, "value": str(value)} for key, value in values.items()))


def _close_open(db: Transaction, ids: Sequence[int], status: str) -> int:
    """Give open dead letters another status and return how many lines they stand for.

    Raises:
        UsageError: If one of them is not open.
    """
    listed = json.dumps([int(id) for id in ids])
    found = db.rows("open_lines", ids=listed)[0]
    if found["dead_letters"] != len(ids):
        raise UsageError(
            f"{len(ids) - found['dead_letters']} of {len(ids)} dead letters are not open; "
            "nothing was changed"
        )
    db.run("close_open", ids=listed, status=status, replays=int(status == "replaying"))
    return int(found["lines"])
