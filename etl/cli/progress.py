"""A progress bar on stderr, and what is waited for; without a terminal a line if it takes long."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

from rich.console import Console

from etl.cli.commands import etl_command
from etl.queue import open_queue
from etl.queue.urls import file_of
from etl.runs.progress import Progress, waits_for
from etl.text import say

STALLED = 30.0
"""Seconds without any progress after which it is said, without a terminal, what is waited for."""


@contextmanager
def show_progress() -> Iterator[Callable[[Progress], None]]:
    """Yield a function that shows how many of a store's lines are finished, and what is waited for.

    Without a terminal it prints, once each, that the store is paused, and what has been waited
    for while nothing moved for 30 seconds.
    """
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _Teller().tell
        return
    from etl.cli.bar import Bar  # whose parts of rich only terminals need

    with Bar(console) as bar:
        yield bar.show


class _Teller:
    """Prints what is waited for, if that takes long."""

    def __init__(self) -> None:
        self._last: tuple[int, ...] = ()
        self._since = 0.0
        self._told: set[str] = set()

    def tell(self, now: Progress) -> None:
        """Print what is waited for, if nothing has moved for long, and once that it is paused."""
        if now.stats.paused:
            self._say(f"the store is paused{resume_of(now)}")
            return
        state = (now.read, now.stats.accepted, now.stats.finished)
        if state != self._last:
            self._last, self._since = state, now.seconds
        elif now.seconds - self._since >= STALLED:
            self._since = now.seconds
            self._say(waits_for(now))

    def _say(self, text: str) -> None:
        if text not in self._told:
            self._told.add(text)
            say(f"etl: {text}", err=True)


def resume_of(now: Progress) -> str:
    """Return how a paused store is resumed; nothing if it is not paused."""
    if not now.stats.paused:
        return ""
    return f"; to continue: {etl_command('resume', store=now.queue.url)}"


@contextmanager
def watch_store(url: str) -> Iterator[None]:
    """Show the progress of a store while others process its lines, if there is a terminal."""
    if not Console(stderr=True).is_terminal:
        yield
        return
    ended, file, started = threading.Event(), file_of(url), time.monotonic()

    def watch() -> None:
        while file and not file.exists():
            if ended.wait(0.1):
                return
        with closing(open_queue(url)) as queue, show_progress() as show:
            while not ended.wait(0.25):
                show(Progress(0, None, queue.stats(), time.monotonic() - started, queue))

    thread = threading.Thread(target=watch, name="etl-watch", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
