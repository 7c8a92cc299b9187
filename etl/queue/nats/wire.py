"""Operations as bytes, and back: JSON, with bytes and frames (Arrow IPC) behind it.

Only the classes listed here and plain values pass, so that what is read from a
journal can be nothing else; pickle could be anything.

Layout: one byte, `z` if the rest is compressed with zstd, else `r`; four bytes,
the length of the JSON; the JSON `[value, [length of each part]]`; the parts.
In the JSON an object has one key, which says what it is: `bytes` and `frame`
are numbers of parts, `dict` is a mapping, any other the fields of a class.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import polars as pl
import zstandard

from etl.errors import StoreError
from etl.lines import Failure, Outcome, Output, Tally
from etl.queue import Position
from etl.queue.operations import Held, Stored

__all__ = ["decode", "encode"]

CLASSES = {one.__name__: one for one in (Failure, Held, Outcome, Output, Position, Stored, Tally)}

COMPRESS_FROM = 1024
"""Bytes from which a message is compressed."""


def encode(value: Any) -> bytes:
    """Return a value of plain types, frames and our classes as bytes."""
    parts: list[bytes] = []
    plain = _plain(value, parts)
    text = json.dumps([plain, [len(part) for part in parts]], separators=(",", ":")).encode()
    data = b"".join([len(text).to_bytes(4, "big"), text, *parts])
    if len(data) < COMPRESS_FROM:
        return b"r" + data
    return b"z" + zstandard.ZstdCompressor(level=-1).compress(data)


def decode(data: bytes) -> Any:
    """Undo `encode`; tuples come back as lists.

    Raises:
        StoreError: If these are no such bytes, or name a class that is not known.
    """
    try:
        body = data[1:]
        if data[:1] == b"z":
            body = zstandard.ZstdDecompressor().decompress(body)
        start = 4 + int.from_bytes(body[:4], "big")
        plain, lengths = json.loads(body[4:start])
        parts = []
        for length in lengths:
            parts.append(body[start : start + length])
            start += length
        return _rich(plain, parts)
    except (ValueError, KeyError, TypeError, IndexError, zstandard.ZstdError) as error:
        raise StoreError(f"a message of the store cannot be read: {error!r}") from error


def _plain(value: Any, parts: list[bytes]) -> Any:
    match value:
        case None | str() | int() | float():
            return value
        case bytes():
            parts.append(value)
            return {"bytes": len(parts) - 1}
        case pl.DataFrame():
            buffer = io.BytesIO()
            value.write_ipc(buffer)
            parts.append(buffer.getvalue())
            return {"frame": len(parts) - 1}
        case Mapping():
            return {"dict": {key: _plain(one, parts) for key, one in value.items()}}
        case list() | tuple():
            return [_plain(one, parts) for one in value]
    given = {field.name: getattr(value, field.name) for field in fields(value)}
    if isinstance(value, Outcome) and value.letters.is_empty():
        del given["letters"]  # as it is by default
    name = type(value).__name__
    return {name: {key: _plain(one, parts) for key, one in given.items()}}


def _rich(plain: Any, parts: list[bytes]) -> Any:
    if isinstance(plain, list):
        return [_rich(one, parts) for one in plain]
    if not isinstance(plain, dict):
        return plain
    ((kind, value),) = plain.items()
    if kind == "bytes":
        return parts[value]
    if kind == "frame":
        return pl.read_ipc(io.BytesIO(parts[value]))
    inner = {key: _rich(one, parts) for key, one in value.items()}
    return inner if kind == "dict" else CLASSES[kind](**inner)
