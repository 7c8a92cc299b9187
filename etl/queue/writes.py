"""Every change of a store: a transaction of named statements, over any `Database`."""

from __future__ import annotations

import json
import logging
import math
import random
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from operator import itemgetter
from pathlib import Path
from typing import Any, Literal

from etl.errors import (
    LeaseLost,
    QueueFull,
    SourceLocked,
    StoreError,
    StoreUnavailable,
    UsageError,
)
from etl.queue.database import Conflict, Database, Transaction
from etl.queue.process import HERE, Host
from etl.queue.protocol import Checkpoint, Control, Hang, PausedBy
from etl.queue.reads import Reads, as_control, batch_of, checkpoint_of, control_of
from etl.queue.results import add_totals, encode_trace, keep_result, moved
from etl.queue.retention import Retention, count_old
from etl.records.batch import Batch, Damaged, Lease, new_id
from etl.records.checksum import checksum_of_batch, checksum_of_payload
from etl.records.result import BatchResult
from etl.settings import settings

__all__ = ["DatabaseQueue", "pause_before"]

log = logging.getLogger("etl")

WORKER_GONE = 60.0
"""Seconds without a heartbeat after which a worker's slot may be taken."""

ROOM_POLL_SECONDS = 1.0
"""Seconds between two looks for room in a full queue, at most."""

MAX_CONFLICTS = 8
"""How often a put is tried again because of another one of the same batches."""

KEPT_FILES = 1_000
"""Files that had a source's name of which a store knows how far they were read."""

EXPIRE_SECONDS = 1.0
"""Seconds between two searches for leases that ran out, while there is other work."""

Row = dict[str, Any]


