"""The `Queue` protocol, once for all stores: changes are operations, reads are views.

A kind of store says only how an operation is carried out, see `_change`. What
there is to change is in `operations.py`, what there is to read in `views.py`.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sqlite3
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal, TypeVar

import polars as pl

from etl.errors import QueueFull, SourceChanged, StoreError
from etl.queue import (
    Checkpoint,
    Control,
    DeadLetterFilter,
    PausedBy,
    Stats,
    TableName,
    operations,
    views,
)
from etl.queue.commit import encode_trace
from etl.queue.database import Database
from etl.queue.dead_letters import read_dead_letters, read_groups
from etl.queue.operations import EncodedBatch, LeaseRef
from etl.queue.process import alive
from etl.records.batch import Batch, Lease, Reference, decode_payload, new_id
from etl.records.result import BatchResult, Output

__all__ = ["Store"]

Result = TypeVar("Result")

DEFAULT_TIMEOUT = 5.0
"""Seconds to wait for a store that cannot be reached, where nothing else is said."""

FOR_EVER = float("inf")

PEEK_TYPES: dict[str, Any] = {
    "batch": pl.String,
    "put_at": pl.Float64,
    "source": pl.String,
    "line_number": pl.Int64,
    "line": pl.String,
    "format": pl.String,
}


class Store(ABC):
    """A `Queue` over tables that a `Database` holds.

    Args:
        database: The tables, or this process's copy of them.
        url: Names the store; without passwords.
        max_lines: Waiting lines at which `put` blocks or is refused.
        max_bytes: The same in bytes of text.
        clock: Returns Unix seconds.
    """

    def __init__(
        self,
        database: Database,
        url: str,
        *,
        max_lines: int | None,
        max_bytes: int | None,
        clock: Callable[[], float],
    ) -> None:
        self.url = self.secret_url = url
        self._now = clock
        self._database = database
        self._limits = (max_lines, max_bytes)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.url}>"

    @abstractmethod
    def _change(self, change: partial[Result], *, timeout: float = DEFAULT_TIMEOUT) -> Result:
        """Carry out an operation, all of it or nothing, and return its result.

        Args:
            change: A `partial` of one of `operations` with its arguments.
            timeout: Seconds to wait for a store that cannot be reached.
        """

    def put(
        self,
        *batches: Batch,
        checkpoint: Checkpoint | None = None,
        expected: Checkpoint | Literal["any"] | None = "any",
        block: bool = True,
        timeout: float | None = None,
    ) -> None:
        """See `Queue.put`."""
        unique = {batch.id: batch for batch in batches if batch.lines}
        change = partial(
            operations.put,
            batches=[EncodedBatch.of(batch) for batch in unique.values()],
            checkpoint=checkpoint,
            expected=expected,
            limits=self._limits,
        )
        end = FOR_EVER if timeout is None else time.monotonic() + timeout
        while True:
            since = self.version()
            left = end - time.monotonic() if block else 0.0
            try:
                self._change(change, timeout=max(DEFAULT_TIMEOUT, left))
                return
            except QueueFull:
                if left <= 0:
                    raise
            self.wait(since, min(left, 1.0))

    def checkpoint(self, source: str) -> Checkpoint | None:
        """See `Queue.position`."""
        with self._database.read() as db:
            return views.position_of(db, source)

    def lease(self, worker: str, *, lines: int = 1, seconds: float = 30.0) -> Lease | None:
        """See `Queue.lease`."""
        now = self._now()
        with self._database.read() as db:
            if not views.can_lease(db) or not views.anything_ready(db, now):
                return None
        token = new_id()
        lent = self._change(
            partial(operations.lease, worker=worker, token=token, lines=lines, seconds=seconds)
        )
        if lent is None:
            return None
        with self._database.read() as db:
            rows = views.leased_rows(db, token)
        if not rows:  # lent for no time at all, and gone again
            return None
        until, deliveries, _ = lent
        try:
            batches = tuple(self._batch(row) for row in rows)
        except StoreError:  # its lines cannot be had at this moment
            held = LeaseRef(token, worker, rows[0]["id"], len(rows))
            self._change(partial(operations.release, held=held, delay=1.0))
            raise
        return Lease(token, worker, batches, until, deliveries)

    def renew(self, lease: Lease, *, seconds: float = 30.0) -> None:
        """See `Queue.renew`."""
        self._change(partial(operations.renew, held=LeaseRef.of(lease), seconds=seconds))

    def commit(self, lease: Lease, outcome: BatchResult) -> None:
        """See `Queue.commit`."""
        counted = outcome.done + outcome.filtered + outcome.dead
        if counted != lease.lines:
            raise StoreError(f"an outcome of {counted} lines for a lease of {lease.lines}")
        trace = encode_trace(outcome.trace) if outcome.trace else None
        outcome = replace(outcome, trace=None)
        # A commit of which we did not know whether it took place could be neither kept nor undone.
        self._change(
            partial(operations.commit, held=LeaseRef.of(lease), outcome=outcome, trace=trace),
            timeout=FOR_EVER,
        )

    def release(self, lease: Lease, *, delay: float = 0.0) -> None:
        """See `Queue.release`."""
        self._change(partial(operations.release, held=LeaseRef.of(lease), delay=delay))

    def split(self, lease: Lease, parts: int = 8) -> None:
        """See `Queue.split`."""
        pieces = [
            [(one.id, one.first_line, one.skip, one.lines) for one in batch.parts(parts)]
            for batch in lease.batches
        ]
        self._change(partial(operations.split, held=LeaseRef.of(lease), parts=pieces))

    def reclaim(self) -> list[str]:
        """See `Queue.reclaim`."""
        with self._database.read() as db:
            known = views.workers_of(db, socket.gethostname())
        gone = [name for name, pid in known.items() if not alive(pid)]
        return self._change(partial(operations.forget, workers=gone)) if gone else []

    def peek(self, limit: int = 100) -> pl.DataFrame:
        """See `Queue.peek`."""
        found: list[tuple[Any, ...]] = []
        seq = 0
        while len(found) < limit:
            with self._database.read() as db:
                row = views.waiting_row(db, seq)
            if row is None:
                break
            seq = row["seq"]
            with contextlib.suppress(SourceChanged):  # a worker will say so
                batch = self._batch(row)
                found += [
                    (batch.id, row["put_at"], batch.source, number, line, batch.format)
                    for number, line in _first_lines(batch, limit - len(found))
                ]
        return pl.DataFrame(found, schema=PEEK_TYPES, orient="row")

    def stats(self) -> Stats:
        """See `Queue.stats`."""
        with self._database.read() as db:
            return views.stats_of(db, self._now())

    def pause(self, reason: str = "", *, by: PausedBy = "operator") -> None:
        """See `Queue.pause`."""
        self._change(partial(operations.pause, reason=reason, by=by))

    def resume(self) -> None:
        """See `Queue.resume`."""
        self._change(partial(operations.resume))

    def step(self, batches: int = 1) -> None:
        """See `Queue.step`."""
        self._change(partial(operations.step, batches=batches))

    def drain(self) -> None:
        """See `Queue.drain`."""
        self._change(partial(operations.drain))

    def stop(self) -> None:
        """See `Queue.stop`."""
        self._change(partial(operations.stop))

    def control(self) -> Control:
        """See `Queue.control`."""
        with self._database.read() as db:
            return views.control_of(db)

    def register(self, worker: str) -> int:
        """See `Queue.register`."""
        host = socket.gethostname()
        return self._change(partial(operations.register, worker=worker, host=host, pid=os.getpid()))

    def heartbeat(self, worker: str) -> None:
        """See `Queue.heartbeat`."""
        self._change(partial(operations.heartbeat, worker=worker))

    def unregister(self, worker: str) -> None:
        """See `Queue.unregister`."""
        self._change(partial(operations.unregister, worker=worker))

    def states(self, slot: int) -> Mapping[str, str]:
        """See `Queue.states`."""
        with self._database.read() as db:
            return views.states_of(db, slot)

    def pending_outputs(self) -> list[Output]:
        """See `Queue.unpublished`."""
        with self._database.read() as db:
            return views.unpublished_of(db)

    def mark_published(self, outputs: Sequence[Output]) -> None:
        """See `Queue.published`."""
        change = partial(operations.mark_published, outputs=outputs)
        self._change(change, timeout=FOR_EVER)  # nobody else would say so

    def read(self, kind: TableName, *, limit: int | None = None) -> list[dict[str, Any]]:
        """See `Queue.records`."""
        with self._database.read() as db:
            return views.records_of(db, kind, limit)

    def dead_letters(self, wanted: DeadLetterFilter) -> pl.DataFrame:
        """See `Queue.letters`."""
        with self._database.read() as db:
            return read_dead_letters(db, wanted)

    def dead_letter_groups(self, wanted: DeadLetterFilter) -> list[dict[str, Any]]:
        """See `Queue.dead_letter_groups`."""
        with self._database.read() as db:
            return read_groups(db, wanted)

    def replay(self, ids: Sequence[int], batches: Sequence[Batch]) -> None:
        """See `Queue.replay`."""
        full = [EncodedBatch.of(batch) for batch in batches]
        self._change(partial(operations.replay, ids=[int(id) for id in ids], batches=full))

    def discard(self, ids: Sequence[int]) -> None:
        """See `Queue.discard`."""
        self._change(partial(operations.discard, ids=[int(id) for id in ids]))

    def version(self) -> object:
        """See `Queue.changes`."""
        return self._database.version()

    def wait(self, since: object, timeout: float) -> bool:
        """See `Queue.wait`."""
        return self._database.wait(since, timeout)

    def close(self) -> None:
        """See `Queue.close`."""
        self._database.close()

    def _batch(self, row: sqlite3.Row) -> Batch:
        return Batch(
            id=row["id"],
            source=row["source"],
            format=row["format"],
            first_line=row["first_line"],
            skip=row["skip"],
            lines=row["lines"],
            payload=self._payload(row["encoding"], row["data"]),
        )

    def _payload(self, encoding: str, data: bytes) -> bytes | Reference | pl.DataFrame:
        return decode_payload(encoding, data)


def _first_lines(batch: Batch, limit: int) -> Iterable[tuple[int, str]]:
    """Return number and text of a batch's first lines; one line needs no frame."""
    if batch.lines == 1 and batch.skip == 0 and isinstance(batch.payload, bytes):
        text = batch.payload.decode("utf-8", "backslashreplace")
        return [(batch.first_line, text.removesuffix("\n").removesuffix("\r"))]
    return batch.frame().head(limit).select("line_number", "line").iter_rows()
