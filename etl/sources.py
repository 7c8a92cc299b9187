"""Where lines come from: files, globs, folders, compressed files, stdin, a growing file.

A source yields batches with the position after each; putting both in one
transaction is what makes a killed run go on where it was. A plain file is
queued by reference (byte ranges of it), anything else by content. Not here:
what the lines mean (`formats`).
"""

from __future__ import annotations

import bz2
import glob
import gzip
import hashlib
import io
import os
import select
import sys
import threading
import zlib
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

import zstandard

from etl.errors import SourceChanged, SourceError
from etl.lines import Batch, Reference, count_lines
from etl.queue import Position, Queue

__all__ = [
    "FileSource",
    "FollowSource",
    "Read",
    "Source",
    "StreamSource",
    "expand",
    "feed",
    "read_back",
]

CHUNK = 6 << 20
"""Bytes of text in a batch, about; a longer line is a batch of its own."""

HEAD = 4096
"""Bytes at the start of a file that tell it from another of the same name."""

LINGER = 0.1
"""Seconds that lines from a slow stream wait for company before they are put."""

OPENERS: dict[str, Callable[[Path], BinaryIO]] = {
    ".gz": lambda path: cast("BinaryIO", gzip.GzipFile(path)),
    ".bz2": lambda path: cast("BinaryIO", bz2.BZ2File(path)),
    ".zst": lambda path: cast("BinaryIO", io.BufferedReader(_ZstdFile(path), 1 << 18)),
}

UNREADABLE = (OSError, EOFError, zlib.error, zstandard.ZstdError)
"""What a file raises that cannot be read, or is not what its suffix says."""


class _ZstdFile(io.RawIOBase):
    """A zstandard file of one or more frames; unlike the library's it notices a cut end."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        self._frame = zstandard.ZstdDecompressor().decompressobj()
        self._compressed = b""
        self._ready = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill some of a buffer; 0 at the end."""
        while not self._ready:
            data = self._compressed or self._file.read(1 << 12)
            if not data:
                if not self._frame.eof:
                    raise EOFError("it ends in the middle")
                return 0
            if self._frame.eof:
                self._frame = zstandard.ZstdDecompressor().decompressobj()
            self._ready = memoryview(self._frame.decompress(data))
            self._compressed = self._frame.unused_data
        size = min(len(buffer), len(self._ready))
        buffer[:size], self._ready = self._ready[:size], self._ready[size:]
        return size

    def close(self) -> None:
        self._file.close()
        super().close()


class Read(NamedTuple):
    """A batch, how far its source is read once it is put, and the bytes that took."""

    batch: Batch
    position: Position | None
    size: int


@dataclass(frozen=True, slots=True)
class FileSource:
    """A file that is read to its end.

    Attributes:
        name: As the user gave it; what lines say they come from.
        path: Where it is.
        format: Name of its format, or None.
        by_reference: Queue byte ranges of the file rather than its text.
        chunk: Bytes of text in a batch.
    """

    name: str
    path: Path
    format: str | None = None
    by_reference: bool = True
    chunk: int = CHUNK

    @property
    def key(self) -> str:
        """What its position is stored under."""
        return str(self.path.resolve())

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return self.path.stat().st_size

    def read(self, since: Position | None = None) -> Iterator[Read]:
        """Yield batches from a position on; from the start if that was of another file.

        Raises:
            SourceError: If the file cannot be read, or is not what its suffix says.
        """
        opener = OPENERS.get(self.path.suffix)
        try:
            if opener is None and self.by_reference:
                yield from self._references(self._start(since))
            else:
                with (opener or _open_plain)(self.path) as file:
                    yield from self._contents(file, self._start(since))
        except UNREADABLE as error:
            reason = getattr(error, "strerror", None) or error
            raise SourceError(f"{self.name!r} cannot be read: {reason}") from error

    def _start(self, since: Position | None) -> Position:
        if since is not None and _same_head(self.path, since.head):
            plain = self.path.suffix not in OPENERS
            if not plain or self.path.stat().st_size >= since.offset:
                return since
        return Position(self.key, 0, 0)

    def _references(self, start: Position) -> Iterator[Read]:
        with self.path.open("rb", buffering=0) as file:
            file.seek(start.offset)
            yield from _reads(
                _blocks(file, self.chunk),
                start,
                name=self.name,
                format=self.format,
                mark=partial(_head_of, file),
                by_reference=True,
            )

    def _contents(self, file: BinaryIO, start: Position) -> Iterator[Read]:
        packed = self.path.suffix in OPENERS
        _skip(file, start.offset)
        yield from _reads(
            _blocks(file, self.chunk),
            start,
            name=self.name,
            format=self.format,
            mark=(lambda _offset: _head(self.path)) if packed else partial(_head_of, file),
        )


