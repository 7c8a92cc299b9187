"""Files that get their name when their batch is committed, and once.

A file is written under a hidden name, synced, and renamed after the commit. If the
worker is killed in between, the next one renames it. A batch leaves one file however
often it was tried.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from etl.errors import ProcessorStop
from etl.filesystem import DISK, FileSystem
from etl.processors.processor import Delivery
from etl.records.batch import new_id
from etl.records.checksum import checksum_of_file
from etl.records.result import Output

__all__ = ["StagedFile", "publish_files", "remove_staged", "stage_file"]


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
        folders[Path(output.final).parent] = None
        try:
            files.replace(Path(output.staged), Path(output.final))
        except FileNotFoundError:
            if not files.exists(Path(output.final)):
                raise
    for folder in folders:
        files.sync(folder)


def remove_staged(out: Path, tokens: Iterable[str], files: FileSystem = DISK) -> None:
    """Remove what killed workers had staged with these lease tokens and not committed."""
    for token in tokens:
        for path in files.find(out, f".*-{token}.tmp"):
            files.unlink(path)


def stage_file(
    folder: str, delivery: Delivery, suffix: str, write: Callable[[Path], object]
) -> StagedFile:
    """Return a file that is written under its hidden name, durably.

    Args:
        folder: Where to; a relative one is below the run's output folder.
        delivery: What names the file.
        suffix: Its ending.
        write: Writes the rows to a path.

    Raises:
        ProcessorStop: If nothing can be written there.
    """
    place, files = delivery.out / folder, delivery.files
    name = quote(delivery.id, safe="~")
    final = place / f"{name}.{suffix}"
    staged = place / f".{name}-{new_id()[-8:]}-{delivery.token}.tmp"
    try:
        files.make_folder(place)
        files.create(staged, write)
        size, checksum = checksum_of_file(staged, files)
        files.sync(staged)
        files.sync(place)
    except BaseException as error:
        with contextlib.suppress(OSError):
            files.unlink(staged)
        if isinstance(error, OSError) or "os error" in str(error):
            raise ProcessorStop(f"cannot write below {str(place)!r}: {error}") from error
        raise
    output = Output(str(staged.absolute()), str(final.absolute()), size, checksum)
    return StagedFile([output], files)
