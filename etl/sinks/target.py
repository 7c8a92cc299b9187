"""Sinks whose rows end in a database, a lake or a server: a spool here, loaded from there.

A line is in the spool of a target if and only if its batch was committed: `stage` writes the rows
to a hidden file, which is published into the spool like the file of any sink. A loader
(`workers/loader.py`) then loads published files in one transaction with their ids, where the
target can hold these, so that a file that was loaded is known to be, whoever was killed when.
"""

from __future__ import annotations

import hashlib
import re
from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar, Protocol, Self
from urllib.parse import parse_qsl, quote, unquote, urlsplit, urlunsplit

import polars as pl

from etl.errors import UsageError
from etl.filesystem import DISK, FileSystem
from etl.processors.processor import Delivery
from etl.records.batch import read_exactly
from etl.sinks.publish import StagedFile, stage_file
from etl.text import first_line, printable, without_secrets

__all__ = [
    "SPOOL",
    "Address",
    "Session",
    "SpooledFile",
    "Target",
    "TryLater",
    "require",
    "schema_of",
]

SPOOL = ".spool"
"""Folder below the output root in which the spools of targets are."""

SUFFIX = "arrow"
"""Ending of spooled files: not that of an output."""

MAX_SPOOL_BYTES = 512 << 20
"""Bytes on disk that may wait for a target before workers lease nothing more."""

SECRET = re.compile(r"pass|secret|token|key|credential|sig", re.IGNORECASE)
"""What the name of an option in a URL has in it whose value is not to be shown."""

MAX_ERROR = 300
"""Characters of an error that are kept."""


class Address(str):
    """The URL or path of a target, which shows no password whatever it is put into."""

    __slots__ = ()

    def __new__(cls, url: str) -> Self:
        """Return the address of a URL; one that is an address is whole in it, not as it shows."""
        return super().__new__(cls, str.__str__(url))

    def __str__(self) -> str:
        return without_secrets(self.secret)

    def __repr__(self) -> str:
        return repr(str(self))

    def __format__(self, spec: str) -> str:
        return format(str(self), spec)

    @property
    def secret(self) -> str:
        """All of it."""
        return str.__str__(self)

    @property
    def scheme(self) -> str:
        """What stands before `://`; empty for a path."""
        return self.secret.partition("://")[0] if "://" in self.secret else ""

    @property
    def identity(self) -> str:
        """What tells this target from others, and stays when a password changes."""
        if not self.scheme:
            return str(Path(self.secret).absolute())
        parts = urlsplit(self.secret)
        user, at, host = parts.netloc.rpartition("@")
        kept = [(name, value) for name, value in parse_qsl(parts.query) if not SECRET.search(name)]
        netloc = user.partition(":")[0] + at + host
        return urlunsplit(parts._replace(netloc=netloc, query=repr(sorted(kept)), fragment=""))

    def hide(self, error: BaseException) -> str:
        """Return what an error says, on one line, without what is secret of this address."""
        text = str(error).strip() or type(error).__name__
        if self.scheme not in ("", "sqlite", "duckdb"):  # a path has no secrets
            parts = urlsplit(self.secret)
            options = [value for name, value in parse_qsl(parts.query) if SECRET.search(name)]
            login = parts.netloc.rpartition("@")[0]
            text = text.replace(self.secret, str(self))
            for one in sorted({login, login.partition(":")[2], *options} - {""}, key=len)[::-1]:
                for form in {one, unquote(one), quote(one, safe="")}:
                    text = text.replace(form, "…")
        return printable(first_line(text), MAX_ERROR)


@dataclass(frozen=True, slots=True)
class SpooledFile:
    """Rows of a committed batch that wait for a target.

    Attributes:
        id: That of the delivery: the same each time, and of no other file.
        path: Where they are.
        size: Bytes.
        files: Where the path is.
    """

    id: str
    path: Path
    size: int
    files: FileSystem = DISK

    @property
    def height(self) -> int:
        """How many rows they are."""
        if self.files is not DISK:
            return self.rows().height
        return int(pl.scan_ipc(self.path, glob=False).select(pl.len()).collect().item())

    @property
    def schema(self) -> pl.Schema:
        """Their columns."""
        if self.files is not DISK:
            return self.rows().schema
        return pl.scan_ipc(self.path, glob=False).collect_schema()

    def rows(self) -> pl.DataFrame:
        """Return the rows."""
        with self.files.open(self.path) as file:
            return pl.read_ipc(read_exactly(file, self.size))


