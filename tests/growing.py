"""What tests of sources share: the lookup of a store, and a file that is followed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from etl.queue import Checkpoint
from etl.sources.chunks import SourceChunk
from etl.sources.files import nothing_known
from etl.sources.follow import FollowSource
from etl.sources.identity import Known

__all__ = ["followed", "knows"]


def knows(*checkpoints: Checkpoint) -> Known:
    """Return the lookup of a store with these checkpoints."""

    def known(sources: Sequence[str], file: str) -> list[Checkpoint]:
        return [one for one in checkpoints if one.source in sources or one.file == file != ""]

    return known


def followed(source: FollowSource, known: Known = nothing_known) -> Iterator[SourceChunk]:
    """Yield what is read, but for the batches without lines, which only make a file known."""
    return filter(lambda read: read.size, source.read(known))
