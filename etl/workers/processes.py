"""Worker processes: several on one store, and those that end unexpectedly are replaced.

A processor that kills its process takes only that process along: its batch is
reclaimed at once, and leased again. One that hangs there for longer than its timeout ends
it, too (`watchdog.py`). What such a process runs is `main.py`.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import IO, Any

from etl.errors import StoreFull, StoreUnavailable, WorkerFailed
from etl.queue import Queue
from etl.settings import ALLOCATOR, Settings
from etl.workers.compaction import try_to_compact
from etl.workers.main import GAVE_UP, WorkerOptions
from etl.workers.signals import when_asked_to_end
from etl.workers.watchdog import read_hang
from etl.workers.worker import reclaim, recover_outputs

__all__ = ["WorkerProcesses"]

log = logging.getLogger("etl")


CHECK_SECONDS = 0.25
"""Seconds between looks whether the processes still run."""


class WorkerProcesses:
    """Several worker processes on one store; those that end unexpectedly are replaced.

    Args:
        queue: The store, as this process has it open.
        count: How many processes.
        options: Those of each.
        threads: Threads that each has for Polars; by default its share of the cores.
        stdout: Where the processes print to; by default where this one does.
    """

    def __init__(
        self,
        queue: Queue,
        count: int,
        options: WorkerOptions,
        *,
        threads: int | None = None,
        stdout: IO[Any] | None = None,
    ) -> None:
        self._queue = queue
        self._out = Path(options.out)
        self._own_sources = options.own_sources
        queue.use_output_root(self._out, keep=False)
        argument = json.dumps(asdict(replace(options, parent=os.getpid())))
        self._command = [sys.executable, "-m", "etl.workers.main", argument]
        self._stdout = stdout
        self._threads = threads or max(1, Settings.workers // count)
        self._failures = 0
        self._files = Path(tempfile.mkdtemp(prefix="etl-"))
        self._processes = [self._spawn(place) for place in range(count)]

    @property
    def pids(self) -> list[int]:
        """Process ids of the workers that run."""
        return [process.pid for process in self._processes if process.poll() is None]

    def check(self) -> bool:
        """Replace workers that were killed; return whether any still runs.

        Raises:
            WorkerFailed: If workers end with an error of their own, or end
                again and again before they have done a batch.
        """
        for place, process in enumerate(self._processes):
            code = process.poll()
            if code in (None, 0):
                continue
            if code == GAVE_UP:
                error = self._file(place).read_text(encoding="utf-8")
                raise WorkerFailed(f"a worker process gave up: {error}")
            hang = read_hang(self._file(place))
            try:
                if hang:
                    log.warning("%s", hang)
                    self._queue.note_hang(hang)
                taken_back = reclaim(self._queue, self._out)
            except (StoreUnavailable, StoreFull):  # who knows
                taken_back = []
            self._failures = 0 if taken_back or hang else self._failures + 1
            if self._failures > 2 * len(self._processes):
                raise WorkerFailed(
                    f"worker processes end before their first batch (exit code {code})"
                )
            self._processes[place] = self._spawn(place)
        return bool(self.pids)

    def run_until_signal(self) -> None:
        """Replace workers that were killed, until SIGTERM or SIGINT, or until all have ended."""
        stopping = threading.Event()
        when_asked_to_end(stopping.set)
        try:
            while self.check() and not stopping.wait(CHECK_SECONDS):
                pass
        finally:
            self.stop()

    def stop(self, timeout: float = 60.0) -> None:
        """Let every worker finish its batch and end; kill one that does not in time."""
        deadline = time.monotonic() + timeout
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            try:
                process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(self._files, ignore_errors=True)
        with suppress(StoreUnavailable, StoreFull):  # the next who works on it does this
            reclaim(self._queue, self._out)
            recover_outputs(self._queue)
            if not self._own_sources:
                try_to_compact(self._queue, effort="small")

    def _file(self, place: int) -> Path:
        """Return where a process writes why it ended."""
        return self._files / str(place)

    def _spawn(self, place: int) -> subprocess.Popen[bytes]:
        self._file(place).touch()
        environment = {
            "POLARS_MAX_THREADS": str(self._threads),  # each worker has its share of the cores
            **ALLOCATOR,
            **os.environ,
        }
        environment["ETL_STORE"] = self._queue.secret_url  # which other users must not see
        # The process that looks after it shows its error, once.
        environment["ETL_ERROR_FILE"] = str(self._file(place))
        return subprocess.Popen(self._command, stdout=self._stdout, env=environment)
