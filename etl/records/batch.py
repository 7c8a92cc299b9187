"""Batches of log lines: what a producer puts and a worker leases.

A `Batch` is some lines, their source, and what is known of how to read them. The lines are
held in one of three ways: UTF-8 text, a `Reference` to a byte range of a durable file, or a
Polars frame of whole records (replayed ones, whose numbers have gaps). Of one that cannot be
decoded there is only the reason, `Damaged`. This module knows neither stores nor pipelines, and
joins no lines to records (`execution/records.py`).
"""

from __future__ import annotations

import io
import json
import secrets
import time
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

import polars as pl
from backports import zstd

from etl.errors import PayloadDamaged, SourceChanged, SourceUnavailable
from etl.filesystem import DISK, FileSystem
from etl.records.checksum import checksum_of_payload, crc32
from etl.records.context import DEFAULT, Context

__all__ = [
    "Batch",
    "Damaged",
    "Lease",
    "Reference",
    "count_lines",
    "new_id",
    "read_exactly",
]

_COMPRESS_FROM = 512
"""Payloads of at least this many bytes are compressed; a button click is not."""

_PACKED = (b"\x1f\x8b", b"x", b"(\xb5")
"""How data that gzip, zlib or zstd have compressed begins."""

_POLARS_FROM = 1 << 20
"""Bytes of text from which Polars counts its lines: in half the time, and beside other threads."""

_UNREADABLE = "payload cannot be read: "


def new_id() -> str:
    """Return an id that no other call returns and that sorts by the time it was made."""
    return f"{time.time_ns() // 1000:014x}{secrets.token_hex(5)}"


def count_lines(data: bytes) -> int:
    """Count the lines of a text block; the last one may lack its newline."""
    if len(data) < _POLARS_FROM or data.startswith(_PACKED):
        return data.count(b"\n") + (not data.endswith(b"\n") and data != b"")
    return int(pl.scan_lines(data).select(pl.len()).collect().item())


@dataclass(frozen=True, slots=True)
class Reference:
    """A range of a file, object or partition that is durable and is not expected to change.

    `path` is its path or URL, `start` and `stop` are offsets of bytes (of messages in Kafka),
    `checksum` is the CRC-32 of the text.
    """

    path: str
    start: int
    stop: int
    checksum: int

    def read(self, files: FileSystem = DISK) -> bytes:
        """Read the bytes; if the file was renamed or compressed, where they are now.

        Raises:
            SourceChanged: If its bytes are not those that were queued, and no file beside it
                has them.
            SourceUnavailable: If the file cannot be read here.
        """
        from etl.sources.kafka import SCHEME, read_offsets
        from etl.sources.moved import find_bytes
        from etl.sources.objects import is_url, read_range

        if is_url(self.path):
            return read_offsets(self) if self.path.startswith(SCHEME) else read_range(self)
        missing = ""
        try:
            with files.open(Path(self.path)) as file:
                file.seek(self.start)
                data = read_exactly(file, self.stop - self.start)
        except OSError as error:
            missing = error.strerror or str(error)
        else:
            if crc32(data) == self.checksum:
                return data
        try:
            if (found := find_bytes(self, files)) is not None:
                return found
        except OSError as error:
            missing = missing or error.strerror or str(error)
        if missing:
            raise SourceUnavailable(f"{self.path!r} cannot be read on this machine: {missing}")
        raise SourceChanged(
            f"bytes {self.start} to {self.stop} of {self.path!r} are not the bytes that were queued"
        )


def read_exactly(file: BinaryIO, size: int) -> bytes:
    """Return so many bytes, or all that are left."""
    parts: list[bytes] = []
    while size and (part := file.read(size)):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


