"""Text cut into batches of whole lines, each with the checkpoint after it."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import BinaryIO, NamedTuple

from etl.queue import Checkpoint
from etl.records.batch import Batch, Reference, count_lines

__all__ = ["CHUNK_BYTES", "LineBuffer", "SourceChunk", "blocks", "chunks_of"]

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
    format: str | None,
    signature: Callable[[int], str] = lambda _offset: "",
    by_reference: bool = False,
) -> Iterator[SourceChunk]:
    """Yield a batch for each text, with how far the source is read then.

    Args:
        texts: Whole lines, as they follow one another.
        start: Where the first one begins; its source is empty if it cannot be read again.
        name: What the lines say they come from.
        format: Name of their format, or None.
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
            format=format,
        )
        offset, number = stop, number + lines
        checkpoint = Checkpoint(key, offset, number, signature(offset)) if key else None
        yield SourceChunk(batch, checkpoint, len(text))


class LineBuffer:
    """Bytes of a line that is not whole yet."""

    def __init__(self) -> None:
        self._rest: list[bytes] = []

    def add(self, data: bytes) -> bytes:
        """Return the lines that are whole with this data, and keep what comes after them."""
        end = data.rfind(b"\n") + 1
        if not end:
            self._rest.append(data)
            return b""
        text, self._rest = b"".join([*self._rest, data[:end]]), [data[end:]]
        return text

    def rest(self) -> bytes:
        """Return what is kept: a last line that lacks its newline."""
        return b"".join(self._rest)


def blocks(file: BinaryIO, size: int) -> Iterator[bytes]:
    """Yield blocks of whole lines of about `size` bytes; the last may lack its newline."""
    buffer = LineBuffer()
    while data := file.read(size):
        if text := buffer.add(data):
            yield text
    if rest := buffer.rest():
        yield rest
