"""Queued bytes of a file that has another name now, or was compressed since."""

from __future__ import annotations

import stat
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from etl.filesystem import FileSystem
from etl.records.batch import Reference, read_exactly
from etl.sources.identity import names_before
from etl.sources.opening import UNREADABLE, opened

__all__ = ["find_bytes"]

MAX_SEARCHED = 1_000
"""Files of a folder that are searched."""

_last_found: dict[str, Path] = {}
"""Where the bytes of a file were found last, by its path: the next ones are there, too."""


def find_bytes(reference: Reference, files: FileSystem) -> bytes | None:
    """Return bytes that are not where a reference says, from another file in its folder, or None.

    Those of a file that was renamed, copied or compressed are found. That they are the ones is
    said by their checksum.
    """
    path = Path(reference.path)
    for candidate in _candidates(path, files):
        with suppress(*UNREADABLE), opened(candidate, files) as (text, kind):
            is_long_enough = files.stat(candidate).st_size >= reference.stop
            if is_long_enough if kind.plain else str(path) in names_before(candidate):
                text.seek(reference.start)
                data = read_exactly(text, reference.stop - reference.start)
                if zlib.crc32(data) == reference.checksum:
                    _last_found[reference.path] = candidate
                    return data
    return None


def _candidates(path: Path, files: FileSystem) -> Iterator[Path]:
    """Yield files of a folder, the ones first that are most likely to be what a path named."""
    last = _last_found.get(str(path))
    if last:
        yield last
    try:
        names = files.names(path.parent)
    except OSError:
        return
    names.sort(key=lambda name: (not name.startswith(path.name), len(name), name))
    for name in names[:MAX_SEARCHED]:
        other = path.with_name(name)
        with suppress(OSError):
            if other not in (path, last) and stat.S_ISREG(files.stat(other).st_mode):
                yield other
