"""What sources and sinks do with a disk, as an object: tests give one that fails or forgets."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, cast

__all__ = ["DISK", "FileSystem"]


class FileSystem:
    """The file system of this machine. All methods raise OSError.

    Attributes:
        host: Tells its files from those of another machine.
    """

    host = socket.gethostname()

    def open(self, path: Path, mode: str = "rb") -> BinaryIO:
        """Open a file, without a buffer."""
        return cast("BinaryIO", path.open(mode, buffering=0))

    def stat(self, path: Path) -> os.stat_result:
        """Return what is known of a file; a link is followed."""
        return path.stat()

    def fstat(self, file: BinaryIO) -> os.stat_result:
        """Return what is known of an open file, whatever its name is now."""
        return os.fstat(file.fileno())

    def pread(self, file: BinaryIO, size: int, offset: int) -> bytes:
        """Return at most `size` bytes at an offset; the place of the next read stays."""
        return os.pread(file.fileno(), size, offset)

    def names(self, folder: Path) -> list[str]:
        """Return the names in a folder, in no order."""
        return [path.name for path in folder.iterdir()]

    def resolve(self, path: Path) -> Path:
        """Return the absolute path, with links followed."""
        return path.resolve()

    def make_folder(self, path: Path) -> None:
        """Make a folder, and those above it, unless it is there."""
        path.mkdir(parents=True, exist_ok=True)

    def exists(self, path: Path) -> bool:
        """Return whether there is a file or a folder of this name; a link is followed."""
        return path.exists()

    def find(self, folder: Path, pattern: str) -> Iterator[Path]:
        """Yield what lies below a folder, at any depth, under a name that fits a pattern."""
        yield from folder.rglob(pattern)

    def create(self, path: Path, write: Callable[[Path], object]) -> None:
        """Make a file by a function that is given its path, or a file in its place."""
        write(path)

    def replace(self, source: Path, target: Path) -> None:
        """Rename a file; one that has the new name is replaced."""
        source.replace(target)

    def unlink(self, path: Path) -> None:
        """Remove a file, if it is there."""
        path.unlink(missing_ok=True)

    def sync(self, path: Path) -> None:
        """Wait until a file, or the names in a folder, are on disk."""
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


DISK = FileSystem()
