"""Objects in a bucket, and what else fsspec opens by a URL: s3://, gs://, az://, https://.

An object is put whole and replaced whole, so what its store says of its version (an ETag, a
generation, a time) tells whether it was read. Of a new version that begins with the text that
was read, only what was added is read. A plain object is queued by reference: a worker, on any
machine, asks for a range of its bytes and checks them.

Credentials come from where each store's client looks for them: the environment, its
configuration, the role of the machine. What a URL has of its own (a password, a signature) is
not kept, so an object of such a URL is queued by content.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, BinaryIO, cast
from urllib.parse import urlsplit

from etl.errors import EtlError, SourceChanged, SourceError, SourceUnavailable, UsageError
from etl.queue import Checkpoint
from etl.queue.urls import without_secrets
from etl.records.batch import Reference, read_exactly
from etl.records.checksum import crc32
from etl.records.context import AS_FOUND, ReadOptions
from etl.sources.chunks import CHUNK_BYTES, Chunks, SourceChunk
from etl.sources.files import nothing_known, sample_of
from etl.sources.framing import whole_records
from etl.sources.identity import SIGNED_BYTES, Known, TextSignature
from etl.sources.opening import HEAD_BYTES, Kind, converted

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

__all__ = ["ObjectSource", "is_url", "objects_of", "read_range", "text_of"]

BLOCK_BYTES = 4 << 20
"""Bytes that are asked for at a time, at least."""

ENDED = " end"
"""Stands behind the signature of an object that was read to its end."""

_URL = re.compile(r"(?!file:)[a-z][a-z0-9+.-]+://", re.IGNORECASE)
_VERSIONS = ("versionid", "generation", "etag", "md5hash", "content-md5", "digest")
_TIMES = ("lastmodified", "last-modified", "last_modified", "updated", "mtime", "created")


def is_url(name: str) -> bool:
    """Return whether a name is the URL of an object."""
    return bool(_URL.match(name))


@dataclass(frozen=True, slots=True)
class ObjectSource:
    """An object that is read to its end.

    Attributes:
        url: Where it is.
        size: Its bytes when it was found; None if its server does not tell.
        options: How its lines are read.
        by_reference: Queue byte ranges of it rather than its text.
        chunk: Bytes of text in a batch.
    """

    url: str
    size: int | None
    options: ReadOptions = AS_FOUND
    by_reference: bool = True
    chunk: int = CHUNK_BYTES

    @property
    def name(self) -> str:
        """What lines say they come from: the URL without what must not be kept."""
        return without_secrets(self.url)

    @property
    def key(self) -> str:
        """What its checkpoints are stored under."""
        return self.name

    def read(self, known: Known = nothing_known, *, reread: bool = False) -> Iterator[SourceChunk]:
        """Yield batches of what was not read before.

        Args:
            known: Returns the checkpoints of a store.
            reread: Read all of it, even if it was read before.

        Raises:
            SourceError: If it cannot be read, or is not text.
        """
        last = next(iter(known([self.key], "")[-1:]), None)
        with _as_source_error(self.url):
            found = _Object.of(self.url)
            is_read = last and last.file == found.version and last.signature.endswith(ENDED)
            if not is_read or reread:
                with found.text() as (file, kind):
                    kind.check_text(self.name)
                    yield from self._read(found, file, last, plain=kind.plain, reread=reread)

    def head(self, size: int) -> tuple[bytes, float]:
        """Return the first bytes of its text, and when it was last changed, in Unix seconds.

        Raises:
            SourceError: If it cannot be read, or is not text.
        """
        with _as_source_error(self.url):
            found = _Object.of(self.url)
            with found.text() as (file, kind):
                kind.check_text(self.name)
                return read_exactly(file, size), found.modified

    def _read(
        self, found: _Object, file: BinaryIO, last: Checkpoint | None, *, plain: bool, reread: bool
    ) -> Iterator[SourceChunk]:
        start, expected = last or Checkpoint(self.key, 0, 0, number=1), last
        if last and reread:
            start = replace(last, offset=0, line_number=0, signature="")
        elif last and _signature(file, last.offset) != last.signature.removesuffix(ENDED):
            start, expected = Checkpoint(self.key, 0, 0, number=last.number + 1), None
        start = replace(start, path=self.name, file=found.version)
        sample = sample_of(file, self.options, found.modified, offset=start.offset)
        chunks = Chunks(
            start,
            expected,
            name=self.name,
            sample=sample,
            signature=_text_signature(file, start.offset).after,
            by_reference=self.by_reference and plain and found.has_ranges and self.url == self.name,
        )
        file.seek(start.offset)
        data = iter(lambda: file.read(self.chunk), b"")
        for records in whole_records(data, sample):
            yield chunks.of(records, modified=found.modified)
        end = chunks.of(b"", modified=found.modified)
        assert end.checkpoint  # noqa: S101 - it has a source
        signature = end.checkpoint.signature + ENDED
        yield end._replace(checkpoint=replace(end.checkpoint, signature=signature))


def objects_of(name: str, options: ReadOptions) -> tuple[list[ObjectSource], int]:
    """Return the objects that a URL stands for, and how many hidden ones were passed over.

    It stands for one object, for those that fit a glob, or for all below a folder.

    Raises:
        SourceError: If there is none, or its store cannot be asked.
    """
    from fsspec.core import has_magic

    with _as_source_error(name):
        system, path = _system_of(name)
        if _is_http(system):  # a page that lists files is no folder
            return [ObjectSource(name, system.info(path)["size"], options)], 0
        infos: Mapping[str, Any]
        if has_magic(path):
            infos = system.glob(path, detail=True)
        elif system.isdir(path):
            infos = system.find(path, detail=True)
        else:
            infos = {path: system.info(path)}
        every = [one for one in sorted(infos) if infos[one]["type"] == "file" and one[-1] != "/"]
        below = "" if path in infos or has_magic(path) else path.rstrip("/")
        named = [one for one in every if not (below and "/." in one.removeprefix(below))]
        if not named:
            what = "matches" if has_magic(path) else "is below"
            raise SourceError(f"no object {what} {without_secrets(name)!r}")
        found = [
            ObjectSource(system.unstrip_protocol(one), infos[one]["size"], options) for one in named
        ]
        return found, len(every) - len(named)


def read_range(reference: Reference) -> bytes:
    """Return the bytes that a reference names.

    Raises:
        SourceChanged: If they are not those that were queued.
        SourceUnavailable: If they cannot be read.
    """
    try:
        system, path = _system_of(reference.path)
        data = bytes(system.cat_file(path, start=reference.start, end=reference.stop))
    except Exception as error:
        raise SourceUnavailable(f"{reference.path!r} cannot be read: {error}") from error
    if crc32(data) != reference.checksum:
        raise SourceChanged(
            f"bytes {reference.start} to {reference.stop} of {reference.path!r} are not the bytes "
            "that were queued"
        )
    return data


@contextmanager
def text_of(checkpoint: Checkpoint) -> Iterator[BinaryIO]:
    """Give the text of an object that was read; then close it.

    Raises:
        SourceChanged: If there is another version of it now.
        SourceError: If it cannot be read.
    """
    with _as_source_error(checkpoint.source):
        found = _Object.of(checkpoint.source)
        if found.version != checkpoint.file:
            raise SourceChanged(f"{checkpoint.source!r} is not the object that was read")
        with found.text() as (file, _):
            yield file


@dataclass(frozen=True, slots=True)
class _Object:
    """What a store says of an object."""

    system: AbstractFileSystem
    path: str
    info: Mapping[str, Any]

    @classmethod
    def of(cls, url: str) -> _Object:
        system, path = _system_of(url)
        info = system.info(path)
        return cls(system, path, {key.lower(): value for key, value in info.items()})

    @property
    def version(self) -> str:
        """What tells this version of it from others, as far as its store says."""
        marks = (self.info.get(key) for key in (*_VERSIONS, *_TIMES))
        mark = next((mark for mark in marks if mark and mark != "null"), "")
        return f"{mark} {self.info['size']}"

    @property
    def modified(self) -> float:
        """Unix seconds when it was last changed; 0 if its store does not say."""
        time = next((self.info[key] for key in _TIMES if self.info.get(key)), 0.0)
        if isinstance(time, str):
            from email.utils import parsedate_to_datetime  # which most runs do without

            is_iso = time[:4].isdigit()
            time = datetime.fromisoformat(time) if is_iso else parsedate_to_datetime(time)
        return time.timestamp() if isinstance(time, datetime) else float(time)

    @property
    def has_ranges(self) -> bool:
        """Whether its store answers with a range of its bytes."""
        return not _is_http(self.system) or bool(self.info.get("partial"))

    @contextmanager
    def text(self) -> Iterator[tuple[BinaryIO, Kind]]:
        """Give its text, and how it is read; then close it."""
        with self._file() as file:
            head = read_exactly(file, HEAD_BYTES)
            file.seek(0)
            with converted(file, head, self.info["size"] or 0) as text:
                yield text

    @contextmanager
    def _file(self) -> Iterator[BinaryIO]:
        if self.has_ranges:
            with self.system.open(self.path, "rb", block_size=BLOCK_BYTES) as file:
                yield cast("BinaryIO", file)
        else:  # which can be read in one go only
            with (
                tempfile.TemporaryFile() as copy,
                self.system.open(self.path, "rb", block_size=0) as file,
            ):
                shutil.copyfileobj(file, copy, BLOCK_BYTES)
                copy.seek(0)
                yield cast("BinaryIO", copy)


def _system_of(url: str) -> tuple[AbstractFileSystem, str]:
    """Return what opens a URL, and the path in it."""
    try:
        from fsspec.core import url_to_fs

        system, path = url_to_fs(url)
    except ImportError as error:
        raise UsageError(
            f"{without_secrets(url)!r} cannot be read: {error}; for S3 and HTTP: "
            "pip install 'etl[remote]'"
        ) from error
    except ValueError as error:  # of a protocol that it does not know
        raise UsageError(f"{without_secrets(url)!r} cannot be read: {error}") from error
    return system, path


def _is_http(system: AbstractFileSystem) -> bool:
    return "http" in system.protocol


def _text_signature(file: BinaryIO, offset: int) -> TextSignature:
    size = min(SIGNED_BYTES, offset)
    file.seek(0)
    head = read_exactly(file, size)
    file.seek(offset - size)
    return TextSignature(head, read_exactly(file, size))


def _signature(file: BinaryIO, offset: int) -> str:
    return _text_signature(file, offset).after(b"", offset)


@contextmanager
def _as_source_error(url: str) -> Iterator[None]:
    """Raise what a store's client raises as a SourceError; each has errors of its own."""
    try:
        yield
    except (EtlError, GeneratorExit):
        raise
    except Exception as error:
        cause = error.__cause__
        if isinstance(error, FileNotFoundError) and isinstance(cause, OSError):
            error = cause  # of a server that cannot be reached
        if isinstance(error, FileNotFoundError):
            raise SourceError(f"there is no object {without_secrets(url)!r}") from error
        raise SourceError(f"{without_secrets(url)!r} cannot be read: {_why(error, url)}") from error


def _why(error: Exception, url: str) -> str:
    """Return what a client says, without what must not be shown of the URL."""
    text = str(error) or type(error).__name__
    parts = urlsplit(url)
    for secret in filter(None, (parts.query, parts.password)):
        text = text.replace(secret, "…")
    return text
