"""A store as one server sees it: whether the server drains, and whether it is ready."""

from __future__ import annotations

import threading
import time
from typing import Annotated, Any, cast

from fastapi import Depends, Request

from etl.analysis.overview import OverviewReader
from etl.errors import EtlError
from etl.queue import Checkpoint, Queue
from etl.queue.urls import file_of
from etl.server.feed import Feed
from etl.server.logging import Log
from etl.server.problems import told

__all__ = ["CurrentService", "Service"]

LOG_SECONDS = 10.0
"""Seconds for which an error that comes again is not logged again."""

READY_SECONDS = 1.0
"""Seconds for which a check of readiness holds, so that frequent requests cost no writes."""


class Service:
    """A store as one server sees it.

    Attributes:
        queue: The store.
        run: The id of this server's run.
        log: The server's log.
        draining: Whether the server has stopped taking lines.
        feed: What the store looks like, for pages that are open.
    """

    def __init__(self, queue: Queue, *, run: str, log: Log) -> None:
        self.queue = queue
        self.run = run
        self.log = log
        self.draining = False
        self._reader: OverviewReader | None = None
        self.feed = Feed(queue, self._overview, self._problem)
        self._drains = queue.control().drains
        self._lock = threading.Lock()
        self._checked_at = 0.0
        self._error: str | None = None
        self._logged: tuple[str, float] = ("", 0.0)

    def log_error(self, error: EtlError) -> None:
        """Log what clients are not told of an error; one that comes again, now and then."""
        text, now = str(error), time.monotonic()
        before, at = self._logged
        if text != before or now - at > LOG_SECONDS:
            self._logged = text, now
            self.log.error("failed", error=text, kind=type(error).__name__)

    def _overview(self, seconds: int) -> dict[str, Any]:
        if self._reader is None:
            self._reader = OverviewReader(self.queue)
        return self._reader.read(icons=0, seconds=seconds) | {"draining": self.sees_drain()}

    def _problem(self, error: EtlError) -> str:
        self.log_error(error)
        return told(error)[1]

    def drain(self) -> None:
        """Stop taking lines, and let the workers end when the queue is empty."""
        self.draining = True
        self.queue.drain()
        self.log.info("draining")

    def pause(self) -> None:
        """Pause all workers."""
        self.queue.pause()
        self.log.info("paused")

    def resume(self) -> None:
        """Resume all workers, and take lines again."""
        self.queue.resume()
        self._drains = self.queue.control().drains
        self.draining = False
        self.log.info("resumed")

    def sees_drain(self) -> bool:
        """Return whether anyone has asked the workers to end when the queue is empty."""
        self.draining |= self.queue.control().drains > self._drains
        return self.draining

    def check_file(self) -> None:
        """Raise StoreLost if the store is a file that was removed or replaced."""
        if file_of(self.queue.url):
            self.queue.version()

    def readiness_error(self) -> str | None:
        """Return why this server cannot take lines now, or None."""
        with self._lock:
            if not self.draining and time.monotonic() - self._checked_at > READY_SECONDS:
                try:  # a write, as lines would be
                    ready = Checkpoint("http ready", 0, 0, self.run)
                    self.queue.put(checkpoint=ready, block=False)
                    self.sees_drain()
                    self._error = None
                except EtlError as error:
                    self._error = told(error)[1]
                    self.log_error(error)
                self._checked_at = time.monotonic()
        return "draining" if self.draining else self._error


async def _service(request: Request) -> Service:
    return cast("Service", request.app.state.service)


CurrentService = Annotated[Service, Depends(_service)]
"""The service, as a parameter of an endpoint."""
