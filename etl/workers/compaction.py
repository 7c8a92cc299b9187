"""Join small files of the output while a worker works, and once it ends.

A thread of its own, which sleeps ten times as long as it has worked. Nothing that goes wrong in it
changes what happens to a line: files stay as they are, and are joined later.
"""

from __future__ import annotations

import logging
import threading
import time

import polars as pl

from etl.errors import EtlError
from etl.filesystem import DISK, FileSystem
from etl.outputs.compact import MIN_FILES, Effort, compact
from etl.queue import Queue

__all__ = ["BackgroundCompaction", "try_to_compact"]

log = logging.getLogger("etl")

LOOK_SECONDS = 10.0
"""Seconds between looks at what other workers have written."""

REST = 10
"""How many times as long as it works it sleeps."""


class BackgroundCompaction:
    """Joins files of a store in a thread, until it is stopped.

    Args:
        queue: The store.
    """

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self._new = 0
        self._wanted, self._stopping = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None

    def note_outputs(self, count: int) -> None:
        """Note that files were published: a few are left for later."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="etl-compaction", daemon=True)
            self._thread.start()
        self._new += count
        if self._new >= MIN_FILES:
            self._new = 0
            self._wanted.set()

    def stop(self) -> None:
        """End once the file that is being written is."""
        self._stopping.set()
        self._wanted.set()
        if self._thread:
            self._thread.join()

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._wanted.wait(LOOK_SECONDS)
            self._wanted.clear()
            if self._stopping.is_set():
                return
            started = time.monotonic()
            try_to_compact(self._queue, effort="many")
            self._stopping.wait(REST * (time.monotonic() - started))


def try_to_compact(queue: Queue, *, effort: Effort, files: FileSystem = DISK) -> None:
    """Join files, and log what goes wrong instead of raising it."""
    try:
        done = compact(queue, effort=effort, files=files)
    except (EtlError, OSError, pl.exceptions.PolarsError) as error:
        log.warning("files of the output cannot be joined now: %s", error)
        return
    for problem in done.problems:
        log.warning("files of the output are left as they are: %s", problem)
