"""The result of a batch: everything that a worker commits with it, in one transaction.

Counts of lines, dead letters with their failures, processor statistics, traces, states
and staged files. This module knows neither stores nor pipelines.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import polars as pl

from etl.records.columns import DEAD_LETTERS
from etl.records.stats import FormatCounts, ProcessorStats

__all__ = [
    "INPUT",
    "BatchResult",
    "FailureKind",
    "FormatCounts",
    "Output",
    "ProcessorStats",
    "Trace",
]

INPUT = "input"
"""What comes before every processor: the batch itself, also in `after=`."""


@dataclass(frozen=True, slots=True)
class FailureKind:
    """One kind of failure; dead letters of the same kind share it.

    Attributes:
        fingerprint: The same for the same processor, code, error, source, reason (apart from
            numbers and quoted text in it) and template of the record's message, or layout of
            its line.
        processor: Where the lines failed.
        code: Short name of the reason: that given to `reject`, `error`, `timeout` or `when`.
        error: Class of the exception, or empty.
        traceback: Its traceback, or empty.
        path: Processors that the lines passed, the failed one last.
    """

    fingerprint: str
    processor: str
    code: str
    error: str
    traceback: str
    path: tuple[str, ...]


DEAD_LETTER_SCHEMA: dict[str, pl.DataType | type[pl.DataType]] = {
    "dead_letter_id": pl.Int64,
    "failure": pl.UInt32,
    **DEAD_LETTERS.pick(
        "line", "raw", "line_number", "lines", "payload", "message", "attempts"
    ).schema,
}
"""Columns of `BatchResult.dead_letters`: `dead_letter_id` is the id of the dead letter from
which the line was replayed, or null; `failure` is an index into `BatchResult.failures`;
`payload` is the row at the failure as JSON; `lines` is the number of lines of the record, or of
a range that could not be read."""


UNREAD = ("source_changed", "unreadable")
"""Codes of dead letters whose text could not be read: `line` holds the reason instead."""


NO_FORMAT = "no_format"
"""Code of dead letters that do not fit the format they were said to have."""


@dataclass(frozen=True, slots=True)
class Trace:
    """The last lines of a batch with their paths.

    Attributes:
        lines: Frame of `line` String, `line_number` Int64, `path` UInt32 (index into `paths`)
            and `state` String: done, filtered or dead.
        paths: For each path, its processors with the seconds that each took per line.
    """

    lines: pl.DataFrame
    paths: Sequence[Sequence[tuple[str, float]]]


@dataclass(frozen=True, slots=True)
class Output:
    """A file that a sink has staged, and the name that it gets after the commit.

    `size` is in bytes, `checksum` the CRC-32 of them; None if the sink does not tell.
    """

    staged: str
    final: str
    size: int | None = None
    checksum: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class BatchResult:
    """The result of a batch: everything that is committed with it, in one transaction.

    Attributes:
        done: Source lines that reached an end of the pipeline.
        filtered: Source lines that a processor dropped.
        dead: Source lines that became dead letters. The three add up to the batch's lines.
        processor_stats: Statistics by processor.
        dead_letters: Frame of `DEAD_LETTER_SCHEMA`, a row per dead letter.
        failures: The kinds of failure that `dead_letters` refers to.
        passed: Ids of the replayed dead letters that did not fail again.
        errors: `(processor, error, message, lines, action)` for the list of recent errors.
        trace: The last lines with their paths, or None if there are none.
        formats: How many records were read by each format; "" for those that fit none.
        states: States of stateful processors by name, as JSON text.
        outputs: Staged files.
        version: Version of the pipeline.
        run: Name of the run.
        slot: Slot of the worker.
        seconds: How long the batch ran.
    """

    done: int = 0
    filtered: int = 0
    dead: int = 0
    processor_stats: Mapping[str, ProcessorStats] = field(default_factory=dict)
    dead_letters: pl.DataFrame = field(
        default_factory=lambda: pl.DataFrame(schema=DEAD_LETTER_SCHEMA)
    )
    failures: Sequence[FailureKind] = ()
    passed: Sequence[int] = ()
    errors: Sequence[tuple[str, str, str, int, str]] = ()
    trace: Trace | None = None
    formats: Mapping[str, FormatCounts] = field(default_factory=dict)
    states: Mapping[str, str] = field(default_factory=dict)
    outputs: Sequence[Output] = ()
    version: str = ""
    run: str = ""
    slot: int = 0
    seconds: float = 0.0

    def __repr__(self) -> str:
        counts = f"{self.done:,} done, {self.filtered:,} filtered, {self.dead:,} dead"
        return f"<BatchResult: {counts} in {self.seconds:.3g} s>"
