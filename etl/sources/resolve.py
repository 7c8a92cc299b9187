"""What a user names as sources: files, archives, globs, folders, URLs, or `-`."""

from __future__ import annotations

import glob
import logging
import threading
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from etl.errors import SourceError, UsageError
from etl.filesystem import file_id
from etl.records import run_record
from etl.records.context import AS_FOUND, ReadOptions
from etl.sources import docker, journal, kafka
from etl.sources.archive import ArchiveSource
from etl.sources.files import FileSource
from etl.sources.follow import FollowSource
from etl.sources.identity import Claims, key_of, names_before
from etl.sources.kafka import KafkaSource
from etl.sources.objects import ObjectSource, is_url, objects_of
from etl.sources.opening import Kind, look_at
from etl.sources.stream import StreamSource
from etl.text import counted

__all__ = ["NewFiles", "Source", "Sources", "passed_over", "resolve_sources"]

log = logging.getLogger("etl")

Source = (
    FileSource
    | ArchiveSource
    | StreamSource
    | FollowSource
    | ObjectSource
    | KafkaSource
    | journal.JournalSource
)


class Sources(list[Source]):
    """Sources in the order in which they are read.

    Attributes:
        skipped: How many files of the folders are not among them: hidden, or written by etl or
            Docker.
        skipped_binary: How many others are not, as they are not text.
    """

    skipped = 0
    skipped_binary = 0


def passed_over(skipped: int, binary: int = 0) -> str:
    """Return in words how many files of folders are not read, and why; nothing for none.

    Args:
        skipped: How many are hidden, or written by etl or Docker.
        binary: How many are not text.
    """
    reasons = {"hidden, or written by etl or Docker": skipped, "binary": binary}
    parts = [f"{counted(count, 'file')}: {why}" for why, count in reasons.items() if count]
    return f"passed over {'; '.join(parts)}" if parts else ""


def resolve_sources(
    names: Iterable[str],
    options: ReadOptions = AS_FOUND,
    *,
    by_reference: bool = True,
    follow: threading.Event | None = None,
    claims: Claims | None = None,
) -> Sources:
    """Return the sources that a user names: files, globs, folders, URLs, or `-` for stdin.

    A folder stands for all files in it, and in folders below it, but for hidden ones and
    those in a run's folder, which etl has written, and binary ones, also archives. What a user
    names itself is read, or refused; an archive stands for the files in it.

    Args:
        names: What the user named.
        options: How their lines are read; by default all is found.
        by_reference: Queue byte ranges of plain files, and offsets of topics, rather than their
            text. Objects are queued by reference in any case: workers anywhere can ask for them.
        follow: If given, files are followed until this is set; they may not be there so far.
        claims: What sources that are read at the same time read for the first time.

    Raises:
        SourceError: If a name stands for nothing that can be read, or for a binary file.
    """
    sources = Sources()
    claims = claims or Claims()
    for name in names:
        if name == "-":
            sources.append(StreamSource(options=options))
            continue
        if name.startswith(kafka.SCHEME):
            sources.append(KafkaSource(name, options, by_reference, follow))
            continue
        if name.startswith(journal.SCHEME):
            sources.append(journal.JournalSource(name, options, follow))
            continue
        if is_url(name):
            if follow is not None:
                raise UsageError(f"{name!r} cannot be followed; put it again when it has grown")
            objects, hidden = objects_of(name, options)
            sources += objects
            sources.skipped += hidden
            continue
        files, skipped, binary = _files(name, may_be_empty=follow is not None)
        sources.skipped += skipped
        sources.skipped_binary += binary
        sources += (
            _of_file(
                name, path, kind, options, follow=follow, by_reference=by_reference, claims=claims
            )
            for path, kind in files.items()
        )
    return _each_once(sources)


def _of_file(
    name: str,
    path: Path,
    kind: Kind,
    options: ReadOptions,
    *,
    by_reference: bool,
    follow: threading.Event | None,
    claims: Claims,
) -> Source:
    """Return what reads a file that a name stands for."""
    if columns := docker.columns_of(path):
        options = replace(options, columns=columns)
    if str(path).encode(errors="ignore").decode() != str(path):
        raise SourceError(f"{str(path)!r} has a name that is not UTF-8; rename the file")
    if kind.archive and follow is None:
        return ArchiveSource(str(path), path, kind.archive, options)
    kind.check_text(str(path))
    if path.exists() and not path.is_file():  # a pipe, or a device
        return StreamSource(name, path.open("rb"), options)
    if follow is None or (kind.converted and path != Path(name)):
        return FileSource(str(path), path, options, by_reference, claims=claims)
    kind.check_followed(str(path))
    return FollowSource(str(path), path, follow, options, ends=_may_grow(name), claims=claims)


def _each_once(sources: Sources) -> Sources:
    """Leave out files that have several names: links are read once.

    A file is read by its own name, but followed by that of the link, which may come to name
    another.
    """
    named: dict[object, Source] = {}
    for source in sources:
        if not isinstance(source, FileSource | ArchiveSource | FollowSource):
            named[source] = source
            continue
        one = file_id(source.path.stat())
        first = named.setdefault(one, source)
        is_better = source.path.is_symlink() == isinstance(source, FollowSource)
        if is_better and source.path.is_symlink() != first.path.is_symlink():  # type: ignore[union-attr]
            named[one] = source
    sources[:] = [source for source in sources if source in named.values()]
    return sources


