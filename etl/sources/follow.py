"""A file that grows, and is rotated.

It is read through the open file, so that renaming it loses nothing, and read on for a while after
it has lost its name, as programs may write to it until they open the new one. What happened while
nobody looked is found by `identity.places`.
"""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO

from etl.filesystem import DISK, FileSystem, file_id
from etl.records.context import AS_FOUND, ReadOptions
from etl.sources.chunks import CHUNK_BYTES, Chunks, SourceChunk
from etl.sources.files import FileSource, nothing_known, read_place, sample_of
from etl.sources.framing import SILENCE, RecordBuffer
from etl.sources.identity import Claims, Known, Place, PlainText, key_of, places
from etl.sources.opening import Moved, as_source_error, look_at, opened

__all__ = ["FollowSource"]


@dataclass(frozen=True, slots=True)
class FollowSource:
    """A file that grows: its new lines are read, as `tail -F` does, also after it is rotated.

    Attributes:
        name: As the user gave it.
        path: Where it is.
        stop: Ends the reading when set.
        options: How its lines are read.
        poll: Seconds between looks at the file.
        linger: Seconds without new data for which a file is read on after another has its name.
        ends: Whether it ends when the file is deleted, and nothing was written for as long; and
            when the first that is written to an empty one shows that it cannot be followed.
        files: Where it is.
        claims: What the sources that are read at the same time read for the first time.
    """

    name: str
    path: Path
    stop: threading.Event
    options: ReadOptions = AS_FOUND
    poll: float = 0.1
    linger: float = 10.0
    ends: bool = False
    files: FileSystem = DISK
    claims: Claims = field(default_factory=Claims, compare=False, repr=False)

    @property
    def key(self) -> str:
        """What its checkpoints are stored under."""
        return key_of(self.path)

    @property
    def size(self) -> None:
        """None: it is not known."""
        return None

    def read(self, known: Known = nothing_known, *, reread: bool = False) -> Iterator[SourceChunk]:
        """Yield batches of whole lines as they are written, until stopped.

        Args:
            known: Returns the checkpoints of a store.
            reread: Read the file from its start, even if it was read before.

        Raises:
            SourceError: If the file cannot be read.
        """
        with as_source_error(self.name):
            for chunk in self.steps(known, reread=reread):
                if chunk is None:
                    self.stop.wait(self.poll)
                else:
                    yield chunk

    def steps(
        self, known: Known = nothing_known, *, reread: bool = False
    ) -> Iterator[SourceChunk | None]:
        """Yield what `read` does, and None when there is nothing new: look again a little later."""
        growing: list[_Growing] = []
        is_first = True
        try:
            while True:
                stopping = self.stop.is_set()
                has_name = any(one.has_name(self.path) for one in growing)
                if not has_name and (is_first or self._is_there()):
                    for one in growing:  # first all of the files that had the name
                        one.is_current, one.lingers = False, True
                        yield from one.all_of_it()
                    yield from self._open(growing, known, reread=reread)
                    is_first = reread = False
                news = 0
                has_successor = any(one.is_current for one in growing)
                is_gone = self.ends and not self._is_there()
                for one in growing:  # programs may still write to it if it has no successor
                    lost = has_successor and not one.is_current
                    one.lingers = lost or (is_gone and one.is_deleted)
                    for chunk in one.look(stopping=stopping):
                        news += 1
                        yield chunk
                is_misread = self._let_go(growing)
                if is_misread or (not news and (stopping or (is_gone and not growing))):
                    return
                if not news:
                    yield None
        finally:
            for one in growing:
                one.close()

    def _let_go(self, growing: list[_Growing]) -> bool:
        """Close the files of which nothing more is read; return whether one is no text.

        Whoever looks for new files then finds it again, as what it is.

        Raises:
            SourceError: If one is no text, and nobody does.
        """
        misread = False
        for one in [one for one in growing if one.is_over]:
            growing.remove(one)
            one.close()
            misread = misread or one.is_misread
        if misread and not self.ends:
            kind = look_at(self.path, self.files)
            kind.check_text(self.name)
            kind.check_followed(self.name)
        return misread

    def _is_there(self) -> bool:
        try:
            return stat.S_ISREG(self.files.stat(self.path).st_mode)
        except OSError:
            return False

    def _open(
        self, growing: list[_Growing], known: Known, *, reread: bool
    ) -> Iterator[SourceChunk]:
        """Open what the path names now; read what is left of the files that had its name before."""
        for place in places(self.path, known, self.files, name=self.name):
            if any(one.reads(place) for one in growing):
                continue
            try:
                yield from self._open_place(place, growing, reread=reread and place.is_current)
            except FileNotFoundError:  # it was renamed just now: the next look finds it, in turn
                return

    def _open_place(
        self, place: Place, growing: list[_Growing], *, reread: bool
    ) -> Iterator[SourceChunk]:
        if place.is_current or self._is_plain(place.path):
            one = _Growing(place, self, reread=reread)
            growing.append(one)
            yield from one.known_first()
            if not place.is_current:  # before the next one is known
                yield from one.all_of_it()
        else:
            once = FileSource(
                self.name,
                place.path,
                self.options,
                by_reference=False,
                files=self.files,
                claims=self.claims,
            )
            yield from read_place(place, once)

    def _is_plain(self, path: Path) -> bool:
        with opened(path, self.files) as (_, kind):
            return kind.plain


