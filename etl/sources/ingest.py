"""A source's lines, put into a queue."""

from __future__ import annotations

from collections.abc import Iterator

from etl.queue import Queue
from etl.sources.chunks import SourceChunk
from etl.sources.resolve import Source

__all__ = ["ingest"]


def ingest(queue: Queue, source: Source, *, reread: bool = False) -> Iterator[SourceChunk]:
    """Put a source's batches from where it was read last, yielding each once it is durable.

    Args:
        queue: Where to.
        source: What to read.
        reread: Read from the start, whatever was read before.
    """
    expected = queue.checkpoint(source.key) if source.key else None
    for read in source.read(None if reread else expected):
        queue.put(read.batch, checkpoint=read.checkpoint, expected=expected)
        expected = read.checkpoint
        yield read