def schema_of(files: Sequence[SpooledFile]) -> pl.Schema:
    """Return all columns that some files have."""
    return pl.Schema({name: kind for file in files for name, kind in file.schema.items()})


class Session(Protocol):
    """A connection to a target, while files are loaded."""

    def loaded(self, ids: Sequence[str]) -> Collection[str]:
        """Return which files are known to be in the target; none if it cannot tell."""

    def load(self, files: Sequence[SpooledFile]) -> None:
        """Load all of these files and note their ids, or nothing.

        Raises:
            Exception: If that is not so; or if it is not known, so that `loaded` is asked again.
        """


class TryLater(Exception):
    """A target asks for some time.

    Attributes:
        seconds: How long.
    """

    def __init__(self, message: str, seconds: float) -> None:
        super().__init__(message)
        self.seconds = seconds


class Target(ABC):
    """A sink that spools rows, and knows how to load them.

    Subclasses are dataclasses whose first fields say where the target is.

    Attributes:
        url: Where it is.
        timeout: Seconds for which a run waits at its end while the target fails.
        max_spool_bytes: Bytes that may wait for it on disk.
    """

    url: str
    timeout: float
    max_spool_bytes: int
    together: ClassVar[bool] = True
    """Whether several files may be loaded in one transaction."""

    @cached_property
    def address(self) -> Address:
        """The URL, which shows no password."""
        return Address(self.url)

    @property
    @abstractmethod
    def place(self) -> str:
        """What of the target is filled: a table, an index; empty if it is all of it."""

    @cached_property
    def name(self) -> str:
        """What the target is called in messages: its URL without secrets, and the place."""
        return f"{self.address} {self.place}".strip()

    @cached_property
    def spool(self) -> str:
        """The folder of its spool, from the output root."""
        identity = f"{self.address.identity} {self.place}"
        word = re.sub(r"\W+", "-", self.place or self.address.scheme, flags=re.ASCII).strip("-")[
            :40
        ]
        return f"{SPOOL}/{word}-{hashlib.sha256(identity.encode()).hexdigest()[:12]}"

    @abstractmethod
    def agree(self, frame: pl.DataFrame, delivery: Delivery) -> None:
        """Find out what the target takes; make what is not there yet.

        Raises:
            TargetUnavailable: If the target cannot be reached.
            ProcessorStop: If no row can fit.
        """

    @abstractmethod
    def fit(self, frame: pl.DataFrame, delivery: Delivery) -> pl.DataFrame:
        """Return the rows as the target takes them, or as they are with misfits marked."""

    @abstractmethod
    def session(self) -> AbstractContextManager[Session]:
        """Connect to the target.

        Raises:
            Exception: If that cannot be.
        """

    def stage(self, frame: pl.DataFrame, delivery: Delivery) -> StagedFile:
        """Write rows that fit to a hidden file of the spool."""
        return stage_file(
            self.spool, delivery, SUFFIX, lambda path: frame.write_ipc(path, compression="lz4")
        )

    def waiting(self, out: Path, files: FileSystem = DISK) -> list[SpooledFile]:
        """Return the files that wait for the target, the oldest first.

        Args:
            out: The output root.
            files: Where it is.
        """
        folder = out / self.spool
        try:
            names = sorted(name for name in files.names(folder) if name[0] != ".")
        except FileNotFoundError:
            return []
        found: list[SpooledFile] = []
        for name in names:
            path = folder / name
            try:
                size = files.stat(path).st_size
            except FileNotFoundError:  # another loader has just removed it
                continue
            found.append(SpooledFile(unquote(name.removesuffix(f".{SUFFIX}")), path, size, files))
        return found


def require(module: str, what: str, extra: str) -> None:
    """Raise UsageError if a library is not installed; it is not loaded.

    Args:
        module: Its module.
        what: What needs it.
        extra: Which extra of etl has it; empty if none does.
    """
    try:
        found = find_spec(module)
    except ModuleNotFoundError:  # nor is the package that it is in
        found = None
    if found is None:
        name = module.partition(".")[0].replace("_", "-")
        install = f"pip install 'etl[{extra}]'" if extra else f"pip install {name}"
        raise UsageError(f"{what} needs {name}, which is not installed: {install}")
