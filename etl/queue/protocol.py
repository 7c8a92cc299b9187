"""What every store can do: six small protocols, and what they return.

A store holds everything that must survive: waiting batches, leases, dead letters,
metrics, traces, states of processors, checkpoints of sources. It knows no pipeline.

    BatchQueue        put, lease, renew, commit, release, split, note_hang, reclaim, wait_for_work,
                      wake
    QueueControl      pause, resume, step, drain, stop, control
    WorkerRegistry    register, heartbeat, unregister, states, outputs, data sets, output root
    DeadLetterQueue   dead_letters, dead_letter_groups, dead_letter_minutes,
                      replay, discard, reopen
    QueueReader       stats, batches_done, peek, read, checkpoint, checkpoints, check, version, wait
    Upkeep            prune, prune_slice, shrink
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

import polars as pl

from etl.errors import UsageError
from etl.records.batch import Batch, Lease
from etl.records.columns import TOTALS
from etl.records.result import BatchResult, Output

if TYPE_CHECKING:
    from etl.queue.check import Check

__all__ = [
    "Checkpoint",
    "Control",
    "DeadLetterFilter",
    "Hang",
    "PausedBy",
    "Queue",
    "QueueReader",
    "Stats",
    "TableName",
    "TargetState",
    "identity",
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
    "source_formats",
]

PausedBy = Literal["operator", "worker"]
"""Who paused a queue: a person, or a worker that cannot continue."""

KEY_SOURCE = "key"
"""A checkpoint whose source begins with this and a colon is that of an idempotency key."""

STATUSES = ("open", "replaying", "replayed", "discarded")
"""The statuses of a dead letter."""


def identity(totals: Mapping[str, int]) -> str:
    """Return the accounting identity as people read it: leased lines are "processing"."""
    accepted, *parts = (
        f"{totals[name]:,} {'processing' if name == 'leased' else name}" for name in TOTALS.names
    )
    return f"{accepted} = {' + '.join(parts)}"


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

    def __str__(self) -> str:
        return f"{identity(self.totals())} {'✓' if self.conserved else '✗'}"

    def totals(self) -> dict[str, int]:
        """Return the six numbers of the accounting identity by name."""
        return {name: getattr(self, name) for name in TOTALS.names}

    @property
    def conserved(self) -> bool:
        """Whether accepted = done + filtered + dead + leased + waiting."""
        return self.accepted == self.finished + self.leased + self.waiting

    @property
    def finished(self) -> int:
        """Lines that are done, filtered or dead."""
        return self.done + self.filtered + self.dead

    @property
    def idle(self) -> bool:
        """Whether no line waits and none is leased."""
        return self.waiting == 0 and self.leased == 0


@dataclass(frozen=True, slots=True)
class Control:
    """Whether the queue is paused, by whom and why, and what workers are asked to do.

    `drains` and `stops` count how often that was asked: a worker ends, once
    nothing waits or after its batch, when the count has grown since it began.
    """

    paused: bool = False
    paused_by: PausedBy | None = None
    reason: str = ""
    steps: int = 0
    drains: int = 0
    stops: int = 0

    @property
    def failure(self) -> str:
        """Why a worker paused the queue; empty if none did."""
        return self.reason if self.paused_by == "worker" else ""

    @property
    def can_lease(self) -> bool:
        """Whether the queue is not paused, or has a step left."""
        return not self.paused or self.steps > 0


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """How far a source has been read; two that differ only in what is known beside it are equal.

    Attributes:
        source: What was read: a file's path as it was named, or a name.
        offset: Bytes of text.
        line_number: Lines.
        signature: Tells its text from that of another.
        number: Which of the files that had its name, from 1; 0 for what is no file.
        path: Where that file was seen last.
        file: Its id then: device and inode.
        host: On which machine.
        modified: Unix seconds when it was last changed, then.
        error: Why it cannot be read now; empty if it can.
    """

    source: str
    offset: int
    line_number: int
    signature: str = ""
    number: int = 0
    path: str = field(default="", compare=False)
    file: str = field(default="", compare=False)
    host: str = field(default="", compare=False)
    modified: float = field(default=0.0, compare=False)
    error: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetterFilter:
    """Which dead letters: those for which everything that is given holds.

    `limit` are the newest so many, `before` those with a lower id (the page before another), and
    `skip` leaves out the newest so many.

    Raises:
        UsageError: If there is no such status.
    """

    ids: Sequence[int] | None = None
    status: str | None = "open"
    fingerprint: str | None = None
    processor: str | None = None
    code: str | None = None
    source: str | None = None
    before: int | None = None
    limit: int | None = None
    skip: int = 0

    def __post_init__(self) -> None:
        """Refuse a status that no dead letter can have."""
        if self.status not in (None, *STATUSES):
            known = f"use {', '.join(STATUSES)}"
            raise UsageError(f"unknown status {self.status!r}; {known}")


@dataclass(frozen=True, slots=True)
class Hang:
    """A worker process that was killed because a processor hung in it.

    Attributes:
        worker: Its name.
        token: Of its lease.
        batch: Id of the first batch of that.
        lines: How many lines that covers.
        processor: What hung.
        timeout: Seconds that one call of it may take.
    """

    worker: str
    token: str
    batch: str
    lines: int
    processor: str
    timeout: float

    ERROR: ClassVar[str] = "WorkerHung"

    def __str__(self) -> str:
        return (
            f"worker {self.worker} hung in processor {self.processor!r} for longer than its "
            f"timeout of {self.timeout:g} s; killed"
        )


@dataclass(frozen=True, slots=True)
class TargetState:
    """What waits to be loaded into a target, as the store knows it.

    Attributes:
        spool: Folder of its spool, from the output root.
        name: What the target is called; the spool where that is not known.
        files: How many files wait.
        lines: How many done source lines their batches have.
        bytes: How large they are.
        since: Unix seconds since when it fails; None if it does not.
        failed_at: Unix seconds when it failed last; None if it does not fail.
        error: Why it fails, or empty.
    """

    spool: str
    name: str
    files: int = 0
    lines: int = 0
    bytes: int = 0
    since: float | None = None
    failed_at: float | None = None
    error: str = ""


class BatchQueue(Protocol):
    """Batches on their way: put, lease, renew, commit, release, split."""

    def put(
        self,
        *batches: Batch,
        checkpoint: Checkpoint | None = None,
        expected: Checkpoint | Literal["any"] | None = "any",
        block: bool = True,
        timeout: float | None = None,
    ) -> None:
        """Store batches, and how far their source is read, in one transaction.

        A batch whose id was put within the last hour, or waits, is left as it is. When
        this returns, the batches survive a crash and a power cut.

        A store that goes away meanwhile is waited for as is room, and whether the batches
        were stored is found out then.

        Args:
            batches: What to store; empty ones are passed over.
            checkpoint: Replaces that of the same source and number.
            expected: What that must be until then.
            block: At the limit, wait for room, and for a store that is away; otherwise raise.
            timeout: Seconds to wait, or None for no limit.

        Raises:
            QueueFull: If there is no room within the time.
            StoreUnavailable: If the store cannot be reached within the time; what was put
                may be stored, and can be put again.
            SourceLocked: If the checkpoint is another; nothing was stored.
            StoreFull: If the disk is full; nothing was stored.
        """

    def lease(
        self, worker: str, *, lines: int = 1, seconds: float = 30.0, without: Sequence[str] = ()
    ) -> Lease | None:
        """Lease the oldest waiting batch, or return None if none waits or the queue is paused.

        Small batches of the same source and format that follow it are leased
        with it, up to `lines` lines in all.

        Args:
            worker: Name shown in metrics and traces.
            lines: How many lines are wanted; a batch is never cut.
            seconds: How long they stay with this worker unless renewed.
            without: Sources whose batches are left to others.
        """

    def work_version(self) -> object:
        """Return a value that differs once there may be work; see `wait_for_work`."""

    def wait_for_work(self, since: object, timeout: float) -> bool:
        """Wait until there may be a batch to lease, or an operator has asked for something.

        At once for most changes, but not for all: who waits looks again by itself every
        now and then, such as once a second.

        Args:
            since: What `work_version` returned before the last look.
            timeout: Seconds to wait at most.

        Returns:
            Whether it is worth a look.
        """

    def wake(self) -> None:
        """Let all in this process who wait for work look at once."""

    def renew(self, lease: Lease, *, seconds: float = 30.0) -> None:
        """Extend a lease to some seconds from now.

        Raises:
            LeaseLost: If it ran out and was given to another.
        """

    def commit(self, lease: Lease, result: BatchResult) -> None:
        """Delete the leased batches and keep all of the result, in one transaction.

        Raises:
            LeaseLost: If the lease ran out and was given to another; nothing changes.
        """

    def release(self, lease: Lease, *, delay: float = 0.0) -> None:
        """Return batches unprocessed, to be leased again after `delay` seconds.

        The delivery does not count against them.

        Raises:
            LeaseLost: If the lease ran out and was given to another.
        """

    def split(self, lease: Lease, parts: Sequence[Sequence[Batch]]) -> None:
        """Replace leased batches by several smaller ones, to find what in them kills workers.

        Args:
            lease: The batches.
            parts: For each of them, what `Batch.parts` returned.

        Raises:
            LeaseLost: If the lease ran out and was given to another.
        """

    def note_hang(self, hang: Hang) -> None:
        """Keep a hang among the recent errors, and count its delivery twice.

        What kills a worker by chance is delivered again as it is; what hangs is known to, and
        is split, or given up, at the next delivery.
        """

    def reclaim(self) -> list[str]:
        """Take back leases of workers on this host whose process is gone; return their tokens."""


class QueueControl(Protocol):
    """What an operator asks of workers, from any process."""

    def pause(self, reason: str = "", *, by: PausedBy = "operator") -> None:
        """Lease nothing from now on, in any process, until `resume`; survives restarts.

        Args:
            reason: Shown to whoever looks.
            by: Who pauses. `etl run` ends with what a worker paused for, and resumes it
                when it is started again; an operator's pause is the operator's to end.
        """

    def resume(self) -> None:
        """Lease again."""

    def step(self, batches: int = 1) -> None:
        """Allow some leases although the queue is paused."""

    def drain(self) -> None:
        """Ask the workers that run now to end once nothing waits."""

    def stop(self) -> None:
        """Ask the workers that run now to end after their batch."""

    def control(self) -> Control:
        """Return what an operator has asked for."""


class WorkerRegistry(Protocol):
    """The workers that run, the states they keep, and the files they have yet to publish."""

    def register(self, worker: str, *, again: bool = False) -> int:
        """Add a worker and return its slot: the lowest that no live worker has.

        Args:
            worker: Its name, which no other live worker has.
            again: Whether the caller has registered it before, so that it may be there.

        Raises:
            UsageError: If a worker of that name runs: its process lives, as far as that can be
                known, and it was heard of within the last minute.
        """

    def heartbeat(self, worker: str) -> None:
        """Note that a worker lives."""

    def unregister(self, worker: str) -> None:
        """Remove a worker that ends; its slot is free, and what it could not give back waits."""

    def states(self, slot: int) -> Mapping[str, str]:
        """Return the committed states of a slot's stateful processors, as JSON text."""

    def pending_outputs(self) -> list[Output]:
        """Return the files of committed batches that may not have their final names yet."""

    def lease_tokens(self) -> set[str]:
        """Return the tokens of the leases that workers have."""

    def mark_published(self, outputs: Sequence[Output]) -> None:
        """Note that these files have their final names."""

    def outputs(self) -> list[Output]:
        """Return the files of all committed batches, by `final`, as they are now.

        Those that have their final names have the same as `staged`.
        """

    def replace_outputs(self, old: Sequence[Output], new: Sequence[Output]) -> None:
        """Forget some outputs and know others in their place, in one durable transaction.

        Args:
            old: What holds the lines until now, by `final`.
            new: What holds them from now on. One whose two names are the same is published;
                others are pending, and published as those of a batch are. With none, the lines
                are no output any more; else `old` are known as replaced, until
                `forget_replaced`.

        Raises:
            OutputsChanged: If one of `old` is not known, or not any more; nothing changes.
        """

    def targets(self) -> list[TargetState]:
        """Return the targets that anything waits for, or that fail, by their names."""

    def note_target(self, spool: str, name: str, error: str) -> None:
        """Note why a target cannot be loaded, or, with no error, that it can.

        Args:
            spool: Folder of its spool, from the output root.
            name: What it is called, without secrets.
            error: The same of why it fails; empty if it does not.
        """

    def replaced_outputs(self, older_than: float = 0.0) -> list[Output]:
        """Return the files that others have replaced for some seconds, and are to be removed."""

    def forget_replaced(self, outputs: Sequence[Output]) -> None:
        """Forget replaced outputs: their files are gone."""

    def data_sets(self) -> dict[Path, dict[str, str]]:
        """Return the types of the columns of each folder that sinks of tables have written.

        A type is as Polars shows it, `Int64`; `Null` if the column had no value so far.
        """

    def agree_on_columns(self, folder: Path, columns: Mapping[str, str]) -> dict[str, str]:
        """Return the types of all columns of a data set, once those that are new are kept.

        What is there stays, but that a column of type `Null` gets another. No more than
        `Settings.max_columns` are kept: others are not in what is returned.

        Args:
            folder: Of the data set.
            columns: Types by column.
        """

    def set_column_types(self, folder: Path, columns: Mapping[str, str]) -> None:
        """Give columns of a data set other types; its files are not changed.

        Raises:
            UsageError: If there is no such data set or column, or if workers run.
        """

    def output_root(self) -> Path | None:
        """Return the folder below which outputs lie, or None if the store keeps none."""

    def use_output_root(self, folder: Path, *, keep: bool = True) -> None:
        """Agree on a folder as the store's output root; one in memory has none.

        Args:
            folder: Below which outputs are written.
            keep: Let a store in a file keep it, if it has none yet.

        Raises:
            UsageError: If the store keeps another.
        """

    def set_output_root(self, folder: Path) -> None:
        """Keep another folder below which outputs lie; what is there is not moved.

        Raises:
            UsageError: If workers run.
        """