class NewFiles:
    """Files that appear in folders that are followed, come to match globs, or are named already.

    Args:
        names: What the user named, also what is neither folder nor glob.
        options: How their lines are read.
        stop: Ends the reading of what is followed when set.
        claims: What the sources that are read meanwhile read for the first time.
    """

    def __init__(
        self, names: Iterable[str], options: ReadOptions, stop: threading.Event, claims: Claims
    ) -> None:
        self._names = [name for name in names if _may_grow(name)]
        self._options, self.stop, self._claims = options, stop, claims
        self._followed: set[str] = set()  # ids that the names of sources have had
        self._passed: dict[Path, _State] = {}

    def __bool__(self) -> bool:
        """Whether there can be any."""
        return bool(self._names)

    def look(self, read: Iterable[Source]) -> Iterator[Source]:
        """Yield those that are not read yet.

        A file that was rotated is left to whoever reads the name that it had.

        Args:
            read: The sources that are read now.
        """
        paths = {one.path for one in read if isinstance(one, FileSource | FollowSource)}
        keys = {key_of(path) for path in paths}
        ids = {id for path in paths if (id := _state_of(path).id)}
        self._followed |= ids
        seen: set[str] = set()
        for name in self._names:
            for path in _in_folder(Path(name))[0] if Path(name).is_dir() else _matching(name):
                state = _state_of(path)
                id = state.id
                seen.add(id)
                is_known = path in paths or id in ids or self._passed.get(path) == state
                was_rotated = id in self._followed and keys.intersection(
                    names_before(Path(key_of(path)))
                )
                if not id or is_known or was_rotated:
                    continue
                kind = look_at(path)
                if kind.binary or kind.converted:  # which is read once
                    self._passed[path] = state  # but again if more is written to it
                if not kind.binary:
                    ids.add(id)
                    yield from self._source(name, path, kind)
        self._followed &= seen

    def _source(self, name: str, path: Path, kind: Kind) -> Iterator[Source]:
        """Yield what reads a file; if nothing can, say so once."""
        try:
            yield _of_file(
                name,
                path,
                kind,
                self._options,
                by_reference=False,
                follow=self.stop,
                claims=self._claims,
            )
        except FileNotFoundError:  # it was removed just now
            return
        except (SourceError, OSError) as error:
            log.warning("%s", error)
            self._passed[path] = _state_of(path)


def _files(name: str, *, may_be_empty: bool = False) -> tuple[dict[Path, Kind], int, int]:
    """Return the files that a name stands for, and how many were passed over: ours, and binary.

    Args:
        name: What the user named.
        may_be_empty: Whether it is no error if there is no file so far, in a folder that is there.
    """
    path = Path(name)
    if path.is_dir():
        found, skipped = _in_folder(path)
        kinds = {item: look_at(item) for item in found}
        files = {item: kind for item, kind in kinds.items() if not kind.binary}
        binary = len(kinds) - len(files)
        if not files and not (may_be_empty and not found):
            why = f" to read; {passed_over(skipped, binary)}" if skipped or binary else ""
            raise SourceError(f"folder {name!r} holds no files{why}")
        return files, skipped, binary
    if path.exists():
        return {path: look_at(path)}, 0, 0
    if not (matching := _matching(name)):
        what = "no file matches" if glob.has_magic(name) else "there is no file"
        if may_be_empty and _folder_of(path).is_dir():
            log.warning("%s %r yet; waiting for one", what, name)
            return {}, 0, 0
        raise SourceError(f"{what} {name!r}; name files, folders, globs, or - for stdin")
    return {item: look_at(item) for item in matching}, 0, 0


def _in_folder(path: Path) -> tuple[list[Path], int]:
    """Return the files in a folder, and how many others are passed over."""
    every = sorted(item for item in path.rglob("*") if item.is_file())
    runs = {item.parent for item in every if item.name == run_record.FILE} - {path}
    own = {folder for folder in runs if run_record.read(folder)}
    found = [
        item
        for item in every
        if not (
            own.intersection(item.parents)
            or _hidden(item.relative_to(path))
            or docker.is_beside_log(item)
        )
    ]
    return found, len(every) - len(found)


def _matching(name: str) -> list[Path]:
    """Return the files that match a glob."""
    matches = glob.glob(name, recursive=True)  # noqa: PTH207 - Path.glob wants relative ones
    return sorted(Path(item) for item in matches if Path(item).is_file())


def _folder_of(path: Path) -> Path:
    """Return the folder in which a file is, or those that match a glob are looked for."""
    return next(one for one in path.parents if not glob.has_magic(str(one)))


def _may_grow(name: str) -> bool:
    """Return whether a name is a folder, a glob or a file to come."""
    path = Path(name)
    return path.is_dir() or not (path.exists() or is_url(name) or name == "-")


class _State(NamedTuple):
    """What a file is, and what changes when it does; empty if it is not there."""

    id: str = ""
    changed: tuple[int, int] = (0, 0)


def _state_of(path: Path) -> _State:
    try:
        its = path.stat()
    except OSError:
        return _State()
    return _State(file_id(its), (its.st_size, its.st_mtime_ns))


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)
