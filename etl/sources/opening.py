r"""How a file is read, by its content: compressed, UTF-16, with CR line ends, or no text at all.

A file's name says nothing here: its first 64 KiB do, and for a compressed file those of what is
in it. Text that is not plain is read through a converter, so that readers see UTF-8 with `\n`.
Bytes that cannot be decoded are shown as `\xff`. A UTF-8 byte order mark stays for `formats`.
"""

from __future__ import annotations

import bz2
import codecs
import errno
import gzip
import io
import lzma
import os
import re
import stat
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, NamedTuple, cast

from backports import zstd

from etl.errors import SourceError
from etl.filesystem import DISK, FileSystem, file_id
from etl.settings import Settings

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

__all__ = [
    "HEAD_BYTES",
    "UNREADABLE",
    "Kind",
    "Moved",
    "as_source_error",
    "converted",
    "if_readable",
    "look_at",
    "opened",
    "opened_stream",
    "peeked",
]

HEAD_BYTES = 64 << 10
"""Bytes at the start of a file that say what it is."""

BLOCK_BYTES = 256 << 10
"""Bytes that are converted at a time."""

ALWAYS_EXPANDED = 256 << 20
"""Bytes of text that any compressed file may have, however small it is."""

UNREADABLE = (OSError, EOFError, zlib.error, lzma.LZMAError, zstd.ZstdError)
"""What a file raises that cannot be read, or whose compressed data is cut or broken."""


SAYS_SO = (None, errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.EACCES, errno.EPERM)
"""What an OSError says if a file is not there, is none, or is not ours to read; None is said of
compressed data. Any other says nothing of the file: a disk that fails, too many open files."""


@contextmanager
def if_readable() -> Iterator[None]:
    """Pass over a file that is gone, hidden, cut or broken; raise what says nothing of it.

    Else a file that cannot be read at this moment would be taken for another one.
    """
    try:
        yield
    except UNREADABLE as error:
        if isinstance(error, OSError) and error.errno not in SAYS_SO:
            raise


class Moved(FileNotFoundError):
    """A file has lost its name, or has been cut, since it was found: look again."""


Archive = Literal["", "tar", "zip"]


class Kind(NamedTuple):
    """How a file is read.

    Attributes:
        converted: What it is if reading converts it, such as `compressed`; empty if it is plain.
        binary: What it looks like if that is not text, and the next step; else empty.
        archive: What kind of archive it is, of which `archive.py` reads the files; else empty.
    """

    converted: str = ""
    binary: str = ""
    archive: Archive = ""

    @property
    def plain(self) -> bool:
        """Whether offsets in its text are offsets on disk, so that byte ranges can be queued."""
        return not self.converted

    def check_text(self, name: str) -> None:
        """Raise SourceError if the file of this name is not text."""
        if self.binary:
            raise SourceError(f"{name!r} {self.binary}")

    def check_followed(self, name: str) -> None:
        """Raise SourceError if the file of this name cannot be followed: it is converted."""
        if self.converted:
            raise SourceError(
                f"{name!r} is {self.converted} and cannot be followed; put it without --follow"
            )


@contextmanager
def opened(
    path: Path, files: FileSystem = DISK, *, id: str = ""
) -> Iterator[tuple[BinaryIO, Kind]]:
    r"""Give a file's text, UTF-8 with `\n` at the ends of lines, and how it is read; then close it.

    Compressed data that is cut or broken is an error when it is read, not here; see
    `as_source_error`.

    Args:
        path: The file.
        files: Where it is.
        id: What it must be, if that is known.

    Raises:
        Moved: If it is another file.
        OSError: If the file cannot be opened.
    """
    with ExitStack() as stack:
        file = stack.enter_context(files.open(path))
        status = files.fstat(file)
        if id and file_id(status) != id:
            raise Moved(errno.ENOENT, "it is another file now")
        head = files.pread(file, HEAD_BYTES, 0)
        yield stack.enter_context(converted(file, head, status.st_size))


