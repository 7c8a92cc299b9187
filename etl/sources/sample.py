"""The first lines of a source, to see what it is; never all of it."""

from __future__ import annotations

import os
import select
from typing import BinaryIO

import polars as pl

from etl.records.batch import Batch, count_lines, read_exactly
from etl.sources.archive import ArchiveSource
from etl.sources.journal import JournalSource
from etl.sources.kafka import KafkaSource
from etl.sources.objects import ObjectSource
from etl.sources.opening import as_source_error, opened
from etl.sources.resolve import Source
from etl.sources.stream import StreamSource

__all__ = ["first_lines"]

SAMPLE_BYTES = 1 << 20
SAMPLE_LINES = 5_000
QUIET_SECONDS = 1.0
"""Seconds without new text after which a stream has said enough for a sample."""


def first_lines(source: Source) -> tuple[pl.Series, float | None]:
    """Return the first lines of a source, and when its file was last changed, in Unix seconds.

    About 1 MB and 5,000 lines at most; of a stream, what comes before it is silent for a second.

    Raises:
        SourceError: If it cannot be read, or is not text.
    """
    modified: float | None = None
    with as_source_error(source.name):
        if isinstance(source, StreamSource):
            data = _first_of_stream(source.file)
        elif isinstance(source, KafkaSource):
            data, modified = source.head()
        elif isinstance(source, ObjectSource | JournalSource):
            data, modified = source.head(SAMPLE_BYTES)
        elif isinstance(source, ArchiveSource):
            data, modified = source.first_bytes(SAMPLE_BYTES)
        else:
            with opened(source.path) as (file, kind):
                kind.check_text(source.name)
                data, modified = read_exactly(file, SAMPLE_BYTES), source.path.stat().st_mtime
    if len(data) >= SAMPLE_BYTES:  # its last line is cut
        data = data[: data.rfind(b"\n") + 1] or data
    batch = Batch(lines=count_lines(data), payload=data, source=source.name)
    return batch.frame()["line"].head(SAMPLE_LINES), modified


def _first_of_stream(file: BinaryIO) -> bytes:
    handle, data = file.fileno(), bytearray()
    while len(data) < SAMPLE_BYTES and (more := os.read(handle, SAMPLE_BYTES - len(data))):
        data += more
        enough = data.count(b"\n") > SAMPLE_LINES
        if enough or (b"\n" in data and not select.select([handle], [], [], QUIET_SECONDS)[0]):
            return bytes(data[: data.rfind(b"\n") + 1])
    return bytes(data)
