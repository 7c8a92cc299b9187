"""Following a file whatever is done to it: each line is read once."""

from __future__ import annotations

import errno
import gzip
import io
import itertools
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, cast

import pytest

from etl import open_queue
from etl.errors import SourceLocked
from etl.filesystem import DISK, FileSystem
from etl.queue import Queue
from etl.sources.chunks import SourceChunk
from etl.sources.files import FileSource
from etl.sources.follow import FollowSource
from etl.sources.ingest import _note_error, ingest

SETTLED = 12
"""Looks at a file without news after which nothing more is expected."""


class SameInode(FileSystem):
    """A disk on which whatever is called app.log has the same inode."""

    def stat(self, path: Path) -> os.stat_result:
        return self._given(super().stat(path), path.name)

    def fstat(self, file: BinaryIO) -> os.stat_result:
        return self._given(super().fstat(file), Path(file.name).name)

    def _given(self, status: os.stat_result, name: str) -> os.stat_result:
        return os.stat_result((status[0], 7, *status[2:])) if name == "app.log" else status


class Site:
    """A file that is followed into a store, look by look."""

    def __init__(self, folder: Path, files: FileSystem = DISK) -> None:
        self.path = folder / "app.log"
        self.files = files
        self.queue: Queue = open_queue("sqlite://")
        self._numbers = itertools.count()
        self._written = 0
        self._reading: Iterator[SourceChunk | None] | None = None

    def write(self, count: int = 1, path: Path | None = None) -> None:
        """Append lines that are not like any other."""
        with (path or self.path).open("a") as file:
            for _ in range(count):
                file.write(f"line {next(self._numbers)}\n")
        self._written += count

    def look(self) -> None:
        """Put what is there, until nothing more comes."""
        quiet = 0
        while quiet < SETTLED:
            quiet += not self.step()

    def step(self) -> bool:
        """Return whether something is new; put it."""
        if self._reading is None:
            stop = threading.Event()
            source = FollowSource("app.log", self.path, stop, linger=0.5, files=self.files)
            self._reading = source.steps(self.queue.checkpoints)
        chunk = next(self._reading)
        if chunk:
            try:
                self.queue.put(chunk.batch, checkpoint=chunk.checkpoint, expected=chunk.expected)
            except SourceLocked:  # it has two names that are followed: `ingest` looks again, too
                self._reading = None
        return chunk is not None

    def kill(self) -> None:
        """Forget what only the process knew."""
        self._reading = None

    def read(self) -> list[str]:
        return sorted(self.queue.peek(1000)["line"].to_list(), key=lambda line: int(line[5:]))

    def check(self) -> None:
        """Every line was read once."""
        assert self.read() == [f"line {number}" for number in range(self._written)]


def keep(site: Site, kind: str) -> None:
    """Make a copy of the file under its next name."""
    old = site.path.with_name("app.log.1")
    shutil.copy2(site.path, old)
    if kind == "gzipped":
        squeeze(old)


def squeeze(path: Path) -> None:
    path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
    its = path.stat()
    os.utime(f"{path}.gz", ns=(its.st_atime_ns, its.st_mtime_ns))
    path.unlink()


def rename(site: Site, kind: str) -> None:
    old = site.path.rename(site.path.with_name("app.log.1"))
    if kind == "gzipped":
        squeeze(old)
    site.write(2)


def cut_to_less(site: Site, kind: str) -> None:
    keep(site, kind)
    os.truncate(site.path, 0)
    site.write(2)


def cut_and_grown(site: Site, kind: str) -> None:
    keep(site, kind)
    os.truncate(site.path, 0)
    site.write(20)


def delete_and_create(site: Site, kind: str) -> None:
    keep(site, kind)
    site.path.rename(site.path.with_name(".gone"))  # keeps its inode from being used again
    site.path.touch()
    site.path.with_name(".gone").unlink()
    site.write(2)


def same_inode(site: Site, kind: str) -> None:
    keep(site, kind)
    site.path.unlink()
    site.write(2)


def move_link(site: Site, kind: str) -> None:
    old = site.path.resolve()
    new = old.with_name("app-2.log")
    site.write(2, new)
    site.path.with_name("new").symlink_to(new)
    site.path.with_name("new").replace(site.path)
    if kind == "gzipped":
        squeeze(old)