class DatabaseQueue(Reads):
    """A `Queue` over a `Database`, whichever it is.

    Args:
        database: The database; closed with the queue.
        max_lines: Waiting lines at which `put` blocks or is refused.
        max_bytes: The same in bytes of text.
        host: The machine and process that asks.
    """

    url: str
    secret_url: str

    def __init__(
        self,
        database: Database,
        *,
        max_lines: int | None = None,
        max_bytes: int | None = None,
        host: Host = HERE,
    ) -> None:
        self._database = database
        self._host = host
        limits = {"lines": max_lines, "bytes": max_bytes}
        self._limits = {name: limit for name, limit in limits.items() if limit is not None}
        self._busy = False  # the last look for a batch found one
        self._retention = Retention(settings().retention_seconds)
        self._expired_at = 0.0
        self._written_at = math.inf  # until it is known, an earlier clock may have been ahead

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
        attempts = 0
        while True:
            try:
                since = self.version() if self._limits else None
                is_news = self._try_put(list(rows.values()), checkpoint, expected)
            except (QueueFull, StoreUnavailable) as error:
                left = end - time.monotonic()
                if not block or left <= 0:
                    raise
                away = str(error) if isinstance(error, StoreUnavailable) else ""
            else:
                if is_news:
                    self._database.announce()
                if attempts:
                    log.warning("%s is back", self._database.name)
                return
            if not away:
                self.wait(since, min(left, ROOM_POLL_SECONDS))
                continue
            if not attempts:
                log.warning("%s; waiting for it", away)
            time.sleep(min(left, pause_before(attempts)))
            attempts += 1

    def _try_put(
        self,
        rows: list[Row],
        checkpoint: Checkpoint | None,
        expected: Checkpoint | Literal["any"] | None,
    ) -> bool:
        """Do `_put` in one transaction, again if another has just put one of the batches."""
        for _ in range(MAX_CONFLICTS):
            with suppress(Conflict), self._database.write() as db:
                return self._put(db, rows, checkpoint, expected)
        with self._database.write() as db:
            return self._put(db, rows, checkpoint, expected)

    def _put(
        self,
        db: Transaction,
        rows: list[Row],
        checkpoint: Checkpoint | None,
        expected: Checkpoint | Literal["any"] | None,
    ) -> bool:
        """Store batches, and return whether workers must be told of them: none waited before."""
        if checkpoint is not None:
            db.run("lock", name=f"source {checkpoint.source}")
        with db.together():
            known = db.run("known_ids", texts=json.dumps([row["id"] for row in rows]))
            waiting = db.run("anything_waiting") if self._database.announces else None
        ids = {row["id"] for row in known}
        new = [row for row in rows if row["id"] not in ids]
        self._check_room(db, new)
        if checkpoint is not None:
            found = checkpoint_of(db, checkpoint.source, checkpoint.number)
            is_expected = expected in ("any", found)
            if not new and found == checkpoint and (rows or not is_expected):
                return False  # an earlier attempt has stored it all
            if not is_expected:
                raise SourceLocked(
                    f"another run is reading {checkpoint.source!r} into this store; "
                    "wait for it to end"
                )
            db.run("set_checkpoint", **asdict(checkpoint), moved_at=db.now())
            if checkpoint.number > KEPT_FILES and found is None:
                last = checkpoint.number - KEPT_FILES
                db.run("forget_files", source=checkpoint.source, last=last)
        accepted = {"accepted": sum(row["lines"] for row in new)}
        self._forget_future(db)
        with db.ending():
            self._insert(db, new)
            add_totals(db, accepted, moved(new, waiting=1), at=db.now())
        return waiting is not None and waiting.fetchone() is None

    def _forget_future(self, db: Transaction) -> None:
        """Forget what was recorded of seconds that are yet to come, if the clock was set back."""
        now = db.now()
        if now < self._written_at:
            for table in ("queue_history", "processor_history"):
                db.run(f"forget_future_{table}", second=int(now))
        self._written_at = now

    def _check_room(self, db: Transaction, new: list[Row]) -> None:
        """Raise QueueFull if the batches go over a limit; into an empty queue they always fit."""
        waiting = db.row("waiting_totals") if self._limits and new else None
        if waiting is None or not waiting["lines"]:
            return
        if any(
            waiting[name] + sum(row[name] for row in new) > limit
            for name, limit in self._limits.items()
        ):
            raise QueueFull(
                f"the queue has {waiting['lines']} lines waiting, its limit; wait for workers, or "
                "open it with a higher limit"
            )

    def _insert(self, db: Transaction, rows: list[Row]) -> None:
        """Insert batches that are not there."""
        now = db.now()
        for row in rows:
            db.run("insert_id", id=row["id"], put_at=now)
            db.run("insert_payload", **row)
            db.run("insert_batch", **row, put_at=now)

    def lease(
        self, worker: str, *, lines: int = 1, seconds: float = 30.0, without: Sequence[str] = ()
    ) -> Lease | None:
        """See `BatchQueue.lease`."""
        if not self._busy and not self._may_lease(without):
            return None
        self._busy = False
        token = new_id()
        with self._database.write(durable=False) as db:
            now = db.now()
            with db.together():
                asked = db.run("control_values")
                ready = _ready(db, now, without, after=0, limit=1)
            control, first = as_control(asked), ready.fetchone()
            if control.paused:
                control = _locked_control(db)
            if not control.can_lease:
                return None
            if first is None or abs(now - self._expired_at) > EXPIRE_SECONDS:
                first = self._expire(db, now, without) or first
            chosen = _choose(db, now, lines, first, without)
            if not chosen:
                return None
            if control.paused:
                _set_control(db, steps=control.steps - 1)
            until = now + seconds
            ids = json.dumps([row["seq"] for row in chosen])
            with db.ending():
                db.run("lease_batches", worker=worker, token=token, now=now, until=until, ids=ids)
                leased = db.run("leased_batches", token=token)
                add_totals(db, moved(chosen, waiting=-1, leased=1), at=None)
            batches = tuple(map(batch_of, leased))
        self._busy = True
        return Lease(token, worker, batches, until, chosen[0]["deliveries"] + 1)

    def _expire(self, db: Transaction, now: float, without: Sequence[str]) -> Any:
        """Let what was leased for too long wait again, and return the first that can be leased."""
        self._expired_at = now
        db.run("begin_leases_now", now=now)
        back = db.rows("expire_leases", now=now)
        if not back:
            return None
        add_totals(db, moved(back, leased=-1, waiting=1), at=None)
        return _ready(db, now, without, after=0, limit=1).fetchone()

    def _may_lease(self, without: Sequence[str]) -> bool:
        """Return whether something can be leased, which costs less than a transaction."""
        where, values = _not_from(without)
        with self._database.read() as db:
            now = db.given_now()
            with db.together():
                asked = db.run("control_values")
                ready = db.run("anything_ready", where, now=now, **values)
            return as_control(asked).can_lease and ready.fetchone() is not None

    def renew(self, lease: Lease, *, seconds: float = 30.0) -> None:
        """See `BatchQueue.renew`."""
        with self._database.write(durable=False) as db:
            now = db.now()
            renewed = db.rows("renew_lease", now=now, until=now + seconds, token=lease.token)
            _guard(renewed, lease)

    def commit(self, lease: Lease, result: BatchResult) -> None:
        """See `BatchQueue.commit`."""
        counted = result.done + result.filtered + result.dead
        if counted != lease.lines:
            raise StoreError(f"a result of {counted} lines for a lease of {lease.lines}")
        trace = encode_trace(result.trace) if result.trace else None
        outputs = self._kept_names(result.outputs)
        ended = {"done": result.done, "filtered": result.filtered, "dead": result.dead}
        with self._database.write() as db:
            now = db.now()
            gone = db.rows("take_leased", token=lease.token)
            _guard(gone, lease)
            self._retention.after_commit(db, now, len(gone) + len(result.passed))
            payloads = json.dumps(sorted({row["payload"] for row in gone}))
            self._forget_future(db)
            with db.ending():
                db.run("delete_unused_payloads", ids=payloads)
                first = lease.batches[0]
                keep_result(
                    db,
                    now,
                    worker=lease.worker,
                    here=self._here(),
                    batch=first,
                    result=result,
                    trace=trace,
                    outputs=outputs,
                )
                add_totals(db, ended, moved(gone, leased=-1), at=now)

    def release(self, lease: Lease, *, delay: float = 0.0) -> None:
        """See `BatchQueue.release`."""
        with self._database.write(durable=False) as db:
            not_before = db.now() + delay if delay else 0.0
            _guard(self._release(db, lease.token, not_before), lease)
        self._database.announce()

    def _release(self, db: Transaction, token: str, not_before: float) -> list[Any]:
        rows = db.rows("release_lease", not_before=not_before, token=token)
        add_totals(db, moved(rows, leased=-1, waiting=1), at=db.now())
        return rows

    def split(self, lease: Lease, parts: Sequence[Sequence[Batch]]) -> None:
        """See `BatchQueue.split`."""
        with self._database.write() as db:
            rows = db.rows("batches_of_lease", token=lease.token)
            _guard(rows, lease)
            new: list[Row] = []
            for row, pieces in zip(rows, parts, strict=True):
                for part in pieces:
                    size = row["bytes"] * part.lines // row["lines"]
                    new.append(_row_of(part) | {"seq": row["seq"], "bytes": size})
            db.many("insert_part", new)
            db.many("delete_batch", ({"seq": row["seq"]} for row in rows))
            add_totals(db, moved(rows, leased=-1), moved(new, waiting=1), at=db.now())
        self._database.announce()

    def note_hang(self, hang: Hang) -> None:
        """See `BatchQueue.note_hang`."""
        error = {"processor": hang.processor, "error": hang.ERROR, "message": str(hang)}
        known = {"worker": hang.worker, "batch": hang.batch, "lines": hang.lines}
        with self._database.write() as db:
            db.run("count_hang", token=hang.token, batch=hang.batch)
            db.run("insert_error", at=db.now(), action="retried", **error, **known)

    def reclaim(self) -> list[str]:
        """See `BatchQueue.reclaim`."""
        with self._database.read() as db:
            known = db.rows("workers_of_host", host=self._host.name)
        pids = {row["pid"] for row in known} - {self._host.process}
        dead = {pid for pid in pids if not self._host.alive(pid)}
        gone = [row["name"] for row in known if row["pid"] in dead]
        tokens: list[str] = []
        if gone:
            with self._database.write(durable=False) as db:
                back: list[Any] = []
                for name in gone:
                    tokens += [row["token"] for row in db.rows("tokens_of_worker", name=name)]
                    db.run("delete_worker", name=name)
                for token in tokens:
                    back += db.rows("take_back_lease", token=token)
                add_totals(db, moved(back, leased=-1, waiting=1), at=db.now())
            self._database.announce()
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
        self._database.announce()

    def step(self, batches: int = 1) -> None:
        """See `QueueControl.step`."""
        with self._database.write() as db:
            _set_control(db, steps=_locked_control(db).steps + batches)
        self._database.announce()

    def drain(self) -> None:
        """See `QueueControl.drain`."""
        with self._database.write() as db:
            _set_control(db, drains=_locked_control(db).drains + 1)
        self._database.announce()

    def stop(self) -> None:
        """See `QueueControl.stop`."""
        with self._database.write() as db:
            _set_control(db, stops=_locked_control(db).stops + 1)
        self._database.announce()

    # Workers

    def register(self, worker: str, *, again: bool = False) -> int:
        """See `WorkerRegistry.register`."""
        with self._database.write() as db:
            db.run("lock", name="workers")
            now = db.now()
            db.run("begin_heartbeats_now", now=now)
            db.run("forget_silent_workers", since=now - WORKER_GONE)
            known = db.row("worker", name=worker)
            if known and not (again and self._is_ours(known)) and self._lives(known):
                raise UsageError(
                    f"worker {worker!r} runs already (process {known['pid']} on host "
                    f"{known['host']}); give another name"
                )
            db.run("delete_worker", name=worker)
            taken = {row["slot"] for row in db.rows("slots")}
            slot = next(slot for slot in range(len(taken) + 1) if slot not in taken)
            times = {"started_at": now, "heartbeat_at": now}
            db.run("insert_worker", name=worker, slot=slot, **times, **self._here())
        return slot

    def _here(self) -> Row:
        """Return the host and the process that this is."""
        return {"host": self._host.name, "pid": self._host.process}

    def _is_ours(self, worker: Any) -> bool:
        """Return whether a worker is registered by this process."""
        return {name: worker[name] for name in ("host", "pid")} == self._here()

    def _lives(self, worker: Any) -> bool:
        """Return whether a worker's process runs, as far as that can be known on this host."""
        if worker["host"] != self._host.name:
            return True
        host, pid = self._host, worker["pid"]
        return host.alive(pid) and not host.began_after(pid, worker["heartbeat_at"])

    def heartbeat(self, worker: str) -> None:
        """See `WorkerRegistry.heartbeat`."""
        with self._database.write(durable=False) as db:
            db.run("heartbeat", name=worker, now=db.now(), **self._here())

    def unregister(self, worker: str) -> None:
        """See `WorkerRegistry.unregister`."""
        with self._database.write(durable=False) as db:
            held = db.rows("tokens_of_worker", name=worker)
            for row in held:
                self._release(db, row["token"], 0.0)
            db.run("delete_worker", name=worker)
        if held:
            self._database.announce()

    def set_output_root(self, folder: Path) -> None:
        """See `WorkerRegistry.set_output_root`."""
        wanted, found = folder.resolve(), self.output_root()
        if found == wanted:
            return
        with self._database.write() as db:
            where = f"below {str(found)!r}" if found else "output"
            _check_no_workers(db, where, "the output root is changed")
            db.run("lock", name="control")
            self._keep_root(db, wanted)

    def set_column_types(self, folder: Path, columns: Mapping[str, str]) -> None:
        """See `WorkerRegistry.set_column_types`."""
        with self._database.write() as db:
            _check_no_workers(db, f"below {str(folder)!r}", "types of columns are changed")
            self._set_types(db, folder, columns)

    # Dead letters

    def replay(self, ids: Sequence[int], batches: Sequence[Batch]) -> None:
        """See `DeadLetterQueue.replay`."""
        rows = [_row(batch) for batch in batches]
        with self._database.write() as db:
            replayed = {"dead": -_change_status(db, ids, "open", "replaying")}
            self._insert(db, rows)
            add_totals(db, replayed, moved(rows, waiting=1), at=db.now())
        self._database.announce()

    def discard(self, ids: Sequence[int]) -> None:
        """See `DeadLetterQueue.discard`."""
        with self._database.write() as db:
            _change_status(db, ids, "open", "discarded", closed_at=db.now())

    def reopen(self, ids: Sequence[int]) -> int:
        """See `DeadLetterQueue.reopen`."""
        with self._database.write() as db:
            return _change_status(db, ids, "discarded", "open")

    # Retention

    def prune(self, older_than: float | None = None, *, dry_run: bool = False) -> Mapping[str, int]:
        """See `Upkeep.prune`."""
        seconds = self._retention.seconds if older_than is None else older_than
        if dry_run:
            with self._database.read() as db:
                return count_old(db, db.now(), seconds)
        found: Counter[str] = Counter()
        pruning = Retention(seconds)
        while True:
            with self._database.write(durable=False) as db:
                db.run("lock", name="retention")
                found += pruning.delete(db, db.now())
            if not pruning.more and not pruning.after:
                return found

    def prune_slice(self) -> None:
        """See `Upkeep.prune_slice`."""
        if not self._retention.is_due((self._database.clock or time.time)()):
            return
        with self._database.write(durable=False) as db:
            self._retention.delete(db, db.now())

    def shrink(self, *, always: bool = False) -> int:
        """See `Upkeep.shrink`."""
        return self._database.shrink(always=always)


