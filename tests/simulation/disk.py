"""A small file system in memory that forgets, at a power cut, what was not synced.

It has what programs meet on real ones: names and files apart (rename, unlink, numbers of files
that are used again), links, bytes that are not on disk before a sync, and names that are
not before the folder's.
"""

from __future__ import annotations

import errno
import io
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from fnmatch import fnmatchcase
from pathlib import Path
from random import Random
from typing import Any, BinaryIO, cast

from etl.filesystem import FileSystem

__all__ = ["Disk", "Files", "Node"]

Gate = Callable[[str], None]
"""Called before each access with what it is; raises what shall go wrong."""


class Node:
    """A file, a folder or a link: what a name stands for."""

    def __init__(self, number: int, kind: int, now: float) -> None:
        self.number, self.kind, self.modified = number, kind, now
        self.data, self.durable = bytearray(), b""
        self.names: dict[str, Node] = {}
        self.durable_names: dict[str, Node] = {}
        self.target = ""
        self.links = self.opened = 0

    @property
    def is_folder(self) -> bool:
        return self.kind == stat.S_IFDIR


class Disk:
    """The disk of one machine.

    Args:
        random: Chooses what a power cut leaves, and which number a new file gets.
        clock: Returns Unix seconds, for the times of files.
    """

    def __init__(self, random: Random, clock: Callable[[], float]) -> None:
        self._random, self._clock = random, clock
        self._free: list[int] = []
        self._next = 10
        self._pending: list[list[tuple[Node, str, Node | None]]] = []  # changes of names, in order
        self.root = self._node(stat.S_IFDIR)

    # Names

    def find(self, path: Path, *, follow: bool = True, depth: int = 0) -> Node:
        """Return what a path stands for; raise FileNotFoundError if there is none."""
        node = self.root
        parts = path.parts[1:]
        if depth > 8:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
        for place, part in enumerate(parts):
            if not node.is_folder:
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))
            if part not in node.names:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
            node = node.names[part]
            last = place == len(parts) - 1
            if node.kind == stat.S_IFLNK and (follow or not last):
                target = Path(*path.parts[: place + 1]) / node.target
                node = self.find(target, depth=depth + 1)
        return node

    def resolve(self, path: Path) -> Path:
        """Return a path with all links followed, as far as it exists."""
        place = Path("/")
        for part in path.parts[1:]:
            place = place / part
            try:
                node = self.find(place, follow=False)
            except OSError:
                continue
            if node.kind == stat.S_IFLNK:
                place = self.resolve(place.parent / node.target)
        return place

    def make_folder(self, path: Path) -> Node:
        """Make a folder and those above it, unless they are there."""
        for folder in [*reversed(path.parents[:-1]), path]:
            try:
                node = self.find(folder)
            except FileNotFoundError:
                node = self._node(stat.S_IFDIR)
                self._change((self.find(folder.parent), folder.name, node))
        return node

    def open(self, path: Path, mode: str) -> Node:
        """Return a file that is to be read or written; it is made, or cut, as the mode says."""
        try:
            node = self.find(path)
        except FileNotFoundError:
            if mode[0] == "r":
                raise
            node = self._node(stat.S_IFREG)
            self._change((self.find(path.parent), path.name, node))
        else:
            if mode[0] == "x":
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
        if node.is_folder:
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if mode[0] == "w":
            node.data.clear()
        return node

    def link(self, path: Path, target: str) -> None:
        """Make a link, or replace one, as `ln -sfn` does."""
        node = self._node(stat.S_IFLNK)
        node.target = target
        self._change((self.find(path.parent), path.name, node))

    def rename(self, source: Path, target: Path) -> None:
        """Give a file or folder another name; what had it is replaced."""
        node = self.find(source, follow=False)
        into = self.find(target.parent)
        self._change((into, target.name, node), (self.find(source.parent), source.name, None))

    def unlink(self, path: Path) -> None:
        """Remove a name."""
        self.find(path, follow=False)
        self._change((self.find(path.parent), path.name, None))

    # What is on disk

    def sync(self, node: Node) -> None:
        """Put a file's bytes on disk, or a folder's names and what was changed before them."""
        if not node.is_folder:
            node.durable = bytes(node.data)
            return
        places = [
            place for place, group in enumerate(self._pending) if node in [one[0] for one in group]
        ]
        self._keep(max(places) + 1 if places else 0)

    def power_cut(self) -> None:
        """Forget what was not synced, or some of it."""
        self._keep(self._random.randint(0, len(self._pending)))
        self._pending.clear()
        every = list(self._every(self.root, durable=True))
        for node in every:
            node.opened = 0
            node.names = dict(node.durable_names)
            if bytes(node.data) != node.durable:
                whole = bytes(node.data)
                if whole.startswith(node.durable):
                    size = self._random.randint(len(node.durable), len(whole))
                    node.data = bytearray(whole[:size])
                else:
                    node.data = bytearray(self._random.choice([whole, node.durable]))
                node.durable = bytes(node.data)
        counts = [one for node in every for one in node.names.values()]
        for node in every:
            node.links = counts.count(node)

    def append(self, path: Path, data: bytes, *, sync: bool = True) -> None:
        """Write at the end of a file, as the program that logs does."""
        node = self.open(path, "ab")
        node.data += data
        node.modified = self._clock()
        if sync:
            self.sync(node)
            self.sync(self.find(path.parent))

    def paths(self, folder: Path) -> Iterator[Path]:
        """Yield all files below a folder; links are not followed."""
        for name, node in list(self.find(folder).names.items()):
            if node.is_folder:
                yield from self.paths(folder / name)
            elif node.kind == stat.S_IFREG:
                yield folder / name

    def close(self, node: Node) -> None:
        """Close a file that was opened."""
        node.opened -= 1
        self._free_if_gone(node)

    def _node(self, kind: int) -> Node:
        number = self._free.pop() if self._free and self._random.random() < 0.7 else self._next
        self._next += number == self._next
        return Node(number, kind, self._clock())

    def _change(self, *changes: tuple[Node, str, Node | None]) -> None:
        """Change names, all at once."""
        for folder, name, node in changes:
            old = folder.names.pop(name, None)
            if node is not None:
                folder.names[name] = node
                node.links += 1
            if old is not None:
                old.links -= 1
                self._free_if_gone(old)
        self._pending.append(list(changes))

    def _free_if_gone(self, node: Node) -> None:
        kept = any(node is one for group in self._pending for _, _, one in group)
        if not (node.links or node.opened or kept or node.is_folder):
            self._free.append(node.number)

    def _keep(self, count: int) -> None:
        for group in self._pending[:count]:
            for folder, name, node in group:
                folder.durable_names.pop(name, None)
                if node is not None:
                    folder.durable_names[name] = node
        del self._pending[:count]

    def _every(self, node: Node, *, durable: bool) -> Iterator[Node]:
        yield node
        for one in (node.durable_names if durable else node.names).values():
            yield from self._every(one, durable=durable)