WAYS = [rename, cut_to_less, cut_and_grown, move_link, delete_and_create, same_inode]


CELLS = [
    (follower, way)
    for follower in ("running", "stopped", "stalled")
    for way in WAYS
    if follower == "stopped" or way is not same_inode  # no open file shares its inode
]


@pytest.mark.parametrize("kind", ["plain", "gzipped"])
@pytest.mark.parametrize(("follower", "way"), CELLS)
def test_each_line_is_read_once(
    tmp_path: Path, follower: str, way: Callable[[Site, str], None], kind: str
):
    site = Site(tmp_path, SameInode() if way is same_inode else DISK)
    if way is move_link:
        site.path.symlink_to(tmp_path / "app-1.log")
    site.write(3)
    site.look()
    if follower == "stopped":
        site.kill()
    site.write(2)
    if follower == "running":
        site.look()
    way(site, kind)
    site.look()
    site.check()
    site.write(1)
    site.look()
    site.check()
    site.kill()  # and nothing is read twice
    site.look()
    site.check()


@pytest.mark.parametrize("kind", ["plain", "gzipped"])
@pytest.mark.parametrize("follower", ["stopped", "stalled"])
def test_a_file_that_came_and_went_between_two_looks_is_read(
    tmp_path: Path, follower: str, kind: str
):
    site = Site(tmp_path)
    site.write(2)
    site.look()
    if follower == "stopped":
        site.kill()
    for newest in range(3):
        site.write(2)
        for number in range(newest, 0, -1):
            suffix = ".gz" if kind == "gzipped" else ""
            old = tmp_path / f"app.log.{number}{suffix}"
            old.rename(tmp_path / f"app.log.{number + 1}{suffix}")
        site.path.rename(tmp_path / "app.log.1")
        if kind == "gzipped":
            squeeze(tmp_path / "app.log.1")
    site.write(2)
    site.look()
    site.check()
    site.kill()
    site.look()
    site.check()


def test_a_program_that_writes_to_the_old_file_for_a_while_is_heard(tmp_path: Path):
    site = Site(tmp_path)
    site.write(2)
    site.look()
    old = site.path.rename(tmp_path / "app.log.1")
    site.write(1)
    while site.step():
        pass
    site.write(1, old)
    site.look()
    site.check()


def test_what_was_written_to_the_old_file_after_the_last_look_is_found_later(tmp_path: Path):
    site = Site(tmp_path)
    site.write(2)
    site.look()
    old = site.path.rename(tmp_path / "app.log.1")
    site.write(1)
    site.look()
    site.kill()
    site.write(1, old)
    site.look()
    site.check()


def test_a_file_that_was_empty_when_the_follower_was_killed_is_read(tmp_path: Path):
    site = Site(tmp_path)
    site.path.touch()
    site.look()
    site.kill()
    site.write(2)
    site.path.rename(tmp_path / "app.log.1")
    site.write(1)
    site.look()
    site.check()


def test_what_cannot_be_found_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    site = Site(tmp_path)
    site.write(2)
    site.look()
    site.kill()
    site.path.unlink()
    site.write(1)
    site.look()
    site.check()
    (said,) = caplog.messages
    assert said.startswith("'app.log' was read to byte 14, and is another file now; what was writt")
    site.kill()
    site.look()
    assert len(caplog.messages) == 1


def put(queue: Queue, path: Path) -> int:
    return sum(chunk.batch.lines for chunk in ingest(queue, FileSource(path.name, path)))


@pytest.mark.parametrize("kind", ["plain", "gzipped"])
def test_a_file_that_was_put_is_not_put_again_under_its_next_name(tmp_path: Path, kind: str):
    site = Site(tmp_path)
    site.write(5)
    assert put(site.queue, site.path) == 5
    old = site.path.rename(tmp_path / "app.log.1")
    if kind == "gzipped":
        squeeze(old)
        old = tmp_path / "app.log.1.gz"
    site.write(2)
    assert put(site.queue, old) == 0
    assert put(site.queue, site.path) == 2
    assert put(site.queue, old) == 0
    site.check()


