"""One reader of a store for all pages that show it live.

A thread reads the store as long as there are viewers: at most four times a second, and only once
the store has changed or a second has passed. Every viewer is given the newest text only, so one
that is slow holds up nothing and misses what is old by then.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from etl.errors import EtlError, UsageError
from etl.queue import Queue

__all__ = ["Feed", "message"]

MIN_SECONDS = 0.25
"""Seconds from one reading to the next; four times as long as the last one took, if longer."""

MAX_SECONDS = 1.0
"""Seconds after which a store is read again though it has not changed."""

LOOK_SECONDS = 0.1
"""Seconds for which a change is waited for before it is looked whether a viewer has come."""

MAX_VIEWERS = 32
"""Viewers at once: each takes one of the requests that a server answers at once."""

Overview = Callable[[int], dict[str, Any]]
"""Returns what a store looks like, with the history of so many seconds."""


def message(event: str, data: object) -> str:
    """Return a server-sent event with data as JSON."""
    return f"event: {event}\ndata: {json.dumps(data)}\n\n"


class Feed:
    """What a store looks like, for any number of viewers.

    Args:
        queue: The store.
        overview: Reads it.
        problem: Returns what viewers are told of an error, which may pass.
    """

    def __init__(
        self, queue: Queue, overview: Overview, problem: Callable[[EtlError], str]
    ) -> None:
        self._queue = queue
        self._overview = overview
        self._problem = problem
        self._viewers: set[_Viewer] = set()
        self._lock = threading.Lock()
        self._last: dict[int, str] = {}
        self._came = threading.Event()
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    @contextlib.contextmanager
    def view(self, seconds: int) -> Iterator[AsyncIterator[str]]:
        """Give the messages for one viewer, until it has gone or the feed is closed.

        Args:
            seconds: How far back the history goes.

        Raises:
            UsageError: If there are too many viewers.
        """
        viewer = _Viewer(seconds)
        self._add(viewer)
        try:
            yield viewer.messages()
        finally:
            with self._lock:
                self._viewers.discard(viewer)
            self._came.set()

    def close(self) -> None:
        """End the messages of all viewers, and wait until the store is no longer read."""
        with self._lock:
            thread = self._thread
            self._closed.set()
            self._end_all()
        self._came.set()
        if thread:
            thread.join()

    def _add(self, viewer: _Viewer) -> None:
        with self._lock:
            if len(self._viewers) >= MAX_VIEWERS:
                raise UsageError(f"{MAX_VIEWERS} pages are open; close one of them")
            if self._closed.is_set():
                viewer.give(None)
                return
            self._viewers.add(viewer)
            if viewer.seconds in self._last:
                viewer.give(self._last[viewer.seconds])
            if self._thread is None:
                self._thread = threading.Thread(target=self._read, name="etl-feed", daemon=True)
                self._thread.start()
        self._came.set()

    def _end_all(self) -> None:
        for viewer in self._viewers:
            viewer.give(None)
        self._viewers.clear()

    def _read(self) -> None:
        """Read the store until there are no viewers."""
        ended = False
        try:
            while viewers := self._current():
                started = time.monotonic()
                version = self._give(viewers)
                self._rest(version, started, time.monotonic() - started)
            ended = True
        finally:
            if not ended:  # by a fault of ours: a page that still waited would be stale
                with self._lock:
                    self._thread = None
                    self._end_all()

    def _current(self) -> list[_Viewer]:
        """Return the viewers; if there are none, the thread counts as ended from here on."""
        with self._lock:
            self._came.clear()
            if not self._viewers:
                self._thread = None
                self._last = {}
            return list(self._viewers)

    def _give(self, viewers: list[_Viewer]) -> object:
        """Read the store once for each length of history that is asked for; return its version."""
        wanted = {viewer.seconds for viewer in viewers}
        version: object = None
        try:
            version = self._queue.version()
            texts = {seconds: message("overview", self._overview(seconds)) for seconds in wanted}
        except EtlError as error:
            texts = dict.fromkeys(wanted, message("problem", {"error": self._problem(error)}))
        with self._lock:
            self._last = texts
        for viewer in viewers:
            viewer.give(texts[viewer.seconds])
        return version

    def _rest(self, version: object, started: float, spent: float) -> None:
        """Wait until the store is to be read again, or a viewer comes."""
        if self._closed.wait(max(MIN_SECONDS - spent, 3 * spent)):
            return
        while not self._came.is_set() and time.monotonic() < started + MAX_SECONDS:
            try:
                if self._queue.wait(version, LOOK_SECONDS):
                    return
            except EtlError:  # which the next reading tells
                self._closed.wait(MAX_SECONDS)


class _Viewer:
    """One viewer: what it is to be told next, on its own event loop."""

    def __init__(self, seconds: int) -> None:
        self.seconds = seconds
        self._loop = asyncio.get_running_loop()
        self._news = asyncio.Event()
        self._text = ""
        self._ended = False

    def give(self, text: str | None) -> None:
        """Let the viewer be sent a text, or end; from any thread."""
        with contextlib.suppress(RuntimeError):  # its loop has ended, and so has the viewer
            self._loop.call_soon_threadsafe(self._take, text)

    def _take(self, text: str | None) -> None:
        self._ended |= text is None
        self._text = text or self._text
        self._news.set()

    async def messages(self) -> AsyncIterator[str]:
        """Yield the newest text whenever there is one."""
        while not self._ended:
            await self._news.wait()
            self._news.clear()
            text, self._text = self._text, ""
            if text:
                yield text
