"""What a user names as sources: files, globs, folders, or `-`."""

from __future__ import annotations

import glob
import threading
from collections.abc import Iterable
from pathlib import Path

from etl.errors import SourceError
from etl.records import run_record
from etl.records.context import AS_FOUND, ReadOptions
from etl.sources.files import OPENERS, FileSource
from etl.sources.follow import FollowSource
from etl.sources.stream import StreamSource

__all__ = ["Source", "Sources", "passed_over", "resolve_sources"]

Source = FileSource | StreamSource | FollowSource


class Sources(list[Source]):
    """Sources in the order in which they are read.

    Attributes:
        skipped: How many files of the folders are not among them.
    """

    skipped = 0


def passed_over(count: int) -> str:
    """Return in words how many files of folders are not read, and why."""
    return f"passed over {count:,} file{'' if count == 1 else 's'}: hidden, or written by etl"


def resolve_sources(
    names: Iterable[str],
    options: ReadOptions = AS_FOUND,
    *,
    by_reference: bool = True,
    follow: threading.Event | None = None,
) -> Sources:
    """Return the sources that a user names: files, globs, folders, or `-` for stdin.

    A folder stands for all files in it, and in folders below it, but for hidden ones and
    those in a run's folder, which etl has written. What a user names itself is read.

    Args:
        names: What the user named.
        options: How their lines are read; by default all is found.
        by_reference: Queue byte ranges of plain files rather than their text.
        follow: If given, files are followed until this is set.

    Raises:
        SourceError: If a name stands for nothing that can be read.
    """
    sources = Sources()
    for name in names:
        if name == "-":
            sources.append(StreamSource(options=options))
            continue
        paths, skipped = _files(name)
        sources.skipped += skipped
        for path in paths:
            if str(path).encode(errors="ignore").decode() != str(path):
                raise SourceError(f"{str(path)!r} has a name that is not UTF-8; rename the file")
            if not path.is_file():  # a pipe, or a device
                sources.append(StreamSource(name, path.open("rb"), options))
            elif follow is None:
                sources.append(FileSource(str(path), path, options, by_reference))
            elif path.suffix in OPENERS:
                raise SourceError(f"{name!r} is compressed and cannot be followed; put it as it is")
            else:
                sources.append(FollowSource(str(path), path, follow, options))
    return sources


def _files(name: str) -> tuple[list[Path], int]:
    """Return the files that a name stands for, and how many were passed over."""
    path = Path(name)
    if path.is_dir():
        files = sorted(item for item in path.rglob("*") if item.is_file())
        runs = {item.parent for item in files if item.name == run_record.FILE} - {path}
        own = {folder for folder in runs if run_record.read(folder)}
        found = [
            item
            for item in files
            if not (own.intersection(item.parents) or _hidden(item.relative_to(path)))
        ]
        skipped = len(files) - len(found)
        if not found:
            why = f" to read; {passed_over(skipped)}" if skipped else ""
            raise SourceError(f"folder {name!r} holds no files{why}")
        return found, skipped
    if path.exists():
        return [path], 0
    matches = glob.glob(name, recursive=True)  # noqa: PTH207 - Path.glob wants relative ones
    found = sorted(Path(item) for item in matches if Path(item).is_file())
    if not found:
        what = "no file matches" if glob.has_magic(name) else "there is no file"
        raise SourceError(f"{what} {name!r}; name files, folders, globs, or - for stdin")
    return found, 0


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)
