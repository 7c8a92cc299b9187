"""Lines from a pipe or a terminal."""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

from etl.queue import Checkpoint
from etl.sources.chunks import CHUNK_BYTES, LineBuffer, SourceChunk, chunks_of

__all__ = ["StreamSource"]

FLUSH_AFTER = 0.1
"""Seconds without a new line after which a stream's lines are put."""


@dataclass(frozen=True, slots=True)
class StreamSource:
    """Lines from a pipe or a terminal: queued by content, soon after they are written.

    Attributes:
        name: What lines say they come from.
        file: Where they are read.
        format: Name of their format, or None.
    """

    name: str = "stdin"
    file: BinaryIO = field(default_factory=lambda: sys.stdin.buffer)
    format: str | None = None

    @property
    def key(self) -> str:
        """Empty: a stream cannot be read again."""
        return ""

    @property
    def size(self) -> int | None:
        """Bytes to come, if it is a file."""
        try:
            return os.fstat(self.file.fileno()).st_size or None
        except OSError:
            return None

    def read(self, since: Checkpoint | None = None) -> Iterator[SourceChunk]:  # noqa: ARG002
        """Yield batches as the lines come, until the stream ends."""
        start = Checkpoint(self.key, 0, 0)
        yield from chunks_of(self._blocks(), start, name=self.name, format=self.format)

    def _blocks(self) -> Iterator[bytes]:
        """Yield whole lines: a chunk, or what has come when nothing more does for a while."""
        handle = self.file.fileno()
        buffer, lines = LineBuffer(), bytearray()
        while data := os.read(handle, 1 << 20):
            lines += buffer.add(data)
            full = len(lines) >= CHUNK_BYTES
            if full or (lines and not select.select([handle], [], [], FLUSH_AFTER)[0]):
                yield bytes(lines)
                lines.clear()
        if text := bytes(lines) + buffer.rest():
            yield text
