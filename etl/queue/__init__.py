"""The durable queue: what every store can do, and how to open one by URL.

A store holds everything that must survive: waiting batches, leases, dead
letters, metrics, traces, states of processors, positions in sources. Panels,
the command line and workers only read and steer it. It knows no pipeline.

    sqlite:///path/run.db    a file; many processes may use it at once
    sqlite://                in memory; for tests
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import polars as pl

from etl.errors import UsageError
from etl.queue.urls import IN_MEMORY, file_of, without_secrets
from etl.records.batch import Batch, Lease
from etl.records.result import BatchResult, Output

__all__ = [
    "TOTALS",
    "Checkpoint",
    "Control",
    "DeadLetterFilter",
    "PausedBy",
    "Queue",
    "Stats",
    "TableName",
    "open_queue",
]

TableName = Literal[
    "processors",
    "latency",
    "processor_history",
    "queue_history",
    "errors",
    "traces",
    "states",
    "workers",
    "checkpoints",
]


STATUSES = ("open", "replaying", "replayed", "discarded")
"""What becomes of a dead letter."""

TOTALS = ("accepted", "done", "filtered", "dead", "leased", "waiting")
"""The law of conservation: the first is the sum of the others."""


@dataclass(frozen=True, slots=True)
class Stats:
    """The totals of a store at one moment, in source lines.

    `oldest_age` is the seconds that the oldest waiting batch has waited.
    """

    accepted: int
    done: int
    filtered: int
    dead: int
    leased: int
    waiting: int
    waiting_bytes: int = 0
    waiting_batches: int = 0
    leased_batches: int = 0
    oldest_age: float = 0.0
    paused: bool = False

    def totals(self) -> dict[str, int]:
        """Return the six numbers of the law of conservation, by the names in `TOTALS`."""
        return {name: getattr(self, name) for name in TOTALS}

    @property
    def conserved(self) -> bool:
        """Whether every accepted line is somewhere: the law that holds at every moment."""
        return self.accepted == self.finished + self.leased + self.waiting

    @property
    def finished(self) -> int:
        """Lines that are done, filtered or dead."""
        return self.done + self.filtered + self.dead

    @property
    def idle(self) -> bool:
        """Whether nothing waits and nothing is worked on."""
        return self.waiting == 0 and self.leased == 0


PausedBy = Literal["operator", "worker"]
"""Who paused a queue: a person, or a worker that cannot continue."""


@dataclass(frozen=True, slots=True)
class Control:
    """Whether the queue is paused, by whom and why, and what workers are asked to do.

    `drains` and `stops` count how often that was asked: a worker ends, once
    nothing waits or after its batch, when the count has grown since it began.
    """

    paused: bool = False
    paused_by: PausedBy | None = None
    reason: str = ""
    drains: int = 0
    stops: int = 0

    @property
    def failure(self) -> str:
        """Why a worker paused the queue; empty if none did."""
        return self.reason if self.paused_by == "worker" else ""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """How far a source has been read: bytes of text, lines, and a mark of what file it is."""

    source: str
    offset: int
    line_number: int
    signature: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetterFilter:
    """Which dead letters: those for which everything that is given holds.

    Raises:
        UsageError: If there is no such status.
    """

    ids: Sequence[int] | None = None
    status: str | None = "open"
    fingerprint: str | None = None
    processor: str | None = None
    code: str | None = None
    source: str | None = None
    limit: int | None = None

    def __post_init__(self) -> None:
        """Refuse a status that no letter can have."""
        if self.status not in (None, *STATUSES):
            known = f"use {', '.join(STATUSES)}"
            raise UsageError(f"there is no status {self.status!r}; {known}, or None for all")


class Queue(Protocol):
    """A durable queue of batches and what is kept with it. Safe to use from many threads."""

    url: str
    """Names the store; without passwords."""

    secret_url: str
    """Opens the store; with passwords, so it is shown nowhere."""

    def put(
        self,
        *batches: Batch,
        checkpoint: Checkpoint | None = None,
        expected: Checkpoint | Literal["any"] | None = "any",
        block: bool = True,
        timeout: float | None = None,
    ) -> None:
        """Store batches, and how far their source is read, in one transaction.

        A batch whose id is waiting already is left as it is. When this
        returns, the batches survive a crash and a power cut.

        Args:
            batches: What to store; empty ones are passed over.
            checkpoint: Replaces the source's position.
            expected: What the source's position must be until then.
            block: At the limit, wait for room; otherwise raise.
            timeout: Seconds to wait for room, or None to wait for ever.

        Raises:
            QueueFull: If there is no room within the time.
            SourceLocked: If the position is another; nothing was stored.
            StoreFull: If the disk is full; nothing was stored.
        """

    def checkpoint(self, source: str) -> Checkpoint | None:
        """Return how far a source has been read, or None if it never was."""

    def lease(self, worker: str, *, lines: int = 1, seconds: float = 30.0) -> Lease | None:
        """Lend the oldest waiting batch, or return None if there is none or the queue is paused.

        Small batches of the same source and format that follow it are lent
        with it, up to `lines` lines in all.

        Args:
            worker: Name shown in metrics and traces.
            lines: How many lines are wanted; a batch is never cut.
            seconds: How long they stay with this worker unless renewed.
        """

    def renew(self, lease: Lease, *, seconds: float = 30.0) -> None:
        """Let a lease run for some seconds from now.

        Raises:
            LeaseLost: If it ran out and was given to another.
        """

    def commit(self, lease: Lease, outcome: BatchResult) -> None:
        """Take the batches out and keep all of the outcome, in one transaction.

        Raises:
            LeaseLost: If the lease ran out and was given to another; nothing changes.
        """

    def release(self, lease: Lease, *, delay: float = 0.0) -> None:
        """Give batches back unprocessed, to be lent again after `delay` seconds.

        The delivery does not count against them.

        Raises:
            LeaseLost: If the lease ran out and was given to another.
        """

    def split(self, lease: Lease, parts: int = 8) -> None:
        """Put a leased batch back as several smaller ones, to find what in it kills workers.

        Raises:
            LeaseLost: If the lease ran out and was given to another.
        """

    def reclaim(self) -> list[str]:
        """Take back leases of workers on this host whose process is gone; return their tokens."""

    def peek(self, limit: int = 100) -> pl.DataFrame:
        """Return the first waiting lines: batch, put_at, source, line_number, line, format."""

    def stats(self) -> Stats:
        """Return the totals, all of one moment."""

    def pause(self, reason: str = "", *, by: PausedBy = "operator") -> None:
        """Lend nothing from now on, in any process, until `resume`; survives restarts.

        Args:
            reason: Shown to whoever looks.
            by: Who pauses. `etl run` ends with what a worker paused for, and resumes it
                when it is started again; an operator's pause is the operator's to end.
        """

    def resume(self) -> None:
        """Lend again."""

    def step(self, batches: int = 1) -> None:
        """Let some leases through although the queue is paused."""

    def drain(self) -> None:
        """Ask the workers that run now to end once nothing waits."""

    def stop(self) -> None:
        """Ask the workers that run now to end after their batch."""

    def control(self) -> Control:
        """Return what an operator has asked for."""

    def register(self, worker: str) -> int:
        """Make a worker known and return its slot: the lowest that no live worker has."""

    def heartbeat(self, worker: str) -> None:
        """Say that a worker lives."""

    def unregister(self, worker: str) -> None:
        """Forget a worker that ends; its slot is free."""

    def states(self, slot: int) -> Mapping[str, str]:
        """Return the committed states of a slot's stateful processors, as JSON text."""

    def pending_outputs(self) -> list[Output]:
        """Return the files of committed batches that may not have their final names yet."""

    def mark_published(self, outputs: Sequence[Output]) -> None:
        """Note that these files have their final names."""

    def read(self, kind: TableName, *, limit: int | None = None) -> list[dict[str, Any]]:
        """Return the rows of one of the store's tables, the newest `limit` in old-to-new order."""

    def dead_letters(self, wanted: DeadLetterFilter) -> pl.DataFrame:
        """Return dead letters, newest last.

        Columns: those of `DeadLetters.frame`, with times in Unix seconds, and
        `path` and `payload` as JSON text.
        """

    def dead_letter_groups(self, wanted: DeadLetterFilter) -> list[dict[str, Any]]:
        """Return the groups of `DeadLetters.groups`, the most frequent first."""

    def replay(self, ids: Sequence[int], batches: Sequence[Batch]) -> None:
        """Move open dead letters back to waiting, as these batches, in one transaction.

        Raises:
            UsageError: If one of them is no longer open; nothing changes.
        """

    def discard(self, ids: Sequence[int]) -> None:
        """Close open dead letters for good; they still count as dead.

        Raises:
            UsageError: If one of them is no longer open; nothing changes.
        """

    def version(self) -> object:
        """Return a mark that differs once the store has changed; see `wait`."""

    def wait(self, since: object, timeout: float) -> bool:
        """Wait until the store has changed since a mark; return False if it has not in time.

        At once within this process; within 25 ms for a change by another.
        """

    def close(self) -> None:
        """Close the store. Closing twice is fine."""


def open_queue(
    url: str | Path,
    *,
    max_lines: int | None = None,
    max_bytes: int | None = None,
) -> Queue:
    """Open a store, and make it if it is not there.

    Args:
        url: `sqlite:///relative/or//absolute/path.db`, a plain path, or `sqlite://`.
        max_lines: Waiting lines at which `put` blocks or is refused.
        max_bytes: The same in bytes of text.

    Raises:
        UsageError: If the URL is of no known kind.
        StoreError: If the store is none, is newer than this etl, or cannot be used.
    """
    from etl.queue.sqlite import SqliteQueue

    url = str(url)
    file = file_of(url)
    if file is not None or url == IN_MEMORY:
        return SqliteQueue(file, max_lines=max_lines, max_bytes=max_bytes)
    if url.startswith(("nats://", "tls://")):
        raise UsageError(
            f"store {without_secrets(url)!r}: stores on NATS are no longer supported; "
            "use sqlite:///path/run.db or a path"
        )
    raise UsageError(
        f"store {without_secrets(url)!r} is of no known kind; use sqlite:///path/run.db or a path"
    )