class DeadLetterQueue(Protocol):
    """Dead letters: read, replay, discard, reopen."""

    def dead_letters(self, wanted: DeadLetterFilter) -> pl.DataFrame:
        """Return dead letters, newest last, with the columns of `DEAD_LETTERS`.

        Times are Unix seconds, `path` and `payload` JSON text.
        """

    def dead_letter_groups(self, wanted: DeadLetterFilter) -> list[dict[str, Any]]:
        """Return dead letters by kind of failure, the most frequent first.

        Keys: the columns of `DEAD_LETTER_GROUPS`; times are Unix seconds.
        """

    def dead_letter_minutes(self, minutes: int = 12) -> Mapping[str, list[int]]:
        """Return how many lines failed last in each of the last minutes, by kind of failure.

        Only open dead letters count, the newest 20,000. Keys: fingerprints.
        """

    def replay(self, ids: Sequence[int], batches: Sequence[Batch]) -> None:
        """Move open dead letters back to waiting, as these batches, in one transaction.

        Raises:
            UsageError: If one of them is no longer open; nothing changes.
        """

    def discard(self, ids: Sequence[int]) -> None:
        """Close open dead letters; they still count as dead.

        Raises:
            UsageError: If one of them is no longer open; nothing changes.
        """

    def reopen(self, ids: Sequence[int]) -> int:
        """Open discarded dead letters again, in one transaction; return how many lines they are.

        Raises:
            UsageError: If one of them is not discarded, or was deleted since; nothing changes.
        """