def _row(batch: Batch) -> Row:
    """Return a batch as a store keeps it, with its payload encoded."""
    encoding, data = batch.encode()
    checksum = checksum_of_payload(encoding, data)
    row = {"bytes": batch.size, "encoding": encoding, "data": data, "checksum": checksum}
    return row | _row_of(batch)


def _row_of(batch: Batch) -> Row:
    """Return a batch as a store keeps it, without its payload.

    The parts of one that is damaged have no right checksum, so that they are damaged, too.
    """
    row: Row = {
        "id": batch.id,
        "source": batch.source,
        "format": batch.format,
        "context": batch.context.encode(),
        "first_line": batch.first_line,
        "skip": batch.skip,
        "lines": batch.lines,
    }
    damaged = isinstance(batch.payload, Damaged)
    row["batch_checksum"] = -1 if damaged else checksum_of_batch(row)
    return row


def _not_from(sources: Sequence[str]) -> tuple[str, Row]:
    """Return the condition that a batch is from none of some sources, and its values."""
    if not sources:
        return "", {}
    return "NOT source {in_texts}", {"texts": json.dumps(list(sources))}


def _ready(db: Transaction, now: float, without: Sequence[str], **page: int) -> Any:
    """Return a cursor of the next batches that can be leased."""
    where, values = _not_from(without)
    return db.run("ready_batches", where, now=now, **page, **values)


