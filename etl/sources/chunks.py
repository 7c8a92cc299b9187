"""Text cut into batches of whole records, each with the checkpoint after it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import BinaryIO, NamedTuple

from etl.queue import Checkpoint
from etl.records.batch import Batch, Reference, count_lines
from etl.records.checksum import crc32
from etl.settings import Settings
from etl.sources.framing import LineBuffer, Sample

__all__ = ["CHUNK_BYTES", "Chunks", "SourceChunk", "texts_of"]

log = logging.getLogger("etl")

CHUNK_BYTES = 7 << 20
"""Bytes of text in a batch, about; a longer line is a batch of its own."""


class SourceChunk(NamedTuple):
    """A batch, and how far its source is read once it is put.

    Attributes:
        batch: Some lines; none if only the checkpoint is to be kept.
        checkpoint: That of the source then; None if it cannot be read again.
        expected: What it must be until then.
        size: Bytes of text.
    """

    batch: Batch
    checkpoint: Checkpoint | None
    expected: Checkpoint | None
    size: int


class Chunks:
    """Makes batches of the texts of one file, or of a stream, as they follow one another.

    Args:
        start: Where the first one begins; its source is empty if it cannot be read again.
        expected: What the store must know of the source until the first one is put.
        name: What the lines say they come from.
        sample: What they are read by.
        signature: Returns that of the source, read to an offset that is the end of a text.
        by_reference: Queue byte ranges of the file rather than the text.
    """

    def __init__(
        self,
        start: Checkpoint,
        expected: Checkpoint | None,
        *,
        name: str,
        sample: Sample,
        signature: Callable[[bytes, int], str] = lambda _text, _offset: "",
        by_reference: bool = False,
    ) -> None:
        self.checkpoint = replace(start, error="")
        self.sample = sample
        self._expected = expected
        self._name = name
        self._signature = signature
        self._by_reference = by_reference
        self._is_cut = False

    def of(self, text: bytes, *, modified: float = 0.0) -> SourceChunk:
        """Return the next batch.

        Args:
            text: Whole records; may be empty, so that the store gets to know the file.
            modified: Unix seconds when the file was last changed.
        """
        before = self.checkpoint
        stop, lines = before.offset + len(text), count_lines(text)
        path = before.path
        batch = Batch(
            lines=lines,
            payload=Reference(path, before.offset, stop, crc32(text))
            if self._by_reference
            else text,
            source=self._name,
            first_line=before.line_number + 1,
            format=self.sample.format,
            context=self.sample.context,
        )
        self.sample.passed(text)
        if len(text) == Settings.max_line_bytes and not text.endswith(b"\n") and not self._is_cut:
            self._is_cut = True
            log.warning(
                "%r: line %s is longer than %s bytes and is cut into pieces",
                self._name,
                f"{batch.first_line:,}",
                f"{Settings.max_line_bytes:,}",
            )
        after = replace(
            before,
            offset=stop,
            line_number=before.line_number + lines,
            signature=self._signature(text, stop),
            modified=modified,
        )
        checkpoint = after if before.source else None
        chunk = SourceChunk(batch, checkpoint, self._expected, len(text))
        self.checkpoint = after
        self._expected = checkpoint
        return chunk


def texts_of(file: BinaryIO, size: int) -> Iterator[bytes]:
    """Yield what is read of a file, about `size` bytes at a time, as texts of whole lines.

    The last line may lack its newline. A line over the limit is cut; see `LineBuffer`.
    """
    buffer = LineBuffer()
    while data := file.read(size):
        yield from buffer.add(data)
    if last := buffer.rest():
        yield last
