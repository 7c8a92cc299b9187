"""Text cut into batches of whole records, each with the checkpoint after it."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import BinaryIO, NamedTuple

from etl.queue import Checkpoint
from etl.records.batch import Batch, Reference, count_lines
from etl.sources.framing import Sample

__all__ = ["CHUNK_BYTES", "SourceChunk", "blocks", "chunks_of"]

CHUNK_BYTES = 6 << 20
"""Bytes of text in a batch, about; a longer line is a batch of its own."""


class SourceChunk(NamedTuple):
    """A batch, the checkpoint that is valid once it is put, and its size in bytes."""

    batch: Batch
    checkpoint: Checkpoint | None
    size: int


def chunks_of(
    texts: Iterable[bytes],
    start: Checkpoint,
    *,
    name: str,
    sample: Sample,
    signature: Callable[[int], str] = lambda _offset: "",
    by_reference: bool = False,
) -> Iterator[SourceChunk]:
    """Yield a batch for each text, with how far the source is read then.

    Args:
        texts: Whole records, as they follow one another.
        start: Where the first one begins; its source is empty if it cannot be read again.
        name: What the lines say they come from.
        sample: What they are read by.
        signature: Returns that of the source, read to an offset.
        by_reference: Queue byte ranges of the source rather than the text.
    """
    key, offset, number = start.source, start.offset, start.line_number
    for text in texts:
        stop, lines = offset + len(text), count_lines(text)
        batch = Batch(
            lines=lines,
            payload=Reference(key, offset, stop, zlib.crc32(text)) if by_reference else text,
            source=name,
            first_line=number + 1,
            format=sample.format,
            context=sample.context,
        )
        sample.passed(text)
        offset, number = stop, number + lines
        checkpoint = Checkpoint(key, offset, number, signature(offset)) if key else None
        yield SourceChunk(batch, checkpoint, len(text))


def blocks(file: BinaryIO, size: int) -> Iterator[bytes]:
    """Yield blocks of whole lines of about `size` bytes; the last may lack its newline."""
    rest: list[bytes] = []
    while data := file.read(size):
        end = data.rfind(b"\n") + 1
        if end:
            yield b"".join([*rest, data[:end]])
            rest.clear()
        rest.append(data[end:])
    if last := b"".join(rest):
        yield last
