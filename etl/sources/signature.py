"""What tells a file from another of the same name: a digest of its beginning and its end."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import BinaryIO

__all__ = ["head", "same_signature", "signature_of"]

HEAD = 4096
"""Bytes at the start of a file that tell it from another of the same name."""


def head(path: Path) -> str:
    """Return a mark of a compressed file's first bytes."""
    with path.open("rb") as file:
        return _mark(file.read(HEAD))


def signature_of(file: BinaryIO, offset: int) -> str:
    """Return a mark of a file's first bytes, and of those just before an offset."""
    size = min(HEAD, offset)
    first, last = (os.pread(file.fileno(), size, start) for start in (0, offset - size))
    return f"{_mark(first)}:{offset}:{_mark(last)}"


def _mark(data: bytes) -> str:
    return f"{len(data)}:{hashlib.sha256(data).hexdigest()[:16]}"


def same_signature(path: Path, head: str) -> bool:
    """Say whether a file is still the one that a mark was made of; it may have grown since."""
    if not head or not path.exists():
        return False
    size, _, rest = head.partition(":")
    with path.open("rb") as file:
        if ":" in rest:
            return signature_of(file, int(rest.split(":")[1])) == head
        return _mark(file.read(int(size))) == head
