"""The durable queue: what every store can do, and how to open one by URL.

    sqlite:///path/run.db    a file; many processes may use it at once
    sqlite://                in memory; for tests
    postgresql://host/db     a database; many machines may use it at once

It stores batches and results, and knows no pipeline.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from etl.errors import UsageError
from etl.queue.protocol import (
    Checkpoint,
    Control,
    DeadLetterFilter,
    Hang,
    PausedBy,
    Queue,
    Stats,
    TableName,
    TargetState,
    identity,
)
from etl.queue.urls import IN_MEMORY, POSTGRES, file_of, without_secrets

__all__ = [
    "Checkpoint",
    "Control",
    "DeadLetterFilter",
    "Hang",
    "PausedBy",
    "Queue",
    "Stats",
    "TableName",
    "TargetState",
    "identity",
    "open_queue",
]


def open_queue(
    url: str | Path,
    *,
    create: bool = False,
    max_lines: int | None = None,
    max_bytes: int | None = None,
) -> Queue:
    """Open a store. A file is made if it is not there.

    Args:
        url: `sqlite:///relative/or//absolute/path.db`, a plain path, `sqlite://`, or
            `postgresql://user@host/database`.
        create: Make the tables in a PostgreSQL database, too, or upgrade them.
        max_lines: Waiting lines at which `put` blocks or is refused.
        max_bytes: The same in bytes of text.

    Raises:
        UsageError: If the URL is of no known kind, or its driver is not installed.
        StoreError: If it is no store, is newer than this etl, or cannot be used.
    """
    from etl.queue.sqlite import SqliteQueue

    url = str(url)
    file = file_of(url)
    if file is not None or url == IN_MEMORY:
        return SqliteQueue(file, max_lines=max_lines, max_bytes=max_bytes)
    if url.partition("://")[0] in POSTGRES:
        return _on_postgres(url, create=create, max_lines=max_lines, max_bytes=max_bytes)
    known = "use sqlite:///path/run.db, a path, or postgresql://user@host/database"
    if url.startswith(("nats://", "tls://")):
        raise UsageError(
            f"store {without_secrets(url)!r}: stores on NATS are no longer supported; {known}"
        )
    raise UsageError(f"store {without_secrets(url)!r} is of no known kind; {known}")


def _on_postgres(url: str, **options: Any) -> Queue:
    try:
        from etl.queue.postgres import PostgresQueue
    except ImportError as error:
        raise UsageError(
            f"store {without_secrets(url)!r} needs psycopg ({error}); install it: "
            "pip install 'etl[postgres]'"
        ) from error
    return PostgresQueue(url, **options)
