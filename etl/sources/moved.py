"""Queued bytes of a file that has another name now, or was compressed since."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

from etl.filesystem import FileSystem
from etl.records.batch import Reference, read_exactly
from etl.records.checksum import crc32
from etl.sources.identity import MAX_LOOKS, MAX_SEARCHED, ids_in, names_before
from etl.sources.opening import if_readable, opened

__all__ = ["find_bytes"]

_last_found: dict[str, Path] = {}
"""Where the bytes of a file were found last, by its path: the next ones are there, too."""


def find_bytes(reference: Reference, files: FileSystem) -> bytes | None:
    """Return bytes that are not where a reference says, from another file in its folder, or None.

    Those of a file that was renamed, copied or compressed are found. That they are the ones is
    said by their checksum.

    Raises:
        OSError: If none has them, and some could not be looked at.
    """
    folder = Path(reference.path).parent
    for _ in range(MAX_LOOKS):
        before = ids_in(folder, files)
        data = _search(reference, files)
        if data is not None or before == ids_in(folder, files):
            return data  # else a file may have been under its new name, or its old one
    return None


def _search(reference: Reference, files: FileSystem) -> bytes | None:
    failed: OSError | None = None
    for candidate in _candidates(Path(reference.path), files):
        try:
            data = _bytes_in(candidate, reference, files)
        except OSError as error:
            failed = failed or error
            continue
        if data is not None:
            _last_found[reference.path] = candidate
            return data
    if failed:
        raise failed
    return None


def _bytes_in(candidate: Path, reference: Reference, files: FileSystem) -> bytes | None:
    """Return the bytes of a reference if a file has them."""
    had = set(names_before(Path(reference.path)))  # it may have been read under its second name
    with if_readable():
        status = files.stat(candidate)
        if not stat.S_ISREG(status.st_mode):
            return None
        with opened(candidate, files) as (text, kind):
            is_long_enough = status.st_size >= reference.stop
            if is_long_enough if kind.plain else had.intersection(names_before(candidate)):
                text.seek(reference.start)
                data = read_exactly(text, reference.stop - reference.start)
                if crc32(data) == reference.checksum:
                    return data
    return None


def _candidates(path: Path, files: FileSystem) -> Iterator[Path]:
    """Yield files of a folder, the ones first that are most likely to be what a path names."""
    last = _last_found.get(str(path))
    if last:
        yield last
    with if_readable():
        names = files.names(path.parent)
        names.sort(key=lambda name: (not name.startswith(path.name), len(name), name))
        others = (path.with_name(name) for name in names[:MAX_SEARCHED])
        yield from (other for other in others if other != last)
