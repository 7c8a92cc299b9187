"""Files in an archive, tar or ZIP, read as files beside one another would be.

They are read on, one after another, and never unpacked: a name in an archive is only what lines
say they come from. A file in it is known by the archive's path or id, its name, and a signature of
its text, so that an archive that is read again, with more in it, adds just that.
"""

from __future__ import annotations

import io
import logging
import tarfile
import zipfile
from calendar import timegm
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, NamedTuple, NoReturn, cast

from etl.errors import SourceError
from etl.filesystem import DISK, FileSystem, file_id
from etl.queue import Checkpoint
from etl.records.batch import read_exactly
from etl.records.context import AS_FOUND, ReadOptions
from etl.settings import Settings
from etl.sources.chunks import CHUNK_BYTES, Chunks, SourceChunk
from etl.sources.files import nothing_known
from etl.sources.framing import SAMPLE_BYTES, Sample, whole_records
from etl.sources.identity import SIGNED_BYTES, Known, TextSignature, key_of
from etl.sources.opening import (
    ALWAYS_EXPANDED,
    UNREADABLE,
    Archive,
    as_source_error,
    opened,
    opened_stream,
    peeked,
)
from etl.text import counted

__all__ = ["ArchiveSource"]

log = logging.getLogger("etl")

MAX_NAME = 1_000
"""Characters of a name in an archive; of a longer one, the end is left out."""

LAST_TIME = 253_402_300_799
"""Unix seconds of the end of the year 9999; what is later, or before 1970, is no time."""

PIECE = 4096
"""Bytes that are read of a file at a time: where the archive is damaged, a piece is lost whole."""

ENCRYPTED = 1
"""Bit of the flags of a file in a ZIP archive."""

DAMAGED = (
    *UNREADABLE,
    tarfile.TarError,
    zipfile.BadZipFile,
    NotImplementedError,  # a compression of ZIP that is not known
)
"""What an archive raises that cannot be read, or only in part."""


class _Member(NamedTuple):
    """A file in an archive.

    Attributes:
        name: Its path there.
        size: Bytes of it, as the archive says.
        modified: Unix seconds when it was last changed, as the archive says.
        file: Where it is read.
    """

    name: str
    size: int
    modified: float
    file: BinaryIO


class _AnotherText(Exception):
    """A file in an archive is not the one that was read to a checkpoint: begin again without it."""

    def __init__(self, row: Checkpoint) -> None:
        super().__init__(row.source, row.number)
        self.key, self.number = row.source, row.number


@dataclass(frozen=True, slots=True)
class ArchiveSource:
    """An archive, of which the files are read.

    Attributes:
        name: As the user gave it; lines say they come from `NAME!/PATH`.
        path: Where it is.
        kind: What it is.
        options: How lines are read.
        files: Where it is.
    """

    name: str
    path: Path
    kind: Archive
    options: ReadOptions = AS_FOUND
    files: FileSystem = DISK

    @property
    def key(self) -> str:
        """What the checkpoints of its files begin with."""
        return key_of(self.path)

    @property
    def size(self) -> int:
        """Bytes on disk; 0 if it is not there."""
        try:
            return self.files.stat(self.path).st_size
        except OSError:
            return 0

    def read(self, known: Known = nothing_known, *, reread: bool = False) -> Iterator[SourceChunk]:
        """Yield batches of what was not read before, file by file.

        Args:
            known: Returns the checkpoints of a store.
            reread: Read all of it, even if it was read before.

        Raises:
            SourceError: If it cannot be read, or only in part; what can be read is yielded first.
        """
        others: set[tuple[str, int]] = set()
        with as_source_error(self.name):
            while True:
                try:
                    yield from _Reading(self, known, others, reread=reread).chunks()
                except _AnotherText as found:
                    others.add((found.key, found.number))
                else:
                    return

    def first_bytes(self, size: int) -> tuple[bytes, float]:
        """Return the beginning of the first file that is text, and when it was last changed.

        Raises:
            SourceError: If there is none.
        """
        with as_source_error(self.name), self.members([]) as members:
            for member in members:
                with opened_stream(member.file, member.size) as (text, kind):
                    if not (kind.binary or _is_hidden(member.name)):
                        return read_exactly(text, size), member.modified
        raise SourceError(f"archive {self.name!r} holds no text files")

    @contextmanager
    def members(self, damaged: list[str]) -> Iterator[Iterator[_Member]]:
        """Give the files, each to be read before the next one is asked for.

        Args:
            damaged: Takes what is said of files that cannot be opened, if others can.

        Raises:
            SourceError: If it can only be read up to here.
        """
        with ExitStack() as stack:
            try:
                if self.kind == "zip":
                    raw = stack.enter_context(self.files.open(self.path))
                    archive = stack.enter_context(zipfile.ZipFile(raw))
                    yield _members_of_zip(archive, damaged)
                else:
                    file, _ = stack.enter_context(opened(self.path, self.files))
                    whole = _UpToDamage(file)
                    stream = tarfile.open(fileobj=whole, mode="r|", tarinfo=_Entry)  # noqa: SIM115
                    yield _members_of_tar(stack.enter_context(closing(stream)), whole)
            except DAMAGED as error:
                self.fail(error)

    def fail(self, error: Exception, member: str = "") -> NoReturn:
        """Raise the SourceError for what is wrong with the archive, or with a file in it."""
        if isinstance(error, OSError) and error.errno is not None:
            raise error
        where = f" of {member!r}" if member else ""
        raise SourceError(
            f"{self.name!r} can only be read in part, up to a place{where}: {error}; is it whole?"
        ) from error


