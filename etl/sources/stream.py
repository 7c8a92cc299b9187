"""Lines from a pipe or a terminal."""

from __future__ import annotations

import os
import select
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

from etl.queue import Checkpoint
from etl.records.context import AS_FOUND, ReadOptions
from etl.sources.chunks import CHUNK_BYTES, Chunks, SourceChunk
from etl.sources.framing import SILENCE, RecordBuffer, Sample, joined

__all__ = ["StreamSource"]

FLUSH_AFTER = 0.1
"""Seconds without a new line after which a stream's lines are put."""


@dataclass(frozen=True, slots=True)
class StreamSource:
    """Lines from a pipe or a terminal: queued by content, soon after they are written.

    Attributes:
        name: What lines say they come from.
        file: Where they are read.
        options: How they are read.
    """

    name: str = "stdin"
    file: BinaryIO = field(default_factory=lambda: sys.stdin.buffer)
    options: ReadOptions = AS_FOUND

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

    def read(self, known: object = None, *, reread: bool = False) -> Iterator[SourceChunk]:  # noqa: ARG002
        """Yield batches as the lines come, until the stream ends."""
        sample = Sample(self.options, time.time())
        chunks = Chunks(Checkpoint("", 0, 0), None, name=self.name, sample=sample)
        yield from map(chunks.of, self._texts(sample))

    def _texts(self, sample: Sample) -> Iterator[bytes]:
        """Yield whole records: a chunk, or what has come when nothing more does for a while."""
        handle = self.file.fileno()
        buffer, text = RecordBuffer(sample), bytearray()
        while data := os.read(handle, 1 << 20):
            sample.touched(time.time())
            for more in buffer.add(data):
                if not (text.endswith(b"\n") and more.endswith(b"\n")) and text:  # a cut line
                    yield bytes(text)
                    text.clear()
                text += more
            if len(text) < CHUNK_BYTES and _more(handle, FLUSH_AFTER):
                continue
            if text:
                yield bytes(text)
                text.clear()
            held = sample.context.record_start and not _more(handle, SILENCE)
            if held and (last := buffer.flush()):
                yield last
        yield from joined(bytes(text), buffer.rest())


def _more(handle: int, seconds: float) -> bool:
    """Return whether more comes, or the end, within some seconds."""
    return bool(select.select([handle], [], [], seconds)[0])
