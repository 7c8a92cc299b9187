"""The progress bar on a terminal: how much is done, how fast, and what is waited for."""

from __future__ import annotations

from collections.abc import Iterable

from rich import progress
from rich.console import Console, RenderableType
from rich.text import Text

from etl.cli.progress import resume_of
from etl.runs.progress import Progress, waits_for

__all__ = ["Bar"]

LOOK = 0.5
"""Seconds between two looks at what is waited for."""


class Bar(progress.Progress):
    """A bar with a line below it."""

    def __init__(self, console: Console) -> None:
        self._waits, self._looked, self._before = "", float("-inf"), -1
        super().__init__(
            progress.TextColumn("[bold]{task.description}"),
            progress.BarColumn(),
            progress.TextColumn("{task.completed:,} of {task.total:,} lines"),
            progress.TextColumn("{task.fields[rate]:,.0f}/s"),
            progress.TimeElapsedColumn(),
            console=console,
            transient=True,
        )
        self._task = self.add_task("processing", total=0, rate=0.0)

    def get_renderables(self) -> Iterable[RenderableType]:
        """Return the bar, and the line."""
        yield from super().get_renderables()
        yield Text(self._waits, "dim", no_wrap=True, overflow="ellipsis")

    def show(self, now: Progress) -> None:
        """Show how far a run is."""
        if now.seconds - self._looked >= LOOK:
            self._waits, self._looked = f"{waits_for(now)}{resume_of(now)}", now.seconds
        stats = now.stats
        self._before = stats.finished if self._before < 0 else self._before
        self.update(
            self._task,
            description="paused" if stats.paused else "processing",
            total=stats.accepted,
            completed=stats.finished,
            rate=(stats.finished - self._before) / (now.seconds or 1.0),
        )