class _Reading:
    """One reading of an archive, file by file.

    Args:
        source: The archive.
        known: Returns the checkpoints of a store.
        others: Checkpoints, by source and number, that are those of other texts.
        reread: Read all of it, even if it was read before.
    """

    def __init__(
        self, source: ArchiveSource, known: Known, others: set[tuple[str, int]], *, reread: bool
    ) -> None:
        self._source = source
        self._known = known
        self._others = others
        self._reread = reread
        files = source.files
        self._status = files.stat(source.path)
        self._path, self._id = str(files.resolve(source.path)), file_id(self._status)
        self._limit = max(ALWAYS_EXPANDED, self._status.st_size * Settings.max_expansion)
        self._read_bytes = 0
        self._renamed: dict[str, list[Checkpoint]] = {}  # what was read when it had another name
        for row in known([], self._id):
            place, is_member, name = row.source.partition("!/")
            if is_member and place != source.key:
                self._renamed.setdefault(name, []).append(row)

    def chunks(self) -> Iterator[SourceChunk]:
        """Yield the batches of all files."""
        source, texts = self._source, 0
        skipped = {"hidden": 0, "binary": 0}
        damaged: list[str] = []
        with source.members(damaged) as members:
            for member in members:
                if _is_hidden(member.name):
                    skipped["hidden"] += 1
                    continue
                try:
                    with opened_stream(member.file, member.size) as (text, kind):
                        if kind.binary:
                            skipped["binary"] += 1
                            continue
                        texts += 1
                        yield from self._member(member, text)
                except DAMAGED as error:
                    if source.kind == "tar" or self._read_bytes > self._limit:
                        source.fail(error, member.name)  # what comes after it cannot be found
                    damaged.append(f"{member.name!r}: {error}")
        for why, count in skipped.items():
            if count:
                log.warning("%r: passed over %s: %s", source.name, counted(count, "file"), why)
        if damaged:
            more = f" and {counted(len(damaged) - 1, 'other file')}" if len(damaged) > 1 else ""
            raise SourceError(f"{source.name!r} can only be read in part: {damaged[0]}{more}")
        if not texts:
            raise SourceError(f"archive {source.name!r} holds no text files")

    def _member(self, member: _Member, text: BinaryIO) -> Iterator[SourceChunk]:
        """Yield batches of a file from where it was read to."""
        source = self._source
        key = f"{source.key}!/{member.name}"
        own = [row for row in self._known([key], "") if row.source == key]
        rows = [
            row
            for row in (*own, *self._renamed.get(member.name, ()))
            if (row.source, row.number) not in self._others
        ]
        first, text = peeked(text, SAMPLE_BYTES)
        row = _row_of(first, rows)
        start = row or Checkpoint(key, 0, 0, number=max((one.number for one in own), default=0) + 1)
        if row and self._reread:
            start = replace(start, offset=0, line_number=0, signature="")
        signature = TextSignature(b"", b"")
        if start.offset and not self._is_text_of(start, text, signature):
            raise _AnotherText(start)
        modified = member.modified or self._status.st_mtime
        chunks = Chunks(
            replace(start, path=self._path, file=self._id, host=source.files.host),
            row,
            name=f"{source.name}!/{member.name}",
            sample=Sample(source.options, modified, first, offset=start.offset),
            signature=signature.after,
        )
        data = iter(lambda: self._read(text, CHUNK_BYTES), b"")
        for records in whole_records(data, chunks.sample):
            yield chunks.of(records, modified=modified)

    def _read(self, text: BinaryIO, size: int) -> bytes:
        """Return the next bytes of a text; all of them must not be out of all proportion."""
        parts: list[bytes] = []
        try:
            while size and (part := text.read(size)):
                parts.append(part)
                size -= len(part)
        except UNREADABLE:
            if not parts:
                raise
        data = b"".join(parts)
        self._read_bytes += len(data)
        if self._read_bytes > self._limit:
            raise OSError(
                f"its text is more than {Settings.max_expansion:,} times as long as the archive "
                f"({self._read_bytes:,} bytes so far); if that is right, unpack it yourself"
            )
        return data

    def _is_text_of(self, row: Checkpoint, text: BinaryIO, signature: TextSignature) -> bool:
        """Pass over what was read before; return whether it is the text of the checkpoint."""
        place, found = 0, ""
        while left := row.offset - place:
            data = self._read(text, min(CHUNK_BYTES, left))
            if not data:
                break
            place += len(data)
            found = signature.after(data, place)
        return found == row.signature


