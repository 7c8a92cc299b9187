"""One SQLite file, used by many threads and processes: transactions, and news of changes.

WAL, with one connection that writes and one that reads, each behind a lock.
SQLite has one writer at a time anyway, and lets go of Python's lock while it
works. Not here: what is in the tables.
"""

from __future__ import annotations

import sqlite3
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from importlib import resources
from pathlib import Path
from typing import Any

from etl.errors import IncompatibleStore, QueueClosed, StoreError, StoreFull

__all__ = ["Database"]

APPLICATION_ID = 0x45544C31
"""`ETL1` in the file's header: tells our files from those of other programs."""

VERSION = 1
"""Of the schema; a file with a higher one was made by a newer etl."""

MAX_POLL_SECONDS = 0.025
"""Seconds between looks for a change by another process, at most."""


class Database:
    """An SQLite file with our tables in it, or one in memory if there is no path.

    Attributes:
        name: What error messages call it.
        lock: Held by whoever writes.

    Raises:
        StoreError: If the file is not ours, or cannot be used.
        IncompatibleStore: If a newer etl made it.
    """

    def __init__(self, path: Path | None, *, name: str | None = None) -> None:
        self.name = name or ("the store in memory" if path is None else f"store {str(path)!r}")
        self._closed = True  # until all is open
        self._writes = 0
        self._changed = threading.Condition()
        self.lock = threading.RLock()
        if path is not None:
            self._check_header(path)
        with self._as_store_errors(), ExitStack() as unless_whole:
            self._writer = unless_whole.enter_context(closing(self._connect(path)))
            self._create()
            self._writer.execute("PRAGMA journal_mode = WAL")
            self._writer.execute("PRAGMA wal_autocheckpoint = 4000")
            self._reader = self._writer if path is None else self._connect(path)
            unless_whole.pop_all()
        self._read_lock = self.lock if path is None else threading.RLock()
        self._close = weakref.finalize(self, _close_all, self._reader, self._writer)
        self._close.atexit = False
        self._closed = False

    def version(self) -> object:
        """Return a mark that differs once anything has been written by anyone."""
        with self.read() as db:
            return self._writes, db.execute("PRAGMA data_version").fetchone()[0]

    def wait(self, since: object, timeout: float) -> bool:
        """Wait until the mark differs from `since`; return False if it does not in time."""
        deadline = time.monotonic() + timeout
        poll = 0.001
        while self.version() == since:
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            with self._changed:
                if self._writes == since[0]:  # type: ignore[index]
                    self._changed.wait(min(left, poll))
            poll = min(MAX_POLL_SECONDS, poll * 1.5)
        return True

    def close(self) -> None:
        """Close both connections. Closing twice is fine."""
        with self.lock, self._read_lock:
            self._closed = True
            self._close()

    def _check_header(self, path: Path) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.is_dir():
                raise StoreError(f"{self.name} is a folder; name a file in it")
            head = b""
            if path.exists():
                with path.open("rb") as file:
                    head = file.read(16)
        except OSError as error:
            raise StoreError(f"{self.name} cannot be opened: {error.strerror}") from error
        if head and head != b"SQLite format 3\0":
            raise StoreError(f"{self.name} is not an etl store; name another file")

    def _connect(self, path: Path | None) -> sqlite3.Connection:
        target = ":memory:" if path is None else str(path)
        db = sqlite3.connect(target, timeout=60, isolation_level=None, check_same_thread=False)
        db.row_factory = sqlite3.Row
        db.execute("PRAGMA temp_store = MEMORY")
        return db

    def _create(self) -> None:
        """Make the tables in a new file; refuse one that is not ours, or is newer."""
        db = self._writer
        db.execute("BEGIN IMMEDIATE")
        try:
            found = db.execute("PRAGMA application_id").fetchone()[0]
            version = db.execute("PRAGMA user_version").fetchone()[0]
            empty = db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0
            if not empty and found != APPLICATION_ID:
                raise StoreError(f"{self.name} is a database of another program; name another")
            if version > VERSION:
                raise IncompatibleStore(
                    f"{self.name} was made by a newer etl (its version is {version}, this etl "
                    f"knows up to {VERSION}); upgrade etl"
                )
            if empty:
                for statement in _statements():
                    db.execute(statement)
                db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                db.execute(f"PRAGMA user_version = {VERSION}")
            db.execute("COMMIT")
        except BaseException:
            db.execute("ROLLBACK")
            raise

    @contextmanager
    def write(self, *, durable: bool = True) -> Iterator[sqlite3.Connection]:
        """Run a transaction; unless it is `durable`, a power cut may undo it."""
        with self.lock, self._as_store_errors():
            self._check_open()
            db = self._writer
            try:
                before = db.total_changes
                db.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
                db.execute("BEGIN IMMEDIATE")
                yield db
                db.execute("COMMIT")
            except BaseException:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise
            changed = db.total_changes != before
        with self._changed:
            self._writes += changed
            self._changed.notify_all()

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """Lend the connection that reads."""
        with self._read_lock, self._as_store_errors():
            self._check_open()
            yield self._reader

    def dump(self) -> bytes:
        """Return all tables as the bytes of an SQLite file."""
        with self.read() as db:
            return db.serialize()

    def load(self, data: bytes) -> None:
        """Replace all tables, of a store in memory, by those that `dump` returned."""
        with self.lock, self._as_store_errors():
            self._check_open()
            with closing(sqlite3.connect(":memory:")) as loaded:
                loaded.deserialize(data)  # which may hold 1 GiB at most, and grow no more
                loaded.backup(self._writer)
        with self._changed:
            self._writes += 1
            self._changed.notify_all()

    def rows(self, sql: str) -> list[dict[str, Any]]:
        """Return the rows of a query, for a look inside."""
        with self.read() as db:
            return [dict(row) for row in db.execute(sql)]

    @contextmanager
    def _as_store_errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            text = str(error)
            if getattr(error, "sqlite_errorname", "").startswith(("SQLITE_FULL", "SQLITE_IOERR")):
                raise StoreFull(
                    f"{self.name} cannot be written: {text}; free some space, or look after the "
                    "disk: nothing was lost"
                ) from error
            raise StoreError(f"{self.name} cannot be used: {text}") from error

    def _check_open(self) -> None:
        if self._closed:
            raise QueueClosed(f"{self.name} is closed; open it again with open_queue()")


def _close_all(*connections: sqlite3.Connection) -> None:
    for connection in connections:
        connection.close()


def _statements() -> Iterator[str]:
    """Cut schema.sql into statements; a trigger has semicolons inside."""
    text = resources.files("etl.queue").joinpath("schema.sql").read_text("utf-8")
    statement = ""
    for line in text.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