@contextmanager
def converted(file: BinaryIO, head: bytes, size: int) -> Iterator[tuple[BinaryIO, Kind]]:
    r"""Give the text of an open file, UTF-8 with `\n` at the ends of lines, and how it is read.

    Args:
        file: The file, at its beginning.
        head: Its first bytes, at most `HEAD_BYTES`.
        size: Its bytes.
    """
    with ExitStack() as stack:
        if compression := _compression_of(head):
            unpacked = stack.enter_context(closing(compression.open(file)))
            file = cast("BinaryIO", _Expanding(unpacked, size))
            head = _head_of(file)
        yield _as_text(file, head, compression)


@contextmanager
def opened_stream(file: BinaryIO, size: int) -> Iterator[tuple[BinaryIO, Kind]]:
    """Give the text of what can only be read on, such as a file in an archive; see `opened`.

    Args:
        file: Where it is read.
        size: Bytes of it, compressed as it may be.
    """
    with ExitStack() as stack:
        head, file = peeked(file, HEAD_BYTES)
        if compression := _compression_of(head):
            unpacked = stack.enter_context(closing(compression.open(file)))
            head, file = peeked(cast("BinaryIO", _Expanding(unpacked, size)), HEAD_BYTES)
        yield _as_text(file, head, compression)


def peeked(file: BinaryIO, size: int) -> tuple[bytes, BinaryIO]:
    """Return the first bytes of what can only be read on, and what reads it with them."""
    head = b""
    with suppress(*UNREADABLE):  # a place that is damaged is met again
        while len(head) < size and (data := file.read(size - len(head))):
            head += data
    return head, cast("BinaryIO", _Rejoined(head, file))


def _as_text(
    file: BinaryIO, head: bytes, compression: _Compression | None
) -> tuple[BinaryIO, Kind]:
    """Return the text of a file that begins so, and how it is read."""
    encoding = _encoding_of(head)
    binary = "" if encoding else _binary(head, compression)
    if encoding:
        head = head.decode(encoding, "backslashreplace").encode()
    has_cr_ends = b"\r" in head[:-1] and b"\n" not in head  # the last one may be half a CRLF
    converted = "compressed" if compression else ""
    if encoding or has_cr_ends:
        converted = converted or (f"{encoding} text" if encoding else "text with CR line ends")
        converter = _Converter(file, encoding, has_cr_ends=has_cr_ends)
        file = cast("BinaryIO", io.BufferedReader(converter, BLOCK_BYTES))
    archive: Archive = ""
    if binary and head.startswith(TAR_MAGIC, TAR_PLACE):
        archive = "tar"
    elif binary and head.startswith(ZIP_MAGIC) and not compression:
        archive = "zip"
    return file, Kind("an archive" if archive else converted, binary, archive)


def look_at(path: Path, files: FileSystem = DISK) -> Kind:
    """Return how a file is read; plain for a pipe, and for a file that cannot be opened."""
    with suppress(OSError):
        if stat.S_ISREG(files.stat(path).st_mode):
            with opened(path, files) as (_, kind):
                return kind
    return Kind()


class _Compression(NamedTuple):
    """A compression, how its data begins, and what opens it."""

    name: str
    magic: re.Pattern[bytes]
    open: Callable[[Any], Any]


