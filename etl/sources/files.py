"""Files that are read to their end.

A plain file is queued by reference (byte ranges of it), one that is converted when it is read
(decompressed, decoded) by content. If another file had the name when it was read before, what is
left of that one is found and read first.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from itertools import accumulate
from pathlib import Path
from typing import BinaryIO

from etl.errors import SourceChanged
from etl.filesystem import DISK, FileSystem
from etl.queue import Checkpoint
from etl.records.batch import count_lines, read_exactly
from etl.records.context import AS_FOUND, ReadOptions
from etl.sources.chunks import CHUNK_BYTES, Chunks, SourceChunk, texts_of
from etl.sources.framing import SAMPLE_BYTES, Sample, whole_records
from etl.sources.identity import (
    MAX_LOOKS,
    SIGNED_BYTES,
    Claims,
    Known,
    Place,
    PlainText,
    TextSignature,
    key_of,
    places,
    signature_of_start,
    text_signature,
    where_is,
)
from etl.sources.opening import UNREADABLE, as_source_error, opened

__all__ = ["FileSource", "nothing_known", "read_lines_at", "read_place", "sample_of"]


def nothing_known(_sources: Sequence[str], _file: str) -> list[Checkpoint]:
    """Return no checkpoint: that of a store that has read nothing."""
    return []


@dataclass(frozen=True, slots=True)
class FileSource:
    """A file that is read to its end.

    Attributes:
        name: As the user gave it; what lines say they come from.
        path: Where it is.
        options: How its lines are read.
        by_reference: Queue byte ranges of the file rather than its text.
        chunk: Bytes of text in a batch.
        files: Where it is.
        claims: What the sources that are read at the same time read for the first time.
    """

    name: str
    path: Path
    options: ReadOptions = AS_FOUND
    by_reference: bool = True
    chunk: int = CHUNK_BYTES
    files: FileSystem = DISK
    claims: Claims = field(default_factory=Claims, compare=False, repr=False)

    @property
    def key(self) -> str:
        """What its checkpoints are stored under."""
        return key_of(self.path)

    @property
    def size(self) -> int:
        """Bytes on disk; 0 if it is not there."""
        try:
            return self.files.stat(self.path).st_size
        except OSError:
            return 0

    def read(self, known: Known = nothing_known, *, reread: bool = False) -> Iterator[SourceChunk]:
        """Yield batches of what was not read before.

        Args:
            known: Returns the checkpoints of a store.
            reread: Read all of the file, even if it was read before, and no other one.

        Raises:
            SourceError: If the file cannot be read, or is not text.
        """
        with as_source_error(self.name):
            for left in reversed(range(MAX_LOOKS)):
                try:
                    yield from self._read(known, reread=reread)
                except FileNotFoundError:  # it may have been renamed in between
                    if not left:
                        raise
                else:
                    return

    def _read(self, known: Known, *, reread: bool) -> Iterator[SourceChunk]:
        found = places(self.path, known, self.files, name=self.name)
        if not found or not found[-1].is_current:
            self.files.stat(self.path)  # raises
        for place in found:
            if reread and not place.is_current:
                continue
            if reread:
                start = replace(place.start, offset=0, line_number=0, signature="")
                place = replace(place, start=start)  # noqa: PLW2901
            yield from read_place(place, self)


def read_place(place: Place, source: FileSource) -> Iterator[SourceChunk]:
    """Yield batches of the file at a place, from there on to its end, read as a source says.

    Raises:
        Moved: If it is another file by now, or was cut: look again where it is.
        SourceLocked: If another source of this process reads it for the first time.
    """
    source.claims.take(place)
    try:
        yield from _read_place(place, source)
    finally:
        source.claims.release(place)


def _read_place(place: Place, source: FileSource) -> Iterator[SourceChunk]:
    files, start = source.files, place.start
    with files.open(place.path) as raw, opened(place.path, files, id=start.file) as (file, kind):
        place.check(raw, files)
        kind.check_text(source.name)
        modified = files.fstat(raw).st_mtime  # another file may have the name by now
        sample = sample_of(file, source.options, modified, offset=start.offset)
        chunks = Chunks(
            start,
            place.expected,
            name=source.name,
            sample=sample,
            signature=_Signature(place, raw, file, files, plain=kind.plain).after,
            by_reference=kind.plain and source.by_reference,
        )
        text: PlainText | BinaryIO = file
        if kind.plain:
            text = PlainText(file, start.offset, files, seen=place.seen)
            text.check(start.signature)
        else:
            file.seek(start.offset)
        data = iter(lambda: text.read(source.chunk), b"")
        for records in whole_records(data, sample):
            yield chunks.of(records, modified=modified)


class _Signature:
    """The signature of a file that is read from a place on."""

    def __init__(
        self, place: Place, raw: BinaryIO, file: BinaryIO, files: FileSystem, *, plain: bool
    ) -> None:
        self._of_text: TextSignature | None = None
        self._of_start = ""
        offset = place.start.offset
        if plain:
            self._of_text = text_signature(file, offset, files)
        elif place.start.signature.count(":") > 1:  # that of a text that was plain when it was read
            file.seek(0)
            size = min(SIGNED_BYTES, offset)
            head = read_exactly(file, size)
            file.seek(offset - size)
            self._of_text = TextSignature(head, read_exactly(file, size))
        else:
            self._of_start = signature_of_start(raw)

    def after(self, text: bytes, offset: int) -> str:
        """Return it at an offset, the end of a text that was read."""
        return self._of_text.after(text, offset) if self._of_text else self._of_start


def sample_of(file: BinaryIO, options: ReadOptions, modified: float, *, offset: int) -> Sample:
    """Return what is known of a file's lines from the first ones.

    Args:
        file: Its text, at its beginning.
        options: How its lines are read.
        modified: Unix seconds when it was last changed.
        offset: Bytes of text that were read before.
    """
    file.seek(0)
    first = b""
    with suppress(*UNREADABLE):  # a place that is damaged is met again
        while len(first) < SAMPLE_BYTES and (data := file.read(SAMPLE_BYTES - len(first))):
            first += data
    sample = Sample(options, modified, first, offset=offset)
    if offset and (sample.context.header or "").startswith("#"):  # which may change at any line
        file.seek(0)
        for text in texts_of(file, CHUNK_BYTES):
            sample.passed(text[:offset])
            offset -= len(text)
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
    with as_source_error(checkpoint.source), _text_of(checkpoint) as file:
        yield from _pick(file, sorted(set(numbers)))


@contextmanager
def _text_of(checkpoint: Checkpoint) -> Iterator[BinaryIO]:
    from etl.sources import objects

    if objects.is_url(checkpoint.source):
        with objects.text_of(checkpoint) as file:
            yield file
        return
    path = where_is(checkpoint)
    if path is None:
        raise SourceChanged(f"{checkpoint.source!r} is gone, or not the file that was read")
    with opened(path) as (file, _):
        yield file


def _pick(file: BinaryIO, numbers: list[int]) -> Iterator[tuple[int, int, bytes]]:
    place, first = 0, 1
    for text in texts_of(file, CHUNK_BYTES):
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
