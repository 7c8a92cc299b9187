"""Lines from a pipe or a terminal."""

from __future__ import annotations

import os
import select
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import BinaryIO

from etl.queue import Checkpoint
from etl.records.context import AS_FOUND, ReadOptions
from etl.sources.chunks import CHUNK_BYTES, Chunks, SourceChunk
from etl.sources.framing import SILENCE, RecordBuffer, Sample, joined

__all__ = ["StreamSource", "texts_as_they_come"]

PIPE_BYTES = 1 << 20
"""Bytes that are read at a time; Linux gives a user's pipe no more by default."""

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
        yield from map(chunks.of, texts_as_they_come(self.file, sample))


def texts_as_they_come(
    file: BinaryIO,
    sample: Sample,
    *,
    whole_lines: bool = False,
    stop: threading.Event | None = None,
) -> Iterator[bytes]:
    """Yield whole records of a pipe or terminal: a chunk, or what has come before a silence.

    Args:
        file: What is read, without a buffer of its own.
        sample: Says what begins a record.
        whole_lines: Leave out a last line that lacks its newline.
        stop: If given, nothing more is read when this is set.
    """
    handle = file.fileno()
    _widen(handle)
    buffer = RecordBuffer(sample)
    texts: list[bytes] = []
    size = 0
    while _comes(handle, stop) and (data := os.read(handle, PIPE_BYTES)):
        sample.touched(time.time())
        for more in buffer.add(data):
            if texts and not (texts[-1].endswith(b"\n") and more.endswith(b"\n")):  # a cut line
                yield b"".join(texts)
                texts, size = [], 0
            texts.append(more)
            size += len(more)
        if size < CHUNK_BYTES and _more(handle, FLUSH_AFTER):
            continue
        if texts:
            yield b"".join(texts)
            texts, size = [], 0
        held = sample.context.record_start and not _more(handle, SILENCE)
        if held and (last := buffer.flush()):
            yield last
    yield from joined(b"".join(texts), buffer.flush() if whole_lines else buffer.rest())


def _widen(handle: int) -> None:
    """Let a pipe hold more, so that who writes and who reads wait for each other less often."""
    with suppress(ImportError, AttributeError, OSError):  # no pipe, or not on Linux
        import fcntl

        fcntl.fcntl(handle, fcntl.F_SETPIPE_SZ, PIPE_BYTES)


def _comes(handle: int, stop: threading.Event | None) -> bool:
    """Return whether more comes, or the end, before this is stopped."""
    while stop is not None:
        if stop.is_set():
            return False
        if _more(handle, FLUSH_AFTER):
            break
    return True


def _more(handle: int, seconds: float) -> bool:
    """Return whether more comes, or the end, within some seconds."""
    return bool(select.select([handle], [], [], seconds)[0])