_COMPRESSIONS = (
    _Compression("gzip", re.compile(rb"\x1f\x8b\x08"), gzip.open),
    # Parallel compressors begin with a frame that is skipped.
    _Compression("zstandard", re.compile(rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18"), zstd.open),
    # A line may begin with BZh; the first block, or the end of no data, follows it.
    _Compression("bzip2", re.compile(rb"BZh[1-9](1AY&SY|\x17\x72\x45\x38\x50\x90)"), bz2.open),
    _Compression("xz", re.compile(rb"\xfd7zXZ\0"), lzma.open),
)


def _compression_of(head: bytes) -> _Compression | None:
    return next((one for one in _COMPRESSIONS if one.magic.match(head)), None)


def _head_of(file: BinaryIO) -> bytes:
    """Return the first bytes of what is in a compressed file, or those that can be read."""
    head = b""
    with if_readable():  # after an error of the disk it could not be read from its start again
        while data := file.read1(HEAD_BYTES - len(head)):  # type: ignore[attr-defined]
            head += data
    file.seek(0)
    return head


def _encoding_of(head: bytes) -> str:
    """Return the encoding that a byte order mark says, or nothing for bytes as they are."""
    if head.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):  # the first begins as UTF-16's
        return "UTF-32"
    return "UTF-16" if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else ""


_UNPACK = "unpack it and name the files in it"
_EXPORT = "export it as text, such as one JSON object per line"
_OTHER = "name a text file"

ZIP_MAGIC = (b"PK\3\4", b"PK\5\6", b"PK\7\x08")
TAR_MAGIC, TAR_PLACE = (b"ustar\0", b"ustar  \0"), 257

_BINARY: tuple[tuple[str, int, tuple[bytes, ...], str], ...] = (
    ("a ZIP or JAR archive", 0, ZIP_MAGIC, _UNPACK),
    ("a tar archive", TAR_PLACE, TAR_MAGIC, _UNPACK),
    ("a 7z archive", 0, (b"7z\xbc\xaf\x27\x1c",), _UNPACK),
    ("a RAR archive", 0, (b"Rar!\x1a\7",), _UNPACK),
    ("LZ4 data", 0, (b"\4\x22\x4d\x18",), "decompress it with lz4"),
    ("data of `compress`", 0, (b"\x1f\x9d",), "decompress it with gunzip"),
    ("a systemd journal", 0, (b"LPKSHHRH",), "name it as a URL: journald:///path/of/it"),
    ("a Windows event log", 0, (b"ElfFile\0",), _EXPORT),
    ("a packet capture", 0, (b"\xd4\xc3\xb2\xa1", b"\xa1\xb2\xc3\xd4"), _EXPORT),
    ("a packet capture", 0, (b"\x4d\x3c\xb2\xa1", b"\xa1\xb2\x3c\x4d"), _EXPORT),
    ("a packet capture", 8, (b"\x4d\x3c\x2b\x1a", b"\x1a\x2b\x3c\x4d"), _EXPORT),
    ("a Parquet file", 0, (b"PAR1\x15",), _EXPORT),
    ("an Arrow file", 0, (b"ARROW1\0\0",), _EXPORT),
    ("an Avro file", 0, (b"Obj\1",), _EXPORT),
    ("an SQLite database", 0, (b"SQLite format 3\0",), _EXPORT),
    ("a PDF document", 0, (b"%PDF-",), _EXPORT),
    ("an ELF program", 0, (b"\x7fELF",), _OTHER),
    ("a Windows program", 0, (b"MZ\x90\0",), _OTHER),
    ("a Java class or a macOS program", 0, (b"\xca\xfe\xba\xbe", b"\xcf\xfa\xed\xfe"), _OTHER),
    ("a PNG image", 0, (b"\x89PNG\r\n\x1a\n",), _OTHER),
    ("a JPEG image", 0, (b"\xff\xd8\xff",), _OTHER),
    ("a GIF image", 0, (b"GIF87a", b"GIF89a"), _OTHER),
)
"""What a file that is not text looks like, where in it which bytes are, and the next step.

A line of text may begin with the shorter names, so more than those is asked for.
"""

_CONTROLS = bytes({*range(1, 0x20), 0x7F} - set(b"\t\n\r\f\x1b"))
"""Bytes that text has few of. NUL is none of them: a crash leaves it in logs."""


def _binary(head: bytes, compression: _Compression | None) -> str:
    """Return what a file looks like if it is not text, and the next step, by its first bytes."""
    inside = f", compressed with {compression.name}" if compression else ""
    for what, offset, magic, hint in _BINARY:
        if head.startswith(magic, offset):
            return f"looks like {what}{inside}, not like text; {hint}"
    if compression and (twice := _compression_of(head)):
        return f"looks like {twice.name} data{inside}, not like text; decompress it once"
    text = head.replace(b"\0", b"")
    if not text and len(head) == HEAD_BYTES:
        return (
            f"looks like a sparse file{inside}, not like text: it begins with NUL bytes; {_OTHER}"
        )
    controls = len(text) - len(text.translate(None, _CONTROLS))
    foreign = len(text) - len(text.decode("utf-8", "ignore").encode())  # also of Latin 1
    is_noise = controls > 0.05 * len(text) and foreign > 0.1 * len(text)
    if is_noise or controls > 0.3 * len(text):
        share = f"{controls / len(text):.0%} of its first bytes are control characters"
        return f"looks like binary data{inside}, not like text: {share}; {_OTHER}"
    return ""


class _Expanding(io.RawIOBase):
    """The text of a compressed file, which must not be out of all proportion to its size.

    What comes before a place that is damaged is read whole; reading on then fails.
    """

    def __init__(self, file: Any, size: int) -> None:
        self._file = file
        self._limit = max(ALWAYS_EXPANDED, size * Settings.max_expansion)
        self._read = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to an offset; back means to read from the start."""
        self._read = offset
        place: int = self._file.seek(offset, whence)
        return place

    def tell(self) -> int:
        place: int = self._file.tell()
        return place

    def read(self, size: int = -1) -> bytes:
        """Return so many bytes, or all that are left."""
        parts: list[bytes] = []
        try:
            while size and (part := self.read1(size)):
                parts.append(part)
                size -= len(part) if size > 0 else 0
        except UNREADABLE:
            if not parts:
                raise
        return b"".join(parts)

    def read1(self, size: int = -1) -> bytes:
        """Return what can be had with one read of the file."""
        data: bytes = self._file.read1(size)
        self._read += len(data)
        if self._read > self._limit:
            raise OSError(
                f"its text is more than {Settings.max_expansion:,} times as long as the file "
                f"({self._read:,} bytes so far); if that is right, decompress it yourself"
            )
        return data


class _Rejoined(io.RawIOBase):
    """What was read of a file, and then the file: one that cannot go back."""

    def __init__(self, head: bytes, file: BinaryIO) -> None:
        self._head = head
        self._file = file

    def readable(self) -> bool:
        return True

    def read(self, size: int = BLOCK_BYTES) -> bytes:
        """Return at most so many bytes; none only at the end."""
        part, self._head = self._head[:size], self._head[size:]
        return part or self._file.read(size)


class _Converter(io.RawIOBase):
    r"""A file's text as UTF-8 with `\n` at the ends of lines; seeking reads it from its start."""

    def __init__(self, file: BinaryIO, encoding: str, *, has_cr_ends: bool) -> None:
        self._file = file
        self._decoder = encoding and codecs.getincrementaldecoder(encoding)("backslashreplace")
        self._has_cr_ends = has_cr_ends
        self._ready = b""
        self._place = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to an offset from the start, or to the end of the text if it is shorter."""
        if whence != os.SEEK_SET:
            raise io.UnsupportedOperation("only offsets from the start can be sought")
        self._file.seek(0)
        if self._decoder:
            self._decoder.reset()
        self._ready, self._place = b"", 0
        while self._place < offset and self.read(min(BLOCK_BYTES, offset - self._place)):
            pass
        return self._place

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Fill a buffer with what comes next; return how many bytes, 0 at the end."""
        data = b"more"
        while not self._ready and data:
            data = self._file.read(BLOCK_BYTES)
            text = self._decoder.decode(data, not data).encode() if self._decoder else data
            self._ready = text.replace(b"\r", b"\n") if self._has_cr_ends else text
        with memoryview(buffer) as view:
            part = self._ready[: len(view)]
            view[: len(part)] = part
        self._ready = self._ready[len(part) :]
        self._place += len(part)
        return len(part)


@contextmanager
def as_source_error(name: str) -> Iterator[None]:
    """Raise what a file raises that cannot be read as a SourceError."""
    try:
        yield
    except UNREADABLE as error:
        reason = getattr(error, "strerror", None)
        how_far = "" if reason else " to its end"  # compressed data is, up to where it is damaged
        raise SourceError(f"{name!r} cannot be read{how_far}: {reason or error}") from error
