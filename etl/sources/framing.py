"""Which lines of a source belong together: text is cut only where a record begins.

What begins one is found in the source's own first lines, which a `Sample` gathers. A
`RecordBuffer` keeps back a record that may go on.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace

import polars as pl

from etl.formats import cuts, first_day, header_of, of_neighbours, record_start, starts
from etl.formats.columns import closed
from etl.records.context import Context, ReadOptions, whole_hours
from etl.settings import Settings

__all__ = [
    "MAX_HELD",
    "SAMPLE_BYTES",
    "SILENCE",
    "LineBuffer",
    "RecordBuffer",
    "Sample",
    "context_of",
    "context_of_body",
    "joined",
    "whole_records",
]

SAMPLE_BYTES = 256 << 10
"""Bytes at the beginning of a source that are looked at."""

MAX_HELD = 4 << 20
"""Bytes of a record that is kept back; a longer one is cut at the end of a line."""

SILENCE = 0.5
"""Seconds without a new line after which the last record of a growing source is whole."""

TAIL = 64 << 10
"""Bytes at the end of a text in which the last record is searched first."""

FIELDS = re.compile(rb"^#(?:Fields:|fields[\t ]).*$", re.MULTILINE)
"""A head that names columns and may stand anywhere in a file."""


class Sample:
    """The beginning of a source, and what its lines are read by.

    Args:
        options: What the user asks for.
        modified: Unix seconds when the source was last changed.
        text: The beginning, as far as it is known.
        offset: Bytes of the source before the lines that are added.
    """

    def __init__(
        self, options: ReadOptions, modified: float, text: bytes = b"", *, offset: int = 0
    ) -> None:
        self.format = options.format
        self.context = options.context(modified=modified)
        self._options = options
        self._modified = modified
        self._text = b""
        self._looked = 0
        self._offset = 0
        self.add(text)
        self._offset = offset

    def add(self, text: bytes) -> None:
        """Take the lines that come next; the context changes once it has seen twice as much."""
        new = text[max(0, len(self._text) - self._offset) :]
        self._offset += len(text)
        room = SAMPLE_BYTES - len(self._text)
        if room <= 0 or not new:
            return
        self._text += new[:room]
        if len(self._text) >= min(SAMPLE_BYTES, 2 * self._looked):
            self._looked = len(self._text)
            self.context = context_of(self._text, self._options, modified=self._modified)

    def touched(self, modified: float) -> None:
        """Take note of when a source that grows was last changed, in Unix seconds."""
        self._modified = modified
        self.context = replace(self.context, modified=whole_hours(modified))

    def passed(self, text: bytes) -> None:
        """Take note of heads in a text, by which the lines after it are read."""
        header = self.context.header
        if header is None or not header.startswith("#"):
            return
        if b"\n#" in text or text.startswith(b"#"):
            for found in FIELDS.finditer(text):
                header = found.group().rstrip(b"\r").decode("utf-8", "replace")
            self.context = replace(self.context, header=header)


def context_of(text: bytes, options: ReadOptions, *, modified: float | None = None) -> Context:
    """Return what lines are read by.

    Args:
        text: The first lines of their source.
        options: What the user asks for.
        modified: Unix seconds when the source was last changed; by default now.
    """
    lines = _lines(text)
    if options.multiline == "auto":
        start = record_start(lines)
    else:
        start = None if options.multiline == "off" else f"(?:{closed(options.multiline)})"
    header = header_of(lines)
    first = (
        None if options.year is None else first_day(lines.head(100), options.format, header=header)
    )
    return options.context(
        modified=time.time() if modified is None else modified,
        record_start=start,
        header=header,
        first_day=first,
    )


def context_of_body(text: bytes, options: ReadOptions) -> Context:
    """Return what lines that are all there are read by; one line is one record."""
    if text.find(b"\n", 0, -1) < 0:
        return options.context(modified=time.time())
    context = context_of(text[:SAMPLE_BYTES], options)
    start = context.record_start
    if start is not None and starts(_lines(text), start).all():
        context = replace(context, record_start=None)
    return context


class LineBuffer:
    """Makes texts of whole lines of bytes as they are read.

    A line over the limit is cut into pieces of so many bytes, wherever reading begins and ends:
    each is a text of its own, without a newline, and taken for a line.

    Args:
        limit: Bytes of a line; by default `Settings.max_line_bytes`.
    """

    def __init__(self, limit: int | None = None) -> None:
        self._limit = limit or Settings.max_line_bytes
        self._rest: list[bytes] = []
        self._held = 0

    def add(self, data: bytes) -> list[bytes]:
        """Return the texts that are whole with this data, and keep what comes after them."""
        limit = self._limit
        texts: list[bytes] = []
        if len(data) > limit:
            for start in range(0, len(data), limit):
                texts += self.add(data[start : start + limit])
            return texts
        first = data.find(b"\n") + 1 or len(data)
        while self._held + first > limit:
            line, data = b"".join([*self._rest, data[:first]]), data[first:]
            whole = line.endswith(b"\n")
            while len(line) - whole > limit:
                texts.append(line[:limit])
                line = line[limit:]
            self._rest, self._held = ([], 0) if whole else ([line], len(line))
            if whole:
                texts.append(line)
            if not data:
                return texts
            first = data.find(b"\n") + 1 or len(data)
        end = data.rfind(b"\n") + 1
        if end:
            part = memoryview(data)[:end]
            texts.append(b"".join([*self._rest, part]) if self._rest or end < len(data) else data)
            self._rest, self._held = [], 0
        if end < len(data):
            self._rest.append(data[end:])
            self._held += len(data) - end
        return texts

    def rest(self) -> bytes:
        """Return the line that is kept, and forget it."""
        line, self._rest, self._held = b"".join(self._rest), [], 0
        return line


class RecordBuffer:
    """Bytes of lines, and of a record, that are not whole yet.

    Args:
        sample: Says what begins a record, when it is asked.
    """

    def __init__(self, sample: Sample) -> None:
        self._sample = sample
        self._lines = LineBuffer()
        self._record = b""

    def add(self, data: bytes) -> list[bytes]:
        """Return the texts of records that are whole with this data; keep what comes after them.

        There is at most one, but for lines over the limit, whose pieces are texts of their own.
        """
        texts: list[bytes] = []
        for lines in self._lines.add(data):
            if lines.endswith(b"\n"):
                texts.append(self._whole(lines))
            else:
                texts += [self._take(), lines]
        return [text for text in texts if text]

    def _whole(self, lines: bytes) -> bytes:
        self._sample.add(lines)
        start = self._sample.context.record_start
        if start is None:
            return self._take() + lines
        if of_neighbours(start) and (found := _last_start(lines, start)):  # the usual, of one copy
            text = b"".join((self._record, memoryview(lines)[:found]))
            self._record = lines[found:]
            return text
        text = self._record + lines
        # the last line that is kept is in no need of being looked at, but decides with the next
        since = self._record.rfind(b"\n", 0, -1) + 1 if of_neighbours(start) else 0
        found = _last_start(text[since:], start)
        place = since + found if found else len(text) if len(text) > MAX_HELD else 0
        self._record = text[place:]
        return text[:place]

    def flush(self) -> bytes:
        """Return the whole lines that are kept: nothing has come after them for a while."""
        return self._take()

    def rest(self) -> bytes:
        """Return all that is kept: this is the end, where a last line may lack its newline."""
        return self._take() + self._lines.rest()

    def _take(self) -> bytes:
        text, self._record = self._record, b""
        return text


def whole_records(texts: Iterable[bytes], sample: Sample) -> Iterator[bytes]:
    """Yield data as it is read in texts of whole records; the last line may lack its newline.

    If reading fails, the whole lines that came before are yielded first.
    """
    buffer = RecordBuffer(sample)
    kept = b""  # a text is kept back, so that a last record is no batch of its own
    try:
        for data in texts:
            for text in buffer.add(data):
                if kept:
                    yield kept
                kept = text
    except Exception:
        yield from joined(kept, buffer.flush())
        raise
    yield from joined(kept, buffer.rest())


def joined(text: bytes, rest: bytes) -> Iterator[bytes]:
    """Yield two texts that follow one another as one, unless the first ends in a line that is cut.

    Nothing is yielded if both are empty.
    """
    if text and not text.endswith(b"\n"):  # a piece of a line over the limit
        yield text
        text = b""
    if text := text + rest:
        yield text


def _last_start(text: bytes, start: str) -> int:
    """Return the offset of the last record of whole lines; 0 if there is only one."""
    size = TAIL if of_neighbours(start) else len(text)
    while True:
        begin = text.find(b"\n", len(text) - size) + 1 if size < len(text) else 0
        lines = text[begin:].split(b"\n")[:-1]
        series = pl.Series([line.decode("utf-8", "replace") for line in lines], dtype=pl.String)
        # a beginning that is not that of the text is taken for a start whatever it is
        places = cuts(series, start)[1:].arg_true()
        if len(places):
            last = int(places[-1]) + 1
            return begin + sum(len(line) + 1 for line in lines[:last])
        if begin == 0:
            return 0
        size *= 8


def _lines(text: bytes) -> pl.Series:
    """Return the whole lines of a text; its only line may lack the newline."""
    lines = text.split(b"\n")
    if len(lines) > 1:
        lines.pop()
    decoded = [line.removesuffix(b"\r").decode("utf-8", "replace") for line in lines]
    return pl.Series("line", decoded, dtype=pl.String)
