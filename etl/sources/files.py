"""Files that are read to their end.

A plain file is queued by reference (byte ranges of it), one that is converted when it is read
(decompressed, decoded) by content.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import BinaryIO

from etl.errors import SourceChanged
from etl.queue import Checkpoint
from etl.records.batch import count_lines
from etl.records.context import AS_FOUND, ReadOptions
from etl.sources.chunks import CHUNK_BYTES, SourceChunk, blocks, chunks_of
from etl.sources.framing import SAMPLE_BYTES, Sample, whole_records
from etl.sources.opening import as_source_error, look_at, opened
from etl.sources.signature import has_signature, signature_of, signature_of_start

__all__ = ["FileSource", "read_lines_at", "sample_of"]


@dataclass(frozen=True, slots=True)
class FileSource:
    """A file that is read to its end.

    Attributes:
        name: As the user gave it; what lines say they come from.
        path: Where it is.
        options: How its lines are read.
        by_reference: Queue byte ranges of the file rather than its text.
        chunk: Bytes of text in a batch.
    """

    name: str
    path: Path
    options: ReadOptions = AS_FOUND
    by_reference: bool = True
    chunk: int = CHUNK_BYTES

    @property
    def key(self) -> str:
        """What its checkpoint is stored under."""
        return str(self.path.resolve())

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return self.path.stat().st_size

    def read(self, since: Checkpoint | None = None) -> Iterator[SourceChunk]:
        """Yield batches from a checkpoint on; from the start if that was of another file.

        Raises:
            SourceError: If the file cannot be read, or is not text.
        """
        with as_source_error(self.name), opened(self.path) as (file, kind):
            kind.check_text(self.name)
            same = since and has_signature(self.path, since.signature, plain=kind.plain)
            start = since if since and same else Checkpoint(self.key, 0, 0)
            sample = sample_of(file, self.options, self.path, offset=start.offset)
            file.seek(start.offset)
            yield from chunks_of(
                whole_records(blocks(file, self.chunk), sample),
                start,
                name=self.name,
                sample=sample,
                signature=partial(signature_of, file) if kind.plain else self._signature,
                by_reference=kind.plain and self.by_reference,
            )

    def _signature(self, _offset: int) -> str:
        return signature_of_start(self.path)


def sample_of(file: BinaryIO, options: ReadOptions, path: Path, *, offset: int) -> Sample:
    """Return what is known of a file's lines from the first ones.

    Args:
        file: Its text, at its beginning.
        options: How its lines are read.
        path: Where it is.
        offset: Bytes of text that were read before.
    """
    sample = Sample(options, path.stat().st_mtime, file.read(SAMPLE_BYTES), offset=offset)
    if offset and (sample.context.header or "").startswith("#"):  # which may change at any line
        file.seek(0)
        for block in blocks(file, CHUNK_BYTES):
            sample.passed(block[:offset])
            offset -= len(block)
            if offset <= 0:
                break
    return sample


def read_lines_at(
    checkpoint: Checkpoint, numbers: Iterable[int]
) -> Iterator[tuple[int, int, bytes]]:
    """Yield lines of a file that was read: number, offset in its text, and bytes.

    Lines come in order, without their newlines; a number beyond the end
    yields nothing.

    Args:
        checkpoint: How far the file was read, as the store keeps it.
        numbers: Numbers of lines, from 1.

    Raises:
        SourceChanged: If it is no longer the file that was read.
        SourceError: If it cannot be read.
    """
    path = Path(checkpoint.source)
    with as_source_error(checkpoint.source):
        if not has_signature(path, checkpoint.signature, plain=look_at(path).plain):
            raise SourceChanged(f"{checkpoint.source!r} is gone, or not the file that was read")
        with opened(path) as (file, _):
            yield from _pick(file, sorted(set(numbers)))


def _pick(file: BinaryIO, numbers: list[int]) -> Iterator[tuple[int, int, bytes]]:
    place, first = 0, 1
    for text in blocks(file, CHUNK_BYTES):
        after = first + count_lines(text)
        here = numbers[bisect_left(numbers, first) : bisect_left(numbers, after)]
        if here:
            lines = text.split(b"\n")
            starts = list(accumulate((len(line) + 1 for line in lines), initial=place))
            for number in here:
                yield number, starts[number - first], lines[number - first]
        if not numbers or after > numbers[-1]:
            return
        place, first = place + len(text), after
