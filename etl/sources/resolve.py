"""What a user names as sources: files, globs, folders, or `-`."""

from __future__ import annotations

import glob
import threading
from collections.abc import Iterable
from pathlib import Path

from etl.errors import SourceError
from etl.sources.files import OPENERS, FileSource
from etl.sources.follow import FollowSource
from etl.sources.stream import StreamSource

__all__ = ["Source", "resolve_sources"]

Source = FileSource | StreamSource | FollowSource


def resolve_sources(
    names: Iterable[str],
    *,
    format: str | None = None,
    by_reference: bool = True,
    follow: threading.Event | None = None,
) -> list[Source]:
    """Turn what a user names into sources: files, globs, folders (all files in them), or `-`.

    Args:
        names: What the user named.
        format: Name of the lines' format, or None.
        by_reference: Queue byte ranges of plain files rather than their text.
        follow: If given, files are followed until this is set.

    Raises:
        SourceError: If a name stands for nothing that can be read.
    """
    sources: list[Source] = []
    for name in names:
        if name == "-":
            sources.append(StreamSource(format=format))
            continue
        for path in _files(name):
            if not _is_text(path):
                raise SourceError(f"{str(path)!r} has a name that is not UTF-8; rename the file")
            if not path.is_file():  # a pipe, or a device
                sources.append(StreamSource(name, path.open("rb"), format))
            elif follow is None:
                sources.append(FileSource(str(path), path, format, by_reference))
            elif path.suffix in OPENERS:
                raise SourceError(f"{name!r} is compressed and cannot be followed; put it as it is")
            else:
                sources.append(FollowSource(str(path), path, follow, format))
    return sources


def _files(name: str) -> list[Path]:
    path = Path(name)
    if path.is_dir():
        found = sorted(
            item
            for item in path.rglob("*")
            if item.is_file() and not _hidden(item.relative_to(path))
        )
        if not found:
            raise SourceError(f"folder {name!r} holds no files")
        return found
    if path.exists():
        return [path]
    matches = glob.glob(name, recursive=True)  # noqa: PTH207 - Path.glob wants relative ones
    found = sorted(Path(item) for item in matches if Path(item).is_file())
    if not found:
        what = "no file matches" if glob.has_magic(name) else "there is no file"
        raise SourceError(f"{what} {name!r}; name files, folders, globs, or - for stdin")
    return found


def _is_text(path: Path) -> bool:
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)
