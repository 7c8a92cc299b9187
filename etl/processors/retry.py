"""How often lines that fail are tried again."""

from __future__ import annotations

import random
from dataclasses import dataclass

from etl.errors import PipelineError

__all__ = ["Retry"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """How often lines that raise are tried again, and how long to wait in between.

    Attributes:
        attempts: Tries in all; 1 means no second one.
        wait: Seconds before the second try; doubled before each further one.
        longest: Seconds that a wait is at most.
        jitter: Share of each wait that is drawn by chance, 0 to 1.
        on: The exceptions that are worth another try.
    """

    attempts: int = 3
    wait: float = 0.1
    max_wait: float = 30.0
    jitter: float = 0.5
    on: tuple[type[BaseException], ...] = (Exception,)

    def __post_init__(self) -> None:
        """Refuse what is no number of tries."""
        if self.attempts < 1:
            raise PipelineError(f"attempts={self.attempts} is no number of tries; 1 means one")

    def seconds(self, attempt: int) -> float:
        """Return how long to wait after the `attempt`-th try failed."""
        wait = min(self.max_wait, self.wait * 2.0 ** (attempt - 1))
        return wait * (1 - self.jitter * random.random())
