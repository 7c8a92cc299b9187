"""What is counted of a processor: a counter is a field here, and a column everywhere else."""

from __future__ import annotations

from dataclasses import astuple, dataclass, field
from typing import Any

__all__ = ["ProcessorStats"]


def _counted(about: str) -> Any:
    return field(default=0, metadata={"about": about})


@dataclass(frozen=True, slots=True)
class ProcessorStats:
    """What one processor did with one batch: numbers of rows, and the seconds that it took."""

    received: int = _counted("Rows that the processor was given.")
    emitted: int = _counted("Rows that it passed on.")
    filtered: int = _counted("Rows that it dropped.")
    errors: int = _counted("Rows that failed, each time.")
    retries: int = _counted("Rows that were tried again.")
    dead: int = _counted("Rows that became dead letters.")
    seconds: float = _counted("Seconds that it was busy.")

    def __add__(self, other: ProcessorStats) -> ProcessorStats:
        return ProcessorStats(
            *(mine + theirs for mine, theirs in zip(astuple(self), astuple(other), strict=True))
        )
