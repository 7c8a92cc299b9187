"""What is counted of a processor: a counter is a field here, and a column everywhere else."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeVar

__all__ = ["FormatCounts", "ProcessorStats"]


Counts = TypeVar("Counts", bound="ProcessorStats | FormatCounts")


def _sum(one: Counts, other: Counts) -> Counts:
    """Return the sum of each field; `astuple` would copy their values, which takes far longer."""
    return type(one)(*[getattr(one, name) + getattr(other, name) for name in one.__slots__])


def _counted(about: str) -> Any:
    return field(default=0, metadata={"about": about})


@dataclass(frozen=True, slots=True)
class ProcessorStats:
    """What one processor did with one batch: source lines, and the seconds that it took.

    A row stands for the lines of the record that it is from; so does each copy of it.
    """

    received: int = _counted("Source lines that the processor was given.")
    emitted: int = _counted("Source lines that it passed on.")
    filtered: int = _counted("Source lines that it dropped.")
    errors: int = _counted("Source lines that failed, each time.")
    retries: int = _counted("Source lines that were tried again.")
    dead: int = _counted("Source lines that became dead letters.")
    seconds: float = _counted("Seconds that it was busy.")

    def __add__(self, other: ProcessorStats) -> ProcessorStats:
        return _sum(self, other)


@dataclass(frozen=True, slots=True)
class FormatCounts:
    """How many records were read by one format.

    Attributes:
        records: All of them.
        timeless: Those without a time.
        empty: Those with neither a time, nor a level, nor a message.
        cut: Pieces of records that were over the limits.
    """

    records: int = 0
    timeless: int = 0
    empty: int = 0
    cut: int = 0

    def __add__(self, other: FormatCounts) -> FormatCounts:
        return _sum(self, other)