@dataclass(frozen=True, slots=True)
class StreamSource:
    """Lines from a pipe or a terminal: queued by content, soon after they come.

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
        """A stream has no position to go back to."""
        return ""

    @property
    def size(self) -> int | None:
        """Bytes to come, if it is a file after all."""
        try:
            return os.fstat(self.file.fileno()).st_size or None
        except OSError:
            return None

    def read(self, since: Position | None = None) -> Iterator[Read]:  # noqa: ARG002
        """Yield batches as the lines come, until the stream ends."""
        start = Position(self.key, 0, 0)
        yield from _reads(self._blocks(), start, name=self.name, format=self.format)

    def _blocks(self) -> Iterator[bytes]:
        """Yield whole lines: a chunk, or what there is when no more has come for a while."""
        handle = self.file.fileno()
        parts: list[bytes] = []
        size = 0
        while True:
            if size >= CHUNK or (size and not select.select([handle], [], [], LINGER)[0]):
                text, rest = _cut(b"".join(parts))
                if text:
                    yield text
                parts, size = [rest] if rest else [], 0
            data = os.read(handle, 1 << 20)
            if not data:
                break
            parts.append(data)
            size += len(data)
        if parts:
            yield b"".join(parts)


@dataclass(frozen=True, slots=True)
class FollowSource:
    """A file that grows, like `tail -F`: read on, and on in the new one when it is rotated.

    Attributes:
        name: As the user gave it.
        path: Where it is.
        stop: Ends the reading when set.
        format: Name of its format, or None.
        poll: Seconds between looks at the file.
    """

    name: str
    path: Path
    stop: threading.Event
    format: str | None = None
    poll: float = 0.1

    @property
    def key(self) -> str:
        """What its position is stored under."""
        return str(self.path.resolve())

    @property
    def size(self) -> None:
        """No end in sight."""
        return None

    def read(self, since: Position | None = None) -> Iterator[Read]:
        """Yield batches of whole lines as they are written, until stopped."""
        place = Position(self.key, 0, 0)
        if since is not None and _same_head(self.path, since.head):
            place = since
        while not self.stop.is_set():
            try:
                opened = self.path.open("rb", buffering=0)
            except OSError:  # not there yet, or between two of its names
                self.stop.wait(self.poll)
                continue
            with opened as file:
                file.seek(place.offset)
                yield from _reads(
                    self._until_rotated(file, place.offset),
                    place,
                    name=self.name,
                    format=self.format,
                    mark=partial(_head_of, file),
                )
            place = Position(self.key, 0, 0)

    def _until_rotated(self, file: BinaryIO, read: int) -> Iterator[bytes]:
        """Yield whole lines; the last one of a file that was rotated may lack its newline."""
        rest: list[bytes] = []
        last_look = False  # programs may write to the old file for a moment after it is renamed
        while True:
            ended = self.stop.is_set()
            rotated = _rotated(file, self.path, read)
            data = file.read(CHUNK)
            read += len(data)
            text, tail = _cut(data)
            if text or (not data and rotated and last_look):
                text, rest = b"".join([*rest, text]), []
            if tail:
                rest.append(tail)
            if text:
                yield text
            if not data and ((rotated and last_look) or ended):
                return
            last_look = rotated and not data
            if not data:
                self.stop.wait(self.poll)


Source = FileSource | StreamSource | FollowSource


def expand(
    names: Iterable[str],
    *,
    format: str | None = None,
    by_reference: bool = True,
    follow: threading.Event | None = None,
) -> list[Source]:
    """Turn what a user names into sources: files, globs, folders (all files in them), or `-`.

    Args:
        names: What the user named.
        format: Name of the lines' format, or None.
        by_reference: Queue byte ranges of plain files rather than their text.
        follow: If given, files are followed until this is set.

    Raises:
        SourceError: If a name stands for nothing that can be read.
    """
    sources: list[Source] = []
    for name in names:
        if name == "-":
            sources.append(StreamSource(format=format))
            continue
        for path in _files(name):
            if not _is_text(path):
                raise SourceError(f"{str(path)!r} has a name that is not UTF-8; rename the file")
            if not path.is_file():  # a pipe, or a device
                sources.append(StreamSource(name, path.open("rb"), format))
            elif follow is None:
                sources.append(FileSource(str(path), path, format, by_reference))
            elif path.suffix in OPENERS:
                raise SourceError(f"{name!r} is compressed and cannot be followed; put it as it is")
            else:
                sources.append(FollowSource(str(path), path, follow, format))
    return sources


def feed(queue: Queue, source: Source, *, again: bool = False) -> Iterator[Read]:
    """Put a source's batches from where it was read last, yielding each once it is durable.

    Args:
        queue: Where to.
        source: What to read.
        again: Read from the start, whatever was read before.
    """
    expected = queue.position(source.key) if source.key else None
    for read in source.read(None if again else expected):
        queue.put(read.batch, position=read.position, expected=expected)
        expected = read.position
        yield read


def _reads(
    texts: Iterable[bytes],
    start: Position,
    *,
    name: str,
    format: str | None,
    mark: Callable[[int], str] = lambda _offset: "",
    by_reference: bool = False,
) -> Iterator[Read]:
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
        position = Position(key, offset, number, mark(offset)) if key else None
        yield Read(batch, position, len(text))


def read_back(position: Position, numbers: Iterable[int]) -> Iterator[tuple[int, int, bytes]]:
    """Yield lines of a file that was read: number, offset in its text, and bytes.

    Lines come in order, without their newlines; a number beyond the end
    yields nothing.

    Args:
        position: How far the file was read, as the store keeps it.
        numbers: Numbers of lines, from 1.

    Raises:
        SourceChanged: If it is no longer the file that was read.
        SourceError: If it cannot be read.
    """
    path = Path(position.source)
    try:
        if not _same_head(path, position.head):
            raise SourceChanged(f"{position.source!r} is gone, or not the file that was read")
        with OPENERS.get(path.suffix, _open_plain)(path) as file:
            yield from _pick(file, sorted(set(numbers)))
    except UNREADABLE as error:
        reason = getattr(error, "strerror", None) or error
        raise SourceError(f"{position.source!r} cannot be read: {reason}") from error


def _pick(file: BinaryIO, numbers: list[int]) -> Iterator[tuple[int, int, bytes]]:
    place, first = 0, 1
    for text in _blocks(file, CHUNK):
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


def _open_plain(path: Path) -> BinaryIO:
    return path.open("rb")


def _files(name: str) -> list[Path]:
    path = Path(name)
    if path.is_dir():
        found = sorted(
            item
            for item in path.rglob("*")
            if item.is_file() and not _hidden(item.relative_to(path))
        )
        if not found:
            raise SourceError(f"folder {name!r} holds no files")
        return found
    if path.exists():
        return [path]
    matches = glob.glob(name, recursive=True)  # noqa: PTH207 - Path.glob wants relative ones
    found = sorted(Path(item) for item in matches if Path(item).is_file())
    if not found:
        what = "no file matches" if glob.has_magic(name) else "there is no file"
        raise SourceError(f"{what} {name!r}; name files, folders, globs, or - for stdin")
    return found


def _is_text(path: Path) -> bool:
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _blocks(file: BinaryIO, size: int) -> Iterator[bytes]:
    """Yield blocks of whole lines of about `size` bytes; the last may lack its newline."""
    rest: list[bytes] = []
    while data := file.read(size):
        text, tail = _cut(data)
        if text:
            yield b"".join([*rest, text])
            rest = [tail] if tail else []
        else:
            rest.append(data)
    if rest:
        yield b"".join(rest)


def _cut(data: bytes) -> tuple[bytes, bytes]:
    """Cut after the last newline."""
    end = data.rfind(b"\n") + 1
    return data[:end], data[end:]


def _skip(file: BinaryIO, count: int) -> None:
    while count > 0:
        data = file.read(min(count, CHUNK))
        if not data:
            return
        count -= len(data)


def _head(path: Path) -> str:
    """Return a mark of a compressed file's first bytes."""
    with path.open("rb") as file:
        return _mark(file.read(HEAD))


def _head_of(file: BinaryIO, offset: int) -> str:
    """Return a mark of a file's first bytes, and of those just before an offset."""
    size = min(HEAD, offset)
    first, last = (os.pread(file.fileno(), size, start) for start in (0, offset - size))
    return f"{_mark(first)}:{offset}:{_mark(last)}"


def _mark(data: bytes) -> str:
    return f"{len(data)}:{hashlib.sha256(data).hexdigest()[:16]}"


def _same_head(path: Path, head: str) -> bool:
    """Say whether a file is still the one that a mark was made of; it may have grown since."""
    if not head or not path.exists():
        return False
    size, _, rest = head.partition(":")
    with path.open("rb") as file:
        if ":" in rest:
            return _head_of(file, int(rest.split(":")[1])) == head
        return _mark(file.read(int(size))) == head


def _rotated(file: BinaryIO, path: Path, read: int) -> bool:
    """Say whether the name now stands for another file, or this one was cut short."""
    try:
        now = path.stat()
    except OSError:  # renamed, and the new one is still to come
        return False
    mine = os.fstat(file.fileno())
    return (now.st_dev, now.st_ino) != (mine.st_dev, mine.st_ino) or now.st_size < read