class _Growing:
    """An open file that may grow.

    Attributes:
        is_current: Whether it has the source's name.
        is_over: Whether nothing more is read of it.
        is_misread: Whether what was written to it first is no text that can be followed.
        lingers: Whether it is only read on for a while, as it has lost its name.
    """

    def __init__(self, place: Place, source: FollowSource, *, reread: bool) -> None:
        start = place.start
        if reread:
            start = replace(start, offset=0, line_number=0, signature="")
        self.is_current = place.is_current
        self.is_over = self.lingers = self.is_misread = False
        self._source, self._files = source, source.files
        with ExitStack() as unless_whole:
            self._file: BinaryIO = unless_whole.enter_context(source.files.open(place.path))
            its = self._status()
            self._id, self._modified, self._size = file_id(its), its.st_mtime, its.st_size
            place.check(self._file, self._files)
            source.claims.take(place)
            unless_whole.callback(source.claims.release, place)
            self._place = place
            self._is_blank = not its.st_size
            self._is_known = place.expected is not None and not place.expected.error
            self._silent = 0.0  # seconds since the last data
            sample = sample_of(self._file, source.options, its.st_mtime, offset=start.offset)
            self._text = PlainText(self._file, start.offset, self._files, seen=place.seen)
            self._text.check(start.signature)
            self._chunks = Chunks(
                start,
                place.expected,
                name=source.name,
                sample=sample,
                signature=self._text.signature().after,
            )
            self._buffer = RecordBuffer(sample)
            unless_whole.pop_all()

    def close(self) -> None:
        """Close the file."""
        self._source.claims.release(self._place)
        self._file.close()

    @property
    def is_deleted(self) -> bool:
        """Whether it has no name any more, in no folder."""
        return not self._status().st_nlink

    def reads(self, place: Place) -> bool:
        """Return whether this reads the file of a place already."""
        mine = self._chunks.checkpoint
        its = place.start.source, place.start.number
        return not self.is_over and (mine.source, mine.number) == its

    def has_name(self, path: Path) -> bool:
        """Return whether a path names this file, and nothing that was read has been cut off.

        If the path names nothing, it is waited for as long as this file is read.
        """
        if not self.is_current or self.is_over:
            return False
        try:
            named = file_id(self._files.stat(path))
        except OSError:
            return True
        if named != self._id:
            return False
        its = self._status()
        # what was written before anything was read may be cut: a copy may have it
        may_be_cut = not self._text.offset and its.st_mtime != self._modified
        self.is_over = may_be_cut or its.st_size < max(self._size, self._text.offset)
        return not self.is_over

    def known_first(self) -> Iterator[SourceChunk]:
        """Yield an empty batch, so that the store knows this file even if it is lost at once."""
        if not self._is_known and not self.is_over:
            yield self._chunks.of(b"", modified=self._modified)

    def all_of_it(self) -> Iterator[SourceChunk]:
        """Yield batches of all that is new, also of a last record that may go on.

        It could not be found any more if this process is killed, and the file compressed.
        """
        before = -1
        while self._text.offset > before:
            before = self._text.offset
            yield from self.look()
        if not self.is_over and (text := self._buffer.flush()):
            yield self._chunks.of(text, modified=self._status().st_mtime)

    def look(self, *, stopping: bool = False) -> Iterator[SourceChunk]:
        """Yield batches of what is new."""
        if self.is_over:
            return
        its = self._status()
        if self._is_blank and its.st_size:
            self._is_blank = False
            kind = look_at(self._place.path, self._files)
            if kind.binary or kind.converted:
                self.is_over = self.is_misread = True
                return
        try:
            data = self._text.read(CHUNK_BYTES)
        except Moved:  # and was written to again, just now: a copy may have it
            self.is_over = True
            return
        if data:
            self._silent = 0.0
            self._chunks.sample.touched(its.st_mtime)
        elif not stopping:
            self._silent += self._source.poll
        texts = self._buffer.add(data)
        if not texts and (stopping or self._silent >= SILENCE):
            texts = [self._buffer.flush()]
        if self.lingers and self._silent >= self._source.linger:
            self.is_over = True
            texts.append(self._buffer.rest())
        for text in filter(None, texts):
            yield self._chunks.of(text, modified=its.st_mtime)

    def _status(self) -> os.stat_result:
        return self._files.fstat(self._file)
