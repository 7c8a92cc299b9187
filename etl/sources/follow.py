"""A file that grows, and is rotated."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

from etl.queue import Checkpoint
from etl.records.context import AS_FOUND, ReadOptions
from etl.sources.chunks import CHUNK_BYTES, SourceChunk, chunks_of
from etl.sources.files import sample_of
from etl.sources.framing import SILENCE, RecordBuffer, Sample
from etl.sources.signature import has_signature, signature_of

__all__ = ["FollowSource"]


@dataclass(frozen=True, slots=True)
class FollowSource:
    """A file that grows: its new lines are read, as `tail -F` does, also after it is rotated.

    Attributes:
        name: As the user gave it.
        path: Where it is.
        stop: Ends the reading when set.
        options: How its lines are read.
        poll: Seconds between looks at the file.
    """

    name: str
    path: Path
    stop: threading.Event
    options: ReadOptions = AS_FOUND
    poll: float = 0.1

    @property
    def key(self) -> str:
        """What its checkpoint is stored under."""
        return str(self.path.resolve())

    @property
    def size(self) -> None:
        """None: it is not known."""
        return None

    def read(self, since: Checkpoint | None = None) -> Iterator[SourceChunk]:
        """Yield batches of whole lines as they are written, until stopped."""
        place = Checkpoint(self.key, 0, 0)
        if since is not None and has_signature(self.path, since.signature):
            place = since
        while not self.stop.is_set():
            try:
                opened = self.path.open("rb", buffering=0)
            except OSError:  # not there yet, or between two of its names
                self.stop.wait(self.poll)
                continue
            with opened as file:
                sample = sample_of(file, self.options, self.path, offset=place.offset)
                file.seek(place.offset)
                yield from chunks_of(
                    self._until_rotated(file, place.offset, sample),
                    place,
                    name=self.name,
                    sample=sample,
                    signature=partial(signature_of, file),
                )
            place = Checkpoint(self.key, 0, 0)

    def _until_rotated(self, file: BinaryIO, read: int, sample: Sample) -> Iterator[bytes]:
        """Yield whole records; the last line of a file that was rotated may lack its newline."""
        buffer = RecordBuffer(sample)
        silent = 0.0  # seconds since the last data
        last_look = False  # programs may write to the old file for a moment after it is renamed
        while True:
            stopping = self.stop.is_set()
            rotated = _rotated(file, self.path, read)
            data = file.read(CHUNK_BYTES)
            read += len(data)
            if data:
                sample.touched(os.fstat(file.fileno()).st_mtime)
            over = rotated and last_look and not data
            text = buffer.add(data)
            if not text and (stopping or silent >= SILENCE):
                text = buffer.flush()
            if text := text + (buffer.rest() if over else b""):
                yield text
            if over or (stopping and not data):
                return
            last_look = rotated and not data
            silent = 0.0 if data else silent + self.poll
            if not data:
                self.stop.wait(self.poll)


def _rotated(file: BinaryIO, path: Path, read: int) -> bool:
    """Return whether the path is another file now, or this one was cut short."""
    try:
        now = path.stat()
    except OSError:  # renamed, and the new one is still to come
        return False
    mine = os.fstat(file.fileno())
    return (now.st_dev, now.st_ino) != (mine.st_dev, mine.st_ino) or now.st_size < read
