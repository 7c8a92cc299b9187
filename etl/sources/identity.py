"""Which file is it? A file is known by what it is, not by its name, which rotation changes.

A checkpoint keeps the device and inode of the file that was read, and a signature of its text:
a digest of the first bytes, and of those before the offset to which it was read. The first says
where to look, the second whether it is the one. So a file is found under another name, in a copy,
and in a compressed copy; and a file that was cut, or has got the inode of one that was deleted,
is taken for another one.

`places` says what is to be read for a path: first what is left of files that had its name
before, then those that had it while nobody looked, then the one that has it now.
"""

from __future__ import annotations

import copy
import errno
import hashlib
import logging
import os
import re
import stat
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

from etl.errors import SourceLocked
from etl.filesystem import DISK, FileSystem, file_id
from etl.queue import Checkpoint
from etl.records.batch import read_exactly
from etl.sources.opening import Moved, if_readable, opened

__all__ = [
    "MAX_LOOKS",
    "MAX_SEARCHED",
    "Claims",
    "Known",
    "Place",
    "PlainText",
    "TextSignature",
    "ids_in",
    "is_file_of",
    "key_of",
    "names_before",
    "places",
    "signature_of",
    "text_signature",
    "where_is",
]

log = logging.getLogger("etl")

SIGNED_BYTES = 4096
"""Bytes at the start of a file, and before the offset, that make its signature."""

LINE_END_BYTES = 64 << 10
"""Bytes of a longer piece of a file at whose end the last line break is looked for."""

MAX_SEARCHED = 1_000
"""Files of a folder that are searched for a text."""

MAX_LOOKS = 8
"""How often a folder is looked through again as files were renamed in the meantime."""

Known = Callable[[Sequence[str], str], Sequence[Checkpoint]]
"""Returns the checkpoints of some sources, and those of a file's id, in the order of their files:
`QueueReader.checkpoints`."""


@dataclass(frozen=True, slots=True)
class Place:
    """A file, and from where it is to be read.

    Attributes:
        path: Where it is now.
        start: From where; its offset is 0 for a file of which nothing was read.
        expected: What the store must know of it until then: `start` as it was, or None.
        is_current: Whether it is the one that has the source's name now.
        seen: Its signature when it was found, if nothing of it was read.
        modified: Unix seconds when it was last changed then.
    """

    path: Path
    start: Checkpoint
    expected: Checkpoint | None
    is_current: bool
    seen: str = ""
    modified: float = 0.0

    def check(self, file: BinaryIO, files: FileSystem) -> None:
        """Raise Moved unless an open file is still the one that was found, and was not cut."""
        size = int(self.seen.split(":")[2]) if self.seen else 0
        its = files.fstat(file)
        # what was written to one that was empty may have been cut in between: a copy may have it
        may_be_cut = self.seen and not size and its.st_mtime != self.modified
        if (
            file_id(its) != self.start.file
            or may_be_cut
            or (self.seen and signature_of(file, size, files) != self.seen)
        ):
            raise Moved(errno.ENOENT, "it is another file now, or was cut")


