"""The durable queue: what every store can do, and how to open one by URL.

    sqlite:///path/run.db    a file; many processes may use it at once
    sqlite://                in memory; for tests

It stores batches and results, and knows no pipeline.
"""

from __future__ import annotations

from pathlib import Path

from etl.errors import UsageError
from etl.queue.protocol import (
    Checkpoint,
    Control,
    DeadLetterFilter,
    PausedBy,
    Queue,
    Stats,
    TableName,
    identity,
)
from etl.queue.urls import IN_MEMORY, file_of, without_secrets

__all__ = [
    "Checkpoint",
    "Control",
    "DeadLetterFilter",
    "PausedBy",
    "Queue",
    "Stats",
    "TableName",
    "identity",
    "open_queue",
]


def open_queue(
    url: str | Path, *, max_lines: int | None = None, max_bytes: int | None = None
) -> Queue:
    """Open a store, and make it if it is not there.

    Args:
        url: `sqlite:///relative/or//absolute/path.db`, a plain path, or `sqlite://`.
        max_lines: Waiting lines at which `put` blocks or is refused.
        max_bytes: The same in bytes of text.

    Raises:
        UsageError: If the URL is of no known kind.
        StoreError: If the file is no store, is newer than this etl, or cannot be used.
    """
    from etl.queue.sqlite import SqliteQueue

    url = str(url)
    file = file_of(url)
    if file is not None or url == IN_MEMORY:
        return SqliteQueue(file, max_lines=max_lines, max_bytes=max_bytes)
    known = "use sqlite:///path/run.db or a path"
    if url.startswith(("nats://", "tls://")):
        raise UsageError(
            f"store {without_secrets(url)!r}: stores on NATS are no longer supported; {known}"
        )
    raise UsageError(f"store {without_secrets(url)!r} is of no known kind; {known}")
