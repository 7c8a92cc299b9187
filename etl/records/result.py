"""The result of a batch: all that a worker commits with it, in one transaction.

Counts of lines, dead letters with what is needed to understand them, and everything
else that is counted. Nothing here knows a store or a pipeline; both know this.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, field

import polars as pl

__all__ = ["BatchResult", "FailureKind", "Output", "ProcessorStats", "Trace"]


@dataclass(frozen=True, slots=True)
class ProcessorStats:
    """What one processor did with one batch: counts of rows, and busy seconds."""

    received: int = 0
    emitted: int = 0
    filtered: int = 0
    errors: int = 0
    retries: int = 0
    dead: int = 0
    seconds: float = 0.0

    def __add__(self, other: ProcessorStats) -> ProcessorStats:
        return ProcessorStats(
            *(mine + theirs for mine, theirs in zip(astuple(self), astuple(other), strict=True))
        )


@dataclass(frozen=True, slots=True)
class FailureKind:
    """One way in which lines failed; lines that failed alike share it.

    `fingerprint` is the same for the same processor, code, error type and
    message once numbers, hex and quoted text are left out of it.
    """

    fingerprint: str
    processor: str
    code: str
    error: str
    traceback: str
    path: tuple[str, ...]


DEAD_LETTER_SCHEMA: dict[str, type[pl.DataType]] = {
    "dead_letter_id": pl.Int64,
    "failure": pl.UInt32,
    "line": pl.String,
    "raw": pl.Binary,
    "line_number": pl.Int64,
    "lines": pl.Int64,
    "payload": pl.String,
    "message": pl.String,
    "attempts": pl.Int64,
}
"""Columns of `BatchResult.letters`: `dead_letter_id` is the id of the dead letter that this
line was replayed from, or null; `failure` is an index into `BatchResult.failures`;
`payload` the row at failure as JSON; `lines` is 1, or how many lines a letter
stands for whose text could not be read."""


UNREAD = ("source_changed", "unreadable")
"""Codes of letters that die at the input without their text: `line` says why instead."""


@dataclass(frozen=True, slots=True)
class Trace:
    """The last lines of a batch with their paths.

    `lines` has the columns `line`, `line_number`, `state` (done, filtered or
    dead) and `path`, an index into `paths`; a path is the processors passed,
    with the seconds that each took per line.
    """

    lines: pl.DataFrame
    paths: Sequence[Sequence[tuple[str, float]]]


@dataclass(frozen=True, slots=True)
class Output:
    """A file that a sink has staged; the commit makes it `final` by renaming."""

    staged: str
    final: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchResult:
    """What became of a batch: all that is committed with it, in one transaction.

    `done`, `filtered` and `dead` count source lines and add up to the batch's
    lines. `passed` are the ids of dead letters whose replay went well.
    `errors` are `(processor, error, message, lines, action)` for the list of
    recent errors. `seconds` is the time the batch took in the pipeline.
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
    states: Mapping[str, str] = field(default_factory=dict)
    outputs: Sequence[Output] = ()
    version: str = ""
    run: str = ""
    slot: int = 0
    seconds: float = 0.0