@dataclass(frozen=True, slots=True)
class Damaged:
    """What stands for a payload that cannot be decoded: `reason` is the message of the error."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Batch:
    """Some lines of one source: the unit that is put, leased and committed.

    Attributes:
        lines: How many source lines it has.
        payload: Their text as UTF-8, a reference to it, or a frame of records; or why there is
            none.
        source: Where they come from: a file's path, or a name.
        first_line: Number of the first line in its source, from 1.
        format: Spec of the lines' format, or None to have it detected; `from_lines` and the
            like make it of the name of a user's own format.
        context: What is known of the source, to read the lines by.
        skip: Lines of the payload that come before this batch: the parts of a batch
            share its payload.
        id: Unique; sorts by the time at which the batch was made.
    """

    lines: int
    payload: bytes | Reference | pl.DataFrame | Damaged
    source: str
    first_line: int = 1
    format: str | None = None
    context: Context = DEFAULT
    skip: int = 0
    id: str = field(default_factory=new_id)

    @classmethod
    def from_lines(
        cls,
        lines: Iterable[str | bytes],
        *,
        source: str = "memory",
        format: str | None = None,
        context: Context = DEFAULT,
    ) -> Batch:
        """Return a batch of records, each a line or several, with or without a last newline.

        Args:
            lines: Text or bytes; bytes that are not UTF-8 are kept. One that has line breaks
                inside is a record of several lines.
            source: Where they come from.
            format: Name of their format, or None to have it detected.
            context: What is known of their source.

        Raises:
            FormatError: If there is no such format.
            TypeError: If it is given one text rather than lines.
        """
        if isinstance(lines, str | bytes):
            raise TypeError(f"lines is one text, {lines[:80]!r}; give a list of lines")
        encoded = [_bare(line) for line in lines]
        count = len(encoded) + sum(line.count(b"\n") for line in encoded)
        payload: bytes | pl.DataFrame = b"".join(line + b"\n" for line in encoded)
        if context.record_start is not None:
            context = replace(context, record_start=None)
        if count > len(encoded):
            payload = _frame_of(encoded)
        if format is not None:
            from etl.formats import resolve_format

            format = resolve_format(format)
        return cls(lines=count, payload=payload, source=source, format=format, context=context)

    def __repr__(self) -> str:
        return f"<Batch {self.id}: {self.lines:,} lines of {self.source!r}, {self.size:,} bytes>"

    @property
    def size(self) -> int:
        """Bytes of text, before compression."""
        match self.payload:
            case Reference(start=start, stop=stop):
                return stop - start
            case pl.DataFrame() as frame:
                return int(frame["line"].str.len_bytes().sum())
            case Damaged():
                return 0
            case data:
                return len(data)

    def frame(self, files: FileSystem = DISK) -> pl.DataFrame:
        r"""Return the lines as a frame of `line` String, `line_number` Int64, `source` String.

        If any line is not UTF-8 there is also `raw` Binary, which holds the
        bytes of just those lines; their `line` shows each odd byte as `\xff`.
        A batch of records has `line_count` Int64, how many lines each is, and one of
        replayed records `dead_letter_id` Int64, the dead letter's id.

        Raises:
            SourceChanged: If the payload is a reference whose file has changed.
            PayloadDamaged: If it cannot be decoded, or does not have the lines that were put.
        """
        payload = self.payload
        if isinstance(payload, Damaged):
            raise PayloadDamaged(payload.reason)
        if isinstance(payload, Reference):
            payload = payload.read(files)
        if isinstance(payload, pl.DataFrame):
            frame = payload
            if "line_count" in frame.columns:
                before = pl.col("line_count").cum_sum() - pl.col("line_count")
                frame = frame.filter(before.is_between(self.skip, self.skip + self.lines - 1))
            else:
                frame = frame.slice(self.skip, self.lines)
        else:
            frame = _decode_text(payload).slice(self.skip, self.lines)
            first = self.first_line
            numbers = pl.int_range(first, first + frame.height, dtype=pl.Int64, eager=True)
            frame = frame.hstack([numbers.alias("line_number")])
        lines = frame["line_count"].sum() if "line_count" in frame.columns else frame.height
        if lines != self.lines:
            raise PayloadDamaged(_UNREADABLE + f"it has {lines:,} lines, not {self.lines:,}")
        return frame.with_columns(source=pl.lit(self.source))

    def parts(self, count: int, starts: Sequence[int] | None = None) -> list[Batch]:
        """Return at most `count` batches of about equal size that share this payload.

        Args:
            count: How many.
            starts: Lines at which a part may begin, from 0, in order; by default every line.
        """
        step = max(1, -(-self.lines // count))
        cuts = list(range(0, self.lines, step))
        if starts is not None:  # the first record that begins there, or after
            places = (bisect_left(starts, cut) for cut in cuts)
            cuts = sorted({starts[place] for place in places if place < len(starts)} | {0})
        return [
            replace(
                self,
                id=new_id(),
                lines=stop - start,
                skip=self.skip + start,
                first_line=self.first_line + start,
            )
            for start, stop in pairwise([*cuts, self.lines])
        ]

    def encode(self) -> tuple[str, bytes]:
        """Return the payload as a store keeps it: the name of its encoding, and bytes."""
        match self.payload:
            case Reference(path, start, stop, checksum):
                return "reference", json.dumps([path, start, stop, checksum]).encode()
            case pl.DataFrame() as frame:
                buffer = io.BytesIO()
                frame.write_ipc(buffer, compression="zstd")
                return "arrow", buffer.getvalue()
            case Damaged(reason):
                raise PayloadDamaged(reason)
            case data if len(data) < _COMPRESS_FROM:
                return "text", data
            case data:
                return "zstd", zstd.compress(data, level=-3)


def decode_payload(
    encoding: str, data: bytes, checksum: int | None = None
) -> bytes | Reference | pl.DataFrame:
    """Return the payload that `Batch.encode` encoded.

    Args:
        encoding: Name of its encoding.
        data: Its bytes.
        checksum: What `checksum_of_payload` returned of them; None for stores of before.

    Raises:
        PayloadDamaged: If that is not their checksum, they cannot be decoded, or the encoding is
            unknown.
    """
    try:
        if checksum is not None and checksum_of_payload(encoding, data) != checksum:
            raise PayloadDamaged(_UNREADABLE + "its bytes are not those that were put (checksum)")
        match encoding:
            case "text":
                return bytes(data)
            case "zstd":
                size = zstd.get_frame_info(data).decompressed_size
                # One buffer of the right size; growing one takes three times as long.
                return zstd.ZstdDecompressor().decompress(data, -1 if size is None else size)
            case "arrow":
                return pl.read_ipc(data)
            case "reference":
                return Reference(*json.loads(data))
    except PayloadDamaged:
        raise
    except (Exception, pl.exceptions.PanicException) as error:
        why = str(error).split("\n", maxsplit=1)[0]
        raise PayloadDamaged(_UNREADABLE + f"{type(error).__name__}: {why}") from error
    raise PayloadDamaged(_UNREADABLE + f"its encoding {encoding!r} is not known to this etl")


@dataclass(frozen=True, slots=True, repr=False)
class Lease:
    """Batches of one source, format and context, leased by one worker.

    Several small batches may be leased together: they run as one and are committed
    together.

    Attributes:
        token: Unique to this lease.
        worker: Name of the worker.
        batches: At least one.
        until: Unix seconds at which the lease ends unless it is renewed.
        deliveries: How often the first batch was leased, this time included; more than 1
            means that an earlier worker neither committed nor released it.
    """

    token: str
    worker: str
    batches: tuple[Batch, ...]
    until: float
    deliveries: int = 1

    def __repr__(self) -> str:
        return f"<Lease {self.token} of {self.worker}: {self.lines:,} lines>"

    @property
    def lines(self) -> int:
        """How many lines the lease covers."""
        return sum(batch.lines for batch in self.batches)


def _bare(line: str | bytes) -> bytes:
    try:
        data = line.encode("utf-8", "surrogateescape") if isinstance(line, str) else line
    except UnicodeEncodeError:  # half of a surrogate pair, which JSON may hold
        data = str(line).encode("utf-8", "surrogatepass")
    return data.removesuffix(b"\n").removesuffix(b"\r")


def _frame_of(records: Sequence[bytes]) -> pl.DataFrame:
    """Return a frame of `line`, `line_number`, `line_count`, and `raw` where one is not UTF-8."""
    texts = [record.decode("utf-8", "backslashreplace") for record in records]
    odd = [None if text.encode() == one else one for text, one in zip(texts, records, strict=True)]
    counts = pl.Series([1 + record.count(b"\n") for record in records], dtype=pl.Int64)
    frame = pl.DataFrame({"line": texts, "line_number": 1 + counts.cum_sum() - counts})
    frame = frame.with_columns(line_count=counts)
    return frame if not any(odd) else frame.with_columns(raw=pl.Series(odd, dtype=pl.Binary))


def _decode_text(data: bytes) -> pl.DataFrame:
    """Return a frame of `line`, and of `raw` for the bytes of lines that are not UTF-8."""
    try:
        return _read_lines(data)
    except pl.exceptions.ComputeError:  # not all of it is UTF-8
        lines = data.split(b"\n")
    texts = [line.decode("utf-8", "backslashreplace").encode() for line in lines]
    pairs = zip(texts, lines, strict=True)
    raw = [None if text == line else line.removesuffix(b"\r") for text, line in pairs]
    frame = _read_lines(b"\n".join(texts))
    return frame.with_columns(raw=pl.Series(raw[: frame.height], dtype=pl.Binary))


def _read_lines(data: bytes) -> pl.DataFrame:
    """Return a frame of the lines of a text.

    Polars decompresses input that looks compressed, but not after a newline.
    """
    if data.startswith(_PACKED):
        return pl.read_lines(b"\n" + data, name="line").slice(1)
    return pl.read_lines(data, name="line")
