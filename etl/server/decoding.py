"""Compressed bodies, opened as they arrive: gzip, deflate and zstd, or several of them.

What comes out is given in pieces of bounded size, so that a small body which becomes a large
one costs no more memory than a piece does; whoever reads them counts their bytes.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from backports import zstd

__all__ = ["CODINGS", "BrokenBody", "Decoder", "codings_of"]

PIECE = 256 << 10
"""Bytes of a piece at most."""

MAX_WINDOW_LOG = 23
"""Log2 of the bytes that a zstd frame may refer back to: 8 MB, as RFC 9659 has it for HTTP."""


class BrokenBody(Exception):
    """The body is not what its Content-Encoding says."""


def _begin_gzip(_data: bytes) -> Any:
    return zlib.decompressobj(31)


def _begin_deflate(data: bytes) -> Any:
    """Return an object for zlib's format, or for bare deflate, which some clients send."""
    return zlib.decompressobj(15 if data[0] & 0x8F == 8 else -15)


def _begin_zstd(_data: bytes) -> Any:
    limits: dict[int, int] = {zstd.DecompressionParameter.window_log_max: MAX_WINDOW_LOG}
    return zstd.ZstdDecompressor(options=limits)


CODINGS: Mapping[str, Callable[[bytes], Any]] = {
    "gzip": _begin_gzip,
    "deflate": _begin_deflate,
    "zstd": _begin_zstd,
}
"""What opens a body of a coding, by the coding's name; it is given the first bytes."""


def codings_of(header: str) -> list[str]:
    """Return the codings that a Content-Encoding header names, in the order of the header."""
    names = (name.strip().lower() for name in header.split(","))
    return ["gzip" if name == "x-gzip" else name for name in names if name not in ("", "identity")]


class Decoder:
    """Opens a body that has some codings on top of each other.

    Args:
        codings: Names in `CODINGS`, in the order in which they were applied.
    """

    def __init__(self, codings: Sequence[str]) -> None:
        self._layers = [_Layer(name) for name in reversed(codings)]

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield what comes out of further bytes, in pieces.

        Raises:
            BrokenBody: If they cannot be read.
        """
        pieces: Iterator[bytes] = iter([data])
        for layer in self._layers:
            pieces = layer.feed(pieces)
        return pieces

    def end(self) -> None:
        """Check that the body is whole.

        Raises:
            BrokenBody: If it ends too early.
        """
        for layer in self._layers:
            layer.end()


class _Layer:
    """One coding: members of gzip, or frames of zstd, one after another."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._member: Any = None

    def feed(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        """Yield what comes out of further bytes."""
        for data in pieces:
            yield from self._open(data)

    def end(self) -> None:
        """Raise BrokenBody if the last member is not whole."""
        if self._member is not None:
            raise BrokenBody(f"the body ends before its {self._name} data does; send all of it")

    def _open(self, data: bytes) -> Iterator[bytes]:
        more = False
        while data or more:
            if self._member is None:
                self._member = CODINGS[self._name](data)
            try:
                piece = self._member.decompress(data, PIECE)
            except (zlib.error, zstd.ZstdError) as error:
                raise BrokenBody(
                    f"the body cannot be read as {self._name}: {error}; compress it again, or "
                    "send it without Content-Encoding"
                ) from error
            more = len(piece) == PIECE
            data = getattr(self._member, "unconsumed_tail", b"")
            if self._member.eof:
                data, more, self._member = self._member.unused_data, False, None
            if piece:
                yield piece