def test_putting_a_file_again_takes_what_it_had_got_before_it_was_renamed(tmp_path: Path):
    site = Site(tmp_path)
    site.write(2)
    put(site.queue, site.path)
    site.write(3)
    site.path.rename(tmp_path / "app-20260101.log")
    site.write(2)
    assert put(site.queue, site.path) == 5
    assert put(site.queue, tmp_path / "app-20260101.log") == 0
    site.check()


@pytest.mark.parametrize("kind", ["plain", "gzipped"])
def test_a_file_that_is_copied_and_cut_while_it_is_put_is_read_to_its_end(
    tmp_path: Path, kind: str
):
    site = Site(tmp_path)
    site.write(60_000)
    lines = 0
    for chunk in ingest(site.queue, FileSource("app.log", site.path, chunk=100_000)):
        if not lines:
            keep(site, kind)
            os.truncate(site.path, 0)
        lines += chunk.batch.lines
    assert lines == 60_000


def test_two_followers_of_names_that_a_file_has_in_turn_read_it_once(tmp_path: Path):
    site, older = Site(tmp_path), Site(tmp_path)
    older.queue, older.path = site.queue, tmp_path / "app.log.1"
    site.write(2, older.path)
    site.write(2)
    for one in (site, older):
        one.look()
    older.path.rename(tmp_path / "app.log.2")
    site.write(1)
    site.path.rename(older.path)
    site.write(1)
    for one in (older, site, older):
        one.look()
    site.check()


def test_other_files_beside_it_are_left_alone(tmp_path: Path):
    site = Site(tmp_path)
    site.write(2)
    site.look()
    site.kill()
    (tmp_path / "app.log.txt").write_text("another\n")
    (tmp_path / "application.log").write_text("another\n")
    (tmp_path / "app.logs").write_text("another\n")
    site.path.rename(tmp_path / "app.log.1")
    site.write(1)
    site.look()
    site.check()


def test_what_was_rotated_before_it_was_first_read_is_left_alone(tmp_path: Path):
    (tmp_path / "app.log.1").write_text("of yesterday\n")
    os.utime(tmp_path / "app.log.1", (1e9, 1e9))
    site = Site(tmp_path)
    site.write(2)
    site.look()
    site.kill()
    (tmp_path / "app.log.1").rename(tmp_path / "app.log.2")
    site.path.rename(tmp_path / "app.log.1")
    site.write(1)
    site.look()
    site.check()


class Elsewhere(FileSystem):
    """A disk of another machine."""

    host = "elsewhere"


