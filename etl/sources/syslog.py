"""Syslog messages as they come over the network: cut into texts of lines, and gathered to batches.

Over TCP a message is framed by RFC 6587: its length before it (octet counting), or a newline, or
as some programs do, a NUL behind it. Which one it is, a connection's first bytes say. What is in a
message is for `formats`. Not here: sockets (`listener.py`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from etl.records.batch import Batch, count_lines
from etl.records.context import ReadOptions
from etl.sources.chunks import CHUNK_BYTES
from etl.sources.framing import LineBuffer

__all__ = ["MAX_MESSAGE", "Deframer", "Gathered", "Part"]

MAX_MESSAGE = 1 << 20
"""Bytes of a message; a longer one is cut into pieces of so many, each taken for a line."""

MAX_UNDECIDED = 64 << 10
"""Bytes after which a connection that has shown no end of a message is read by lines."""

Part = bytes | list[bytes]
"""Whole lines with their newlines; or messages, if one of them has newlines inside."""

_HEAD = re.compile(rb"[1-9][0-9]{0,8} ")
_HEAD_BYTES = 10
_ENDS_IN_NUL = re.compile(rb"\0(?:<|\Z)")


class Deframer:
    """Makes messages of the bytes of one connection, as they are read.

    Attributes:
        broken: Whether the counts of octets were not to be believed: lines are read from there on.
        cut: How many messages were longer than `MAX_MESSAGE`.
    """

    def __init__(self) -> None:
        self.broken = False
        self.cut = 0
        self._add = self._first
        self._parts: list[bytes] = []
        self._held = 0
        self._needed = 1  # bytes held before it is worth a look
        self._left = 0  # bytes of a message over the limit that are to come
        self._lines = LineBuffer(MAX_MESSAGE)

    def add(self, data: bytes) -> Iterator[Part]:
        """Yield what is whole with this data, and keep what comes after it."""
        return self._add(data)

    def rest(self) -> Iterator[Part]:
        """Yield what is kept, a message that lacks its end, and forget it."""
        last = b"".join([*self._parts, self._lines.rest()])
        self._parts, self._held = [], 0
        if last:
            yield from _part([last])

    def _first(self, data: bytes) -> Iterator[Part]:
        """Find out how messages are framed, and go on so."""
        is_long = self._held + len(data) > MAX_UNDECIDED
        if self._held >= _HEAD_BYTES and not is_long and b"\n" not in data and b"\0" not in data:
            self._keep(data)
            return
        data = self._joined(data)
        head = _HEAD.match(data)
        if head or (len(data) < _HEAD_BYTES and data.isdigit() and data[:1] != b"0"):
            if not head:
                self._keep(data)
                return
            self._add = self._counted
        elif _ENDS_IN_NUL.search(data):
            self._add = self._ended_by_nul
        elif b"\n" in data or is_long:
            self._add = self._by_line
        else:
            self._keep(data)
            return
        yield from self._add(data)

    def _by_line(self, data: bytes) -> Iterator[Part]:
        for text in self._lines.add(data):
            if text.endswith(b"\n"):
                yield text
            else:
                self.cut += 1
                yield text + b"\n"

    def _ended_by_nul(self, data: bytes) -> Iterator[Part]:
        if b"\0" not in data and self._held + len(data) <= MAX_MESSAGE:
            self._keep(data)
            return
        *messages, rest = self._joined(data).split(b"\0")
        while len(rest) > MAX_MESSAGE:
            self.cut += 1
            messages.append(rest[:MAX_MESSAGE])
            rest = rest[MAX_MESSAGE:]
        self._keep(rest)
        yield from _part(messages)

    def _counted(self, data: bytes) -> Iterator[Part]:
        if self._held + len(data) < self._needed:
            self._keep(data)
            return
        data = self._joined(data)
        messages: list[bytes] = []
        place, size, find = 0, len(data), data.find
        self._needed = 1
        while place < size:
            start = place
            if self._left:
                length = min(self._left, MAX_MESSAGE)
            else:
                start = find(b" ", place, place + _HEAD_BYTES) + 1
                count = data[place : start - 1] if start else data[place : place + _HEAD_BYTES]
                if not count.isdigit() or count[0] == 48 or len(count) == _HEAD_BYTES:
                    self.broken = True
                    break
                if not start:  # the length itself is not whole
                    self._needed = size - place + 1
                    break
                length = int(count)
                if length > MAX_MESSAGE:
                    self.cut += 1
                    self._left, place = length, start
                    continue
            end = start + length
            if end > size:
                self._needed = end - place
                break
            messages.append(data[start:end])
            self._left = max(0, self._left - length)
            place = end
        yield from _part(messages)
        if self.broken:
            self._add = self._by_line
            yield from self._by_line(data[place:])
        elif place < size:
            self._keep(data[place:])

    def _keep(self, data: bytes) -> None:
        self._parts.append(data)
        self._held += len(data)

    def _joined(self, data: bytes) -> bytes:
        """Return what is kept and this data as one, and forget it."""
        if self._parts:
            data = b"".join([*self._parts, data])
            self._parts, self._held = [], 0
        return data


def _part(messages: list[bytes]) -> Iterator[Part]:
    """Yield messages as the text of their lines, if each of them is one."""
    if messages:
        text = b"\n".join(messages) + b"\n"
        yield text if text.count(b"\n") == len(messages) else messages


class Gathered:
    """Lines of some senders that wait to be put.

    Attributes:
        size: Bytes of all of them.
    """

    def __init__(self) -> None:
        self.size = 0
        self._parts: dict[str, list[Part]] = {}

    def __bool__(self) -> bool:
        return bool(self._parts)

    def add(self, source: str, part: Part) -> None:
        """Add lines of a source."""
        self._parts.setdefault(source, []).append(part)
        self.size += len(part) if isinstance(part, bytes) else sum(map(len, part))

    def add_datagrams(self, source: str, datagrams: list[bytes]) -> None:
        """Add messages of a source, each of which may have a newline or a NUL at its end."""
        text = b"\n".join(datagrams) + b"\n"
        if text.count(b"\n") != len(datagrams) or b"\0\n" in text:
            datagrams = [one.removesuffix(b"\0").removesuffix(b"\n") for one in datagrams]
        for part in _part(datagrams):
            self.add(source, part)

    def take(self, options: ReadOptions, *, now: float) -> list[Batch]:
        """Return all as batches of one source each, in order, and begin again.

        Args:
            options: How they are read.
            now: Unix seconds, for times that lack their year.
        """
        parts, self._parts, self.size = self._parts, {}, 0
        context = options.context(modified=now)
        batches: list[Batch] = []
        for source, its in parts.items():
            for some in _chunks(its):
                if isinstance(some, bytes):
                    batch = Batch(
                        lines=count_lines(some),
                        payload=some,
                        source=source,
                        format=options.format,
                        context=context,
                    )
                else:
                    batch = Batch.from_lines(
                        some, source=source, format=options.format, context=context
                    )
                batches.append(batch)
        return batches


def _chunks(parts: list[Part]) -> Iterator[Part]:
    """Yield parts; texts that follow one another are joined to texts of about a batch's size."""
    texts: list[bytes] = []
    size = 0
    for part in parts:
        if isinstance(part, bytes):
            texts.append(part)
            size += len(part)
            if size < CHUNK_BYTES:
                continue
        if texts:
            yield b"".join(texts)
            texts, size = [], 0
        if isinstance(part, list):
            yield part
    if texts:
        yield b"".join(texts)
