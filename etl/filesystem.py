"""What sources and sinks do with a disk, as an object: tests give one that fails or forgets.

Logs are private: folders and files that etl makes by itself are for their owner only, whatever
the umask. A folder that a user names follows the umask, and what is made in a folder is as
private as the folder is. The mode of what is there already is never changed.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, cast

__all__ = ["DISK", "FileSystem", "file_id"]


def file_id(status: os.stat_result) -> str:
    """Return what tells a file from all others that are there now: its device and inode."""
    return f"{status.st_dev}:{status.st_ino}"


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

    def make_folder(self, path: Path, *, private: bool = False) -> None:
        """Make a folder, and those above it, unless it is there.

        Args:
            path: The folder.
            private: Whether only its owner can read those that are made.
        """
        missing = [one for one in (path, *path.parents) if not one.exists()]
        for folder in reversed(missing):
            folder.mkdir(0o700 if private else 0o777, exist_ok=True)
        if not missing:
            path.mkdir(exist_ok=True)  # raises if it is a file

    def make_file(self, path: Path, *, private: bool | None = None) -> Path:
        """Make an empty file, and return its path.

        Args:
            path: The file.
            private: Whether only its owner can read it; by default, as private as its folder.
        """
        private = self.is_private(path.parent) if private is None else private
        mode = 0o600 if private else 0o666
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY, mode))
        return path

    def is_private(self, folder: Path) -> bool:
        """Return whether only its owner can read or list a folder."""
        return not self.stat(folder).st_mode & 0o077

    def exists(self, path: Path) -> bool:
        """Return whether there is a file or a folder of this name; a link is followed."""
        return path.exists()

    def find(self, folder: Path, pattern: str) -> Iterator[Path]:
        """Yield what lies below a folder, at any depth, under a name that fits a pattern."""
        yield from folder.rglob(pattern)

    def create(self, path: Path, write: Callable[[Path], object]) -> None:
        """Make a file, as private as its folder, by a function that is given its path.

        Or one that is given a file in its place.
        """
        write(self.make_file(path))

    def scannable(self, path: Path) -> Path | BinaryIO:
        """Return what Polars can scan: a path, or a file in its place."""
        return path

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
