"""Files that get their name when their batch is committed, and once.

A file is written under a hidden name, synced, and renamed after the commit. If the
worker is killed in between, the next one renames it. A batch leaves one file however
often it was tried.
"""

from __future__ import annotations

import contextlib
import errno
import re
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from etl.errors import OutputFull, ProcessorStop
from etl.filesystem import DISK, FileSystem
from etl.processors.processor import Delivery
from etl.records.batch import new_id
from etl.records.checksum import checksum_of_file
from etl.records.result import Output

__all__ = [
    "StagedFile",
    "is_shown",
    "make_folder",
    "publish_files",
    "remove_old_staged",
    "remove_staged",
    "stage_file",
]

STAGED = re.compile(r"\..+-[0-9a-f]{8}-(?P<token>[0-9a-f]{24})\.tmp")
"""The name of a staged file: see `stage_file`."""

STAGED_SECONDS = 86_400
"""Age from which a staged file of no lease is taken for one that a killed worker left."""


@dataclass(frozen=True, slots=True)
class StagedFile:
    """A file under its hidden name."""

    outputs: Sequence[Output]
    files: FileSystem = DISK

    def publish(self) -> None:
        """Give it its name."""
        publish_files(self.outputs, self.files)

    def discard(self) -> None:
        """Remove it."""
        for output in self.outputs:
            self.files.unlink(Path(output.staged))


def publish_files(outputs: Iterable[Output], files: FileSystem = DISK) -> None:
    """Give committed files their final names; one that has its name is left as it is."""
    folders: dict[Path, None] = {}
    for output in outputs:
        staged, final = Path(output.staged), Path(output.final)
        folders |= dict.fromkeys(_folders_between(final, staged.parent))
        if final.parent != staged.parent and not files.exists(final.parent):
            files.make_folder(final.parent, private=files.is_private(staged.parent))
        try:
            files.replace(staged, final)
        except FileNotFoundError:
            if not files.exists(final):
                raise
    for folder in folders:
        files.sync(folder)


def _folders_between(file: Path, top: Path) -> list[Path]:
    """Return the folder of a file, and those above it up to another one, if it is below that."""
    if not file.is_relative_to(top):
        return [file.parent]
    return [folder for folder in file.parents if folder.is_relative_to(top)]


def is_shown(path: Path, root: Path) -> bool:
    """Return whether neither a file below a folder nor a folder on its way is hidden."""
    return not any(part.startswith(".") for part in path.relative_to(root).parts)


def remove_staged(
    out: Path, tokens: Iterable[str], files: FileSystem = DISK, *, but: Collection[str] = ()
) -> None:
    """Remove what was staged with these lease tokens and not committed.

    Args:
        out: The folder that sinks write below.
        tokens: Of the leases.
        files: Where it is.
        but: Paths of what was committed and could not be published yet.
    """
    for token in tokens:
        for path in files.find(out, f".*-{token}.tmp"):
            if str(path.absolute()) not in but:
                files.unlink(path)


def remove_old_staged(out: Path, keep: Collection[str]) -> None:
    """Remove what was staged more than a day ago and is not wanted any more.

    Its worker was killed, and nobody knew of it: on another machine, or when its lease had run
    out before that was noticed.

    Args:
        out: The folder that sinks write below.
        keep: Lease tokens of batches that workers have, and files that are yet to be published.
    """
    before = time.time() - STAGED_SECONDS
    for path in out.rglob(".*.tmp"):
        found = STAGED.fullmatch(path.name)
        if found and found["token"] not in keep and str(path.absolute()) not in keep:
            with contextlib.suppress(FileNotFoundError):  # another worker removes the same
                if path.stat().st_mtime < before:
                    path.unlink()


def stage_file(
    folder: str,
    delivery: Delivery,
    suffix: str,
    write: Callable[[Path], object],
    *,
    below: str = "",
) -> StagedFile:
    """Return a file that is written under its hidden name, durably.

    Args:
        folder: Where to; a relative one is below the run's output folder.
        delivery: What names the file.
        suffix: Its ending.
        write: Writes the rows to a path.
        below: Folder below that one in which it is published, and which is then made.

    Raises:
        ProcessorStop: If nothing can be written there.
    """
    place, files = delivery.out / folder, delivery.files
    name = quote(delivery.id, safe="~")
    final = place / below / f"{name}.{suffix}"
    staged = place / f".{name}-{new_id()[-8:]}-{delivery.token}.tmp"
    try:
        root = place if Path(folder).is_absolute() else delivery.out
        files.make_folder(root)
        files.make_folder(place, private=files.is_private(root))
        files.create(staged, write)
        size, checksum = checksum_of_file(staged, files)
        files.sync(staged)
        files.sync(place)
    except BaseException as error:
        with contextlib.suppress(OSError):
            files.unlink(staged)
        if isinstance(error, OSError) or "os error" in str(error):
            raise _stop(place, error) from error
        raise
    output = Output(str(staged.absolute()), str(final.absolute()), size, checksum)
    return StagedFile([output], files)


def make_folder(folder: Path, files: FileSystem = DISK) -> None:
    """Make a folder for output, unless it is there.

    Raises:
        ProcessorStop: If it cannot be made.
    """
    try:
        files.make_folder(folder)
    except OSError as error:
        raise _stop(folder, error) from error


def _stop(place: Path, error: BaseException) -> ProcessorStop:
    stop = OutputFull if _is_full(error) else ProcessorStop
    return stop(f"cannot write below {str(place)!r}: {error}")


def _is_full(error: BaseException) -> bool:
    """Return whether a write failed for want of room; Polars says so in its text only."""
    numbers = (errno.ENOSPC, errno.EDQUOT)
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in numbers
    return any(f"os error {number}" in str(error) for number in numbers)
