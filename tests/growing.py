"""What tests of sources share: the lookup of a store, what is put, and a file that is followed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from etl.queue import Checkpoint, Queue
from etl.sources.chunks import SourceChunk
from etl.sources.files import nothing_known
from etl.sources.follow import FollowSource
from etl.sources.identity import Known
from etl.sources.ingest import ingest
from etl.sources.resolve import resolve_sources

__all__ = ["followed", "knows", "put", "wait_until"]


def knows(*checkpoints: Checkpoint) -> Known:
    """Return the lookup of a store with these checkpoints."""

    def known(sources: Sequence[str], file: str) -> list[Checkpoint]:
        return [one for one in checkpoints if one.source in sources or one.file == file != ""]

    return known


def followed(source: FollowSource, known: Known = nothing_known) -> Iterator[SourceChunk]:
    """Yield what is read, but for the batches without lines, which only make a file known."""
    return filter(lambda read: read.size, source.read(known))


def put(queue: Queue, *names: str, reread: bool = False, **options: Any) -> int:
    """Put what was not put before, and return how many lines; options are of `resolve_sources`."""
    before = queue.stats().accepted
    for source in resolve_sources(names, **options):
        for _ in ingest(queue, source, reread=reread):
            pass
    return queue.stats().accepted - before


def wait_until(queue: Queue, reached: Callable[[], bool]) -> None:
    """Wait for a store to change until something holds."""
    for _ in range(2000):
        since = queue.version()
        if reached():
            return
        queue.wait(since, 0.5)
    pytest.fail(f"never reached: {queue.stats()}")
