"""How often lines that fail are tried again."""

from __future__ import annotations

import random
from dataclasses import dataclass

from etl.errors import PipelineError

__all__ = ["Retry"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """How often rows that raise are tried again, and how long to wait in between.

    Attributes:
        attempts: Number of tries in all, at least 1; 1 means no second one.
        wait: Seconds before the second try; doubled before each further one.
        max_wait: Seconds that a wait is at most.
        jitter: Share of each wait that is random, 0 to 1.
        on: Classes of the exceptions after which rows are tried again.
    """

    attempts: int = 3
    wait: float = 0.1
    max_wait: float = 30.0
    jitter: float = 0.5
    on: tuple[type[BaseException], ...] = (Exception,)

    def __post_init__(self) -> None:
        """Raise PipelineError if there is no attempt."""
        if self.attempts < 1:
            raise PipelineError(f"retry attempts must be >= 1, got {self.attempts}")

    def seconds(self, attempt: int) -> float:
        """Return the seconds to wait after the `attempt`-th try failed, counted from 1."""
        wait = min(self.max_wait, self.wait * 2.0 ** (attempt - 1))
        return wait * (1 - self.jitter * random.random())
