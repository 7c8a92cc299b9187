"""CRC-32 of what a store keeps and of files: finds what has changed on a disk, by itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from operator import itemgetter
from pathlib import Path
from typing import Any

from isal.isal_zlib import crc32

from etl.filesystem import DISK, FileSystem

__all__ = [
    "checksum_of_batch",
    "checksum_of_file",
    "checksum_of_payload",
    "checksum_of_values",
    "crc32",
]

CHUNK = 1 << 20
"""Bytes of a file that are read at once."""


_OF_BATCH = itemgetter("id", "source", "format", "context", "first_line", "skip", "lines")


def checksum_of_batch(row: Mapping[str, Any]) -> int:
    """Return the checksum of what a store keeps of a batch besides its payload, that is put."""
    return checksum_of_values(_OF_BATCH(row))


def checksum_of_payload(encoding: str, data: bytes) -> int:
    """Return the checksum of an encoded payload: of the name of its encoding, and its bytes."""
    return crc32(data, crc32(encoding.encode("utf-8", "surrogatepass")))


def checksum_of_values(values: Iterable[str | bytes | int | None]) -> int:
    """Return the checksum of the values of a row, in their order."""
    parts = []
    for value in values:  # without a call for each, which would take as long again
        if isinstance(value, str):
            parts.append(value.encode("utf-8", "surrogatepass"))
        elif value is None:
            parts.append(b"\xff")
        else:
            parts.append(value if isinstance(value, bytes) else str(value).encode())
    return crc32(b"\0".join(parts))


def checksum_of_file(path: Path, files: FileSystem = DISK) -> tuple[int, int]:
    """Return the size of a file in bytes, and the checksum of them.

    Raises:
        OSError: If it cannot be read.
    """
    size = checksum = 0
    with files.open(path) as file:
        while chunk := file.read(CHUNK):
            size += len(chunk)
            checksum = crc32(chunk, checksum)
    return size, checksum