class Claims:
    """The files that are being read for the first time by the sources of one process.

    Until its first lines are put a store knows nothing of a file, and two sources could take it,
    one under its name and one as what had another name before: only one may.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._owners: dict[str, str] = {}

    def take(self, place: Place) -> None:
        """Claim the file of a place.

        Raises:
            SourceLocked: If another source is reading it: the store knows it soon.
        """
        if place.expected is not None:
            return
        with self._lock:
            owner = self._owners.setdefault(place.start.file, place.start.source)
        if owner != place.start.source:
            raise SourceLocked(f"{str(place.path)!r} is being read as {owner!r}")

    def release(self, place: Place) -> None:
        """Give up what was claimed, if anything was."""
        with self._lock:
            if self._owners.get(place.start.file) == place.start.source:
                del self._owners[place.start.file]


def key_of(path: Path) -> str:
    """Return what the checkpoints of a path are stored under; whoever reads it follows a link."""
    return os.path.abspath(path)  # noqa: PTH100


def signature_of(file: BinaryIO, offset: int, files: FileSystem = DISK) -> str:
    """Return the signature of a plain file that was read to an offset."""
    return text_signature(file, offset, files).after(b"", offset)


def text_signature(file: BinaryIO, offset: int, files: FileSystem = DISK) -> TextSignature:
    """Return the signature of a plain file, to read on from an offset."""
    size = min(SIGNED_BYTES, offset)
    head, tail = (files.pread(file, size, start) for start in (0, offset - size))
    return TextSignature(head, tail)


class TextSignature:
    """The signature of a text that is read on, and cannot be read back.

    Args:
        head: Its first bytes up to the offset from which it is read on, at most `SIGNED_BYTES`.
        tail: Those before that offset, as many.
    """

    def __init__(self, head: bytes, tail: bytes) -> None:
        self._head = head[:SIGNED_BYTES]
        self._tail = tail

    def after(self, text: bytes, offset: int) -> str:
        """Return the signature at an offset, the end of a text that was read."""
        if len(self._head) < SIGNED_BYTES:
            self._head += text[: SIGNED_BYTES - len(self._head)]
        self._tail = (self._tail + text[-SIGNED_BYTES:])[-SIGNED_BYTES:]
        size = min(SIGNED_BYTES, offset)
        return f"{_digest(self._head[:size])}:{offset}:{_digest(self._tail[-size:])}"


class PlainText:
    """Reads on in a plain file, as long as nothing of what was read is cut off.

    Args:
        file: An open file.
        offset: From where.
        files: Where it is.
        seen: Its signature when it was found; what was there then must still be there.

    Attributes:
        offset: To where it was read.
    """

    def __init__(self, file: BinaryIO, offset: int, files: FileSystem, *, seen: str = "") -> None:
        self.offset = offset
        self._file, self._files = file, files
        self._signature = text_signature(file, offset, files)
        self._signed, self._last = offset, self._signature.after(b"", offset)
        if not offset:
            seen = seen or signature_of(file, files.fstat(file).st_size, files)
            self._signed, self._last = int(seen.split(":")[2]), seen
        file.seek(offset)

    def signature(self) -> TextSignature:
        """Return the signature of what is before the offset, as it was read once: it may be cut."""
        return copy.copy(self._signature)

    def check(self, signature: str) -> None:
        """Raise Moved unless this is the signature of what is before the offset."""
        if self.offset and signature.count(":") > 1 and self._last != signature:
            raise Moved(errno.ENOENT, "it was cut")

    def read(self, size: int) -> bytes:
        """Return at most so many bytes: if they are many, as many as whole lines have.

        Raises:
            Moved: If the file was cut: what follows is the beginning of something else.
        """
        data = self._file.read(self._of_lines(size))
        if data or self._files.fstat(self._file).st_size < self._signed:
            was_empty = not self._signed and self._files.fstat(self._file).st_size
            if was_empty or signature_of(self._file, self._signed, self._files) != self._last:
                raise Moved(errno.ENOENT, "it was cut, or may have been before anything was read")
            self.offset = self._signed = self.offset + len(data)
            self._last = self._signature.after(data, self.offset)
        return data

    def _of_lines(self, size: int) -> int:
        """Return up to which of so many bytes lines are whole, so that none has to be cut off.

        That would copy the others. It is `size` near the end of the file, and in a long line.
        """
        if size <= LINE_END_BYTES:
            return size
        last = self._files.pread(self._file, LINE_END_BYTES, self.offset + size - LINE_END_BYTES)
        end = last.rfind(b"\n") + 1
        return size - LINE_END_BYTES + end if end and len(last) == LINE_END_BYTES else size


def signature_of_start(file: BinaryIO, size: int = SIGNED_BYTES) -> str:
    """Return the signature of a file that is converted when it is read: a compressed one, ..."""
    return _digest(file.read(size))


def is_file_of(path: Path, checkpoint: Checkpoint, files: FileSystem = DISK) -> bool:
    """Return whether a file is the one that was read to a checkpoint; it may have grown since.

    It also is if it is a copy of it, compressed or not.

    Raises:
        OSError: If the file cannot be read.
    """
    if not checkpoint.offset:
        return checkpoint.file == file_id(files.stat(path))
    size, _, rest = checkpoint.signature.partition(":")
    if not size:
        return False
    with opened(path, files) as (text, kind):
        if kind.plain:
            return ":" in rest and (
                files.fstat(text).st_size >= checkpoint.offset
                and signature_of(text, checkpoint.offset, files) == checkpoint.signature
            )
        if ":" not in rest:  # it was converted, too
            with files.open(path) as raw:
                return signature_of_start(raw, int(size)) == checkpoint.signature
        return _has_signature(text, checkpoint)


def _has_signature(text: BinaryIO, checkpoint: Checkpoint) -> bool:
    """Return whether a text that is converted has the signature of one that was plain."""
    head = text.read(SIGNED_BYTES)
    size = min(SIGNED_BYTES, checkpoint.offset)
    if not checkpoint.signature.startswith(f"{_digest(head[:size])}:"):
        return False
    with if_readable():  # else it is cut there, or broken
        text.seek(checkpoint.offset - size)
        tail = read_exactly(text, size)
        signature = TextSignature(head[:size], tail).after(b"", checkpoint.offset)
        return signature == checkpoint.signature
    return False


def places(
    path: Path, known: Known, files: FileSystem = DISK, *, name: str | None = None
) -> list[Place]:
    """Return what is to be read for a path, in this order; the last is the file that it names.

    Args:
        path: What is read; it need not be there.
        known: Returns checkpoints.
        files: Where it is.
        name: What messages call it; by default the path.
    """
    for _ in range(MAX_LOOKS):
        search = _Search(path, known, files)
        if search.is_as_seen():  # else a file may have been under its new name, or its old one
            break
    if search.lost:
        _say_lost(search.lost, name or str(path), search.real.parent, files.host)
    return search.found


class _Search:
    """One look for what is to be read for a path.

    Attributes:
        found: The places.
        lost: The checkpoint of a file that is nowhere.
        real: Where the path leads.
    """

    def __init__(self, path: Path, known: Known, files: FileSystem) -> None:
        self._key = key = key_of(path)
        self.real = real = files.resolve(path)
        self.found: list[Place] = []
        self.lost: Checkpoint | None = None
        self._path, self._files = path, files
        self._folder: _Folder | None = None
        status = _regular(path, files)
        self._id = file_id(status) if status else ""
        rows = [row for row in known([key, str(real)], "") if row.source in {key, str(real)}]
        last = rows[-1] if rows else None
        mine = _row_of(real, status, known, files) if status else None
        modified = status.st_mtime if status else 0.0
        seen = self._signature(path) if not (mine and mine.offset) else ""
        if last and (rows != [mine] or not last.offset):
            newest = next((row for row in reversed(rows) if row.host == files.host), last)
            self._look_around(rows, newest, mine, known)
        if status:
            numbers = [row.number for row in rows if row.source == key]
            numbers += [one.start.number for one in self.found if one.start.source == key]
            if mine and mine.source == key and not mine.offset and mine.number < max(numbers):
                mine = None  # others were before it: it comes after them
            start = mine or Checkpoint(key, 0, 0, number=max(numbers, default=0) + 1)
            start = replace(start, path=str(real), file=self._id, host=files.host)
            place = Place(real, start, mine, is_current=True, seen=seen, modified=modified)
            self.found.append(place)

    def _look_around(
        self,
        rows: Sequence[Checkpoint],
        newest: Checkpoint,
        mine: Checkpoint | None,
        known: Known,
    ) -> None:
        """Find what is left of files that had the name, and those that had it while nobody looked.

        Args:
            rows: The source's checkpoints.
            newest: The last of them that is of this machine.
            mine: That of the file that has the name.
            known: Returns checkpoints.
        """
        parents = [self.real.parent, *([Path(newest.path).parent] if newest.path else [])]
        self._folder = folder = _Folder(parents, self._files, but=self._id)
        found = _left_over(rows, mine, folder, known)
        # of a file that is only known to be there, all may be in a copy
        if not (mine and mine.offset):
            if newest.offset and not any(place.start == newest for place in found):
                if at := folder.find_text(newest):
                    found.append(Place(at, newest, newest, is_current=False))
                elif self._id:
                    folder.check()
                    self.lost = newest
            folder.check()
            current = [Path(self._key), self.real]
            unseen = _unseen(newest, current, folder, known)
            first = rows[-1].number + 1
            found += [
                Place(at, Checkpoint(self._key, 0, 0, number=number), None, is_current=False)
                for number, at in enumerate(unseen, first)
            ]
        # Of one of which nothing was read only the id is known, which a later copy may have got.
        found.sort(key=lambda place: (not place.start.offset, *folder.age(place)))
        self.found = [self._as_found(place, folder) for place in found]

    def _as_found(self, place: Place, folder: _Folder) -> Place:
        """Return a place with what is known now of its file."""
        at, host = place.path, self._files.host
        start = replace(place.start, path=str(at), file=folder.id_of(at), host=host)
        seen = "" if start.offset else self._signature(at)
        return replace(place, start=start, seen=seen, modified=folder.status_of(at).st_mtime)

    def _signature(self, path: Path) -> str:
        """Return the signature of all that a file has now."""
        with if_readable(), self._files.open(path) as file:
            return signature_of(file, self._files.fstat(file).st_size, self._files)
        return ""

    def is_as_seen(self) -> bool:
        """Return whether the names are still those of the same files."""
        status = _regular(self._path, self._files)
        same = self._id == (file_id(status) if status else "")
        return same and (self._folder is None or self._folder.is_as_seen())


def _left_over(
    rows: Iterable[Checkpoint], mine: Checkpoint | None, folder: _Folder, known: Known
) -> list[Place]:
    """Return the files that had a source's name, and have grown since they were read.

    Of two checkpoints of one file, the furthest counts: the one of which nothing was read may be
    that of a file that is gone, and whose inode a copy has got.
    """
    grown = [(row, at) for row in rows if row != mine and (at := folder.find_id(row))]
    return [
        Place(at, row, row, is_current=False)
        for row, at in grown
        if row.offset or _row_of(at, folder.status_of(at), known, folder.files) == row
    ]


def _unseen(
    newest: Checkpoint, current: Sequence[Path], folder: _Folder, known: Known
) -> list[Path]:
    """Return the files that had a source's name after its newest checkpoint, and were never read.

    Args:
        newest: The checkpoint.
        current: The source's path, as it was named and where it leads.
        folder: Where they are.
        known: Returns checkpoints.
    """
    return [
        at
        for at, status in folder.since(newest, current)
        if _row_of(at, status, known, folder.files) is None and not _is_packed(at, folder.files)
    ]


def _is_packed(path: Path, files: FileSystem) -> bool:
    """Return whether a file is a compressed copy, perhaps not yet a whole one, of one beside it."""
    plain = path.with_name(re.sub(f"{_COMPRESSED}$", "", path.name))
    if plain == path or _regular(plain, files) is None:
        return False
    with if_readable(), files.open(plain) as file, opened(path, files) as (text, _):
        head = text.read(SIGNED_BYTES)
        return files.pread(file, len(head), 0) == head
    return True


def where_is(checkpoint: Checkpoint, files: FileSystem = DISK) -> Path | None:
    """Return where the file of a checkpoint is, whatever its name; None if nowhere."""
    path = Path(checkpoint.path or checkpoint.source)
    with if_readable():
        if is_file_of(path, checkpoint, files):
            return path
    for _ in range(MAX_LOOKS):
        folder = _Folder([path.parent], files, but="")
        if (found := folder.find_text(checkpoint)) or folder.is_as_seen():
            return found
    return None


def ids_in(folder: Path, files: FileSystem) -> dict[str, Path]:
    """Return the files of a folder by their ids."""
    return _Folder([folder], files, but="").names()


def _regular(path: Path, files: FileSystem) -> os.stat_result | None:
    """Return what is known of a file; None if it is not there, or no regular one."""
    with if_readable():
        if stat.S_ISREG((status := files.stat(path)).st_mode):
            return status
    return None


def _say_lost(row: Checkpoint, name: str, folder: Path, host: str) -> None:
    """Say that what was written to a file after it was read cannot be found."""
    where, if_same = "", ""
    if row.host not in ("", host):  # it may be a file of that machine, which has nothing to do here
        where, if_same = f" on {row.host!r}", "if that was this machine, "
    log.warning(
        "%r was read to byte %s%s, and is another file now; %swhat was written to it after that is "
        "not in %r: it is lost, unless it is put from elsewhere",
        name,
        f"{row.offset:,}",
        where,
        if_same,
        str(folder),
    )


def _row_of(
    path: Path, status: os.stat_result, known: Known, files: FileSystem
) -> Checkpoint | None:
    """Return the checkpoint of a file, the furthest of those that are its."""
    rows = known(names_before(path), file_id(status))
    for row in sorted(rows, key=lambda row: (row.offset, row.number), reverse=True):
        with if_readable():
            if is_file_of(path, row, files):
                return row
    return None


def names_before(path: Path) -> list[str]:
    """Return a path and those that it may have had before it was rotated."""
    names = [str(path)]
    while (shorter := _SUFFIX.sub("", names[-1])) != names[-1]:
        names.append(shorter)
    dated = _DATE_INSIDE.sub(r"\g<suffix>", str(path))
    return list(dict.fromkeys([*names, dated]))


_COMPRESSED = r"\.(?:gz|zst|xz|bz2)"
_STAMP = r"[._@~-][0-9][0-9TZ:._-]*"
_SUFFIX = re.compile(rf"(?<=[^/])(?:{_COMPRESSED}|{_STAMP}|\.(?:old|bak|save|prev))$")
_DATE_INSIDE = re.compile(rf"{_STAMP}(?P<suffix>\.[a-z]+)(?:{_COMPRESSED})?$")


class _Folder:
    """The files of some folders, each under one name, but for one of them.

    Args:
        folders: Which.
        files: Where they are.
        but: The id of a file that is left out.
    """

    def __init__(self, folders: Iterable[Path], files: FileSystem, *, but: str) -> None:
        self.files = files
        self._folders = list(dict.fromkeys(folders))
        self._but = but
        self._errors: list[OSError] = []
        self._by_id: dict[str, tuple[Path, os.stat_result]] = {}
        for folder in self._folders:
            with if_readable():
                for path in sorted(folder / name for name in files.names(folder)):
                    try:
                        status = _regular(path, files)
                    except OSError as error:
                        self._errors.append(error)
                        continue
                    if status:
                        self._by_id.setdefault(file_id(status), (path, status))
        self._by_id.pop(but, None)

    def is_as_seen(self) -> bool:
        """Return whether the names are still those of the same files."""
        now = _Folder(self._folders, self.files, but=self._but)
        return self.names() == now.names()

    def names(self) -> dict[str, Path]:
        """Return the files by their ids."""
        return {id: path for id, (path, _) in self._by_id.items()}

    def id_of(self, path: Path) -> str:
        """Return the id of a file that was found."""
        return next(id for id, (one, _) in self._by_id.items() if one == path)

    def status_of(self, path: Path) -> os.stat_result:
        """Return what is known of a file that was found."""
        return self._by_id[self.id_of(path)][1]

    def find_id(self, row: Checkpoint) -> Path | None:
        """Return where the file of a checkpoint is, by its id, if it has grown."""
        path, status = self._by_id.get(row.file, (None, None))
        if path and status and status.st_size > row.offset:
            with if_readable():
                return path if is_file_of(path, row, self.files) else None
        return None

    def find_text(self, row: Checkpoint) -> Path | None:
        """Return where a file with the text of a checkpoint is, whatever its name."""
        last = Path(row.path or row.source).name

        def unlike(id: str) -> tuple[bool, bool, int]:
            name = self._by_id[id][0].name
            return id != row.file, not name.startswith(last), len(name)

        for id in sorted(self._by_id, key=unlike)[:MAX_SEARCHED]:
            path, _ = self._by_id[id]
            try:
                with if_readable():
                    if is_file_of(path, row, self.files):
                        return path
            except OSError as error:
                self._errors.append(error)
        return None

    def check(self) -> None:
        """Raise the first error of files that could not be looked at: one may be the one."""
        if self._errors:
            raise self._errors[0]

    def since(
        self, row: Checkpoint, current: Sequence[Path]
    ) -> Iterator[tuple[Path, os.stat_result]]:
        """Yield the files that had the name of a source after the one of a checkpoint."""
        names = {str(path) for path in current}
        like = {_without_digits(path.name) for path in (*current[1:], Path(row.path))}
        like = {name for name in like if "#" in name}
        later = [
            (path, status)
            for path, status in self._by_id.values()
            if status.st_mtime >= row.modified
            and (names.intersection(names_before(path)) or _without_digits(path.name) in like)
        ]
        yield from sorted(later, key=lambda item: (item[1].st_mtime_ns, _rank(item[0].name)))

    def age(self, place: Place) -> tuple[Any, ...]:
        """Return what sorts files of which nothing was read, the oldest first."""
        if place.start.offset:
            return ()
        return self.status_of(place.path).st_mtime_ns, _rank(place.path.name)


def _without_digits(name: str) -> str:
    return re.sub(r"[0-9]+", "#", name.removesuffix(".gz"))


def _rank(name: str) -> tuple[int, str]:
    """Return what sorts names of one moment: app.log.2 is older than app.log.1."""
    found = re.search(r"\.([0-9]{1,5})(?:\.[a-z0-9]+)?$", name)
    return (-int(found[1]) if found else 0, name)


def _digest(data: bytes) -> str:
    return f"{len(data)}:{hashlib.sha256(data).hexdigest()[:16]}"
