"""Put a source's lines into a queue."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from etl.errors import EtlError, SourceLocked, StoreError
from etl.queue import Checkpoint, Queue
from etl.queue.writes import pause_before
from etl.sources.chunks import SourceChunk
from etl.sources.follow import FollowSource
from etl.sources.resolve import Source

__all__ = ["ingest", "source_errors"]

log = logging.getLogger("etl")

MAX_LOCKED = 8
"""How often in a row another may have been faster, before that is an error."""


def ingest(queue: Queue, source: Source, *, reread: bool = False) -> Iterator[SourceChunk]:
    """Yield a source's chunks from where it was read last, each once it is in the queue.

    A source that is followed is read again whenever that fails, until it is stopped: what fails is
    said at once, kept with its checkpoint, and tried again after a pause that grows.

    Args:
        queue: Where its batches are put.
        source: What to read.
        reread: Read from the start, even if it was read before.

    Raises:
        SourceError: If it cannot be read.
        SourceLocked: If another is reading it into the same store.
        StoreError: If the store fails.
    """
    failures = 0
    while True:
        try:
            for chunk in source.read(queue.checkpoints, reread=reread):
                queue.put(chunk.batch, checkpoint=chunk.checkpoint, expected=chunk.expected)
                failures, reread = 0, False
                yield chunk
        except StoreError:
            raise
        except Exception as error:
            stop = getattr(source, "stop", None)  # of one that is followed
            if stop is None or stop.is_set():
                raise
            if isinstance(error, SourceLocked):  # whoever follows the name that it has now, or so
                if failures > MAX_LOCKED:
                    raise
            elif not failures:
                _note_error(queue, source, error)
            stop.wait(pause_before(failures))
            failures += 1
        else:
            return


def _note_error(queue: Queue, source: Source, error: Exception) -> None:
    """Say why a source cannot be read, and keep it with a file's newest checkpoint."""
    text = str(error) if isinstance(error, EtlError) else f"{source.name!r}: {error!r}"
    log.warning("%s; trying again", text)
    if not isinstance(source, FollowSource):
        return
    known = queue.checkpoint(source.key)
    host = source.files.host
    modified = _modified(source)
    first = Checkpoint(source.key, 0, 0, number=1, modified=modified, host=host)
    with suppress(SourceLocked):  # another has read some of it
        queue.put(checkpoint=replace(known or first, error=text), expected=known)


def _modified(source: FollowSource) -> float:
    """Return when a file was last changed: what is rotated later is not older than that."""
    with suppress(OSError):
        return source.files.stat(source.path).st_mtime
    return time.time()


def source_errors(queue: Queue) -> list[str]:
    """Return why sources that are followed cannot be read now."""
    newest = {row["source"]: row for row in sorted(queue.read("checkpoints"), key=_number)}
    return [row["error"] for row in newest.values() if row["error"]]


def _number(row: Mapping[str, Any]) -> int:
    return int(row["number"])