class QueueReader(Protocol):
    """What a store holds, and whether it has changed."""

    def stats(self) -> Stats:
        """Return the totals, all of one moment."""

    def batches_done(self) -> int:
        """Return how many batches have been committed, or a few more: numbers may be skipped."""

    def peek(self, limit: int = 100, *, leased: bool = False) -> pl.DataFrame:
        """Return the first waiting lines, with the columns of `WAITING`.

        Args:
            limit: How many, at most.
            leased: Return those that workers have instead.
        """

    def read(self, table: TableName, *, limit: int | None = None) -> list[dict[str, Any]]:
        """Return the rows of one of the store's tables, the newest `limit`, oldest first."""

    def checkpoint(self, source: str) -> Checkpoint | None:
        """Return how far a source has been read, or None if it never was.

        Of the files that had the source's name, the newest.
        """

    def checkpoints(self, sources: Sequence[str], file: str = "") -> list[Checkpoint]:
        """Return the checkpoints of some sources, and of the file with an id, by their numbers.

        Args:
            sources: Their names.
            file: Device and inode, as `Checkpoint.file`.
        """

    def check(self) -> Check:
        """Verify all that is kept, and the files that it refers to; nothing is changed."""

    def version(self) -> object:
        """Return a value that differs once the store has changed; see `wait`."""

    def wait(self, since: object, timeout: float) -> bool:
        """Wait until the store has changed since a `version`; return False if it has not.

        At once for a change in this process; for one by another within 25 ms, or 100 ms if
        the store is on a server.

        Args:
            since: What `version` returned.
            timeout: Seconds to wait at most.
        """