def _row_of(first: bytes, rows: list[Checkpoint]) -> Checkpoint | None:
    """Return the checkpoint of a text that begins so, the furthest that there may be."""
    for row in sorted(rows, key=lambda row: row.offset, reverse=True):
        head = first[: min(SIGNED_BYTES, row.offset)]
        begins = TextSignature(head, b"").after(b"", len(head)).split(":")[:2]
        if row.offset and row.signature.split(":")[:2] == begins:
            return row
    return None


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") for part in PurePosixPath(name).parts)


class _Entry(tarfile.TarInfo):
    """An entry of a tar archive, which must not end before its mark of the end."""

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> _Entry:
        """Return the next entry."""
        try:
            return super().fromtarfile(archive)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(f"it ends, or is damaged, at an entry ({error})") from error


class _UpToDamage(io.RawIOBase):
    """A compressed archive, which ends where it is damaged: `tarfile` loses what comes before.

    Attributes:
        error: What is wrong there.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.error: Exception | None = None
        self._file = file

    def read(self, size: int = -1) -> bytes:
        """Return so many bytes, or what there is."""
        try:
            return self._file.read(size)
        except UNREADABLE as error:
            self.error = error
            return b""


class _Content(io.RawIOBase):
    """A file in an archive: what is wrong with it is raised whenever it is read on.

    Args:
        file: Where it is read.
        archive: The archive, if it may end early.
    """

    def __init__(self, file: Any, archive: _UpToDamage | None = None) -> None:
        self._file = file
        self._archive = archive
        self._error: OSError | None = None

    def read(self, size: int = -1) -> bytes:
        """Return at most so many bytes; none only at the end."""
        if self._error is None:
            try:
                data: bytes = self._file.read1(min(size, PIECE) if size >= 0 else PIECE)
                return data
            except DAMAGED as error:
                self._error = OSError(str((self._archive and self._archive.error) or error))
        raise self._error


def _members_of_tar(archive: tarfile.TarFile, whole: _UpToDamage) -> Iterator[_Member]:
    while entry := archive.next():
        archive.members.clear()  # type: ignore[attr-defined] # it would keep all of them
        if entry.isfile() and (file := archive.extractfile(entry)):
            content = cast("BinaryIO", _Content(file, whole))
            yield _Member(_clean(entry.name), entry.size, _time(entry.mtime), content)
    if whole.error:
        raise whole.error


def _members_of_zip(archive: zipfile.ZipFile, damaged: list[str]) -> Iterator[_Member]:
    for entry in archive.infolist():
        if entry.is_dir():
            continue
        name = _clean(entry.filename)
        if entry.flag_bits & ENCRYPTED:
            damaged.append(f"{name!r} is encrypted")
            continue
        try:
            file = archive.open(entry)
        except DAMAGED as error:
            damaged.append(f"{name!r}: {error}")
            continue
        with file:
            modified = 0.0
            with suppress(ValueError, OverflowError):  # a date that is none
                modified = _time(timegm((*entry.date_time, 0, 0, 0)))
            yield _Member(name, entry.compress_size, modified, cast("BinaryIO", _Content(file)))


def _clean(name: str) -> str:
    """Return a name as UTF-8 has it, below the archive and not too long."""
    name = name.encode(errors="backslashreplace").decode().lstrip("/").removeprefix("./")
    return name if len(name) <= MAX_NAME else f"{name[:MAX_NAME]}…"


def _time(seconds: float) -> float:
    """Return the time that an archive says; 0 if it is none."""
    return float(seconds) if 0 <= seconds <= LAST_TIME else 0.0
