"""The systemd journal: `journald://`, or a folder or file of one, `journald:///var/log/journal`.

`journalctl` reads it, as a process of its own; each entry is a line, a JSON object. How far it was
read is the cursor of its last entry, which the store keeps with its line in one transaction.

What is asked for stands in the URL, each once or several times: `since`, `unit`, `identifier` and
`priority`, as the options of journalctl, and fields with their values:

    journald://?unit=nginx.service&priority=warning&since=-7d
    journald://?_TRANSPORT=kernel
"""

from __future__ import annotations

import logging
import os
import re
import subprocess
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO, cast
from urllib.parse import parse_qsl, unquote, urlsplit

from etl.errors import SourceError, UsageError
from etl.queue import Checkpoint
from etl.records.batch import read_exactly
from etl.records.context import AS_FOUND, ReadOptions
from etl.sources.chunks import Chunks, SourceChunk
from etl.sources.files import nothing_known
from etl.sources.framing import Sample
from etl.sources.identity import Known
from etl.sources.stream import texts_as_they_come

__all__ = ["SCHEME", "JournalSource"]

log = logging.getLogger("etl")

SCHEME = "journald://"
PROGRAM = "journalctl"
OPTIONS = ("since", "unit", "identifier", "priority")
"""Those of journalctl that a URL may have."""

END_SECONDS = 5.0
"""Seconds that journalctl has to end when it is asked to."""

HEAD_LINES = 5_000
"""Entries that are looked at to see what they are."""

SAID_LINES = 5
"""Last lines of what journalctl says on stderr that are kept."""

FIELD = re.compile(r"[A-Z_][A-Z0-9_]*")
CURSOR = re.compile(rb'"__CURSOR" ?: ?"([^"]+)"')


@dataclass(frozen=True, slots=True)
class JournalSource:
    """A journal that is read to the end that it has, or as entries come.

    Attributes:
        url: `journald://`, perhaps with the path of a folder or a file, and what is asked for.
        options: How lines are read; by default as `json`.
        stop: If given, entries are read as they come until this is set.
    """

    url: str
    options: ReadOptions = AS_FOUND
    stop: threading.Event | None = None
    size: None = field(default=None, init=False)

    def __post_init__(self) -> None:
        """Check the URL."""
        parts = urlsplit(self.url)
        if parts.netloc:
            raise UsageError(
                f"{self.url!r} names a host; write journald:// for this machine's journal, or "
                "journald:///var/log/journal for that of a folder"
            )
        for name, _ in parse_qsl(parts.query, keep_blank_values=True):
            if name not in OPTIONS and not FIELD.fullmatch(name):
                raise UsageError(
                    f"{self.url!r} asks for {name!r}, which is neither a field of the journal, "
                    f"such as _SYSTEMD_UNIT, nor one of {', '.join(OPTIONS)}"
                )

    @property
    def name(self) -> str:
        """The URL."""
        return self.url

    @property
    def key(self) -> str:
        """What its checkpoint is stored under."""
        return self.url

    def read(self, known: Known = nothing_known, *, reread: bool = False) -> Iterator[SourceChunk]:
        """Yield batches of what was not read before.

        Args:
            known: Returns the checkpoints of a store.
            reread: Read all that the journal has, even if it was read before.

        Raises:
            SourceError: If it cannot be read.
        """
        last = next(iter(known([self.key], "")[-1:]), None)
        start = last or Checkpoint(self.key, 0, 0, number=1)
        if reread:
            start = replace(start, offset=0, line_number=0, signature="")
        options = replace(self.options, format=self.options.format or "json")
        sample = Sample(options, time.time())
        cursor = newest = start.signature

        def cursor_after(text: bytes, _offset: int) -> str:
            nonlocal cursor, newest
            if found := CURSOR.search(text, text.rfind(b"\n", 0, -1) + 1):
                newest = found[1].decode("utf-8", "replace")
            if text.endswith(b"\n"):  # else a piece of a line over the limit, of which more comes
                cursor = newest
            return cursor

        chunks = Chunks(start, last, name=self.name, sample=sample, signature=cursor_after)
        follow = ["--follow", "--no-tail"] if self.stop else []
        is_cut = False
        with self._journalctl([*follow, *self._arguments(cursor)]) as file:
            for text in texts_as_they_come(file, sample, whole_lines=True, stop=self.stop):
                if is_cut or text.startswith(b"{"):  # rather than `-- No entries --`
                    yield chunks.of(text, modified=time.time())
                is_cut = not text.endswith(b"\n")  # what goes on with that line begins as it may

    def head(self, size: int) -> tuple[bytes, float]:
        """Return the first bytes of the text, and the time, in Unix seconds.

        Raises:
            SourceError: If it cannot be read.
        """
        with self._journalctl([f"--lines={HEAD_LINES}", *self._arguments()]) as file:
            data = read_exactly(file, size)
            return data if data.startswith(b"{") else b"", time.time()

    def _arguments(self, cursor: str = "") -> Iterator[str]:
        if cursor:
            yield f"--after-cursor={cursor}"
        parts = urlsplit(self.url)
        if parts.path.strip("/"):
            path = Path(unquote(parts.path))
            yield f"--directory={path}" if path.is_dir() else f"--file={path}"
        for name, value in parse_qsl(parts.query, keep_blank_values=True):
            if name not in OPTIONS:
                yield f"{name}={value}"
            elif not (name == "since" and cursor):
                yield f"--{name}={value}"

    @contextmanager
    def _journalctl(self, more: Iterable[str]) -> Iterator[BinaryIO]:
        """Give what journalctl prints, and end it; if it fails by itself, say what it says."""
        command = [PROGRAM, "--output=json", "--all", "--no-pager", *more]
        try:
            process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0
            )
        except OSError as error:
            raise SourceError(
                f"{self.name!r} cannot be read: {PROGRAM}: {os.strerror(error.errno or 0)}; "
                "install systemd's journalctl"
            ) from error
        entries, errors = cast("BinaryIO", process.stdout), cast("BinaryIO", process.stderr)
        said: deque[str] = deque(maxlen=SAID_LINES)
        listener = threading.Thread(target=self._listen, args=(errors, said))
        listener.start()
        is_read = False
        try:
            yield entries
            is_read = not (self.stop and self.stop.is_set())
        finally:
            if not is_read:
                process.terminate()
            entries.close()
            try:
                code = process.wait(END_SECONDS if not is_read else None)
            except subprocess.TimeoutExpired:  # it is stopped, or hangs
                process.kill()
                code = process.wait()
            listener.join()
            errors.close()
        if is_read and (code or self.stop):
            why = " ".join(said) or f"{PROGRAM} ended with exit code {code}"
            raise SourceError(f"{self.name!r} cannot be read{' on' if self.stop else ''}: {why}")
        if said and not self.stop:
            log.warning("%s: %s", self.name, " ".join(said))

    def _listen(self, errors: BinaryIO, said: deque[str]) -> None:
        """Keep what is said on stderr, such as that some files may not be read."""
        for line in errors:
            said.append(line.decode("utf-8", "replace").strip())
            if self.stop:
                log.warning("%s: %s", self.name, said[-1])