class Upkeep(Protocol):
    """What keeps a store small: open dead letters and checkpoints of files stay."""

    def prune(self, older_than: float | None = None, *, dry_run: bool = False) -> Mapping[str, int]:
        """Delete what is too old, 1,000 rows at a time, and return how many rows by kind.

        Args:
            older_than: Seconds since a dead letter was closed, or an idempotency key was used;
                by default what `ETL_RETENTION_DAYS` says.
            dry_run: Only count them.
        """

    def prune_slice(self) -> None:
        """Delete at most 1,000 rows of a kind that are too old, if it is time to.

        Commits do the same; this is for a worker that has nothing to commit.
        """

    def shrink(self, *, always: bool = False) -> int:
        """Give space that is no longer needed back, and return how many bytes.

        Rewrites a file, if a tenth or more of its pages are free; nobody can write to it
        meanwhile. A server does this by itself.

        Args:
            always: Whatever is free: pages of which much was deleted are not.
        """


class Queue(
    BatchQueue, QueueControl, WorkerRegistry, DeadLetterQueue, QueueReader, Upkeep, Protocol
):
    """A durable queue of batches and what is kept with it. Safe to use from many threads."""

    url: str
    """Names the store; without passwords."""

    secret_url: str
    """Opens the store; with passwords, so it is shown nowhere."""

    def close(self) -> None:
        """Close the store. Closing twice is allowed."""