class OpenFile(io.RawIOBase):
    """A file that is open: it stays the same file whatever its name is."""

    def __init__(self, disk: Disk, node: Node, mode: str, gate: Gate, name: str) -> None:
        self.node, self._disk, self._mode, self._gate, self._path = node, disk, mode, gate, name
        self._place = len(node.data) if mode[0] == "a" else 0
        node.opened += 1

    def readable(self) -> bool:
        return "r" in self._mode or "+" in self._mode

    def writable(self) -> bool:
        return self._mode[0] != "r" or "+" in self._mode

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._gate(f"read {self._path}")
        with memoryview(buffer) as view:
            data = self.node.data[self._place : self._place + len(view)]
            view[: len(data)] = data
        self._place += len(data)
        return len(data)

    def write(self, data: Any) -> int:
        """Write some of the bytes, as a system may: at least one."""
        block = bytes(data)
        if len(block) > 1:
            block = block[: self._disk._random.choice([len(block), len(block), len(block) // 2])]
        self._gate(f"write {self._path}")
        self.node.data[self._place : self._place + len(block)] = block
        self._place += len(block)
        self.node.modified = self._disk._clock()
        return len(block)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = (0, self._place, len(self.node.data))[whence]
        self._place = start + offset
        return self._place

    def tell(self) -> int:
        return self._place

    def close(self) -> None:
        if not self.closed:
            self._disk.close(self.node)
        super().close()


class Files(FileSystem):
    """A disk as one process sees it.

    Args:
        disk: The disk.
        gate: Called before each access; raises what shall go wrong.
    """

    def __init__(self, disk: Disk, gate: Gate) -> None:
        self._disk, self._gate = disk, gate

    def open(self, path: Path, mode: str = "rb") -> BinaryIO:
        self._gate(f"open {path} {mode}")
        node = self._disk.open(path, mode)
        return cast("BinaryIO", OpenFile(self._disk, node, mode, self._gate, str(path)))

    def stat(self, path: Path) -> os.stat_result:
        self._gate(f"stat {path}")
        return stat_of(self._disk.find(path))

    def fstat(self, file: BinaryIO) -> os.stat_result:
        self._gate("fstat")
        return stat_of(cast("OpenFile", file).node)

    def pread(self, file: BinaryIO, size: int, offset: int) -> bytes:
        self._gate("pread")
        return bytes(cast("OpenFile", file).node.data[offset : offset + size])

    def names(self, folder: Path) -> list[str]:
        self._gate(f"names {folder}")
        node = self._disk.find(folder)
        if not node.is_folder:
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))
        return list(node.names)

    def resolve(self, path: Path) -> Path:
        return self._disk.resolve(path)

    def make_folder(self, path: Path, *, private: bool = False) -> None:  # noqa: ARG002
        self._gate(f"mkdir {path}")
        self._disk.make_folder(path)

    def is_private(self, folder: Path) -> bool:  # noqa: ARG002
        return False

    def exists(self, path: Path) -> bool:
        self._gate(f"exists {path}")
        try:
            self._disk.find(path)
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    def find(self, folder: Path, pattern: str) -> Iterator[Path]:
        self._gate(f"find {folder} {pattern}")
        if self.exists(folder):
            yield from [
                path for path in self._disk.paths(folder) if fnmatchcase(path.name, pattern)
            ]

    def create(self, path: Path, write: Callable[[Any], object]) -> None:
        buffer = io.BytesIO()
        write(buffer)
        left = buffer.getvalue()
        with self.open(path, "wb") as file:
            while left:
                left = left[file.write(left) :]

    def scannable(self, path: Path) -> BinaryIO:
        with self.open(path) as file:
            return io.BytesIO(file.read())

    def replace(self, source: Path, target: Path) -> None:
        self._gate(f"rename {source} {target}")
        self._disk.rename(source, target)

    def unlink(self, path: Path) -> None:
        self._gate(f"unlink {path}")
        with suppress(FileNotFoundError):
            self._disk.unlink(path)

    def sync(self, path: Path) -> None:
        self._gate(f"sync {path}")
        self._disk.sync(self._disk.find(path))


def stat_of(node: Node) -> os.stat_result:
    """Return what `os.stat` says of a file."""
    mode = node.kind | 0o644
    ten = (mode, node.number, 1, node.links, 0, 0, len(node.data), *[int(node.modified)] * 3)
    nanoseconds = round(node.modified * 1e9)
    return os.stat_result(ten, {"st_mtime": node.modified, "st_mtime_ns": nanoseconds})