_KIND = itemgetter("deliveries", "source", "format", "context")
"""What batches have in common that are leased together; of those without deliveries."""


def _choose(
    db: Transaction, now: float, lines: int, first: Any, without: Sequence[str]
) -> list[Any]:
    """Return the oldest waiting batch and the small ones after it that go with it.

    A batch that was leased before goes alone: if it kills workers, it takes
    no other with it. So does a reference, whose file may have changed.
    """
    if first is None:
        return []
    rows, left, kind = [first], lines - first["lines"], _KIND(first)
    if first["deliveries"] or left <= 0 or first["encoding"] == "reference":
        return rows
    for row in _ready_after(db, now, first["seq"], without):
        left -= row["lines"]
        if left < 0 or _KIND(row) != kind or row["encoding"] == "reference":
            break
        rows.append(row)
    return rows


def _ready_after(db: Transaction, now: float, seq: int, without: Sequence[str]) -> Iterator[Any]:
    """Return the batches that can be leased after one; most leases need few of them."""
    limit = 8
    while found := _ready(db, now, without, after=seq, limit=limit).fetchall():
        yield from found
        if len(found) < limit:
            return
        seq, limit = found[-1]["seq"], limit * 4


def _guard(rows: Sequence[object], lease: Lease) -> None:
    """Raise LeaseLost unless a statement met all batches of a lease."""
    if len(rows) != len(lease.batches):
        raise _lost(lease)