def test_machines_with_a_file_of_the_same_path_do_not_confuse_one_another(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    """Each has its folder at the same path, as containers do; here they are exchanged."""
    here, there = Site(tmp_path / "logs"), Site(tmp_path / "logs", Elsewhere())
    there.queue = here.queue
    there._numbers = itertools.count(100)
    (tmp_path / "there").mkdir()
    (tmp_path / "logs").mkdir()

    def exchange() -> None:
        for old, new in [("logs", "here"), ("there", "logs"), ("here", "there")]:
            (tmp_path / old).rename(tmp_path / new)

    here.write(2)
    here.look()
    here.kill()
    exchange()
    there.write(3)
    there.look()
    there.kill()
    exchange()
    here.write(2)
    squeeze(here.path.rename(here.path.with_name("app.log.1")))
    here.write(1)
    here.look()
    assert here.read() == [f"line {number}" for number in [*range(5), 100, 101, 102]]
    (said,) = caplog.messages  # of the first look there, where nothing else is known
    assert f"on {DISK.host!r}, and is another file now; if that was this machine, what" in said


def test_what_is_left_of_a_renamed_file_is_put_before_the_new_one_is_known(tmp_path: Path):
    site = Site(tmp_path)
    site.write()
    site.look()
    site.kill()
    site.write()
    site.path.rename(site.path.with_name("app.log.1"))
    site.write()
    assert site.step()
    site.kill()
    squeeze(site.path.with_name("app.log.1"))
    site.look()
    site.check()


class FailingFile(io.RawIOBase):
    """A file each read of which may fail."""

    def __init__(self, file: BinaryIO, fail: Callable[[], None]) -> None:
        self.file, self.fail = file, fail
        self.name = file.name
        self.fileno, self.seek, self.tell = file.fileno, file.seek, file.tell

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:
        self.fail()
        return self.file.readinto(buffer)

    def close(self) -> None:
        self.file.close()
        super().close()


class Failing(FileSystem):
    """A disk that fails once, at one of its accesses."""

    def __init__(self, at: int) -> None:
        self.left = at

    def open(self, path: Path, mode: str = "rb") -> BinaryIO:
        file = super().open(path, mode)
        return cast("BinaryIO", FailingFile(file, self._fail)) if path.suffix == ".gz" else file

    def stat(self, path: Path) -> os.stat_result:
        self._fail()
        return super().stat(path)

    def pread(self, file: BinaryIO, size: int, offset: int) -> bytes:
        self._fail()
        return super().pread(file, size, offset)

    def names(self, folder: Path) -> list[str]:
        self._fail()
        return super().names(folder)

    def _fail(self) -> None:
        self.left -= 1
        if not self.left:
            raise OSError(errno.EIO, os.strerror(errno.EIO))


@pytest.mark.parametrize("kind", ["plain", "gzipped"])
@pytest.mark.parametrize("at", range(1, 24))
def test_a_disk_that_fails_once_makes_no_file_another_one(tmp_path: Path, at: int, kind: str):
    site = Site(tmp_path)
    site.write()
    site.look()
    site.kill()
    site.write()
    rename(site, kind)
    site.write()
    site.files = Failing(at)
    with suppress(OSError):
        site.look()
    site.kill()
    site.look()
    site.check()


def test_bytes_that_were_queued_under_a_rotated_name_are_found_compressed(tmp_path: Path):
    queue = open_queue("sqlite://")
    path = tmp_path / "app.log"
    path.write_text("one\n")
    put(queue, path)
    with path.open("a") as file:
        file.write("two\n")
    path.rename(tmp_path / "app.log.1")
    path.write_text("three\n")
    put(queue, path)
    (tmp_path / "app.log.1").rename(tmp_path / "app.log.2")
    squeeze(tmp_path / "app.log.2")
    path.rename(tmp_path / "app.log.1")
    assert sorted(queue.peek()["line"]) == ["one", "three", "two"]


def test_a_file_that_failed_at_the_first_look_is_read_after_it_was_rotated(tmp_path: Path):
    site = Site(tmp_path)
    site.write()
    source = FollowSource("app.log", site.path, threading.Event())
    _note_error(site.queue, source, OSError("broken"))
    site.path.rename(site.path.with_name("app.log.1"))
    site.write()
    site.look()
    site.check()


@pytest.mark.parametrize("kind", ["plain", "gzipped"])
def test_what_was_written_to_an_empty_file_and_cut_between_two_looks_is_read(
    tmp_path: Path, kind: str
):
    site = Site(tmp_path)
    site.path.touch()
    site.look()
    for more in (0, 0, 3):
        site.write(2)
        keep(site, kind)
        os.truncate(site.path, 0)
        site.write(more)
        site.look()
        site.check()
    site.write(1)
    site.look()
    site.check()


class Rotating(FileSystem):
    """A disk on which something happens before the n-th time that it is asked."""

    def __init__(self) -> None:
        self.left = 0
        self.act: Callable[[], object] = lambda: None

    def _asked(self) -> None:
        self.left -= 1
        if self.left == 0:
            self.act()

    def open(self, path: Path, mode: str = "rb") -> BinaryIO:
        self._asked()
        return super().open(path, mode)

    def stat(self, path: Path) -> os.stat_result:
        self._asked()
        return super().stat(path)

    def names(self, folder: Path) -> list[str]:
        self._asked()
        return super().names(folder)


@pytest.mark.parametrize(
    ("way", "kind"), [(rename, "plain"), (rename, "gzipped"), (cut_and_grown, "plain")]
)
def test_a_rotation_in_the_middle_of_a_look_loses_nothing(
    tmp_path: Path, way: Callable[[Site, str], None], kind: str
):
    for at in itertools.count(1):
        folder = tmp_path / str(at)
        folder.mkdir()
        disk = Rotating()
        site = Site(folder, disk)
        site.write(3)
        site.look()
        site.kill()
        site.write(2)
        site.path.rename(folder / "app.log.2")
        site.write(2)
        disk.left, disk.act = at, lambda site=site: way(site, kind)  # type: ignore[misc]
        site.look()
        rotated = disk.left <= 0
        site.look()
        site.check()
        site.kill()
        site.look()
        site.check()
        if not rotated or at > 40:
            return


def test_two_rotations_in_the_middle_of_a_put_lose_nothing(tmp_path: Path):
    for at in itertools.count(1):
        folder = tmp_path / str(at)
        folder.mkdir()
        disk = Rotating()
        site = Site(folder)

        def write(ago: float, site: Site = site) -> None:
            site.write(2)
            then = time.time() - ago
            os.utime(site.path, (then, then))

        def rotate_twice(site: Site = site, write: Callable[[float], None] = write) -> None:
            for number, ago in ((2, 20), (1, 10)):
                site.path.rename(site.path.with_name(f"app.log.{number}"))
                write(ago)

        write(40)
        put(site.queue, site.path)
        write(30)
        disk.left, disk.act = at, rotate_twice
        for _ in ingest(site.queue, FileSource("app.log", site.path, files=disk)):
            pass
        rotated = disk.left <= 0
        put(site.queue, site.path)
        site.check()
        if not rotated or at > 40:
            return


@pytest.mark.parametrize("size", [20, None])
def test_a_file_that_is_being_compressed_is_read_once(tmp_path: Path, size: int | None):
    site = Site(tmp_path)
    site.write(2)
    site.look()
    site.kill()
    site.path.rename(tmp_path / "app.log.2")
    site.write(500)
    old = site.path.rename(tmp_path / "app.log.1")
    packed = gzip.compress(old.read_bytes())
    (tmp_path / "app.log.1.gz").write_bytes(packed[:size])
    site.write(2)
    site.look()
    site.check()
    (tmp_path / "app.log.1.gz").write_bytes(packed)
    old.unlink()
    site.kill()
    site.look()
    site.check()


class Reading(Rotating):
    """The same, that is also asked when a file is read."""

    def pread(self, file: BinaryIO, size: int, offset: int) -> bytes:
        self._asked()
        return super().pread(file, size, offset)


@pytest.mark.parametrize("way", [cut_to_less, cut_and_grown])
def test_a_file_that_is_cut_while_it_is_opened_again_is_found_in_its_copy(
    tmp_path: Path, way: Callable[[Site, str], None]
):
    for at in itertools.count(1):
        folder = tmp_path / str(at)
        folder.mkdir()
        disk = Reading()
        site = Site(folder, disk)
        site.write(3)
        site.look()
        site.kill()
        source = FollowSource("app.log", site.path, threading.Event(), files=disk)
        _note_error(site.queue, source, OSError(errno.EIO, "failed once"))
        site.write(2)
        disk.left, disk.act = at, lambda site=site: way(site, "plain")  # type: ignore[misc]
        site.look()
        rotated = disk.left <= 0
        site.kill()
        site.look()
        site.check()
        if not rotated or at > 40:
            return


def test_a_copy_that_has_got_the_inode_of_an_empty_one_is_read_after_older_ones(tmp_path: Path):
    site = Site(tmp_path)
    first, second, third = (tmp_path / f"app.log.{number}" for number in (1, 2, 3))

    def copy_and_cut(to: Path, ago: float) -> None:
        to.write_bytes(site.path.read_bytes())  # `to` keeps its inode, if it is there
        then = time.time() - ago
        os.utime(to, (then, then))
        os.truncate(site.path, 0)

    site.path.touch()
    os.utime(site.path, (0, 0))
    site.look()
    site.kill()
    copy_and_cut(first, 60)
    site.step()  # the store knows the copy, of which there is nothing to read
    site.kill()
    site.write(2)
    first.rename(second)
    copy_and_cut(first, 40)
    site.write(2)
    second.rename(third)
    first.rename(second)
    third.rename(first)
    copy_and_cut(first, 20)
    site.write(2)
    while not site.step():
        pass
    site.kill()
    site.look()
    site.check()
