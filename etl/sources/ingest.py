"""Put a source's lines into a queue."""

from __future__ import annotations

from collections.abc import Iterator

from etl.queue import Queue
from etl.sources.chunks import SourceChunk
from etl.sources.resolve import Source

__all__ = ["ingest"]


def ingest(queue: Queue, source: Source, *, reread: bool = False) -> Iterator[SourceChunk]:
    """Yield a source's chunks from where it was read last, each once it is in the queue.

    Args:
        queue: Where its batches are put.
        source: What to read.
        reread: Read from the start, even if it was read before.
    """
    expected = queue.checkpoint(source.key) if source.key else None
    for chunk in source.read(None if reread else expected):
        queue.put(chunk.batch, checkpoint=chunk.checkpoint, expected=expected)
        expected = chunk.checkpoint
        yield chunk