def pause_before(attempt: int) -> float:
    """Return the seconds to wait before the next attempt to reach a store, from 0: 0.1 to 5."""
    return float(min(5.0, 0.1 * 2 ** min(attempt, 8)) * random.uniform(0.7, 1.0))


def _lost(lease: Lease) -> LeaseLost:
    return LeaseLost(
        f"worker {lease.worker!r} lost its lease on batch {lease.batches[0].id}; "
        "nothing was changed"
    )


def _locked_control(db: Transaction) -> Control:
    """Return what an operator has asked for, which no other changes until this has ended."""
    db.run("lock", name="control")
    return control_of(db)


def _check_no_workers(db: Transaction, where: str, why: str) -> None:
    """Raise UsageError if a worker runs; none can register until this transaction ends."""
    db.run("lock", name="workers")
    db.run("forget_silent_workers", name="", since=db.now() - WORKER_GONE)
    worker = db.row("slots")
    if worker is not None:
        raise UsageError(f"worker {worker['name']!r} writes {where}; stop the workers before {why}")


def _set_control(db: Transaction, **values: object) -> None:
    db.many("set_control", ({"key": key, "value": str(value)} for key, value in values.items()))


def _change_status(
    db: Transaction, ids: Sequence[int], was: str, status: str, *, closed_at: float | None = None
) -> int:
    """Give dead letters another status and return how many lines they stand for.

    Raises:
        UsageError: If one of them has another status than it `was`.
    """
    listed = json.dumps([int(id) for id in ids])
    found = db.rows("lines_with_status", ids=listed, was=was)[0]
    if found["dead_letters"] != len(ids):
        raise UsageError(
            f"{len(ids) - found['dead_letters']} of {len(ids)} dead letters are not {was}; "
            "nothing was changed"
        )
    replays = int(status == "replaying")
    change = {"was": was, "status": status, "replays": replays, "closed_at": closed_at}
    db.run("change_status", ids=listed, **change)
    return int(found["lines"])
