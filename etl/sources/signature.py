"""The signature of a file: what tells it from another of the same name.

It is a digest of the file's first bytes and, for a plain file, of those before the offset
to which it was read.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import BinaryIO

__all__ = ["has_signature", "signature_of", "signature_of_start"]

SIGNED_BYTES = 4096
"""Bytes at the start of a file, and before the offset, that make its signature."""


def signature_of(file: BinaryIO, offset: int) -> str:
    """Return the signature of a plain file that was read to an offset."""
    size = min(SIGNED_BYTES, offset)
    first, last = (os.pread(file.fileno(), size, start) for start in (0, offset - size))
    return f"{_digest(first)}:{offset}:{_digest(last)}"


def signature_of_start(path: Path) -> str:
    """Return the signature of a file that is converted when it is read: a compressed one, ..."""
    with path.open("rb") as file:
        return _digest(file.read(SIGNED_BYTES))


def has_signature(path: Path, signature: str, *, plain: bool = True) -> bool:
    """Return whether a file is still the one with that signature; it may have grown since.

    Args:
        path: Where it is.
        signature: Of the file that was read.
        plain: Whether it is read as it is on disk. If it was read in another way, offsets in it
            were others, so that it is not the same.
    """
    if not signature or not path.exists():
        return False
    size, _, rest = signature.partition(":")
    if plain != (":" in rest):
        return False
    with path.open("rb") as file:
        if plain:
            return signature_of(file, int(rest.split(":")[1])) == signature
        return _digest(file.read(int(size))) == signature


def _digest(data: bytes) -> str:
    return f"{len(data)}:{hashlib.sha256(data).hexdigest()[:16]}"
