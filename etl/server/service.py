"""What a server holds besides its store: whether it drains, and whether it is ready."""

from __future__ import annotations

import threading
import time
from typing import Annotated, cast

from fastapi import Depends, Request

from etl.errors import EtlError
from etl.queue import Checkpoint, Queue
from etl.server.logging import Log

__all__ = ["CurrentService", "Service"]

POLL_SECONDS = 1.0
"""Seconds that an answer to `is it ready` holds: asking it often costs no writes."""


class Service:
    """A store as one server sees it.

    Attributes:
        queue: The store.
        run: The name of this server's run.
        log: Where it says what it does.
        draining: Whether it takes no more lines.
    """

    def __init__(self, queue: Queue, *, run: str, log: Log) -> None:
        self.queue = queue
        self.run = run
        self.log = log
        self.draining = False
        self._drains = queue.control().drains
        self._lock = threading.Lock()
        self._looked = 0.0
        self._trouble: str | None = None

    def drain(self) -> None:
        """Take no more lines, and ask the workers to end once none waits."""
        self.draining = True
        self.queue.drain()
        self.log.info("draining")

    def pause(self) -> None:
        """Let no worker take another batch."""
        self.queue.pause()
        self.log.info("paused")

    def resume(self) -> None:
        """Let workers take batches again, and take lines again."""
        self.queue.resume()
        self._drains = self.queue.control().drains
        self.draining = False
        self.log.info("resumed")

    def sees_drain(self) -> bool:
        """Look whether the workers are asked to end once nothing waits, by whomever."""
        self.draining |= self.queue.control().drains > self._drains
        return self.draining

    def readiness_error(self) -> str | None:
        """Return why this server should get no lines now, or None."""
        with self._lock:
            if not self.draining and time.monotonic() - self._looked > POLL_SECONDS:
                self._trouble = self._look()
                self._looked = time.monotonic()
        return "draining" if self.draining else self._trouble

    def _look(self) -> str | None:
        """Write to the store, as lines would be, and see whether anyone drains it."""
        try:
            self.queue.put(checkpoint=Checkpoint("http ready", 0, 0, self.run), block=False)
            self.sees_drain()
        except EtlError as error:
            return str(error)
        return None


async def _service(request: Request) -> Service:
    return cast("Service", request.app.state.service)


CurrentService = Annotated[Service, Depends(_service)]
"""The service, as a parameter of an endpoint."""
