"""The store in one SQLite file: an operation is a transaction, synced to the disk.

Leases and heartbeats are not synced: after a power cut a batch that was leased
is simply waiting again.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from etl.queue import operations
from etl.queue.database import Database
from etl.queue.store import DEFAULT_TIMEOUT, Result, Store
from etl.queue.urls import IN_MEMORY, url_of

__all__ = ["SqliteQueue"]

PASSING = {
    operations.lease,
    operations.renew,
    operations.release,
    operations.forget,
    operations.heartbeat,
    operations.unregister,
    operations.mark_published,
}
"""Operations that a power cut may undo."""


class SqliteQueue(Store):
    """A `Queue` in an SQLite file, or in memory if there is no path.

    Args:
        path: The file; made with its folder if it is not there.
        max_lines: Waiting lines at which `put` blocks or is refused.
        max_bytes: The same in bytes of text.
        clock: Returns Unix seconds.
    """

    def __init__(
        self,
        path: Path | None,
        *,
        max_lines: int | None = None,
        max_bytes: int | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        url = IN_MEMORY if path is None else url_of(str(path))
        super().__init__(Database(path), url, max_lines=max_lines, max_bytes=max_bytes, clock=clock)

    def _change(self, change: partial[Result], *, timeout: float = DEFAULT_TIMEOUT) -> Result:  # noqa: ARG002 - a file is here or it is not
        with self._database.write(durable=change.func not in PASSING) as db:
            return change(db, self._now())
