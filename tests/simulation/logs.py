"""A program that logs to a file, and what rotates it."""

from __future__ import annotations

import gzip
from pathlib import Path

from simulation.actors import Model
from simulation.disk import Disk, Node
from simulation.world import World

__all__ = ["Log"]


class Log:
    """A file to which a program writes lines, and which is rotated in one way.

    Attributes:
        way: `none`, `rename`, `copytruncate` or `link`.
        in_parts: Whether some lines are written in two parts.
    """

    def __init__(self, world: World, model: Model, path: Path, way: str) -> None:
        self.path, self.way = path, way
        self._world, self._model, self._random = world, model, world.random
        self._disk: Disk = world.disk
        self.in_parts = False
        self._rotations = 0
        self._rest = b""  # of a line of which a part is written
        self._renamed = False  # the program has still the old file open
        self._node = self._open()

    def __repr__(self) -> str:
        return f"{self.path} ({self.way})"

    def write(self, *, killers: bool = False) -> None:
        """Write some lines, or a part of one."""
        for _ in range(self._random.randint(1, 3)):
            line, self._rest = self._rest, b""
            if not line:
                line = self._model.line(self._world, killers=killers).encode() + b"\n"
                if self.in_parts and self._random.random() < 0.1:
                    size = self._random.randint(1, len(line) - 1)
                    line, self._rest = line[:size], line[size:]
            self._append(line)
            self._world.note(f"{self.path} gets {line!r}")

    def finish_line(self) -> None:
        """Write the rest of a line."""
        if self._rest:
            self._append(self._rest)
            self._rest = b""

    def rotate(self) -> None:
        """Do what logrotate does, or the next part of it."""
        self._world.note(f"{self.path} is rotated by {self.way}: {self._listing()}")
        old = self.path.with_name(f"{self.path.name}.1")
        if self.way == "rename" and self._renamed:
            self.reopen()
        elif self.way == "rename":
            self._make_room()
            self._disk.rename(self.path, old)
            self._renamed = True
            if self._random.random() < 0.5:
                self.reopen()
        elif self.way == "copytruncate":
            self.finish_line()
            self._make_room()
            self._disk.append(old, bytes(self._node.data))
            self._node.data.clear()
            self._node.modified = self._world.now
            self._disk.sync(self._node)
        elif self.way == "link":
            self.finish_line()
            self._rotations += 1
            self._node = self._open()

    def reopen(self) -> None:
        """Write to a new file from now on, as programs do when they are told."""
        if self._renamed:
            self.finish_line()
            self._renamed = False
            self._node = self._open()

    def _listing(self) -> str:
        names = self._disk.find(self.path.parent).names
        every = (f"{name} ({node.number}, {len(node.data)} bytes)" for name, node in names.items())
        return ", ".join(every)

    def _open(self) -> Node:
        path = self.path
        if self.way == "link":
            path = path.with_name(f"shop-{self._rotations}.log")
        node = self._disk.open(path, "ab")
        node.opened += 1
        if self.way == "link":
            self._disk.link(self.path, path.name)
        self._disk.sync(node)
        self._disk.sync(self._disk.find(path.parent))
        return node

    def _append(self, data: bytes) -> None:
        self._node.data += data
        self._node.modified = self._world.now
        self._disk.sync(self._node)

    def _make_room(self) -> None:
        """Give older files the next number, and compress some."""
        names = self._disk.find(self.path.parent).names
        for number in range(8, 0, -1):
            for suffix in ("", ".gz"):
                name = f"{self.path.name}.{number}{suffix}"
                if name in names:
                    at = self.path.with_name(f"{self.path.name}.{number + 1}{suffix}")
                    self._disk.rename(self.path.with_name(name), at)
                    if not suffix and self._random.random() < 0.3:
                        data = bytes(self._disk.find(at).data)
                        modified = self._disk.find(at).modified
                        packed = at.with_name(f"{at.name}.gz")
                        self._disk.append(packed, gzip.compress(data, mtime=0))
                        self._disk.find(packed).modified = modified
                        self._disk.unlink(at)
