"""A progress bar on stderr; without a terminal there is none."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

from rich import progress
from rich.console import Console

from etl.queue import Stats, open_queue
from etl.queue.urls import file_of


@contextmanager
def show_progress() -> Iterator[Callable[[Stats], None]]:
    """Yield a function that shows a store's totals as a bar: how many of its lines are finished.

    Without a terminal it only prints, once, that the store is paused.
    """
    console = Console(stderr=True)
    columns = (
        progress.TextColumn("[bold]{task.description}"),
        progress.BarColumn(),
        progress.TextColumn("{task.completed:,} of {task.total:,} lines"),
        progress.TextColumn("{task.fields[rate]:,.0f}/s"),
        progress.TimeElapsedColumn(),
    )
    hidden = not console.is_terminal
    with progress.Progress(*columns, console=console, transient=True, disable=hidden) as bar:
        task = bar.add_task("processing", total=0, rate=0.0)
        told = not hidden

        def show(stats: Stats) -> None:
            nonlocal told
            if stats.paused and not told:
                console.print("etl: the store is paused; to continue: etl resume", style="")
                told = True
            bar.update(
                task,
                description="paused" if stats.paused else "processing",
                total=stats.accepted,
                completed=stats.finished,
                rate=stats.finished / (bar.tasks[0].elapsed or 1.0),
            )

        yield show


@contextmanager
def watch_store(url: str) -> Iterator[None]:
    """Show the progress of a store while others process its lines, if there is a terminal."""
    if not Console(stderr=True).is_terminal:
        yield
        return
    ended, file = threading.Event(), file_of(url)

    def watch() -> None:
        while file and not file.exists():
            if ended.wait(0.1):
                return
        with closing(open_queue(url)) as queue, show_progress() as show:
            while not ended.wait(0.25):
                show(queue.stats())

    thread = threading.Thread(target=watch, name="etl-watch", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
