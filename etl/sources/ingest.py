"""Put a source's lines into a queue."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace

from etl.errors import EtlError, SourceLocked, StoreError
from etl.queue import Checkpoint, Queue
from etl.queue.writes import pause_before
from etl.sources.chunks import SourceChunk
from etl.sources.follow import FollowSource
from etl.sources.resolve import Source

__all__ = ["ingest", "keep_ingesting", "note_error"]

log = logging.getLogger("etl")

MAX_LOCKED = 8
"""How often in a row another may have been faster, before that is an error."""


def ingest(queue: Queue, source: Source, *, reread: bool = False) -> Iterator[SourceChunk]:
    """Yield a source's chunks from where it was read last, each once it is in the queue.

    Args:
        queue: Where its batches are put.
        source: What to read.
        reread: Read from the start, even if it was read before.

    Raises:
        SourceError: If it cannot be read.
        SourceLocked: If another is reading it into the same store.
    """
    for chunk in source.read(queue.checkpoints, reread=reread):
        queue.put(chunk.batch, checkpoint=chunk.checkpoint, expected=chunk.expected)
        yield chunk


def keep_ingesting(
    queue: Queue, source: FollowSource, *, reread: bool = False
) -> Iterator[SourceChunk]:
    """Do `ingest` of a file that is followed, again whenever that fails, until it is stopped.

    What fails is said at once, kept with the source's checkpoint, and tried again after a pause
    that grows.

    Raises:
        StoreError: If the store fails.
        Exception: What fails once it is to stop.
    """
    failures = 0
    while True:
        try:
            for chunk in ingest(queue, source, reread=reread):
                failures, reread = 0, False
                yield chunk
        except SourceLocked:  # one that has its name now reads it, too, or another process does
            if source.stop.is_set() or failures > MAX_LOCKED:
                raise
        except StoreError:
            raise
        except Exception as error:
            if source.stop.is_set():
                raise
            if not failures:
                note_error(queue, source, error)
        else:
            return
        source.stop.wait(pause_before(failures))
        failures += 1


def note_error(queue: Queue, source: FollowSource, error: Exception) -> None:
    """Say why a source cannot be read, and keep it with its newest checkpoint."""
    text = str(error) if isinstance(error, EtlError) else f"{source.name!r}: {error!r}"
    log.warning("%s; trying again", text)
    known = queue.checkpoint(source.key)
    first = Checkpoint(source.key, 0, 0, number=1, modified=time.time())
    with suppress(SourceLocked):  # another has read some of it
        queue.put(checkpoint=replace(known or first, error=text), expected=known)
