"""Text cut into batches of whole lines, each with how far its source is read then."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import BinaryIO, NamedTuple

from etl.queue import Checkpoint
from etl.records.batch import Batch, Reference, count_lines

__all__ = ["CHUNK", "SourceChunk", "blocks", "cut", "reads"]

CHUNK = 6 << 20
"""Bytes of text in a batch, about; a longer line is a batch of its own."""


class SourceChunk(NamedTuple):
    """A batch, how far its source is read once it is put, and the bytes that took."""

    batch: Batch
    checkpoint: Checkpoint | None
    size: int


def reads(
    texts: Iterable[bytes],
    start: Checkpoint,
    *,
    name: str,
    format: str | None,
    mark: Callable[[int], str] = lambda _offset: "",
    by_reference: bool = False,
) -> Iterator[SourceChunk]:
    """Make a batch of each text and say how far the source is read with it.

    Args:
        texts: Whole lines, as they follow one another.
        start: Where the first one begins; of no source if there is no place to go back to.
        name: What the lines say they come from.
        format: Name of their format, or None.
        mark: Returns what tells this file from others, read up to an offset.
        by_reference: Hold the place in the source rather than the text.
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
        checkpoint = Checkpoint(key, offset, number, mark(offset)) if key else None
        yield SourceChunk(batch, checkpoint, len(text))


def blocks(file: BinaryIO, size: int) -> Iterator[bytes]:
    """Yield blocks of whole lines of about `size` bytes; the last may lack its newline."""
    rest: list[bytes] = []
    while data := file.read(size):
        text, tail = cut(data)
        if text:
            yield b"".join([*rest, text])
            rest = [tail] if tail else []
        else:
            rest.append(data)
    if rest:
        yield b"".join(rest)


def cut(data: bytes) -> tuple[bytes, bytes]:
    """Cut after the last newline."""
    end = data.rfind(b"\n") + 1
    return data[:end], data[end:]
